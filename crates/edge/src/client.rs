//! The link between an enforcer and the hubs of its cluster.

pub(crate) mod backoff;
pub(crate) mod enforcement;
#[cfg(test)]
pub(crate) mod fake_hub;
pub(crate) mod hubs;
pub(crate) mod messages;
pub(crate) mod protocol;
pub(crate) mod refusal;
pub(crate) mod stream;
pub(crate) mod trust;

pub use refusal::SyncRefusal;
