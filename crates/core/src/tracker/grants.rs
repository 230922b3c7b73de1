//! The grants of one stream that may still give somebody a lease.

use crate::{
    ids::LogIndex,
    lease::{BootNanos, Nanos},
    limits::TRACKED_GRANTS_MAX,
};

/// Freshness that was given, perhaps several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Grant {
    /// Whoever uses it has published at least this.
    index: LogIndex,
    /// When the last of them was given, or later.
    at: BootNanos,
    /// No lease that it gives lives on here.
    ends: BootNanos,
    /// Grants that end before this are merged into this one.
    merges_until: BootNanos,
}

impl Grant {
    /// A grant at `at` whose leases end after `lasts` on this clock.
    pub(super) fn new(index: LogIndex, at: BootNanos, lasts: Nanos) -> Self {
        let ends = at.plus(lasts);
        // A grant that swallows a quarter of its life of others keeps a handful alive, and each still ends.
        Self { index, at, ends, merges_until: ends.plus(Nanos(lasts.0 / 4)) }
    }

    /// When it can't endanger a kill any more that stops leases which live at most `window`.
    fn ends_within(&self, window: Nanos) -> BootNanos {
        self.ends.min(self.at.plus(window))
    }

    /// Takes in another that rests on no lower index: still rests on its own, and lives as long as either.
    fn swallow(&mut self, other: &Self) {
        self.at = self.at.max(other.at);
        self.ends = self.ends.max(other.ends);
    }
}

/// Grants by index, lowest first, each index once. Bounded; what is merged is only ever held to be more dangerous.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Grants(Vec<Grant>);

impl Grants {
    /// Adds a grant, and drops what ended by `now`.
    pub(super) fn add(&mut self, grant: Grant, now: BootNanos) {
        self.prune(now);
        match self.0.last_mut() {
            Some(last) if last.index <= grant.index && grant.ends < last.merges_until => last.swallow(&grant),
            _ => {
                let place = self.0.partition_point(|held| held.index < grant.index);
                match self.0.get_mut(place) {
                    Some(held) if held.index == grant.index => held.swallow(&grant),
                    _ => self.0.insert(place, grant),
                }
            }
        }
        if self.0.len() > TRACKED_GRANTS_MAX {
            let second = self.0.remove(1);
            self.0[0].swallow(&second);
        }
    }

    /// Adds another stream's grants.
    pub(super) fn merge(&mut self, other: Self, now: BootNanos) {
        for grant in other.0 {
            self.add(grant, now);
        }
    }

    /// Whoever holds these has published `index` by now.
    pub(super) fn raise(&mut self, index: LogIndex) {
        let below = self.0.partition_point(|grant| grant.index <= index);
        let raised = self.0.drain(..below).reduce(|mut all, grant| {
            all.swallow(&grant);
            Grant { merges_until: grant.merges_until, ..all }
        });
        if let Some(raised) = raised {
            self.0.insert(0, Grant { index, ..raised });
        }
    }

    /// Drops what ended.
    pub(super) fn prune(&mut self, now: BootNanos) {
        self.0.retain(|grant| grant.ends > now);
    }

    /// The lowest index that any of them rests on.
    pub(super) fn lowest(&self) -> Option<LogIndex> {
        self.0.first().map(|grant| grant.index)
    }

    /// When the last of them ends.
    pub(super) fn latest_end(&self) -> Option<BootNanos> {
        self.0.iter().map(|grant| grant.ends).max()
    }

    /// When the last of those ends that endanger a kill, among leases which live at most `window`.
    pub(super) fn endanger_until(&self, kill: LogIndex, window: Nanos) -> Option<BootNanos> {
        let below = self.0.iter().take_while(|grant| grant.index < kill);
        below.map(|grant| grant.ends_within(window)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(index: u64, at: u64, lasts: u64) -> Grant {
        Grant::new(LogIndex(index), BootNanos(at), Nanos(lasts))
    }

    fn until(grants: &Grants, kill: u64) -> Option<u64> {
        grants.endanger_until(LogIndex(kill), Nanos(u64::MAX)).map(|ends| ends.0)
    }

    #[test]
    fn only_grants_below_a_kill_endanger_it() {
        let mut grants = Grants::default();
        grants.add(grant(5, 0, 100), BootNanos(0));
        grants.add(grant(7, 50, 100), BootNanos(50));
        assert_eq!([until(&grants, 5), until(&grants, 6), until(&grants, 8)], [None, Some(100), Some(150)]);
        grants.raise(LogIndex(6));
        assert_eq!([until(&grants, 6), until(&grants, 7), until(&grants, 8)], [None, Some(100), Some(150)]);
        grants.prune(BootNanos(100));
        assert_eq!(until(&grants, 7), None);
    }

    #[test]
    fn grants_that_come_to_rest_on_one_index_are_one() {
        let mut grants = Grants::default();
        grants.add(grant(5, 0, 100), BootNanos(0));
        grants.add(grant(7, 50, 100), BootNanos(50));
        grants.raise(LogIndex(7));
        assert_eq!(grants.0.len(), 1);
        assert_eq!((until(&grants, 7), until(&grants, 8)), (None, Some(150)));
    }

    #[test]
    fn a_shorter_grant_never_shortens_an_earlier_one() {
        let mut grants = Grants::default();
        grants.add(grant(5, 0, 100), BootNanos(0));
        grants.add(grant(5, 10, 20), BootNanos(10));
        grants.add(grant(4, 20, 10), BootNanos(20));
        assert_eq!(until(&grants, 6), Some(100));
        assert_eq!(grants.latest_end(), Some(BootNanos(100)));
    }

    #[test]
    fn the_window_of_a_kill_cuts_grants_that_live_long_for_other_scopes() {
        let mut grants = Grants::default();
        grants.add(grant(5, 10, 1_000), BootNanos(10));
        assert_eq!(grants.endanger_until(LogIndex(6), Nanos(100)), Some(BootNanos(110)));
    }

    #[test]
    fn frequent_grants_stay_few_and_old_ones_still_end() {
        let mut grants = Grants::default();
        for at in 0..1_000 {
            grants.add(grant(at, at, 100), BootNanos(at));
            assert!(grants.0.len() <= TRACKED_GRANTS_MAX);
            let lowest = grants.lowest().map_or(at, |lowest| lowest.0);
            assert!(at - lowest <= 150, "at {at} the grants still rest on {lowest}");
        }
    }
}
