//! Who is a member and who was lately, kept from what this node has applied.

use std::collections::BTreeSet;

use haltline_consensus::Published;
use haltline_core::{
    enforcement::Membership,
    ids::NodeId,
    lease::{BootNanos, Drift},
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct MembershipBook {
    membership: Membership,
    /// How many of the former members are taken in.
    seen: u64,
}

impl MembershipBook {
    /// Takes in what was applied. Whoever left counts from when this is called, which is never too early.
    pub(super) fn observe(&mut self, published: &Published, drift: Drift, now: BootNanos) -> &Membership {
        let members: BTreeSet<NodeId> = published.members().map(|(node, _)| node).collect();
        let former = published.former_members();
        let (unnamed, left) = former.after(self.seen);
        if unnamed > 0 {
            self.membership.left_unnamed(now);
        }
        let left: BTreeSet<NodeId> = left.collect();
        self.seen = former.total();
        if !left.is_empty() {
            // Also those that came and went between two looks were members once.
            let with_left = members.union(&left).copied().collect();
            self.membership.observe(&with_left, drift, now);
        }
        self.membership.observe(&members, drift, now);
        &self.membership
    }
}
