//! Times as people read them.

use std::time::{Duration, SystemTime};

use haltline_core::time::{ClusterTime, Millis, WallTime};

/// The first millisecond of the year 10000, from where on RFC 3339 has no form.
const YEAR_10000: WallTime = WallTime(253_402_300_800_000);

/// A moment by the leader's wall clock, to the second, in UTC.
pub(crate) fn wall(time: WallTime) -> String {
    match SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(time.0)) {
        Some(moment) if time < YEAR_10000 => humantime::format_rfc3339_seconds(moment).to_string(),
        // Nobody's clock is there; a node's may be wrong all the same.
        _ => format!("{} ms", time.0),
    }
}

/// A moment by a wall clock, to the millisecond, in UTC.
pub(crate) fn wall_millis(time: WallTime) -> String {
    match SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(time.0)) {
        Some(moment) if time < YEAR_10000 => humantime::format_rfc3339_millis(moment).to_string(),
        _ => format!("{} ms", time.0),
    }
}

/// A duration in at most two units, rounded down.
pub(crate) fn length(duration: Millis) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    let Some(position) = UNITS.iter().position(|(unit, _)| duration.0 >= *unit) else {
        return format!("{} ms", duration.0);
    };
    let (unit, name) = UNITS[position];
    let first = format!("{} {name}", duration.0 / unit);
    match UNITS.get(position + 1) {
        Some((next, next_name)) if duration.0 % unit >= *next => {
            format!("{first} {} {next_name}", duration.0 % unit / next)
        }
        _ => first,
    }
}

/// Seconds with as many decimals as it takes: bounds aren't rounded away.
pub(crate) fn exact(duration: Millis) -> String {
    let (seconds, millis) = (duration.0 / 1_000, duration.0 % 1_000);
    if millis == 0 {
        return duration.to_string();
    }
    let decimals = format!("{millis:03}");
    format!("{seconds}.{} s", decimals.trim_end_matches('0'))
}

/// How long from now until a moment in cluster time.
pub(crate) fn until(end: ClusterTime, now: ClusterTime) -> String {
    match end.since(now) {
        Millis(0) => "now".to_owned(),
        left => format!("in {}", length(left)),
    }
}

/// For how long something is kept.
pub(crate) fn kept(end: ClusterTime, now: ClusterTime) -> String {
    if end == ClusterTime::NEVER { "for good".to_owned() } else { length(end.since(now)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_two_units_at_most() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_500, "1 s"),
            (61_000, "1 min 1 s"),
            (3_600_000, "1 h"),
            (90_061_000, "1 d 1 h"),
        ] {
            assert_eq!(length(Millis(millis)), text);
        }
    }

    #[test]
    fn wall_time_is_utc_and_never_panics() {
        assert_eq!(wall(WallTime(1_700_000_000_123)), "2023-11-14T22:13:20Z");
        assert_eq!(wall_millis(WallTime(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
        assert!(wall(WallTime(u64::MAX)).ends_with("ms") && wall_millis(YEAR_10000).ends_with("ms"));
        assert_eq!(wall(WallTime(YEAR_10000.0 - 1)), "9999-12-31T23:59:59Z");
        assert!(wall(YEAR_10000).ends_with("ms"));
    }

    #[test]
    fn durations_keep_their_milliseconds() {
        let shown = [0, 1, 200, 1_000, 2_002, 2_010, 120_000].map(|millis| exact(Millis(millis)));
        assert_eq!(shown, ["0 ms", "0.001 s", "0.2 s", "1 s", "2.002 s", "2.01 s", "2 min"]);
    }

    #[test]
    fn ends_are_told_from_now() {
        assert_eq!(kept(ClusterTime::NEVER, ClusterTime(5)), "for good");
        assert_eq!(kept(ClusterTime(1_005), ClusterTime(5)), "1 s");
        assert_eq!(until(ClusterTime(5_000), ClusterTime(2_000)), "in 3 s");
        assert_eq!(until(ClusterTime(1), ClusterTime(2_000)), "now");
    }
}
