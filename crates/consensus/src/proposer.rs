//! The proposer: takes commands from the two lanes and gets them into the log, here or at the leader.
//!
//! ```text
//!   kills  ──► at once ─────────────────┐   leading: one entry each time, stamped as it closes ──► openraft
//!   normal ──► when the batch before ───┴─► following: one message to the leader
//!              is committed                 nobody leads: wait, and answer those that expire
//! ```
//!
//! One task, so that stamps are issued in the order of the entries and nothing needs a lock. Commands that arrive while
//! a batch is on its way make the next one; nothing ever waits for company when the way is free. What comes back because
//! a leader lost office goes in again with the same request id, which the machine carries out once.

use std::{sync::Arc, time::Duration};

use haltline_core::{
    command::Genesis,
    ids::NodeId,
    limits::{
        BATCH_COMMANDS_MAX, BATCHES_IN_FLIGHT_MAX, FORWARDS_IN_FLIGHT_MAX, KILL_ENTRIES_IN_FLIGHT_MAX,
        TICK_INTERVAL,
    },
};
use openraft::{
    async_runtime::watch::WatchReceiver as _, errors::ClientWriteError, metrics::RaftServerMetrics,
    raft::ClientWriteResult, type_config::alias::WatchReceiverOf,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    batch,
    error::ProposeError,
    fitness::Admission,
    forward::{self, Leader},
    lane::Lane,
    network::Peers,
    options::Member,
    published::{Board, Progress},
    stamps::Stamps,
    ticket::{Origin, Proposal, Reply},
    types::{EncodedBatch, LeaderId, OnSettled, Raft, TypeConfig},
};

/// How long to leave a leader alone that could not take a batch.
const REST: Duration = Duration::from_millis(5);
/// How often those that wait for a leader are looked through for expired ones.
const SWEEP: Duration = Duration::from_millis(50);
/// When there is nothing to wake up for.
const LONG: Duration = Duration::from_secs(3_600);

/// Who gets commands into the log now.
#[derive(Debug)]
enum Office {
    Nobody,
    Leading(LeaderId),
    Following(Leader),
}

/// What the proposer is told by what it started.
enum Event {
    /// A batch is committed, or has failed.
    Committed { epoch: u64, kills: bool },
    /// A forwarded batch is back.
    Forwarded { epoch: u64, kills: bool },
    /// To be tried again.
    Returned(Vec<Proposal>),
    /// The founding entry was not taken.
    NotFounded { epoch: u64 },
}

/// What the proposer works with.
pub(crate) struct Tools {
    pub(crate) raft: Raft,
    pub(crate) peers: Peers,
    pub(crate) stamps: Arc<Stamps>,
    pub(crate) board: Board,
    pub(crate) genesis: Option<Genesis>,
    pub(crate) admission: Admission,
}

/// See the module.
pub(crate) struct Proposer {
    tools: Tools,
    me: u64,
    kills: Lane,
    normal: Lane,
    metrics: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
    progress: watch::Receiver<Progress>,
    events: mpsc::UnboundedReceiver<Event>,
    /// Bounded by what is in flight.
    tell: mpsc::UnboundedSender<Event>,
    office: Office,
    /// Counts offices, so that what belonged to an earlier one isn't counted in this one.
    epoch: u64,
    in_flight: usize,
    kills_in_flight: usize,
    founding: bool,
    rest_until: Option<Instant>,
    last_entry: Instant,
}

/// Says that a batch is out of the way, when it is committed or dropped.
struct Way {
    tell: mpsc::UnboundedSender<Event>,
    epoch: u64,
    kills: bool,
}

impl Drop for Way {
    fn drop(&mut self) {
        let event = Event::Committed { epoch: self.epoch, kills: self.kills };
        // The proposer may have ended.
        let _ = self.tell.send(event);
    }
}

impl Proposer {
    pub(crate) fn new(tools: Tools, kills: Lane, normal: Lane) -> Self {
        #[expect(clippy::disallowed_methods, reason = "bounded by the batches in flight")]
        let (tell, events) = mpsc::unbounded_channel();
        Self {
            me: *tools.raft.node_id(),
            metrics: tools.raft.server_metrics(),
            progress: tools.board.watch(),
            tools,
            kills,
            normal,
            events,
            tell,
            office: Office::Nobody,
            epoch: 0,
            in_flight: 0,
            kills_in_flight: 0,
            founding: false,
            rest_until: None,
            last_entry: Instant::now(),
        }
    }

    /// Works until told to stop. What waits then is answered by being dropped.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        self.look_around();
        loop {
            self.dispatch().await;
            let wake_at = self.wake_at();
            let waits_for_state = matches!(self.office, Office::Leading(_)) && !self.is_founded();
            let kills_may_go = self.kills_may_go();
            let normal_may_go = self.normal_may_go() || self.refuses_all_but_kills();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(event) = self.events.recv() => self.handle(event),
                changed = self.metrics.changed() => match changed {
                    Ok(()) => self.look_around(),
                    Err(_) => break,
                },
                () = self.kills.ready(), if kills_may_go => {}
                () = self.normal.ready(), if normal_may_go => {}
                _ = self.progress.changed(), if waits_for_state => {}
                () = sleep_until(wake_at) => self.wake(),
            }
        }
        self.tools.stamps.leave_office();
    }

    fn is_founded(&self) -> bool {
        self.progress.borrow().founded
    }

    /// Sees who leads. A new office begins with nothing in flight and a clock of its own.
    fn look_around(&mut self) {
        let metrics = self.metrics.borrow_and_update().clone();
        let leader = metrics.vote.leader_id;
        let committed = metrics.vote.committed;
        let mine = leader.node_id == self.me;
        let same = match &self.office {
            Office::Leading(id) => metrics.state.is_leader() && committed && *id == leader,
            Office::Following(known) => committed && !mine && known.id.0 == leader.node_id,
            Office::Nobody => !(committed && (!mine || metrics.state.is_leader())),
        };
        if same {
            return;
        }
        if let Office::Following(old) = &self.office {
            old.deposed.cancel();
        }
        self.epoch += 1;
        (self.in_flight, self.kills_in_flight) = (0, 0);
        self.founding = false;
        self.rest_until = None;
        let member = metrics.membership_config.membership().get_node(&leader.node_id);
        self.office = match member {
            _ if committed && mine && metrics.state.is_leader() => Office::Leading(leader),
            Some(member) if committed && !mine => self.follow(leader.node_id, member),
            _ => Office::Nobody,
        };
        match self.office {
            Office::Leading(_) => self.tools.stamps.take_office(),
            Office::Following(_) | Office::Nobody => self.tools.stamps.leave_office(),
        }
        tracing::debug!(office = ?self.office, "commands go another way now");
    }

    fn follow(&self, leader: u64, member: &Member) -> Office {
        let deposed = CancellationToken::new();
        Office::Following(Leader { id: NodeId(leader), member: member.clone(), deposed })
    }

    fn resting(&self) -> bool {
        self.rest_until.is_some_and(|until| until > Instant::now())
    }

    fn kills_may_go(&self) -> bool {
        !self.resting()
            && match self.office {
                Office::Nobody => false,
                Office::Leading(_) => self.is_founded() && self.kills_in_flight < KILL_ENTRIES_IN_FLIGHT_MAX,
                Office::Following(_) => self.kills_in_flight < FORWARDS_IN_FLIGHT_MAX,
            }
    }

    /// A batch that isn't full waits for the one before; full ones overlap.
    fn normal_may_go(&self) -> bool {
        !self.resting()
            && match self.office {
                Office::Nobody => false,
                Office::Leading(_) if !self.is_founded() => false,
                Office::Leading(_) => {
                    let full = self.normal.waiting() >= BATCH_COMMANDS_MAX;
                    self.in_flight == 0 || (full && self.in_flight < BATCHES_IN_FLIGHT_MAX)
                }
                Office::Following(_) => self.in_flight < FORWARDS_IN_FLIGHT_MAX,
            }
    }

    fn refuses_all_but_kills(&self) -> bool {
        !self.resting() && matches!(self.office, Office::Leading(_)) && self.tools.admission.is_closed()
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        if let Some(until) = self.rest_until {
            return until;
        }
        if self.normal.waiting() + self.kills.waiting() > 0 {
            return now + SWEEP;
        }
        match self.office {
            // A tick that is due and yet wasn't proposed waits for the entry in flight; it must not be waited for busily.
            Office::Leading(_) => {
                let tick = self.last_entry + Duration::from_millis(TICK_INTERVAL.0);
                if tick > now { tick } else { now + SWEEP }
            }
            Office::Following(_) | Office::Nobody => now + LONG,
        }
    }

    fn wake(&mut self) {
        self.rest_until = None;
        if !self.kills_may_go() {
            self.kills.sweep();
        }
        if !self.normal_may_go() {
            self.normal.sweep();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Committed { epoch, kills } | Event::Forwarded { epoch, kills } => {
                if epoch == self.epoch {
                    let count = if kills { &mut self.kills_in_flight } else { &mut self.in_flight };
                    *count = count.saturating_sub(1);
                }
            }
            Event::Returned(proposals) => self.take_back(proposals),
            Event::NotFounded { epoch } => {
                if epoch == self.epoch {
                    self.founding = false;
                    self.rest_until = Some(Instant::now() + REST);
                }
            }
        }
    }

    /// Commands whose leader could not tell how they ended. Those that another node sent here go back to it: it knows
    /// its caller's patience, and may know the new leader.
    fn take_back(&mut self, proposals: Vec<Proposal>) {
        self.rest_until = Some(Instant::now() + REST);
        let (forwarded, own): (Vec<_>, Vec<_>) =
            proposals.into_iter().partition(|proposal| proposal.origin == Origin::Forwarded);
        forwarded.into_iter().for_each(Proposal::give_up);
        let (kills, normal) = own.into_iter().partition(|proposal| proposal.request.kill);
        self.kills.put_back(kills);
        self.normal.put_back(normal);
    }

    /// Sends on whatever may go.
    async fn dispatch(&mut self) {
        if self.resting() {
            return;
        }
        if let Office::Leading(id) = self.office
            && !self.is_founded()
        {
            return self.found(id).await;
        }
        while self.kills_may_go() {
            let batch = batch::take(&mut self.kills);
            if batch.is_empty() {
                break;
            }
            self.send(batch, true).await;
        }
        self.refuse_for_room();
        while self.normal_may_go() {
            let batch = batch::take(&mut self.normal);
            if batch.is_empty() {
                break;
            }
            self.send(batch, false).await;
        }
        self.tick().await;
    }

    /// Answers what waits in the normal lane, if the disks have no room for it.
    fn refuse_for_room(&mut self) {
        while self.refuses_all_but_kills() {
            let batch = batch::take(&mut self.normal);
            if batch.is_empty() {
                return;
            }
            for proposal in batch {
                proposal.settle(Err(ProposeError::DiskFull));
            }
        }
    }

    async fn send(&mut self, batch: Vec<Proposal>, kills: bool) {
        match &self.office {
            Office::Nobody => self.take_back(batch),
            Office::Leading(id) => self.propose(*id, batch, kills).await,
            Office::Following(leader) => self.forward(leader.clone(), batch, kills),
        }
    }

    /// An idle leader writes an empty batch, so that time goes on everywhere.
    async fn tick(&mut self) {
        let idle = self.last_entry.elapsed() >= Duration::from_millis(TICK_INTERVAL.0);
        if let Office::Leading(id) = self.office
            && idle
            && self.in_flight == 0
        {
            self.propose(id, Vec::new(), false).await;
        }
    }

    async fn propose(&mut self, leader: LeaderId, batch: Vec<Proposal>, kills: bool) {
        // Before the stamp: what was applied then is older than the stamp.
        let applied = self.tools.board.progress().applied;
        let Some(stamp) = self.tools.stamps.issue() else { return self.take_back(batch) };
        let entry = batch::encode(stamp, applied, batch.iter().map(|proposal| &proposal.request.bytes));
        let tell = self.tell.clone();
        self.write(leader, entry, kills, move |result| settle(result, batch, &tell)).await;
    }

    /// Proposes the founding entry, once everything that an earlier leader may have left is applied.
    async fn found(&mut self, leader: LeaderId) {
        let caught_up = self.progress.borrow_and_update().applied_id.is_some_and(|id| id.leader_id == leader);
        let Some(genesis) = self.tools.genesis.clone() else { return };
        if self.founding || !caught_up {
            return;
        }
        let Some(stamp) = self.tools.stamps.issue() else { return };
        self.founding = true;
        let (tell, epoch) = (self.tell.clone(), self.epoch);
        let entry = batch::encode_genesis(stamp, genesis);
        self.write(leader, entry, false, move |result| {
            if result.is_err() {
                // The proposer may have ended.
                let _ = tell.send(Event::NotFounded { epoch });
            }
        })
        .await;
    }

    async fn write(
        &mut self,
        leader: LeaderId,
        entry: EncodedBatch,
        kills: bool,
        settled: impl FnOnce(ClientWriteResult<TypeConfig>) + Send + 'static,
    ) {
        let way = Way { tell: self.tell.clone(), epoch: self.epoch, kills };
        *(if kills { &mut self.kills_in_flight } else { &mut self.in_flight }) += 1;
        self.last_entry = Instant::now();
        let responder = OnSettled::new(move || drop(way), settled);
        // Bound to this leadership: a batch that was stamped in one never lands in a later one.
        let written = self.tools.raft.write(entry).with_leader(leader).responder(responder).await;
        if let Err(fatal) = written {
            tracing::error!(%fatal, "consensus has stopped");
        }
    }

    fn forward(&mut self, leader: Leader, batch: Vec<Proposal>, kills: bool) {
        if batch.iter().any(|proposal| proposal.origin == Origin::Forwarded) {
            let (forwarded, own): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|proposal| proposal.origin == Origin::Forwarded);
            forwarded.into_iter().for_each(Proposal::give_up);
            if own.is_empty() {
                return;
            }
            return self.forward(leader, own, kills);
        }
        *(if kills { &mut self.kills_in_flight } else { &mut self.in_flight }) += 1;
        let (peers, tell, epoch) = (self.tools.peers.clone(), self.tell.clone(), self.epoch);
        tokio::spawn(async move {
            let again = forward::run(peers, leader, batch, kills).await;
            if !again.is_empty() {
                // If the proposer has ended, dropping them answers them.
                let _ = tell.send(Event::Returned(again));
            }
            let _ = tell.send(Event::Forwarded { epoch, kills });
        });
    }
}

/// Answers a batch. Runs in openraft's tasks.
fn settle(
    result: ClientWriteResult<TypeConfig>,
    mut batch: Vec<Proposal>,
    tell: &mpsc::UnboundedSender<Event>,
) {
    match result {
        Ok(response) => {
            let outcome = response.data;
            for (proposal, result) in batch.into_iter().zip(outcome.results) {
                proposal.settle(Ok(Reply { stamp: outcome.stamp, result }));
            }
        }
        Err(error) => {
            // `ForwardToLeader` comes before anything is appended; every other end leaves open what became of it.
            let uncertain = !matches!(error, ClientWriteError::ForwardToLeader(_));
            tracing::debug!(%error, commands = batch.len(), "a batch came back");
            for proposal in &mut batch {
                proposal.uncertain |= uncertain;
            }
            // If the proposer has ended, dropping them answers them.
            let _ = tell.send(Event::Returned(batch));
        }
    }
}
