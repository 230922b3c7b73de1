//! The enforcer beside agents: holds a signed, fresh copy of what deciding needs and decides every action locally, without
//! I/O (design 02).

pub mod config;
pub mod sidecar;
