//! Durations and the two times of the log.
//!
//! **Cluster time** is what every rule of the machine is judged by: it is stamped by the leader, never goes back, never
//! runs ahead of real time, and stands still while there is no leader. **Wall time** is stamped beside it for people.
//! Nothing in this crate reads a clock: time is always passed in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::LogIndex;

/// A duration in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Millis(pub u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{} {name}", self.0 / unit),
            None => write!(f, "{} ms", self.0),
        }
    }
}

/// Milliseconds of cluster time since the cluster was created (design 01, Time).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterTime(pub u64);

impl ClusterTime {
    /// Later than any time that will be reached.
    pub const NEVER: Self = Self(u64::MAX);

    /// This time and a duration later; saturates.
    #[must_use]
    pub const fn plus(self, duration: Millis) -> Self {
        Self(self.0.saturating_add(duration.0))
    }

    /// How long after `earlier` this is; zero if it isn't.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for ClusterTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// Milliseconds since 1970-01-01 UTC, by the leader's wall clock. For people and audit; no rule depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallTime(pub u64);

/// When and where in the log something happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// The entry's index.
    pub index: LogIndex,
    /// Cluster time of the entry.
    pub cluster_time: ClusterTime,
    /// The leader's wall clock.
    pub wall_time: WallTime,
}

/// What a leader's clock was anchored to when it took office, and the stamps it issues from there.
///
/// A stamp is `max(last stamp issued, anchor + elapsed)`: anchored once per term, so that the latency of commits is
/// never lost (anchoring anew at each apply would stop time under load), and monotonic whatever the clock does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TermClock {
    anchor: ClusterTime,
    anchored_at: BootTime,
    last: ClusterTime,
}

/// A reading of this machine's CLOCK_BOOTTIME in milliseconds: monotonic, counts suspend, meaningless elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(pub u64);

impl TermClock {
    /// Anchors to the stamp of the last entry in the log, received at `received_at` (after a restart: now).
    #[must_use]
    pub const fn anchored(last_stamp: ClusterTime, received_at: BootTime) -> Self {
        Self { anchor: last_stamp, anchored_at: received_at, last: last_stamp }
    }

    /// The stamp for a batch that closes at `now`. Never below an earlier one.
    pub fn stamp(&mut self, now: BootTime) -> ClusterTime {
        self.last = self.last.max(self.peek(now));
        self.last
    }

    /// What [`Self::stamp`] would answer, without issuing it.
    #[must_use]
    pub fn peek(&self, now: BootTime) -> ClusterTime {
        self.last.max(self.anchor.plus(Millis(now.0.saturating_sub(self.anchored_at.0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (millis, text) in
            [(200, "200 ms"), (1_500, "1500 ms"), (2_000, "2 s"), (300_000, "5 min"), (0, "0 ms")]
        {
            assert_eq!(Millis(millis).to_string(), text);
        }
    }

    #[test]
    fn ten_seconds_of_back_to_back_commits_take_ten_seconds_of_cluster_time() {
        let start = ClusterTime(5_000);
        let mut clock = TermClock::anchored(start, BootTime(70));
        let mut last = start;
        for now in 71..=10_070 {
            let stamp = clock.stamp(BootTime(now));
            assert!(stamp >= last);
            last = stamp;
        }
        assert_eq!(last.since(start), Millis(10_000));
    }

    #[test]
    fn a_clock_that_goes_back_stops_cluster_time_and_never_reverses_it() {
        let mut clock = TermClock::anchored(ClusterTime(100), BootTime(1_000));
        assert_eq!(clock.stamp(BootTime(1_500)), ClusterTime(600));
        assert_eq!(clock.stamp(BootTime(200)), ClusterTime(600));
        assert_eq!(clock.stamp(BootTime(1_600)), ClusterTime(700));
    }
}
