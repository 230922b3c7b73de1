//! Who is woken when, so that a kill's way to ten thousand streams isn't stuck behind what doesn't press.
//!
//! New events are *released* in rounds. A round goes once over all places and wakes whoever hasn't been given the released
//! events yet, a chunk at a time, so that other work (the answer to the kill's own caller) has its turn between. Streams
//! write when they are woken, all that is released, in one frame: what waited goes along with what presses, and nobody is
//! woken twice for it. One round has one target, so streams that stand together get the same bytes.
//!
//! A round costs about the same whatever it carries. So what doesn't press has an allowance of wakes that fills up in
//! pauses: after one it goes out at full speed, under load it trickles evenly and leaves the cores to others. A kill turns
//! the round that is under way into its own, at full speed: who hasn't been reached gets the kill now, who has is reached
//! again before the circle ends. Kills keep a short distance from each other only.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use haltline_core::{
    ids::EventSeq,
    limits::{
        HUB_ACK_AFTER_MAX, HUB_ACK_AFTER_MIN, HUB_ACK_PACE_NANOS, HUB_BACKGROUND_PACE_NANOS, HUB_PACE_MAX,
        HUB_URGENT_PACE_NANOS, HUB_WAKE_CHUNK,
    },
    time::Millis,
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{subscribers::Subscribers, upstream::Urgency};

/// What waits to be released.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waiting {
    newest: EventSeq,
    /// The most pressing of what waits; `None` if nothing does.
    urgency: Option<Urgency>,
}

/// The round that is under way, and what it may do.
#[derive(Debug)]
struct Round {
    /// The place to go on from.
    at: usize,
    /// Places still to go over.
    left: usize,
    is_urgent: bool,
    /// When the last urgent round began.
    urgent: Option<Instant>,
    /// Wakes that may still be done for what doesn't press; less than none after a chunk too many.
    credit: i64,
    credited: Instant,
}

impl Round {
    fn new(now: Instant) -> Self {
        Self { at: 0, left: 0, is_urgent: false, urgent: None, credit: i64::MAX, credited: now }
    }

    /// When the next urgent round may begin; `None`: at once.
    fn urgent_due(&self, places: usize) -> Option<Instant> {
        let distance = Duration::from_nanos(HUB_URGENT_PACE_NANOS.saturating_mul(places as u64));
        self.urgent.map(|urgent| urgent + distance.min(Duration::from_millis(HUB_PACE_MAX.0)))
    }

    /// Adds what the time since the last look is worth, up to one whole round.
    fn earn(&mut self, now: Instant, places: usize) {
        let pace = pace_nanos(places);
        let since = u64::try_from(now.duration_since(self.credited).as_nanos()).unwrap_or(u64::MAX);
        let earned = since / pace;
        self.credited += Duration::from_nanos(earned.saturating_mul(pace));
        let full = i64::try_from(places).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_add(i64::try_from(earned).unwrap_or(i64::MAX)).min(full);
    }

    /// When there will be a wake to spend.
    fn credit_due(&self, places: usize) -> Instant {
        let missing = u64::try_from(1 - self.credit.min(0)).unwrap_or(1);
        self.credited + Duration::from_nanos(missing.saturating_mul(pace_nanos(places)))
    }
}

/// The distance of wakes for what doesn't press: a whole round never takes longer than the longest distance.
fn pace_nanos(places: usize) -> u64 {
    const MAX_NANOS: u64 = HUB_PACE_MAX.0 * 1_000_000;
    HUB_BACKGROUND_PACE_NANOS.min(MAX_NANOS / (places as u64).max(1)).max(1)
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Wake,
    Until(Instant),
    Idle,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Fanout {
    subscribers: Subscribers,
    /// Streams write up to here.
    released: AtomicU64,
    waiting: Mutex<Waiting>,
    more: Notify,
    passes: AtomicU64,
}

impl Fanout {
    pub(crate) const fn subscribers(&self) -> &Subscribers {
        &self.subscribers
    }

    pub(crate) fn released(&self) -> EventSeq {
        EventSeq(self.released.load(Ordering::Acquire))
    }

    /// How many fan-outs there were.
    pub(crate) fn passes(&self) -> u64 {
        self.passes.load(Ordering::Relaxed)
    }

    /// How long who gets a frame now should wait before acknowledging it: about as long as the others take to get theirs.
    pub(crate) fn ack_after(&self) -> Millis {
        let streams = self.subscribers.len() as u64;
        let after = Millis(streams.saturating_mul(HUB_ACK_PACE_NANOS) / 1_000_000);
        if after < HUB_ACK_AFTER_MIN { Millis(0) } else { after.min(HUB_ACK_AFTER_MAX) }
    }

    /// Events up to there are in the ring.
    pub(crate) fn announce(&self, newest: EventSeq, urgency: Urgency) {
        let mut waiting = self.waiting.lock();
        waiting.newest = newest;
        waiting.urgency = waiting.urgency.max(Some(urgency));
        drop(waiting);
        self.more.notify_one();
    }

    /// The ring begins anew at that position, which may be an earlier one: everybody looks.
    pub(crate) fn restart(&self, at: EventSeq) {
        *self.waiting.lock() = Waiting::default();
        self.released.store(at.0, Ordering::Release);
        self.wake_all();
    }

    pub(crate) fn wake_all(&self) {
        for subscriber in self.subscribers.all() {
            subscriber.wake();
        }
    }

    /// Runs until the hub stops.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut round = Round::new(Instant::now());
        while !stop.is_cancelled() {
            match self.step(&mut round, Instant::now()) {
                Step::Wake => {
                    self.wake_chunk(&mut round);
                    tokio::task::yield_now().await;
                }
                Step::Until(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.more.notified() => {}
                    () = stop.cancelled() => return,
                },
                Step::Idle => tokio::select! {
                    () = self.more.notified() => {}
                    () = stop.cancelled() => return,
                },
            }
        }
    }

    fn step(&self, round: &mut Round, now: Instant) -> Step {
        let places = self.subscribers.places();
        let waiting = self.waiting.lock().urgency;
        let urgent_due = match waiting {
            Some(Urgency::Kill) => match round.urgent_due(places).filter(|due| *due > now) {
                None => {
                    self.begin(round, true, now);
                    return Step::Wake;
                }
                due => due,
            },
            _ => None,
        };
        if round.left == 0 {
            match waiting {
                None => return Step::Idle,
                Some(Urgency::Kill) => return urgent_due.map_or(Step::Wake, Step::Until),
                Some(Urgency::Revocation | Urgency::Background) => self.begin(round, false, now),
            }
        }
        round.earn(now, places);
        if round.is_urgent || round.credit > 0 {
            return Step::Wake;
        }
        let due = round.credit_due(places);
        Step::Until(urgent_due.map_or(due, |urgent| urgent.min(due)))
    }

    /// Begins a round with all that waits.
    fn begin(&self, round: &mut Round, is_urgent: bool, now: Instant) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        self.released.store(waiting.newest.0, Ordering::Release);
        self.passes.fetch_add(1, Ordering::Relaxed);
        // Who comes meanwhile looks at what is released by itself.
        round.left = self.subscribers.places();
        round.is_urgent = is_urgent;
        if is_urgent {
            round.urgent = Some(now);
        }
    }

    fn wake_chunk(&self, round: &mut Round) {
        let released = self.released();
        let mut woken = 0;
        let (at, visited) = self.subscribers.visit(round.at, HUB_WAKE_CHUNK, |subscriber| {
            if subscriber.sent() < released {
                subscriber.wake();
                woken += 1;
            }
        });
        round.at = at;
        round.left = if visited == 0 { 0 } else { round.left.saturating_sub(visited) };
        if !round.is_urgent {
            round.credit = round.credit.saturating_sub(woken);
        }
    }
}

#[cfg(test)]
#[path = "fanout_test.rs"]
mod tests;
