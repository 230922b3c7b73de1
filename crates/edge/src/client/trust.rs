//! Whose signatures count: the keys of the trust bundle that came with enrolment, and what followed from it.
//!
//! A change of the bundle is believed only with the signatures of a majority of the keys that were believed before it,
//! and takes effect only once a verified statement covers it, by one of those keys or of the keys that they endorsed: a frame
//! alone changes no key, and a node signs with its new key from the change on
//! (design 02, What is signed). The changes are kept as their own proof, so that a restart verifies all of them again.

use std::collections::{BTreeMap, VecDeque};

use haltline_core::{
    attest::BundleStatement,
    event::{FIRST_BUNDLE, TrustBundleChange},
    ids::{ClusterId, EventSeq, Incarnation, NodeId, PublicKey, Version},
    limits::{BUNDLE_CHANGES_MAX, NODES_MAX},
    trust_history::TrustHistory,
};
use haltline_pki::TrustBundle;
use serde::{Deserialize, Serialize};

use super::refusal::SyncRefusal;

/// One change with the incarnation that its endorsements name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProvenChange {
    pub(crate) incarnation: Incarnation,
    pub(crate) change: TrustBundleChange,
}

/// The keys that are believed, and changes that wait to be covered.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    cluster: ClusterId,
    version: Version,
    keys: BTreeMap<NodeId, PublicKey>,
    /// The keys of the enrolment.
    enrolled: BTreeMap<NodeId, PublicKey>,
    /// What led from the enrolment's keys to these.
    changes: Vec<ProvenChange>,
    /// Endorsed, in the order of the chain, and not yet covered by a statement.
    pending: VecDeque<(EventSeq, ProvenChange)>,
}

impl Trust {
    /// The keys of the bundle that came with enrolment.
    pub(crate) fn enrolled(bundle: &TrustBundle) -> Self {
        let keys: BTreeMap<_, _> =
            bundle.nodes().iter().map(|(node, keys)| (*node, keys.signing_key)).collect();
        Self {
            cluster: bundle.cluster(),
            version: bundle.version().max(FIRST_BUNDLE),
            enrolled: keys.clone(),
            keys,
            changes: Vec::new(),
            pending: VecDeque::new(),
        }
    }

    /// Those keys and changes that were believed by an earlier process, each verified again. Changes that the bundle
    /// contains already (after enrolling anew) are left out.
    pub(crate) fn restored(bundle: &TrustBundle, changes: Vec<ProvenChange>) -> Result<Self, SyncRefusal> {
        let mut trust = Self::enrolled(bundle);
        for proven in changes {
            if proven.change.version > trust.version {
                trust.check(&proven, trust.version, &trust.keys)?;
                trust.believe(proven);
            }
        }
        Ok(trust)
    }

    pub(crate) const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The version of the bundle that is believed.
    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    /// Keys that were believed at any time since enrolment, the latest first: for what was signed under one of them and
    /// then only forbids.
    pub(crate) fn keys_ever(&self, node: NodeId) -> impl Iterator<Item = PublicKey> {
        let of =
            move |keys: &[(NodeId, PublicKey)]| keys.iter().find(|(of, _)| *of == node).map(|(_, key)| *key);
        let changed = self.changes.iter().rev().filter_map(move |proven| of(&proven.change.keys));
        changed.chain(self.enrolled.get(&node).copied())
    }

    /// A node's key, if it is believed now.
    pub(crate) fn key(&self, node: NodeId) -> Option<PublicKey> {
        self.keys.get(&node).copied()
    }

    /// The keys to check a statement by that covers the chain up to `seq`: those of the last change that waits and is
    /// covered, which a majority of the keys before it endorsed. `None` if nothing that waits is covered.
    pub(crate) fn keys_at(&self, seq: EventSeq) -> Option<&[(NodeId, PublicKey)]> {
        let covered = self.pending.iter().rev().find(|(at, _)| *at <= seq);
        covered.map(|(_, proven)| proven.change.keys.as_slice())
    }

    /// What would be believed with a view of `version`: from the keys believed here, the view's own changes lead on, each
    /// checked by a majority of the keys before it. The view itself is judged by whoever verifies it with the result. Where
    /// the changes don't reach back to the keys believed here, these stay.
    pub(crate) fn through_view(&self, version: Version, history: &TrustHistory) -> Result<Self, SyncRefusal> {
        let mut trust = self.clone();
        trust.replaced_by_snapshot(version);
        for change in history.changes().values().filter(|change| change.version <= version) {
            if change.version != trust.version.next() {
                continue;
            }
            let proven = ProvenChange { incarnation: change.incarnation, change: change.clone() };
            trust.check(&proven, trust.version, &trust.keys)?;
            trust.believe(proven);
        }
        Ok(trust)
    }

    /// The changes since enrolment, for keeping.
    pub(crate) fn changes(&self) -> &[ProvenChange] {
        &self.changes
    }

    /// Takes a change from a frame, where it is event `seq`. It waits until a statement covers it. A version that is
    /// believed already is passed over; one that doesn't follow too, because nothing here can judge it, and the answer
    /// is `false`: the old keys stay.
    pub(crate) fn propose(
        &mut self,
        incarnation: Incarnation,
        seq: EventSeq,
        change: &TrustBundleChange,
    ) -> Result<bool, SyncRefusal> {
        let last = self.pending.back().map(|(_, proven)| &proven.change);
        let version = last.map_or(self.version, |change| change.version);
        if change.version != version.next() {
            return Ok(change.version <= version);
        }
        let before = last.map_or_else(|| self.keys.clone(), |change| change.keys.iter().copied().collect());
        let proven = ProvenChange { incarnation, change: change.clone() };
        self.check(&proven, version, &before)?;
        self.pending.push_back((seq, proven));
        Ok(true)
    }

    /// A verified statement covers the chain up to `seq`: what waited for that is believed now. Whether anything was.
    pub(crate) fn covered(&mut self, seq: EventSeq) -> bool {
        let mut changed = false;
        while let Some((_, proven)) = self.pending.pop_front_if(|(at, _)| *at <= seq) {
            self.believe(proven);
            changed = true;
        }
        changed
    }

    /// A verified snapshot stands for everything that waited, up to the version that it names; the rest is given up.
    /// Whether anything is believed now that wasn't.
    pub(crate) fn replaced_by_snapshot(&mut self, version: Version) -> bool {
        let mut changed = false;
        while let Some((_, proven)) =
            self.pending.pop_front_if(|(_, proven)| proven.change.version <= version)
        {
            self.believe(proven);
            changed = true;
        }
        self.pending.clear();
        changed
    }

    fn believe(&mut self, proven: ProvenChange) {
        self.version = proven.change.version;
        self.keys = proven.change.keys.iter().copied().collect();
        self.changes.push(proven);
    }

    fn check(
        &self,
        proven: &ProvenChange,
        held: Version,
        before: &BTreeMap<NodeId, PublicKey>,
    ) -> Result<(), SyncRefusal> {
        let ProvenChange { incarnation, change } = proven;
        if change.endorsements.len() > NODES_MAX {
            return Err(SyncRefusal::BundleEndorsements { got: change.endorsements.len() });
        }
        if self.changes.len() + self.pending.len() >= BUNDLE_CHANGES_MAX {
            return Err(SyncRefusal::BundleChanges);
        }
        let (cluster_id, version) = (self.cluster, change.version);
        let statement =
            BundleStatement { cluster_id, incarnation: *incarnation, version, keys: &change.keys };
        let before: Vec<_> = before.iter().map(|(node, key)| (*node, *key)).collect();
        Ok(statement.verify(held, &before, &change.endorsements)?)
    }
}

#[cfg(test)]
#[path = "trust_test.rs"]
mod tests;
