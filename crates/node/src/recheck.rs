//! Closes connections as soon as their key is removed, by following what is applied.

use std::sync::Arc;

use haltline_consensus::{AppliedEntry, FeedError};
use haltline_core::state::change::ChangeKind;
use haltline_pki::Listening;

use crate::context::Context;

/// Runs until the node stops.
pub(crate) async fn follow(context: Arc<Context>, listening: Listening) {
    let mut entries = context.consensus.entries_after(context.consensus.state().applied);
    loop {
        let entry = tokio::select! {
            entry = entries.next() => entry,
            () = context.stopping.cancelled() => return,
        };
        match entry {
            Ok(entry) if removes_keys(&entry) => listening.recheck(),
            Ok(_) => {}
            Err(FeedError::FellBehind { .. }) => {
                // Whatever was missed, the state tells who is registered now.
                entries = context.consensus.entries_after(context.consensus.state().applied);
                listening.recheck();
            }
            Err(FeedError::Stopping) => return,
        }
    }
}

fn removes_keys(entry: &AppliedEntry) -> bool {
    let removes = |kind: &ChangeKind| {
        matches!(kind, ChangeKind::PersonUpdated { .. } | ChangeKind::PersonRemoved { .. })
    };
    entry.changes.iter().any(|change| removes(&change.kind))
}
