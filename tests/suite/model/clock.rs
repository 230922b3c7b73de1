//! Time in the model: real time in ticks, and clocks that run too slow or too fast by exactly ρ.
//!
//! A tick is 110 µs of real time, 100 µs on the slowest clock that is allowed and 121 µs on the fastest; so with ρ = 10 %
//! every reading is a whole number of nanoseconds, and `L` of 100 ms is 1,000 ticks on a slow clock, or 121 ms on a fast
//! one: `L(1+ρ)²` to the nanosecond.

use haltline_core::{
    lease::{BootNanos, Drift, bound},
    time::Millis,
};

/// Real time.
pub(super) type Tick = u32;

/// ρ of the model: the largest that the code takes.
pub(super) const DRIFT_PPM: u32 = 100_000;
const TICK_NANOS: u64 = 110_000;
/// All machines were up for so long when the model begins.
const UPTIME_NANOS: u64 = 10_000_000_000;

/// A machine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Clock {
    Slow,
    Fast,
}

impl Clock {
    fn nanos_a_tick(self) -> u64 {
        match self {
            Self::Slow => 100_000,
            Self::Fast => 121_000,
        }
    }

    /// What it shows.
    pub(super) fn read(self, now: Tick) -> BootNanos {
        BootNanos(UPTIME_NANOS + u64::from(now) * self.nanos_a_tick())
    }

    /// The first tick at which it shows this or later.
    pub(super) fn tick_at(self, reading: BootNanos) -> Tick {
        let since = reading.0.saturating_sub(UPTIME_NANOS);
        since.div_ceil(self.nanos_a_tick()) as Tick
    }
}

/// ρ.
pub(super) fn drift() -> Drift {
    Drift::from_ppm(DRIFT_PPM).expect("the largest allowed")
}

/// `L(1+ρ)` in ticks of real time.
pub(super) fn bound_ticks(max_staleness: Millis) -> Tick {
    (bound(max_staleness, drift()).0 * 1_000_000).div_ceil(TICK_NANOS) as Tick
}
