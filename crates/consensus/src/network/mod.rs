//! Between nodes: gRPC over mutual TLS on a port of its own.

mod append_stream;
mod authority;
mod client;
mod convert;
mod forwarded;
mod peers;
mod server;
mod snapshot_receive;
mod snapshot_send;

pub(crate) use authority::NodesOnly;
pub(crate) use client::Network;
pub(crate) use forwarded::{Incoming, incoming};
pub(crate) use peers::{Lane, Peers, within};
pub(crate) use server::{Service, serve};
