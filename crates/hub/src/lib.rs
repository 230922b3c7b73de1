//! The edge hub: takes one feed of enforcement events and one source of freshness from above, and serves them to many
//! enforcers (design 01, Edge hub; 02). A node puts consensus above it, a relay another hub.
//!
//! ```text
//!  Upstream::follow ──► Ring: bounded, chained, encoded once ──► SyncStream, one per enforcer, polled by HTTP/2
//!                         │                                        ▲   │ probes, acknowledgements
//!                         └─► Fanout: whom to wake, kills first ───┤   ▼
//!  Upstream::fresh  ◄──── ProbeLine: one tree, one statement ──────┘  Tracking: leases given, kills waited for
//!  Upstream::snapshot ──► Snapshots: cut and compressed once, shared
//! ```
//!
//! # What holds here
//! - A probe is answered only by a statement that was asked for **after** the probe came, and only after every event that
//!   the statement rests on went out on the same stream.
//! - The tracker knows of a lease before the enforcer can; once a kill is reported clear, no older freshness leaves.
//! - A stream costs what it holds (a position, one probe, one answer), however slow its reader is.
//! - A kill goes out at once, together with all that waited before it on the chain; what doesn't press is paced.

mod allowance;
mod clock;
mod core;
mod counters;
mod fanout;
mod framing;
mod freshness;
mod hub;
mod inbound;
mod one_task;
mod port;
mod refused;
mod ring;
mod service;
mod snapshots;
mod staleness;
mod stream;
mod subscriber;
mod subscribers;
mod tracking;
mod upstream;

#[cfg(test)]
mod freshness_test;
#[cfg(test)]
mod port_test;
#[cfg(test)]
mod sync_test;
#[cfg(test)]
mod test_body;
#[cfg(test)]
mod test_hub;

pub use clock::{BootClock, SystemBootClock};
pub use counters::HubCounters;
pub use hub::{Hub, HubOptions};
pub use refused::StreamRefused;
pub use service::{EdgePort, NothingElse};
pub use tracking::{EdgeStatus, KillWatch, Settling};
pub use upstream::{
    Admitted, Entry, Feed, FeedEnd, Origin, SignedView, Start, Statement, Upstream, UpstreamError, Urgency,
};
