//! What all streams of a hub share, whatever is above it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use haltline_core::{
    LogIndex,
    event::ChainPosition,
    ids::{EventSeq, Incarnation},
    limits::{HUB_CATCH_UP_TIMEOUT, HUB_ENDPOINTS_MAX, HUB_HELLO_TIMEOUT, HUB_LAG_TIMEOUT},
};
use haltline_wire::v1;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    clock::BootClock,
    counters::{Counters, HubCounters, count},
    fanout::Fanout,
    framing::{self, Part},
    freshness::ProbeLine,
    refused::StreamRefused,
    ring::Ring,
    snapshots::Snapshots,
    staleness::StalenessBook,
    subscriber::Subscriber,
    subscribers::Place,
    tracking::Tracking,
};

/// How long the hub waits for what may never come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For Hello.
    pub(crate) hello: Duration,
    /// For the events that an enforcer has and this hub doesn't yet.
    pub(crate) lag: Duration,
    /// For the events that a statement rests on.
    pub(crate) catch_up: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            hello: Duration::from_millis(HUB_HELLO_TIMEOUT.0),
            lag: Duration::from_millis(HUB_LAG_TIMEOUT.0),
            catch_up: Duration::from_millis(HUB_CATCH_UP_TIMEOUT.0),
        }
    }
}

/// See the module.
pub(crate) struct Core {
    pub(crate) patience: Patience,
    pub(crate) clock: Arc<dyn BootClock>,
    pub(crate) ring: Mutex<Ring>,
    /// The source has said where it stands.
    is_ready: AtomicBool,
    /// Up to which event the ring is filled, for those who wait for it.
    pub(crate) newest: watch::Sender<EventSeq>,
    /// Up to which entry, likewise.
    pub(crate) applied: watch::Sender<LogIndex>,
    pub(crate) fanout: Arc<Fanout>,
    pub(crate) probes: ProbeLine,
    pub(crate) tracking: Arc<Tracking>,
    pub(crate) staleness: StalenessBook,
    pub(crate) snapshots: Snapshots,
    pub(crate) counters: Counters,
    hubs: Hubs,
}

/// The hubs that enforcers are told of, as a message. Version 0 is none.
#[derive(Debug, Default)]
struct Hubs {
    version: AtomicU64,
    message: Mutex<Bytes>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(
        clock: Arc<dyn BootClock>,
        tracking: Tracking,
        staleness: StalenessBook,
        patience: Patience,
    ) -> Self {
        let ring = Ring::starting(Incarnation(0), LogIndex(0), ChainPosition::default());
        Self {
            patience,
            clock,
            ring: Mutex::new(ring),
            is_ready: AtomicBool::new(false),
            newest: watch::Sender::new(EventSeq(0)),
            applied: watch::Sender::new(LogIndex(0)),
            fanout: Arc::default(),
            probes: ProbeLine::default(),
            tracking: Arc::new(tracking),
            staleness,
            snapshots: Snapshots::default(),
            counters: Counters::default(),
            hubs: Hubs::default(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// The source stands here now; what came before isn't held.
    pub(crate) fn restart(&self, ring: Ring) {
        let (at, index) = (ring.latest().seq, ring.index());
        *self.ring.lock() = ring;
        self.is_ready.store(true, Ordering::Release);
        self.staleness.outdate();
        self.newest.send_replace(at);
        self.applied.send_replace(index);
        self.fanout.restart(at);
        count(&self.counters.feeds);
    }

    /// Notes that an enforcer is about to get an answer for this index; whether it may.
    pub(crate) fn grant(&self, subscriber: &Subscriber, index: LogIndex) -> bool {
        let now = self.clock.now();
        let staleness = self.staleness.of(&subscriber.admitted.paths, now);
        let may = self.tracking.grant(subscriber.stream, index, staleness, now);
        if may {
            subscriber.set_granted(index);
        }
        may
    }

    /// The hubs to tell of, if they changed since that version.
    pub(crate) fn hubs_after(&self, version: u64) -> Option<(u64, Bytes)> {
        if self.hubs.version.load(Ordering::Acquire) == version {
            return None;
        }
        let message = self.hubs.message.lock();
        Some((self.hubs.version.load(Ordering::Acquire), message.clone()))
    }

    /// Tells all enforcers of these hubs, if they are others than before.
    pub(crate) fn set_hubs(&self, mut hubs: Vec<v1::HubEndpoint>) {
        hubs.truncate(HUB_ENDPOINTS_MAX);
        let encoded = framing::hub(Part::Hubs, &v1::HubEndpoints { hubs });
        let mut message = self.hubs.message.lock();
        if *message != encoded {
            *message = encoded;
            self.hubs.version.fetch_add(1, Ordering::AcqRel);
            drop(message);
            self.fanout.wake_all();
        }
    }

    pub(crate) fn counters(&self) -> HubCounters {
        let (events, bytes, encoded) = self.ring.lock().held();
        HubCounters {
            streams: self.fanout.subscribers().len() as u64,
            fanouts: self.fanout.passes(),
            frames_encoded: encoded,
            ring_events: events as u64,
            ring_bytes: bytes as u64,
            ..self.counters.read()
        }
    }
}

/// Keeps a stream in the hub's tables until it is dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    core: Arc<Core>,
    subscriber: Arc<Subscriber>,
    place: Place,
    is_tracked: bool,
}

impl Registered {
    pub(crate) fn new(core: &Arc<Core>, subscriber: Arc<Subscriber>) -> Result<Self, StreamRefused> {
        let place = core.fanout.subscribers().add(&subscriber)?;
        count(&core.counters.streams_opened);
        Ok(Self { core: core.clone(), subscriber, place, is_tracked: false })
    }

    pub(crate) const fn subscriber(&self) -> &Arc<Subscriber> {
        &self.subscriber
    }

    /// The stream is in step from this event on: leases may be given.
    pub(crate) fn follow(&mut self, at: EventSeq) -> Result<(), StreamRefused> {
        self.subscriber.set_sent(at);
        self.core.tracking.open(&self.subscriber, self.core.clock.now())?;
        self.is_tracked = true;
        Ok(())
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.core.fanout.subscribers().remove(self.place);
        if self.is_tracked {
            self.core.tracking.closed(self.subscriber.stream, self.core.clock.now());
        }
    }
}
