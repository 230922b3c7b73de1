//! The enforcer beside agents: holds a signed, fresh copy of what deciding needs and decides every action locally, without
//! I/O (design 02).

pub mod client;
pub mod config;
pub mod enforce;
pub mod persist;
pub mod sidecar;

pub use enforce::{Action, Denial, DenyReason, Permit, Verdict};
