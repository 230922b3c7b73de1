//! What the edge hub has above it on a node: the applied log, the state, and read barriers over consensus.

use std::sync::{Arc, OnceLock};

use haltline_consensus::{AppliedEntry, AppliedPosition, Consensus, Entries, FeedError};
use haltline_core::{
    attest::{FreshStatement, SnapshotStatement},
    command::RevocationTarget,
    ids::{Digest, Incarnation, Nonce},
    path::FleetPath,
    state::KeyOwner,
    time::Millis,
};
use haltline_hub::{
    Admitted, Entry, Feed, FeedEnd, Origin, SignedView, Start, Statement, Upstream, UpstreamError,
};
use haltline_pki::{NodeIdentity, PeerIdentity, StatementSigner};
use haltline_wire::{refusal::Refusal, v1};
use sha2::{Digest as _, Sha256};

use crate::{refused::Refused, signing::Signing};

/// See the module.
pub(crate) struct NodeUpstream {
    consensus: Consensus,
    identity: NodeIdentity,
    signing: Arc<Signing>,
    /// Fixed by the founding entry; a restore from backup is another process.
    incarnation: OnceLock<Incarnation>,
}

impl NodeUpstream {
    pub(crate) fn new(consensus: Consensus, identity: NodeIdentity, signing: Arc<Signing>) -> Arc<Self> {
        Arc::new(Self { consensus, identity, signing, incarnation: OnceLock::new() })
    }

    /// The incarnation, once the founding entry is applied.
    fn incarnation(&self) -> Result<Incarnation, UpstreamError> {
        if let Some(incarnation) = self.incarnation.get() {
            return Ok(*incarnation);
        }
        let published = self.consensus.state();
        let cluster = published.state.cluster().ok_or_else(unfounded)?;
        Ok(*self.incarnation.get_or_init(|| cluster.incarnation))
    }

    fn sign_fresh(
        &self,
        signer: &StatementSigner,
        incarnation: Incarnation,
        at: AppliedPosition,
        root: Nonce,
    ) -> Statement {
        let statement = FreshStatement {
            cluster_id: self.identity.bundle().cluster(),
            incarnation,
            index: at.index,
            event_seq: at.chain.seq,
            chain_head: at.chain.head,
            cluster_time: at.stamp.cluster_time,
            root: Digest(root.0),
        };
        Statement {
            node: self.identity.id(),
            index: at.index,
            chain: at.chain,
            cluster_time: at.stamp.cluster_time,
            signature: signer.sign(&statement.to_bytes()),
            layers: Vec::new(),
        }
    }

    /// Encodes and signs the view as it is now. Takes as long as the view is large.
    fn signed_view(&self) -> Result<SignedView, UpstreamError> {
        let published = self.consensus.state();
        let state = &published.state;
        let cluster = state.cluster().ok_or_else(unfounded)?;
        let signer = self.signing.signer(state).map_err(|error| unavailable(error.to_string()))?;
        let body = state.view().encode();
        let (stamp, chain) = (state.last_stamp(), state.chain());
        let statement = SnapshotStatement {
            cluster_id: cluster.id,
            incarnation: cluster.incarnation,
            index: published.applied,
            event_seq: chain.seq,
            chain_head: chain.head,
            body_sha256: Digest(Sha256::digest(&body).into()),
            cluster_time: stamp.cluster_time,
            wall_time: stamp.wall_time,
        };
        let header = v1::ViewHeader {
            incarnation: statement.incarnation.0,
            index: statement.index.0,
            event_seq: statement.event_seq.0,
            chain_head: statement.chain_head.0.into(),
            cluster_time_ms: statement.cluster_time.0,
            wall_time_ms: statement.wall_time.0,
            body_sha256: statement.body_sha256.0.into(),
            body_bytes: body.len() as u64,
            node: self.identity.id().0,
            signature: signer.sign(&statement.to_bytes()).into(),
        };
        Ok(SignedView { header, body: body.into() })
    }
}

fn unfounded() -> UpstreamError {
    unavailable("the cluster isn't founded yet")
}

fn unavailable(reason: impl Into<String>) -> UpstreamError {
    UpstreamError::Unavailable { reason: reason.into() }
}

impl Upstream for NodeUpstream {
    type Feed = NodeFeed;

    fn origin(&self) -> Origin {
        Origin { cluster: self.identity.bundle().cluster(), node: self.identity.id() }
    }

    async fn follow(&self) -> Result<Start<NodeFeed>, UpstreamError> {
        let published = self.consensus.state();
        let cluster = published.state.cluster().ok_or_else(unfounded)?;
        Ok(Start {
            incarnation: cluster.incarnation,
            index: published.applied,
            chain: published.state.chain(),
            feed: NodeFeed(self.consensus.entries_after(published.applied)),
        })
    }

    async fn fresh(&self, root: Nonce) -> Result<Statement, UpstreamError> {
        self.consensus.read_barrier().await.map_err(|error| unavailable(error.to_string()))?;
        let signing = self.signing.position(&self.consensus);
        let (signer, at) = signing.map_err(|error| unavailable(error.to_string()))?;
        Ok(self.sign_fresh(&signer, self.incarnation()?, at, root))
    }

    async fn snapshot(&self) -> Result<SignedView, UpstreamError> {
        let source = Self {
            consensus: self.consensus.clone(),
            identity: self.identity.clone(),
            signing: Arc::clone(&self.signing),
            incarnation: OnceLock::new(),
        };
        let encoded = tokio::task::spawn_blocking(move || source.signed_view()).await;
        encoded.map_err(|_| UpstreamError::Stopping)?
    }

    fn admit(&self, peer: &PeerIdentity) -> Result<Admitted, Refusal> {
        let unregistered = || Refused::UnregisteredKey { subject: peer.subject.clone() }.refusal();
        let Some(KeyOwner::Edge(name)) = self.consensus.key_owners().get(&peer.key_hash).cloned() else {
            return Err(unregistered());
        };
        let published = self.consensus.state();
        if published.state.revocations().contains_key(&RevocationTarget::Key(peer.key_hash)) {
            return Err(unregistered());
        }
        let record = published.state.edges().get(&name).ok_or_else(unregistered)?;
        Ok(Admitted {
            name,
            kind: record.kind,
            trusted_for_acks: record.trusted_for_acks,
            paths: record.paths.clone(),
        })
    }

    fn staleness(&self, paths: &[Option<FleetPath>]) -> Millis {
        self.consensus.state().state.staleness_of_paths(paths)
    }
}

/// Applied entries as the hub takes them.
pub(crate) struct NodeFeed(Entries);

impl Feed for NodeFeed {
    async fn next(&mut self) -> Result<Entry, FeedEnd> {
        self.0.next().await.map(|entry| to_entry(&entry)).map_err(|error| to_end(&error))
    }

    fn try_next(&mut self) -> Result<Option<Entry>, FeedEnd> {
        let entry = self.0.try_next().map_err(|error| to_end(&error))?;
        Ok(entry.map(|entry| to_entry(&entry)))
    }
}

fn to_entry(entry: &AppliedEntry) -> Entry {
    Entry::new(entry.index, &entry.events, entry.chain)
}

const fn to_end(error: &FeedError) -> FeedEnd {
    match error {
        FeedError::FellBehind { .. } => FeedEnd::Jumped,
        FeedError::Stopping => FeedEnd::Stopping,
    }
}
