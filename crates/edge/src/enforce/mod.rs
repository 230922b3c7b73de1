//! Deciding: the view that an enforcer holds, the lease under which it permits, and the sessions that ask.
//!
//! ```text
//!   frames, statements, leases                      tokens
//!            │                                         │
//!          feed ──► view (immutable, swapped whole) ──► session ──► decide
//!            │         rules · policy · keys             │  standing: one word, valid for a generation
//!            │      revocations (concurrent set)         │  names: judged once, remembered
//!            └────► publication (generation, lease) ─────┘
//! ```
//!
//! A quick decision reads the publication, the clock, its session's word and names it has met, and then makes sure that the
//! publication is still in force. Everything else is the slow way, which reads the view. [`EnforcerCore`] is the whole of it
//! without a network.
//!
//! What must stay true:
//! - view and lease are read by one load, the clock after it, and a verdict under a view that was replaced before the
//!   clock was read is never given (`publication`);
//! - what denies acts when it is heard, what permits when it is verified (`feed`);
//! - a session that a change touches has that change's tag among its own (`facts`, `view`);
//! - a quick decision writes nothing that another core reads.

mod action;
mod body;
mod clock;
mod decision_log;
mod enforcer_core;
mod facts;
mod feed;
mod judge;
mod memo;
mod policy;
mod publication;
mod revocations;
mod rules;
mod session;
mod sessions;
mod standing;
mod tag;
#[cfg(test)]
mod test;
mod tokens;
mod verdict;
mod view;

pub use self::{
    action::Action,
    body::ViewBody,
    clock::{BootClock, Clock, ManualClock},
    decision_log::{Decided, DecisionExtract},
    enforcer_core::{CoreOptions, EnforcerCore, SessionRefused},
    feed::{FeedError, FreshLease, Positions},
    session::Session,
    verdict::{Denial, DenyReason, Permit, Verdict},
};
