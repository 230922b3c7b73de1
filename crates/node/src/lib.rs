//! The control-plane server: gRPC services over the replicated state, plain HTTP for health and metrics, and the node's
//! life from its configuration to its graceful end.
//!
//! ```text
//!  people ──mTLS──► services ──► convert (wire) ──► Consensus::propose ──► log ──► state
//!                      │                                                            │
//!                      └── read barrier ──► a snapshot of the applied state ◄───────┘
//! ```
//!
//! Nothing here decides: who may do what is for the machine in `haltline-core`. A service finds out whose key called,
//! converts, proposes or reads, and converts back. What must stay true:
//!
//! - A read that isn't said to be local is answered only after a read barrier that began after it came.
//! - A command is answered only with what the machine came to, or with an error that says whether that is known.
//! - Whoever isn't registered learns nothing but that.

pub mod backup;
pub mod config;
pub mod doctor;
mod edge_upstream;
mod endorsing;
mod enforcement;
mod error;
pub mod founding;
pub mod init;
pub mod sd_notify;

mod caller;
mod context;
mod descriptors;
mod diagnosis;
mod edge_ports;
mod explain;
mod follow;
mod health;
mod http;
mod metrics;
mod paging;
mod places;
mod places_taken;
mod refused;
mod registry;
mod reload;
mod renewal;
mod server;
mod services;
mod signing;
mod supervision;
mod surroundings;

pub use config::{ConfigError, LogFormat, NodeConfig, Profile};
pub use error::NodeError;
pub use reload::{Reloads, SetLogFilter};
pub use server::{run, run_on, run_with};
pub use surroundings::{Sockets, Surroundings};
