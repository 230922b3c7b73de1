//! The enforcer beside agents: holds a signed, fresh copy of what deciding needs and decides every action locally, without
//! I/O (design 02).

pub mod client;
pub mod config;
pub mod enforce;
mod enforcer;
mod enrol;
pub mod persist;
pub mod sidecar;

pub use client::{ConnectError, LastError, Status, SyncRefusal};
pub use config::{ConfigError, EdgeConfig};
pub use enforce::{Action, Denial, DenyReason, Permit, Verdict};
pub use enforcer::Enforcer;
pub use enrol::{EnrolError, enrol};
pub use persist::PersistError;
