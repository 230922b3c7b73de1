//! Enforcement events: what the log means to an edge, and nothing more.
//!
//! Each event extends a hash chain, `head' = SHA-256(head ‖ domain ‖ canonical(event))`, so that every node computes the same
//! head from the same log and an edge can prove that it missed nothing. Events carry no reasons, people or contacts.
//! Like commands they only grow at the end: a golden test pins their bytes.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    command::{EnforcerKind, RevocationTarget, Signature, canonical},
    ids::{
        ClusterId, Digest, EdgeName, EventSeq, Incarnation, KeyHash, KillId, LogIndex, NodeId, PublicKey,
        Version,
    },
    path::{AgentPath, FleetPath},
    policy::{Intent, Limits},
    selector::Selector,
    state::Scope,
    text::Labels,
    time::ClusterTime,
};

/// One step from one enforcement view to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnforcementEvent {
    /// The chain begins.
    Founded {
        /// The cluster.
        cluster_id: ClusterId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// A node may sign statements with this key.
    NodeKeySet {
        /// The node.
        node: NodeId,
        /// Its key.
        key: PublicKey,
    },
    /// A kill is in force, or stops harder than before (a drain that ended).
    KillSet {
        /// The kill.
        kill: KillId,
        /// What it stops.
        selector: Selector,
        /// How.
        force: KillForce,
    },
    /// A kill is no longer in force.
    KillLifted {
        /// The kill.
        kill: KillId,
    },
    /// Something is revoked.
    Revoked {
        /// What.
        target: RevocationTarget,
        /// For [`RevocationTarget::Terminated`]: whose credentials, issued before which index.
        issued_before: Option<(Selector, LogIndex)>,
        /// Nothing that it could hit is valid after this.
        ends: ClusterTime,
    },
    /// A revocation has outlived all that it could hit.
    RevocationEnded {
        /// What.
        target: RevocationTarget,
    },
    /// A fleet has this policy now.
    FleetSet {
        /// The fleet.
        path: FleetPath,
        /// What decides.
        policy: FleetPolicy,
    },
    /// A fleet is gone.
    FleetRemoved {
        /// The fleet.
        path: FleetPath,
    },
    /// An agent is registered with these labels of its own.
    AgentSet {
        /// The agent.
        path: AgentPath,
        /// Its own labels.
        labels: Labels,
    },
    /// An agent is gone.
    AgentRemoved {
        /// The agent.
        path: AgentPath,
    },
    /// An enforcer is registered with this.
    EdgeSet {
        /// The enforcer.
        edge: EdgeName,
        /// What the others need to know of it.
        record: EdgePolicy,
    },
    /// An enforcer is gone, and its key is nobody's.
    EdgeRemoved {
        /// The enforcer.
        edge: EdgeName,
    },
    /// These are all the keys that sign statements from now on.
    TrustBundleSet(Box<TrustBundleChange>),
    /// A new incarnation began, out of a backup. A chain goes on in its own incarnation only, so enforcers meet what this
    /// did in a verified view and never the event itself.
    Restored {
        /// The incarnation.
        incarnation: Incarnation,
        /// The version of the bundle of its keys: the one before if they are the same ones, else the next.
        bundle_version: Version,
        /// All keys that sign statements from now on, in the order of the nodes.
        keys: Vec<(NodeId, PublicKey)>,
    },
}

/// How a kill acts on an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KillForce {
    /// No new sessions; those that run go on.
    Draining,
    /// Everything is denied.
    Denying,
}

/// The part of a fleet that deciding needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetPolicy {
    /// Its own labels.
    pub labels: Labels,
    /// Its own limits.
    pub limits: Limits,
    /// What it declared, without the purpose in words.
    pub intent: Intent,
}

/// What a registered enforcer is and may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgePolicy {
    /// What it is.
    pub kind: EnforcerKind,
    /// Its TLS key: what its authority hangs on.
    pub key: KeyHash,
    /// Subtrees that it is bound to, in order; `None` is the whole tree.
    pub paths: Vec<Scope>,
    /// Whether a relay's word that all below it have acknowledged counts.
    pub trusted_for_acks: bool,
    /// Whether it permits when it can't decide, so that no receipt bounds what it does.
    pub fails_open: bool,
}

/// A new bundle of the keys that sign statements, and who of the old one vouches for it (design 02, What is signed).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustBundleChange {
    /// Its version: the one before and one. A cluster is founded with version 1.
    pub version: Version,
    /// All its keys, in the order of the nodes.
    pub keys: Vec<(NodeId, PublicKey)>,
    /// Signatures over the [`crate::attest::BundleStatement`] by a majority of the keys of the bundle before.
    pub endorsements: Vec<(NodeId, Signature)>,
    /// The incarnation that the endorsements name.
    pub incarnation: Incarnation,
    /// Access tokens that a replaced key signed count if they end by then: no token that it could rightly have signed
    /// ends later.
    pub old_keys_until: ClusterTime,
}

/// The version of the bundle that a cluster is founded with.
pub const FIRST_BUNDLE: Version = Version(1);

/// The bytes of an event: what the chain hashes, and what travels to enforcers.
#[must_use]
pub fn event_bytes(event: &EnforcementEvent) -> Vec<u8> {
    canonical(event)
}

/// Why bytes are no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// They don't decode.
    #[error("these {got_bytes} bytes are no enforcement event: {why}")]
    Malformed {
        /// How many bytes there were.
        got_bytes: usize,
        /// What is wrong with them.
        why: postcard::Error,
    },
    /// More than an event.
    #[error("the event is followed by {got_bytes} bytes that don't belong to it")]
    TrailingBytes {
        /// How many.
        got_bytes: usize,
    },
}

/// Reads what [`event_bytes`] writes.
///
/// # Errors
/// Anything but the bytes of one event.
pub fn event_from_bytes(bytes: &[u8]) -> Result<EnforcementEvent, EventError> {
    let (event, rest) = postcard::take_from_bytes(bytes)
        .map_err(|why| EventError::Malformed { got_bytes: bytes.len(), why })?;
    match rest.len() {
        0 => Ok(event),
        got_bytes => Err(EventError::TrailingBytes { got_bytes }),
    }
}

/// A place on the chain of enforcement events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainPosition {
    /// How many events there are.
    pub seq: EventSeq,
    /// The hash over all of them.
    pub head: Digest,
}

impl Default for ChainPosition {
    fn default() -> Self {
        Self { seq: EventSeq(0), head: Digest([0; 32]) }
    }
}

impl ChainPosition {
    /// The position after one more event.
    #[must_use]
    pub fn after(&self, event: &EnforcementEvent) -> Self {
        self.after_bytes(&event_bytes(event))
    }

    /// The position after one more event, given as its [`event_bytes`].
    #[must_use]
    pub fn after_bytes(&self, event: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.head.0);
        hash.update(b"haltline/v1/event\0");
        hash.update(event);
        Self { seq: self.seq.next(), head: Digest(hash.finalize().into()) }
    }
}
