//! Kills that have no receipt yet: whoever leads follows them by itself.
//!
//! Every node keeps the list from what it applies, so a new leader takes over where the last one stopped.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use haltline_consensus::{FeedError, Role};
use haltline_core::{ids::KillId, limits::STANDING_INTERVAL, state::change::ChangeKind};

use super::Enforcements;
use crate::refused::Refused;

/// Runs until the node stops.
pub(super) async fn follow(node: Arc<Enforcements>) {
    let published = node.consensus.state();
    let mut entries = node.consensus.entries_after(published.applied);
    let mut without_receipt = in_force(&node);
    loop {
        let interval = Duration::from_millis(STANDING_INTERVAL.0);
        let entry = tokio::select! {
            entry = entries.next() => Some(entry),
            () = tokio::time::sleep(interval), if !without_receipt.is_empty() => None,
            () = node.stopping.cancelled() => return,
        };
        match entry {
            Some(Ok(entry)) => {
                let mut is_new = false;
                for change in &entry.changes {
                    is_new |= take_in(&mut without_receipt, &change.kind);
                }
                if !is_new {
                    continue;
                }
            }
            Some(Err(FeedError::FellBehind { .. })) => {
                let published = node.consensus.state();
                entries = node.consensus.entries_after(published.applied);
                without_receipt = in_force(&node);
            }
            Some(Err(FeedError::Stopping)) => return,
            None => {}
        }
        if node.consensus.status().role == Role::Leader {
            without_receipt.retain(|kill| node.is_known(*kill));
            for kill in &without_receipt {
                // At the bound the rest come with a later look. What is refused otherwise still drains.
                if let Err(Refused::TooManyKills { .. }) = node.prove(*kill) {
                    break;
                }
            }
        }
    }
}

fn in_force(node: &Enforcements) -> BTreeSet<KillId> {
    let published = node.consensus.state();
    let state = &published.state;
    state.kills().keys().filter(|kill| !state.receipts().contains_key(*kill)).copied().collect()
}

/// Whether there is something new to prove.
fn take_in(without_receipt: &mut BTreeSet<KillId>, change: &ChangeKind) -> bool {
    match change {
        ChangeKind::KillPlaced { kill, .. } | ChangeKind::DrainEnded { kill } => {
            without_receipt.insert(*kill);
            true
        }
        ChangeKind::KillLifted { kill, .. } | ChangeKind::ReceiptRecorded { kill, .. } => {
            without_receipt.remove(kill);
            false
        }
        _ => false,
    }
}
