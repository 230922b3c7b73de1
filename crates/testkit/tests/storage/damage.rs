//! Damage that no power cut explains stops the node, and says where and what to do.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};

use bytes::Bytes;
use haltline_core::LogIndex;
use haltline_storage::{
    Disk, Flusher, LogOptions, Purged, RaftLog, Record, SegmentedLog, SnapshotFiles, SnapshotMeta,
    SnapshotStore, StorageError,
};
use haltline_testkit::{
    disk::{Fault, FaultDisk},
    log_model::{Action, LogModel, Workload, encode_committed},
    rng::Rng,
};

const LOG_DIR: &str = "/node/log";
const FIRST_SEGMENT: &str = "/node/log/log-00000000000000000001.seg";
/// Where the first record of a segment begins, and how far the next is: header, 16 bytes of payload.
const FIRST_RECORD: usize = 4_096;
const STRIDE: usize = 48;

fn options(cache_bytes: usize) -> LogOptions {
    LogOptions { segment_bytes: 8 * 1_024, cache_bytes, flusher: Flusher::Manual, ..LogOptions::default() }
}

fn open(disk: &FaultDisk) -> Result<SegmentedLog, StorageError> {
    SegmentedLog::open(Arc::new(disk.clone()), Path::new(LOG_DIR), options(0))
}

/// Appends a record of 16 bytes and makes it durable.
fn append(log: &SegmentedLog, index: u64) -> Result<(), StorageError> {
    append_bytes(log, index, 16)
}

fn append_bytes(log: &SegmentedLog, index: u64, bytes: usize) -> Result<(), StorageError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let payload = Bytes::from(vec![index as u8; bytes]);
    let record = Record { index: LogIndex(index), payload };
    log.append(vec![record], Box::new(move |result| sender.send(result).unwrap()));
    drop(log.flush());
    receiver.try_recv().expect("flushing answers")
}

fn indices(log: &SegmentedLog) -> Vec<u64> {
    let records = log.read(LogIndex(0)..LogIndex(u64::MAX), usize::MAX).unwrap();
    records.iter().map(|entry| entry.index.0).collect()
}

/// A log with these many durable records whose process was killed.
fn killed_log(records: u64) -> FaultDisk {
    let disk = FaultDisk::new(1);
    let log = open(&disk).unwrap();
    for index in 0..records {
        append(&log, index).unwrap();
    }
    disk.kill_process();
    drop(log);
    disk.restore_power();
    disk
}

#[test]
fn in_the_middle_stops_with_file_byte_and_advice() {
    let disk = killed_log(3);
    disk.flip_bit(Path::new(FIRST_SEGMENT), FIRST_RECORD + STRIDE + 40, 3).unwrap();
    let error = open(&disk).unwrap_err();
    assert_eq!(error.code(), "storage-corrupt");
    assert_eq!(
        error.to_string(),
        "/node/log/log-00000000000000000001.seg is damaged at byte 4144: expected a whole record: the one at byte 4192 \
         says that 4192 bytes were synced before it, found a record whose payload checksum (CRC-32C) is wrong. Nothing \
         was changed. Data that this node acknowledged may be lost, so it must not go on with what is left: remove the \
         node from its cluster, keep this directory for analysis, and add the node again with an empty data directory"
    );
    // Nothing was changed: the same again, and whole again when the bit is back.
    assert_eq!(open(&disk).unwrap_err(), error);
    disk.flip_bit(Path::new(FIRST_SEGMENT), FIRST_RECORD + STRIDE + 40, 3).unwrap();
    assert_eq!(indices(&open(&disk).unwrap()), [0, 1, 2]);
}

#[test]
fn of_the_last_record_after_a_crash_looks_like_a_torn_tail() {
    // No later byte says that it was ever whole: this is the one case that can't be told apart.
    let disk = killed_log(3);
    disk.flip_bit(Path::new(FIRST_SEGMENT), FIRST_RECORD + 2 * STRIDE + 40, 3).unwrap();
    let log = open(&disk).unwrap();
    assert_eq!(indices(&log), [0, 1]);
    let cut = log.recovery().cut.clone().unwrap();
    assert_eq!((cut.offset, cut.records), (4_192, 1));
    append(&log, 2).unwrap();
    drop(log);
    assert_eq!(indices(&open(&disk).unwrap()), [0, 1, 2]);
}

#[test]
fn of_the_last_record_after_a_clean_stop_is_found() {
    let disk = FaultDisk::new(1);
    let log = open(&disk).unwrap();
    append(&log, 0).unwrap();
    log.close().unwrap();
    assert_eq!(append(&log, 1), Err(StorageError::Closed));
    drop(log);
    disk.flip_bit(Path::new(FIRST_SEGMENT), FIRST_RECORD + 40, 3).unwrap();
    assert!(matches!(open(&disk), Err(StorageError::Corrupt(_))));
}

#[test]
fn under_a_running_log_is_found_by_the_read() {
    let disk = FaultDisk::new(1);
    let log = open(&disk).unwrap();
    for index in 0..3 {
        append(&log, index).unwrap();
    }
    disk.flip_bit(Path::new(FIRST_SEGMENT), FIRST_RECORD + STRIDE + 40, 3).unwrap();
    let error = log.read(LogIndex(1)..LogIndex(2), 100).unwrap_err();
    assert!(matches!(&error, StorageError::Corrupt(found) if found.offset == 4_144), "{error}");
    assert_eq!(log.read(LogIndex(2)..LogIndex(3), 100).unwrap().len(), 1);
}

/// A log over several segments, cleanly closed, with the state that it holds.
fn closed_log(seed: u64) -> (FaultDisk, LogModel) {
    let disk = FaultDisk::new(seed);
    let log = open(&disk).unwrap();
    let mut workload = Workload::new(Rng::new(seed), LogModel::default(), None, 2_000);
    for _ in 0..40 {
        match workload.next_action() {
            Action::Append(records) => log.append(records, Box::new(|result| result.unwrap())),
            Action::Vote(vote) => log.save_vote(vote, Box::new(|result| result.unwrap())),
            Action::Purge(purged) => log.purge_through(purged).unwrap(),
            Action::Truncate(index) => log.truncate_after(index).unwrap(),
            Action::Committed(index) => log.save_committed(encode_committed(index)).unwrap(),
        }
        log.flush().unwrap();
    }
    log.close().unwrap();
    (disk, workload.model().clone())
}

#[test]
fn any_flipped_bit_is_found_or_harmless() {
    let (mut found, mut harmless) = (0, 0);
    for seed in 0..150 {
        let (disk, expected) = closed_log(seed);
        let mut rng = Rng::new(seed);
        let files = disk.files();
        for _ in 0..10 {
            let copy = disk.fork();
            let (path, length) = &files[rng.below(files.len() as u64) as usize];
            let (byte, bit) = (rng.below(*length as u64) as usize, rng.below(8) as u32);
            copy.flip_bit(path, byte, bit).unwrap();
            match open(&copy) {
                Err(StorageError::Corrupt(_)) => found += 1,
                Err(error) => panic!("seed {seed}: {}:{byte}:{bit}: {error}", path.display()),
                Ok(log) => {
                    let state = LogModel::read_back(&log).unwrap();
                    assert!(
                        state == expected,
                        "seed {seed}: {}:{byte}:{bit} changed the log",
                        path.display()
                    );
                    harmless += 1;
                }
            }
        }
    }
    println!("{found} found, {harmless} harmless");
    assert!(found > 300 && harmless > 30, "{found} found, {harmless} harmless");
}

#[test]
fn a_missing_segment_is_found() {
    let mut found = 0;
    for seed in 0..150 {
        let (disk, expected) = closed_log(seed);
        let files = disk.files();
        let segments: Vec<_> = files.iter().filter(|(path, _)| path.starts_with(LOG_DIR)).collect();
        for (path, _) in segments {
            let copy = disk.fork();
            copy.remove(path).unwrap();
            match open(&copy) {
                Err(StorageError::Corrupt(error)) => {
                    assert!(error.file.starts_with(LOG_DIR));
                    found += 1;
                }
                Err(error) => panic!("seed {seed}: without {}: {error}", path.display()),
                // A spare or one that was purged; or the only one, and then nothing says that there ever was a log.
                Ok(log) => {
                    let state = LogModel::read_back(&log).unwrap();
                    let is_only = is_first_and_last(&files, path);
                    assert!(state == expected || is_only, "seed {seed}: without {}", path.display());
                }
            }
        }
    }
    println!("{found} found");
    assert!(found > 50, "{found} found");
}

fn is_first_and_last(files: &[(PathBuf, usize)], path: &Path) -> bool {
    let is_segment = |path: &Path| path.to_str().unwrap().starts_with("/node/log/log-");
    is_segment(path) && files.iter().filter(|(other, _)| is_segment(other)).count() == 1
}

#[test]
fn a_shortened_segment_is_found() {
    let disk = killed_log(3);
    disk.open(Path::new(FIRST_SEGMENT)).unwrap().truncate(FIRST_RECORD as u64 + 20).unwrap();
    let error = open(&disk).unwrap_err();
    assert!(error.to_string().contains("expected a file of 8192 bytes, found its end"), "{error}");
}

#[test]
fn what_was_cut_off_never_comes_back() {
    // A record is one sector: a cut can take the first of a batch and leave those behind it.
    let sector = 512 - 32;
    let mut cut_off = 0;
    for seed in 0..300 {
        let disk = FaultDisk::new(seed);
        let log = open(&disk).unwrap();
        let lost = |index| Record { index: LogIndex(index), payload: Bytes::from(vec![0xaa; sector]) };
        log.append((0..4).map(lost).collect(), Box::new(|_| ()));
        // The write, then the cut in the middle of its sync.
        disk.arm(1, Fault::PowerCut);
        assert!(log.flush().is_err());
        drop(log);
        disk.restore_power();
        let log = open(&disk).unwrap();
        let kept = indices(&log).len() as u64;
        let behind = log.recovery().cut.as_ref().map_or(0, |cut| cut.records);
        cut_off += behind;
        // Fills the gap exactly: what lay behind it would be next.
        append_bytes(&log, kept, sector).unwrap();
        disk.kill_process();
        drop(log);
        disk.restore_power();
        assert_eq!(indices(&open(&disk).unwrap()), (0..=kept).collect::<Vec<_>>(), "seed {seed}");
    }
    assert!(cut_off > 0, "some cut left records behind a gap");
}

#[test]
fn a_failed_sync_is_final_and_what_it_lost_is_written_again() {
    let disk = killed_log(2);
    let log = open(&disk).unwrap();
    // The write goes through, its sync doesn't.
    disk.arm(1, Fault::Failure);
    let error = append(&log, 2).unwrap_err();
    assert_eq!(error.to_string(), "can't sync /node/log/log-00000000000000000001.seg: an injected failure");
    // The next sync would succeed, and that would mean nothing.
    assert_eq!(append(&log, 3), Err(error.clone()));
    assert_eq!(log.truncate_after(None), Err(error.clone()));
    assert_eq!(log.save_committed(Bytes::new()), Err(error.clone()));
    let purged = Purged { index: LogIndex(0), mark: Bytes::new() };
    assert_eq!(log.purge_through(purged), Err(error.clone()));
    assert_eq!(log.close(), Err(error));
    disk.kill_process();
    drop(log);
    disk.restore_power();
    // The kernel still shows the record. Once the log has said that it is there, no power cut may take it.
    let log = open(&disk).unwrap();
    assert_eq!(indices(&log), [0, 1, 2]);
    disk.cut_power();
    drop(log);
    disk.restore_power();
    assert_eq!(indices(&open(&disk).unwrap()), [0, 1, 2]);
}

#[test]
fn of_a_snapshot_is_found_wherever_it_is() {
    let (dir, disk) = (Path::new("/node/snapshots"), FaultDisk::new(1));
    let open_all = |disk: &FaultDisk| -> Result<Option<Vec<u8>>, StorageError> {
        let store = SnapshotFiles::open(Arc::new(disk.clone()), dir)?;
        let Some(mut reader) = store.open_newest()? else { return Ok(None) };
        let mut content = Vec::new();
        while let Some(chunk) = reader.next_chunk()? {
            content.extend_from_slice(&chunk);
        }
        Ok(Some(content))
    };
    let store = SnapshotFiles::open(Arc::new(disk.clone()), dir).unwrap();
    let meta = SnapshotMeta { index: LogIndex(9), meta: Bytes::from_static(b"members") };
    let mut writer = store.begin(meta).unwrap();
    writer.write(&[7; 500]).unwrap();
    writer.finish().unwrap();
    assert_eq!(open_all(&disk), Ok(Some(vec![7; 500])));
    let (path, length) = disk.files().pop().unwrap();
    for byte in 0..length {
        let copy = disk.fork();
        copy.flip_bit(&path, byte, (byte % 8) as u32).unwrap();
        assert!(matches!(open_all(&copy), Err(StorageError::Corrupt(_))), "byte {byte}");
    }
    let shorter = disk.fork();
    shorter.open(&path).unwrap().truncate(length as u64 - 1).unwrap();
    assert!(matches!(open_all(&shorter), Err(StorageError::Corrupt(_))));
}
