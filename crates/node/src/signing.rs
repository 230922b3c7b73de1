//! The key that this node signs with: the one that the bundle in force names, and none else.
//!
//! A node may have a next key ready beside the current one. It signs with the next one exactly from the entry on at which the
//! bundle names it, and only then gives the old one up; a key that the bundle doesn't name signs nothing. TLS has a key of
//! its own, on which the node's place in the cluster hangs; it has no part in this.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use haltline_consensus::{AppliedPosition, Consensus};
use haltline_core::{
    ids::{NodeId, PublicKey},
    state::State,
};
use haltline_pki::{NodeIdentity, PkiError, StatementSigner, adopt_signing_key, prepared_signing_key};
use parking_lot::RwLock;

/// The bundle in force names a key of this node that it doesn't have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the trust bundle in force names {expected} as the signing key of node {node}, which isn't in its identity directory, \
     so this node signs nothing; put the key back, or propose one that the node has"
)]
pub(crate) struct NoSigningKey {
    node: NodeId,
    expected: PublicKey,
}

/// This node's signing keys. Held in an [`Arc`].
pub(crate) struct Signing {
    node: NodeId,
    directory: Arc<Path>,
    keys: RwLock<Keys>,
    /// Whether the current key is the one in force and no change is under way, so that nobody has to look at the state.
    is_settled: AtomicBool,
}

struct Keys {
    current: Arc<StatementSigner>,
    next: Option<Arc<StatementSigner>>,
}

impl Signing {
    pub(crate) fn new(identity: &NodeIdentity, directory: &Path) -> Arc<Self> {
        let keys = RwLock::new(Keys { current: Arc::clone(identity.signer()), next: None });
        let is_settled = AtomicBool::new(false);
        Arc::new(Self { node: identity.id(), directory: directory.into(), keys, is_settled })
    }

    /// The signer whose key is in force in a state. Before the founding that is the one there is.
    pub(crate) fn signer(&self, state: &State) -> Result<Arc<StatementSigner>, NoSigningKey> {
        let keys = self.keys.read();
        let Some(record) = state.nodes().get(&self.node) else { return Ok(Arc::clone(&keys.current)) };
        let expected = record.signing_key;
        let held = [Some(&keys.current), keys.next.as_ref()].into_iter().flatten();
        let found = held.into_iter().find(|signer| signer.public_key() == expected).cloned();
        found.ok_or(NoSigningKey { node: self.node, expected })
    }

    /// Where this node stands, and the signer for statements about that. Reads the state only while keys are changing.
    pub(crate) fn position(
        &self,
        consensus: &Consensus,
    ) -> Result<(Arc<StatementSigner>, AppliedPosition), NoSigningKey> {
        if self.is_settled.load(Ordering::Acquire) {
            // In this order: should the key change in between, the old one signs, which is refused, and not the new one too
            // early.
            let signer = Arc::clone(&self.keys.read().current);
            return Ok((signer, consensus.position()));
        }
        let published = consensus.state();
        let state = &published.state;
        let at =
            AppliedPosition { index: published.applied, stamp: state.last_stamp(), chain: state.chain() };
        Ok((self.signer(state)?, at))
    }

    /// Whether this node has the key.
    pub(crate) fn has(&self, key: &PublicKey) -> bool {
        let keys = self.keys.read();
        [Some(&keys.current), keys.next.as_ref()].into_iter().flatten().any(|held| held.public_key() == *key)
    }

    /// The key that lies ready, read from the disk.
    pub(crate) fn prepared(&self) -> Result<Option<PublicKey>, PkiError> {
        Ok(prepared_signing_key(&self.directory)?.map(|signer| signer.public_key()))
    }

    /// Brings the keys in line with a state: takes up a key that was prepared, and puts it in the place of the old one once
    /// it is in force. Blocks on the disk.
    pub(crate) fn settle(&self, state: &State) -> Result<(), PkiError> {
        let Some(record) = state.nodes().get(&self.node) else { return Ok(()) };
        let in_force = record.signing_key;
        // First, so that from here on statements are signed by what the state says.
        self.is_settled.store(false, Ordering::Release);
        let prepared = prepared_signing_key(&self.directory)?.map(Arc::new);
        self.keys.write().next.clone_from(&prepared);
        if let Some(next) = prepared.filter(|next| next.public_key() == in_force) {
            adopt_signing_key(&self.directory)?;
            *self.keys.write() = Keys { current: next, next: None };
            tracing::info!(key = %in_force, "signing with the new key from here on; the old one is gone");
        }
        let is_settled =
            state.proposed_bundle().is_none() && self.keys.read().current.public_key() == in_force;
        self.is_settled.store(is_settled, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use haltline_pki::prepare_signing_key;

    use super::*;
    use crate::endorsing::test_world::World;

    #[test]
    fn a_node_signs_with_its_next_key_exactly_when_the_bundle_names_it() {
        let mut world = World::new();
        let signing = Signing::new(&world.identity, world.home.path());
        let old = world.identity.signer().public_key();
        let next = prepare_signing_key(world.home.path()).unwrap();
        assert_eq!(prepare_signing_key(world.home.path()).unwrap(), next, "what was prepared stays");
        signing.settle(&world.state).unwrap();
        assert_eq!(signing.signer(&world.state).unwrap().public_key(), old);
        assert_eq!(signing.prepared().unwrap(), Some(next));

        world.propose(next);
        signing.settle(&world.state).unwrap();
        assert_eq!(signing.signer(&world.state).unwrap().public_key(), old, "proposed isn't in force");
        let before = world.state.clone();
        world.endorse(&signing);
        assert_eq!(signing.signer(&world.state).unwrap().public_key(), next, "even before the files moved");
        signing.settle(&world.state).unwrap();
        assert_eq!(signing.signer(&world.state).unwrap().public_key(), next);
        assert_eq!(signing.prepared().unwrap(), None);
        let on_disk = NodeIdentity::load(world.home.path()).unwrap();
        assert_eq!(on_disk.signer().public_key(), next);

        // After a restart, until the log is applied again, the old key would be wanted, and it is gone.
        let restarted = Signing::new(&on_disk, world.home.path());
        restarted.signer(&before).map(drop).unwrap_err();
        assert_eq!(restarted.signer(&world.state).unwrap().public_key(), next);
    }

    #[test]
    fn a_key_that_the_bundle_does_not_name_signs_nothing() {
        let mut world = World::new();
        let signing = Signing::new(&world.identity, world.home.path());
        let elsewhere = StatementSigner::generate().unwrap().public_key();
        world.propose(elsewhere);
        world.endorse_by_hand();
        signing.settle(&world.state).unwrap();
        let refused = signing.signer(&world.state).map(drop).unwrap_err();
        assert_eq!(refused, NoSigningKey { node: NodeId(1), expected: elsewhere });
    }
}
