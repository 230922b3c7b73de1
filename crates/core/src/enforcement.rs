//! When a kill is enforced in the whole cluster: every member is clear, and every member removed so lately that leases it
//! gave may still live; who can't be reached is waited out (design 02, Enforced, early).
//!
//! Whoever waits does so on a clock of its own, from when it **observed** the kill applied. From that moment on no fence is
//! longer than `L(1+ρ)²`, whatever nobody knows about: lost nodes, forgotten streams, edges that never enrolled.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ids::{LogIndex, NodeId},
    lease::{BootNanos, Drift, Nanos, fence_nanos},
    limits::{FORMER_MEMBERS_MAX, MAX_STALENESS_CEILING, RECEIPT_NAMES_MAX},
    receipt::{EnforcedRule, Fenced, MemberClear},
    time::Millis,
    tracker::Cleared,
};

/// Who is a member of the cluster, learners included, and who was lately; on the clock of whoever observes it.
///
/// An observer that starts knows of no former members. It needs no memory of them: its own clear, which every wait asks
/// for, comes no earlier than its boot wait, and by then whatever they gave has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    current: BTreeSet<NodeId>,
    /// When the removal was observed committed.
    former: BTreeMap<NodeId, BootNanos>,
    /// When the last of those was removed whose names there was no room for, or aren't known.
    unnamed: Option<BootNanos>,
}

impl Membership {
    /// The committed membership as the observer sees it now; call it at start and at every change.
    pub fn observe(&mut self, members: &BTreeSet<NodeId>, drift: Drift, now: BootNanos) {
        let longest = fence_nanos(MAX_STALENESS_CEILING, drift);
        self.former.retain(|node, removed| removed.plus(longest) > now && !members.contains(node));
        for node in self.current.difference(members) {
            self.former.insert(*node, now);
        }
        while self.former.len() > FORMER_MEMBERS_MAX {
            let longest_gone = self.former.iter().min_by_key(|(_, removed)| **removed);
            let Some((node, removed)) = longest_gone.map(|(node, removed)| (*node, *removed)) else { break };
            self.former.remove(&node);
            self.unnamed = self.unnamed.max(Some(removed));
        }
        self.current.clone_from(members);
    }

    /// Somebody whose name isn't known may have been removed, now at the latest.
    pub fn left_unnamed(&mut self, now: BootNanos) {
        self.unnamed = self.unnamed.max(Some(now));
    }

    /// The members.
    #[must_use]
    pub const fn current(&self) -> &BTreeSet<NodeId> {
        &self.current
    }

    /// Former members that may matter, and when their removal was observed.
    #[must_use]
    pub const fn former(&self) -> &BTreeMap<NodeId, BootNanos> {
        &self.former
    }
}

/// One observer's wait for one kill, over the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Enforcement {
    observer: NodeId,
    index: LogIndex,
    observed: BootNanos,
    window: Nanos,
    reports: BTreeMap<NodeId, Report>,
}

/// What a member said when it was clear.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Report {
    acked: u64,
    fenced: BTreeSet<Fenced>,
}

/// Whether a kill is enforced in the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is, for good.
    Enforced(Enforced),
    /// Not surely.
    Waiting {
        /// Members, former ones included, that haven't reported clear.
        members: Vec<NodeId>,
        /// When it is enforced at the latest, by the observer's clock.
        until: BootNanos,
    },
}

/// How a kill came to be enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforced {
    /// What ended the wait.
    pub rule: EnforcedRule,
    /// The members that counted, in order, former ones included.
    pub members: Vec<(NodeId, MemberClear)>,
    /// Enforcers' streams that acknowledged.
    pub acked: u64,
    /// Enforcers that were waited out: the first few by name.
    pub fenced: Vec<Fenced>,
    /// How many more were waited out.
    pub fenced_more: u64,
}

impl Enforcement {
    /// `observer`, a node, begins to wait for the kill at `index`, which it saw applied by `observed` of its own clock.
    /// `max_staleness` is the largest `L` of any scope that the kill touches, at any index that a lease may still rest on.
    #[must_use]
    pub fn new(
        observer: NodeId,
        index: LogIndex,
        max_staleness: Millis,
        drift: Drift,
        observed: BootNanos,
    ) -> Self {
        let window = fence_nanos(max_staleness, drift);
        Self { observer, index, observed, window, reports: BTreeMap::new() }
    }

    /// The entry that is waited for.
    #[must_use]
    pub const fn index(&self) -> LogIndex {
        self.index
    }

    /// When it is enforced at the latest, by the observer's clock.
    #[must_use]
    pub const fn until(&self) -> BootNanos {
        self.observed.plus(self.window)
    }

    /// A member reported that it is clear of this kill. Its first word stands: once clear, it stays so.
    pub fn report(&mut self, member: NodeId, cleared: Cleared) {
        let Cleared { acked, fenced } = cleared;
        self.reports.entry(member).or_insert_with(|| Report { acked, fenced: fenced.into_iter().collect() });
    }

    /// Whether the kill is enforced by `now`.
    #[must_use]
    pub fn decide(&self, membership: &Membership, now: BootNanos) -> Decision {
        let counting = self.counting(membership, now);
        let is_clear = |node: &NodeId| self.reports.contains_key(node);
        let missing: Vec<NodeId> = counting.iter().filter(|node| !is_clear(node)).copied().collect();
        let unnamed_may_live = membership.unnamed.is_some_and(|removed| self.matters(removed, now));
        if now < self.until() && (unnamed_may_live || !missing.is_empty()) {
            let until = self.waits_until(membership, &missing);
            return Decision::Waiting { members: missing, until };
        }
        Decision::Enforced(self.enforced(&counting))
    }

    /// The members, who was one lately, and always the observer: its own clear covers the time before it started.
    fn counting(&self, membership: &Membership, now: BootNanos) -> BTreeSet<NodeId> {
        let former = membership.former.iter().filter(|(_, removed)| self.matters(**removed, now));
        let former = former.map(|(node, _)| *node);
        membership.current.iter().copied().chain(former).chain([self.observer]).collect()
    }

    /// Whether a lease may still live that a node gave before it was removed.
    fn matters(&self, removed: BootNanos, now: BootNanos) -> bool {
        removed.plus(self.window) > now
    }

    /// Until when the missing members can make it wait.
    fn waits_until(&self, membership: &Membership, missing: &[NodeId]) -> BootNanos {
        let end_of = |node: &NodeId| match membership.former.get(node) {
            Some(removed) => removed.plus(self.window).min(self.until()),
            None => self.until(),
        };
        let unnamed = membership.unnamed.map(|removed| removed.plus(self.window).min(self.until()));
        missing.iter().map(end_of).chain(unnamed).max().unwrap_or(self.until())
    }

    fn enforced(&self, counting: &BTreeSet<NodeId>) -> Enforced {
        let member_clear = |node: &NodeId| match self.reports.get(node) {
            Some(_) => (*node, MemberClear::Clear),
            None => (*node, MemberClear::WaitedOut),
        };
        let members: Vec<_> = counting.iter().map(member_clear).collect();
        let all: BTreeMap<_, _> = self
            .reports
            .values()
            .flat_map(|report| &report.fenced)
            .map(|fenced| (&fenced.name, fenced.why))
            .collect();
        let waited = !all.is_empty() || members.iter().any(|(_, clear)| *clear == MemberClear::WaitedOut);
        let named = all.iter().take(RECEIPT_NAMES_MAX);
        Enforced {
            rule: if waited { EnforcedRule::Fenced } else { EnforcedRule::Acked },
            members,
            acked: self.reports.values().map(|report| report.acked).sum(),
            fenced_more: all.len().saturating_sub(RECEIPT_NAMES_MAX) as u64,
            fenced: named.map(|(name, why)| Fenced { name: (*name).clone(), why: *why }).collect(),
        }
    }
}

#[cfg(test)]
#[path = "enforcement_test.rs"]
mod tests;
