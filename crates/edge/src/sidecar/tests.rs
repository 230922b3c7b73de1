//! The sidecar as its callers see it: real ports, real gRPC and HTTP, and an enforcer that the test feeds by hand.
#![allow(clippy::unwrap_used, clippy::panic)]

mod check;
mod lab;
mod life;
mod plain_http;
mod process;
