//! What a node keeps on disk: its Raft log, its snapshots, and the directory they lie in.
//!
//! ```text
//!  consensus ──► RaftLog ◄── SegmentedLog ──┐
//!            ──► SnapshotStore ◄── SnapshotFiles ──► Disk ◄── RealDisk | MemoryDisk | (testkit) FaultDisk
//!  node      ──► DataDir ───────────────────┘
//! ```
//!
//! Payloads, votes and log ids are opaque bytes here: only the consensus crate knows what they mean. What must stay
//! true, whatever is changed:
//!
//! - What was acknowledged is there after a power cut, in the order it was given. Nothing is acknowledged before a sync
//!   that covers it has returned without an error.
//! - A failed write or sync is final: it is never tried again, because the kernel may have dropped the data and call
//!   the next sync a success.
//! - A write that found no room was not done at all, and is the exception: it waits in its place in the order, and so
//!   does everything behind it.
//! - What recovery can't prove to be a torn tail stops the node with an error that names the file and the byte. Nothing
//!   is dropped silently.
//! - All file access goes through [`Disk`], so that a fault disk can stand behind it.

mod data_dir;
mod disk;
mod error;
mod latency;
mod log;
mod snapshot;

pub use data_dir::{DATA_FORMAT, DataDir, Identity};
pub use disk::{DirLock, Disk, DiskFile, MemoryDisk, RealDisk};
pub use error::{Corruption, StorageError};
pub use latency::measure_sync_latency;
pub use log::{
    Flushed, Flusher, LogBounds, LogHealth, LogOptions, Purged, RaftLog, Record, RecoveryReport, Room,
    SegmentedLog, SyncReport, TailCut,
};
pub use snapshot::{
    SnapshotFiles, SnapshotInfo, SnapshotMeta, SnapshotReader, SnapshotStore, SnapshotWriter,
};
