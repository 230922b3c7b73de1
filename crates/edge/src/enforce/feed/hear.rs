//! What was heard: of each event, what denies acts at once, laid over the verified view.

use haltline_core::{
    command::RevocationTarget,
    event::{EdgePolicy, EnforcementEvent},
    ids::{EventSeq, LogIndex},
    limits::VERSIONS_UNVERIFIED_MAX,
    selector::Selector,
};

use super::{
    super::{revocations::RevokedKey, rules::RuleKind, tag::Tag},
    Feed,
};

impl Feed {
    /// What an event denies acts at once.
    pub(super) fn hear(&mut self, event: &EnforcementEvent, seq: EventSeq, index: LogIndex) {
        match event {
            EnforcementEvent::KillSet { kill, selector, force } => {
                self.add_rule(*kill, RuleKind::Kill(*force), selector.clone(), (index, seq));
            }
            EnforcementEvent::Revoked { target, issued_before, .. } => {
                self.hear_revocation(target, issued_before.as_ref(), (index, seq));
            }
            EnforcementEvent::FleetSet { path, policy } => {
                self.view.policies.hear_fleet(path.clone(), Some(policy.clone()), seq);
                self.policy_changed(Tag::path(path.as_str()));
            }
            EnforcementEvent::FleetRemoved { path } => {
                self.view.policies.hear_fleet(path.clone(), None, seq);
                self.policy_changed(Tag::path(path.as_str()));
            }
            EnforcementEvent::AgentSet { path, labels } => {
                self.view.policies.hear_agent(path.clone(), Some(labels.clone()), seq);
                self.touch(Tag::path(path.as_str()));
            }
            EnforcementEvent::AgentRemoved { path } => {
                self.view.policies.hear_agent(path.clone(), None, seq);
                self.touch(Tag::path(path.as_str()));
            }
            EnforcementEvent::EdgeSet { edge, record } if *edge == self.name => {
                self.hear_own(Some(record.clone()), seq);
            }
            EnforcementEvent::EdgeRemoved { edge } if *edge == self.name => {
                self.hear_own(None, seq);
            }
            // These permit, or concern others.
            EnforcementEvent::Founded { .. }
            | EnforcementEvent::NodeKeySet { .. }
            | EnforcementEvent::KillLifted { .. }
            | EnforcementEvent::RevocationEnded { .. }
            | EnforcementEvent::EdgeSet { .. }
            | EnforcementEvent::EdgeRemoved { .. }
            | EnforcementEvent::TrustBundleSet(_)
            | EnforcementEvent::Restored { .. } => {}
        }
    }

    fn hear_revocation(
        &mut self,
        target: &RevocationTarget,
        issued_before: Option<&(Selector, LogIndex)>,
        at: (LogIndex, EventSeq),
    ) {
        if let Some(key) = RevokedKey::of(target) {
            self.view.revocations.insert(key);
            self.heard_revocations.insert(key, at.1);
            if let Some(orphans) = &mut self.orphans {
                orphans.revoked.remove(&key);
            }
        }
        if let Some(tag) = Tag::revoked(target) {
            self.touch(tag);
        }
        if let (RevocationTarget::Terminated(kill), Some((selector, before))) = (target, issued_before) {
            self.add_rule(*kill, RuleKind::Terminated { before: *before }, selector.clone(), at);
        }
    }

    /// A record more that this enforcer has to be within; past the bound none that it could be.
    fn hear_own(&mut self, record: Option<EdgePolicy>, seq: EventSeq) {
        if self.own.len() < VERSIONS_UNVERIFIED_MAX {
            self.own.push((seq, record));
        } else if let Some(last) = self.own.last_mut() {
            *last = (seq, None);
        }
        self.own_changed();
    }
}
