//! Replication: one ordered log of commands, agreed on by a majority of nodes.
//!
//! ```text
//!   propose, submit ──► lane ──► proposer ──► openraft ──► log_store ──► (haltline-storage)
//!                                  │   ▲         │  ▲
//!                       forward ◄──┘   │      network ◄──► the other nodes (gRPC, mutual TLS)
//!                                      │         ▼
//!   state, entries_after ◄── board ◄───┴──── machine ──► snapshots
//!   read_barrier ──► barrier ──► leader: openraft's ReadIndex; follower: asks the leader
//! ```
//!
//! openraft is named here and nowhere else. What must stay true:
//!
//! - A batch is stamped when it closes and lands in the leadership it was stamped in, or nowhere.
//! - A reader that passed a barrier sees everything that was committed before it asked; a barrier never rests on a
//!   clock, nor on an answer to something sent before the question.
//! - A state is published before anyone is told that a command in it was carried out.
//! - Every command's caller gets one answer; what isn't known is said to be unknown.
//! - After a fatal error nothing goes on: the node stops and says why.

mod barrier;
mod batch;
mod clock;
mod codec;
mod compaction;
mod consensus;
mod error;
mod feed;
mod fitness;
mod former;
mod forward;
mod lane;
mod log_size;
mod log_store;
mod machine;
mod membership;
mod network;
mod offline;
mod options;
mod proposer;
mod published;
mod snapshots;
mod stamps;
mod start;
mod status;
mod tail;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod ticket;
mod types;
mod warm;

pub use clock::{Clock, ManualClock, SystemClock};
pub use consensus::Consensus;
pub use error::{BarrierError, FatalError, FeedError, MembershipError, ProposeError, StartError};
pub use feed::{AppliedEntry, Entries};
pub use former::FormerMembers;
pub use offline::{StoppedNode, read_stopped, write_restored};
pub use options::{Compaction, Member, Options, Timing};
pub use published::{AppliedPosition, Published};
pub use status::{DiskStatus, MemberStatus, Role, Status};
pub use ticket::{ProposeResult, Reply, ReplySink};
