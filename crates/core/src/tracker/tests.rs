//! The tracker case by case; [`reference`] runs it against a slow one.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::receipt::Fenced;

mod reference;

const L: Millis = Millis(1_000);
const MS: u64 = 1_000_000;

fn at(millis: u64) -> BootNanos {
    BootNanos(millis * MS)
}

fn drift() -> Drift {
    Drift::from_ppm(0).unwrap()
}

fn enforcer(name: &str, paths: &[&str], acks: Acks) -> Enforcer {
    let paths = paths.iter().map(|path| match *path {
        "" => None,
        path => Some(path.parse().unwrap()),
    });
    Enforcer { name: name.parse().unwrap(), paths: paths.collect(), acks }
}

fn edge(name: &str) -> Enforcer {
    enforcer(name, &[""], Acks::Count)
}

/// A tracker whose boot wait is over at 10 s.
fn tracker() -> Tracker {
    Tracker::new(BootNanos(0), drift())
}

fn everything(index: u64) -> WatchedKill {
    WatchedKill { index: LogIndex(index), selector: Selector::default(), max_staleness: L }
}

fn watch(tracker: &mut Tracker, index: u64, now: u64) -> WatchId {
    tracker.watch(everything(index), LogIndex(index), at(now)).unwrap()
}

fn cleared(acked: u64, fenced: &[(&str, FencedWhy)]) -> Clear {
    let fenced = fenced.iter().map(|(name, why)| Fenced { name: name.parse().unwrap(), why: *why });
    Clear::Cleared(Cleared { acked, fenced: fenced.collect() })
}

fn waiting(lagging: u64, acked: u64, until: u64) -> Clear {
    Clear::Waiting { lagging, acked, until: at(until) }
}

#[test]
fn acknowledgements_clear_a_kill_before_leases_end() {
    let mut tracker = tracker();
    for id in [1, 2] {
        tracker.open(StreamId(id), edge(&format!("edge-{id}")), at(10_000)).unwrap();
        tracker.granting(StreamId(id), LogIndex(5), L, at(10_000)).unwrap();
    }
    let kill = watch(&mut tracker, 6, 10_010);
    assert_eq!(tracker.clear(kill, at(10_010)), Ok(waiting(2, 0, 11_000)));
    tracker.acked(StreamId(1), LogIndex(6)).unwrap();
    tracker.acked(StreamId(2), LogIndex(5)).unwrap();
    assert_eq!(tracker.clear(kill, at(10_020)), Ok(waiting(1, 1, 11_000)));
    let lagging: Vec<_> = tracker.lagging(kill).map(|(name, until)| (name.as_str(), until)).collect();
    assert_eq!(lagging, [("edge-2", at(11_000))]);
    tracker.acked(StreamId(2), LogIndex(9)).unwrap();
    assert_eq!(tracker.clear(kill, at(10_030)), Ok(cleared(2, &[])));
}

#[test]
fn a_silent_stream_is_waited_out_and_named() {
    let mut tracker = tracker();
    tracker.open(StreamId(1), edge("a"), at(10_000)).unwrap();
    tracker.granting(StreamId(1), LogIndex(5), L, at(10_000)).unwrap();
    let kill = watch(&mut tracker, 6, 10_010);
    assert_eq!(tracker.clear(kill, BootNanos(11_000 * MS - 1)), Ok(waiting(1, 0, 11_000)));
    assert_eq!(tracker.clear(kill, at(11_000)), Ok(cleared(0, &[("a", FencedWhy::Silent)])));
}

#[test]
fn whose_lease_ended_before_isnt_named() {
    let mut tracker = tracker();
    tracker.open(StreamId(1), edge("a"), at(9_000)).unwrap();
    tracker.granting(StreamId(1), LogIndex(5), L, at(9_000)).unwrap();
    let kill = watch(&mut tracker, 6, 10_000);
    assert_eq!(tracker.clear(kill, at(10_000)), Ok(cleared(0, &[])));
}

#[test]
fn nothing_is_clear_before_the_boot_wait() {
    let mut tracker = Tracker::new(at(500), drift());
    let kill = watch(&mut tracker, 6, 600);
    assert_eq!(tracker.clear(kill, at(1_499)), Ok(waiting(0, 0, 1_500)));
    assert_eq!(tracker.clear(kill, at(1_500)), Ok(cleared(0, &[])));
    let mut tracker = Tracker::new(at(500), drift());
    tracker.open(StreamId(1), edge("a"), at(500)).unwrap();
    tracker.granting(StreamId(1), LogIndex(5), Millis(200), at(500)).unwrap();
    let kill = watch(&mut tracker, 6, 600);
    assert_eq!(tracker.clear(kill, at(600)), Ok(waiting(1, 0, 1_500)), "longer than its lease");
    assert_eq!(Tracker::new(at(500), drift()).settle(LogIndex(6), L, at(1_499)), None);
}

#[test]
fn a_closed_streams_lease_lives_on() {
    let mut tracker = tracker();
    tracker.open(StreamId(1), edge("a"), at(10_000)).unwrap();
    tracker.granting(StreamId(1), LogIndex(5), L, at(10_000)).unwrap();
    tracker.closed(StreamId(1), at(10_001));
    // The same enforcer comes back on another stream, and acknowledges there: that counts for that stream alone.
    tracker.open(StreamId(2), edge("a"), at(10_002)).unwrap();
    let kill = watch(&mut tracker, 6, 10_010);
    tracker.acked(StreamId(2), LogIndex(6)).unwrap();
    assert_eq!(tracker.clear(kill, at(10_999)), Ok(waiting(1, 0, 11_000)));
    assert_eq!(tracker.clear(kill, at(11_000)), Ok(cleared(0, &[("a", FencedWhy::Gone)])));
    assert_eq!(tracker.departed(), 1);
    tracker.closed(StreamId(2), at(11_001));
    assert_eq!(tracker.departed(), 0, "what ended is forgotten");
}

#[test]
fn a_stream_that_closes_during_the_wait_is_waited_out() {
    let mut tracker = tracker();
    tracker.open(StreamId(1), edge("a"), at(10_000)).unwrap();
    tracker.granting(StreamId(1), LogIndex(5), L, at(10_000)).unwrap();
    let kill = watch(&mut tracker, 6, 10_010);
    tracker.closed(StreamId(1), at(10_020));
    assert_eq!(tracker.clear(kill, at(10_999)), Ok(waiting(1, 0, 11_000)));
    // Looked at late, after it was forgotten.
    tracker.closed(StreamId(9), at(12_000));
    assert_eq!(tracker.clear(kill, at(12_000)), Ok(cleared(0, &[("a", FencedWhy::Gone)])));
}

#[test]
fn an_untrusted_relays_word_counts_for_nothing_and_fresher_leases_dont_prolong_the_wait() {
    let mut tracker = tracker();
    tracker.open(StreamId(1), enforcer("relay", &[""], Acks::DontCount), at(10_000)).unwrap();
    tracker.granting(StreamId(1), LogIndex(5), L, at(10_000)).unwrap();
    let kill = watch(&mut tracker, 6, 10_010);
    tracker.acked(StreamId(1), LogIndex(6)).unwrap();
    for now in [10_250, 10_500, 10_750] {
        tracker.granting(StreamId(1), LogIndex(6), L, at(now)).unwrap();
    }
    assert_eq!(tracker.clear(kill, at(10_999)), Ok(waiting(1, 0, 11_000)));
    assert_eq!(tracker.clear(kill, at(11_000)), Ok(cleared(0, &[("relay", FencedWhy::Untrusted)])));
}

#[test]
fn freshness_below_a_clear_kill_is_refused_ever_after() {
    let mut tracker = tracker();
    tracker.open(StreamId(1), edge("a"), at(10_000)).unwrap();
    let kill = watch(&mut tracker, 6, 10_000);
    tracker.granting(StreamId(1), LogIndex(5), L, at(10_000)).unwrap();
    assert_eq!(tracker.clear(kill, at(10_000)), Ok(waiting(1, 0, 11_000)), "a grant after the watch began");
    tracker.acked(StreamId(1), LogIndex(6)).unwrap();
    assert_eq!(tracker.clear(kill, at(10_001)), Ok(cleared(1, &[])));
    tracker.unwatch(kill);
    tracker.open(StreamId(2), edge("b"), at(10_002)).unwrap();
    let refused = tracker.granting(StreamId(2), LogIndex(5), L, at(10_002));
    assert_eq!(refused, Err(TrackerError::Superseded { index: LogIndex(5), floor: LogIndex(6) }));
    assert_eq!(tracker.granting(StreamId(2), LogIndex(6), L, at(10_002)), Ok(()));
    assert_eq!(tracker.clear(kill, at(10_002)), Err(TrackerError::UnknownWatch));
}

#[test]
fn a_stream_that_opens_and_is_granted_during_the_wait_counts() {
    let mut tracker = tracker();
    let kill = watch(&mut tracker, 6, 10_000);
    tracker.open(StreamId(1), enforcer("b", &["shop"], Acks::Count), at(10_001)).unwrap();
    tracker.granting(StreamId(1), LogIndex(5), L, at(10_001)).unwrap();
    assert_eq!(tracker.clear(kill, at(10_002)), Ok(waiting(1, 0, 11_000)), "no longer than the fence");
}

#[test]
fn who_serves_nothing_of_it_isnt_waited_for() {
    let mut tracker = tracker();
    tracker.open(StreamId(1), enforcer("shop", &["shop"], Acks::Count), at(10_000)).unwrap();
    tracker.open(StreamId(2), enforcer("bank", &["bank"], Acks::Count), at(10_000)).unwrap();
    for id in [1, 2] {
        tracker.granting(StreamId(id), LogIndex(5), L, at(10_000)).unwrap();
    }
    let kill =
        |fleet: &str| WatchedKill { selector: Selector::fleet(fleet.parse().unwrap()), ..everything(6) };
    let below = tracker.watch(kill("shop/tills"), LogIndex(6), at(10_010)).unwrap();
    assert_eq!(tracker.clear(below, at(10_010)), Ok(waiting(1, 0, 11_000)));
    let elsewhere = tracker.watch(kill("farm"), LogIndex(6), at(10_010)).unwrap();
    assert_eq!(tracker.clear(elsewhere, at(10_010)), Ok(cleared(0, &[])));
}

#[test]
fn a_long_lease_for_other_scopes_doesnt_prolong_a_kills_bound() {
    let mut tracker = tracker();
    tracker.open(StreamId(1), edge("a"), at(10_000)).unwrap();
    tracker.granting(StreamId(1), LogIndex(5), Millis(300_000), at(10_000)).unwrap();
    let kill = watch(&mut tracker, 6, 10_010);
    assert_eq!(tracker.clear(kill, at(10_999)), Ok(waiting(1, 0, 11_000)));
    assert!(matches!(tracker.clear(kill, at(11_000)), Ok(Clear::Cleared(_))));
}

#[test]
fn a_relay_acknowledges_what_all_below_it_have() {
    let mut tracker = tracker();
    assert_eq!(tracker.settle(LogIndex(9), L, at(10_000)), Some(LogIndex(9)));
    for id in [1, 2] {
        tracker.open(StreamId(id), edge(&format!("edge-{id}")), at(10_000)).unwrap();
        tracker.granting(StreamId(id), LogIndex(9), L, at(10_000)).unwrap();
    }
    tracker.acked(StreamId(1), LogIndex(12)).unwrap();
    assert_eq!(tracker.settle(LogIndex(12), L, at(10_100)), Some(LogIndex(9)));
    tracker.closed(StreamId(2), at(10_200));
    assert_eq!(tracker.settle(LogIndex(12), L, at(10_999)), Some(LogIndex(9)), "closed, not forgotten");
    assert_eq!(tracker.settle(LogIndex(12), L, at(11_000)), Some(LogIndex(12)));
    let refused = tracker.granting(StreamId(1), LogIndex(11), L, at(11_000));
    assert_eq!(refused, Err(TrackerError::Superseded { index: LogIndex(11), floor: LogIndex(12) }));
}

#[test]
fn a_relay_acknowledges_no_more_than_it_has() {
    let mut tracker = tracker();
    tracker.open(StreamId(1), edge("a"), at(10_000)).unwrap();
    tracker.granting(StreamId(1), LogIndex(9), L, at(10_000)).unwrap();
    // Another hub was ahead.
    tracker.acked(StreamId(1), LogIndex(20)).unwrap();
    assert_eq!(tracker.settle(LogIndex(12), L, at(10_100)), Some(LogIndex(12)));
}

#[test]
fn bounds_have_names() {
    let mut tracker = tracker();
    let early = tracker.watch(everything(6), LogIndex(5), at(0));
    assert_eq!(early, Err(TrackerError::NotApplied { wanted: LogIndex(6), applied: LogIndex(5) }));
    for _ in 0..TRACKED_KILLS_MAX {
        watch(&mut tracker, 6, 0);
    }
    let full = tracker.watch(everything(6), LogIndex(6), at(0));
    assert_eq!(full, Err(TrackerError::TooManyKills));
    for id in 0..TRACKED_STREAMS_MAX as u64 {
        tracker.open(StreamId(id), edge("a"), at(0)).unwrap();
    }
    assert_eq!(
        tracker.open(StreamId(0), edge("a"), at(0)),
        Err(TrackerError::StreamInUse { stream: StreamId(0) })
    );
    assert_eq!(tracker.open(StreamId(90_000), edge("a"), at(0)), Err(TrackerError::TooManyStreams));
    let unknown = TrackerError::UnknownStream { stream: StreamId(90_000) };
    assert_eq!(tracker.acked(StreamId(90_000), LogIndex(1)), Err(unknown.clone()));
    assert_eq!(tracker.granting(StreamId(90_000), LogIndex(1), L, at(0)), Err(unknown));
}

#[test]
fn many_streams_that_come_and_go_keep_one_record_a_name() {
    let mut tracker = tracker();
    for id in 0..1_000 {
        tracker.open(StreamId(id), edge("flapping"), at(id)).unwrap();
        tracker.granting(StreamId(id), LogIndex(id), L, at(id)).unwrap();
        tracker.closed(StreamId(id), at(id));
    }
    assert_eq!(tracker.departed(), 1);
    let kill = watch(&mut tracker, 1_000, 1_000);
    assert_eq!(tracker.clear(kill, at(1_500)), Ok(waiting(1, 0, 1_999)));
    assert_eq!(tracker.clear(kill, at(2_000)), Ok(cleared(0, &[("flapping", FencedWhy::Gone)])));
}
