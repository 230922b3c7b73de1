//! The clocks of this machine, behind one trait, so that tests and the simulator can move them.
//!
//! Rules are judged by CLOCK_BOOTTIME only: it never steps and counts suspend. The wall clock is for people and may say
//! anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use haltline_core::time::{BootTime, Millis, WallTime};

/// What time it is on this machine.
pub trait Clock: Send + Sync + 'static {
    /// CLOCK_BOOTTIME in milliseconds.
    fn boot(&self) -> BootTime;
    /// Milliseconds since 1970-01-01 UTC, as far as this machine knows; 0 if it believes in an earlier year.
    fn wall(&self) -> WallTime;
}

/// The operating system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boot(&self) -> BootTime {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let millis = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
        BootTime(seconds.saturating_mul(1_000).saturating_add(millis))
    }

    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Clocks that stand still until they are moved. Clones share the hands.
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    hands: Arc<Hands>,
}

#[derive(Debug, Default)]
struct Hands {
    boot_ms: AtomicU64,
    wall_ms: AtomicU64,
}

impl ManualClock {
    /// Clocks that show these times.
    #[must_use]
    pub fn at(boot: BootTime, wall: WallTime) -> Self {
        let clock = Self::default();
        clock.hands.boot_ms.store(boot.0, Ordering::SeqCst);
        clock.set_wall(wall);
        clock
    }

    /// Lets both clocks run for so long.
    pub fn advance(&self, by: Millis) {
        self.hands.boot_ms.fetch_add(by.0, Ordering::SeqCst);
        self.hands.wall_ms.fetch_add(by.0, Ordering::SeqCst);
    }

    /// Steps the wall clock, as NTP or an operator may.
    pub fn set_wall(&self, wall: WallTime) {
        self.hands.wall_ms.store(wall.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn boot(&self) -> BootTime {
        BootTime(self.hands.boot_ms.load(Ordering::SeqCst))
    }

    fn wall(&self) -> WallTime {
        WallTime(self.hands.wall_ms.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_runs_and_knows_the_century() {
        let clock = SystemClock;
        let first = clock.boot();
        while clock.boot() == first {
            std::hint::spin_loop();
        }
        assert!(clock.boot() > first);
        assert!(clock.wall() > WallTime(1_600_000_000_000));
    }

    #[test]
    fn manual_clocks_share_their_hands() {
        let clock = ManualClock::at(BootTime(5), WallTime(7));
        let other = clock.clone();
        clock.advance(Millis(10));
        assert_eq!((other.boot(), other.wall()), (BootTime(15), WallTime(17)));
        other.set_wall(WallTime(1));
        assert_eq!((clock.boot(), clock.wall()), (BootTime(15), WallTime(1)));
    }
}
