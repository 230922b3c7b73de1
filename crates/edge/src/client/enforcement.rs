//! What the link to the hubs does to decisions. The decision engine stands behind it, on a relay the hub below it; tests put
//! a witness there.

use haltline_core::{
    attest::Fresh,
    event::EnforcementEvent,
    ids::{EventSeq, LogIndex, Nonce},
    time::Millis,
};
use haltline_pki::EdgeIdentity;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::{
    enforce::{Clock, EnforcerCore, FeedError, FreshLease, ViewBody},
    persist::StoredSnapshot,
};

/// What something below the link wants of the hub that serves. Given up when no hub does.
#[derive(Debug)]
pub enum Wish {
    /// Send a probe with this nonce now. Its answer comes by [`Enforcement::attested`].
    Probe(Nonce),
    /// Fetch the view with a node's signature, verified. Dropped unanswered if there is none.
    Snapshot(oneshot::Sender<StoredSnapshot>),
    /// Ask [`Enforcement::may_acknowledge`] again.
    Acknowledge,
    /// Pass on somebody's request for a renewed certificate. Dropped unanswered if the hub doesn't answer.
    Renew {
        /// PKCS#10 (DER), signed with the key that it is for.
        request: Vec<u8>,
        /// The chain (PEM), or why there is none.
        renewed: oneshot::Sender<Result<String, Status>>,
    },
}

/// Where wishes come from; none on an enforcer that nothing hangs on.
pub type Wishes = mpsc::Receiver<Wish>;

/// The decision engine, as the protocol drives it.
///
/// Calls come from one task, in the order in which things are known. Each has taken effect for every decision when it
/// returns: no permit under what was before has an instant after that, so what was taken in may be acknowledged.
pub trait Enforcement {
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

    /// What may be acknowledged when everything up to here was taken in: an enforcer's own decisions follow at once, what
    /// hangs below a relay later.
    fn may_acknowledge(&self, index: LogIndex, event_seq: EventSeq) -> Option<(LogIndex, EventSeq)> {
        Some((index, event_seq))
    }

    /// A hub serves: wishes are heard from now on.
    fn connected(&self) {}

    /// It doesn't any more: what was wished for and hasn't come won't.
    fn disconnected(&self) {}

    /// An answer to a probe was verified, and all that follows from it here has taken effect.
    fn attested(&self, _fresh: &Fresh) {}

    /// The certificate was renewed.
    fn identity_renewed(&self, _identity: &EdgeIdentity) {}
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
