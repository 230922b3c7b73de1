//! This node's part in a change of the keys that enforcers trust: it endorses what two people proposed, with the key that it
//! has in the bundle in force, and goes over to its own new key when the bundle names it.
//!
//! Everything is done again until the state shows it: after a restart, a change of leader, a lost answer. Endorsing twice
//! changes nothing.

use std::{sync::Arc, time::Duration};

use haltline_consensus::{Entries, FeedError};
use haltline_core::{
    attest::BundleStatement,
    command::{BundleEndorse, Caller, Command, Request, Signature},
    ids::{NodeId, RequestId, Version},
    limits::{BUNDLE_RETRY_MAX, BUNDLE_RETRY_MIN, REQUEST_LIFETIME_MAX},
    state::{ProposedBundle, State, change::ChangeKind},
    time::Millis,
};

use crate::{context::Context, refused::Refused, signing::Signing};

/// Runs until the node stops.
pub(crate) async fn keep_endorsing(context: Arc<Context>) {
    let mut entries = context.consensus.entries_after(context.consensus.state().applied);
    let mut retry = None;
    let mut warned = None;
    loop {
        retry = match look(&context, &mut warned).await {
            Ok(()) => None,
            Err(error) => {
                tracing::debug!(%error, "this node's part in a change of keys is tried again");
                Some(longer(retry))
            }
        };
        let again = retry.map(jittered).unwrap_or_default();
        let changed = tokio::select! {
            changed = next_change(&context, &mut entries) => changed,
            () = tokio::time::sleep(again), if retry.is_some() => continue,
            () = context.stopping.cancelled() => return,
        };
        match changed {
            Ok(()) => retry = None,
            Err(Stopping) => return,
        }
    }
}

/// The node is stopping.
struct Stopping;

/// Waits for an entry that concerns the keys, or for one that was missed.
async fn next_change(context: &Context, entries: &mut Entries) -> Result<(), Stopping> {
    loop {
        match entries.next().await {
            Ok(entry) if entry.changes.iter().any(|change| concerns_keys(&change.kind)) => return Ok(()),
            Ok(_) => {}
            Err(FeedError::FellBehind { .. }) => {
                *entries = context.consensus.entries_after(context.consensus.state().applied);
                return Ok(());
            }
            Err(FeedError::Stopping) => return Err(Stopping),
        }
    }
}

const fn concerns_keys(kind: &ChangeKind) -> bool {
    matches!(
        kind,
        ChangeKind::Founded { .. } | ChangeKind::BundleProposed { .. } | ChangeKind::BundleSet { .. }
    )
}

fn longer(last: Option<Duration>) -> Duration {
    let max = Duration::from_millis(BUNDLE_RETRY_MAX.0);
    last.map_or(Duration::from_millis(BUNDLE_RETRY_MIN.0), |last| (last * 2).min(max))
}

/// Between half and all of a time, so that nodes that failed together don't try together.
fn jittered(time: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness all try at once, which works too.
    let _ = getrandom::fill(&mut byte);
    time / 2 + time * u32::from(byte[0]) / 512
}

/// Why there is something left to do.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error("{0}")]
    Keys(String),
    #[error("the proposed bundle gives this node a key that it doesn't have")]
    NotPrepared,
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Does what the state as it is asks of this node. `warned` is the proposal that an operator was told of already.
async fn look(context: &Arc<Context>, warned: &mut Option<Version>) -> Result<(), NotYet> {
    let published = context.consensus.state();
    let (signing, settled) = (Arc::clone(&context.signing), Arc::clone(&published));
    let settling = tokio::task::spawn_blocking(move || signing.settle(&settled.state));
    let settling = settling.await.map_err(|error| NotYet::Keys(error.to_string()))?;
    settling.map_err(|error| {
        tracing::error!(%error, code = error.code(), "this node's next signing key can't be taken up");
        NotYet::Keys(error.to_string())
    })?;
    if let Err(error) = context.signing.signer(&published.state) {
        tracing::error!(%error, "this node can't sign");
        return Err(NotYet::Keys(error.to_string()));
    }
    match endorsement(&published.state, context.identity.id(), &context.signing) {
        Endorsement::NotPrepared(version) => {
            if warned.replace(version) != Some(version) {
                tracing::warn!(
                    %version,
                    "people propose a signing key for this node that it doesn't have; it won't endorse the bundle, and could \
                     sign nothing under it: prepare the key here with `haltline node key next` and propose that one"
                );
            }
            Err(NotYet::NotPrepared)
        }
        Endorsement::NotAsked => Ok(()),
        Endorsement::Sign(command) => propose(context, command).await,
    }
}

async fn propose(context: &Context, command: BundleEndorse) -> Result<(), NotYet> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| NotYet::Keys(error.to_string()))?;
    let version = command.version;
    let request = Request {
        id: RequestId(id),
        caller: Caller::Node(context.identity.id()),
        deadline: context.consensus.cluster_now().plus(Millis(REQUEST_LIFETIME_MAX.0 / 2)),
        signature: None,
        command: Command::BundleEndorse(command),
    };
    let (stamp, outcome) = context.propose(request).await?;
    tracing::info!(%version, index = stamp.index.0, ?outcome, "endorsed a trust bundle");
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Endorsement {
    /// Nothing waits for this node.
    NotAsked,
    /// Its own new key isn't here: what it can't sign with it doesn't ask for.
    NotPrepared(Version),
    /// What it says.
    Sign(BundleEndorse),
}

/// What a state asks of this node. Only what two people signed stands in a state as proposed.
fn endorsement(state: &State, node: NodeId, signing: &Signing) -> Endorsement {
    let (Some(proposed), Some(cluster)) = (state.proposed_bundle(), state.cluster()) else {
        return Endorsement::NotAsked;
    };
    let ProposedBundle { version, keys, endorsements, .. } = proposed;
    if endorsements.iter().any(|(by, _)| *by == node) || !state.nodes().contains_key(&node) {
        return Endorsement::NotAsked;
    }
    if keys.iter().any(|(of, key)| *of == node && !signing.has(key)) {
        return Endorsement::NotPrepared(*version);
    }
    let Ok(signer) = signing.signer(state) else { return Endorsement::NotPrepared(*version) };
    let statement =
        BundleStatement { cluster_id: cluster.id, incarnation: cluster.incarnation, version: *version, keys };
    let signature = Signature(signer.sign(&statement.to_bytes()));
    Endorsement::Sign(BundleEndorse { version: *version, signature })
}
