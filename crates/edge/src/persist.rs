//! What an enforcer keeps on disk between two lives: proof of how far the log had come, a snapshot for a fast start, and
//! how it came to trust the keys it trusts.
//!
//! ```text
//! lock      held while an enforcer runs, so that no two share a directory
//! mark      the high-water mark, with the node's signed statement that proves it
//! snapshot  a signed view; only a cache
//! trust     changes of the trust bundle since enrolment, each endorsed by the keys before it
//! ```
//!
//! # What must hold
//! - Everything is verified again when loaded, by the keys that enrolment brought and what followed from them. A file is
//!   never believed because it lies here.
//! - **Nothing kept here permits**: leases and probes live in memory alone, so a restarted enforcer denies until its
//!   first Fresh.
//! - A damaged or unverifiable snapshot is named and left aside. So is a damaged mark if the snapshot proves a position
//!   too, which is then the mark. A damaged mark with nothing in its place stops the enforcer ([`PersistError::MarkLost`]):
//!   going on would forget how far back is too far, and only a person can say that this is meant.
//! - Damage to `trust` stops it too ([`PersistError::TrustLost`]): the keys of the enrolment may have been replaced
//!   because one was stolen.

mod file;
mod record;

use std::{
    fs::{DirBuilder, File, TryLockError},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use haltline_core::{
    attest::AttestError,
    ids::ClusterId,
    limits::{PERSISTED_RECORD_BYTES_MAX, VIEW_BYTES_MAX},
    mark::HighWaterMark,
};
use haltline_pki::TrustBundle;

use crate::client::{refusal::SyncRefusal, trust::Trust};
use file::Kind;
pub(crate) use record::MarkRecord;
pub use record::StoredSnapshot;

/// Why something kept on disk couldn't be written, read or believed. [`PersistError::code`] is stable.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// The file system refused.
    #[error("can't {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another enforcer runs on this directory.
    #[error("{} is in use by another enforcer; give each its own `data_dir`", .path.display())]
    InUse {
        /// The directory's lock.
        path: PathBuf,
    },
    /// A file that isn't as it was written.
    #[error("{} is damaged: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What doesn't hold.
        why: String,
    },
    /// A file that is whole, but whose signatures aren't by keys that are believed here.
    #[error("{} isn't believed: {refusal}", .path.display())]
    NotBelieved {
        /// The file.
        path: PathBuf,
        /// Why.
        refusal: SyncRefusal,
    },
    /// A directory of another cluster's enforcer.
    #[error(
        "{} belongs to an enforcer of cluster {got}, this one is of {expected}; give it an empty `data_dir`",
        .path.display()
    )]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// This enforcer's cluster.
        expected: ClusterId,
        /// The file's.
        got: ClusterId,
    },
    /// The mark is gone for good.
    #[error(
        "{why}, and no snapshot stands in for it, so nothing here says which part of the log was seen before; if the cluster \
         surely wasn't set back since, delete {} and start again, else enrol this enforcer anew",
        .path.display()
    )]
    MarkLost {
        /// The mark's file.
        path: PathBuf,
        /// What is wrong with it.
        why: Box<PersistError>,
    },
    /// The way to the keys believed is gone.
    #[error("{why}, so the keys that this enforcer came to trust can't be proven; delete {} and enrol it anew", .path.display())]
    TrustLost {
        /// The file of changes.
        path: PathBuf,
        /// What is wrong with it.
        why: Box<PersistError>,
    },
}

impl PersistError {
    /// A stable word for the reason.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "DATA_IO",
            Self::InUse { .. } => "DATA_IN_USE",
            Self::Damaged { .. } => "DATA_DAMAGED",
            Self::NotBelieved { .. } => "DATA_NOT_BELIEVED",
            Self::OtherCluster { .. } => "DATA_OF_OTHER_CLUSTER",
            Self::MarkLost { .. } => "MARK_LOST",
            Self::TrustLost { .. } => "TRUST_LOST",
        }
    }
}

/// What an earlier life left, verified.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) trust: Trust,
    pub(crate) mark: Option<HighWaterMark>,
    pub(crate) snapshot: Option<StoredSnapshot>,
    /// Files that were left aside, and why.
    pub(crate) ignored: Vec<PersistError>,
}

/// The directory, held by this process.
#[derive(Debug)]
pub(crate) struct EdgeDir {
    path: PathBuf,
    _lock: File,
}

impl EdgeDir {
    /// Makes the directory if need be (mode 0700) and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, PersistError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| PersistError::Io { action, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(failed("create", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(PersistError::InUse { path: lock_path }),
            Err(TryLockError::Error(source)) => Err(failed("lock", &lock_path)(source)),
        }
    }

    fn mark_path(&self) -> PathBuf {
        self.path.join("mark")
    }

    fn snapshot_path(&self) -> PathBuf {
        self.path.join("snapshot")
    }

    fn trust_path(&self) -> PathBuf {
        self.path.join("trust")
    }

    /// Keeps the mark with its proof.
    pub(crate) fn save_mark(&self, mark: &MarkRecord) -> Result<(), PersistError> {
        file::write(&self.mark_path(), Kind::Mark, &[&record::to_bytes(mark)])
    }

    /// Keeps a snapshot that was verified.
    pub(crate) fn save_snapshot(&self, snapshot: &StoredSnapshot) -> Result<(), PersistError> {
        file::write(&self.snapshot_path(), Kind::Snapshot, &[&snapshot.head(), &snapshot.body])
    }

    /// Keeps the changes that lead to the keys believed. To be done before anything that they signed is kept.
    pub(crate) fn save_trust(&self, trust: &Trust) -> Result<(), PersistError> {
        file::write(&self.trust_path(), Kind::Trust, &[&record::to_bytes(&trust.changes())])
    }

    /// Reads and verifies what an earlier life left.
    pub(crate) fn load(&self, bundle: &TrustBundle) -> Result<Remembered, PersistError> {
        let mut ignored = Vec::new();
        let trust = self
            .load_trust(bundle)
            .map_err(|why| PersistError::TrustLost { path: self.trust_path(), why: Box::new(why) })?;
        let (snapshot, proven) = match self.load_snapshot(&trust) {
            Ok(found) => found.unzip(),
            Err(error @ PersistError::OtherCluster { .. }) => return Err(error),
            Err(error) => {
                ignored.push(error);
                (None, None)
            }
        };
        let mark = match self.load_mark(&trust) {
            Ok(Some(mark)) => Some(proven.map_or(mark, |proven| later(mark, proven))),
            Ok(None) => proven,
            Err(error @ PersistError::OtherCluster { .. }) => return Err(error),
            Err(error) if proven.is_some() => {
                ignored.push(error);
                proven
            }
            Err(error) => {
                return Err(PersistError::MarkLost { path: self.mark_path(), why: Box::new(error) });
            }
        };
        Ok(Remembered { trust, mark, snapshot, ignored })
    }

    fn load_trust(&self, bundle: &TrustBundle) -> Result<Trust, PersistError> {
        let path = self.trust_path();
        let Some(bytes) = file::read(&path, Kind::Trust, PERSISTED_RECORD_BYTES_MAX)? else {
            return Ok(Trust::enrolled(bundle));
        };
        let changes = record::changes_from_bytes(&bytes)
            .map_err(|why| PersistError::Damaged { path: path.clone(), why })?;
        Trust::restored(bundle, changes).map_err(|refusal| PersistError::NotBelieved { path, refusal })
    }

    fn load_mark(&self, trust: &Trust) -> Result<Option<HighWaterMark>, PersistError> {
        let path = self.mark_path();
        let Some(bytes) = file::read(&path, Kind::Mark, PERSISTED_RECORD_BYTES_MAX)? else {
            return Ok(None);
        };
        let damaged = |why| PersistError::Damaged { path: path.clone(), why };
        let record: MarkRecord = record::from_bytes(&bytes).map_err(damaged)?;
        same_cluster(trust, record.cluster, &path)?;
        record.verify(trust).map(Some).map_err(|error| not_believed(&path, error))
    }

    fn load_snapshot(&self, trust: &Trust) -> Result<Option<(StoredSnapshot, HighWaterMark)>, PersistError> {
        let path = self.snapshot_path();
        let Some(bytes) = file::read(&path, Kind::Snapshot, VIEW_BYTES_MAX as u64)? else { return Ok(None) };
        let damaged = |why| PersistError::Damaged { path: path.clone(), why };
        let snapshot = StoredSnapshot::from_bytes(bytes).map_err(damaged)?;
        same_cluster(trust, snapshot.statement.cluster_id, &path)?;
        let mark = snapshot.verify(trust).map_err(|error| not_believed(&path, error))?;
        Ok(Some((snapshot, mark)))
    }
}

fn same_cluster(trust: &Trust, got: ClusterId, path: &Path) -> Result<(), PersistError> {
    let expected = trust.cluster();
    if expected == got {
        Ok(())
    } else {
        Err(PersistError::OtherCluster { path: path.into(), expected, got })
    }
}

fn not_believed(path: &Path, error: AttestError) -> PersistError {
    PersistError::NotBelieved { path: path.into(), refusal: error.into() }
}

fn later(one: HighWaterMark, other: HighWaterMark) -> HighWaterMark {
    let order = |mark: &HighWaterMark| (mark.incarnation, mark.index, mark.event_seq);
    if order(&other) > order(&one) { other } else { one }
}

#[cfg(test)]
mod tests;
