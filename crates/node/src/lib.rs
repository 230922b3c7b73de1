//! The control-plane server.

pub mod config;

pub use config::{ConfigError, NodeConfig};
