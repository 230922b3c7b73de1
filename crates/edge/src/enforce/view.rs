//! The view as decisions read it: immutable, swapped as a whole, sharing with the one before whatever didn't change.
//!
//! It is the verified view with the denials that were heard beyond it laid over (module [`super::feed`] keeps it so), and
//! it carries its lease: a lease can't be seen before the view that it belongs to.

use std::sync::Arc;

use haltline_core::{
    event::EdgePolicy,
    ids::{ClusterId, Incarnation, LogIndex},
    lease::BootNanos,
    limits::CHANGES_REMEMBERED,
};
use haltline_pki::token::VerifyingKeys;

use super::{policy::Policies, publication::Published, revocations::Revocations, rules::Rules, tag::Tag};

/// One view and its lease.
#[derive(Clone)]
pub(super) struct EnforceView {
    /// Counts publications.
    pub(super) number: u64,
    /// What changed last, by what it touches.
    pub(super) changes: Changes,
    /// Denials of the log up to here count.
    pub(super) index: LogIndex,
    /// From when on the lease counts, if there is one.
    pub(super) fresh_from: Option<BootNanos>,
    /// Cluster time less boot time, in nanoseconds.
    pub(super) cluster_ahead: i64,
    /// Verified.
    pub(super) cluster: Option<(ClusterId, Incarnation)>,
    /// Verified: keys of nodes.
    pub(super) keys: Arc<VerifyingKeys>,
    /// Verified and heard.
    pub(super) rules: Rules,
    /// Verified and heard.
    pub(super) revocations: Arc<Revocations>,
    pub(super) policies: Policies,
    /// This enforcer's own record: as verified, after each event that was heard since, and as of the lease's index.
    pub(super) own: Arc<[Option<EdgePolicy>]>,
}

impl EnforceView {
    /// Nothing known.
    pub(super) fn empty() -> Self {
        Self {
            number: 0,
            // A session's first word says generation 0: it must never look current.
            changes: Changes { generation: 1, tags: [Tag::EVERYTHING; CHANGES_REMEMBERED] },
            index: LogIndex(0),
            fresh_from: None,
            cluster_ahead: 0,
            cluster: None,
            keys: Arc::default(),
            rules: Rules::default(),
            revocations: Arc::new(Revocations::with_room_for(0)),
            policies: Policies::default(),
            own: Arc::from([None]),
        }
    }

    /// The words that decisions read first.
    pub(super) const fn published(&self) -> Published {
        Published {
            generation: self.changes.generation,
            fresh_from: self.fresh_from,
            cluster_ahead: self.cluster_ahead,
            index: self.index,
        }
    }
}

/// The last changes by what they touch. Each change is a generation.
#[derive(Debug, Clone)]
pub(super) struct Changes {
    pub(super) generation: u64,
    /// The tag of generation g stands at g modulo the length.
    tags: [Tag; CHANGES_REMEMBERED],
}

impl Changes {
    /// One change more.
    pub(super) fn push(&mut self, tag: Tag) {
        self.generation += 1;
        self.tags[self.generation as usize % CHANGES_REMEMBERED] = tag;
    }

    /// Whether a change after `generation` may have touched somebody with these tags.
    pub(super) fn touch(&self, tags: &[Tag], generation: u64) -> bool {
        if self.generation.saturating_sub(generation) > CHANGES_REMEMBERED as u64 {
            return true;
        }
        (generation + 1..=self.generation).any(|changed| {
            let tag = self.tags[changed as usize % CHANGES_REMEMBERED];
            // All are compared, without a branch for each: a few instructions do.
            tags.iter().fold(tag == Tag::EVERYTHING, |hit, own| hit | (*own == tag))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_touch_whom_they_name_since_they_came() {
        let mut changes = EnforceView::empty().changes;
        let (mine, others) = (Tag::path("mine"), Tag::path("others"));
        let start = changes.generation;
        changes.push(others);
        assert!(!changes.touch(&[mine], start));
        assert!(changes.touch(&[others], start));
        changes.push(mine);
        assert!(changes.touch(&[mine], start));
        assert!(!changes.touch(&[mine], start + 2));
        changes.push(Tag::EVERYTHING);
        assert!(changes.touch(&[], start + 2));
    }

    #[test]
    fn what_is_no_longer_remembered_counts_as_touched() {
        let mut changes = EnforceView::empty().changes;
        let start = changes.generation;
        for _ in 0..CHANGES_REMEMBERED {
            changes.push(Tag::path("others"));
        }
        assert!(!changes.touch(&[Tag::path("mine")], start));
        changes.push(Tag::path("others"));
        assert!(changes.touch(&[Tag::path("mine")], start));
        assert!(EnforceView::empty().changes.touch(&[], 0));
    }
}
