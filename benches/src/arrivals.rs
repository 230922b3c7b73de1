//! When each of many watchers heard of one event: counted as it comes, without a queue that could delay it.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::failure::Failure;

/// Nobody waits for an event that long.
const HOPELESS: Duration = Duration::from_secs(60);

/// The arrivals of the present round. One event a round; each watcher counts once.
#[derive(Debug)]
pub(crate) struct Arrivals {
    began: Instant,
    /// Nanoseconds from `began` for each watcher; 0: not in this round.
    at: Vec<AtomicU64>,
    count: AtomicUsize,
    all_here: Notify,
}

/// When the watchers of one round heard of its event, after it was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) median_ms: f64,
    pub(crate) last_ms: f64,
}

impl Arrivals {
    pub(crate) fn of(watchers: usize) -> Self {
        let at = (0..watchers).map(|_| AtomicU64::new(0)).collect();
        Self { began: Instant::now(), at, count: AtomicUsize::new(0), all_here: Notify::new() }
    }

    /// A new round begins; whoever arrives from now on counts.
    pub(crate) fn begin(&self) {
        self.count.store(0, Ordering::Release);
        self.at.iter().for_each(|at| at.store(0, Ordering::Release));
    }

    /// A watcher has heard of the event.
    pub(crate) fn arrived(&self, watcher: usize) {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if self.at[watcher].compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            && self.count.fetch_add(1, Ordering::AcqRel) + 1 == self.at.len()
        {
            self.all_here.notify_one();
        }
    }

    /// Waits until all have; their times from `sent` on.
    pub(crate) async fn all(&self, sent: Instant, system: &'static str) -> Result<Round, Failure> {
        let all = async {
            while self.count.load(Ordering::Acquire) < self.at.len() {
                self.all_here.notified().await;
            }
        };
        let none = |_| Failure::NotReady {
            system,
            expected: "heard by all watchers",
            waited_ms: HOPELESS.as_millis(),
            logs: None,
        };
        tokio::time::timeout(HOPELESS, all).await.map_err(none)?;
        let sent = sent.duration_since(self.began).as_secs_f64() * 1e3;
        let mut times: Vec<f64> =
            self.at.iter().map(|at| at.load(Ordering::Acquire) as f64 / 1e6 - sent).collect();
        times.sort_by(f64::total_cmp);
        let last_ms = times.last().copied().unwrap_or_default();
        Ok(Round { median_ms: times.get(times.len() / 2).copied().unwrap_or_default(), last_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_watcher_counts_once_and_the_last_one_ends_the_round() {
        let arrivals = Arrivals::of(3);
        for _ in 0..2 {
            arrivals.begin();
            let sent = Instant::now();
            [0, 1, 1, 2].into_iter().for_each(|watcher| arrivals.arrived(watcher));
            let round = arrivals.all(sent, "nobody").await.expect("all are here");
            assert!(round.median_ms <= round.last_ms && round.last_ms >= 0.0, "{round:?}");
        }
    }
}
