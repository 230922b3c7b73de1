//! The clocks: all that safety rests on is their rate (design 02), so that is what is looked at.
//!
//! CLOCK_BOOTTIME, by which leases are judged, runs as CLOCK_MONOTONIC does but for suspend, and both are slewed by
//! whoever disciplines the wall clock. CLOCK_MONOTONIC_RAW isn't, so the difference is how hard they are being slewed.

use std::{fs, path::Path, thread, time::Duration};

use haltline_core::limits::{DOCTOR_CLOCK_SPAN, MAX_CLOCK_DRIFT_PPM};
use rustix::time::{ClockId, clock_gettime};

use super::Finding;

/// Which hardware the kernel reads the time from.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// Sources that cost a microsecond and more to read, on every decision.
const SLOW_SOURCES: [&str; 4] = ["hpet", "acpi_pm", "jiffies", "pit"];
/// What systemd-timesyncd leaves where it has synchronised.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// The three clocks are read one after another; of so many readings the one counts in between which least passed, because a
/// busy machine may put the thread aside at any moment.
const READINGS: usize = 100;

/// What the three clocks say, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Reading {
    boot: u64,
    monotonic: u64,
    raw: u64,
    /// What passed while they were read.
    blur: u64,
}

fn read() -> Reading {
    let nanos = |clock| {
        let time = clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
    };
    let once = || {
        let clocks = [ClockId::Boottime, ClockId::Monotonic, ClockId::MonotonicRaw, ClockId::Boottime];
        let [boot, monotonic, raw, end] = clocks.map(nanos);
        Reading { boot, monotonic, raw, blur: end.saturating_sub(boot) }
    };
    (1..READINGS).fold(once(), |best, _| {
        let reading = once();
        if reading.blur < best.blur { reading } else { best }
    })
}

/// Watches the clocks for a moment.
#[expect(clippy::disallowed_methods, reason = "on a thread for what blocks")]
pub(super) fn check() -> Vec<Finding> {
    let before = read();
    thread::sleep(Duration::from_millis(DOCTOR_CLOCK_SPAN.0));
    let after = read();
    let mut findings = vec![rate(before, after)];
    findings.extend(source());
    findings.push(synchronised());
    findings
}

fn rate(before: Reading, after: Reading) -> Finding {
    const SUBJECT: &str = "CLOCK_BOOTTIME";
    let [boot, monotonic, raw] = [
        after.boot.saturating_sub(before.boot),
        after.monotonic.saturating_sub(before.monotonic),
        after.raw.saturating_sub(before.raw),
    ];
    let blur = before.blur + after.blur;
    if boot.abs_diff(monotonic) > blur {
        let told = format!("ran {} µs apart from CLOCK_MONOTONIC", boot.abs_diff(monotonic) / 1_000);
        return Finding::warn("clock-rate", SUBJECT, told)
            .remedy("the machine was suspended meanwhile, or its clocks are broken: try again");
    }
    let apart = boot.abs_diff(raw).saturating_sub(blur);
    let ppm = apart.saturating_mul(1_000_000).checked_div(raw).unwrap_or(u64::MAX);
    if ppm > u64::from(MAX_CLOCK_DRIFT_PPM) {
        let told = format!("is being slewed by {ppm} ppm");
        Finding::fail("clock-rate", SUBJECT, told).remedy(format!(
            "at most {MAX_CLOCK_DRIFT_PPM} ppm, on which the bound of every kill rests: let it be slewed more slowly \
             (chrony: maxslewrate), or step it"
        ))
    } else {
        Finding::ok("clock-rate", SUBJECT, format!("runs evenly, within {MAX_CLOCK_DRIFT_PPM} ppm"))
    }
}

fn source() -> Option<Finding> {
    let source = fs::read_to_string(CLOCK_SOURCE).ok()?;
    let source = source.trim();
    Some(if SLOW_SOURCES.contains(&source) {
        Finding::warn("clock-source", source, "is slow to read, and every decision of an edge reads it")
            .remedy("tsc, kvm-clock or arch_sys_counter; the kernel's log says why it chose this one")
    } else {
        Finding::ok("clock-source", source, "is fast to read")
    })
}

/// For people only: nothing depends on it.
fn synchronised() -> Finding {
    let told = if Path::new(SYNCHRONISED).exists() {
        "is synchronised"
    } else {
        "isn't known to be synchronised; only the times that people read depend on it"
    };
    Finding::note("wall-clock", "CLOCK_REALTIME", told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    const SECOND: u64 = 1_000_000_000;

    fn judged(boot: u64, monotonic: u64, raw: u64) -> Level {
        let zero = Reading { boot: 5, monotonic: 5, raw: 5, blur: 100 };
        let reading = Reading { boot: 5 + boot, monotonic: 5 + monotonic, raw: 5 + raw, blur: 100 };
        rate(zero, reading).level
    }

    #[test]
    fn only_the_rate_counts() {
        assert_eq!(judged(SECOND, SECOND, SECOND), Level::Ok);
        assert_eq!(judged(SECOND, SECOND, SECOND - 500_000), Level::Ok, "500 ppm is what adjtime does");
        assert_eq!(judged(SECOND, SECOND, SECOND - 2_000_000), Level::Fail);
        assert_eq!(judged(2 * SECOND, SECOND, SECOND), Level::Warn, "suspended in between");
        assert_eq!(judged(0, 0, 0), Level::Fail, "clocks that stand still");
    }

    #[test]
    fn this_machines_clocks_can_be_watched() {
        assert!(check().len() >= 2);
    }
}
