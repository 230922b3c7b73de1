//! How much one enforcer may ask for in how little time: a bucket that refills steadily (GCRA, as in ATM's traffic
//! contracts), which is one number and no timer.

use haltline_core::lease::{BootNanos, Nanos};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    interval: Nanos,
    burst: Nanos,
    /// When the bucket would be full again.
    full: BootNanos,
}

impl Allowance {
    /// One in each interval on average, and so many more at once.
    pub(crate) const fn new(interval: Nanos, burst: u64) -> Self {
        Self { interval, burst: Nanos(interval.0.saturating_mul(burst)), full: BootNanos(0) }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: BootNanos) -> bool {
        let full = self.full.max(now).plus(self.interval);
        let fits = full.since(now).0 <= self.burst.0.saturating_add(self.interval.0);
        if fits {
            self.full = full;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_an_interval() {
        let mut allowance = Allowance::new(Nanos(10), 3);
        let start = BootNanos(1_000);
        let passed = (0..10).filter(|_| allowance.take(start)).count();
        assert_eq!(passed, 4, "one, and three more at once");
        assert!(!allowance.take(start.plus(Nanos(9))));
        assert!(allowance.take(start.plus(Nanos(10))));
        assert!(!allowance.take(start.plus(Nanos(10))));
        let later = start.plus(Nanos(1_000));
        assert_eq!((0..10).filter(|_| allowance.take(later)).count(), 4);
    }
}
