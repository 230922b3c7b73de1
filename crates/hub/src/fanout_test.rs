//! Rounds over streams that nobody reads, with the time as an argument.

#![allow(clippy::unwrap_used, clippy::panic)]
use haltline_core::{lease::BootNanos, limits::HUB_STREAMS_MAX, tracker::StreamId};

use super::*;
use crate::{
    subscriber::Subscriber,
    test_hub::{admitted, peer},
};

/// A fan-out over streams that nobody reads.
struct Rounds {
    fanout: Fanout,
    subscribers: Vec<Arc<Subscriber>>,
    round: Round,
    now: Instant,
}

impl Rounds {
    fn over(streams: usize) -> Self {
        let fanout = Fanout::default();
        let mut subscribers = Vec::new();
        for number in 0..streams {
            let name = format!("edge-{}", number / 100);
            let stream = StreamId(number as u64);
            let subscriber = Subscriber::new(stream, admitted(&name), peer(&name), BootNanos(0));
            fanout.subscribers().add(&subscriber).unwrap();
            subscribers.push(subscriber);
        }
        let now = Instant::now();
        Self { fanout, subscribers, round: Round::new(now), now }
    }

    fn announce(&self, seq: u64, urgency: Urgency) {
        self.fanout.announce(EventSeq(seq), urgency);
    }

    /// Goes on while there is something to do now; returns how many streams were woken, which then write what is released.
    fn go(&mut self) -> usize {
        let mut chunks = 0;
        while self.fanout.step(&mut self.round, self.now) == Step::Wake {
            self.fanout.wake_chunk(&mut self.round);
            chunks += 1;
            assert!(chunks < 10_000, "a round ends");
        }
        self.write()
    }

    fn write(&self) -> usize {
        let released = self.fanout.released();
        let woken = self.subscribers.iter().filter(|stream| stream.take_wakes() > 0);
        woken.map(|stream| stream.set_sent(released)).count()
    }

    fn chunk(&mut self) -> usize {
        assert_eq!(self.fanout.step(&mut self.round, self.now), Step::Wake);
        self.fanout.wake_chunk(&mut self.round);
        self.write()
    }
}

#[test]
fn the_first_after_a_pause_reaches_everybody_at_once() {
    for urgency in [Urgency::Background, Urgency::Revocation, Urgency::Kill] {
        let mut rounds = Rounds::over(1_000);
        rounds.announce(1, urgency);
        assert_eq!(rounds.go(), 1_000, "{urgency:?}");
        assert_eq!(rounds.fanout.step(&mut rounds.round, rounds.now), Step::Idle);
    }
}

#[test]
fn under_load_what_doesnt_press_trickles_and_still_reaches_everybody() {
    let mut rounds = Rounds::over(1_000);
    rounds.announce(1, Urgency::Background);
    rounds.go();
    rounds.announce(2, Urgency::Revocation);
    assert_eq!(rounds.go(), 0, "the allowance is spent");
    let mut woken = 0;
    let mut steps = 0;
    while woken < 1_000 {
        rounds.now += Duration::from_millis(1);
        woken += rounds.go();
        steps += 1;
    }
    let expected = 1_000 * HUB_BACKGROUND_PACE_NANOS / 1_000_000;
    assert!(steps <= expected && steps + 8 >= expected, "{steps} ms for a thousand wakes");
    assert_eq!(rounds.fanout.released(), EventSeq(2));
}

#[test]
fn a_kill_takes_over_the_round_that_is_under_way() {
    let mut rounds = Rounds::over(1_000);
    rounds.announce(1, Urgency::Background);
    let before = rounds.chunk();
    assert_eq!(before, HUB_WAKE_CHUNK);
    rounds.announce(2, Urgency::Kill);
    // Everybody, once: those who were reached before are reached again at the end.
    assert_eq!(rounds.go(), 1_000);
    assert!(rounds.subscribers.iter().all(|stream| stream.sent() == EventSeq(2)));
}

#[test]
fn a_kill_waits_for_no_allowance_and_spends_none() {
    let mut rounds = Rounds::over(1_000);
    rounds.announce(1, Urgency::Background);
    rounds.go();
    rounds.announce(2, Urgency::Background);
    rounds.announce(3, Urgency::Kill);
    rounds.announce(4, Urgency::Background);
    assert_eq!(rounds.go(), 1_000);
    assert_eq!(rounds.fanout.released(), EventSeq(4), "what came along goes along");
}

#[test]
fn kills_in_quick_succession_share_a_round() {
    let mut rounds = Rounds::over(1_000);
    rounds.announce(1, Urgency::Kill);
    assert_eq!(rounds.go(), 1_000);
    rounds.announce(2, Urgency::Kill);
    rounds.announce(3, Urgency::Kill);
    let Step::Until(due) = rounds.fanout.step(&mut rounds.round, rounds.now) else { panic!("not at once") };
    assert_eq!(due - rounds.now, Duration::from_nanos(1_000 * HUB_URGENT_PACE_NANOS));
    rounds.now = due;
    assert_eq!(rounds.go(), 1_000);
    assert_eq!(rounds.fanout.released(), EventSeq(3));
}

#[test]
fn who_has_been_given_all_already_is_left_alone() {
    let mut rounds = Rounds::over(300);
    rounds.subscribers[..200].iter().for_each(|stream| stream.set_sent(EventSeq(5)));
    rounds.announce(5, Urgency::Kill);
    assert_eq!(rounds.go(), 100);
}

#[test]
fn a_round_has_a_longest_time_however_many_there_are() {
    assert_eq!(pace_nanos(100), HUB_BACKGROUND_PACE_NANOS);
    assert_eq!(pace_nanos(1_000_000), 500);
    assert_eq!(pace_nanos(0), HUB_BACKGROUND_PACE_NANOS);
    let mut round = Round::new(Instant::now());
    round.urgent = Some(round.credited);
    let distance = round.urgent_due(10_000_000).unwrap() - round.credited;
    assert_eq!(distance, Duration::from_millis(HUB_PACE_MAX.0));
}

#[test]
fn acknowledgements_are_asked_to_wait_as_long_as_a_fan_out_takes() {
    let waits = |streams| Rounds::over(streams).fanout.ack_after();
    assert_eq!(waits(0), Millis(0));
    assert_eq!(waits(100), Millis(0), "not for a moment");
    assert_eq!(waits(1_000), Millis(HUB_ACK_PACE_NANOS / 1_000));
    assert!(waits(1_000) >= HUB_ACK_AFTER_MIN && waits(HUB_STREAMS_MAX) <= HUB_ACK_AFTER_MAX);
}
