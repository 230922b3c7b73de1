//! How fresh a hub's copy is, for all who ask at once.
//!
//! Probes that wait are taken together **before** a statement is asked for, so each is joined to a barrier that began after
//! it came. Their nonces are the leaves of one tree, its root is what is signed, and each enforcer gets the common part,
//! encoded once, and its own path. A statement is handed on only when the events that it rests on are in the ring.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use haltline_core::{
    LogIndex,
    ids::{Digest, EventSeq, Nonce},
    limits::{HUB_BARRIER_INTERVAL, HUB_CATCH_UP_TIMEOUT, HUB_WAKE_CHUNK, MERKLE_LEAVES_MAX},
    merkle::{self, MerkleTree},
};
use haltline_wire::v1;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{
    framing::{self, Part},
    hub::Shared,
    ring::Unfollowable,
    subscriber::Subscriber,
    upstream::{Statement, Upstream, UpstreamError},
};

/// Who waits for the next barrier. Bounded by the number of streams: each stands in line once.
#[derive(Debug, Default)]
pub(crate) struct ProbeLine {
    waiting: Mutex<Vec<Arc<Subscriber>>>,
    arrived: Notify,
}

impl ProbeLine {
    /// Joins a probe to the next barrier that begins.
    pub(crate) fn join(&self, subscriber: &Arc<Subscriber>, nonce: Nonce) {
        if subscriber.set_probe(nonce) {
            return;
        }
        let mut waiting = self.waiting.lock();
        waiting.push(subscriber.clone());
        let first = waiting.len() == 1;
        drop(waiting);
        if first {
            self.arrived.notify_one();
        }
    }

    /// Everybody who waits, at most as many as one tree takes.
    fn take(&self) -> Vec<(Arc<Subscriber>, Nonce)> {
        let mut waiting = self.waiting.lock();
        let taken = if waiting.len() > MERKLE_LEAVES_MAX {
            self.arrived.notify_one();
            waiting.drain(..MERKLE_LEAVES_MAX).collect()
        } else {
            std::mem::take(&mut *waiting)
        };
        drop(waiting);
        let probes = taken.into_iter().filter_map(|subscriber| {
            let nonce = subscriber.take_probe()?;
            Some((subscriber, nonce))
        });
        probes.collect()
    }
}

/// One statement and the tree that it was given for.
#[derive(Debug)]
pub(crate) struct Batch {
    index: LogIndex,
    needs: EventSeq,
    tree: MerkleTree,
    leaves: u32,
    /// What all answers have in common: everything but nonce and the first layer.
    shared: Vec<u8>,
}

impl Batch {
    fn new(statement: Statement, tree: MerkleTree, leaves: usize) -> Arc<Self> {
        let shared = v1::Fresh {
            nonce: Vec::new(),
            index: statement.index.0,
            event_seq: statement.chain.seq.0,
            chain_head: statement.chain.head.0.to_vec(),
            cluster_time_ms: statement.cluster_time.0,
            node: statement.node.0,
            signature: statement.signature.to_vec(),
            layers: statement.layers,
        };
        Arc::new(Self {
            index: statement.index,
            needs: statement.chain.seq,
            tree,
            // Trees are bounded by MERKLE_LEAVES_MAX.
            leaves: u32::try_from(leaves).unwrap_or(u32::MAX),
            shared: shared.encode_to_vec(),
        })
    }
}

/// The answer to one probe.
#[derive(Debug)]
pub(crate) struct Answer {
    batch: Arc<Batch>,
    nonce: Nonce,
    position: u32,
}

impl Answer {
    /// Up to which event everything must be sent before.
    pub(crate) fn needs(&self) -> EventSeq {
        self.batch.needs
    }

    /// The index that the statement names.
    pub(crate) fn index(&self) -> LogIndex {
        self.batch.index
    }

    /// The message. The enforcer's own layer comes first, as protobuf appends one list to the other.
    pub(crate) fn encode(&self, name: &str) -> Bytes {
        let path = self.batch.tree.path(self.position).unwrap_or_default();
        let layer = v1::ProofLayer {
            name: name.to_owned(),
            position: self.position,
            leaves: self.batch.leaves,
            path: path.iter().flat_map(|digest: &Digest| digest.0).collect(),
        };
        let own = v1::Fresh { nonce: self.nonce.0.to_vec(), layers: vec![layer], ..v1::Fresh::default() };
        let own = own.encode_to_vec();
        framing::hub_message(Part::Fresh, [own.as_slice(), &self.batch.shared].into_iter())
    }
}

/// Why the probes of a batch stay unanswered.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(
        "the events up to {needed} that the statement rests on did not come within {HUB_CATCH_UP_TIMEOUT}"
    )]
    EventsMissing { needed: EventSeq },
    #[error("the statement is about another chain than this hub's")]
    OtherChain,
    #[error(transparent)]
    Tree(#[from] merkle::MerkleError),
}

/// Answers probes until the hub stops.
pub(crate) async fn run<U: Upstream>(hub: Arc<Shared<U>>) {
    let mut began = None;
    loop {
        tokio::select! {
            () = hub.core.probes.arrived.notified() => {}
            () = hub.stop.cancelled() => return,
        }
        if let Some(began) = began {
            sleep_until(began + Duration::from_millis(HUB_BARRIER_INTERVAL.0)).await;
        }
        began = Some(Instant::now());
        let probes = hub.core.probes.take();
        let asked = probes.len() as u64;
        if let Err(error) = answer_all(&hub, probes).await {
            hub.core.counters.unanswered(asked);
            tracing::debug!(%error, probes = asked, "probes stay unanswered");
        }
    }
}

async fn answer_all<U: Upstream>(
    hub: &Shared<U>,
    probes: Vec<(Arc<Subscriber>, Nonce)>,
) -> Result<(), Unanswered> {
    if probes.is_empty() {
        return Ok(());
    }
    let leaf = |(subscriber, nonce): &(Arc<Subscriber>, Nonce)| {
        merkle::leaf(nonce, subscriber.admitted.name.as_str())
    };
    let tree = MerkleTree::build(probes.iter().map(leaf).collect())?;
    let statement = hub.upstream.fresh(Nonce(tree.root().0)).await?;
    await_events(hub, &statement).await?;
    hub.core.counters.answered(probes.len() as u64);
    let batch = Batch::new(statement, tree, probes.len());
    for (position, (subscriber, nonce)) in (0_u32..).zip(probes) {
        subscriber.answer(Answer { batch: batch.clone(), nonce, position });
        if (position as usize + 1).is_multiple_of(HUB_WAKE_CHUNK) {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Waits until the ring holds what the statement rests on.
async fn await_events<U: Upstream>(hub: &Shared<U>, statement: &Statement) -> Result<(), Unanswered> {
    let needed = statement.chain.seq;
    let mut newest = hub.core.newest.subscribe();
    let patience = hub.core.patience.catch_up;
    let reached = tokio::time::timeout(patience, newest.wait_for(|newest| *newest >= needed)).await;
    if !matches!(reached, Ok(Ok(_))) {
        return Err(Unanswered::EventsMissing { needed });
    }
    let mut ring = hub.core.ring.lock();
    match ring.check(statement.chain) {
        // A statement from before the ring's beginning is an old one, not another chain's.
        Ok(()) | Err(Unfollowable::TooFarBehind) => {
            ring.reached(statement.index);
            Ok(())
        }
        Err(_) => Err(Unanswered::OtherChain),
    }
}
