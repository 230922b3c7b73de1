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

/// A cluster of one node, whose state is made by hand.
#[cfg(test)]
pub(crate) mod test_world {
    #![allow(clippy::unwrap_used)]
    use haltline_core::{
        LogIndex,
        command::{Batch, BundlePropose, Genesis, NodeRecord, PersonAdd, Role, RoleBinding, Statement},
        ids::{Digest, Incarnation, PublicKey},
        outcome::Outcome,
        time::{ClusterTime, WallTime},
    };
    use haltline_pki::{ClusterPki, NewNode, NodeIdentity, PersonIdentity, Validity};

    use super::*;

    pub(crate) struct World {
        pub(crate) home: tempfile::TempDir,
        pub(crate) identity: NodeIdentity,
        pub(crate) state: State,
        admin: PersonIdentity,
        entries: u64,
    }

    impl World {
        pub(crate) fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let pki = ClusterPki::create(&[NewNode { id: NodeId(1), hosts: vec![] }]).unwrap();
            let identity = pki.nodes()[0].clone();
            identity.save(home.path()).unwrap();
            let name = "ada".parse().unwrap();
            let admin = pki.create_person(&name, Vec::new(), Validity::leaf()).unwrap();
            let (tls_key, signing_key) = admin.keys();
            let genesis = Genesis {
                cluster_id: pki.cluster(),
                incarnation: Incarnation(0),
                trust_bundle: Digest([0; 32]),
                nodes: vec![NodeRecord {
                    id: NodeId(1),
                    name: "a".parse().unwrap(),
                    key_hash: identity.trusted().tls_key,
                    signing_key: identity.trusted().signing_key,
                }],
                first_admin: PersonAdd {
                    person: name,
                    tls_keys: vec![tls_key],
                    signing_key,
                    roles: vec![RoleBinding { role: Role::Admin, path: None }],
                },
            };
            let mut world = Self { home, identity, state: State::new(), admin, entries: 0 };
            world.apply(&Batch { genesis: Some(Box::new(genesis)), ..world.batch() });
            world
        }

        fn batch(&self) -> Batch {
            Batch {
                cluster_time: ClusterTime(self.entries),
                wall_time: WallTime(self.entries),
                requests: Vec::new(),
                genesis: None,
                applied: LogIndex(self.entries),
            }
        }

        fn apply(&mut self, batch: &Batch) -> Vec<Outcome> {
            self.entries += 1;
            let applied = self.state.apply(LogIndex(self.entries), batch);
            applied.results.into_iter().map(Result::unwrap).collect()
        }

        fn command(&mut self, caller: Caller, command: Command) -> Outcome {
            let mut request = Request {
                id: RequestId([u8::try_from(self.entries).unwrap(); 16]),
                caller,
                deadline: ClusterTime(60_000),
                signature: None,
                command,
            };
            if let Some(requester) = request.caller.person() {
                let cluster = self.state.cluster().unwrap();
                let statement = Statement {
                    cluster_id: cluster.id,
                    incarnation: cluster.incarnation,
                    request_id: request.id,
                    requester,
                    deadline: request.deadline,
                    command: &request.command,
                };
                request.signature = Some(Signature(self.admin.signer().sign(&statement.to_bytes())));
            }
            let batch = Batch { requests: vec![request], ..self.batch() };
            self.apply(&batch).remove(0)
        }

        /// People propose this key for the node.
        pub(crate) fn propose(&mut self, key: PublicKey) {
            let version = self.state.bundle_version().next();
            let propose = BundlePropose { version, keys: vec![(NodeId(1), key)] };
            let caller = self.admin.person().clone().into();
            self.command(caller, Command::BundlePropose(propose));
        }

        /// The node endorses, of its own accord.
        pub(crate) fn endorse(&mut self, signing: &Signing) {
            match endorsement(&self.state, NodeId(1), signing) {
                Endorsement::Sign(endorse) => self.endorse_with(endorse),
                other => unreachable!("{other:?}"),
            }
        }

        /// The node's key endorses what the node itself wouldn't.
        pub(crate) fn endorse_by_hand(&mut self) {
            let (proposed, cluster) = (self.state.proposed_bundle().unwrap(), self.state.cluster().unwrap());
            let statement = BundleStatement {
                cluster_id: cluster.id,
                incarnation: cluster.incarnation,
                version: proposed.version,
                keys: &proposed.keys,
            };
            let signature = Signature(self.identity.signer().sign(&statement.to_bytes()));
            self.endorse_with(BundleEndorse { version: proposed.version, signature });
        }

        fn endorse_with(&mut self, endorse: BundleEndorse) {
            let outcome = self.command(Caller::Node(NodeId(1)), Command::BundleEndorse(endorse));
            assert!(matches!(outcome, Outcome::BundleEndorsed { in_force: true, .. }), "{outcome:?}");
        }
    }

    #[test]
    fn a_node_endorses_what_is_proposed_once_and_nothing_else() {
        let mut world = World::new();
        let signing = Signing::new(&world.identity, world.home.path());
        let asked = |world: &World| endorsement(&world.state, NodeId(1), &signing);
        assert_eq!(asked(&world), Endorsement::NotAsked, "nothing is proposed");
        let next = haltline_pki::prepare_signing_key(world.home.path()).unwrap();
        world.propose(next);
        assert_eq!(asked(&world), Endorsement::NotPrepared(Version(2)), "its key isn't taken up yet");
        signing.settle(&world.state).unwrap();
        assert!(matches!(asked(&world), Endorsement::Sign(_)));
        assert_eq!(endorsement(&world.state, NodeId(9), &signing), Endorsement::NotAsked, "no node of it");
        world.endorse(&signing);
        assert_eq!(asked(&world), Endorsement::NotAsked, "done");
        assert_eq!(world.state.bundle_version(), Version(2));
    }

    #[test]
    fn retries_grow_to_a_bound_and_are_spread() {
        let mut retry = None;
        for _ in 0..20 {
            retry = Some(longer(retry));
        }
        let max = Duration::from_millis(BUNDLE_RETRY_MAX.0);
        assert_eq!(retry, Some(max));
        assert!((0..100).all(|_| (max / 2..max).contains(&jittered(max))));
    }
}
