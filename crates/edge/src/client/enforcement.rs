//! What the link to the hubs does to decisions. The decision engine stands behind it; tests put a witness there.

use haltline_core::{
    event::EnforcementEvent,
    ids::{EventSeq, LogIndex},
    lease::Lease,
    time::{ClusterTime, Millis},
    view::View,
};

/// The decision engine, as the protocol drives it.
///
/// Calls come from one task, in the order in which things are known. Each has taken effect for every decision that
/// begins after it returns.
pub(crate) trait Enforcement {
    /// Events that no statement covers yet: what denies acts at once, the rest is held back. After them the view stands
    /// at `index`.
    fn apply_provisional(&self, events: &[EnforcementEvent], index: LogIndex);

    /// A verified statement covers the chain up to `event_seq`, where the log was at `index`: what was held back up to
    /// there takes effect.
    fn confirm(&self, index: LogIndex, event_seq: EventSeq);

    /// Permits under this lease from now on. Comes after [`Enforcement::confirm`] of its index.
    fn publish_lease(&self, lease: Lease, cluster_time: ClusterTime);

    /// Permits nothing until the next lease.
    fn void_lease(&self);

    /// Puts a verified view in the place of everything. If its incarnation is another than before, denials of the earlier
    /// one stay until people have lifted the freeze with which the later one began (design 02, After a restore).
    fn install(&self, view: View, index: LogIndex, cluster_time: ClusterTime);

    /// The smallest staleness of any scope that this enforcer serves, by the view in force.
    fn smallest_staleness(&self) -> Millis;
}
