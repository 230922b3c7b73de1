//! Why something that a hub said wasn't believed. Nothing refused ever permits: the enforcer turns to another hub and,
//! if its lease ends meanwhile, denies.

use haltline_core::{
    attest::AttestError,
    ids::{ClusterId, Digest, EdgeName, EventSeq, Incarnation, LogIndex, NodeId, Nonce, Version},
    limits::{BUNDLE_CHANGES_MAX, NODES_MAX},
    path::FleetPath,
};

/// Why a hub's word was refused. [`SyncRefusal::code`] is stable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncRefusal {
    /// A message out of form.
    #[error("`{field}` is malformed: {why}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// What came, and what was expected.
        why: String,
    },
    /// A message that has no place here.
    #[error("got a {got} where a {expected} was due")]
    OutOfTurn {
        /// What was due.
        expected: &'static str,
        /// What came.
        got: &'static str,
    },
    /// Another node serves than the one that was dialled.
    #[error("dialled node {expected}, but node {got} says that it serves")]
    WrongNode {
        /// The node that was dialled.
        expected: NodeId,
        /// The node that spoke.
        got: NodeId,
    },
    /// Another cluster.
    #[error("this enforcer belongs to cluster {expected}, the hub to cluster {got}")]
    OtherCluster {
        /// Ours.
        expected: ClusterId,
        /// The hub's.
        got: ClusterId,
    },
    /// The hub lives before a restore that this enforcer has seen.
    #[error(
        "incarnation {held} of the cluster was seen already, the hub is still in {got}; restart or replace that node"
    )]
    OlderIncarnation {
        /// The latest that was proven here.
        held: Incarnation,
        /// The hub's.
        got: Incarnation,
    },
    /// Events are missing.
    #[error("events from {expected} on are missing: the frame begins at {got}")]
    Gap {
        /// The position held.
        expected: EventSeq,
        /// Where the frame begins.
        got: EventSeq,
    },
    /// Events came twice.
    #[error("the frame begins at event {got}, but events up to {expected} are held already")]
    Overlap {
        /// The position held.
        expected: EventSeq,
        /// Where the frame begins.
        got: EventSeq,
    },
    /// The events aren't those that the frame's head is over.
    #[error(
        "after event {seq} the chain's head is {computed} by the events that came, {claimed} by the frame: one is tampered with"
    )]
    WrongHead {
        /// The last event.
        seq: EventSeq,
        /// By the events.
        computed: Digest,
        /// By the frame.
        claimed: Digest,
    },
    /// The log can't shrink.
    #[error("the log was at index {held} already and can't be at {got} now")]
    IndexBack {
        /// Where it was.
        held: LogIndex,
        /// What came.
        got: LogIndex,
    },
    /// An event that this version can't read.
    #[error("event {seq} can't be read ({why}); if the cluster was upgraded, upgrade this enforcer too")]
    UnreadableEvent {
        /// Which.
        seq: EventSeq,
        /// What the decoder said.
        why: String,
    },
    /// A Fresh for a probe that this process never sent on this stream, or that was answered already.
    #[error("a Fresh for the nonce {nonce}, which no waiting probe has: replayed, or for somebody else")]
    UnknownNonce {
        /// The nonce.
        nonce: Nonce,
    },
    /// A statement that isn't a trusted node's, or that doesn't fit what is held here.
    #[error(transparent)]
    Statement(#[from] AttestError),
    /// An answer that came by way of somebody who may not pass any on.
    #[error(
        "the answer came by way of {name}, which isn't registered as a relay, so nobody waits for what it passes on; turn \
         to another hub, or register it with `haltline edge token create --relay`"
    )]
    NoRelay {
        /// Whom a layer of the proof names.
        name: EdgeName,
    },
    /// An answer that came by way of a relay that is registered for less.
    #[error(
        "the answer for {name} came by way of {relay}, whose paths don't cover {}; whoever waits for the relay doesn't wait \
         for that: give the relay that path, or choose another hub",
        .path.as_ref().map_or("the whole tree", FleetPath::as_str)
    )]
    BeyondRelay {
        /// The relay.
        relay: EdgeName,
        /// Who hangs on it: this enforcer, or a relay on the way to it.
        name: EdgeName,
        /// What that one serves and the relay doesn't; `None` is the whole tree.
        path: Option<FleetPath>,
    },
    /// A snapshot that isn't what its header says.
    #[error("the snapshot is signed, but its content doesn't fit: {why}")]
    SnapshotContent {
        /// What doesn't fit.
        why: String,
    },
    /// A snapshot stream out of form.
    #[error("the snapshot's transfer is broken: {why}")]
    SnapshotTransfer {
        /// What came, and what was expected.
        why: String,
    },
    /// A change of the trusted keys with more endorsements than there can be.
    #[error("a change of the trust bundle with {got} endorsements; a cluster has at most {NODES_MAX} nodes")]
    BundleEndorsements {
        /// How many came.
        got: usize,
    },
    /// One change of the trusted keys too many.
    #[error(
        "the trust bundle changed {BUNDLE_CHANGES_MAX} times since this enforcer was enrolled; enrol it anew"
    )]
    BundleChanges,
    /// A snapshot under keys to which no proven way leads from those believed here.
    #[error(
        "version {held} of the trust bundle is believed here, the hub's is {got}, and nothing proves the way there: more than \
         {BUNDLE_CHANGES_MAX} changes lie between, or the cluster was restored with new keys; enrol this enforcer anew"
    )]
    BundleGap {
        /// The version up to which the changes are proven.
        held: Version,
        /// The hub's.
        got: Version,
    },
    /// The hub's log is behind what this enforcer holds.
    #[error("the hub is at index {hub}, behind the {held} that is held here")]
    HubBehind {
        /// What is held.
        held: LogIndex,
        /// The hub's.
        hub: LogIndex,
    },
    /// The decision engine stands elsewhere than the link thinks: a fault of this program, after which it begins anew.
    #[error("the view doesn't take it: {why}")]
    NotTaken {
        /// What the engine said.
        why: String,
    },
    /// Probes stay unanswered.
    #[error("no probe was answered for {waited_ms} ms")]
    Silent {
        /// Since the oldest unanswered probe was sent.
        waited_ms: u64,
    },
}

impl SyncRefusal {
    /// A stable word for the reason, as metrics, logs and status show it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "MALFORMED",
            Self::OutOfTurn { .. } => "OUT_OF_TURN",
            Self::WrongNode { .. } => "WRONG_NODE",
            Self::OtherCluster { .. } => "WRONG_CLUSTER",
            Self::OlderIncarnation { .. } => "OLDER_INCARNATION",
            Self::Gap { .. } => "GAP",
            Self::Overlap { .. } => "OVERLAP",
            Self::WrongHead { .. } => "WRONG_HEAD",
            Self::IndexBack { .. } => "INDEX_BACK",
            Self::UnreadableEvent { .. } => "UNREADABLE_EVENT",
            Self::UnknownNonce { .. } => "UNKNOWN_NONCE",
            Self::Statement(error) => error.code(),
            Self::NoRelay { .. } => "NO_RELAY",
            Self::BeyondRelay { .. } => "BEYOND_RELAY",
            Self::SnapshotContent { .. } => "SNAPSHOT_CONTENT",
            Self::SnapshotTransfer { .. } => "SNAPSHOT_TRANSFER",
            Self::BundleEndorsements { .. } => "BUNDLE_ENDORSEMENTS",
            Self::BundleChanges => "BUNDLE_CHANGES_FULL",
            Self::BundleGap { .. } => "BUNDLE_GAP",
            Self::HubBehind { .. } => "HUB_BEHIND",
            Self::NotTaken { .. } => "NOT_TAKEN",
            Self::Silent { .. } => "SILENT",
        }
    }

    /// Whether the hub must have lied or been damaged: what an operator should hear of at once. The rest comes with
    /// restarts, elections and upgrades.
    #[must_use]
    pub const fn is_suspicious(&self) -> bool {
        !matches!(
            self,
            Self::HubBehind { .. }
                | Self::Silent { .. }
                | Self::OlderIncarnation { .. }
                | Self::UnreadableEvent { .. }
                | Self::SnapshotTransfer { .. }
                | Self::BundleChanges
                | Self::BundleGap { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    /// Words between quotes behind an arrow: the codes, as these files write them.
    fn codes(source: &'static str) -> impl Iterator<Item = &'static str> {
        let quoted = source.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
        quoted.filter(|code| code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
    }

    #[test]
    fn every_code_is_explained() {
        let page = include_str!("../../../../docs/enforcer-refusals.md");
        let sources = [
            include_str!("refusal.rs"),
            include_str!("running.rs"),
            include_str!("../enrol.rs"),
            include_str!("../persist.rs"),
            include_str!("../../../core/src/attest/error.rs"),
        ];
        let all: Vec<_> = sources.into_iter().flat_map(codes).collect();
        assert!(all.len() > 40, "{all:?}");
        let missing: Vec<_> = all.iter().filter(|code| !page.contains(&format!("`{code}`"))).collect();
        assert!(missing.is_empty(), "docs/enforcer-refusals.md doesn't explain {missing:?}");
    }
}
