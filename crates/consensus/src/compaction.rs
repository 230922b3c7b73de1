//! When to take a snapshot and how much log to keep behind it, in entries and in bytes.
//!
//! openraft's own policy knows entries only, and a full batch is a megabyte; so it is switched off and this task decides.

use std::{sync::Arc, time::Duration};

use haltline_core::LogIndex;
use openraft::async_runtime::watch::WatchReceiver as _;
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
}

/// Looks after the log until told to stop.
pub(crate) async fn run(raft: Raft, size: Arc<LogSize>, policy: Compaction, stop: CancellationToken) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let metrics = raft.data_metrics();
    let mut progress =
        Progress { snapshot: metrics.borrow_watched().snapshot.map(|id| id.index), bytes: 0, asked_at: None };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        let (snapshot, applied) = {
            let metrics = metrics.borrow_watched();
            (metrics.snapshot.map(|id| id.index), metrics.last_applied.map(|id| id.index))
        };
        if snapshot != progress.snapshot {
            progress.snapshot = snapshot;
            if let Some(upto) = snapshot.and_then(|snapshot| purge_upto(snapshot, &size, policy))
                && raft.trigger().purge_log(upto).await.is_err()
            {
                return;
            }
        }
        if is_due(&progress, applied, size.total(), policy) {
            (progress.bytes, progress.asked_at) = (size.total(), applied);
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

/// The last entry that may go.
fn purge_upto(snapshot: u64, size: &LogSize, policy: Compaction) -> Option<u64> {
    let by_entries = snapshot.saturating_sub(policy.keep_entries);
    let by_bytes = size.index_before_last(policy.keep_bytes).unwrap_or(LogIndex(0)).0;
    Some(by_entries.max(by_bytes).min(snapshot)).filter(|upto| *upto > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Compaction =
        Compaction { entries: 100, bytes: 1 << 30, keep_entries: 10, keep_bytes: 1 << 30 };

    #[test]
    fn snapshots_come_by_entries_or_by_bytes_and_never_without_news() {
        let progress = Progress { snapshot: Some(50), bytes: 1_000, asked_at: Some(60) };
        assert!(!is_due(&progress, None, 0, POLICY));
        assert!(!is_due(&progress, Some(159), 1_000, POLICY));
        assert!(is_due(&progress, Some(160), 1_000, POLICY));
        assert!(is_due(&progress, Some(61), 1_000 + (1 << 30), POLICY));
        assert!(!is_due(&progress, Some(60), 1_000 + (1 << 30), POLICY));
    }

    #[test]
    fn what_is_kept_is_bounded_by_both() {
        let size = LogSize::default();
        for index in 1..=200 {
            size.appended(LogIndex(index), 1 << 20);
        }
        assert_eq!(purge_upto(200, &size, POLICY), Some(190));
        let tight = Compaction { keep_bytes: 4 << 20, ..POLICY };
        assert_eq!(purge_upto(200, &size, tight), Some(195));
        assert_eq!(purge_upto(5, &LogSize::default(), POLICY), None);
    }
}
