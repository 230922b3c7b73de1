//! Storage against everything that testkit can do to a disk, in one binary.

#![allow(clippy::unwrap_used, clippy::panic)]

mod conformance;
mod damage;
mod data_dir;
mod full_disk;
mod kill;
mod power_cut;
