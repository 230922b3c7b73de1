//! How long to wait before the next round over all hubs.
//!
//! The wait is drawn evenly from zero to a ceiling that doubles with each failed round: ten thousand enforcers that lost
//! one hub at one moment must not come back at one moment.

use std::time::Duration;

/// Counts failed rounds. Pure: randomness is passed in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failed_rounds: u32,
}

impl Backoff {
    pub(crate) const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failed_rounds: 0 }
    }

    /// A hub served well: the next failure is a first one.
    pub(crate) const fn succeeded(&mut self) {
        self.failed_rounds = 0;
    }

    /// Every hub failed once more; how long to wait. `random` is even over all its values.
    pub(crate) fn failed(&mut self, random: u32) -> Duration {
        let doublings = self.failed_rounds.min(30);
        self.failed_rounds = self.failed_rounds.saturating_add(1);
        let ceiling = self.min.saturating_mul(1 << doublings).min(self.max);
        let nanos = ceiling.as_nanos() * u128::from(random) / u128::from(u32::MAX);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_its_bound_and_starts_over_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        let longest: Vec<_> = (0..9).map(|_| backoff.failed(u32::MAX).as_millis()).collect();
        assert_eq!(longest, [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        backoff.succeeded();
        assert_eq!(backoff.failed(u32::MAX), Duration::from_millis(50));
        assert_eq!(backoff.failed(0), Duration::ZERO);
        (0..100).for_each(|_| assert!(backoff.failed(u32::MAX / 2) <= Duration::from_secs(5)));
    }
}
