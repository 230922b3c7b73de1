//! How long syncs take: all of them as a histogram, and the recent ones as one figure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use haltline_core::limits::{LOG_SYNC_MEMORY, LOG_SYNCS_REMEMBERED};
use parking_lot::Mutex;

/// Upper bounds of the histogram's buckets, in microseconds: from a disk with a battery to one that is about to fail.
const BUCKETS_US: [u64; 16] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000,
];

/// How long the syncs of a log took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncReport {
    /// Upper bounds of the buckets, and how many syncs each holds that the one before doesn't. Longer ones are in none.
    pub buckets: Vec<(Duration, u64)>,
    /// Syncs since the log was opened.
    pub count: u64,
    /// The time of all of them.
    pub total: Duration,
    /// What nine of ten recent syncs didn't exceed, or the one that is running if it takes longer already. Zero if there was
    /// none recently.
    pub recent: Duration,
}

#[derive(Debug, Default)]
struct Times {
    buckets: [u64; BUCKETS_US.len()],
    count: u64,
    total: Duration,
    /// When each recent sync ended, and how long it took.
    recent: VecDeque<(Instant, Duration)>,
    running_since: Option<Instant>,
}

/// Keeps the times of one log's syncs.
#[derive(Debug, Default)]
pub(super) struct SyncTimes(Mutex<Times>);

impl SyncTimes {
    /// Times one sync.
    pub(super) fn time<T>(&self, sync: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        self.0.lock().running_since = Some(began);
        let outcome = sync();
        let ended = Instant::now();
        self.0.lock().add(ended, ended.duration_since(began));
        outcome
    }

    pub(super) fn report(&self) -> SyncReport {
        self.0.lock().report(Instant::now())
    }
}

impl Times {
    fn add(&mut self, ended: Instant, took: Duration) {
        self.running_since = None;
        if let Some(bucket) = BUCKETS_US.iter().position(|bound| took <= Duration::from_micros(*bound)) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.total += took;
        if self.recent.len() == LOG_SYNCS_REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((ended, took));
    }

    fn report(&self, now: Instant) -> SyncReport {
        let memory = Duration::from_millis(LOG_SYNC_MEMORY.0);
        let counts = |(ended, _): &&(Instant, Duration)| now.saturating_duration_since(*ended) <= memory;
        let mut recent: Vec<Duration> = self.recent.iter().filter(counts).map(|(_, took)| *took).collect();
        recent.sort_unstable();
        let high = recent.get((recent.len() * 9).div_ceil(10).saturating_sub(1)).copied().unwrap_or_default();
        let running = self.running_since.map(|since| now.saturating_duration_since(since));
        let bounds = BUCKETS_US.into_iter().map(Duration::from_micros);
        SyncReport {
            buckets: bounds.zip(self.buckets).collect(),
            count: self.count,
            total: self.total,
            recent: high.max(running.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recent_figure_forgets_outliers_and_the_past_and_sees_what_hangs() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut times = Times::default();
        for number in 0..20_u64 {
            times.add(start + ms(number), if number == 7 { ms(900) } else { ms(number) });
        }
        let report = times.report(start + ms(20));
        assert_eq!(report.recent, ms(18), "the ninth decile, so one slow sync alone is none");
        assert_eq!((report.count, report.buckets.iter().map(|(_, count)| count).sum()), (20, 20_u64));
        assert_eq!(report.buckets[3], (ms(1), 1));
        times.running_since = Some(start);
        assert_eq!(times.report(start + ms(700)).recent, ms(700), "it hasn't come back yet");
        times.running_since = None;
        assert_eq!(times.report(start + ms(LOG_SYNC_MEMORY.0 + 1_000)).recent, Duration::ZERO);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut times = Times::default();
        (0..10 * LOG_SYNCS_REMEMBERED).for_each(|_| times.add(Instant::now(), Duration::from_secs(60)));
        assert_eq!(times.recent.len(), LOG_SYNCS_REMEMBERED);
        assert!(times.buckets.iter().all(|count| *count == 0), "beyond the last bound");
    }
}
