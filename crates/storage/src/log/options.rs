//! The log's settings and their ranges.

use haltline_core::limits::{
    LOG_CACHE_BYTES, LOG_RECORD_BYTES_MAX, LOG_SEGMENT_BYTES, LOG_SEGMENT_BYTES_MAX, LOG_SEGMENT_BYTES_MIN,
};

use super::{record, segment_header, writer};
use crate::StorageError;

/// Who writes and syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flusher {
    /// A thread of the log's own, and one that zeroes segments ahead. Dropping the log closes it.
    #[default]
    Thread,
    /// Nobody, until [`SegmentedLog::flush`](super::SegmentedLog::flush) is called, on the caller's thread: for
    /// simulations that must be the same for the same seed. Dropping the log is a crash: what waits is lost.
    Manual,
}

/// Settings of a [`SegmentedLog`](super::SegmentedLog).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of a new segment file; one that is there keeps its size.
    pub segment_bytes: u32,
    /// Bytes of recent records kept in memory.
    pub cache_bytes: usize,
    /// Who writes and syncs.
    pub flusher: Flusher,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: LOG_SEGMENT_BYTES, cache_bytes: LOG_CACHE_BYTES, flusher: Flusher::Thread }
    }
}

impl LogOptions {
    /// Checks the ranges.
    pub(super) fn checked(self) -> Result<Self, StorageError> {
        if !(LOG_SEGMENT_BYTES_MIN..=LOG_SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err(StorageError::BadOption {
                what: "segment_bytes",
                got: u64::from(self.segment_bytes),
                expected: "8 KiB to 1 GiB",
            });
        }
        Ok(self)
    }

    /// The largest payload of a record: it must fit in one segment.
    pub(super) fn record_bytes_max(&self) -> usize {
        let overhead = segment_header::HEADER_BYTES + record::HEADER_BYTES + writer::CONTINUED_BYTES;
        let room = self.segment_bytes as usize - overhead;
        // Rounded down, because a record is padded up.
        (room - room % record::ALIGNMENT).min(LOG_RECORD_BYTES_MAX)
    }
}
