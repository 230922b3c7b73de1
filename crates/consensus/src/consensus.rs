//! The handle: everything that a node may ask of its replication.

use std::{sync::Arc, time::Duration};

use haltline_core::{
    LogIndex,
    command::Request,
    ids::NodeId,
    limits::{LEADER_TRANSFER_TIMEOUT, PROPOSE_TIMEOUT, RAFT_STOP_TIMEOUT},
    state::{KeyOwners, State},
    time::ClusterTime,
};
use haltline_pki::{CertificateAlone, ClientTls, Listening, NodeIdentity, PkiError, Roles, ServerTls};
use haltline_storage::RaftLog;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    barrier::Barrier,
    error::{BarrierError, FatalError, ProposeError},
    feed::Entries,
    fitness::Admission,
    lane::Entrance,
    network::{NodesOnly, Peers},
    published::{AppliedPosition, Board, Published},
    stamps::Stamps,
    status::{self, DiskStatus, Status},
    ticket::{EncodedRequest, Origin, Proposal, ProposeResult, ReplySink, Ticket},
    types::Raft,
};

/// How long after its own time a caller still waits for the proposer's word, which is more exact than its own.
const LAST_WORD: Duration = Duration::from_millis(100);

/// A running node's part in the cluster. Cheap to clone; the node runs until [`Consensus::shutdown`].
#[derive(Clone)]
pub struct Consensus {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) me: NodeId,
    pub(crate) raft: Raft,
    pub(crate) entrance: Entrance,
    pub(crate) barrier: Barrier,
    pub(crate) board: Board,
    pub(crate) stamps: Arc<Stamps>,
    pub(crate) log: Arc<dyn RaftLog>,
    pub(crate) admission: Admission,
    pub(crate) fatal: watch::Receiver<Option<FatalError>>,
    pub(crate) listening: Listening,
    pub(crate) peers: Peers,
    pub(crate) authority: Arc<NodesOnly>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl std::fmt::Debug for Consensus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consensus").field("node", &self.shared.me).finish_non_exhaustive()
    }
}

impl Consensus {
    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.shared.me
    }

    /// Gets a command into the log, through whichever node leads, and waits for what came of it; at most
    /// [`PROPOSE_TIMEOUT`]. A change of leader is waited out.
    ///
    /// # Errors
    /// [`ProposeError`]; after [`ProposeError::UnknownOutcome`] and [`ProposeError::Stopping`] the command may still be
    /// carried out, and sending it again with the same request id is safe.
    pub async fn propose(&self, request: &Request) -> ProposeResult {
        self.propose_within(request, Duration::from_millis(PROPOSE_TIMEOUT.0)).await
    }

    /// As [`Consensus::propose`], with less patience.
    ///
    /// # Errors
    /// As [`Consensus::propose`].
    pub async fn propose_within(&self, request: &Request, patience: Duration) -> ProposeResult {
        let encoded = EncodedRequest::encode(request)?;
        let (ticket, answer) = Ticket::one();
        let proposal = Proposal::new(encoded, ticket, Origin::Here, patience);
        let (since, until) = (proposal.since, proposal.expires + LAST_WORD);
        self.shared.entrance.queue(proposal);
        match tokio::time::timeout_at(until, answer).await {
            Ok(answer) => answer.unwrap_or(Err(ProposeError::Stopping)),
            Err(_) => {
                let waited_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                Err(ProposeError::UnknownOutcome { waited_ms })
            }
        }
    }

    /// Gets a command into the log without a task that waits for it: `sink` is called with `token` and the answer,
    /// exactly once, from whichever task has it, perhaps before this returns. A command that a deposed leader proposed
    /// is answered when its fate is known, which may take longer than `patience`.
    pub fn submit(&self, request: &Request, sink: Arc<dyn ReplySink>, token: u64, patience: Duration) {
        match EncodedRequest::encode(request) {
            Ok(encoded) => {
                let ticket = Ticket::many(sink, token);
                self.shared.entrance.queue(Proposal::new(encoded, ticket, Origin::Here, patience));
            }
            Err(error) => sink.deliver(token, Err(error)),
        }
    }

    /// Waits until this node has applied everything that was committed anywhere when this was called, and answers how
    /// far it has applied. A read from [`Consensus::state`] after it is linearizable; a freshness statement may name the
    /// index.
    ///
    /// # Errors
    /// [`BarrierError`]: the read must not be answered.
    pub async fn read_barrier(&self) -> Result<LogIndex, BarrierError> {
        self.shared.barrier.pass().await
    }

    /// The state as this node has applied it, which may lag behind the cluster. Cheap; after a while without readers the
    /// first one waits for the entry that is being applied.
    #[must_use]
    pub fn state(&self) -> Arc<Published> {
        self.shared.board.now()
    }

    /// The state with every table, and up to where the log is in it: for a backup. Not for looking something up, because as
    /// long as it is held the machine copies what it changes.
    #[must_use]
    pub fn whole_state(&self) -> (LogIndex, State) {
        self.shared.board.live(|position| (position.index(), position.state.clone()))
    }

    /// Where this node stands, without the state: cheap however many commands are being applied. After a
    /// [`Consensus::read_barrier`] it contains everything that was committed when that was called.
    #[must_use]
    pub fn position(&self) -> AppliedPosition {
        self.shared.board.progress().position()
    }

    /// Whose each TLS key is, as in [`Consensus::state`]. For whoever needs nothing else: cheap however many commands are
    /// being applied.
    #[must_use]
    pub fn key_owners(&self) -> KeyOwners {
        self.shared.board.key_owners()
    }

    /// Waits until this node has applied the log up to `index`: after a forwarded command, so that its caller reads its
    /// own write here.
    ///
    /// # Errors
    /// [`BarrierError::Lagging`] if that takes longer than `patience`, [`BarrierError::Stopping`].
    pub async fn wait_applied(
        &self,
        index: LogIndex,
        patience: Duration,
    ) -> Result<Arc<Published>, BarrierError> {
        let mut progress = self.shared.board.watch();
        let reached = timeout(patience, progress.wait_for(|progress| progress.applied >= index)).await;
        match reached {
            Ok(Ok(_)) => Ok(self.state()),
            Ok(Err(_)) => Err(BarrierError::Stopping),
            Err(_) => {
                let applied = self.shared.board.progress().applied;
                Err(BarrierError::Lagging { applied, needed: index })
            }
        }
    }

    /// The entries applied after `after`, one by one. Start from [`Published::applied`] of a [`Consensus::state`].
    #[must_use]
    pub fn entries_after(&self, after: LogIndex) -> Entries {
        self.shared.board.feed().subscribe(after)
    }

    /// What this node knows about itself and its cluster.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let disk = DiskStatus { log: shared.log.health(), takes_kills_only: shared.admission.is_closed() };
        let waiting = shared.entrance.waiting();
        status::status(&shared.raft, &shared.board.now(), self.cluster_now(), waiting, disk)
    }

    /// About what time it is in the cluster: exact on the leader; on others the newest stamp received and the time
    /// since, which stands still soon after the leader does. For deadlines of commands, not for decisions.
    #[must_use]
    pub fn cluster_now(&self) -> ClusterTime {
        self.shared.stamps.estimate()
    }

    /// Becomes `Some` when this node can't go on and must be stopped.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<FatalError>> {
        self.shared.fatal.clone()
    }

    /// The node port: who is connected, who was refused, and certificates to rotate.
    #[must_use]
    pub fn port(&self) -> &Listening {
        &self.shared.listening
    }

    /// Shows a renewed certificate of this node to its peers, from the next connection on, in both directions.
    ///
    /// # Errors
    /// [`PkiError`] if the identity doesn't fit together.
    pub fn rotate(&self, identity: &NodeIdentity) -> Result<(), PkiError> {
        let shared = &self.shared;
        let (tls, bundle) = (identity.tls(), identity.bundle());
        let server = ServerTls::new(tls, bundle, Roles::NODES, shared.authority.clone())?;
        let client = ClientTls::new(tls, bundle, Arc::new(CertificateAlone))?;
        shared.listening.rotate(server);
        shared.peers.rotate(client);
        Ok(())
    }

    /// Stops: hands leadership over if it has it, then ends every task. Commands that still wait are answered with
    /// [`ProposeError::Stopping`].
    pub async fn shutdown(&self) {
        if self.shared.stop.is_cancelled() {
            self.shared.tasks.wait().await;
            return;
        }
        self.hand_over().await;
        self.shared.stop.cancel();
        let patience = Duration::from_millis(RAFT_STOP_TIMEOUT.0);
        match timeout(patience, self.shared.raft.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "consensus did not stop in order"),
            // A vote that waits for room on the disk holds it up. Whoever closes the log then ends the wait.
            Err(_) => tracing::warn!("consensus did not stop in time"),
        }
        self.shared.tasks.close();
        if timeout(patience, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("tasks of consensus did not end in time");
        }
    }

    /// Gives leadership to the voter with the longest log, if there is another one.
    async fn hand_over(&self) {
        let metrics = self.shared.raft.metrics().borrow_watched().clone();
        if !metrics.state.is_leader() {
            return;
        }
        let me = self.shared.me;
        let voters = metrics.membership_config.membership().voter_ids().filter(|id| *id != me.0);
        let matched = |id: &u64| metrics.replication.as_ref().and_then(|all| all.get(id).copied().flatten());
        let Some(heir) = voters.max_by_key(matched) else { return };
        if let Err(error) = self.transfer_leadership(NodeId(heir)).await {
            tracing::warn!(%error, heir, "leadership was not handed over; the others elect a leader by themselves");
        }
    }

    pub(crate) async fn transferred(&self, to: NodeId) -> bool {
        let mut metrics = self.shared.raft.server_metrics();
        let changed = async {
            loop {
                if metrics.borrow_and_update().current_leader == Some(to.0) {
                    return true;
                }
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
        };
        timeout(Duration::from_millis(LEADER_TRANSFER_TIMEOUT.0), changed).await.unwrap_or(false)
    }
}
