//! What can go wrong on disk, with what was expected, what was found, and what to do.
//!
//! Errors are `Clone` because one failed sync is the answer to every append that waited for it, and to every later one.

use std::{
    io,
    path::{Path, PathBuf},
};

use haltline_core::{
    LogIndex,
    ids::{ClusterId, NodeId},
};

/// Damage that recovery can't explain by a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// The damaged file.
    pub file: PathBuf,
    /// The byte in it where reading failed.
    pub offset: u64,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub got: String,
}

/// Why storage refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// A file operation failed. The log that met it takes no more writes: restart the node after mending the disk.
    #[error("can't {action} {}: {reason}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// The operating system's words.
        reason: String,
    },
    /// No room left. What was asked for was not done, and may be tried again when there is room.
    #[error("can't {action} {}: the disk is full; free space on it", path.display())]
    DiskFull {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// Damage in the middle of what must be whole.
    #[error(
        "{} is damaged at byte {}: expected {}, found {}. Nothing was changed. Data that this node acknowledged may be \
         lost, so it must not go on with what is left: remove the node from its cluster, keep this directory for \
         analysis, and add the node again with an empty data directory",
        .0.file.display(), .0.offset, .0.expected, .0.got
    )]
    Corrupt(Box<Corruption>),
    /// Another process works in the directory.
    #[error("{} is in use by another process{}; one directory serves one node", dir.display(), shown_holder(*holder))]
    DirectoryLocked {
        /// The directory.
        dir: PathBuf,
        /// The other process's id, where it can be read.
        holder: Option<u32>,
    },
    /// The directory belongs to another cluster.
    #[error(
        "{} belongs to cluster {got}, this node to cluster {expected}; give the node a directory of its own",
        dir.display()
    )]
    ForeignCluster {
        /// The directory.
        dir: PathBuf,
        /// The cluster of this node.
        expected: ClusterId,
        /// The cluster whose data it holds.
        got: ClusterId,
    },
    /// The directory belongs to another node of the same cluster.
    #[error(
        "{} belongs to node {got}, this is node {expected}; two nodes with one history could both vote",
        dir.display()
    )]
    ForeignNode {
        /// The directory.
        dir: PathBuf,
        /// This node.
        expected: NodeId,
        /// The node whose data it holds.
        got: NodeId,
    },
    /// A later version of Haltline wrote this.
    #[error(
        "{} has format {got}, this version of haltline reads up to {supported}; start the version that wrote it",
        file.display()
    )]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// The newest format that this version reads.
        supported: u32,
        /// The file's format.
        got: u32,
    },
    /// There is data but nothing says whose.
    #[error("{} holds data but no IDENTITY file: restore that file, or start with an empty directory", dir.display())]
    IdentityMissing {
        /// The directory.
        dir: PathBuf,
    },
    /// The identity can't be read.
    #[error("{} can't be understood: {reason}; restore it, or start with an empty directory", file.display())]
    IdentityUnreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// An append that would leave a hole or overwrite. Nothing was written.
    #[error("the log continues at index {expected}, not at {got}")]
    NotContiguous {
        /// The only index that may come next.
        expected: LogIndex,
        /// What came.
        got: LogIndex,
    },
    /// More bytes than their place allows. Nothing was written.
    #[error("{what} of {bytes} bytes: at most {bytes_max} are allowed")]
    TooLarge {
        /// A record, a vote, a log id, a chunk, a snapshot, …
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The log holds as much as it may. Nothing was written.
    #[error("the log holds its {what_max} {what} and can't grow until a snapshot lets it be purged")]
    LogFull {
        /// Records or segments.
        what: &'static str,
        /// The limit.
        what_max: u64,
    },
    /// Written to after it was closed.
    #[error("the log is closed: the node is stopping")]
    Closed,
    /// A setting out of range.
    #[error("{what} is {got}: expected {expected}")]
    BadOption {
        /// The setting.
        what: &'static str,
        /// Its value.
        got: u64,
        /// What is allowed.
        expected: &'static str,
    },
    /// A snapshot that is older than the newest one. It was discarded.
    #[error("a snapshot through index {got} is older than the one through {newest} that is kept")]
    SnapshotOutdated {
        /// What the newest snapshot covers.
        newest: LogIndex,
        /// What the discarded one covers.
        got: LogIndex,
    },
    /// Too many snapshots are being written at once.
    #[error("{writers_max} snapshots are being written already")]
    SnapshotsBusy {
        /// The limit.
        writers_max: usize,
    },
}

fn shown_holder(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl StorageError {
    /// A stable code for logs, metrics and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "storage-io",
            Self::DiskFull { .. } => "storage-disk-full",
            Self::Corrupt(_) => "storage-corrupt",
            Self::DirectoryLocked { .. } => "storage-directory-locked",
            Self::ForeignCluster { .. } => "storage-foreign-cluster",
            Self::ForeignNode { .. } => "storage-foreign-node",
            Self::NewerFormat { .. } => "storage-newer-format",
            Self::IdentityMissing { .. } => "storage-identity-missing",
            Self::IdentityUnreadable { .. } => "storage-identity-unreadable",
            Self::NotContiguous { .. } => "storage-not-contiguous",
            Self::TooLarge { .. } => "storage-too-large",
            Self::LogFull { .. } => "storage-log-full",
            Self::Closed => "storage-closed",
            Self::BadOption { .. } => "storage-bad-option",
            Self::SnapshotOutdated { .. } => "storage-snapshot-outdated",
            Self::SnapshotsBusy { .. } => "storage-snapshots-busy",
        }
    }

    /// The same, where waiting for room would not help: what is on disk isn't known any more.
    pub(crate) fn beyond_waiting(self) -> Self {
        match self {
            Self::DiskFull { action, path } => {
                let reason = "the disk is full, and what was already written may be lost; free space and restart the \
                              node, which reads back what is there";
                Self::Io { action, path, kind: io::ErrorKind::StorageFull, reason: reason.to_owned() }
            }
            error => error,
        }
    }

    pub(crate) fn corrupt(
        file: &Path,
        offset: u64,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        Self::Corrupt(Box::new(Corruption {
            file: file.to_owned(),
            offset,
            expected: expected.into(),
            got: got.into(),
        }))
    }
}

/// Names the file and the action in an I/O error.
pub(crate) trait Context<T> {
    /// The value, or the error with what was tried on which path.
    fn doing(self, action: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> Context<T> for io::Result<T> {
    fn doing(self, action: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StorageError::DiskFull { action, path: path.to_owned() }
            }
            kind => StorageError::Io { action, path: path.to_owned(), kind, reason: error.to_string() },
        })
    }
}
