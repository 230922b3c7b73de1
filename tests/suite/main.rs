//! The one test binary of the workspace: linking many would cost most of a build.
//!
//! - [`property`]: the machine against a slow reference, and what must hold whatever is asked of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test that panics has failed, as it should"
)]

mod property;
