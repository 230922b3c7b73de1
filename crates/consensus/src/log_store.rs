//! openraft's log over [`RaftLog`]: encodes entries, keeps the order of votes and appends, and watches the newest stamp.
//!
//! `IOFlushed` is a watermark in openraft (completing one says that everything before is durable too), which is exactly
//! what [`haltline_storage::Flushed`] promises, so one is handed through to the other.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds},
    sync::Arc,
};

use bytes::Bytes;
use haltline_core::{LogIndex, limits::RAFT_READ_BYTES_MAX};
use haltline_storage::{LogBounds, Purged, RaftLog, Record, Room, StorageError};
use openraft::{
    OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use tokio::sync::oneshot;

use crate::{
    clock::Clock,
    codec,
    log_size::LogSize,
    tail::{Received, TailStamp},
    types::{Entry, LogId, TypeConfig, Vote},
};

/// How many records are looked at in one step when the newest stamp is searched backwards.
const SCAN_STEP: u64 = 64;

/// The log as openraft sees it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Arc<dyn RaftLog>,
    clock: Arc<dyn Clock>,
    tail: Arc<TailStamp>,
    size: Arc<LogSize>,
}

impl LogStore {
    /// Opens the adapter and finds the newest stamp.
    pub(crate) fn open(log: Arc<dyn RaftLog>, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let store = Self { log, clock, tail: Arc::default(), size: Arc::default() };
        store.find_tail()?;
        Ok(store)
    }

    /// Whether nothing was ever written to it.
    pub(crate) fn is_empty(&self) -> bool {
        let bounds = self.log.bounds();
        bounds.last.is_none() && bounds.purged.is_none()
    }

    /// The log underneath.
    pub(crate) fn storage(&self) -> Arc<dyn RaftLog> {
        self.log.clone()
    }

    /// The newest stamp of the log.
    pub(crate) fn tail(&self) -> &Arc<TailStamp> {
        &self.tail
    }

    /// How many bytes lie where.
    pub(crate) fn size(&self) -> &Arc<LogSize> {
        &self.size
    }

    /// Looks backwards for the last record that carries a stamp.
    fn find_tail(&self) -> io::Result<()> {
        let bounds = self.log.bounds();
        let mut end = bounds.next().unwrap_or_default().0;
        let start = bounds.purged.map_or(0, |purged| purged.index.0.saturating_add(1));
        self.tail.set(Received { at: self.clock.boot(), ..Received::default() });
        while end > start {
            let from = end.saturating_sub(SCAN_STEP).max(start);
            let records = self.read_all(LogIndex(from)..LogIndex(end))?;
            let stamped = records.iter().rev().find_map(|record| {
                let (stamp, _) = codec::entry_stamp(&record.payload)?;
                Some(Received { index: record.index, stamp, at: self.clock.boot() })
            });
            if let Some(received) = stamped {
                self.tail.set(received);
                return Ok(());
            }
            end = from;
        }
        Ok(())
    }

    /// Every record of the range that the log holds, however many reads it takes.
    fn read_all(&self, range: Range<LogIndex>) -> io::Result<Vec<Record>> {
        let mut records: Vec<Record> = Vec::new();
        let mut from = range.start;
        while from < range.end {
            let part = self.log.read(from..range.end, RAFT_READ_BYTES_MAX).map_err(to_io)?;
            let Some(last) = part.last() else { break };
            from = last.index.next();
            records.extend(part);
        }
        Ok(records)
    }

    fn last_log_id(&self, bounds: &LogBounds) -> io::Result<Option<LogId>> {
        match bounds.last {
            None => purged_id(bounds),
            Some(last) => match self.log.read(last..last.next(), 0).map_err(to_io)?.first() {
                Some(record) => Ok(Some(codec::entry_id(last, &record.payload).map_err(invalid)?)),
                None => Err(invalid(format!("entry {last} is in the log's bounds and can't be read"))),
            },
        }
    }

    fn note_appended(&self, index: LogIndex, record: &Bytes) {
        self.size.appended(index, record.len() as u64);
        if let Some((stamp, _)) = codec::entry_stamp(record) {
            self.tail.set(Received { index, stamp, at: self.clock.boot() });
        }
    }
}

/// A storage error in the clothes that openraft passes on.
pub(crate) fn to_io(error: StorageError) -> io::Error {
    io::Error::other(error)
}

#[allow(clippy::needless_pass_by_value, reason = "taken as `map_err` hands it over")]
pub(crate) fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

fn purged_id(bounds: &LogBounds) -> io::Result<Option<LogId>> {
    bounds.purged.as_ref().map(|purged| codec::decode_log_id(&purged.mark).map_err(invalid)).transpose()
}

fn decode(records: &[Record]) -> io::Result<Vec<Entry>> {
    records.iter().map(|record| codec::decode_entry(record.index, &record.payload).map_err(invalid)).collect()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        decode(&self.read_all(LogIndex(start)..LogIndex(end))?)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        // One read, so that an append message stays within the bound of the transport.
        let records = self.log.read(LogIndex(start)..LogIndex(end), RAFT_READ_BYTES_MAX).map_err(to_io)?;
        decode(&records)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.log.vote().map(|vote| codec::decode_vote(&vote).map_err(invalid)).transpose()
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let bounds = self.log.bounds();
        Ok(LogState { last_purged_log_id: purged_id(&bounds)?, last_log_id: self.last_log_id(&bounds)? })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (sender, durable) = oneshot::channel();
        let flushed = Box::new(move |result| {
            // Nobody listens only if openraft was stopped meanwhile.
            let _ = sender.send(result);
        });
        self.log.save_vote(codec::encode_vote(vote), flushed);
        durable.await.map_err(io::Error::other)?.map_err(to_io)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(id) => self.log.save_committed(codec::encode_log_id(&id)).map_err(to_io),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        self.log.committed().map(|mark| codec::decode_log_id(&mark).map_err(invalid)).transpose()
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries.into_iter().map(|entry| {
            let record = Record { index: LogIndex(entry.log_id.index), payload: codec::encode_entry(&entry) };
            self.note_appended(record.index, &record.payload);
            record
        });
        let records: Vec<Record> = records.collect();
        let flushed = Box::new(move |result: Result<(), StorageError>| {
            callback.io_completed(result.map_err(to_io));
        });
        if self.log.room() != Room::Ample && records.iter().any(|record| codec::is_urgent(&record.payload)) {
            self.log.append_urgent(records, flushed);
        } else {
            self.log.append(records, flushed);
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let last = last.map(|id| LogIndex(id.index));
        self.log.truncate_after(last).map_err(to_io)?;
        let newest_stays = last.is_some_and(|last| self.tail.newest().index <= last);
        if newest_stays { Ok(()) } else { self.find_tail() }
    }

    async fn purge(&mut self, id: LogId) -> io::Result<()> {
        let purged = Purged { index: LogIndex(id.index), mark: codec::encode_log_id(&id) };
        self.size.purged(purged.index);
        self.log.purge_through(purged).map_err(to_io)
    }
}
