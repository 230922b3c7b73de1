//! From a kill in the log to the proof that every enforcer enforces it (design 02, Enforced, early; Receipts).
//!
//! ```text
//!   kill applied here ──► a run (`run`): asks every member when it is clear, decides with `core::enforcement`
//!                            ├── this node's own tracker (the hub's)
//!                            └── PeerService.WatchClear of the others (`peers`)
//!                         enforced ──► receipt, signed, proposed for the log, told to all who wait
//! ```
//!
//! The leader starts a run for every kill by itself, so that each has a receipt whether or not somebody waits; any node
//! runs one for whoever asks it. Two runs of one kill disagree in nothing that matters, and the log keeps one receipt.

mod members;
mod peers;
mod progress;
mod run;
mod standing;
mod streams;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use haltline_consensus::Consensus;
use haltline_core::{
    LogIndex,
    ids::{EdgeName, KillId, NodeId},
    lease::{BootNanos, Drift},
    limits::{ENFORCEMENT_LOOK_INTERVAL, TRACKED_KILLS_MAX},
    receipt::SignedReceipt,
    rejection::Rejection,
    time::Millis,
    tracker::{Clear, TrackerError, WatchedKill},
};
use haltline_hub::{BootClock, EdgeStatus, Hub, KillWatch, SystemBootClock};
use haltline_pki::NodeIdentity;
use haltline_wire::v1;
use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{edge_upstream::NodeUpstream, refused::Refused, signing::Signing};

pub(crate) use peers::Peers;
pub(crate) use progress::Progress;

use members::MembershipBook;
use progress::Standing;

/// What every run needs. Held in an [`Arc`].
pub(crate) struct Enforcements {
    consensus: Consensus,
    identity: NodeIdentity,
    signing: Arc<Signing>,
    hub: Hub<NodeUpstream>,
    peers: Peers,
    drift: Drift,
    members: Mutex<MembershipBook>,
    runs: Mutex<BTreeMap<KillId, watch::Receiver<Progress>>>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Enforcements {
    pub(crate) fn new(
        consensus: Consensus,
        (identity, signing): (NodeIdentity, Arc<Signing>),
        hub: Hub<NodeUpstream>,
        peers: Peers,
        drift: Drift,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        let (members, runs, tasks) = Default::default();
        Arc::new(Self { consensus, identity, signing, hub, peers, drift, members, runs, stopping, tasks })
    }

    /// Starts runs for kills as they are placed, while this node leads, until the node stops.
    pub(crate) fn start(self: &Arc<Self>) {
        self.tasks.spawn(standing::follow(Arc::clone(self)));
    }

    /// Waits until every task has ended.
    pub(crate) async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn hub(&self) -> &Hub<NodeUpstream> {
        &self.hub
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    fn now(&self) -> BootNanos {
        SystemBootClock.now()
    }

    /// Begins to wait until this node is clear of a kill that is applied here.
    pub(crate) async fn watch_own(&self, kill: &WatchedKill) -> Result<KillWatch, Refused> {
        loop {
            match self.hub.watch(kill.clone()) {
                // The hub takes entries up right after they are applied.
                Err(TrackerError::NotApplied { .. }) => self.hub.reached(kill.index).await,
                answer => return answer.map_err(Refused::Tracker),
            }
        }
    }

    /// This node's part as another one is told.
    pub(crate) fn clear_report(&self, clear: Clear, lagging: Vec<(EdgeName, Millis)>) -> v1::ClearReport {
        let node = self.identity.id().0;
        let report =
            v1::ClearReport { node, applied_index: self.hub.applied().0, ..v1::ClearReport::default() };
        match clear {
            Clear::Cleared(cleared) => v1::ClearReport {
                clear: true,
                acked: cleared.acked,
                fenced: cleared.fenced.iter().map(Into::into).collect(),
                ..report
            },
            Clear::Waiting { lagging: waiting, acked, until } => v1::ClearReport {
                acked,
                waiting,
                at_most_ms: until.since(self.now()).to_millis_up().0,
                boot_wait: waiting == 0,
                lagging: lagging.into_iter().map(|one| lagging_enforcer(node, one)).collect(),
                ..report
            },
        }
    }

    /// The enforcers that hang on this node.
    pub(crate) fn own_streams(&self) -> v1::ListStreamsResponse {
        let (node, applied) = (self.identity.id(), self.hub.applied());
        let streams = self.hub.edges().into_iter().map(|edge| edge_stream(node, edge)).collect();
        v1::ListStreamsResponse { streams, applied_index: applied.0 }
    }

    /// The receipt of a kill, if the log has one.
    pub(crate) fn receipt(&self, kill: KillId) -> Option<SignedReceipt> {
        self.consensus.state().state.receipts().get(&kill).cloned()
    }

    /// Whether a kill is in force here without a receipt.
    fn is_known(&self, kill: KillId) -> bool {
        let published = self.consensus.state();
        published.state.kills().contains_key(&kill) && !published.state.receipts().contains_key(&kill)
    }

    /// Follows a kill that is in force here, for one who waits: first through its drain, if it drains.
    pub(crate) fn follow(self: &Arc<Self>, kill: KillId) -> Result<watch::Receiver<Progress>, Refused> {
        let published = self.consensus.state();
        match published.state.kills().get(&kill) {
            Some(record) if record.denies_from.is_none() => Ok(self.await_drain(kill, record.placed.index)),
            _ => self.prove(kill),
        }
    }

    /// Begins to prove a kill all of which is in force here, or joins those that do.
    pub(crate) fn prove(self: &Arc<Self>, kill: KillId) -> Result<watch::Receiver<Progress>, Refused> {
        let published = self.consensus.state();
        let state = &published.state;
        if let Some(receipt) = state.receipts().get(&kill) {
            return Ok(watch::Sender::new(Progress::enforced(receipt.clone())).subscribe());
        }
        let unknown = || Refused::from(Rejection::UnknownKill { kill });
        let record = state.kills().get(&kill).ok_or_else(unknown)?;
        if record.denies_from.is_none() {
            return Err(Refused::NoReceiptYet { kill });
        }
        let mut runs = self.runs.lock();
        if let Some(run) = runs.get(&kill) {
            return Ok(run.clone());
        }
        if runs.len() >= TRACKED_KILLS_MAX {
            return Err(Refused::TooManyKills { max: TRACKED_KILLS_MAX });
        }
        let (tell, progress) = watch::channel(Progress::beginning(kill, record.placed.index));
        runs.insert(kill, progress.clone());
        drop(runs);
        let (runner, place) = (Arc::clone(self), RunPlace { enforcements: Arc::clone(self), kill });
        self.tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = run::run(&runner, kill, &tell) => {}
                () = runner.stopping.cancelled() => {}
            }
        });
        Ok(progress)
    }

    /// Follows a kill that drains. It takes a run's place only when there is something to prove, and ends with the wait.
    fn await_drain(self: &Arc<Self>, kill: KillId, index: LogIndex) -> watch::Receiver<Progress> {
        let (tell, progress) = watch::channel(Progress::beginning(kill, index));
        let node = Arc::clone(self);
        self.tasks.spawn(async move {
            let forward = async {
                run::drained(&node, kill, &tell).await;
                loop {
                    match node.prove(kill) {
                        Ok(run) => break forward(run, &tell).await,
                        Err(Refused::TooManyKills { .. } | Refused::NoReceiptYet { .. }) => {
                            sleep(Duration::from_millis(ENFORCEMENT_LOOK_INTERVAL.0)).await;
                        }
                        Err(_) => break tell.send_modify(|progress| progress.state = Standing::Lifted),
                    }
                }
            };
            tokio::select! {
                () = forward => {}
                () = tell.closed() => {}
                () = node.stopping.cancelled() => {}
            }
        });
        progress
    }
}

/// Tells one what another is told, to its end.
async fn forward(mut from: watch::Receiver<Progress>, to: &watch::Sender<Progress>) {
    loop {
        let now = from.borrow_and_update().clone();
        let is_over = now.is_over();
        to.send_replace(now);
        if is_over || from.changed().await.is_err() {
            return;
        }
    }
}

/// A run's place in the table, given up when it ends in whatever way.
struct RunPlace {
    enforcements: Arc<Enforcements>,
    kill: KillId,
}

impl Drop for RunPlace {
    fn drop(&mut self) {
        self.enforcements.runs.lock().remove(&self.kill);
    }
}

fn lagging_enforcer(node: u64, (name, left): (EdgeName, Millis)) -> v1::LaggingEnforcer {
    v1::LaggingEnforcer {
        name: name.to_string(),
        node,
        lease_left_ms: left.0,
        ..v1::LaggingEnforcer::default()
    }
}

fn edge_stream(node: NodeId, edge: EdgeStatus) -> v1::EdgeStream {
    use v1::EdgeStreamState as State;
    let state = match edge.lease {
        None | Some(Millis(0)) => State::NoLease,
        Some(_) if edge.lag == 0 => State::Current,
        Some(_) => State::Lagging,
    };
    v1::EdgeStream {
        edge: edge.name.to_string(),
        state: state.into(),
        node: node.0,
        acked_index: edge.acked.0,
        lag_entries: edge.lag,
        lease_left_ms: edge.lease.map_or(0, |left| left.0),
        version: edge.version,
        region: edge.region,
        connected_ms: edge.connected.0,
        granted_index: edge.granted.0,
    }
}
