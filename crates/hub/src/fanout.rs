//! Who is woken when, so that a kill's way to ten thousand streams isn't stuck behind what doesn't press.
//!
//! New events are *released* in fan-outs. A fan-out goes once round all places and wakes whoever hasn't been given the
//! released events yet, a chunk at a time, so that other work (the answer to the kill's own caller) has its turn between.
//! Streams write when they are woken, all that is released, in one frame: what waited goes along with what presses, and
//! nobody is woken twice for it.
//!
//! A fan-out costs about the same whatever it carries, so background fan-outs keep a distance that grows with the number of
//! streams. Kills keep a much shorter one, from each other only, and turn a fan-out that is under way into theirs: who
//! hasn't been reached gets the kill now, who has is reached again before the circle ends. Everything that is released has
//! one target per fan-out, so streams that stand together get the same bytes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use haltline_core::{
    ids::EventSeq,
    limits::{HUB_BACKGROUND_PACE_NANOS, HUB_PACE_MAX, HUB_URGENT_PACE_NANOS, HUB_WAKE_CHUNK},
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

/// When fan-outs began.
#[derive(Debug, Clone, Copy, Default)]
struct Begun {
    any: Option<Instant>,
    urgent: Option<Instant>,
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
        let mut begun = Begun::default();
        let mut at = 0;
        while !stop.is_cancelled() {
            let due = self.due(begun);
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            if due.is_some_and(|due| due <= Instant::now()) {
                self.go_round(&mut begun, &mut at).await;
                continue;
            }
            tokio::select! {
                () = wait => {}
                () = self.more.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// When the next fan-out may begin; `None` if nothing waits.
    fn due(&self, begun: Begun) -> Option<Instant> {
        let urgency = self.waiting.lock().urgency?;
        let places = self.subscribers.places();
        Some(due(urgency, begun, places).unwrap_or_else(Instant::now))
    }

    async fn go_round(&self, begun: &mut Begun, at: &mut usize) {
        let mut left = self.release(begun);
        while left > 0 {
            let released = self.released();
            *at = self.subscribers.visit(*at, HUB_WAKE_CHUNK, |subscriber| {
                if subscriber.sent() < released {
                    subscriber.wake();
                }
            });
            left = left.saturating_sub(HUB_WAKE_CHUNK);
            tokio::task::yield_now().await;
            let urgent = self.waiting.lock().urgency == Some(Urgency::Kill);
            if urgent && self.due(*begun).is_some_and(|due| due <= Instant::now()) {
                left = self.release(begun);
            }
        }
    }

    /// Begins a fan-out of all that waits; returns how many places to go over.
    fn release(&self, begun: &mut Begun) -> usize {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        if waiting.urgency.is_some() {
            self.released.store(waiting.newest.0, Ordering::Release);
        }
        let now = Some(Instant::now());
        begun.any = now;
        if waiting.urgency == Some(Urgency::Kill) {
            begun.urgent = now;
        }
        self.passes.fetch_add(1, Ordering::Relaxed);
        // The circle may begin in the middle and ends with a chunk cut short, so one more is gone over.
        self.subscribers.places() + HUB_WAKE_CHUNK
    }
}

/// When what presses so much may go out; `None`: at once.
fn due(urgency: Urgency, begun: Begun, places: usize) -> Option<Instant> {
    let (since, pace) = match urgency {
        Urgency::Kill => (begun.urgent?, HUB_URGENT_PACE_NANOS),
        Urgency::Revocation | Urgency::Background => (begun.any?, HUB_BACKGROUND_PACE_NANOS),
    };
    let distance = Duration::from_nanos(pace.saturating_mul(places as u64));
    Some(since + distance.min(Duration::from_millis(HUB_PACE_MAX.0)))
}

#[cfg(test)]
#[path = "fanout_test.rs"]
mod tests;
