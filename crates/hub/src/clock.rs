//! CLOCK_BOOTTIME in nanoseconds: what leases and their fences are measured on (design 01, Time).

use haltline_core::lease::BootNanos;

/// Tells this machine's CLOCK_BOOTTIME.
pub trait BootClock: Send + Sync + 'static {
    /// A reading now.
    fn now(&self) -> BootNanos;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemBootClock;

impl BootClock for SystemBootClock {
    fn now(&self) -> BootNanos {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
        BootNanos(seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos.unwrap_or(0)))
    }
}
