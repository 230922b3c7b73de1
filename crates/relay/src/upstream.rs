//! What the hub has above it on a relay: another hub, by way of the link.

use std::{sync::Arc, time::Duration};

use haltline_core::{
    ids::{ClusterId, Nonce},
    limits::{RELAY_PROBE_TIMEOUT, RELAY_SNAPSHOT_TIMEOUT},
    path::FleetPath,
    time::Millis,
};
use haltline_edge::client::{StoredSnapshot, Wish};
use haltline_hub::{Admitted, Origin, SignedView, Start, Statement, Upstream, UpstreamError};
use haltline_pki::PeerIdentity;
use haltline_wire::{refusal::Refusal, v1};
use tokio::sync::{mpsc, oneshot};

use crate::view::{RelayFeed, RelayView};

/// See the module.
#[derive(Debug)]
pub(crate) struct RelayUpstream {
    cluster: ClusterId,
    view: Arc<RelayView>,
    wishes: mpsc::Sender<Wish>,
}

impl RelayUpstream {
    pub(crate) fn new(cluster: ClusterId, view: Arc<RelayView>, wishes: mpsc::Sender<Wish>) -> Self {
        Self { cluster, view, wishes }
    }

    fn wish(&self, wish: Wish) -> Result<(), UpstreamError> {
        self.wishes.try_send(wish).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => unavailable("the link above doesn't keep up"),
            mpsc::error::TrySendError::Closed(_) => UpstreamError::Stopping,
        })
    }
}

fn unavailable(reason: &str) -> UpstreamError {
    UpstreamError::Unavailable { reason: reason.into() }
}

/// Waits for something that was wished for.
async fn granted<T>(wished: oneshot::Receiver<T>, patience: Millis) -> Result<T, UpstreamError> {
    match tokio::time::timeout(Duration::from_millis(patience.0), wished).await {
        Ok(Ok(granted)) => Ok(granted),
        Ok(Err(_)) => Err(unavailable("the hub above went away, or is being replaced")),
        Err(_) => Err(unavailable("the hub above didn't answer in time")),
    }
}

impl Upstream for RelayUpstream {
    type Feed = RelayFeed;

    fn origin(&self) -> Origin {
        Origin { cluster: self.cluster, node: self.view.top() }
    }

    async fn follow(&self) -> Result<Start<RelayFeed>, UpstreamError> {
        self.view.follow()
    }

    /// The root of those who ask below is the nonce of a probe that leaves after this.
    async fn fresh(&self, root: Nonce) -> Result<Statement, UpstreamError> {
        let answer = self.view.expect(root)?;
        self.wish(Wish::Probe(root))?;
        granted(answer, RELAY_PROBE_TIMEOUT).await
    }

    async fn snapshot(&self) -> Result<SignedView, UpstreamError> {
        let (wished, snapshot) = oneshot::channel();
        self.wish(Wish::Snapshot(wished))?;
        let snapshot = granted(snapshot, RELAY_SNAPSHOT_TIMEOUT).await?;
        if snapshot.statement.event_seq < self.view.began() {
            // Another hub above than the one that this relay began with; it makes a new one soon.
            return Err(unavailable("the hub above hands out a snapshot from before this relay began"));
        }
        Ok(signed_view(snapshot))
    }

    fn admit(&self, peer: &PeerIdentity) -> Result<Admitted, Refusal> {
        self.view.admit(peer).map_err(Refusal::from)
    }

    fn staleness(&self, paths: &[Option<FleetPath>]) -> Millis {
        self.view.staleness(paths)
    }
}

/// The node's signature goes on with what it is over: nobody below takes a relay's word for a view.
fn signed_view(snapshot: StoredSnapshot) -> SignedView {
    let StoredSnapshot { statement, node, signature, body } = snapshot;
    let header = v1::ViewHeader {
        incarnation: statement.incarnation.0,
        index: statement.index.0,
        event_seq: statement.event_seq.0,
        chain_head: statement.chain_head.0.into(),
        cluster_time_ms: statement.cluster_time.0,
        wall_time_ms: statement.wall_time.0,
        body_sha256: statement.body_sha256.0.into(),
        body_bytes: body.len() as u64,
        node: node.0,
        signature: signature.0.into(),
    };
    SignedView { header, body: body.into() }
}
