//! How long a disk takes to make data durable, measured the way the log uses it: small writes into a file that was zeroed
//! ahead, each followed by a sync of its contents.
//!
//! The file is removed again, whatever happens in between. It may lie beside a running node's own files: nothing there has
//! its name.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use haltline_core::limits::SYNC_PROBE_WRITES_MAX;

use crate::{Disk, RealDisk, StorageError, error::Context as _};

/// Bytes of one write: a batch of a few commands, padded to a block.
const WRITE_BYTES: usize = 4_096;

/// How long syncs took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncLatency {
    /// How many were measured.
    pub writes: usize,
    /// Half of them took no longer.
    pub median: Duration,
    /// All but one in a hundred took no longer.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

/// The probe's file, gone when this is dropped.
struct ProbeFile(PathBuf);

impl Drop for ProbeFile {
    fn drop(&mut self) {
        // Where it can't be removed, the error that led here says more.
        let _ = RealDisk.remove(&self.0);
    }
}

/// Writes and syncs so many times (1 to [`SYNC_PROBE_WRITES_MAX`]) in this directory. Blocks as long as the disk does.
///
/// # Errors
/// [`StorageError::BadOption`] for another number, [`StorageError::Io`] or [`StorageError::DiskFull`] naming the file.
pub fn sync_latency(dir: &Path, writes: usize) -> Result<SyncLatency, StorageError> {
    if writes == 0 || writes > SYNC_PROBE_WRITES_MAX {
        return Err(StorageError::BadOption {
            what: "the number of probing writes",
            got: writes as u64,
            expected: "1 to 1,000",
        });
    }
    let path = dir.join(format!(".sync-probe-{}", std::process::id()));
    // Of an earlier process that had the same number and was killed.
    let _ = RealDisk.remove(&path);
    let file = RealDisk.create(&path).doing("create", &path)?;
    let _removed = ProbeFile(path.clone());
    file.preallocate((writes * WRITE_BYTES) as u64).doing("write", &path)?;
    file.sync_data().doing("sync", &path)?;
    let block = [0x5a; WRITE_BYTES];
    let mut took = Vec::with_capacity(writes);
    for write in 0..writes {
        let began = Instant::now();
        file.write_at(&block, (write * WRITE_BYTES) as u64).doing("write", &path)?;
        file.sync_data().doing("sync", &path)?;
        took.push(began.elapsed());
    }
    Ok(summary(took))
}

/// The figures of at least one sync.
fn summary(mut took: Vec<Duration>) -> SyncLatency {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent).div_ceil(100).max(1) - 1];
    SyncLatency { writes: took.len(), median: at(50), p99: at(99), max: at(100) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_probe_measures_and_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let latency = sync_latency(home.path(), 5).unwrap();
        assert_eq!(latency.writes, 5);
        assert!(latency.median <= latency.p99 && latency.p99 <= latency.max);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_cant_be_probed_is_named() {
        let home = tempfile::tempdir().unwrap();
        let missing = home.path().join("none");
        assert!(matches!(sync_latency(&missing, 5), Err(StorageError::Io { action: "create", .. })));
        for writes in [0, SYNC_PROBE_WRITES_MAX + 1] {
            assert!(matches!(sync_latency(home.path(), writes), Err(StorageError::BadOption { .. })));
        }
    }

    #[test]
    fn figures_are_those_of_the_sorted_times() {
        let took = (1..=200).rev().map(Duration::from_millis).collect();
        let SyncLatency { median, p99, max, .. } = summary(took);
        assert_eq!([median, p99, max].map(|took| took.as_millis()), [100, 198, 200]);
        let one = summary(vec![Duration::from_millis(7)]);
        assert_eq!(one.median, one.max);
    }
}
