//! Every disk passes the same suites.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use haltline_storage::{Disk, Flusher, LogOptions, MemoryDisk, RealDisk, SegmentedLog, SnapshotFiles};
use haltline_testkit::{disk::FaultDisk, log_conformance, snapshot_conformance};

const LOG_OPTIONS: LogOptions = LogOptions {
    segment_bytes: 8 * 1_024,
    cache_bytes: 4_000,
    flusher: Flusher::Thread,
    reserve_segments: 2,
    low_water_bytes: 0,
};

fn log_place(disk: Arc<dyn Disk>, dir: PathBuf) -> log_conformance::Place {
    Box::new(move || Box::new(SegmentedLog::open(Arc::clone(&disk), &dir, LOG_OPTIONS).unwrap()))
}

fn snapshot_place(disk: Arc<dyn Disk>, dir: PathBuf) -> snapshot_conformance::Place {
    Box::new(move || Box::new(SnapshotFiles::open(Arc::clone(&disk), &dir).unwrap()))
}

#[test]
fn on_real_files() {
    let scratch = tempfile::tempdir().unwrap();
    let fresh = || tempfile::tempdir_in(&scratch).unwrap().keep();
    log_conformance::run(|| log_place(Arc::new(RealDisk), fresh()));
    snapshot_conformance::run(|| snapshot_place(Arc::new(RealDisk), fresh()));
}

#[test]
fn in_memory() {
    let dir = Path::new("/node/part");
    log_conformance::run(|| log_place(Arc::new(MemoryDisk::new()), dir.to_owned()));
    snapshot_conformance::run(|| snapshot_place(Arc::new(MemoryDisk::new()), dir.to_owned()));
}

#[test]
fn on_the_fault_disk() {
    let dir = Path::new("/node/part");
    log_conformance::run(|| log_place(Arc::new(FaultDisk::new(1)), dir.to_owned()));
    snapshot_conformance::run(|| snapshot_place(Arc::new(FaultDisk::new(1)), dir.to_owned()));
}
