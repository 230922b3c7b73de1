//! The durable Raft log: what it promises ([`RaftLog`]), and the one implementation ([`SegmentedLog`]).
//!
//! ```text
//!   append, save_vote, truncate_after, purge_through          read, bounds, vote
//!            │ (in order, at once)                                 ▲
//!            ▼                                                     │
//!        view.rs: queue + what callers see ────────────────────────┘
//!            │ everything that arrived while the last sync ran
//!            ▼
//!        writer.rs: frames (record.rs) ─► active segment ─► one fdatasync ─► callbacks in order
//!            │ full: sync, then the next segment (spares.rs, segment_header.rs)
//!            ▼
//!        log-00000000000000000007.seg   …   recovery.rs reads them back
//! ```

mod health;
mod inventory;
mod options;
mod positions;
mod record;
mod recovery;
mod replay;
mod segment_header;
mod segmented;
mod segments;
mod spares;
mod sync_times;
mod view;
mod writer;

use std::ops::Range;

use bytes::Bytes;
use haltline_core::LogIndex;

pub use health::{LogHealth, Room};
pub use options::{Flusher, LogOptions};
pub use recovery::{RecoveryReport, TailCut};
pub use segmented::SegmentedLog;
pub use sync_times::SyncReport;

use crate::StorageError;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its index. A log has no holes.
    pub index: LogIndex,
    /// What the caller wants back; at most `LOG_RECORD_BYTES_MAX` bytes.
    pub payload: Bytes,
}

/// How far the front of the log has been cut away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// The last index that is gone.
    pub index: LogIndex,
    /// The caller's encoded log id of that index; at most `LOG_MARK_BYTES_MAX` bytes.
    pub mark: Bytes,
}

/// Where the log begins and ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogBounds {
    /// What was purged last, if anything ever was.
    pub purged: Option<Purged>,
    /// The last record that is held; `None` if none is, and then the log ends at `purged`.
    pub last: Option<LogIndex>,
}

impl LogBounds {
    /// The only index that the next record may have; `None` when nothing was ever purged and no record is held, and the
    /// log may begin anywhere.
    pub fn next(&self) -> Option<LogIndex> {
        let end = self.last.or_else(|| self.purged.as_ref().map(|purged| purged.index))?;
        Some(LogIndex(end.0.saturating_add(1)))
    }
}

/// Called once, when what it was given with is durable, or with the reason why it never will be.
///
/// Runs on the writer's thread, in the order of the calls: a success says that everything given before is durable too.
/// It must be quick and must not append itself (it would wait for the thread it blocks).
pub type Flushed = Box<dyn FnOnce(Result<(), StorageError>) + Send + 'static>;

/// A Raft log with its vote.
///
/// All changes form one ordered stream: after a crash the log is what some prefix of the stream made of it, and the
/// prefix holds everything whose [`Flushed`] was called with `Ok`. Reads see every change at once. After the first
/// failed write or sync every change fails with that same error, and nothing more is written.
///
/// A full disk is no failure: what finds no room waits in its place, neither durable nor refused, until there is room
/// again. [`health`](Self::health) says so long before, while there is a reserve for what is urgent.
pub trait RaftLog: Send + Sync + 'static {
    /// Where the log begins and ends, changes in flight included.
    fn bounds(&self) -> LogBounds;

    /// The held records of this range, in order: as many as fit in `bytes_max` bytes of payload, but at least one if any
    /// is held. What lies outside the bounds is left out.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if a record on disk isn't what was written, or an I/O error.
    fn read(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<Record>, StorageError>;

    /// Adds records and returns once they are ordered and readable; `flushed` comes when they are durable. Waits only
    /// while more than `LOG_PENDING_BYTES_MAX` bytes are on their way to the disk.
    ///
    /// `flushed` gets [`StorageError::NotContiguous`], [`StorageError::TooLarge`] or [`StorageError::LogFull`] if the
    /// records were refused, in which case none of them was taken and the log goes on.
    fn append(&self, records: Vec<Record>, flushed: Flushed);

    /// As [`append`](Self::append), for records that may use the last of the reserve when the disk is full: what a stop
    /// needs, or what leads out of this.
    fn append_urgent(&self, records: Vec<Record>, flushed: Flushed) {
        self.append(records, flushed);
    }

    /// How much room the log has: [`LogHealth::room`], quick enough to be asked for each append.
    fn room(&self) -> Room {
        Room::default()
    }

    /// How the log fares on its disk.
    fn health(&self) -> LogHealth {
        LogHealth::default()
    }

    /// Drops every record after `index`; all with `None`. Ordered with the appends; durable with the next change whose
    /// `Flushed` is called.
    ///
    /// # Errors
    /// The error that stopped the log, if it was.
    fn truncate_after(&self, index: Option<LogIndex>) -> Result<(), StorageError>;

    /// Drops every record up to and including this index, which may lie beyond the last one: then the log continues
    /// behind it. Does nothing if as much was purged before. Durable like a truncation.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] for the mark, or the error that stopped the log.
    fn purge_through(&self, purged: Purged) -> Result<(), StorageError>;

    /// Replaces the vote (at most `LOG_MARK_BYTES_MAX` bytes), ordered with the appends; `flushed` comes when it is
    /// durable.
    fn save_vote(&self, vote: Bytes, flushed: Flushed);

    /// The last vote given to [`save_vote`](Self::save_vote).
    fn vote(&self) -> Option<Bytes>;

    /// Notes how far the log is committed (at most `LOG_MARK_BYTES_MAX` bytes). Costs no sync: it becomes durable with a
    /// later change, so after a crash an older mark may be found, never one ahead of the records.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`], or the error that stopped the log.
    fn save_committed(&self, mark: Bytes) -> Result<(), StorageError>;

    /// The last mark given to [`save_committed`](Self::save_committed).
    fn committed(&self) -> Option<Bytes>;
}
