//! How an enforcer is doing, for people and for the program that it is part of.

use haltline_core::{
    ids::{ClusterId, EdgeName, EventSeq, Incarnation, LogIndex, Version},
    lease::{BootNanos, Nanos},
    time::Millis,
};
use haltline_pki::{KnownHub, UnixSeconds};
use parking_lot::Mutex;
use tokio::sync::watch;

/// How an enforcer is doing at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: EdgeName,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The cluster's incarnation, by what it holds.
    pub incarnation: Incarnation,
    /// Up to where the log is in its view; what permits may wait for a statement still.
    pub index: LogIndex,
    /// How many enforcement events that is.
    pub event_seq: EventSeq,
    /// Up to where the log was proven to have come.
    pub proven: LogIndex,
    /// Version of the trusted keys.
    pub bundle_version: Version,
    /// The hub it is connected to.
    pub hub: Option<KnownHub>,
    /// Whether that hub has welcomed it and serves.
    pub connected: bool,
    /// How old its knowledge is: since the probe of its lease was sent. `None` until there was a lease.
    pub lag: Option<Nanos>,
    /// Until when it may permit under the smallest staleness it serves, by CLOCK_BOOTTIME. `None` without a lease.
    pub lease_ends: Option<BootNanos>,
    /// The smallest staleness of what it serves.
    pub smallest_staleness: Millis,
    /// How long its last answered probe took.
    pub round_trip: Option<Nanos>,
    /// What went wrong last, also if all is well since.
    pub last_error: Option<LastError>,
    /// When its certificate ends.
    pub certificate_ends: UnixSeconds,
}

impl Status {
    /// Whether it may permit anything at `now`.
    #[must_use]
    pub fn is_fresh(&self, now: BootNanos) -> bool {
        self.lease_ends.is_some_and(|ends| now < ends)
    }
}

/// What went wrong last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// A stable word.
    pub code: String,
    /// For people.
    pub message: String,
    /// With which hub; `None` where it wasn't one's fault.
    pub hub: Option<KnownHub>,
    /// When, by CLOCK_BOOTTIME.
    pub at: BootNanos,
}

/// What the link tells of itself.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) incarnation: Incarnation,
    pub(crate) index: LogIndex,
    pub(crate) event_seq: EventSeq,
    pub(crate) proven: LogIndex,
    pub(crate) bundle_version: Version,
    pub(crate) hub: Option<KnownHub>,
    pub(crate) connected: bool,
    /// Whether there ever was a lease.
    pub(crate) leased: bool,
    pub(crate) round_trip: Option<Nanos>,
    pub(crate) last_error: Option<LastError>,
    pub(crate) certificate_ends: UnixSeconds,
}

/// Where the link writes and everybody reads.
#[derive(Debug)]
pub(crate) struct Board {
    told: Mutex<Told>,
    /// Whether there was a lease.
    ready: watch::Sender<bool>,
}

impl Board {
    pub(crate) fn new(certificate_ends: UnixSeconds) -> Self {
        let told = Told {
            incarnation: Incarnation(0),
            index: LogIndex(0),
            event_seq: EventSeq(0),
            proven: LogIndex(0),
            bundle_version: Version(0),
            hub: None,
            connected: false,
            leased: false,
            round_trip: None,
            last_error: None,
            certificate_ends,
        };
        Self { told: Mutex::new(told), ready: watch::Sender::new(false) }
    }

    pub(crate) fn write(&self, change: impl FnOnce(&mut Told)) {
        let mut told = self.told.lock();
        change(&mut told);
        let is_leased = told.leased;
        drop(told);
        self.ready.send_if_modified(|ready| std::mem::replace(ready, is_leased) != is_leased);
    }

    pub(crate) fn read(&self) -> Told {
        self.told.lock().clone()
    }

    /// Waits until there is a lease.
    pub(crate) async fn ready(&self) {
        // The sender lives as long as the receiver here.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }
}
