//! Whether a relay serves, and its numbers.

use std::sync::{Arc, atomic::AtomicU64};

use haltline_edge::{
    client::{Running, Status},
    enforce::{BootClock, Clock as _},
};
use haltline_hub::{Hub, HubCounters};
use prometheus_client::{encoding::text::encode, metrics::gauge::Gauge, registry::Registry};
use tokio_util::sync::CancellationToken;

use crate::{upstream::RelayUpstream, view::RelayView};

/// See the module.
pub(crate) struct Health {
    pub(crate) running: Arc<Running>,
    pub(crate) view: Arc<RelayView>,
    pub(crate) hub: Hub<RelayUpstream>,
    pub(crate) stopping: CancellationToken,
}

impl Health {
    pub(crate) fn status(&self) -> Status {
        self.running.status(self.view.lease(), self.view.smallest_staleness())
    }

    /// Why nobody should be sent here now, if nobody should.
    pub(crate) fn unready(&self) -> Option<String> {
        if self.stopping.is_cancelled() {
            return Some("stopping".into());
        }
        if !self.hub.is_ready() {
            return Some("nothing is proven to this relay yet".into());
        }
        let status = self.status();
        if !status.connected {
            let last = status.last_error.map(|error| format!(": {}", error.message));
            return Some(format!("no hub above serves this relay{}", last.unwrap_or_default()));
        }
        (!status.is_fresh(BootClock.now())).then(|| "no hub above has answered a probe lately".into())
    }

    /// Everything that is counted, in the text format that Prometheus reads.
    pub(crate) fn metrics_page(&self) -> String {
        let mut registry = Registry::default();
        self.running.register_metrics(&mut registry);
        let below = registry.sub_registry_with_prefix("haltline_relay");
        let settled = self.hub.applied().0;
        for (name, help, value) in numbers(self.hub.counters(), self.hub.departed(), settled) {
            let gauge = Gauge::<u64, AtomicU64>::default();
            gauge.set(value);
            below.register(name, help, gauge);
        }
        let mut page = String::new();
        match encode(&mut page, &registry) {
            Ok(()) => page,
            Err(error) => format!("# {error}\n"),
        }
    }
}

fn numbers(counters: HubCounters, departed: usize, applied: u64) -> [(&'static str, &'static str, u64); 11] {
    [
        ("streams", "Enforcers that are connected", counters.streams),
        ("streams_opened", "Streams of enforcers since the start", counters.streams_opened),
        ("departed", "Enforcers that left, and whose lease may live", departed as u64),
        ("applied", "Up to where the log was heard", applied),
        ("frames_sent", "Frames handed to enforcers since the start", counters.frames_sent),
        ("frame_bytes_sent", "Bytes of those frames", counters.frame_bytes_sent),
        ("statements", "Statements passed on since the start", counters.statements),
        ("probes_answered", "Probes that a statement answered", counters.probes_answered),
        ("probes_unanswered", "Probes that no statement could be had for", counters.probes_unanswered),
        ("snapshots_sent", "Snapshots sent since the start", counters.snapshots_sent),
        ("ring_bytes", "Bytes of events that are held", counters.ring_bytes),
    ]
}
