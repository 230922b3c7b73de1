//! The deterministic heart of Haltline.
//!
//! Everything here is pure: a function of the log and of the time stamped in it. No clock is read, nothing is random, no
//! file or socket is touched, and nothing depends on the order of a hash map. So every node that applies the same log
//! holds the same bytes, and an edge that follows the same events decides the same way.
//!
//! - [`command`]: what may be asked; [`rejection`]: what came of it.
//! - [`state`]: the machine, `apply(state, stamp, command) -> (outcome, events)`.
//! - [`widens`]: the one place that says which commands need a second person.
//! - [`event`] and [`view`]: what an edge learns, and the chain that proves it missed nothing.
//! - [`snapshot`]: the state as bytes and back.
//! - [`limits`]: every bound.

pub mod attest;
mod caller;
pub mod command;
pub mod enforcement;
pub mod event;
mod executed;
pub mod ids;
mod labels;
pub mod lease;
pub mod limits;
pub mod mark;
pub mod merkle;
mod names;
pub mod outcome;
pub mod path;
pub mod policy;
pub mod receipt;
pub mod rejection;
pub mod selector;
pub mod snapshot;
pub mod state;
pub mod text;
mod text_encoding;
pub mod time;
pub mod tracker;
pub mod trust_history;
pub mod view;
pub mod widens;

pub use ids::LogIndex;
pub use state::restore;
