//! What the node counts and times, as Prometheus reads it at `/metrics`.

use std::{
    borrow::Cow,
    fmt::Write as _,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use haltline_consensus::DiskStatus;
use haltline_core::rejection::Outcome;
use haltline_storage::{Room, SyncReport};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::refused::Refused;

/// Upper bounds of the latency buckets in seconds: a LAN commit is about a millisecond, a WAN one a few hundred.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.5, 10.0];

/// Upper bounds of the buckets for commands in one entry, up to the bound of a batch.
const BATCH_BUCKETS: [f64; 8] = [0.0, 1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 2_048.0];

/// Which command, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    command: &'static str,
    result: Cow<'static, str>,
}

/// Which table of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabels {
    table: &'static str,
}

/// Why a handshake was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    why: &'static str,
}

/// A gauge that holds any number the node has.
type Number = Gauge<u64, AtomicU64>;

/// The metrics of a node.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    commands: Family<CommandLabels, Counter>,
    latency: Histogram,
    batch: Histogram,
    table_entries: Family<TableLabels, Number>,
    table_bounds: Family<TableLabels, Number>,
    tls_refused: Family<RefusalLabels, Number>,
    log: LogGauges,
    disk: DiskGauges,
    connections: Number,
    streams: Number,
    watchers: Number,
    watch_lag: Number,
}

/// Where the node stands in the log.
#[derive(Debug, Default)]
struct LogGauges {
    term: Number,
    is_leader: Number,
    last: Number,
    committed: Number,
    applied: Number,
    snapshot: Number,
    event_seq: Number,
    queued: Number,
}

/// How the node fares on its disk.
#[derive(Debug, Default)]
struct DiskGauges {
    short_of_room: Number,
    free_bytes: Number,
    waiting_ms: Number,
    reserve: Number,
    kills_only: Number,
    syncs: Syncs,
}

/// The times of the log's syncs, counted by the storage.
#[derive(Debug, Clone, Default)]
struct Syncs(Arc<Mutex<SyncReport>>);

impl EncodeMetric for Syncs {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let report = self.0.lock();
        let counted: u64 = report.buckets.iter().map(|(_, count)| count).sum();
        let buckets = report.buckets.iter().map(|(bound, count)| (bound.as_secs_f64(), *count));
        let last = (f64::INFINITY, report.count.saturating_sub(counted));
        let buckets: Vec<(f64, u64)> = buckets.chain([last]).collect();
        let (sum, count) = (report.total.as_secs_f64(), report.count);
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Numbers read at the moment of a scrape.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    pub(crate) term: u64,
    pub(crate) is_leader: bool,
    pub(crate) last: u64,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    pub(crate) snapshot: u64,
    pub(crate) event_seq: u64,
    pub(crate) queued: u64,
    pub(crate) connections: u64,
    pub(crate) streams: u64,
    pub(crate) watchers: u64,
    pub(crate) watch_lag: u64,
    pub(crate) disk: DiskStatus,
    /// Name, entries, bound.
    pub(crate) tables: Vec<(&'static str, u64, u64)>,
    /// Why, how often.
    pub(crate) tls_refused: Vec<(&'static str, u64)>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("haltline");
        let metrics = Self {
            registry: Mutex::new(Registry::default()),
            commands: Family::default(),
            latency: Histogram::new(LATENCY_BUCKETS),
            batch: Histogram::new(BATCH_BUCKETS),
            table_entries: Family::default(),
            table_bounds: Family::default(),
            tls_refused: Family::default(),
            log: LogGauges::default(),
            disk: DiskGauges::default(),
            connections: Number::default(),
            streams: Number::default(),
            watchers: Number::default(),
            watch_lag: Number::default(),
        };
        registry.register("commands", "Commands by name and what came of them", metrics.commands.clone());
        let help = "From a command's arrival at this node to its outcome";
        registry.register_with_unit("command_latency", help, Unit::Seconds, metrics.latency.clone());
        registry.register(
            "table_entries",
            "Entries of each table of the machine",
            metrics.table_entries.clone(),
        );
        registry.register("table_bound", "Bound of each table of the machine", metrics.table_bounds.clone());
        let help = "TLS connections of the API port that were refused, by reason, since the node started";
        registry.register("tls_refused", help, metrics.tls_refused.clone());
        registry.register("connections", "Open connections of the API port", metrics.connections.clone());
        registry.register("command_streams", "Open pipelined command streams", metrics.streams.clone());
        registry.register("watchers", "Open event watches", metrics.watchers.clone());
        let help = "Entries that the slowest event watch is behind what this node has applied";
        registry.register("watch_lag_entries", help, metrics.watch_lag.clone());
        metrics.log.register(&mut registry);
        metrics.disk.register(&mut registry);
        *metrics.registry.lock() = registry;
        metrics
    }

    /// Counts and times a command.
    pub(crate) fn decided(&self, command: &'static str, took: Duration, result: Result<&Outcome, &Refused>) {
        let result = match result {
            Ok(Outcome::Pending(_)) => "pending".into(),
            Ok(_) => "ok".into(),
            Err(refused) => refused.reason().to_ascii_lowercase().into(),
        };
        self.commands.get_or_create(&CommandLabels { command, result }).inc();
        self.latency.observe(took.as_secs_f64());
    }

    /// Counts the commands of an entry.
    pub(crate) fn applied(&self, commands: usize) {
        // Bounded by a batch, far below where a float loses count.
        self.batch.observe(f64::from(u32::try_from(commands).unwrap_or(u32::MAX)));
    }

    /// Everything as text, with the numbers of this moment.
    pub(crate) fn render(&self, reading: &Reading) -> String {
        self.log.set(reading);
        self.disk.set(&reading.disk);
        self.connections.set(reading.connections);
        self.streams.set(reading.streams);
        self.watchers.set(reading.watchers);
        self.watch_lag.set(reading.watch_lag);
        for (table, entries, bound) in &reading.tables {
            self.table_entries.get_or_create(&TableLabels { table }).set(*entries);
            self.table_bounds.get_or_create(&TableLabels { table }).set(*bound);
        }
        for (why, count) in &reading.tls_refused {
            self.tls_refused.get_or_create(&RefusalLabels { why }).set(*count);
        }
        let mut page = String::new();
        if text::encode(&mut page, &self.registry.lock()).is_err() {
            // Writing to a string doesn't fail; a page that says so beats a panic if it ever did.
            let _ = writeln!(page, "# encoding failed");
        }
        page
    }
}

impl LogGauges {
    fn register(&self, registry: &mut Registry) {
        registry.register("term", "Current Raft term", self.term.clone());
        registry.register("is_leader", "1 if this node leads", self.is_leader.clone());
        registry.register("log_last_index", "Index of the last entry in this node's log", self.last.clone());
        registry.register(
            "log_committed_index",
            "Committed index known to this node",
            self.committed.clone(),
        );
        registry.register(
            "log_applied_index",
            "Index up to which this node has applied",
            self.applied.clone(),
        );
        registry.register("log_snapshot_index", "Index that the last snapshot covers", self.snapshot.clone());
        registry.register("event_seq", "Enforcement events on the chain", self.event_seq.clone());
        registry.register("proposals_queued", "Commands that wait to be proposed", self.queued.clone());
    }

    fn set(&self, reading: &Reading) {
        self.term.set(reading.term);
        self.is_leader.set(reading.is_leader.into());
        self.last.set(reading.last);
        self.committed.set(reading.committed);
        self.applied.set(reading.applied);
        self.snapshot.set(reading.snapshot);
        self.event_seq.set(reading.event_seq);
        self.queued.set(reading.queued);
    }
}

impl DiskGauges {
    fn register(&self, registry: &mut Registry) {
        let help = "0: there is room on the disk; 1: it is nearly full; 2: entries wait for room";
        registry.register("disk_short_of_room", help, self.short_of_room.clone());
        registry.register(
            "disk_free_bytes",
            "Bytes that are free on the data directory's disk",
            self.free_bytes.clone(),
        );
        let help = "For how long entries have been waiting for room on the disk";
        registry.register("log_waiting_for_room_milliseconds", help, self.waiting_ms.clone());
        let help = "Segments that the log holds against a full disk";
        registry.register("log_reserve_segments", help, self.reserve.clone());
        let help = "1 if this node leads and takes no commands but kills, for want of room on disks";
        registry.register("takes_kills_only", help, self.kills_only.clone());
        let help = "How long a sync of the log takes";
        registry.register_with_unit("log_sync", help, Unit::Seconds, self.syncs.clone());
    }

    fn set(&self, disk: &DiskStatus) {
        let log = &disk.log;
        self.short_of_room.set(match log.room {
            Room::Ample => 0,
            Room::Low => 1,
            Room::Nothing => 2,
        });
        self.free_bytes.set(log.free_bytes.unwrap_or_default());
        let waiting = log.waiting.unwrap_or_default().as_millis();
        self.waiting_ms.set(u64::try_from(waiting).unwrap_or(u64::MAX));
        self.reserve.set(log.reserve_segments as u64);
        self.kills_only.set(disk.takes_kills_only.into());
        (*self.syncs.0.lock()).clone_from(&log.syncs);
    }
}

#[cfg(test)]
mod tests {
    use haltline_core::{ids::KillId, rejection::Rejection};

    use super::*;

    #[test]
    fn commands_are_counted_by_what_came_of_them() {
        let metrics = Metrics::new();
        let took = Duration::from_millis(3);
        metrics.decided("resume", took, Ok(&Outcome::Resumed { kill: KillId(1) }));
        metrics.decided("resume", took, Err(&Refused::from(Rejection::UnknownKill { kill: KillId(2) })));
        let mut disk = DiskStatus::default();
        (disk.log.room, disk.log.free_bytes) = (Room::Low, Some(9));
        disk.log.syncs.buckets = vec![(Duration::from_millis(1), 2), (Duration::from_millis(5), 1)];
        (disk.log.syncs.count, disk.log.syncs.total) = (4, Duration::from_millis(5_000));
        let reading = Reading { applied: 7, tables: vec![("kills", 3, 10_000)], disk, ..Reading::default() };
        let page = metrics.render(&reading);
        for line in [
            "haltline_commands_total{command=\"resume\",result=\"ok\"} 1",
            "haltline_commands_total{command=\"resume\",result=\"unknown_kill\"} 1",
            "haltline_command_latency_seconds_count 2",
            "haltline_log_applied_index 7",
            "haltline_table_entries{table=\"kills\"} 3",
            "haltline_table_bound{table=\"kills\"} 10000",
            "haltline_disk_short_of_room 1",
            "haltline_disk_free_bytes 9",
            "haltline_log_sync_seconds_bucket{le=\"0.005\"} 3",
            "haltline_log_sync_seconds_bucket{le=\"+Inf\"} 4",
            "haltline_log_sync_seconds_sum 5.0",
        ] {
            assert!(page.lines().any(|got| got == line), "{line} is not in:\n{page}");
        }
    }
}
