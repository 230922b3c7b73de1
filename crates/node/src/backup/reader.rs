//! Reads a backup: without its key whether the file is whole, with it what is in it.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use haltline_core::{
    ids::Digest,
    limits::{
        BACKUP_HEADER_BYTES_MAX, BACKUP_PART_BYTES_MAX, BACKUP_STATEMENT_BYTES_MAX, SNAPSHOT_BYTES_MAX,
    },
    snapshot,
    state::State,
};
use haltline_pki::{BackupKey, BackupOpener, TrustBundle};
use sha2::{Digest as _, Sha256};

use super::{
    error::BackupError,
    format::{BackupHeader, CONTENT, END, FIXED_BYTES, FORMAT, MAGIC, STATEMENT, TAG_BYTES},
    statement::{SignedBackup, Vouched},
    writer::authenticated,
};

/// A file that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFile {
    /// What it says in clear.
    pub header: BackupHeader,
    /// Its length.
    pub file_bytes: u64,
    /// The checksum at its end, which holds.
    pub sha256: Digest,
}

/// What is in a backup.
#[derive(Debug)]
pub struct Backup {
    /// What it says in clear.
    pub header: BackupHeader,
    /// What its node said of it.
    pub signed: SignedBackup,
    /// By whose keys that was checked.
    pub vouched: Vouched,
    /// The state.
    pub state: State,
}

/// Checks a file without its key: that it is a backup, whole and undamaged. `progress` hears how many bytes were read.
///
/// # Errors
/// [`BackupError`] that names the file and the byte.
pub fn check_file(path: &Path, mut progress: impl FnMut(u64)) -> Result<CheckedFile, BackupError> {
    let mut parts = Parts::open(path)?;
    while parts.next()?.is_some() {
        progress(parts.at);
    }
    let sha256 = parts.end.ok_or_else(|| parts.cut_off("the checksum"))?;
    Ok(CheckedFile { header: parts.header, file_bytes: parts.at, sha256 })
}

/// Decrypts a backup, decodes the state in it, and checks the statement about it: by `given`, or else by the bundle inside.
/// `progress` hears how many bytes of the file were read.
///
/// # Errors
/// [`BackupError`].
pub fn open_file(
    path: &Path,
    key: &BackupKey,
    given: Option<&TrustBundle>,
    progress: impl FnMut(u64),
) -> Result<Backup, BackupError> {
    let parts = Parts::open(path)?;
    let opener = BackupOpener::new(&parts.header.encryption, key)?;
    let mut content = Content {
        parts,
        opener,
        rest: Vec::new(),
        read: 0,
        sha256: Sha256::new(),
        bytes: 0,
        statement: None,
        failed: None,
        progress,
    };
    let decoded = snapshot::decode(&mut content);
    if let Some(failed) = content.failed.take() {
        return Err(failed);
    }
    let state = decoded?;
    let Content { mut parts, sha256, bytes, statement, .. } = content;
    let signed = statement.ok_or_else(|| parts.cut_off("the statement"))?;
    if parts.end.is_none() && parts.next()?.is_some() {
        return Err(parts.damaged("something follows the statement"));
    }
    let digest = Digest(sha256.finalize().into());
    same_content(&parts.header, &signed, &state, digest, bytes)?;
    let vouched = signed.verify(&state, given)?;
    Ok(Backup { header: parts.header, signed, vouched, state })
}

/// Header, statement and state speak of one thing.
fn same_content(
    header: &BackupHeader,
    signed: &SignedBackup,
    state: &State,
    digest: Digest,
    bytes: u64,
) -> Result<(), BackupError> {
    let statement = signed.statement();
    let (chain, last) = (state.chain(), state.last_stamp());
    let cluster = state.cluster().map(|cluster| (cluster.id, cluster.incarnation));
    let differs = [
        ("the hash of the content", signed.content_sha256 != digest || signed.content_bytes != bytes),
        ("the cluster", cluster != Some((statement.cluster_id, statement.incarnation))),
        ("the event chain", (chain.seq, chain.head) != (statement.event_seq, statement.chain_head)),
        ("the index", last.index > statement.index || header.index != signed.index),
        ("the time", last.cluster_time != statement.cluster_time || last.wall_time != statement.wall_time),
        ("the header", header.cluster != signed.cluster || header.incarnation != signed.incarnation),
    ];
    match differs.into_iter().find(|(_, differs)| *differs) {
        Some((what, _)) => Err(BackupError::OtherContent { what }),
        None => Ok(()),
    }
}

/// The parts of a file, as they are encrypted. The checksum is checked at the end.
#[derive(Debug)]
struct Parts {
    path: PathBuf,
    file: BufReader<File>,
    header: BackupHeader,
    opening: [u8; 32],
    checksum: Sha256,
    at: u64,
    has_statement: bool,
    /// The checksum, once everything was read and it holds.
    end: Option<Digest>,
}

impl Parts {
    fn open(path: &Path) -> Result<Self, BackupError> {
        let file = File::open(path).map_err(|source| BackupError::io("open", path, source))?;
        let mut file = BufReader::with_capacity(BACKUP_PART_BYTES_MAX, file);
        let mut opening = vec![0; FIXED_BYTES];
        let got =
            read_up_to(&mut file, &mut opening).map_err(|source| BackupError::io("read", path, source))?;
        let begins = got.min(MAGIC.len());
        if got == 0 || opening[..begins] != MAGIC[..begins] {
            return Err(BackupError::NotABackup { path: path.into() });
        }
        let cut_off = |at: usize, missing| BackupError::CutOff { path: path.into(), at: at as u64, missing };
        if got < FIXED_BYTES {
            return Err(cut_off(got, "the header"));
        }
        let format = u16::from_be_bytes([opening[8], opening[9]]);
        if format != FORMAT {
            return Err(BackupError::UnknownFormat { path: path.into(), got: format });
        }
        let damaged = |at: u64, what: String| BackupError::Damaged { path: path.into(), at, what };
        let length = u32::from_be_bytes([opening[10], opening[11], opening[12], opening[13]]) as usize;
        if length > BACKUP_HEADER_BYTES_MAX {
            let what =
                format!("the header has {length} bytes; at most {BACKUP_HEADER_BYTES_MAX} are allowed");
            return Err(damaged(10, what));
        }
        opening.resize(FIXED_BYTES + length, 0);
        let got = read_up_to(&mut file, &mut opening[FIXED_BYTES..]);
        let got = got.map_err(|source| BackupError::io("read", path, source))?;
        if got < length {
            return Err(cut_off(FIXED_BYTES + got, "the rest of the header"));
        }
        let header = serde_json::from_slice(&opening[FIXED_BYTES..])
            .map_err(|error| damaged(FIXED_BYTES as u64, format!("the header isn't one: {error}")))?;
        let mut checksum = Sha256::new();
        checksum.update(&opening);
        let at = opening.len() as u64;
        let opening = Sha256::digest(&opening).into();
        Ok(Self { path: path.into(), file, header, opening, checksum, at, has_statement: false, end: None })
    }

    /// The next part; `None` behind the last, when the checksum holds.
    fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, BackupError> {
        let begun = self.at;
        let [kind] = self.take::<1>("the next part")?;
        match kind {
            END => {
                self.check_end(begun)?;
                Ok(None)
            }
            CONTENT | STATEMENT if !self.has_statement => self.part(kind, begun).map(Some),
            CONTENT | STATEMENT => Err(self.damaged_at(begun, "something follows the statement".into())),
            other => Err(self.damaged_at(begun, format!("there is no part of kind {other}"))),
        }
    }

    fn part(&mut self, kind: u8, begun: u64) -> Result<(u8, Vec<u8>), BackupError> {
        let max =
            TAG_BYTES + if kind == CONTENT { BACKUP_PART_BYTES_MAX } else { BACKUP_STATEMENT_BYTES_MAX };
        let length = u32::from_be_bytes(self.take("a part's length")?) as usize;
        if length < TAG_BYTES || length > max {
            let what = format!("a part has {length} bytes; expected {TAG_BYTES} to {max}");
            return Err(self.damaged_at(begun, what));
        }
        let mut part = vec![0; length];
        self.fill(&mut part, "the rest of a part")?;
        self.has_statement = kind == STATEMENT;
        Ok((kind, part))
    }

    fn check_end(&mut self, begun: u64) -> Result<(), BackupError> {
        if !self.has_statement {
            return Err(self.damaged_at(begun, "it ends without a statement".into()));
        }
        let expected: [u8; 32] = self.checksum.clone().finalize().into();
        let got = self.take::<32>("the checksum")?;
        if got != expected {
            return Err(self.damaged_at(begun, "the checksum doesn't hold".into()));
        }
        let mut more = [0];
        let follows = read_up_to(&mut self.file, &mut more);
        if follows.map_err(|source| BackupError::io("read", &self.path, source))? > 0 {
            return Err(self.damaged("something follows the end"));
        }
        self.end = Some(Digest(expected));
        Ok(())
    }

    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], BackupError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8], what: &'static str) -> Result<(), BackupError> {
        let got = read_up_to(&mut self.file, bytes);
        let got = got.map_err(|source| BackupError::io("read", &self.path, source))?;
        self.at += got as u64;
        self.checksum.update(&bytes[..got]);
        if got < bytes.len() { Err(self.cut_off(what)) } else { Ok(()) }
    }

    fn cut_off(&self, missing: &'static str) -> BackupError {
        BackupError::CutOff { path: self.path.clone(), at: self.at, missing }
    }

    fn damaged(&self, what: &str) -> BackupError {
        self.damaged_at(self.at, what.into())
    }

    fn damaged_at(&self, at: u64, what: String) -> BackupError {
        BackupError::Damaged { path: self.path.clone(), at, what }
    }
}

fn read_up_to(file: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < bytes.len() {
        match file.read(&mut bytes[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// The decrypted state, as a stream of bytes. What fails is kept whole for whoever reads.
struct Content<P> {
    parts: Parts,
    opener: BackupOpener,
    rest: Vec<u8>,
    read: usize,
    sha256: Sha256,
    bytes: u64,
    statement: Option<SignedBackup>,
    failed: Option<BackupError>,
    progress: P,
}

impl<P: FnMut(u64)> Content<P> {
    /// Decrypts the next part; `false` at the end of the state.
    fn advance(&mut self) -> Result<bool, BackupError> {
        if self.statement.is_some() {
            return Ok(false);
        }
        let Some((kind, sealed)) = self.parts.next()? else { return Ok(false) };
        let aad = authenticated(&self.parts.opening, kind);
        let opened = self.opener.open(&aad, &sealed)?;
        (self.progress)(self.parts.at);
        if kind == STATEMENT {
            let signed = serde_json::from_slice(&opened);
            let bad = |_| BackupError::OtherContent { what: "the form of the statement" };
            self.statement = Some(signed.map_err(bad)?);
            return Ok(false);
        }
        self.bytes += opened.len() as u64;
        if self.bytes > SNAPSHOT_BYTES_MAX {
            return Err(self.parts.damaged("the state in it is larger than any"));
        }
        self.sha256.update(&opened);
        (self.rest, self.read) = (opened, 0);
        Ok(true)
    }
}

impl<P: FnMut(u64)> Read for Content<P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.rest.len() {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(error) => {
                    let told = error.to_string();
                    self.failed = Some(error);
                    return Err(io::Error::other(told));
                }
            }
        }
        let length = buffer.len().min(self.rest.len() - self.read);
        buffer[..length].copy_from_slice(&self.rest[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}
