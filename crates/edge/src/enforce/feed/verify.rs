//! What was verified: of each event, what permits acts now, and what was laid over the view because of it goes.

use haltline_core::{
    command::RevocationTarget,
    event::{EdgePolicy, EnforcementEvent},
    ids::{EdgeName, EventSeq},
};

use super::{
    super::{revocations::RevokedKey, tag::Tag},
    Feed,
};

impl Feed {
    /// What an event permits acts now, and what was laid over the view because of it isn't needed any more.
    pub(super) fn verify(&mut self, event: EnforcementEvent, seq: EventSeq) {
        match event {
            EnforcementEvent::Founded { cluster_id, incarnation } => {
                self.view.cluster = Some((cluster_id, incarnation));
                self.touch(Tag::EVERYTHING);
            }
            EnforcementEvent::NodeKeySet { node, key } => {
                self.node_keys.insert(node, key);
                self.keys_changed();
            }
            // It comes in verified views only: in a frame it would be another chain's, and changes nothing.
            EnforcementEvent::Restored { .. } => {}
            EnforcementEvent::TrustBundleSet(change) => {
                let before = std::mem::take(&mut self.node_keys);
                self.trust.follow(before, &change);
                self.node_keys = change.keys.into_iter().collect();
                self.keys_changed();
            }
            EnforcementEvent::KillSet { kill, .. } => self.drop_rules(kill, false, seq),
            EnforcementEvent::KillLifted { kill } => self.drop_rules(kill, false, seq),
            EnforcementEvent::Revoked { target, .. } => {
                let key = RevokedKey::of(&target);
                if let Some(key) = key
                    && self.heard_revocations.get(&key) == Some(&seq)
                {
                    self.heard_revocations.remove(&key);
                }
                if let RevocationTarget::Terminated(kill) = target {
                    self.drop_rules(kill, true, seq);
                }
            }
            EnforcementEvent::RevocationEnded { target } => self.end_revocation(&target, seq),
            EnforcementEvent::FleetSet { path, policy } => {
                let tag = Tag::path(path.as_str());
                self.view.policies.verify_fleet(path, Some(policy), seq);
                self.fleet_verified(tag);
            }
            EnforcementEvent::FleetRemoved { path } => {
                let tag = Tag::path(path.as_str());
                self.view.policies.verify_fleet(path, None, seq);
                self.fleet_verified(tag);
            }
            EnforcementEvent::AgentSet { path, labels } => {
                self.touch(Tag::path(path.as_str()));
                self.view.policies.verify_agent(path, Some(labels), seq);
            }
            EnforcementEvent::AgentRemoved { path } => {
                self.touch(Tag::path(path.as_str()));
                self.view.policies.verify_agent(path, None, seq);
            }
            EnforcementEvent::EdgeSet { edge, record } => self.verify_edge(&edge, Some(record), seq),
            EnforcementEvent::EdgeRemoved { edge } => self.verify_edge(&edge, None, seq),
        }
    }

    fn end_revocation(&mut self, target: &RevocationTarget, seq: EventSeq) {
        if let RevocationTarget::Terminated(kill) = target {
            self.drop_rules(*kill, true, seq);
        }
        // Unless it was heard that the same is revoked again.
        if let Some(key) = RevokedKey::of(target)
            && !self.heard_revocations.contains_key(&key)
        {
            self.view.revocations.remove(&key);
            if let Some(tag) = Tag::revoked(target) {
                self.touch(tag);
            }
        }
    }

    fn verify_edge(&mut self, edge: &EdgeName, record: Option<EdgePolicy>, seq: EventSeq) {
        if *edge == self.name {
            self.own.retain(|(heard, _)| *heard > seq);
            self.own.insert(0, (seq, record));
            self.own_changed();
        }
    }

    fn fleet_verified(&mut self, tag: Tag) {
        self.policy_changed(tag);
        self.changed_since_lease.insert(tag);
    }
}
