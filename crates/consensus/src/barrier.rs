//! The read barrier: which index this node must have applied before it may answer for the cluster.
//!
//! ReadIndex (Raft dissertation, section 6.4): the leader notes its commit index, then lets a quorum confirm that it
//! still leads, by heartbeats that were sent after the question came. One barrier serves everybody who asked before it
//! began; who asks later waits for the next. Leases are never used: they would rest on clocks.
//!
//! openraft counts only acknowledgements of messages that were sent after the question (it compares sending times, and
//! rounds where the times are equal), provided that the transport credits no message with another one's answer: see
//! `network/append_stream.rs`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use haltline_core::{
    LogIndex,
    ids::NodeId,
    limits::{BARRIER_TIMEOUT, BARRIER_WAITERS_MAX},
};
use haltline_wire::raft::v1 as wire;
use openraft::{
    LinearizerOption,
    async_runtime::watch::WatchReceiver as _,
    errors::{Fatal, LinearizableReadError, RaftError},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::BarrierError,
    network::{Lane, Peers, within},
    published::Board,
    types::{Raft, StoredMembership, TypeConfig},
};

/// How long to wait before a leader that didn't answer is asked again.
const AGAIN: Duration = Duration::from_millis(10);

/// What a leader says to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Index(LogIndex),
    NotLeader,
    NotMember,
    NoQuorum,
}

/// Answers as the leader, if this node is it and can prove it now.
pub(crate) async fn ask_as_leader(raft: &Raft, asker: NodeId) -> Result<Asked, Fatal<TypeConfig>> {
    // Age zero: no acknowledgement from before the question counts.
    let option = LinearizerOption::new(Some(Duration::ZERO), true)
        .with_wait_timeout(Duration::from_millis(BARRIER_TIMEOUT.0 / 2));
    let index = match raft.get_read_linearizer(option).await {
        Ok(linearizer) => LogIndex(linearizer.read_log_id().index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => return Ok(Asked::NotLeader),
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => return Ok(Asked::NoQuorum),
        Err(RaftError::Fatal(fatal)) => return Err(fatal),
    };
    // Asked inside the core, after the quorum has spoken: whoever was removed before that is refused. One that is being
    // added counts from when the index covers that, or what was committed meanwhile would have missed it as a member.
    let member = raft
        .with_raft_state(move |state| {
            let (effective, committed) =
                (state.membership_state.effective(), state.membership_state.committed());
            let is_covered = effective.log_id().is_none_or(|id| id.index <= index.0);
            let is_in = |stored: &StoredMembership| stored.membership().get_node(&asker.0).is_some();
            is_in(effective) && (is_covered || is_in(committed))
        })
        .await?;
    Ok(if member { Asked::Index(index) } else { Asked::NotMember })
}

type Waiter = oneshot::Sender<Result<LogIndex, BarrierError>>;

/// Where readers queue. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Barrier {
    queue: mpsc::UnboundedSender<Waiter>,
    waiting: Arc<AtomicUsize>,
}

/// Passes the barriers, one after the other.
pub(crate) struct BarrierKeeper {
    queue: mpsc::UnboundedReceiver<Waiter>,
    waiting: Arc<AtomicUsize>,
    raft: Raft,
    peers: Peers,
    board: Board,
}

pub(crate) fn barrier(raft: Raft, peers: Peers, board: Board) -> (Barrier, BarrierKeeper) {
    #[expect(clippy::disallowed_methods, reason = "bounded by BARRIER_WAITERS_MAX, counted by `waiting`")]
    let (sender, queue) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let barrier = Barrier { queue: sender, waiting: waiting.clone() };
    (barrier, BarrierKeeper { queue, waiting, raft, peers, board })
}

impl Barrier {
    /// Waits for a barrier that begins after this call.
    pub(crate) async fn pass(&self) -> Result<LogIndex, BarrierError> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        if waiting >= BARRIER_WAITERS_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(BarrierError::Busy { waiting });
        }
        let (sender, answer) = oneshot::channel();
        self.queue.send(sender).map_err(|_| BarrierError::Stopping)?;
        answer.await.unwrap_or(Err(BarrierError::Stopping))
    }
}

impl BarrierKeeper {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut waiters = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                taken = self.queue.recv_many(&mut waiters, BARRIER_WAITERS_MAX) => if taken == 0 { return },
            }
            self.waiting.fetch_sub(waiters.len(), Ordering::Relaxed);
            let passed = tokio::select! {
                () = stop.cancelled() => Err(BarrierError::Stopping),
                passed = self.pass_one() => passed,
            };
            for waiter in waiters.drain(..) {
                // A reader may have gone away.
                let _ = waiter.send(passed.clone());
            }
        }
    }

    async fn pass_one(&self) -> Result<LogIndex, BarrierError> {
        let deadline = Instant::now() + Duration::from_millis(BARRIER_TIMEOUT.0);
        let needed = self.ask_until(deadline).await?;
        let mut published = self.board.watch();
        let reached = timeout_at(deadline, published.wait_for(|published| published.applied >= needed)).await;
        match reached {
            Ok(Ok(published)) => Ok(published.applied),
            Ok(Err(_)) => Err(BarrierError::Stopping),
            Err(_) => Err(BarrierError::Lagging { applied: self.board.progress().applied, needed }),
        }
    }

    /// Asks whoever leads, again while nobody does.
    async fn ask_until(&self, deadline: Instant) -> Result<LogIndex, BarrierError> {
        let mut metrics = self.raft.server_metrics();
        let mut last = BarrierError::NoLeader;
        while Instant::now() < deadline {
            match self.ask(deadline).await? {
                Some(Asked::Index(index)) => return Ok(index),
                Some(Asked::NotMember) => return Err(BarrierError::NotMember { node: self.peers.me() }),
                Some(Asked::NoQuorum) => last = BarrierError::NoQuorum,
                Some(Asked::NotLeader) => last = BarrierError::NoLeader,
                None => last = BarrierError::NoQuorum,
            }
            // Whatever was wrong, a change of leader may right it at once.
            let next = deadline.min(Instant::now() + AGAIN);
            let _ = timeout_at(next, metrics.changed()).await;
        }
        Err(last)
    }

    /// Asks once; `None` if the leader did not answer.
    async fn ask(&self, deadline: Instant) -> Result<Option<Asked>, BarrierError> {
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        let me = self.peers.me();
        if metrics.state.is_leader() {
            return ask_as_leader(&self.raft, me).await.map(Some).map_err(|_| BarrierError::Stopping);
        }
        let Some(leader) = metrics.current_leader.filter(|leader| *leader != me.0) else {
            return Ok(Some(Asked::NotLeader));
        };
        let Some(member) = metrics.membership_config.membership().get_node(&leader).cloned() else {
            return Ok(Some(Asked::NotLeader));
        };
        let Ok(mut client) = self.peers.client(NodeId(leader), &member, Lane::Control) else {
            return Ok(None);
        };
        let question = wire::ReadIndexRequest { asker: me.0 };
        let patience = deadline.saturating_duration_since(Instant::now());
        let mut metrics = self.raft.server_metrics();
        metrics.borrow_and_update();
        let answer = tokio::select! {
            answer = within(patience, client.read_index(question)) => answer,
            // A new leader would answer sooner than a dead one.
            () = leader_changed(&mut metrics, leader) => return Ok(None),
        };
        Ok(answer.ok().and_then(|answer| read(answer.into_inner())))
    }
}

async fn leader_changed(
    metrics: &mut openraft::type_config::alias::WatchReceiverOf<
        TypeConfig,
        openraft::metrics::RaftServerMetrics<TypeConfig>,
    >,
    leader: u64,
) {
    while metrics.changed().await.is_ok() {
        if metrics.borrow_and_update().current_leader != Some(leader) {
            return;
        }
    }
}

fn read(answer: wire::ReadIndexResponse) -> Option<Asked> {
    use wire::read_index_response::Result as In;
    match answer.result? {
        In::Index(index) => Some(Asked::Index(LogIndex(index))),
        In::Error(code) => match wire::ReadIndexError::try_from(code).ok()? {
            wire::ReadIndexError::Unspecified => None,
            wire::ReadIndexError::NotLeader => Some(Asked::NotLeader),
            wire::ReadIndexError::NotMember => Some(Asked::NotMember),
            wire::ReadIndexError::NoQuorum => Some(Asked::NoQuorum),
        },
    }
}
