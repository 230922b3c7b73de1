//! The newest stamp in the log and when this machine received it: what a leader anchors its clock to.
//!
//! Kept by the log adapter, because entries count from when they are received, not from when they are applied. After a
//! restart, a truncation or a snapshot the moment of receipt isn't known, and "now" stands in for it: later than the
//! truth, so cluster time loses a little and never gains.

use haltline_core::{
    LogIndex,
    time::{BootTime, ClusterTime, Stamp, TermClock},
};
use parking_lot::Mutex;

/// A stamp and its receipt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// The entry.
    pub(crate) index: LogIndex,
    /// Its cluster time.
    pub(crate) stamp: ClusterTime,
    /// When this machine received it.
    pub(crate) at: BootTime,
}

impl Received {
    /// The clock of a leader who takes office now. `applied` is the stamp of its state, which is the newest one known
    /// when a snapshot replaced the log.
    pub(crate) fn anchor(self, applied: Stamp, now: BootTime) -> TermClock {
        if applied.cluster_time > self.stamp {
            TermClock::anchored(applied.cluster_time, now)
        } else {
            TermClock::anchored(self.stamp, self.at)
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct TailStamp {
    newest: Mutex<Received>,
}

impl TailStamp {
    /// The newest stamp.
    pub(crate) fn newest(&self) -> Received {
        *self.newest.lock()
    }

    /// An entry with a stamp was appended, or found to be the last.
    pub(crate) fn set(&self, received: Received) {
        *self.newest.lock() = received;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_counts_from_the_receipt_of_the_newest_stamp() {
        let received = Received { index: LogIndex(9), stamp: ClusterTime(1_000), at: BootTime(50) };
        let applied = |time| Stamp { cluster_time: ClusterTime(time), ..Stamp::default() };
        assert_eq!(received.anchor(applied(1_000), BootTime(80)).peek(BootTime(80)), ClusterTime(1_030));
        assert_eq!(received.anchor(applied(900), BootTime(80)).peek(BootTime(80)), ClusterTime(1_030));
    }

    #[test]
    fn a_stamp_known_from_a_snapshot_only_counts_from_now() {
        let applied = Stamp { cluster_time: ClusterTime(5_000), ..Stamp::default() };
        let mut clock = Received::default().anchor(applied, BootTime(80));
        assert_eq!(clock.stamp(BootTime(90)), ClusterTime(5_010));
    }
}
