//! What the node does about entries as they are applied: it writes the changes that matter to its log, and closes
//! connections as soon as their key is removed.

use std::sync::Arc;

use haltline_consensus::{AppliedEntry, FeedError};
use haltline_core::{command::RevocationTarget, state::change::ChangeKind};
use haltline_pki::Listening;

use crate::context::Context;

/// Runs until the node stops.
pub(crate) async fn follow(context: Arc<Context>, ports: Vec<Listening>) {
    let mut entries = context.consensus.entries_after(context.consensus.state().applied);
    loop {
        let entry = tokio::select! {
            entry = entries.next() => entry,
            () = context.stopping.cancelled() => return,
        };
        match entry {
            Ok(entry) => {
                context.metrics.applied(entry.commands);
                tell(&entry);
                if removes_keys(&entry) {
                    ports.iter().for_each(Listening::recheck);
                }
            }
            Err(FeedError::FellBehind { .. }) => {
                // Whatever was missed, the state tells who is registered now.
                entries = context.consensus.entries_after(context.consensus.state().applied);
                ports.iter().for_each(Listening::recheck);
            }
            Err(FeedError::Stopping) => return,
        }
    }
}

/// Registry changes come by the thousand; what stops, starts or changes who may do what is worth a line.
fn tell(entry: &AppliedEntry) {
    for change in entry.changes.iter().filter(|change| !is_registry(&change.kind)) {
        let by = change.caller.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::info!(
            index = entry.index.0,
            kind = change.kind.name(),
            subject = %change.kind.subject(),
            by,
            "{}",
            change.kind
        );
    }
}

fn is_registry(kind: &ChangeKind) -> bool {
    matches!(
        kind,
        ChangeKind::FleetCreated { .. }
            | ChangeKind::FleetUpdated { .. }
            | ChangeKind::FleetDeleted { .. }
            | ChangeKind::AgentRegistered { .. }
            | ChangeKind::AgentUpdated { .. }
            | ChangeKind::AgentDeleted { .. }
            | ChangeKind::CredentialIssued { .. }
    )
}

fn removes_keys(entry: &AppliedEntry) -> bool {
    let removes = |kind: &ChangeKind| {
        matches!(
            kind,
            ChangeKind::PersonUpdated { .. }
                | ChangeKind::PersonRemoved { .. }
                | ChangeKind::EdgeEnrolled { .. }
                | ChangeKind::EdgeRemoved { .. }
                | ChangeKind::Revoked { target: RevocationTarget::Key(_), .. }
        )
    };
    entry.changes.iter().any(|change| removes(&change.kind))
}
