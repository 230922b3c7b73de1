//! How a log fares on its disk.

use std::time::Duration;

use super::sync_times::SyncReport;

/// How much room a log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Room {
    /// Enough.
    #[default]
    Ample,
    /// The disk is nearly full, or full: the log goes on in its reserve. Only what ends this should be written.
    Low,
    /// Not even the reserve has room for what is waiting. It waits, in order, and is tried again.
    Nothing,
}

/// How a log fares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogHealth {
    /// How much room there is.
    pub room: Room,
    /// For how long changes have been waiting for room, if they are.
    pub waiting: Option<Duration>,
    /// Bytes that are free on the disk, as far as that is known.
    pub free_bytes: Option<u64>,
    /// Segments in reserve.
    pub reserve_segments: usize,
    /// Segments that the reserve should have.
    pub reserve_segments_wanted: usize,
    /// Bytes of a segment: what a purge may give back at once.
    pub segment_bytes: u64,
    /// How long syncs take.
    pub syncs: SyncReport,
}
