//! Marks that never go back, and chains compared at the right event.

#![allow(clippy::unwrap_used)]
use super::*;

fn mark(incarnation: u64, index: u64, event_seq: u64, head: u8) -> HighWaterMark {
    HighWaterMark {
        incarnation: Incarnation(incarnation),
        index: LogIndex(index),
        event_seq: EventSeq(event_seq),
        head: Digest([head; 32]),
    }
}

fn position(seq: u64, head: u8) -> ChainPosition {
    ChainPosition { seq: EventSeq(seq), head: Digest([head; 32]) }
}

#[test]
fn a_mark_never_goes_back_and_never_forks() {
    let held = mark(1, 10, 4, 4);
    let code = |next| held.admits(&next).map_err(|error| error.code());
    assert_eq!(code(mark(1, 10, 4, 4)), Ok(()), "the same again");
    assert_eq!(code(mark(1, 12, 4, 4)), Ok(()), "entries without events");
    assert_eq!(code(mark(1, 12, 6, 9)), Ok(()));
    assert_eq!(code(mark(2, 3, 1, 1)), Ok(()), "after a restore");
    assert_eq!(code(mark(0, 99, 9, 9)), Err("WRONG_INCARNATION"));
    assert_eq!(code(mark(1, 9, 4, 4)), Err("BELOW_MARK"));
    assert_eq!(code(mark(1, 11, 4, 5)), Err("CHAIN_MISMATCH"), "another head after the same event");
    assert_eq!(code(mark(1, 11, 3, 3)), Err("CHAIN_MISMATCH"), "fewer events further on");
    assert_eq!(code(mark(1, 10, 5, 5)), Err("CHAIN_MISMATCH"), "more events at the same index");
    assert_eq!(HighWaterMark::default().admits(&held), Ok(()));
}

#[test]
fn heads_are_compared_at_the_statements_own_event_number() {
    let mut history = ChainHistory::starting_at(position(3, 3));
    history.push(position(4, 4)).unwrap();
    history.push(position(5, 5)).unwrap();
    let code = |position| history.check(position).map_err(|error| error.code());
    assert_eq!(code(position(4, 4)), Ok(()), "later events have arrived already");
    assert_eq!(code(position(5, 5)), Ok(()));
    assert_eq!(code(position(4, 5)), Err("CHAIN_MISMATCH"));
    assert_eq!(code(position(6, 6)), Err("CHAIN_AHEAD"));
    assert_eq!(code(position(2, 2)), Err("CHAIN_FORGOTTEN"));
    assert_eq!(history.newest(), position(5, 5));
    assert_eq!(history.push(position(7, 7)).unwrap_err().code(), "CHAIN_MISMATCH", "a gap");
}

#[test]
fn a_history_is_bounded_and_forgets_the_oldest() {
    let mut history = ChainHistory::starting_at(position(0, 0));
    for seq in 1..=CHAIN_HISTORY_MAX as u64 {
        history.push(position(seq, seq as u8)).unwrap();
    }
    assert_eq!(history.check(position(0, 0)).unwrap_err().code(), "CHAIN_FORGOTTEN");
    assert_eq!(history.check(position(1, 1)), Ok(()));
}
