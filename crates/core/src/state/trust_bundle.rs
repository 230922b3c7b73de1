//! The keys that nodes sign statements with, and how they are replaced (design 02, What is signed).
//!
//! People can't replace them alone, or who controls the people's keys controlled what enforcers believe; nodes can't
//! either. Two people propose new keys, and when a majority of the old keys has endorsed them they are in force, with the
//! endorsements in the event, so that an enforcer that missed it can check it.

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use super::{Effects, KeyOwner, State, change::ChangeKind};
use crate::{
    attest::{BundleStatement, is_signed_by},
    command::{BundleEndorse, BundlePropose, Signature},
    event::{EnforcementEvent, TrustBundleChange},
    ids::{NodeId, PublicKey, Version},
    limits::CREDENTIAL_TTL_CEILING,
    rejection::{BundleFault, Outcome, Rejection},
    time::Stamp,
    trust_history::TrustHistory,
};

/// New keys that people agreed on and nodes have yet to endorse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedBundle {
    /// The version that the bundle will have.
    pub version: Version,
    /// All its keys, in the order of the nodes.
    pub keys: Vec<(NodeId, PublicKey)>,
    /// Valid signatures so far, in the order of the nodes.
    pub endorsements: Vec<(NodeId, Signature)>,
    /// When it was proposed.
    pub proposed: Stamp,
}

impl State {
    /// Takes up new keys. A proposal that was not yet in force is replaced, its endorsements with it.
    pub(super) fn propose_bundle(
        &mut self,
        command: &BundlePropose,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let version = command.version;
        let expected = self.bundle_version.next();
        if version != expected {
            return Err(Rejection::BundleVersion { got: version, expected });
        }
        self.check_bundle(&command.keys)?;
        let needed = self.endorsements_needed();
        self.proposed_bundle = Some(ProposedBundle {
            version,
            keys: command.keys.clone(),
            endorsements: Vec::new(),
            proposed: effects.stamp,
        });
        effects.changed(ChangeKind::BundleProposed { version, needed });
        Ok(Outcome::BundleProposed { version, needed })
    }

    /// Adds a node's signature, and puts the keys in force if it was the last one needed.
    pub(super) fn endorse_bundle(
        &mut self,
        node: NodeId,
        command: &BundleEndorse,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let version = command.version;
        let unknown = Rejection::UnknownBundle { version };
        let mut proposed =
            self.proposed_bundle.clone().filter(|proposed| proposed.version == version).ok_or(unknown)?;
        let cluster = self.cluster.as_ref().ok_or(Rejection::NotFounded)?;
        let statement = BundleStatement {
            cluster_id: cluster.id,
            incarnation: cluster.incarnation,
            version,
            keys: &proposed.keys,
        };
        let key = self.nodes.get(&node).ok_or(Rejection::UnknownNode { node })?.signing_key;
        if !is_signed_by(&key, &statement.to_bytes(), &command.signature) {
            return Err(Rejection::BadEndorsement { node });
        }
        let mut endorsements = proposed.endorsements.clone();
        match endorsements.binary_search_by_key(&node, |(by, _)| *by) {
            Ok(at) => endorsements[at].1 = command.signature,
            Err(at) => endorsements.insert(at, (node, command.signature)),
        }
        let needed = self.endorsements_needed();
        let endorsed = u32::try_from(endorsements.len()).unwrap_or(u32::MAX);
        let old: Vec<_> = self.nodes.iter().map(|(id, node)| (*id, node.signing_key)).collect();
        let in_force = statement.verify(self.bundle_version, &old, &endorsements).is_ok();
        if in_force {
            // A key may have become somebody's since it was proposed.
            self.check_bundle(&proposed.keys)?;
        }
        proposed.endorsements = endorsements;
        effects.changed(ChangeKind::BundleEndorsed { version, node, endorsed, needed });
        if in_force {
            self.set_bundle(proposed, effects);
        } else {
            self.proposed_bundle = Some(proposed);
        }
        Ok(Outcome::BundleEndorsed { version, endorsed, needed, in_force })
    }

    fn set_bundle(&mut self, bundle: ProposedBundle, effects: &mut Effects) {
        let ProposedBundle { version, keys, endorsements, .. } = bundle;
        let before: Vec<_> = self.nodes.iter().map(|(id, node)| (*id, node.signing_key)).collect();
        for node in self.nodes.values() {
            self.derived.signing_key_owners.remove(&node.signing_key);
        }
        for (id, key) in &keys {
            if let Some(node) = self.nodes.get_mut(id) {
                node.signing_key = *key;
            }
            self.derived.signing_key_owners.insert(*key, KeyOwner::Node(*id));
        }
        self.proposed_bundle = None;
        self.bundle_version = version;
        let incarnation = self.cluster.as_ref().map(|cluster| cluster.incarnation).unwrap_or_default();
        let old_keys_until = effects.stamp.cluster_time.plus(CREDENTIAL_TTL_CEILING);
        let change = TrustBundleChange { version, keys, endorsements, incarnation, old_keys_until };
        self.trust_history.follow(before, &change);
        self.emit(EnforcementEvent::TrustBundleSet(Box::new(change)), effects);
        effects.changed(ChangeKind::BundleSet { version });
    }

    /// Each node once and in order, with a key that is its own, or new and nobody else's; and something must change.
    fn check_bundle(&self, keys: &[(NodeId, PublicKey)]) -> Result<(), Rejection> {
        let fault = |fault| Err(Rejection::BadBundle { fault });
        if !keys.iter().map(|(node, _)| node).eq(self.nodes.keys()) {
            return fault(BundleFault::Nodes);
        }
        if keys.iter().all(|(node, key)| self.nodes.get(node).is_some_and(|node| node.signing_key == *key)) {
            return fault(BundleFault::NothingNew);
        }
        let is_key = |key: &PublicKey| VerifyingKey::from_bytes(&key.0).is_ok_and(|key| !key.is_weak());
        if !keys.iter().all(|(_, key)| is_key(key)) {
            return fault(BundleFault::NoKey);
        }
        for (at, (node, key)) in keys.iter().enumerate() {
            let owner = self.derived.signing_key_owners.get(key);
            if let Some(owner) = owner.filter(|owner| **owner != KeyOwner::Node(*node)) {
                return Err(Rejection::KeyTaken { owner: owner.to_string() });
            }
            if keys[..at].iter().any(|(_, earlier)| earlier == key) {
                return fault(BundleFault::KeyTwice);
            }
        }
        Ok(())
    }

    fn endorsements_needed(&self) -> u32 {
        u32::try_from(self.nodes.len() / 2 + 1).unwrap_or(u32::MAX)
    }

    /// How the keys in force came to be, and which replaced ones still count for tokens.
    #[must_use]
    pub const fn trust_history(&self) -> &TrustHistory {
        &self.trust_history
    }

    /// How many signatures of the nodes in force it takes to replace a key.
    #[must_use]
    pub fn bundle_majority(&self) -> u32 {
        self.endorsements_needed()
    }

    /// New keys that wait for the nodes' endorsements.
    #[must_use]
    pub fn proposed_bundle(&self) -> Option<&ProposedBundle> {
        self.proposed_bundle.as_ref()
    }
}
