//! A full disk: nothing is refused and nothing lost, what is urgent goes through in the reserve, and all goes on when
//! there is room.

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use haltline_core::LogIndex;
use haltline_storage::{
    Flusher, LogOptions, Purged, RaftLog, Record, Room, SegmentedLog, SnapshotFiles, SnapshotMeta,
    SnapshotStore, StorageError,
};
use haltline_testkit::disk::FaultDisk;

const DIR: &str = "/node/log";
const SEGMENT_BYTES: u32 = 16 * 1_024;
/// So large that a segment takes few.
const RECORD_BYTES: usize = 2_000;
const HANG: Duration = Duration::from_secs(60);

type Answer = Receiver<Result<(), StorageError>>;

fn open(disk: &FaultDisk, flusher: Flusher, low_water_bytes: u64) -> SegmentedLog {
    let options = LogOptions {
        segment_bytes: SEGMENT_BYTES,
        cache_bytes: 4_000,
        flusher,
        low_water_bytes,
        ..LogOptions::default()
    };
    SegmentedLog::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap()
}

fn record(index: u64) -> Record {
    Record { index: LogIndex(index), payload: Bytes::from(vec![index as u8; RECORD_BYTES]) }
}

fn append(log: &SegmentedLog, index: u64) -> Answer {
    let (sender, answer) = sync_channel(1);
    log.append(vec![record(index)], Box::new(move |result| sender.send(result).unwrap()));
    answer
}

fn append_urgent(log: &SegmentedLog, index: u64) -> Answer {
    let (sender, answer) = sync_channel(1);
    log.append_urgent(vec![record(index)], Box::new(move |result| sender.send(result).unwrap()));
    answer
}

fn vote(log: &SegmentedLog, vote: &'static [u8]) -> Answer {
    let (sender, answer) = sync_channel(1);
    log.save_vote(Bytes::from_static(vote), Box::new(move |result| sender.send(result).unwrap()));
    answer
}

fn indices(log: &SegmentedLog) -> Vec<u64> {
    let all = log.read(LogIndex(0)..LogIndex(u64::MAX), usize::MAX).unwrap();
    assert!(all.iter().all(|found| *found == record(found.index.0)));
    all.iter().map(|record| record.index.0).collect()
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + HANG;
    while !holds() {
        assert!(Instant::now() < until, "not within {HANG:?}: {what}");
        std::thread::yield_now();
    }
}

/// A log with its whole reserve, on a disk that is then full.
fn in_reserve(disk: &FaultDisk) -> SegmentedLog {
    let log = open(disk, Flusher::Thread, 0);
    append(&log, 0).recv().unwrap().unwrap();
    eventually("the reserve is there", || {
        let health = log.health();
        health.reserve_segments == health.reserve_segments_wanted && health.room == Room::Ample
    });
    disk.fill();
    log
}

/// Appends until one waits for room; how many were answered, and what is owed.
fn fill(log: &SegmentedLog, from: u64) -> (u64, Answer) {
    for index in from.. {
        let answer = append(log, index);
        loop {
            match answer.recv_timeout(Duration::from_millis(1)) {
                Ok(result) => break result.unwrap(),
                Err(_) if log.health().room == Room::Nothing => return (index, answer),
                Err(_) => {}
            }
        }
    }
    unreachable!("the disk is full")
}

#[test]
fn what_finds_no_room_waits_in_its_place_and_the_order_stays() {
    let disk = FaultDisk::new(1);
    let log = open(&disk, Flusher::Manual, 0);
    disk.limit_room(Some(1_000));
    let answers: Vec<Answer> = (0..20).map(|index| append(&log, index)).collect();
    let voted = vote(&log, b"seven");
    let error = log.flush().unwrap_err();
    assert_eq!(error.code(), "storage-disk-full");
    assert!(error.to_string().ends_with("the disk is full; free space on it"), "{error}");
    let done = answers.iter().take_while(|answer| answer.try_recv() == Ok(Ok(()))).count();
    assert!((1..20).contains(&done), "{done}: what was zeroed ahead can be written");
    assert!(answers[done + 1..].iter().all(|answer| answer.try_recv().is_err()), "no later one is answered");
    assert!(voted.try_recv().is_err(), "a vote doesn't overtake");
    assert_eq!(indices(&log), (0..20).collect::<Vec<_>>(), "readable all the same");
    assert_eq!(log.health().room, Room::Nothing);
    assert_eq!(log.flush().unwrap_err().code(), error.code(), "as often as it is tried");

    let copy = disk.fork();
    copy.cut_power();
    copy.restore_power();
    let found = indices(&open(&copy, Flusher::Manual, 0));
    assert!(found.len() >= done, "what was answered is there after a power cut: {found:?}");
    assert!(found.len() < 20, "and what wasn't could not be");

    disk.limit_room(None);
    log.flush().unwrap();
    assert!(answers[done..].iter().all(|answer| answer.try_recv() == Ok(Ok(()))));
    assert_eq!(voted.try_recv(), Ok(Ok(())));
    assert_eq!(log.health().room, Room::Ample);
    disk.cut_power();
    drop(log);
    disk.restore_power();
    let log = open(&disk, Flusher::Manual, 0);
    assert_eq!(indices(&log), (0..20).collect::<Vec<_>>());
    assert_eq!(log.vote(), Some(Bytes::from_static(b"seven")));
}

#[test]
fn the_last_of_the_reserve_is_for_what_is_urgent_and_what_came_before_it() {
    let disk = FaultDisk::new(2);
    let log = in_reserve(&disk);
    let (waiting, answer) = fill(&log, 1);
    assert!(waiting > 12, "the next segment and two of the reserve were used: {waiting}");
    assert_eq!(log.health().reserve_segments, 1);
    // A vote pulls through what was given before it.
    assert_eq!(vote(&log, b"eight").recv_timeout(HANG), Ok(Ok(())));
    assert_eq!(answer.try_recv(), Ok(Ok(())));
    assert_eq!(append_urgent(&log, waiting + 1).recv_timeout(HANG), Ok(Ok(())));
    eventually("nothing waits", || log.health().room == Room::Low);

    let (end, owed) = fill(&log, waiting + 2);
    let health = log.health();
    assert_eq!(health.reserve_segments, 0);
    assert!(health.waiting.is_some());
    disk.limit_room(None);
    assert_eq!(owed.recv_timeout(HANG), Ok(Ok(())));
    eventually("the reserve is whole again", || {
        let health = log.health();
        health.room == Room::Ample && health.reserve_segments == health.reserve_segments_wanted
    });
    assert_eq!(indices(&log), (0..=end).collect::<Vec<_>>());
    log.close().unwrap();
    drop(log);
    assert_eq!(indices(&open(&disk, Flusher::Thread, 0)), (0..=end).collect::<Vec<_>>());
}

#[test]
fn a_node_that_stops_while_its_log_waits_says_so_and_keeps_what_was_answered() {
    let disk = FaultDisk::new(3);
    let log = in_reserve(&disk);
    let (waiting, owed) = fill(&log, 1);
    let closed = log.close().unwrap_err();
    assert_eq!(closed.code(), "storage-disk-full");
    assert_eq!(owed.try_recv(), Ok(Err(closed)));
    drop(log);
    // A restart needs no room.
    let log = open(&disk, Flusher::Thread, 0);
    let found = indices(&log);
    assert!(found.len() as u64 >= waiting, "{found:?}");
    disk.limit_room(None);
    let next = found.len() as u64;
    assert_eq!(append(&log, next).recv_timeout(HANG), Ok(Ok(())));
}

#[test]
fn the_low_water_mark_is_told_before_anything_waits_and_does_not_flutter() {
    let disk = FaultDisk::new(4);
    let log = open(&disk, Flusher::Thread, 100_000);
    eventually("the reserve is there", || log.health().reserve_segments == 3);
    disk.limit_room(Some(99_000));
    eventually("it is low", || log.health().room == Room::Low);
    assert_eq!(log.health().free_bytes, Some(99_000));
    append(&log, 0).recv().unwrap().unwrap();
    disk.limit_room(Some(110_000));
    eventually("it has looked", || log.health().free_bytes == Some(110_000));
    assert_eq!(log.health().room, Room::Low, "a quarter more must be free");
    disk.limit_room(Some(126_000));
    eventually("there is room", || log.health().room == Room::Ample);
}

/// With the snapshot's room kept as well, a full disk can be lived with.
#[test]
fn snapshots_and_purges_keep_a_log_going_on_a_full_disk() {
    let disk = FaultDisk::new(5);
    let dir = Path::new("/node/snapshots");
    let store = SnapshotFiles::open_with_reserve(Arc::new(disk.clone()), dir, 8_000).unwrap();
    let save = |index: u64| {
        let meta = SnapshotMeta { index: LogIndex(index), meta: Bytes::from_static(b"members") };
        let mut writer = store.begin(meta).unwrap();
        writer.write(&[index as u8; 3_000]).unwrap();
        let mut sealed = writer.seal().unwrap();
        assert_eq!(sealed.next_chunk().unwrap().map(|chunk| chunk.len()), Some(3_000));
        drop(sealed);
        writer.finish().unwrap();
    };
    let log = in_reserve(&disk);
    let mut index = 1;
    for _ in 0..30 {
        for _ in 0..6 {
            assert_eq!(append(&log, index).recv_timeout(HANG), Ok(Ok(())));
            index += 1;
        }
        save(index - 2);
        log.purge_through(Purged { index: LogIndex(index - 2), mark: Bytes::from_static(b"mark") }).unwrap();
        store.keep_reserve();
    }
    assert_eq!(log.health().waiting, None);
    assert_eq!(indices(&log), [index - 1]);
    let kept = store.newest().unwrap();
    assert_eq!((kept.meta.index, kept.content_bytes), (LogIndex(index - 2), 3_000));
    drop((log, store));
    disk.cut_power();
    disk.restore_power();
    let store = SnapshotFiles::open_with_reserve(Arc::new(disk), dir, 8_000).unwrap();
    assert_eq!(store.newest().unwrap(), kept);
}

#[test]
fn syncs_are_timed() {
    let disk = FaultDisk::new(6);
    let log = open(&disk, Flusher::Thread, 0);
    append(&log, 0).recv().unwrap().unwrap();
    let before = log.health().syncs;
    assert!(before.count >= 1 && before.recent < Duration::from_secs(1), "{before:?}");
    disk.slow_down(Duration::from_millis(30));
    (1..12).for_each(|index| append(&log, index).recv().unwrap().unwrap());
    let after = log.health().syncs;
    assert!(after.recent >= Duration::from_millis(30), "{after:?}");
    assert!(after.count > before.count && after.total > before.total);
}
