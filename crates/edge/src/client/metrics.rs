//! What the link to the hubs counts.

use std::sync::atomic::AtomicU64;

use haltline_core::lease::Nanos;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Upper bounds of the round trip's buckets in seconds: from one rack to around the world.
const ROUND_TRIP_BUCKETS: [f64; 12] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0];

/// Why something was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Because {
    reason: String,
}

/// The link's counters. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub(crate) struct LinkMetrics {
    refused: Family<Because, Counter>,
    failed: Family<Because, Counter>,
    frames: Counter,
    renewed: Counter,
    snapshots: Counter,
    connections: Counter,
    round_trip: Histogram,
    pub(crate) connected: Gauge,
    pub(crate) index: Gauge<u64, AtomicU64>,
}

impl Default for LinkMetrics {
    fn default() -> Self {
        Self {
            refused: Family::default(),
            failed: Family::default(),
            frames: Counter::default(),
            renewed: Counter::default(),
            snapshots: Counter::default(),
            connections: Counter::default(),
            round_trip: Histogram::new(ROUND_TRIP_BUCKETS),
            connected: Gauge::default(),
            index: Gauge::default(),
        }
    }
}

impl LinkMetrics {
    /// Makes them part of a page.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("haltline_edge");
        registry.register("hub_refused", "What a hub said and wasn't believed", self.refused.clone());
        registry.register("hub_failed", "Connections and streams that failed", self.failed.clone());
        registry.register("frames", "Frames of events taken", self.frames.clone());
        registry.register("leases", "Answers to probes that gave a lease", self.renewed.clone());
        registry.register("snapshots", "Snapshots installed", self.snapshots.clone());
        registry.register("connections", "Connections to hubs", self.connections.clone());
        registry.register("connected", "Whether a hub serves this enforcer", self.connected.clone());
        registry.register("index", "Up to where the log is in the view", self.index.clone());
        let help = "From a probe to its verified answer";
        registry.register_with_unit("probe_round_trip", help, Unit::Seconds, self.round_trip.clone());
    }

    pub(crate) fn refused(&self, reason: &str) {
        self.refused.get_or_create(&Because { reason: reason.into() }).inc();
    }

    pub(crate) fn failed(&self, reason: &str) {
        self.failed.get_or_create(&Because { reason: reason.into() }).inc();
    }

    pub(crate) fn frame(&self) {
        self.frames.inc();
    }

    pub(crate) fn snapshot(&self) {
        self.snapshots.inc();
    }

    pub(crate) fn connection(&self) {
        self.connections.inc();
    }

    #[allow(clippy::float_arithmetic, reason = "a histogram of seconds, for people")]
    pub(crate) fn renewed(&self, round_trip: Nanos) {
        self.renewed.inc();
        self.round_trip.observe(std::time::Duration::from_nanos(round_trip.0).as_secs_f64());
    }
}
