//! Writes a backup: encrypted part by part into a file beside the target, which gets its name when all of it is durable.

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use haltline_core::{
    ids::{ClusterId, Digest},
    limits::{BACKUP_HEADER_BYTES_MAX, BACKUP_PART_BYTES_MAX},
};
use haltline_pki::{BackupRecipient, BackupSealer};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest as _, Sha256};

use super::{
    error::BackupError,
    format::{BackupHeader, CONTENT, END, FORMAT, MAGIC, STATEMENT, StoppedSource},
    statement::SignedBackup,
};

/// What a backup is of, as its header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupAbout {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its incarnation.
    pub incarnation: u64,
    /// Up to where the log is in it.
    pub index: u64,
    /// Cluster time there.
    pub cluster_time_ms: u64,
    /// The leader's wall clock there.
    pub wall_time_ms: u64,
    /// The node that made it.
    pub node: u64,
    /// Its version.
    pub version: String,
    /// What is known of a node that was stopped.
    pub stopped: Option<StoppedSource>,
}

/// A backup that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenBackup {
    /// Where.
    pub path: PathBuf,
    /// How many bytes the file has.
    pub file_bytes: u64,
    /// How many the state in it has.
    pub content_bytes: u64,
    /// The checksum at its end.
    pub sha256: Digest,
    /// What it says of itself in clear.
    pub header: BackupHeader,
}

/// Writes one backup. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct BackupWriter {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    is_named: bool,
    header: BackupHeader,
    sealer: BackupSealer,
    /// Of all before the parts.
    opening: [u8; 32],
    checksum: Sha256,
    file_bytes: u64,
    content: Sha256,
    content_bytes: u64,
    waiting: Vec<u8>,
}

impl BackupWriter {
    /// Begins a backup for these recipients. Nothing is overwritten.
    ///
    /// # Errors
    /// [`BackupError::Exists`], [`BackupError::Key`], [`BackupError::Io`].
    pub fn create(
        path: &Path,
        about: BackupAbout,
        recipients: &[BackupRecipient],
    ) -> Result<Self, BackupError> {
        if path.symlink_metadata().is_ok() {
            return Err(BackupError::Exists { path: path.into() });
        }
        let (sealer, encryption) = BackupSealer::new(recipients)?;
        let header = BackupHeader {
            cluster: about.cluster,
            incarnation: about.incarnation,
            index: about.index,
            cluster_time_ms: about.cluster_time_ms,
            wall_time_ms: about.wall_time_ms,
            node: about.node,
            version: about.version,
            stopped: about.stopped,
            encryption,
        };
        let opening = opening(&header)?;
        let partial = beside(path)?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&partial);
        let file = file.map_err(|source| BackupError::io("create", &partial, source))?;
        let mut writer = Self {
            path: path.into(),
            partial,
            file: BufWriter::with_capacity(BACKUP_PART_BYTES_MAX, file),
            is_named: false,
            header,
            sealer,
            opening: Sha256::digest(&opening).into(),
            checksum: Sha256::new(),
            file_bytes: 0,
            content: Sha256::new(),
            content_bytes: 0,
            waiting: Vec::new(),
        };
        writer.put(&opening)?;
        Ok(writer)
    }

    /// Hash and length of what came so far.
    #[must_use]
    pub fn content_so_far(&self) -> (Digest, u64) {
        (Digest(self.content.clone().finalize().into()), self.content_bytes)
    }

    /// Takes the next bytes of the state.
    ///
    /// # Errors
    /// [`BackupError::Io`], [`BackupError::Key`].
    pub fn write(&mut self, mut content: &[u8]) -> Result<(), BackupError> {
        self.content.update(content);
        self.content_bytes += content.len() as u64;
        while !content.is_empty() {
            let (now, later) =
                content.split_at(content.len().min(BACKUP_PART_BYTES_MAX - self.waiting.len()));
            self.waiting.extend_from_slice(now);
            content = later;
            if self.waiting.len() == BACKUP_PART_BYTES_MAX {
                self.flush_part()?;
            }
        }
        Ok(())
    }

    /// Ends the backup with what a node says of it, makes it durable and gives it its name.
    ///
    /// # Errors
    /// [`BackupError::OtherContent`] if the statement is of something else than what came; [`BackupError::Exists`] if
    /// somebody took the name meanwhile; [`BackupError::Io`].
    pub fn finish(mut self, signed: &SignedBackup) -> Result<WrittenBackup, BackupError> {
        let digest = Digest(std::mem::take(&mut self.content).finalize().into());
        self.check(signed, digest)?;
        if !self.waiting.is_empty() {
            self.flush_part()?;
        }
        let text = serde_json::to_vec(signed)
            .map_err(|error| BackupError::io("encode", &self.path, error.into()))?;
        self.put_part(STATEMENT, &text)?;
        self.put(&[END])?;
        let sha256: [u8; 32] = self.checksum.clone().finalize().into();
        self.put(&sha256)?;
        let partial = self.partial.clone();
        let failed = |action, source| BackupError::io(action, &partial, source);
        self.file.flush().map_err(|source| failed("write", source))?;
        self.file.get_ref().sync_all().map_err(|source| failed("sync", source))?;
        self.name()?;
        Ok(WrittenBackup {
            path: self.path.clone(),
            file_bytes: self.file_bytes,
            content_bytes: self.content_bytes,
            sha256: Digest(sha256),
            header: self.header.clone(),
        })
    }

    fn check(&self, signed: &SignedBackup, digest: Digest) -> Result<(), BackupError> {
        let header = &self.header;
        let differs = [
            ("the hash of the content", signed.content_sha256 != digest),
            ("the length of the content", signed.content_bytes != self.content_bytes),
            ("the cluster", signed.cluster != header.cluster || signed.incarnation != header.incarnation),
            ("the index", signed.index != header.index),
        ];
        match differs.into_iter().find(|(_, differs)| *differs) {
            Some((what, _)) => Err(BackupError::OtherContent { what }),
            None => Ok(()),
        }
    }

    fn flush_part(&mut self) -> Result<(), BackupError> {
        let part = std::mem::take(&mut self.waiting);
        self.put_part(CONTENT, &part)
    }

    fn put_part(&mut self, kind: u8, part: &[u8]) -> Result<(), BackupError> {
        let sealed = self.sealer.seal(&authenticated(&self.opening, kind), part)?;
        let length = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        self.put(&[kind])?;
        self.put(&length.to_be_bytes())?;
        self.put(&sealed)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.checksum.update(bytes);
        self.file_bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| BackupError::io("write", &self.partial, source))
    }

    /// Renames the file to what it is to be called, unless something is called so.
    fn name(&mut self) -> Result<(), BackupError> {
        match renameat_with(CWD, &self.partial, CWD, &self.path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(BackupError::Exists { path: self.path.clone() }),
            // Some network file systems can't refuse to replace; it was looked for at the beginning.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                std::fs::rename(&self.partial, &self.path)
                    .map_err(|source| BackupError::io("rename to", &self.path, source))?;
            }
            Err(error) => return Err(BackupError::io("rename to", &self.path, error.into())),
        }
        self.is_named = true;
        let directory = directory_of(&self.path);
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|source| BackupError::io("sync", directory, source))
    }
}

impl Drop for BackupWriter {
    fn drop(&mut self) {
        if !self.is_named {
            // Best effort: what is left is encrypted and unfinished, and its name says so.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name beside the target that nobody else has.
pub(super) fn beside(path: &Path) -> Result<PathBuf, BackupError> {
    let mut salt = [0; 8];
    getrandom::fill(&mut salt)
        .map_err(|error| BackupError::io("name", path, std::io::Error::other(error.to_string())))?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{:016x}.partial", u64::from_be_bytes(salt)));
    Ok(path.with_file_name(name))
}

/// All that stands before the parts.
fn opening(header: &BackupHeader) -> Result<Vec<u8>, BackupError> {
    // Strings and numbers, all of which JSON can hold.
    let json = serde_json::to_vec(header)
        .map_err(|error| BackupError::io("encode", Path::new("header"), error.into()))?;
    let got_bytes = json.len();
    let length = u32::try_from(got_bytes).ok().filter(|_| got_bytes <= BACKUP_HEADER_BYTES_MAX);
    let length = length.ok_or(BackupError::HeaderTooLarge { got_bytes })?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&FORMAT.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

/// What is authenticated with a part.
pub(super) fn authenticated(opening: &[u8; 32], kind: u8) -> [u8; 33] {
    let mut bytes = [kind; 33];
    bytes[..32].copy_from_slice(opening);
    bytes
}
