//! What tests stand on: a disk that fails on purpose, suites that every implementation must pass, and schedules that
//! look for lost data.
//!
//! - `cluster` (a feature): real processes on loopback, to be killed, stopped and restarted.
//! - `fault_proxy` (the same feature): TCP links that stall and break on purpose.
//! - [`disk`]: [`FaultDisk`](disk::FaultDisk), which loses, mixes and flips what real disks do.
//! - [`log_conformance`], [`snapshot_conformance`]: what every log and every snapshot store must do.
//! - [`log_model`]: a log so simple that it is obviously right, and random work for both.
//! - [`power_cut`]: random schedules of work and faults, checked against the model.
//!
//! Everything random comes from a [`rng::Rng`] with a seed, and whatever fails names that seed.

#[cfg(feature = "cluster")]
pub mod cluster;
pub mod disk;
#[cfg(feature = "cluster")]
pub mod fault_proxy;
pub mod log_conformance;
pub mod log_model;
pub mod power_cut;
pub mod rng;
pub mod snapshot_conformance;
