//! Whole nodes in one process, over real loopback connections with mutual TLS.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod barriers;
mod clusters;
mod conformance;
mod disk;
mod harness;
mod lanes;
mod proxy;
mod restored;
mod snapshots;
mod time;
