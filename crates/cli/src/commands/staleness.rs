//! What a change of `max_staleness` costs: how long a kill may take to be certain from then on, and for how long the old
//! value still counts.
//!
//! An edge permits for at most `max_staleness` after it asked for the knowledge that it permits by. So that time, stretched
//! by what clocks may be off, is what a kill takes where an edge can't be reached (design 02).

use haltline_core::{
    lease::{Drift, bound, fence},
    limits::OLD_STALENESS_MARGIN,
    path::FleetPath,
    time::Millis,
};

use crate::output::times::exact;

/// A fleet's effective value before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Staleness {
    pub(super) before: Millis,
    pub(super) after: Millis,
}

impl Staleness {
    /// What people should know of it, a sentence each; nothing if nothing changes.
    pub(super) fn remarks(self, fleet: &FleetPath, is_pending: bool) -> Vec<String> {
        let Self { before, after } = self;
        let drift = Drift::default();
        if before == after {
            return Vec::new();
        }
        let when = if is_pending { "Once this is approved, an" } else { "An" };
        let certain = format!(
            "{when} edge that can't be reached may go on for {} after a kill of {fleet} (it was {}); the receipt then comes \
             after at most {}.",
            exact(bound(after, drift)),
            exact(bound(before, drift)),
            exact(fence(after, drift)),
        );
        if after > before {
            return vec![certain];
        }
        let old = Millis(fence(before, drift).0.saturating_add(OLD_STALENESS_MARGIN.0));
        let still = format!(
            "For {} more the old bound of {} counts, because of leases that were given before.",
            exact(old),
            exact(bound(before, drift)),
        );
        vec![certain, still]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remarks(before: u64, after: u64, is_pending: bool) -> String {
        let fleet = "acme/finance".parse().expect("a path");
        Staleness { before: Millis(before), after: Millis(after) }.remarks(&fleet, is_pending).join("\n")
    }

    #[test]
    fn a_loosening_says_what_it_costs() {
        insta::assert_snapshot!(remarks(2_000, 10_000, true), @r"Once this is approved, an edge that can't be reached may go on for 10.01 s after a kill of acme/finance (it was 2.002 s); the receipt then comes after at most 10.021 s.");
    }

    #[test]
    fn a_tightening_says_how_long_the_old_bound_counts() {
        insta::assert_snapshot!(remarks(10_000, 500, false), @r"
        An edge that can't be reached may go on for 0.501 s after a kill of acme/finance (it was 10.01 s); the receipt then comes after at most 0.502 s.
        For 11.021 s more the old bound of 10.01 s counts, because of leases that were given before.
        ");
    }

    #[test]
    fn no_change_says_nothing() {
        assert_eq!(remarks(2_000, 2_000, false), "");
    }
}
