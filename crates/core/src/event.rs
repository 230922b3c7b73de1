//! Enforcement events: what the log means to an edge, and nothing more.
//!
//! Each event extends a hash chain, `head' = SHA-256(head ‖ domain ‖ canonical(event))`, so that every node computes the same
//! head from the same log and an edge can prove that it missed nothing. Events carry no reasons, people or contacts.
//! Like commands they only grow at the end: a golden test pins their bytes.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    command::{RevocationTarget, canonical},
    ids::{ClusterId, Digest, EventSeq, Incarnation, KillId, LogIndex, NodeId, PublicKey},
    path::{AgentPath, FleetPath},
    policy::{Intent, Limits},
    selector::Selector,
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
        let mut hash = Sha256::new();
        hash.update(self.head.0);
        hash.update(b"haltline/v1/event\0");
        hash.update(canonical(event));
        Self { seq: self.seq.next(), head: Digest(hash.finalize().into()) }
    }
}
