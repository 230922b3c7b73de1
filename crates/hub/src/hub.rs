//! The hub: its tasks, and the handle that nodes and relays hold.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use haltline_core::{
    LogIndex,
    ids::EdgeName,
    lease::Drift,
    limits::{HUB_FEED_BATCH_MAX, HUB_FEED_RETRY},
    path::FleetPath,
    tracker::{TrackerError, WatchedKill},
};
use haltline_pki::PeerIdentity;
use haltline_wire::{refusal::Refusal, v1};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::BootClock,
    core::{Core, Patience, Registered},
    counters::HubCounters,
    freshness,
    inbound::Inbound,
    refused::StreamRefused,
    ring::Ring,
    service::EdgePort,
    snapshots::{self, SnapshotBody},
    staleness::StalenessBook,
    stream::SyncStream,
    subscriber::Subscriber,
    tracking::{EdgeStatus, KillWatch, Settling, Tracking},
    upstream::{Entry, Feed, FeedEnd, Start, Upstream, UpstreamError, Urgency},
};

/// What the hub's tasks share.
pub(crate) struct Shared<U> {
    pub(crate) core: Arc<Core>,
    pub(crate) upstream: Arc<U>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// How a hub is set up.
#[derive(Clone)]
pub struct HubOptions {
    /// What leases are measured on.
    pub clock: Arc<dyn BootClock>,
    /// By how much the rate of any clock may be off.
    pub drift: Drift,
}

impl std::fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubOptions").field("drift", &self.drift).finish_non_exhaustive()
    }
}

/// A running hub. Cheap to clone; it runs until [`Hub::shutdown`].
pub struct Hub<U> {
    shared: Arc<Shared<U>>,
}

impl<U> Clone for Hub<U> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<U> std::fmt::Debug for Hub<U> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("core", &self.shared.core).finish_non_exhaustive()
    }
}

impl<U: Upstream> Hub<U> {
    /// Starts a hub's tasks on the current runtime. A node may give the hub a runtime of its own, so that ten thousand
    /// streams that are written to don't stand before its other work.
    #[must_use]
    pub fn start(upstream: Arc<U>, options: HubOptions) -> Self {
        Self::start_patient(upstream, options, Patience::default())
    }

    pub(crate) fn start_patient(upstream: Arc<U>, options: HubOptions, patience: Patience) -> Self {
        let HubOptions { clock, drift } = options;
        let asked = upstream.clone();
        let staleness = StalenessBook::new(Box::new(move |paths| asked.staleness(paths)));
        let tracking = Tracking::new(drift, clock.now());
        let core = Arc::new(Core::new(clock, tracking, staleness, patience));
        let (stop, tasks) = Default::default();
        let shared = Arc::new(Shared { core, upstream, stop, tasks });
        shared.tasks.spawn(shared.core.fanout.clone().run(shared.stop.clone()));
        shared.tasks.spawn(freshness::run(shared.clone()));
        shared.tasks.spawn(follow(shared.clone()));
        Self { shared }
    }

    /// The edge port's gRPC service: sync and snapshots from here, everything else from `rest`.
    #[must_use]
    pub fn service<S>(&self, rest: S) -> EdgePort<U, S> {
        EdgePort::new(self.clone(), rest)
    }

    /// Opens one enforcer's sync stream.
    pub(crate) fn sync(&self, peer: &PeerIdentity, body: tonic::body::Body) -> Result<SyncStream, Refusal> {
        let core = &self.shared.core;
        if self.shared.stop.is_cancelled() {
            return Err(StreamRefused::Stopping.into());
        }
        let admitted = self.shared.upstream.admit(peer)?;
        let stream = core.tracking.next_stream();
        let subscriber = Subscriber::new(stream, admitted.clone(), peer.clone(), core.clock.now());
        let registered = Registered::new(core, subscriber)?;
        // A change that came before it was registered was rechecked without it.
        if self.shared.upstream.admit(peer)? != admitted {
            return Err(StreamRefused::EdgeChanged.into());
        }
        Ok(SyncStream::new(core.clone(), registered, self.shared.upstream.origin(), Inbound::new(body)))
    }

    /// Sends one enforcer the whole view, when it is its turn.
    pub(crate) async fn snapshot(&self, peer: &PeerIdentity) -> Result<SnapshotBody, Refusal> {
        self.shared.upstream.admit(peer)?;
        Ok(snapshots::fetch(&self.shared).await?)
    }

    /// Ends the streams of enforcers about which something else is registered now, so that they come back under it. The
    /// hub does so by itself when an event says that something changed.
    pub fn recheck(&self) {
        recheck(&self.shared, |_| true);
    }

    /// Tells all enforcers which hubs there are, if the list changed.
    pub fn set_hubs(&self, hubs: Vec<v1::HubEndpoint>) {
        self.shared.core.set_hubs(hubs);
    }

    /// How far this hub has the log.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.shared.core.ring.lock().index()
    }

    /// Up to where events were released to streams.
    #[cfg(test)]
    pub(crate) fn released(&self) -> haltline_core::ids::EventSeq {
        self.shared.core.fanout.released()
    }

    /// Waits until this hub has the log up to `index`. Cancel safe; waits for ever if it never comes.
    pub async fn reached(&self, index: LogIndex) {
        let mut applied = self.shared.core.applied.subscribe();
        // The sender lives as long as this does.
        let _ = applied.wait_for(|applied| *applied >= index).await;
    }

    /// Whether the source above has said where it stands.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.core.is_ready()
    }

    /// Begins to wait until a kill is surely in force at everything that hangs on this hub.
    ///
    /// # Errors
    /// [`TrackerError::NotApplied`] if this hub hasn't the kill yet, [`TrackerError::TooManyKills`].
    pub fn watch(&self, kill: WatchedKill) -> Result<KillWatch, TrackerError> {
        let core = &self.shared.core;
        KillWatch::begin(core.tracking.clone(), core.clock.clone(), kill, self.applied())
    }

    /// For a relay that serves these paths: the index up to which everything below it is surely in force, which it may
    /// acknowledge upstream. None before the boot wait has passed.
    #[must_use]
    pub fn settled(&self, paths: &[Option<FleetPath>]) -> Option<LogIndex> {
        self.settled_within(paths, self.applied())
    }

    /// As [`Hub::settled`], going no further than `at_most`. No Fresh below what is settled leaves any more, so a relay that
    /// goes no further than its last statement takes no answer from those who wait for one.
    #[must_use]
    pub fn settled_within(&self, paths: &[Option<FleetPath>], at_most: LogIndex) -> Option<LogIndex> {
        let lasts = self.shared.upstream.staleness(paths);
        let at_most = at_most.min(self.applied());
        self.shared.core.tracking.settle(at_most, lasts, self.shared.core.clock.now())
    }

    /// Tells when to look at [`Hub::settled`] again.
    #[must_use]
    pub fn settling(&self) -> Settling {
        Settling { moved: self.shared.core.tracking.moves(), applied: self.shared.core.applied.subscribe() }
    }

    /// The enforcers that are connected.
    #[must_use]
    pub fn edges(&self) -> Vec<EdgeStatus> {
        let core = &self.shared.core;
        let ring = core.ring.lock();
        let at = (ring.index(), ring.latest().seq);
        drop(ring);
        core.tracking.list(&core.fanout.subscribers().all(), at, core.clock.now())
    }

    /// Enforcers that left, and whose lease may still live.
    #[must_use]
    pub fn departed(&self) -> usize {
        self.shared.core.tracking.departed()
    }

    /// Counts, for metrics.
    #[must_use]
    pub fn counters(&self) -> HubCounters {
        self.shared.core.counters()
    }

    /// Ends all streams, saying so, and then the hub.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        for subscriber in self.shared.core.fanout.subscribers().all() {
            subscriber.end(StreamRefused::Stopping);
        }
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

fn recheck<U: Upstream>(hub: &Shared<U>, concerns: impl Fn(&EdgeName) -> bool) {
    let all = hub.core.fanout.subscribers().all();
    for subscriber in all.iter().filter(|subscriber| concerns(&subscriber.admitted.name)) {
        match hub.upstream.admit(&subscriber.peer) {
            Ok(admitted) if admitted == subscriber.admitted => {}
            _ => subscriber.end(StreamRefused::EdgeChanged),
        }
    }
}

/// Fills the ring from above until the hub stops.
async fn follow<U: Upstream>(hub: Arc<Shared<U>>) {
    while !hub.stop.is_cancelled() {
        let ended = tokio::select! {
            ended = follow_once(&hub) => ended,
            () = hub.stop.cancelled() => return,
        };
        match ended {
            Lost::Jumped => tracing::info!("the feed jumped; enforcers that are before it need a snapshot"),
            Lost::Upstream(error) => tracing::warn!(%error, "no feed from above; trying again"),
            Lost::Broken(error) => tracing::error!(%error, "the feed contradicts itself; beginning anew"),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(HUB_FEED_RETRY.0)) => {}
            () = hub.stop.cancelled() => return,
        }
    }
}

/// Why the feed must be taken up anew.
enum Lost {
    Jumped,
    Upstream(UpstreamError),
    Broken(crate::ring::ChainBroken),
}

async fn follow_once<U: Upstream>(hub: &Shared<U>) -> Lost {
    let Start { incarnation, index, chain, mut feed } = match hub.upstream.follow().await {
        Ok(start) => start,
        Err(error) => return Lost::Upstream(error),
    };
    recheck(hub, |_| true);
    hub.core.restart(Ring::starting(incarnation, index, chain));
    loop {
        let entries = match next_entries(&mut feed).await {
            Ok(entries) => entries,
            Err(FeedEnd::Jumped) => return Lost::Jumped,
            Err(FeedEnd::Stopping) => return Lost::Upstream(UpstreamError::Stopping),
        };
        if let Err(broken) = take_in(hub, &entries) {
            return Lost::Broken(broken);
        }
    }
}

/// What has come, at least one entry.
async fn next_entries(feed: &mut impl Feed) -> Result<Vec<Entry>, FeedEnd> {
    let mut entries = vec![feed.next().await?];
    while entries.len() < HUB_FEED_BATCH_MAX {
        match feed.try_next()? {
            Some(entry) => entries.push(entry),
            None => break,
        }
    }
    Ok(entries)
}

fn take_in<U: Upstream>(hub: &Shared<U>, entries: &[Entry]) -> Result<(), crate::ring::ChainBroken> {
    let core = &hub.core;
    if entries.iter().any(|entry| entry.policy_changed) {
        // Before any statement can rest on the change.
        core.staleness.outdate();
    }
    // Before anything that rests on the change can be granted, or a kill after it waited for: the tracker holds an enforcer to
    // be what it was when its stream opened.
    let changed: BTreeSet<&EdgeName> = entries.iter().flat_map(|entry| &entry.edges_changed).collect();
    if !changed.is_empty() {
        recheck(hub, |name| changed.contains(name));
    }
    let mut ring = core.ring.lock();
    let before = ring.latest().seq;
    ring.append(entries)?;
    let (latest, index) = (ring.latest().seq, ring.index());
    drop(ring);
    core.newest.send_replace(latest);
    core.applied.send_replace(index);
    if latest > before {
        let urgency = entries.iter().map(|entry| entry.urgency).max().unwrap_or(Urgency::Background);
        core.fanout.announce(latest, urgency);
    }
    Ok(())
}
