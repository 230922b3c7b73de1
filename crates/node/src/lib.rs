//! The control-plane server: gRPC services over the replicated state, plain HTTP for health and metrics, and the node's
//! life from its configuration to its graceful end.

pub mod config;
pub mod error;
pub mod founding;
pub mod init;

pub use config::{ConfigError, LogFormat, NodeConfig, Profile};
pub use error::NodeError;
