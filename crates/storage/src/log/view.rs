//! The log as its callers see it: every change at once, whether it is on disk yet or not.
//!
//! Pure bookkeeping behind one lock, which is never held during I/O. The order in which changes enter the queue here is
//! their order on disk.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use haltline_core::{
    LogIndex,
    limits::{LOG_MARK_BYTES_MAX, LOG_RECORDS_MAX, LOG_SYNC_BYTES_MAX},
};

use super::{
    Flushed, LogBounds, Purged, Record,
    positions::{Place, Positions},
    record,
    segments::SegmentFile,
    writer::{Change, Entries, Written},
};
use crate::{DiskFile, StorageError};

/// What waits for the writer.
pub(super) enum Queued {
    /// A change, and who wants to know that it is durable.
    Change(Change, Option<Flushed>),
    /// A change that was refused: its caller is told in its turn.
    Refused(StorageError, Flushed),
}

impl Queued {
    fn cost(&self) -> usize {
        match self {
            Self::Change(Change::Append(entries), _) => entries.records.iter().map(record_cost).sum(),
            _ => record::HEADER_BYTES + LOG_MARK_BYTES_MAX,
        }
    }

    /// Whether the last of the reserve is for this: appends that say so, and whatever is small and lets things go on.
    fn is_urgent(&self) -> bool {
        match self {
            Self::Change(Change::Append(entries), _) => entries.is_urgent,
            Self::Change(..) => true,
            Self::Refused(..) => false,
        }
    }
}

fn record_cost(entry: &Record) -> usize {
    record::frame_bytes(entry.payload.len())
}

/// One step towards reading a range.
#[derive(Debug)]
pub(super) enum Found {
    /// From memory.
    Cached(Record),
    /// To be read from this file.
    OnDisk(Located),
}

/// A record on disk.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) index: LogIndex,
    pub(super) segment: u64,
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
}

pub(super) struct View {
    record_bytes_max: usize,
    cache_bytes_max: usize,
    purged: Option<Purged>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    /// `committed` isn't in the stream yet.
    is_committed_new: bool,
    positions: Positions,
    /// Payloads of the last records, up to the very last.
    cache: VecDeque<Bytes>,
    cache_bytes: usize,
    files: BTreeMap<u64, (PathBuf, Arc<dyn DiskFile>)>,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    next_ticket: u64,
    failed: Option<StorageError>,
    /// Since when what is first in the queue, or was begun, finds no room.
    waits_since: Option<Instant>,
    is_closing: bool,
}

impl View {
    /// The view of a log that was just opened.
    pub(super) fn new(record_bytes_max: usize, cache_bytes_max: usize) -> Self {
        Self {
            record_bytes_max,
            cache_bytes_max,
            purged: None,
            vote: None,
            committed: None,
            is_committed_new: false,
            positions: Positions::default(),
            cache: VecDeque::new(),
            cache_bytes: 0,
            files: BTreeMap::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            next_ticket: 1,
            failed: None,
            waits_since: None,
            is_closing: false,
        }
    }

    /// Takes over what recovery found.
    pub(super) fn restore(&mut self, carried: super::replay::Carried, positions: Positions) {
        self.purged = carried.purged;
        self.vote = carried.vote;
        self.committed = carried.committed;
        self.positions = positions;
    }

    /// A segment that records may lie in.
    pub(super) fn add_file(&mut self, segment: &SegmentFile) {
        self.files.insert(segment.sequence, (segment.path.clone(), Arc::clone(&segment.file)));
    }

    /// Forgets segments that hold no record any more.
    pub(super) fn drop_files(&mut self, retired: &[SegmentFile]) {
        for segment in retired {
            self.files.remove(&segment.sequence);
        }
    }

    pub(super) fn bounds(&self) -> LogBounds {
        LogBounds { purged: self.purged.clone(), last: self.positions.held().map(|(_, last)| last) }
    }

    pub(super) fn vote(&self) -> Option<Bytes> {
        self.vote.clone()
    }

    pub(super) fn committed(&self) -> Option<Bytes> {
        self.committed.clone()
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// No change is taken any more.
    pub(super) fn begin_closing(&mut self) {
        self.is_closing = true;
    }

    /// Why no change is taken any more, if so.
    pub(super) fn stopped(&self) -> Result<(), StorageError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.is_closing => Err(StorageError::Closed),
            None => Ok(()),
        }
    }

    /// What stopped the log, if something did.
    pub(super) fn failure(&self) -> Option<StorageError> {
        self.failed.clone()
    }

    /// Remembers the first failure.
    pub(super) fn fail(&mut self, error: &StorageError) {
        self.failed.get_or_insert_with(|| error.clone());
    }

    fn enqueue(&mut self, queued: Queued) {
        self.queued_bytes += queued.cost();
        self.queue.push_back(queued);
    }

    /// Checks and takes an append; a refused one is queued all the same, so that its answer comes in order.
    pub(super) fn append(&mut self, records: Vec<Record>, is_urgent: bool, flushed: Flushed) {
        if let Err(error) = self.check_append(&records) {
            return self.enqueue(Queued::Refused(error, flushed));
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        for entry in &records {
            self.positions.push(entry.index, Place::Pending(ticket));
            self.cache_bytes += entry.payload.len();
            self.cache.push_back(entry.payload.clone());
        }
        let entries = Entries { ticket, records: records.into(), is_urgent };
        self.enqueue(Queued::Change(Change::Append(entries), Some(flushed)));
    }

    fn check_append(&self, records: &[Record]) -> Result<(), StorageError> {
        self.stopped()?;
        if self.positions.len() + records.len() > LOG_RECORDS_MAX {
            return Err(StorageError::LogFull { what: "records", what_max: LOG_RECORDS_MAX as u64 });
        }
        let mut next = self.bounds().next();
        for entry in records {
            check_size("a record", entry.payload.len(), self.record_bytes_max)?;
            let expected = next.unwrap_or(entry.index);
            if entry.index != expected {
                return Err(StorageError::NotContiguous { expected, got: entry.index });
            }
            next = Some(entry.index.next());
        }
        Ok(())
    }

    pub(super) fn truncate_from(&mut self, from: LogIndex) -> Result<(), StorageError> {
        self.stopped()?;
        if self.positions.held().is_some_and(|(_, last)| from <= last) {
            let before = self.positions.len();
            self.positions.truncate_from(from);
            self.cut_cache_end(before - self.positions.len());
            self.enqueue(Queued::Change(Change::TruncateFrom(from), None));
        }
        Ok(())
    }

    pub(super) fn purge(&mut self, purged: Purged) -> Result<(), StorageError> {
        self.stopped()?;
        check_size("a log id", purged.mark.len(), LOG_MARK_BYTES_MAX)?;
        if self.purged.as_ref().is_none_or(|before| before.index < purged.index) {
            self.positions.purge_through(purged.index);
            self.cut_cache_begin();
            self.purged = Some(purged.clone());
            self.enqueue(Queued::Change(Change::Purge(purged), None));
        }
        Ok(())
    }

    pub(super) fn save_vote(&mut self, vote: Bytes, flushed: Flushed) {
        match self.stopped().and_then(|()| check_size("a vote", vote.len(), LOG_MARK_BYTES_MAX)) {
            Err(error) => self.enqueue(Queued::Refused(error, flushed)),
            Ok(()) => {
                self.vote = Some(vote.clone());
                self.enqueue(Queued::Change(Change::Vote(vote), Some(flushed)));
            }
        }
    }

    pub(super) fn save_committed(&mut self, mark: Bytes) -> Result<(), StorageError> {
        self.stopped()?;
        check_size("a log id", mark.len(), LOG_MARK_BYTES_MAX)?;
        self.is_committed_new |= self.committed.as_ref() != Some(&mark);
        self.committed = Some(mark);
        Ok(())
    }

    /// Forgets the payloads of this many last records.
    fn cut_cache_end(&mut self, records: usize) {
        for _ in 0..records.min(self.cache.len()) {
            self.cache_bytes -= self.cache.pop_back().map_or(0, |payload| payload.len());
        }
    }

    /// Forgets payloads of records that aren't held any more, after a purge.
    fn cut_cache_begin(&mut self) {
        while self.cache.len() > self.positions.len() {
            self.cache_bytes -= self.cache.pop_front().map_or(0, |payload| payload.len());
        }
    }

    /// Takes what the next sync shall cover: at least one change, and the committed mark if it is new.
    pub(super) fn take_batch(&mut self) -> (VecDeque<Queued>, Option<Bytes>) {
        let (mut batch, mut bytes) = (VecDeque::new(), 0);
        while let Some(next) = self.queue.pop_front() {
            let cost = next.cost();
            if !batch.is_empty() && bytes + cost > LOG_SYNC_BYTES_MAX {
                self.queue.push_front(next);
                break;
            }
            bytes += cost;
            batch.push_back(next);
        }
        self.queued_bytes -= bytes;
        // A mark goes behind all records that were given before it.
        let committed = if self.queue.is_empty() { self.take_committed() } else { None };
        (batch, committed)
    }

    /// Puts back in front what found no room.
    pub(super) fn put_back(&mut self, rest: VecDeque<Queued>) {
        for queued in rest.into_iter().rev() {
            self.queued_bytes += queued.cost();
            self.queue.push_front(queued);
        }
    }

    /// Takes back a mark that was taken for the stream and isn't in it, unless there is a newer one.
    pub(super) fn put_back_committed(&mut self, mark: Bytes) {
        self.committed.get_or_insert(mark);
        self.is_committed_new = true;
    }

    /// Takes everything that is queued.
    pub(super) fn take_all(&mut self) -> VecDeque<Queued> {
        self.queued_bytes = 0;
        std::mem::take(&mut self.queue)
    }

    /// Notes that the disk has no room for what is queued or begun.
    pub(super) fn wait_for_room(&mut self) {
        self.waits_since.get_or_insert_with(Instant::now);
    }

    /// Notes that there was room for everything.
    pub(super) fn found_room(&mut self) {
        self.waits_since = None;
    }

    /// Since when changes wait for room, if they do.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.waits_since
    }

    /// Whether something that is still queued is urgent.
    pub(super) fn has_urgent(&self) -> bool {
        self.queue.iter().any(Queued::is_urgent)
    }

    /// The committed mark, if the stream doesn't have it yet.
    pub(super) fn take_committed(&mut self) -> Option<Bytes> {
        std::mem::take(&mut self.is_committed_new).then(|| self.committed.clone())?
    }

    /// Notes where a batch's records went, and lets the cache shrink.
    pub(super) fn settle(&mut self, written: &Written) {
        for segment in &written.opened {
            self.add_file(segment);
        }
        for (ticket, index, place) in &written.placed {
            self.positions.settle(*ticket, *index, *place);
        }
        self.shrink_cache();
    }

    fn shrink_cache(&mut self) {
        let Some((_, last)) = self.positions.held() else { return };
        while self.cache_bytes > self.cache_bytes_max {
            let oldest = LogIndex(last.next().0 - self.cache.len() as u64);
            // What isn't written yet can be read from nowhere else.
            let is_written = matches!(self.positions.get(oldest), Some(Place::Written { .. }));
            let Some(payload) = self.cache.pop_front_if(|_| is_written) else { return };
            self.cache_bytes -= payload.len();
        }
    }

    /// Finds the held records of a range, as many as fit, at least one.
    pub(super) fn find(&self, range: &Range<LogIndex>, bytes_max: usize) -> Vec<Found> {
        let Some((first, last)) = self.positions.held() else { return Vec::new() };
        let (start, end) = (range.start.max(first), range.end.min(last.next()));
        let cache_start = last.next().0 - self.cache.len() as u64;
        let (mut found, mut bytes) = (Vec::new(), 0);
        for index in (start.0..end.0).map(LogIndex) {
            let Some((length, step)) = self.locate(index, cache_start) else { break };
            bytes += length;
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push(step);
        }
        found
    }

    fn locate(&self, index: LogIndex, cache_start: u64) -> Option<(usize, Found)> {
        if index.0 >= cache_start {
            let payload = self.cache.get((index.0 - cache_start) as usize)?.clone();
            return Some((payload.len(), Found::Cached(Record { index, payload })));
        }
        let Place::Written { segment, offset, length } = self.positions.get(index)? else { return None };
        let (path, file) = self.files.get(&segment)?.clone();
        Some((length as usize, Found::OnDisk(Located { index, segment, offset, length, path, file })))
    }

    /// Whether the record is still where it was found.
    pub(super) fn is_still_at(&self, located: &Located) -> bool {
        let Located { segment, offset, length, .. } = *located;
        self.positions.get(located.index) == Some(Place::Written { segment, offset, length })
    }
}

fn check_size(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), StorageError> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(StorageError::TooLarge { what, bytes: bytes as u64, bytes_max: bytes_max as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(view: &mut View, index: u64, bytes: usize) {
        let record = Record { index: LogIndex(index), payload: Bytes::from(vec![7; bytes]) };
        view.append(vec![record], false, Box::new(|_| ()));
    }

    fn written(index: u64, ticket: u64, bytes: usize) -> Written {
        let place = Place::Written { segment: 1, offset: 4_096, length: bytes as u32 };
        Written { placed: vec![(ticket, LogIndex(index), place)], opened: Vec::new() }
    }

    #[test]
    fn a_mark_waits_for_the_records_given_before_it() {
        let mut view = View::new(LOG_SYNC_BYTES_MAX, 0);
        for index in 0..3 {
            append(&mut view, index, LOG_SYNC_BYTES_MAX / 2);
        }
        view.save_committed(Bytes::from_static(b"2")).expect("open");
        // A batch is bounded, so the mark must not go with the first.
        for last in [false, false, true] {
            let (batch, mark) = view.take_batch();
            assert_eq!((batch.len(), mark.is_some()), (1, last));
        }
        assert_eq!(view.take_batch().1, None, "once");
        assert_eq!(view.queued_bytes(), 0);
    }

    #[test]
    fn what_is_not_written_stays_in_memory() {
        let mut view = View::new(1_000, 100);
        append(&mut view, 5, 90);
        append(&mut view, 6, 90);
        view.settle(&written(6, 2, 90));
        assert_eq!(view.cache.len(), 2, "the older one can be read from nowhere else");
        view.settle(&written(5, 1, 90));
        assert_eq!((view.cache.len(), view.cache_bytes), (1, 90));
    }

    #[test]
    fn a_place_belongs_to_the_append_that_asked() {
        let mut view = View::new(1_000, 100);
        append(&mut view, 5, 10);
        view.truncate_from(LogIndex(5)).expect("open");
        append(&mut view, 5, 10);
        view.settle(&written(5, 1, 10));
        assert_eq!(view.positions.get(LogIndex(5)), Some(Place::Pending(2)), "still the second append's");
        view.settle(&written(5, 2, 10));
        assert!(matches!(view.positions.get(LogIndex(5)), Some(Place::Written { .. })));
    }

    #[test]
    fn truncation_and_purge_keep_the_cache_in_step() {
        let mut view = View::new(1_000, 1_000_000);
        (0..6).for_each(|index| append(&mut view, index, 10));
        view.truncate_from(LogIndex(4)).expect("open");
        view.purge(Purged { index: LogIndex(1), mark: Bytes::new() }).expect("open");
        assert_eq!((view.cache.len(), view.cache_bytes), (2, 20));
        view.purge(Purged { index: LogIndex(9), mark: Bytes::new() }).expect("open");
        assert_eq!((view.cache.len(), view.cache_bytes), (0, 0));
        assert_eq!(view.bounds().next(), Some(LogIndex(10)));
    }
}
