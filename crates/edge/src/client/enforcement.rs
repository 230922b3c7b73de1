//! What the link to the hubs does to decisions. The decision engine stands behind it; tests put a witness there.

use haltline_core::{
    event::EnforcementEvent,
    ids::{EventSeq, LogIndex},
    time::Millis,
};

use crate::enforce::{Clock, EnforcerCore, FeedError, FreshLease, ViewBody};

/// The decision engine, as the protocol drives it.
///
/// Calls come from one task, in the order in which things are known. Each has taken effect for every decision when it
/// returns: no permit under what was before has an instant after that, so what was taken in may be acknowledged.
pub(crate) trait Enforcement {
    /// Events that no statement covers yet: what denies acts at once, the rest is held back. After them the view stands
    /// at `index`.
    fn apply_provisional(&self, events: &[EnforcementEvent], index: LogIndex) -> Result<(), FeedError>;

    /// A verified statement covers the chain up to `event_seq`, where the log was at `index`: what was held back up to
    /// there takes effect.
    fn confirm(&self, index: LogIndex, event_seq: EventSeq) -> Result<(), FeedError>;

    /// Permits under this lease from now on. Comes after [`Enforcement::confirm`] of its index.
    fn publish_lease(&self, lease: FreshLease) -> Result<(), FeedError>;

    /// Puts a verified view in the place of everything, and permits nothing until the next lease.
    fn install(&self, body: ViewBody, index: LogIndex);

    /// The smallest staleness of any scope that this enforcer serves, by the view in force.
    fn smallest_staleness(&self) -> Millis;
}

impl<C: Clock> Enforcement for EnforcerCore<C> {
    fn apply_provisional(&self, events: &[EnforcementEvent], index: LogIndex) -> Result<(), FeedError> {
        Self::apply_provisional(self, events, index)
    }

    fn confirm(&self, index: LogIndex, event_seq: EventSeq) -> Result<(), FeedError> {
        Self::confirm(self, index, event_seq)
    }

    fn publish_lease(&self, lease: FreshLease) -> Result<(), FeedError> {
        Self::publish_lease(self, lease)
    }

    fn install(&self, body: ViewBody, index: LogIndex) {
        self.restore(body, index);
    }

    fn smallest_staleness(&self) -> Millis {
        Self::smallest_staleness(self)
    }
}
