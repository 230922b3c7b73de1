//! What a hub needs from above: a feed of events, the whole view for those who are too far behind, and a source of
//! freshness. On a node that is consensus, on a relay it is another hub.

use std::future::Future;

use bytes::Bytes;
use haltline_core::{
    LogIndex,
    command::EnforcerKind,
    event::{ChainPosition, EnforcementEvent, event_bytes},
    ids::{ClusterId, EdgeName, Incarnation, NodeId, Nonce},
    path::FleetPath,
    time::{ClusterTime, Millis},
};
use haltline_pki::{PeerIdentity, SIGNATURE_BYTES};
use haltline_wire::{refusal::Refusal, v1};

/// Why there is nothing to be had from above now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// It is going away.
    #[error("the source above this hub is stopping")]
    Stopping,
    /// It can't answer now, and may later.
    #[error("the source above this hub can't answer: {reason}")]
    Unavailable {
        /// In words.
        reason: String,
    },
}

/// Why a feed ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedEnd {
    /// Entries are missing between the last one and the next: follow anew, from where the source stands now.
    #[error("the feed jumped; it begins anew")]
    Jumped,
    /// The source is going away.
    #[error("the feed ended, because its source is stopping")]
    Stopping,
}

/// The source of a hub.
pub trait Upstream: Send + Sync + 'static {
    /// Its feed.
    type Feed: Feed;

    /// Who speaks through this hub.
    fn origin(&self) -> Origin;

    /// Where the source stands now, and everything after that.
    fn follow(&self) -> impl Future<Output = Result<Start<Self::Feed>, UpstreamError>> + Send;

    /// A statement over `root` whose read barrier began after this was called.
    fn fresh(&self, root: Nonce) -> impl Future<Output = Result<Statement, UpstreamError>> + Send;

    /// The view with a node's signature, as new as is cheaply had.
    fn snapshot(&self) -> impl Future<Output = Result<SignedView, UpstreamError>> + Send;

    /// Whether the peer is a registered enforcer, and what is registered about it.
    ///
    /// # Errors
    /// What to tell the peer.
    fn admit(&self, peer: &PeerIdentity) -> Result<Admitted, Refusal>;

    /// The largest `max_staleness` that a lease over these paths may rest on (`None`: the whole tree).
    fn staleness(&self, paths: &[Option<FleetPath>]) -> Millis;
}

/// Entries from above, in the order of the log, none left out.
pub trait Feed: Send + 'static {
    /// The next entry, as soon as there is one. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Result<Entry, FeedEnd>> + Send;

    /// The next entry if there is one already.
    ///
    /// # Errors
    /// As [`Feed::next`].
    fn try_next(&mut self) -> Result<Option<Entry>, FeedEnd>;
}

/// Who speaks through a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node that enforcers are told of: on a relay, the one at the top.
    pub node: NodeId,
}

/// Where a feed begins.
#[derive(Debug)]
pub struct Start<F> {
    /// The incarnation of the cluster.
    pub incarnation: Incarnation,
    /// The log is applied up to here.
    pub index: LogIndex,
    /// The chain stands here.
    pub chain: ChainPosition,
    /// Everything after that.
    pub feed: F,
}

/// How much an entry presses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nothing is stopped by it.
    #[default]
    Background,
    /// It revokes.
    Revocation,
    /// It kills: before everything else.
    Kill,
}

/// What one entry of the log means to enforcers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log.
    pub index: LogIndex,
    /// Its events in the canonical encoding; often none.
    pub events: Vec<Bytes>,
    /// Where the chain stands after it.
    pub chain: ChainPosition,
    /// How much it presses.
    pub urgency: Urgency,
    /// The policy of some fleet changed, and with it perhaps a `max_staleness`.
    pub policy_changed: bool,
    /// Enforcers about which something else is registered now.
    pub edges_changed: Vec<EdgeName>,
}

impl Entry {
    /// An entry with these events, after which the chain stands at `chain`.
    #[must_use]
    pub fn new(index: LogIndex, events: &[EnforcementEvent], chain: ChainPosition) -> Self {
        let encoded = events.iter().map(|event| Bytes::from(event_bytes(event))).collect();
        let urgency = events.iter().map(urgency).max().unwrap_or_default();
        let mut entry =
            Self { index, events: encoded, chain, urgency, policy_changed: false, edges_changed: Vec::new() };
        for event in events {
            match event {
                EnforcementEvent::FleetSet { .. } | EnforcementEvent::FleetRemoved { .. } => {
                    entry.policy_changed = true;
                }
                EnforcementEvent::EdgeSet { edge, .. } | EnforcementEvent::EdgeRemoved { edge } => {
                    entry.edges_changed.push(edge.clone());
                }
                _ => {}
            }
        }
        entry
    }
}

const fn urgency(event: &EnforcementEvent) -> Urgency {
    match event {
        EnforcementEvent::KillSet { .. } => Urgency::Kill,
        EnforcementEvent::Revoked { .. } => Urgency::Revocation,
        _ => Urgency::Background,
    }
}

/// A node's word on how fresh the log up to an index is, over the root that was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Who signed.
    pub node: NodeId,
    /// The log is contained up to here.
    pub index: LogIndex,
    /// The chain at that index.
    pub chain: ChainPosition,
    /// The cluster time there.
    pub cluster_time: ClusterTime,
    /// The signature.
    pub signature: [u8; SIGNATURE_BYTES],
    /// From the asked root up to the signed one; empty on a node.
    pub layers: Vec<v1::ProofLayer>,
}

/// A view with a node's signature.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedView {
    /// What is signed, and by whom.
    pub header: v1::ViewHeader,
    /// The canonical encoding of the view.
    pub body: Bytes,
}

/// What is registered about an enforcer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its name.
    pub name: EdgeName,
    /// An enforcer that decides, or a relay to others.
    pub kind: EnforcerKind,
    /// Whether a relay's acknowledgements are believed.
    pub trusted_for_acks: bool,
    /// What it enforces for; `None` is the whole tree.
    pub paths: Vec<Option<FleetPath>>,
}
