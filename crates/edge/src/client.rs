//! The link between an enforcer and the hubs of its cluster.

pub(crate) mod backoff;
pub(crate) mod dial;
pub(crate) mod enforcement;
#[cfg(test)]
pub(crate) mod fake_hub;
pub(crate) mod fetch;
pub(crate) mod hubs;
pub(crate) mod keeper;
pub(crate) mod link;
#[cfg(test)]
mod link_test;
pub(crate) mod messages;
pub(crate) mod metrics;
pub(crate) mod protocol;
#[cfg(test)]
mod protocol_model_test;
pub(crate) mod refusal;
pub(crate) mod relays;
pub(crate) mod renewal;
pub(crate) mod running;
pub(crate) mod status;
pub(crate) mod stream;
#[cfg(test)]
pub(crate) mod test_hub;
pub(crate) mod trust;

pub use crate::persist::StoredSnapshot;
pub use enforcement::{Enforcement, Wish, Wishes};
pub use refusal::SyncRefusal;
pub use relays::covers;
pub use running::{ConnectError, Loaded, Running, load};
pub use status::{LastError, Status};
