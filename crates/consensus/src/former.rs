//! Who left the cluster while this process ran: a member that was removed may have given leases that still live, so
//! whoever proves that a kill is enforced must wait for it (design 02, Enforced, early).

use std::collections::VecDeque;

use haltline_core::{ids::NodeId, limits::FORMER_MEMBERS_MAX};

/// Nodes that left the membership, in the order of the log. Begins empty with the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormerMembers {
    total: u64,
    /// `None`: somebody, who isn't known by name.
    last: VecDeque<Option<NodeId>>,
}

impl FormerMembers {
    /// How many left in all; a reader that comes again asks for those after this.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Those that left after the first `seen`, and how many more, at least, whose names aren't known.
    pub fn after(&self, seen: u64) -> (u64, impl Iterator<Item = NodeId>) {
        let new = self.total.saturating_sub(seen);
        let held = self.last.len().min(usize::try_from(new).unwrap_or(usize::MAX));
        let held_ones = self.last.iter().skip(self.last.len() - held);
        let unnamed =
            held_ones.clone().filter(|node| node.is_none()).count() + usize::from(new > held as u64);
        (unnamed as u64, held_ones.filter_map(|node| *node))
    }

    /// Somebody may have come and gone in a part of the log that this node never saw.
    pub(crate) fn left_unseen(&mut self) {
        self.push(None);
    }

    pub(crate) fn left(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        for node in nodes {
            self.push(Some(node));
        }
    }

    fn push(&mut self, node: Option<NodeId>) {
        self.total += 1;
        self.last.push_back(node);
        if self.last.len() > FORMER_MEMBERS_MAX {
            self.last.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_learn_of_everybody_who_left_since_they_looked() {
        let mut former = FormerMembers::default();
        former.left([NodeId(3), NodeId(4)]);
        let seen = former.total();
        former.left([NodeId(3)]);
        let (unnamed, named) = former.after(seen);
        assert_eq!((unnamed, named.collect::<Vec<_>>()), (0, vec![NodeId(3)]));
        assert_eq!(former.after(0).1.count(), 3);
    }

    #[test]
    fn who_left_unseen_is_somebody() {
        let mut former = FormerMembers::default();
        former.left([NodeId(3)]);
        let seen = former.total();
        former.left_unseen();
        let (unnamed, named) = former.after(seen);
        assert_eq!((unnamed, named.count()), (1, 0));
        let (unnamed, named) = former.after(0);
        assert_eq!((unnamed, named.collect::<Vec<_>>()), (1, vec![NodeId(3)]));
    }

    #[test]
    fn beyond_the_bound_somebody_is_known_to_be_missing() {
        let mut former = FormerMembers::default();
        former.left((0..FORMER_MEMBERS_MAX as u64 + 2).map(NodeId));
        let (unnamed, named) = former.after(0);
        assert_eq!((unnamed, named.count()), (1, FORMER_MEMBERS_MAX));
    }
}
