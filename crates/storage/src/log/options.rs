//! The log's settings and their ranges.

use haltline_core::limits::{
    LOG_CACHE_BYTES, LOG_LOW_WATER_BYTES, LOG_RECORD_BYTES_MAX, LOG_RESERVE_SEGMENTS, LOG_SEGMENT_BYTES,
    LOG_SEGMENT_BYTES_MAX, LOG_SEGMENT_BYTES_MIN,
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
    /// Segments kept in reserve for when the disk is full; at most [`LOG_RESERVE_SEGMENTS`]. A log that nobody writes for
    /// ([`Flusher::Manual`]) has none.
    pub reserve_segments: usize,
    /// Free bytes on the disk below which [`Room::Low`](super::Room::Low) is reported.
    pub low_water_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: LOG_SEGMENT_BYTES,
            cache_bytes: LOG_CACHE_BYTES,
            flusher: Flusher::Thread,
            reserve_segments: LOG_RESERVE_SEGMENTS,
            low_water_bytes: LOG_LOW_WATER_BYTES,
        }
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
        if self.reserve_segments > LOG_RESERVE_SEGMENTS {
            return Err(StorageError::BadOption {
                what: "reserve_segments",
                got: self.reserve_segments as u64,
                expected: "0 to 3",
            });
        }
        Ok(self)
    }

    /// Segments that are really kept in reserve: somebody must look after them.
    pub(super) fn reserve_kept(&self) -> usize {
        match self.flusher {
            Flusher::Thread => self.reserve_segments,
            Flusher::Manual => 0,
        }
    }

    /// The largest payload of a record: it must fit in one segment.
    pub(super) fn record_bytes_max(&self) -> usize {
        let overhead = segment_header::HEADER_BYTES + record::HEADER_BYTES + writer::CONTINUED_BYTES;
        let room = self.segment_bytes as usize - overhead;
        // Rounded down, because a record is padded up.
        (room - room % record::ALIGNMENT).min(LOG_RECORD_BYTES_MAX)
    }
}
