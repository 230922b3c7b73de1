//! The one clock that leases are measured on: CLOCK_BOOTTIME, which counts suspend and follows nobody's wall clock.
//!
//! What must stay true: a decision reads it once, after it has loaded the view and the lease.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use haltline_core::lease::BootNanos;
use rustix::time::{ClockId, clock_gettime};

/// A clock that never goes back. Decisions are compiled for one kind of clock, so that choosing costs nothing.
pub trait Clock: Send + Sync + 'static {
    /// Nanoseconds since the machine started, suspend included.
    fn now(&self) -> BootNanos;
}

/// This machine's CLOCK_BOOTTIME, read without a system call where the kernel allows it.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock;

impl Clock for BootClock {
    #[inline]
    fn now(&self) -> BootNanos {
        let time = clock_gettime(ClockId::Boottime);
        // Neither is negative, and the sum lasts for five centuries of uptime.
        BootNanos((time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64))
    }
}

/// A clock that stands until it is moved. For tests and simulations; copies share their hands.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows this.
    #[must_use]
    pub fn at(now: BootNanos) -> Self {
        Self(Arc::new(AtomicU64::new(now.0)))
    }

    /// Moves the hands; never back.
    pub fn set(&self, now: BootNanos) {
        self.0.fetch_max(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> BootNanos {
        BootNanos(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_runs_and_never_goes_back() {
        let first = BootClock.now();
        assert!(first.0 > 0);
        assert!(BootClock.now() >= first);
    }

    #[test]
    fn a_manual_clock_stands_until_it_is_moved_and_shares_its_hands() {
        let clock = ManualClock::at(BootNanos(5));
        let copy = clock.clone();
        assert_eq!(copy.now(), BootNanos(5));
        clock.set(BootNanos(9));
        clock.set(BootNanos(7));
        assert_eq!(copy.now(), BootNanos(9));
    }
}
