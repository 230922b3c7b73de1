//! What a hub counts, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the hub started, and sizes now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HubCounters {
    /// Streams that are open.
    pub streams: u64,
    /// Streams that were opened.
    pub streams_opened: u64,
    /// How often the feed from above was taken up.
    pub feeds: u64,
    /// Fan-outs of events.
    pub fanouts: u64,
    /// Frames that were encoded.
    pub frames_encoded: u64,
    /// Frames handed to streams.
    pub frames_sent: u64,
    /// Bytes of those frames.
    pub frame_bytes_sent: u64,
    /// Statements asked for from above and received.
    pub statements: u64,
    /// Probes that a statement answered.
    pub probes_answered: u64,
    /// Probes that no statement could be had for.
    pub probes_unanswered: u64,
    /// Answers that were discarded, because their index lay below a kill that was reported clear.
    pub answers_discarded: u64,
    /// Enforcers that were told to fetch a snapshot.
    pub snapshots_needed: u64,
    /// Snapshots that were sent, whole or in part.
    pub snapshots_sent: u64,
    /// Events in the ring.
    pub ring_events: u64,
    /// Bytes of the ring.
    pub ring_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) streams_opened: AtomicU64,
    pub(crate) frames_sent: AtomicU64,
    pub(crate) frame_bytes_sent: AtomicU64,
    pub(crate) feeds: AtomicU64,
    statements: AtomicU64,
    probes_answered: AtomicU64,
    probes_unanswered: AtomicU64,
    pub(crate) answers_discarded: AtomicU64,
    pub(crate) snapshots_needed: AtomicU64,
    pub(crate) snapshots_sent: AtomicU64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Adds so many.
pub(crate) fn add(counter: &AtomicU64, many: u64) {
    counter.fetch_add(many, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn answered(&self, probes: u64) {
        count(&self.statements);
        add(&self.probes_answered, probes);
    }

    pub(crate) fn unanswered(&self, probes: u64) {
        add(&self.probes_unanswered, probes);
    }

    /// All counts; the caller adds the sizes.
    pub(crate) fn read(&self) -> HubCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HubCounters {
            streams_opened: read(&self.streams_opened),
            feeds: read(&self.feeds),
            frames_sent: read(&self.frames_sent),
            frame_bytes_sent: read(&self.frame_bytes_sent),
            statements: read(&self.statements),
            probes_answered: read(&self.probes_answered),
            probes_unanswered: read(&self.probes_unanswered),
            answers_discarded: read(&self.answers_discarded),
            snapshots_needed: read(&self.snapshots_needed),
            snapshots_sent: read(&self.snapshots_sent),
            ..HubCounters::default()
        }
    }
}
