//! The `haltline` command: operator verbs, `haltline node`, and the demo.
//!
//! Verbs talk to nodes through `haltline-wire` only; `init`, `node` and `demo` start the real things. A verb returns a
//! result that renders itself as table, JSON or YAML, or a failure that says what would be right; how the process ends is
//! in [`exit`].

pub mod args;
pub mod exit;

mod failure;
mod output;
