//! A relay: the hub of `haltline-hub` with another hub above it (design 02, Relays compose).
//!
//! ```text
//!  hubs above (nodes, or another relay)
//!     ▲ │   link of `haltline-edge`: verifies frames, statements and snapshots as an enforcer does
//!     │ ▼
//!   Below ── RelayView: where this relay stands, who may come, who waits ── RelayUpstream
//!                                                                                ▲ │
//!                                                                                │ ▼
//!                                               Hub: ring, fan-out, trees, tracker ── enforcers below
//! ```
//!
//! # What holds here
//! - **A relay signs nothing.** What those below act on carries a node's signature: statements over the root that their own
//!   nonces lead to, snapshots as they came. A relay that lies is found out by each of them, one that falls silent leaves
//!   them to deny.
//! - It answers those below only with the answer to a probe that it sent after they had asked.
//! - It acknowledges upstream only what is in force at everything below it, closed streams until their leases ended
//!   included; nothing before what an earlier life of it passed on has ended.
//! - It passes requests for renewed certificates on, which prove themselves.
//! - It admits whoever is registered by what is proven to it, and only within the paths that it is registered for itself:
//!   nodes wait for a relay where its own paths are touched.

mod below;
mod config;
#[cfg(test)]
mod forgery_test;
mod health;
mod http;
mod kept;
mod records;
mod refused;
mod relay;
mod renewal;
mod upstream;
mod view;

pub use config::{RelayConfig, RelayConfigError};
pub use relay::{Relay, RelayError};
