//! Beginning anew from a snapshot, without forgetting the denials that were heard beyond it.

use std::{collections::HashMap, sync::Arc};

use haltline_core::{
    ids::{EventSeq, LogIndex},
    lease::BootNanos,
};

use super::{
    super::{
        body::ViewBody,
        policy::Policies,
        revocations::RevokedKey,
        rules::{Rule, RuleKind, Rules},
    },
    Feed, Positions,
};

/// Denials that were heard in frames beyond a snapshot that replaced the view. They stay until a lease whose probe was sent
/// after that shows what has become of them: by then, whatever was committed has come again.
///
/// Frames are unsigned, so anything may be among them, a copy of what the snapshot holds too. What the snapshot holds is
/// no orphan, and stays when the orphans go.
pub(super) struct Orphans {
    pub(super) since: BootNanos,
    pub(super) rules: Vec<(Arc<Rule>, Beyond)>,
    pub(super) revoked: HashMap<RevokedKey, Beyond>,
}

/// Beyond which snapshots a denial was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Beyond {
    /// Those of the same log that end before this.
    Same(EventSeq),
    /// All that may come: it was heard of another incarnation.
    All,
}

impl Feed {
    /// Begins anew from a verified snapshot, or from a cached one.
    pub(in crate::enforce) fn restore(&mut self, body: ViewBody, index: LogIndex, now: BootNanos) {
        let seq = body.position().seq;
        let mut orphans = self.orphans_beyond(&body, now);
        let ViewBody { cluster, node_keys, kills, revoked, fleets, agents, mut edges, trust, .. } = body;
        self.positions = Positions { applied: (index, seq), confirmed: (index, seq), unverified: 0 };
        self.unverified.clear();
        self.heard_revocations.clear();
        self.changed_since_lease.clear();
        self.own = vec![(seq, edges.remove(&self.name))];
        self.node_keys = node_keys.into_iter().collect();
        self.trust = trust;
        self.end_lease();
        let view = &mut self.view;
        view.index = index;
        view.cluster = cluster;
        view.cluster_ahead = 0;
        view.policies = Policies::verified(fleets, agents);
        view.revocations = Arc::new(revoked.ids);
        view.rules = Rules::default();
        orphans.revoked.retain(|key, _| !view.revocations.contains(key));
        // Before those of the snapshot, which then take the place of an equal.
        orphans.rules.iter().for_each(|(rule, _)| view.rules.insert(rule));
        self.kills.clear();
        self.terminated.clear();
        for (kill, set) in kills {
            self.add_rule(kill, RuleKind::Kill(set.force), set.selector, (index, seq));
        }
        for (kill, selector, before) in revoked.terminated {
            self.add_rule(kill, RuleKind::Terminated { before }, selector, (index, seq));
        }
        self.view.revocations.extend(orphans.revoked.keys().copied());
        self.orphans = Some(orphans);
        self.keys_changed();
        self.own_changed();
        self.smallest_staleness = None;
    }

    /// What was heard beyond a snapshot and denies.
    fn orphans_beyond(&mut self, body: &ViewBody, now: BootNanos) -> Orphans {
        let is_same_log = self.view.cluster.is_none() || self.view.cluster == body.cluster;
        let seq = body.position().seq;
        // Of another incarnation nothing is known to be covered by the snapshot.
        let beyond = |of: EventSeq| if is_same_log { Beyond::Same(of) } else { Beyond::All };
        let is_beyond = |of: &Beyond| *of > Beyond::Same(seq);
        let all_rules = self.kills.values().chain(self.terminated.values()).flatten();
        let (_, verified) = self.positions.confirmed;
        let heard = all_rules.filter(|rule| rule.seq > verified);
        let heard = heard.map(|rule| (Arc::clone(rule), beyond(rule.seq)));
        let heard_revocations = self.heard_revocations.iter().map(|(key, of)| (*key, beyond(*of)));
        let earlier = self.orphans.take();
        let (earlier_rules, earlier_revoked) =
            earlier.map(|earlier| (earlier.rules, earlier.revoked)).unwrap_or_default();
        Orphans {
            since: now,
            rules: heard.chain(earlier_rules).filter(|(_, of)| is_beyond(of)).collect(),
            revoked: earlier_revoked
                .into_iter()
                .chain(heard_revocations)
                .filter(|(_, of)| is_beyond(of))
                .collect(),
        }
    }

    pub(super) fn drop_orphans(&mut self) {
        let Some(orphans) = self.orphans.take() else { return };
        for (rule, _) in &orphans.rules {
            self.view.rules.remove(rule);
            self.touch(rule.touches());
        }
        for key in orphans.revoked.keys() {
            self.view.revocations.remove(key);
        }
    }
}
