//! How long a disk really takes to make a small write durable: for `doctor`, before anything depends on it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use haltline_core::limits::SYNC_PROBE_WRITES_MAX;

use crate::{Disk, StorageError, error::Context as _};

/// Bytes of one write: a page, about what a small batch takes.
const WRITE_BYTES: usize = 4_096;
const PROBE_FILE: &str = "sync-probe.tmp";

/// Writes 4 KiB and syncs, `writes` times, in a file of its own that is gone afterwards, and returns how long each took, the
/// quickest first. As the log does it: into room that was written before.
///
/// # Errors
/// [`StorageError::BadOption`] for no writes or more than `SYNC_PROBE_WRITES_MAX`, [`StorageError::DiskFull`] or an I/O
/// error.
pub fn measure_sync_latency(
    disk: &dyn Disk,
    dir: &Path,
    writes: usize,
) -> Result<Vec<Duration>, StorageError> {
    if !(1..=SYNC_PROBE_WRITES_MAX).contains(&writes) {
        return Err(StorageError::BadOption { what: "writes", got: writes as u64, expected: "1 to 10000" });
    }
    let path = dir.join(PROBE_FILE);
    // One that a measurement before left when it was interrupted.
    drop(disk.remove(&path));
    let measured = measure(disk, &path, writes);
    let removed = disk.remove(&path).doing("remove", &path);
    let mut durations = measured?;
    removed?;
    durations.sort_unstable();
    Ok(durations)
}

fn measure(disk: &dyn Disk, path: &Path, writes: usize) -> Result<Vec<Duration>, StorageError> {
    let file = disk.create(path).doing("create", path)?;
    file.preallocate((writes * WRITE_BYTES) as u64).doing("zero", path)?;
    file.sync_data().doing("sync", path)?;
    let page = [0xa5; WRITE_BYTES];
    let mut durations = Vec::with_capacity(writes);
    for number in 0..writes {
        let began = Instant::now();
        file.write_at(&page, (number * WRITE_BYTES) as u64).doing("write", path)?;
        file.sync_data().doing("sync", path)?;
        durations.push(began.elapsed());
    }
    Ok(durations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    #[test]
    fn every_write_is_timed_and_nothing_is_left() {
        let scratch = tempfile::tempdir().expect("a directory");
        let durations = measure_sync_latency(&RealDisk, scratch.path(), 20).expect("it can write");
        assert_eq!(durations.len(), 20);
        assert!(durations.is_sorted() && durations[0] > Duration::ZERO);
        assert_eq!(RealDisk.list(scratch.path()).expect("a directory"), Vec::<String>::new());
        let none = measure_sync_latency(&RealDisk, scratch.path(), 0);
        assert!(matches!(none, Err(StorageError::BadOption { .. })), "{none:?}");
        let nowhere = measure_sync_latency(&RealDisk, &scratch.path().join("none"), 1);
        assert!(matches!(nowhere, Err(StorageError::Io { .. })), "{nowhere:?}");
    }
}
