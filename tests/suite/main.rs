//! The one test binary of the workspace: linking many would cost most of a build.
//!
//! - [`cluster`]: real processes, killed, stopped, damaged and misused.
//! - [`interop`]: others read what we write, and we what they write.
//! - [`model`]: every schedule of small worlds, over the real leases and the real tracker.
//! - [`property`]: the machine against a slow reference, and what must hold whatever is asked of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test that panics has failed, as it should"
)]

mod cluster;
mod interop;
mod model;
mod property;
