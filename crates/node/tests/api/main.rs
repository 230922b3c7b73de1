//! The API of a real node, driven by the generated client over real TLS.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod credentials;
mod diagnosis;
mod enforcers;
mod harness;
mod people;
mod quorum;
mod reasons;
mod refusals;
mod resources;
mod serving;
mod streams;
