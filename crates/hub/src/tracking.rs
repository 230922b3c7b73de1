//! The enforcement tracker (design 02, Enforced, early) behind a lock, with this machine's clock, and whoever waits for a
//! kill woken when something moves.
//!
//! Critical sections are short: the tracker keeps its own books step by step, so neither an acknowledgement nor a look
//! goes over all streams. That a Fresh is granted and that a kill is reported clear exclude each other by this lock.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use haltline_core::{
    LogIndex,
    command::EnforcerKind,
    ids::{EdgeName, EventSeq},
    lease::{BootNanos, Drift},
    limits::HUB_CLEAR_CHECK_INTERVAL,
    time::Millis,
    tracker::{Acks, Clear, Cleared, Enforcer, StreamId, Tracker, TrackerError, WatchId, WatchedKill},
};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    clock::BootClock,
    subscriber::{Subscriber, Told},
    upstream::Admitted,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Tracking {
    tracker: Mutex<Tracker>,
    /// Counts what may have brought a watched kill further.
    moved: watch::Sender<u64>,
    last_stream: AtomicU64,
}

impl Tracking {
    /// For a process that has granted nothing before `started`.
    pub(crate) fn new(drift: Drift, started: BootNanos) -> Self {
        let tracker = Mutex::new(Tracker::new(started, drift));
        Self { tracker, moved: watch::Sender::new(0), last_stream: AtomicU64::new(0) }
    }

    /// An id that no other stream of this process has.
    pub(crate) fn next_stream(&self) -> StreamId {
        StreamId(self.last_stream.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn open(&self, subscriber: &Subscriber, now: BootNanos) -> Result<(), TrackerError> {
        let Admitted { name, kind, trusted_for_acks, paths } = &subscriber.admitted;
        let acks = match kind {
            EnforcerKind::Relay if !trusted_for_acks => Acks::DontCount,
            EnforcerKind::Relay | EnforcerKind::Edge => Acks::Count,
        };
        let enforcer = Enforcer { name: name.clone(), paths: paths.as_slice().into(), acks };
        self.tracker.lock().open(subscriber.stream, enforcer, now)
    }

    pub(crate) fn closed(&self, stream: StreamId, now: BootNanos) {
        self.tracker.lock().closed(stream, now);
        self.wake();
    }

    /// Notes an answer that is about to be handed over; whether it may be.
    pub(crate) fn grant(&self, stream: StreamId, index: LogIndex, lasts: Millis, now: BootNanos) -> bool {
        self.tracker.lock().granting(stream, index, lasts, now).is_ok()
    }

    pub(crate) fn acked(&self, stream: StreamId, index: LogIndex) {
        // A stream that isn't open any more has nothing to acknowledge.
        let _ = self.tracker.lock().acked(stream, index);
        self.wake();
    }

    fn wake(&self) {
        if self.moved.receiver_count() > 0 {
            self.moved.send_modify(|moved| *moved = moved.wrapping_add(1));
        }
    }

    /// Changes when something may have been settled or cleared.
    pub(crate) fn moves(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// For a relay: up to where it may acknowledge upstream.
    pub(crate) fn settle(&self, applied: LogIndex, lasts: Millis, now: BootNanos) -> Option<LogIndex> {
        self.tracker.lock().settle(applied, lasts, now)
    }

    /// Enforcers without an open stream whose lease may still live.
    pub(crate) fn departed(&self) -> usize {
        self.tracker.lock().departed()
    }

    /// The open streams, as people want to see them.
    pub(crate) fn list(
        &self,
        subscribers: &[Arc<Subscriber>],
        (applied, latest): (LogIndex, EventSeq),
        now: BootNanos,
    ) -> Vec<EdgeStatus> {
        let tracker = self.tracker.lock();
        let tracked = tracker.streams().map(|status| (status.stream, (status.acked, status.lease_ends)));
        let tracked: HashMap<_, _> = tracked.collect();
        drop(tracker);
        let status = |subscriber: &Arc<Subscriber>| {
            let following = tracked.get(&subscriber.stream);
            let (acked, lease_ends) = following.copied().unwrap_or_default();
            let Told { version, region } = subscriber.told();
            let Admitted { name, kind, trusted_for_acks, .. } = subscriber.admitted.clone();
            EdgeStatus {
                name,
                kind,
                trusted_for_acks,
                is_following: following.is_some(),
                acked,
                granted: subscriber.granted(),
                // Entries without events are no news to anybody.
                lag: if subscriber.acked() >= latest { 0 } else { applied.0.saturating_sub(acked.0).max(1) },
                lease: lease_ends.map(|ends| ends.since(now).to_millis_up()),
                version,
                region,
                remote_addr: subscriber.peer.remote_addr,
                connected: now.since(subscriber.opened).to_millis_up(),
            }
        };
        subscribers.iter().map(status).collect()
    }
}

/// One enforcer's stream, as people want to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeStatus {
    /// Who.
    pub name: EdgeName,
    /// What it is.
    pub kind: EnforcerKind,
    /// Whether a relay's acknowledgements are believed.
    pub trusted_for_acks: bool,
    /// Whether it is in step; otherwise it is just connecting.
    pub is_following: bool,
    /// What it acknowledged last.
    pub acked: LogIndex,
    /// The newest index that it was given freshness for; zero if for none.
    pub granted: LogIndex,
    /// How many entries of the log the hub is ahead of it; zero if none of them holds an event that it doesn't have.
    pub lag: u64,
    /// How long its lease may last from now; zero if it ended, none if it was given none.
    pub lease: Option<Millis>,
    /// Its software, in its own words.
    pub version: String,
    /// Its region, in its own words.
    pub region: String,
    /// Where it calls from.
    pub remote_addr: SocketAddr,
    /// How long ago it connected.
    pub connected: Millis,
}

/// Tells a relay when more may be settled below it.
#[derive(Debug)]
pub struct Settling {
    pub(crate) moved: watch::Receiver<u64>,
    pub(crate) applied: watch::Receiver<LogIndex>,
}

impl Settling {
    /// Returns when something moved since the last time, or some time passed in which leases may have ended. Cancel safe.
    pub async fn moved(&mut self) {
        // The senders live as long as the hub; without them only time moves.
        tokio::select! {
            Ok(()) = self.moved.changed() => {}
            Ok(()) = self.applied.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(HUB_CLEAR_CHECK_INTERVAL.0)) => {}
        }
    }
}

/// A wait for one kill to be surely in force at all that hangs on a hub. Ends when dropped.
pub struct KillWatch {
    tracking: Arc<Tracking>,
    clock: Arc<dyn BootClock>,
    watch: WatchId,
    moved: watch::Receiver<u64>,
}

impl std::fmt::Debug for KillWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KillWatch").field("watch", &self.watch).finish_non_exhaustive()
    }
}

impl KillWatch {
    pub(crate) fn begin(
        tracking: Arc<Tracking>,
        clock: Arc<dyn BootClock>,
        kill: WatchedKill,
        applied: LogIndex,
    ) -> Result<Self, TrackerError> {
        let moved = tracking.moved.subscribe();
        let watch = tracking.tracker.lock().watch(kill, applied, clock.now())?;
        Ok(Self { tracking, clock, watch, moved })
    }

    /// How far it is. Once it is clear it stays so, and no older freshness leaves this hub any more.
    ///
    /// # Errors
    /// Never for a watch that lives.
    pub fn look(&mut self) -> Result<Clear, TrackerError> {
        self.moved.mark_unchanged();
        self.tracking.tracker.lock().clear(self.watch, self.clock.now())
    }

    /// Some of those that it waits for, with the time until each is surely waited out, the longest first.
    #[must_use]
    pub fn lagging(&self, at_most: usize) -> Vec<(EdgeName, Millis)> {
        let now = self.clock.now();
        let tracker = self.tracking.tracker.lock();
        let lagging = tracker.lagging(self.watch);
        let mut lagging: Vec<_> =
            lagging.map(|(name, until)| (name.clone(), until.since(now).to_millis_up())).collect();
        drop(tracker);
        lagging.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        lagging.truncate(at_most);
        lagging
    }

    /// Returns when something moved that may bring the kill further, or some time passed. Cancel safe.
    pub async fn moved(&mut self) {
        let patience = Duration::from_millis(HUB_CLEAR_CHECK_INTERVAL.0);
        self.moved_within(patience).await;
    }

    async fn moved_within(&mut self, patience: Duration) {
        // The sender lives as long as this does.
        let _ = tokio::time::timeout(patience, self.moved.changed()).await;
    }

    /// Waits until the kill is clear. Cancel safe.
    ///
    /// # Errors
    /// As [`KillWatch::look`].
    pub async fn cleared(&mut self) -> Result<Cleared, TrackerError> {
        loop {
            let until = match self.look()? {
                Clear::Cleared(cleared) => return Ok(cleared),
                Clear::Waiting { until, .. } => until,
            };
            // By the clock that leases are measured on, which may run on while this process is suspended.
            let left = Duration::from_nanos(until.since(self.clock.now()).0);
            self.moved_within(left.min(Duration::from_millis(HUB_CLEAR_CHECK_INTERVAL.0))).await;
        }
    }
}

impl Drop for KillWatch {
    fn drop(&mut self) {
        self.tracking.tracker.lock().unwatch(self.watch);
    }
}
