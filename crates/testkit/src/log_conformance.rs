//! What every [`RaftLog`] must do, whatever it stands on.
//!
//! [`run`] takes a factory of places: each case gets a new, empty place and opens the log there as often as it likes.
//! Failures panic with what was expected, as tests do.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, mpsc};

use bytes::Bytes;
use haltline_core::{
    LogIndex,
    limits::{LOG_MARK_BYTES_MAX, LOG_RECORD_BYTES_MAX},
};
use haltline_storage::{Flushed, LogBounds, Purged, RaftLog, Record, StorageError};
use parking_lot::Mutex;

use crate::{
    log_model::{Action, LogModel, Workload, encode_committed},
    rng::Rng,
};

/// Opens the log of one place. The one opened before was dropped.
pub type Place = Box<dyn Fn() -> Box<dyn RaftLog>>;

/// A case and its name.
type Case = (&'static str, fn(&Place));

/// Everything from index 0 on.
const ALL: std::ops::Range<LogIndex> = LogIndex(0)..LogIndex(u64::MAX);

/// Runs every case, each on a new place, and returns how many there were.
pub fn run(factory: impl Fn() -> Place) -> usize {
    let cases: [Case; 17] = [
        ("begins empty", begins_empty),
        ("reads at once", reads_at_once),
        ("reads what fits, at least one", reads_what_fits),
        ("begins anywhere", begins_anywhere),
        ("refuses holes", refuses_holes),
        ("refuses what is too large", refuses_too_large),
        ("answers in order", answers_in_order),
        ("an empty append answers", empty_append_answers),
        ("truncates", truncates),
        ("truncates all", truncates_all),
        ("purges", purges),
        ("purges beyond the end", purges_beyond_the_end),
        ("keeps the vote", keeps_the_vote),
        ("keeps the committed mark", keeps_the_committed_mark),
        ("keeps all after many segments", keeps_all_after_many_segments),
        ("follows the model", follows_the_model),
        ("serves many threads", serves_many_threads),
    ];
    for (name, case) in cases {
        println!("log conformance: {name}");
        case(&factory());
    }
    cases.len()
}

fn record(index: u64) -> Record {
    Record { index: LogIndex(index), payload: Bytes::from(format!("entry {index}")) }
}

fn records(range: std::ops::Range<u64>) -> Vec<Record> {
    range.map(record).collect()
}

/// Runs a call that takes a `Flushed`, and waits for the answer.
fn wait(call: impl FnOnce(Flushed)) -> Result<(), StorageError> {
    let (sender, receiver) = mpsc::sync_channel(1_000);
    call(Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv().expect("every `Flushed` is called")
}

fn append(log: &dyn RaftLog, records: Vec<Record>) -> Result<(), StorageError> {
    wait(|flushed| log.append(records, flushed))
}

fn indices(log: &dyn RaftLog) -> Vec<u64> {
    log.read(ALL, usize::MAX).unwrap().iter().map(|entry| entry.index.0).collect()
}

fn purged(index: u64) -> Purged {
    Purged { index: LogIndex(index), mark: Bytes::from(format!("mark {index}")) }
}

/// Checks a log, then the same one opened again: first from memory, then from disk.
fn check_twice(log: Box<dyn RaftLog>, place: &Place, check: impl Fn(&dyn RaftLog)) {
    check(&*log);
    drop(log);
    check(&*place());
}

fn begins_empty(place: &Place) {
    for _ in 0..2 {
        let log = place();
        assert_eq!(log.bounds(), LogBounds::default());
        assert_eq!(log.bounds().next(), None);
        assert_eq!((log.vote(), log.committed()), (None, None));
        assert!(indices(&*log).is_empty());
    }
}

fn reads_at_once(place: &Place) {
    let log = place();
    let (sender, receiver) = mpsc::sync_channel(1_000);
    log.append(records(0..3), Box::new(move |result| sender.send(result).unwrap()));
    assert_eq!(log.read(ALL, usize::MAX).unwrap(), records(0..3), "whether it is flushed or not");
    assert_eq!(log.bounds().last, Some(LogIndex(2)));
    assert_eq!(receiver.recv().unwrap(), Ok(()));
    drop(log);
    let log = place();
    assert_eq!(log.read(ALL, usize::MAX).unwrap(), records(0..3));
    append(&*log, records(3..5)).unwrap();
    assert_eq!(log.read(LogIndex(2)..LogIndex(4), usize::MAX).unwrap(), records(2..4));
}

fn reads_what_fits(place: &Place) {
    let log = place();
    append(&*log, records(1..9)).unwrap();
    check_twice(log, place, |log| {
        let read = |from, to, bytes| -> Vec<u64> {
            let found = log.read(LogIndex(from)..LogIndex(to), bytes).unwrap();
            found.iter().map(|entry| entry.index.0).collect()
        };
        // Each payload has 7 bytes.
        assert_eq!(read(1, 9, 21), [1, 2, 3]);
        assert_eq!(read(1, 9, 27), [1, 2, 3]);
        assert_eq!(read(4, 9, 0), [4], "at least one");
        assert_eq!(read(0, 3, 100), [1, 2], "what lies outside is left out");
        assert_eq!(read(7, 99, 100), [7, 8]);
        assert!(read(9, 99, 100).is_empty());
        assert!(read(5, 5, 100).is_empty());
    });
}

fn begins_anywhere(place: &Place) {
    let log = place();
    append(&*log, records(5..7)).unwrap();
    assert_eq!(indices(&*log), [5, 6]);
    assert_eq!(log.bounds().next(), Some(LogIndex(7)));
    drop(log);
    assert_eq!(indices(&*place()), [5, 6]);
}

fn refuses_holes(place: &Place) {
    let log = place();
    append(&*log, records(1..3)).unwrap();
    let hole =
        |expected, got| Err(StorageError::NotContiguous { expected: LogIndex(expected), got: LogIndex(got) });
    assert_eq!(append(&*log, records(4..5)), hole(3, 4));
    assert_eq!(append(&*log, records(2..3)), hole(3, 2));
    assert_eq!(append(&*log, vec![record(3), record(5)]), hole(4, 5));
    assert_eq!(indices(&*log), [1, 2], "nothing of a refused append is taken");
    append(&*log, records(3..4)).unwrap();
    drop(log);
    assert_eq!(indices(&*place()), [1, 2, 3]);
}

fn refuses_too_large(place: &Place) {
    let log = place();
    let large = Record { index: LogIndex(1), payload: Bytes::from(vec![0; LOG_RECORD_BYTES_MAX + 1]) };
    assert!(matches!(append(&*log, vec![large]), Err(StorageError::TooLarge { what: "a record", .. })));
    let mark = Bytes::from(vec![0; LOG_MARK_BYTES_MAX + 1]);
    let vote = wait(|flushed| log.save_vote(mark.clone(), flushed));
    assert!(matches!(vote, Err(StorageError::TooLarge { .. })));
    assert!(matches!(log.save_committed(mark.clone()), Err(StorageError::TooLarge { .. })));
    let purged = Purged { index: LogIndex(1), mark };
    assert!(matches!(log.purge_through(purged), Err(StorageError::TooLarge { .. })));
    append(&*log, records(1..2)).unwrap();
    assert_eq!(log.vote(), None);
}

fn answers_in_order(place: &Place) {
    let log = place();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let note = |number: u64| -> Flushed {
        let answers = Arc::clone(&answers);
        Box::new(move |result| answers.lock().push((number, result.is_ok())))
    };
    for number in 0..60 {
        match number % 3 {
            0 => log.append(vec![record(number / 3)], note(number)),
            1 => log.save_vote(Bytes::from(format!("vote {number}")), note(number)),
            // A refused one comes in its turn too.
            _ => log.append(vec![record(1_000)], note(number)),
        }
    }
    append(&*log, records(20..21)).unwrap();
    let expected: Vec<_> = (0..60).map(|number| (number, number % 3 != 2)).collect();
    assert_eq!(*answers.lock(), expected);
}

fn empty_append_answers(place: &Place) {
    let log = place();
    append(&*log, Vec::new()).unwrap();
    append(&*log, records(1..2)).unwrap();
    append(&*log, Vec::new()).unwrap();
    assert_eq!(indices(&*log), [1]);
}

fn truncates(place: &Place) {
    let log = place();
    append(&*log, records(0..10)).unwrap();
    log.truncate_after(Some(LogIndex(20))).unwrap();
    log.truncate_after(Some(LogIndex(4))).unwrap();
    assert_eq!(indices(&*log), [0, 1, 2, 3, 4]);
    let replacement = Record { index: LogIndex(5), payload: Bytes::from_static(b"another term") };
    append(&*log, vec![replacement.clone()]).unwrap();
    check_twice(log, place, |log| {
        assert_eq!(log.read(LogIndex(5)..LogIndex(9), 1_000).unwrap(), std::slice::from_ref(&replacement));
        assert_eq!(log.bounds().last, Some(LogIndex(5)));
    });
}

fn truncates_all(place: &Place) {
    let log = place();
    append(&*log, records(3..6)).unwrap();
    log.truncate_after(None).unwrap();
    assert_eq!(log.bounds(), LogBounds::default());
    append(&*log, records(0..2)).unwrap();
    drop(log);
    let log = place();
    assert_eq!(indices(&*log), [0, 1]);
    log.purge_through(purged(0)).unwrap();
    log.truncate_after(None).unwrap();
    assert_eq!(log.bounds().next(), Some(LogIndex(1)), "a truncation doesn't reach behind the purge");
}

fn purges(place: &Place) {
    let log = place();
    append(&*log, records(0..10)).unwrap();
    log.purge_through(purged(3)).unwrap();
    log.purge_through(purged(2)).unwrap();
    assert_eq!(indices(&*log), [4, 5, 6, 7, 8, 9]);
    assert_eq!(log.bounds().purged, Some(purged(3)), "an older purge changes nothing");
    assert_eq!(log.read(LogIndex(0)..LogIndex(5), 100).unwrap(), records(4..5));
    append(&*log, records(10..11)).unwrap();
    drop(log);
    let log = place();
    assert_eq!(log.bounds(), LogBounds { purged: Some(purged(3)), last: Some(LogIndex(10)) });
    log.purge_through(purged(10)).unwrap();
    assert_eq!(log.bounds(), LogBounds { purged: Some(purged(10)), last: None });
    append(&*log, records(11..12)).unwrap();
    assert_eq!(indices(&*log), [11]);
}

fn purges_beyond_the_end(place: &Place) {
    let log = place();
    append(&*log, records(0..4)).unwrap();
    log.purge_through(purged(50)).unwrap();
    assert_eq!(log.bounds(), LogBounds { purged: Some(purged(50)), last: None });
    assert!(matches!(append(&*log, records(4..5)), Err(StorageError::NotContiguous { .. })));
    append(&*log, records(51..53)).unwrap();
    drop(log);
    let log = place();
    assert_eq!(log.bounds(), LogBounds { purged: Some(purged(50)), last: Some(LogIndex(52)) });
    assert_eq!(indices(&*log), [51, 52]);
}

fn keeps_the_vote(place: &Place) {
    let log = place();
    for vote in ["term 1", "term 2", "term 3"] {
        wait(|flushed| log.save_vote(Bytes::from(vote), flushed)).unwrap();
        assert_eq!(log.vote(), Some(Bytes::from(vote)));
    }
    append(&*log, records(0..2)).unwrap();
    drop(log);
    assert_eq!(place().vote(), Some(Bytes::from("term 3")));
}

fn keeps_the_committed_mark(place: &Place) {
    let log = place();
    append(&*log, records(0..2)).unwrap();
    for mark in ["0", "1"] {
        log.save_committed(Bytes::from(mark)).unwrap();
        assert_eq!(log.committed(), Some(Bytes::from(mark)));
    }
    // A clean stop, as dropping the log is, writes it.
    drop(log);
    assert_eq!(place().committed(), Some(Bytes::from("1")));
}

fn keeps_all_after_many_segments(place: &Place) {
    let large =
        |index: u64| Record { index: LogIndex(index), payload: Bytes::from(vec![index as u8; 3_000]) };
    let log = place();
    wait(|flushed| log.save_vote(Bytes::from("early"), flushed)).unwrap();
    for index in 0..60 {
        log.append(vec![large(index)], Box::new(|result| result.unwrap()));
    }
    append(&*log, vec![large(60)]).unwrap();
    let all: Vec<_> = (0..61).map(large).collect();
    assert_eq!(log.read(ALL, usize::MAX).unwrap(), all, "also what the cache has dropped");
    log.purge_through(purged(40)).unwrap();
    append(&*log, vec![large(61)]).unwrap();
    drop(log);
    let log = place();
    assert_eq!(log.vote(), Some(Bytes::from("early")), "although its segment is gone");
    assert_eq!(indices(&*log), (41..62).collect::<Vec<_>>());
    // Emptied segments come back into use.
    for index in 62..120 {
        append(&*log, vec![large(index)]).unwrap();
        log.purge_through(purged(index - 1)).unwrap();
    }
    drop(log);
    assert_eq!(place().read(ALL, usize::MAX).unwrap(), [large(119)]);
}

fn follows_the_model(place: &Place) {
    let mut workload = Workload::new(Rng::new(7), LogModel::default(), None, 1_000);
    let mut truncations = 0;
    for _ in 0..12 {
        let log = place();
        assert_eq!(LogModel::read_back(&*log).unwrap(), *workload.model());
        for _ in 0..40 {
            match workload.next_action() {
                Action::Append(records) => log.append(records, Box::new(|result| result.unwrap())),
                Action::Vote(vote) => log.save_vote(vote, Box::new(|result| result.unwrap())),
                Action::Purge(purged) => log.purge_through(purged).unwrap(),
                Action::Committed(index) => log.save_committed(encode_committed(index)).unwrap(),
                Action::Truncate(index) => {
                    truncations += 1;
                    log.truncate_after(index).unwrap();
                }
            }
            assert_eq!(LogModel::read_back(&*log).unwrap(), *workload.model(), "at once");
        }
    }
    assert!(truncations > 10, "the work truncates");
}

fn serves_many_threads(place: &Place) {
    let log = place();
    append(&*log, records(0..1)).unwrap();
    let (sender, receiver) = mpsc::sync_channel(1_000);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = LogIndex(0);
                while seen.0 < 400 {
                    let found = log.read(seen..LogIndex(u64::MAX), 10_000).unwrap();
                    assert!(found.iter().all(|entry| *entry == record(entry.index.0)));
                    assert_eq!(found.first().map(|entry| entry.index), Some(seen));
                    seen = found.last().unwrap().index;
                }
            });
        }
        for index in 1..=400 {
            let sender = sender.clone();
            log.append(
                records(index..index + 1),
                Box::new(move |result| sender.send((index, result)).unwrap()),
            );
        }
    });
    let answers: Vec<_> = receiver.iter().take(400).collect();
    assert!(answers.iter().zip(1..).all(|(answer, index)| *answer == (index, Ok(()))), "in order");
}
