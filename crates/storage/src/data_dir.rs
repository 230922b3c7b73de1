//! The directory of one node.
//!
//! ```text
//! <dir>/LOCK        held while the node runs
//!       IDENTITY    JSON: format, cluster, node, when it was made; written once
//!       log/        see SegmentedLog
//!       snapshots/  see SnapshotFiles
//! ```
//!
//! A node that opens another one's directory would vote with its history: the identity is checked before anything else
//! is read, under the lock.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use haltline_core::{
    ids::{ClusterId, NodeId},
    limits::IDENTITY_FILE_BYTES_MAX,
    time::WallTime,
};
use serde::{Deserialize, Serialize};

use crate::{DirLock, Disk, StorageError, error::Context as _};

/// The format of a data directory that this version writes, and the newest it reads.
pub const DATA_FORMAT: u32 = 1;

const IDENTITY_FILE: &str = "IDENTITY";
const IDENTITY_UNFINISHED: &str = "IDENTITY.tmp";
const LOCK_FILE: &str = "LOCK";

/// Whose directory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node in it.
    pub node: NodeId,
}

/// A node's directory, locked for this process.
#[derive(Debug)]
pub struct DataDir {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Identity,
    // Held for as long as the node runs.
    _lock: Box<dyn DirLock>,
}

/// What the `IDENTITY` file says.
#[derive(Debug, Serialize, Deserialize)]
struct IdentityFile {
    format: u32,
    cluster: String,
    node: u64,
    created_unix_ms: u64,
}

/// What every version's `IDENTITY` file says.
#[derive(Debug, Deserialize)]
struct FormatOnly {
    format: u32,
}

impl DataDir {
    /// Opens the directory of this node, or makes it: then `now` is noted as its time of birth.
    ///
    /// # Errors
    /// [`StorageError::DirectoryLocked`], [`StorageError::ForeignCluster`], [`StorageError::ForeignNode`],
    /// [`StorageError::NewerFormat`], [`StorageError::IdentityMissing`], [`StorageError::IdentityUnreadable`], or an I/O
    /// error.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        identity: Identity,
        now: WallTime,
    ) -> Result<Self, StorageError> {
        disk.create_dir(dir).doing("create", dir)?;
        let lock = lock(&*disk, dir)?;
        match read_identity(&*disk, dir)? {
            Some(found) => check(dir, identity, found)?,
            None => write_identity(&*disk, dir, identity, now)?,
        }
        let opened = Self { disk, dir: dir.to_owned(), identity, _lock: lock };
        for sub in [opened.log_dir(), opened.snapshot_dir()] {
            opened.disk.create_dir(&sub).doing("create", &sub)?;
        }
        opened.disk.sync_dir(dir).doing("sync", dir)?;
        Ok(opened)
    }

    /// Reads whose directory this is, without locking or changing it; `None` if it is nobody's yet.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for the lock.
    pub fn inspect(disk: &dyn Disk, dir: &Path) -> Result<Option<Identity>, StorageError> {
        match disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing("list", dir),
            Ok(_) => read_identity(disk, dir),
        }
    }

    /// Whose directory it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The disk it lies on.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Where the log goes.
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Where snapshots go.
    pub fn snapshot_dir(&self) -> PathBuf {
        self.dir.join("snapshots")
    }
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DirLock>, StorageError> {
    match disk.lock_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(StorageError::DirectoryLocked { dir: dir.to_owned(), holder: holder(disk, dir) })
        }
        locked => locked.doing("lock", dir),
    }
}

/// The process id in the lock file: a courtesy, which may be missing.
fn holder(disk: &dyn Disk, dir: &Path) -> Option<u32> {
    let mut text = [0; 16];
    let length = disk.open(&dir.join(LOCK_FILE)).ok()?.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.trim().parse().ok()
}

fn read_identity(disk: &dyn Disk, dir: &Path) -> Result<Option<Identity>, StorageError> {
    let names = disk.list(dir).doing("list", dir)?;
    if !names.iter().any(|name| name == IDENTITY_FILE) {
        // The identity is durable before anything else is made, so data without it means that somebody removed it.
        let is_fresh = names.iter().all(|name| [LOCK_FILE, IDENTITY_UNFINISHED].contains(&name.as_str()));
        return if is_fresh { Ok(None) } else { Err(StorageError::IdentityMissing { dir: dir.to_owned() }) };
    }
    let path = dir.join(IDENTITY_FILE);
    let mut bytes = vec![0; IDENTITY_FILE_BYTES_MAX];
    let length = disk.open(&path).and_then(|file| file.read_at(&mut bytes, 0)).doing("read", &path)?;
    parse_identity(&path, &bytes[..length]).map(Some)
}

fn parse_identity(path: &Path, bytes: &[u8]) -> Result<Identity, StorageError> {
    let unreadable = |reason: String| StorageError::IdentityUnreadable { file: path.to_owned(), reason };
    // The format first: a later one may have other fields.
    let FormatOnly { format } =
        serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
    if format > DATA_FORMAT {
        return Err(StorageError::NewerFormat { file: path.to_owned(), supported: DATA_FORMAT, got: format });
    }
    let file: IdentityFile = serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
    let cluster = file.cluster.parse().map_err(|error| unreadable(format!("{error}")))?;
    Ok(Identity { cluster, node: NodeId(file.node) })
}

fn check(dir: &Path, expected: Identity, got: Identity) -> Result<(), StorageError> {
    if expected.cluster != got.cluster {
        let (expected, got) = (expected.cluster, got.cluster);
        return Err(StorageError::ForeignCluster { dir: dir.to_owned(), expected, got });
    }
    if expected.node != got.node {
        let (expected, got) = (expected.node, got.node);
        return Err(StorageError::ForeignNode { dir: dir.to_owned(), expected, got });
    }
    Ok(())
}

fn write_identity(
    disk: &dyn Disk,
    dir: &Path,
    identity: Identity,
    now: WallTime,
) -> Result<(), StorageError> {
    let file = IdentityFile {
        format: DATA_FORMAT,
        cluster: identity.cluster.to_string(),
        node: identity.node.0,
        created_unix_ms: now.0,
    };
    let (unfinished, path) = (dir.join(IDENTITY_UNFINISHED), dir.join(IDENTITY_FILE));
    let mut text = serde_json::to_vec_pretty(&file).map_err(|error| StorageError::IdentityUnreadable {
        file: path.clone(),
        reason: error.to_string(),
    })?;
    text.push(b'\n');
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).doing("remove", &unfinished);
        }
        _ => {}
    }
    let written = disk.create(&unfinished).doing("create", &unfinished)?;
    written.write_at(&text, 0).doing("write", &unfinished)?;
    written.sync_data().doing("sync", &unfinished)?;
    disk.rename(&unfinished, &path).doing("rename", &unfinished)?;
    disk.sync_dir(dir).doing("sync", dir)
}
