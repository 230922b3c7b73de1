//! Whether the node is alive and ready, told over gRPC (`grpc.health.v1`) and HTTP, and its metrics of the moment.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use haltline_consensus::BarrierError;
use haltline_core::{
    limits::{
        AGENTS_MAX, CREDENTIALS_MAX, EDGES_MAX, FLEETS_MAX, JOIN_TOKENS_MAX, KILLS_MAX, LIFTED_KILLS_MAX,
        PENDING_APPROVALS_MAX, PEOPLE_MAX, QUORUM_CHECK_INTERVAL, READINESS_INTERVAL, RECEIPTS_MAX,
        REQUESTS_MAX, REVOCATIONS_MAX,
    },
    state::State,
};
use haltline_pki::{Listening, PortCounters};
use haltline_storage::Room;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{context::Context, metrics::Reading, services};

/// Entries that a follower may lag behind what it knows to be committed and still count as caught up: one batch that is
/// being applied.
const LAG_ENTRIES_MAX: u64 = 64;

/// How long the log may wait for room before the node is of no use: a pause that others don't notice.
const WAITING_MAX: Duration = Duration::from_secs(1);

/// What is known about the node's health.
pub(crate) struct Health {
    context: Arc<Context>,
    listening: OnceLock<Listening>,
    /// What the last read barrier said, if it failed.
    unconfirmed: Mutex<Option<String>>,
}

impl Health {
    pub(crate) fn new(context: Arc<Context>) -> Arc<Self> {
        Arc::new(Self {
            context,
            listening: OnceLock::new(),
            unconfirmed: Mutex::new(Some("no quorum has confirmed the leader yet".into())),
        })
    }

    /// The API port, once it is open.
    pub(crate) fn set_listening(&self, listening: Listening) {
        // The port is opened once.
        let _ = self.listening.set(listening);
    }

    /// Why the node must stop, if it must.
    pub(crate) fn fatal(&self) -> Option<String> {
        self.context.consensus.fatal().borrow().as_ref().map(ToString::to_string)
    }

    /// Why the node should get no calls now, if it shouldn't.
    pub(crate) fn unready(&self) -> Option<String> {
        if let Some(fatal) = self.fatal() {
            return Some(fatal);
        }
        if self.context.stopping.is_cancelled() {
            return Some("stopping".into());
        }
        if self.listening.get().is_none() {
            return Some("the API port isn't open yet".into());
        }
        let published = self.context.consensus.state();
        let status = self.context.consensus.status();
        if status.leader.is_none() {
            return Some("no leader is known".into());
        }
        if !published.state.is_founded() {
            return Some("the cluster has no genesis yet".into());
        }
        if let Some(reason) = &*self.unconfirmed.lock() {
            return Some(reason.clone());
        }
        if let Some(waiting) = status.disk.log.waiting
            && waiting > WAITING_MAX
        {
            let seconds = waiting.as_secs();
            return Some(format!(
                "the log has been waiting for room on the disk for {seconds} s: free space"
            ));
        }
        let behind = status.committed.0.saturating_sub(published.applied.0);
        (behind > LAG_ENTRIES_MAX).then(|| format!("{behind} entries behind"))
    }

    /// What an operator should see to, though the node serves: a node that is short of room still takes kills, so it must
    /// stay within reach.
    pub(crate) fn warning(&self) -> Option<String> {
        let disk = self.context.consensus.status().disk;
        let free = disk.log.free_bytes.map_or_else(String::new, |free| format!(" ({} MiB free)", free >> 20));
        if disk.takes_kills_only {
            return Some(format!("the cluster takes no commands but kills: free space on its disks{free}"));
        }
        (disk.log.room != Room::Ample).then(|| format!("the disk is nearly full{free}: free space"))
    }

    /// Asks again and again whether a quorum still confirms the leader: a node in a minority believes in its leader for
    /// long, and its own word is no proof.
    pub(crate) async fn confirm(self: Arc<Self>) {
        let interval = Duration::from_millis(QUORUM_CHECK_INTERVAL.0);
        loop {
            let barrier = tokio::select! {
                barrier = self.context.consensus.read_barrier() => barrier,
                () = self.context.stopping.cancelled() => return,
            };
            // A full queue of readers says nothing about the quorum.
            let failed = barrier.err().filter(|error| !matches!(error, BarrierError::Busy { .. }));
            *self.unconfirmed.lock() = failed.map(|error| error.to_string());
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.context.stopping.cancelled() => return,
            }
        }
    }

    /// Keeps `grpc.health.v1` up to date until the node stops, then says so.
    pub(crate) async fn report(self: Arc<Self>, reporter: HealthReporter) {
        let interval = Duration::from_millis(READINESS_INTERVAL.0);
        let mut last = None;
        loop {
            let unready = self.unready();
            if last.as_ref() != Some(&unready) {
                match &unready {
                    None => tracing::info!("ready"),
                    Some(reason) => tracing::warn!(%reason, "not ready"),
                }
                let status =
                    if unready.is_none() { ServingStatus::Serving } else { ServingStatus::NotServing };
                for name in services::NAMES.into_iter().chain([""]) {
                    reporter.set_service_status(name, status).await;
                }
                last = Some(unready);
            }
            if self.context.stopping.is_cancelled() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(Instant::now() + interval) => {}
                () = self.context.stopping.cancelled() => {}
            }
        }
    }

    /// The page of metrics, with the numbers of this moment.
    pub(crate) fn metrics_page(&self) -> String {
        self.context.metrics.render(&self.reading())
    }

    fn reading(&self) -> Reading {
        let published = self.context.consensus.state();
        let status = self.context.consensus.status();
        let counters = self.listening.get().map(Listening::counters);
        Reading {
            term: status.term,
            is_leader: status.leader == Some(self.context.identity.id()),
            last: status.last_log.0,
            committed: status.committed.0,
            applied: published.applied.0,
            snapshot: status.snapshot.0,
            event_seq: published.state.chain().seq.0,
            queued: status.waiting as u64,
            connections: counters.map_or(0, |counters| counters.open),
            streams: self.context.streams.len() as u64,
            watchers: self.context.watches.open(),
            watch_lag: self.context.watches.lag(published.applied),
            disk: status.disk,
            tables: tables(&published.state),
            tls_refused: counters.map_or_else(Vec::new, tls_refused),
        }
    }
}

/// Each table of the machine: name, entries, bound.
fn tables(state: &State) -> Vec<(&'static str, u64, u64)> {
    [
        ("fleets", state.fleets().len(), FLEETS_MAX),
        ("agents", state.agents().len(), AGENTS_MAX),
        ("people", state.people().len(), PEOPLE_MAX),
        ("kills", state.kills().len(), KILLS_MAX),
        ("lifted_kills", state.lifted_kills().len(), LIFTED_KILLS_MAX),
        ("revocations", state.revocations().len(), REVOCATIONS_MAX),
        ("approvals", state.approvals().len(), PENDING_APPROVALS_MAX),
        ("requests", state.requests_len(), REQUESTS_MAX),
        ("edges", state.edges().len(), EDGES_MAX),
        ("join_tokens", state.join_tokens().len(), JOIN_TOKENS_MAX),
        ("credentials", state.credentials().len(), CREDENTIALS_MAX),
        ("receipts", state.receipts().len(), RECEIPTS_MAX),
    ]
    .map(|(table, entries, bound)| (table, entries as u64, bound as u64))
    .into()
}

fn tls_refused(counters: PortCounters) -> Vec<(&'static str, u64)> {
    vec![
        ("full", counters.refused_full),
        ("handshake", counters.refused_tls),
        ("key_removed_or_certificate_ended", counters.closed_by_recheck),
    ]
}
