//! Deciding: the view that an enforcer holds, the lease under which it permits, and the sessions that ask.
mod action;
mod clock;
mod verdict;

pub use self::{
    action::Action,
    clock::{BootClock, Clock, ManualClock},
    verdict::{Denial, DenyReason, Permit, Verdict},
};
