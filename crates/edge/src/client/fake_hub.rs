//! A hub that does what a test says: a log of events, real keys, real signatures, and ways to lie. And a witness in the
//! place of the decision engine.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::OnceLock;

use haltline_core::{
    attest::{BundleStatement, FreshStatement, SnapshotStatement},
    command::Signature,
    event::{ChainPosition, EnforcementEvent, KillForce, TrustBundleChange, event_bytes},
    ids::{ClusterId, Digest, EventSeq, Incarnation, KillId, LogIndex, NodeId, Nonce, PublicKey, Version},
    lease::{BootNanos, Lease},
    merkle::{self, MerkleTree},
    selector::Selector,
    time::{ClusterTime, Millis, WallTime},
    view::View,
};
use haltline_pki::{ClusterPki, NewNode, StatementSigner, TrustBundle};
use haltline_wire::v1;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::enforcement::Enforcement;
use crate::{
    enforce::{CoreOptions, EnforcerCore, FeedError, FreshLease, Positions, ViewBody},
    persist::StoredSnapshot,
};

/// The name of the enforcer under test.
pub(crate) const EDGE: &str = "edge-1";

/// A cluster of three nodes, made once: keys cost time.
pub(crate) fn cluster() -> &'static ClusterPki {
    static CLUSTER: OnceLock<ClusterPki> = OnceLock::new();
    let node = |id| NewNode { id: NodeId(id), hosts: vec!["localhost".into()] };
    CLUSTER.get_or_init(|| ClusterPki::create(&[node(1), node(2), node(3)]).unwrap())
}

pub(crate) fn bundle() -> TrustBundle {
    cluster().bundle().clone()
}

pub(crate) fn node_keys() -> Vec<(NodeId, PublicKey)> {
    bundle().nodes().iter().map(|(node, keys)| (*node, keys.signing_key)).collect()
}

/// Who signs, as whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signer<'a> {
    pub(crate) node: NodeId,
    pub(crate) key: &'a StatementSigner,
}

/// A node of the cluster as signer.
pub(crate) fn node(id: u64) -> Signer<'static> {
    let identity = cluster().nodes().iter().find(|node| node.id() == NodeId(id)).unwrap();
    Signer { node: NodeId(id), key: identity.signer() }
}

/// The hub's copy of the log.
#[derive(Debug, Clone)]
pub(crate) struct FakeHub {
    pub(crate) cluster: ClusterId,
    pub(crate) incarnation: Incarnation,
    pub(crate) index: LogIndex,
    pub(crate) view: View,
    /// Each event with the index of its entry and the chain after it.
    pub(crate) events: Vec<(LogIndex, EnforcementEvent, ChainPosition)>,
}

pub(crate) fn kill_set(kill: u64) -> EnforcementEvent {
    EnforcementEvent::KillSet { kill: KillId(kill), selector: Selector::default(), force: KillForce::Denying }
}

pub(crate) fn kill_lifted(kill: u64) -> EnforcementEvent {
    EnforcementEvent::KillLifted { kill: KillId(kill) }
}

impl FakeHub {
    /// A cluster that was founded in the first entry of its log.
    pub(crate) fn founded(incarnation: u64) -> Self {
        let (cluster, incarnation) = (bundle().cluster(), Incarnation(incarnation));
        let view = View::default();
        let mut hub = Self { cluster, incarnation, index: LogIndex(0), view, events: Vec::new() };
        hub.commit(&[EnforcementEvent::Founded { cluster_id: cluster, incarnation }]);
        hub
    }

    /// One more entry of the log.
    pub(crate) fn commit(&mut self, events: &[EnforcementEvent]) {
        self.index = self.index.next();
        for event in events {
            self.view.apply(event);
            self.events.push((self.index, event.clone(), self.view.position));
        }
    }

    pub(crate) fn position(&self) -> ChainPosition {
        self.view.position
    }

    pub(crate) fn welcome(&self) -> v1::HubMessage {
        hub_message(v1::hub_message::Message::Welcome(v1::Welcome {
            node: 1,
            cluster_id: self.cluster.0.to_vec(),
            incarnation: self.incarnation.0,
            index: self.index.0,
            probe_interval_ms_min: 20,
        }))
    }

    /// All events after a position, in one frame.
    pub(crate) fn frame_after(&self, seq: EventSeq) -> v1::Frame {
        let rest: Vec<_> = self.events.iter().filter(|(_, _, at)| at.seq > seq).collect();
        v1::Frame {
            index: self.index.0,
            first_event_seq: seq.0,
            events: rest.iter().map(|(_, event, _)| event_bytes(event).into()).collect(),
            chain_head: self.position().head.0.to_vec().into(),
            stops: true,
            ..v1::Frame::default()
        }
    }

    /// An honest answer to a probe, by a node whose log ends here; the probe is one of three of its barrier.
    pub(crate) fn fresh(&self, probe: &v1::Probe) -> v1::Fresh {
        self.fresh_by(node(1), probe, EDGE)
    }

    pub(crate) fn fresh_by(&self, signer: Signer<'_>, probe: &v1::Probe, name: &str) -> v1::Fresh {
        self.fresh_by_way_of(signer, probe, &[name])
    }

    /// An answer that went down through relays: names from the enforcer up, whose trees are as they ought to be.
    pub(crate) fn fresh_by_way_of(&self, signer: Signer<'_>, probe: &v1::Probe, names: &[&str]) -> v1::Fresh {
        let mut root = Digest(probe.nonce.as_slice().try_into().unwrap());
        let mut layers = Vec::new();
        for name in names {
            let others = [merkle::leaf(&Nonce([7; 32]), "edge-7"), merkle::leaf(&Nonce([8; 32]), "edge-8")];
            let leaf = merkle::leaf(&Nonce(root.0), name);
            let tree = MerkleTree::build(vec![others[0], leaf, others[1]]).unwrap();
            let path = tree.path(1).unwrap().concat_bytes();
            layers.push(v1::ProofLayer { name: (*name).into(), position: 1, leaves: 3, path });
            root = tree.root();
        }
        let position = self.position();
        let statement = FreshStatement {
            cluster_id: self.cluster,
            incarnation: self.incarnation,
            index: self.index,
            event_seq: position.seq,
            chain_head: position.head,
            cluster_time: ClusterTime(self.index.0 * 1_000),
            root,
        };
        v1::Fresh {
            nonce: probe.nonce.clone(),
            index: self.index.0,
            event_seq: position.seq.0,
            chain_head: position.head.0.to_vec(),
            cluster_time_ms: self.index.0 * 1_000,
            node: signer.node.0,
            signature: signer.key.sign(&statement.to_bytes()).to_vec(),
            layers,
        }
    }

    pub(crate) fn snapshot(&self) -> StoredSnapshot {
        self.snapshot_by(node(1))
    }

    pub(crate) fn snapshot_by(&self, signer: Signer<'_>) -> StoredSnapshot {
        let body = self.view.encode();
        let statement = SnapshotStatement {
            cluster_id: self.cluster,
            incarnation: self.incarnation,
            index: self.index,
            event_seq: self.position().seq,
            chain_head: self.position().head,
            body_sha256: Digest(Sha256::digest(&body).into()),
            cluster_time: ClusterTime(self.index.0 * 1_000),
            wall_time: WallTime(1),
        };
        let signature = Signature(signer.key.sign(&statement.to_bytes()));
        StoredSnapshot { statement, node: signer.node, signature, body }
    }
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for Vec<Digest> {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|digest| digest.0).collect()
    }
}

/// A change of the trusted keys, endorsed by these.
pub(crate) fn bundle_change(
    incarnation: u64,
    version: u64,
    keys: Vec<(NodeId, PublicKey)>,
    endorsers: &[Signer<'_>],
) -> TrustBundleChange {
    let statement = BundleStatement {
        cluster_id: bundle().cluster(),
        incarnation: Incarnation(incarnation),
        version: Version(version),
        keys: &keys,
    }
    .to_bytes();
    let endorse = |signer: &Signer<'_>| (signer.node, Signature(signer.key.sign(&statement)));
    let endorsements = endorsers.iter().map(endorse).collect();
    TrustBundleChange {
        version: Version(version),
        keys,
        endorsements,
        incarnation: Incarnation(incarnation),
        old_keys_until: ClusterTime(0),
    }
}

pub(crate) fn hub_message(message: v1::hub_message::Message) -> v1::HubMessage {
    v1::HubMessage { message: Some(message) }
}

/// What was done to decisions, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Act {
    Provisional(usize, LogIndex),
    Confirmed(LogIndex, EventSeq),
    Leased(FreshLease),
    Installed(LogIndex),
}

/// A decision engine that says what is done to it.
pub(crate) struct Witness {
    acts: Mutex<Vec<Act>>,
    /// The events taken in. A test that has a snapshot installed sets what is in it.
    pub(crate) events: Mutex<Vec<EnforcementEvent>>,
    engine: EnforcerCore,
}

impl Default for Witness {
    fn default() -> Self {
        let engine = EnforcerCore::new(CoreOptions::named(EDGE.parse().unwrap()));
        Self { acts: Mutex::default(), events: Mutex::default(), engine }
    }
}

impl Witness {
    /// What was done since the last look.
    pub(crate) fn take(&self) -> Vec<Act> {
        std::mem::take(&mut *self.acts.lock())
    }

    pub(crate) fn lease(&self) -> Option<Lease> {
        self.engine.lease()
    }

    pub(crate) fn positions(&self) -> Positions {
        self.engine.positions()
    }

    /// Whether the engine could permit anything under a staleness of two seconds.
    pub(crate) fn permits(&self, now: BootNanos) -> bool {
        self.lease().is_some_and(|lease| lease.permits(now, Millis(2_000), Millis(2_000)))
    }

    fn done(&self, act: Act, result: Result<(), FeedError>) -> Result<(), FeedError> {
        if result.is_ok() {
            self.acts.lock().push(act);
        }
        result
    }
}

impl Enforcement for Witness {
    fn apply_provisional(&self, events: &[EnforcementEvent], index: LogIndex) -> Result<(), FeedError> {
        let result = self.engine.apply_provisional(events, index);
        if result.is_ok() {
            self.events.lock().extend_from_slice(events);
        }
        self.done(Act::Provisional(events.len(), index), result)
    }

    fn confirm(&self, index: LogIndex, event_seq: EventSeq) -> Result<(), FeedError> {
        let result = self.engine.confirm(index, event_seq);
        self.done(Act::Confirmed(index, event_seq), result)
    }

    fn publish_lease(&self, lease: FreshLease) -> Result<(), FeedError> {
        let result = self.engine.publish_lease(lease);
        self.done(Act::Leased(lease), result)
    }

    fn install(&self, body: ViewBody, index: LogIndex) {
        self.engine.restore(body, index);
        self.acts.lock().push(Act::Installed(index));
    }

    fn smallest_staleness(&self) -> Millis {
        Millis(2_000)
    }
}

/// A snapshot as it travels, in chunks of this many bytes.
pub(crate) fn chunks(snapshot: &StoredSnapshot, chunk_bytes: usize) -> Vec<v1::ViewChunk> {
    let statement = &snapshot.statement;
    let header = v1::ViewHeader {
        incarnation: statement.incarnation.0,
        index: statement.index.0,
        event_seq: statement.event_seq.0,
        chain_head: statement.chain_head.0.to_vec(),
        cluster_time_ms: statement.cluster_time.0,
        wall_time_ms: statement.wall_time.0,
        body_sha256: statement.body_sha256.0.to_vec(),
        body_bytes: snapshot.body.len() as u64,
        node: snapshot.node.0,
        signature: snapshot.signature.0.to_vec(),
    };
    let compress = |part: &[u8]| lz4_flex::block::compress_prepend_size(part).into();
    let parts = snapshot.body.chunks(chunk_bytes);
    let mut chunks: Vec<_> = parts.map(|part| v1::ViewChunk { header: None, data: compress(part) }).collect();
    chunks[0].header = Some(header);
    chunks
}
