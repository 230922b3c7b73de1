//! When to take a snapshot and how much log to keep behind it, in entries and in bytes.
//!
//! openraft's own policy knows entries only, and a full batch is a megabyte; so it is switched off and this task decides. On
//! a full disk it compacts early and keeps little, because a log goes on there in the files that a purge gives back.

use std::{sync::Arc, time::Duration};

use haltline_core::{
    LogIndex,
    limits::{LOG_KEEP_ENTRIES_MIN, LOG_KEEP_ENTRIES_TIGHT, TIGHT_SNAPSHOT_INTERVAL},
};
use haltline_storage::{LogHealth, RaftLog, Room};
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{log_size::LogSize, options::Compaction, types::Raft};

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(500);

/// What the last snapshot was taken at.
struct Progress {
    snapshot: Option<u64>,
    /// Bytes ever appended when it was asked for.
    bytes: u64,
    asked_at: Option<u64>,
    asked: Option<Instant>,
}

/// Looks after the log until told to stop.
pub(crate) async fn run(
    raft: Raft,
    log: Arc<dyn RaftLog>,
    size: Arc<LogSize>,
    usual: Compaction,
    stop: CancellationToken,
) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let metrics = raft.data_metrics();
    let snapshot = metrics.borrow_watched().snapshot.map(|id| id.index);
    let mut progress = Progress { snapshot, bytes: 0, asked_at: None, asked: None };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        let (snapshot, applied) = {
            let metrics = metrics.borrow_watched();
            (metrics.snapshot.map(|id| id.index), metrics.last_applied.map(|id| id.index))
        };
        let health = log.health();
        let policy = if health.room == Room::Ample { usual } else { tight(usual, &health) };
        if snapshot != progress.snapshot {
            progress.snapshot = snapshot;
            if let Some(upto) = snapshot.and_then(|snapshot| purge_upto(snapshot, &size, policy))
                && raft.trigger().purge_log(upto).await.is_err()
            {
                return;
            }
        }
        if is_due(&progress, applied, size.total(), policy) || is_pressing(&progress, applied, &health) {
            (progress.bytes, progress.asked_at) = (size.total(), applied);
            progress.asked = Some(Instant::now());
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
    }
}

fn is_due(progress: &Progress, applied: Option<u64>, bytes: u64, policy: Compaction) -> bool {
    let Some(applied) = applied else { return false };
    let since = applied.saturating_sub(progress.snapshot.max(progress.asked_at).unwrap_or(0));
    since > 0 && (since >= policy.entries || bytes.saturating_sub(progress.bytes) >= policy.bytes)
}

/// The policy on a full disk: a snapshot for each half of a segment, and little behind it.
fn tight(usual: Compaction, health: &LogHealth) -> Compaction {
    Compaction {
        bytes: usual.bytes.min(health.segment_bytes / 2),
        keep_entries: usual.keep_entries.min(LOG_KEEP_ENTRIES_TIGHT),
        keep_bytes: usual.keep_bytes.min(health.segment_bytes / 2),
        ..usual
    }
}

/// Whether the log lives from its reserve, so that every file counts that a purge may give back.
fn is_pressing(progress: &Progress, applied: Option<u64>, health: &LogHealth) -> bool {
    let interval = Duration::from_millis(TIGHT_SNAPSHOT_INTERVAL.0);
    health.room != Room::Ample
        && health.reserve_segments < health.reserve_segments_wanted
        && applied > progress.snapshot
        && progress.asked.is_none_or(|asked| asked.elapsed() >= interval)
}

/// The last entry that may go.
fn purge_upto(snapshot: u64, size: &LogSize, policy: Compaction) -> Option<u64> {
    let by_entries = snapshot.saturating_sub(policy.keep_entries);
    let by_bytes = size.index_before_last(policy.keep_bytes).unwrap_or(LogIndex(0)).0;
    // However large the entries are, a follower that is a moment behind must find the next ones.
    let tail = snapshot.saturating_sub(LOG_KEEP_ENTRIES_MIN.min(policy.keep_entries));
    Some(by_entries.max(by_bytes).min(tail)).filter(|upto| *upto > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Compaction =
        Compaction { entries: 100, bytes: 1 << 30, keep_entries: 10, keep_bytes: 1 << 30 };

    #[test]
    fn snapshots_come_by_entries_or_by_bytes_and_never_without_news() {
        let progress = Progress { snapshot: Some(50), bytes: 1_000, asked_at: Some(60), asked: None };
        assert!(!is_due(&progress, None, 0, POLICY));
        assert!(!is_due(&progress, Some(159), 1_000, POLICY));
        assert!(is_due(&progress, Some(160), 1_000, POLICY));
        assert!(is_due(&progress, Some(61), 1_000 + (1 << 30), POLICY));
        assert!(!is_due(&progress, Some(60), 1_000 + (1 << 30), POLICY));
    }

    #[test]
    fn a_log_that_lives_from_its_reserve_presses_for_a_snapshot_but_not_all_the_time() {
        let low = LogHealth {
            room: Room::Low,
            reserve_segments: 2,
            reserve_segments_wanted: 3,
            segment_bytes: 8_192,
            ..LogHealth::default()
        };
        let mut progress = Progress { snapshot: Some(50), bytes: 0, asked_at: None, asked: None };
        assert!(is_pressing(&progress, Some(51), &low));
        assert!(!is_pressing(&progress, Some(50), &low), "without news");
        let whole = LogHealth { reserve_segments: 3, ..low.clone() };
        assert!(!is_pressing(&progress, Some(51), &whole));
        assert!(!is_pressing(&progress, Some(51), &LogHealth { room: Room::Ample, ..low.clone() }));
        progress.asked = Some(Instant::now());
        assert!(!is_pressing(&progress, Some(51), &low), "it was asked for a moment ago");
        assert!(is_due(&progress, Some(51), 4_096, tight(POLICY, &low)));
        assert!(!is_due(&progress, Some(51), 4_095, tight(POLICY, &low)));
    }

    #[test]
    fn what_is_kept_is_bounded_by_both() {
        let size = LogSize::default();
        for index in 1..=200 {
            size.appended(LogIndex(index), 1 << 20);
        }
        assert_eq!(purge_upto(200, &size, POLICY), Some(190));
        let by_bytes = Compaction { keep_entries: 150, keep_bytes: 100 << 20, ..POLICY };
        assert_eq!(purge_upto(200, &size, by_bytes), Some(99));
        let large = Compaction { keep_entries: 150, keep_bytes: 1 << 20, ..POLICY };
        assert_eq!(
            purge_upto(200, &size, large),
            Some(200 - LOG_KEEP_ENTRIES_MIN),
            "never up to the snapshot"
        );
        assert_eq!(purge_upto(5, &LogSize::default(), POLICY), None);
    }
}
