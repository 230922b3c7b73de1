//! How a node takes part: who it is, who the founders are, and how patient it is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use haltline_core::{command::Genesis, ids::NodeId};
use haltline_pki::NodeIdentity;
use haltline_storage::{RaftLog, SnapshotStore};

use crate::{clock::Clock, error::StartError};

/// A node as the others reach it. Part of the replicated membership.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Member {
    /// Its name, for people.
    pub name: String,
    /// `host:port` of its Raft port.
    pub raft_address: String,
    /// `host:port` of its API port, for clients.
    pub api_address: String,
}

/// How long to wait for what. A profile fits a distance between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often the leader is heard of when nothing is written.
    pub heartbeat: Duration,
    /// Shortest random wait after a leader's lease has ended, before a node stands for election.
    pub election_min: Duration,
    /// Longest such wait; also the lease itself, during which nobody votes for anybody else.
    pub election_max: Duration,
    /// How long one peer may take to take in log entries, its disk included, before the attempt counts as failed.
    pub append: Duration,
    /// How long opening a connection to a peer may take.
    pub connect: Duration,
}

impl Timing {
    /// Nodes in one region, a few milliseconds apart. A dead leader is replaced in about a quarter of a second: its lease
    /// (`election_max`) after the last heartbeat, the shorter of the others' random waits, and two round trips. A live
    /// one may stall for `election_max + election_min` before anyone stands against it.
    pub const LAN: Self = Self {
        heartbeat: Duration::from_millis(40),
        election_min: Duration::from_millis(60),
        election_max: Duration::from_millis(115),
        append: Duration::from_millis(1_000),
        connect: Duration::from_millis(500),
    };

    /// Nodes in several regions, up to about 200 ms apart. A dead leader is replaced in two to three seconds.
    pub const WAN: Self = Self {
        heartbeat: Duration::from_millis(400),
        election_min: Duration::from_millis(800),
        election_max: Duration::from_millis(1_400),
        append: Duration::from_millis(4_000),
        connect: Duration::from_millis(3_000),
    };

    /// What a leader's sync may take, most of the time: longer, and each commit would cost more than an election's shortest
    /// wait.
    #[must_use]
    pub const fn slow_sync(&self) -> Duration {
        self.election_min
    }

    pub(crate) fn check(&self) -> Result<(), StartError> {
        let bad = |reason: &str| StartError::BadOption { what: "timing", reason: reason.into() };
        if self.heartbeat < Duration::from_millis(5) {
            return Err(bad("a heartbeat below 5 ms would leave no time for anything else"));
        }
        if self.election_min <= self.heartbeat || self.election_max <= self.election_min {
            return Err(bad("expected heartbeat < election_min < election_max"));
        }
        if self.append < self.heartbeat || self.connect.is_zero() {
            return Err(bad("append must be at least one heartbeat, and connect above zero"));
        }
        Ok(())
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::LAN
    }
}

/// When snapshots are taken and how much log is kept behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// A snapshot is taken after so many entries.
    pub entries: u64,
    /// Or after so many bytes of entries.
    pub bytes: u64,
    /// Entries kept behind a snapshot, so that a node that was away for a moment needs no snapshot.
    pub keep_entries: u64,
    /// But no more than so many bytes of them.
    pub keep_bytes: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { entries: 100_000, bytes: 256 << 20, keep_entries: 20_000, keep_bytes: 128 << 20 }
    }
}

/// What a node is started with.
pub struct Options {
    /// Its keys and certificates; its id is in there.
    pub identity: NodeIdentity,
    /// The socket on which other nodes are awaited, bound already so that a test may let the system choose the port.
    pub listener: std::net::TcpListener,
    /// The founding members, the same on every founding node. Empty for a node that joins later.
    pub founders: Vec<(NodeId, Member)>,
    /// The founding command, proposed by the first leader. `None` for a node that joins later.
    pub genesis: Option<Genesis>,
    /// Where this node reaches particular peers (`host:port`), if not where the membership says: behind an address
    /// translation, or through a fault proxy. Usually empty.
    pub routes: BTreeMap<NodeId, String>,
    /// Patience.
    pub timing: Timing,
    /// Snapshots.
    pub compaction: Compaction,
    /// The durable log.
    pub log: Arc<dyn RaftLog>,
    /// The snapshots.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_are_sound_and_nonsense_is_refused() {
        assert!(Timing::LAN.check().is_ok());
        assert!(Timing::WAN.check().is_ok());
        let hasty = Timing { election_min: Duration::from_millis(10), ..Timing::LAN };
        assert!(hasty.check().is_err());
        let inverted = Timing { election_max: Timing::LAN.election_min, ..Timing::LAN };
        assert!(inverted.check().is_err());
    }
}
