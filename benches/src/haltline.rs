//! Haltline as users run it, under load: real nodes, a person's identity, unary calls and the pipelined stream.

pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod stream;

/// Its name in results and errors.
pub(crate) const SYSTEM: &str = "haltline";
