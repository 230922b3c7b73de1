//! Writes the stream: encodes what was queued into the active segment, opens the next one when it is full, and makes a
//! whole batch durable with one sync.
//!
//! Knows nothing of threads and callbacks. A full disk leaves it where it was: what was encoded is kept, and the same call
//! may be made again when there is room. After any other error it must not be used again: what reached the disk is unknown.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use haltline_core::{LogIndex, limits::LOG_SEGMENTS_MAX};

use super::{
    Purged, Record, inventory,
    positions::Place,
    record::{self, Kind, Spot},
    recovery::Recovered,
    replay::Carried,
    segment_header::{self, HEADER_BYTES, SegmentHeader},
    segments::{SegmentFile, Segments},
    spares::Spares,
    sync_times::SyncTimes,
};
use crate::{Disk, DiskFile, StorageError, error::Context as _};

/// How much is encoded before it is handed to the file.
const BUFFER_BYTES: usize = 1_024 * 1_024;
/// Room that is kept free for [`Kind::Continued`].
pub(super) const CONTINUED_BYTES: usize = record::HEADER_BYTES;

/// A change in the stream.
#[derive(Debug)]
pub(super) enum Change {
    /// Adds these entries.
    Append(Entries),
    /// Drops the entries from this index on.
    TruncateFrom(LogIndex),
    /// Drops the entries through an index.
    Purge(Purged),
    /// Replaces the vote.
    Vote(Bytes),
}

/// The entries of one append, fewer and fewer as they are encoded.
#[derive(Debug)]
pub(super) struct Entries {
    /// Tells this append from another of the same indices.
    pub(super) ticket: u64,
    pub(super) records: VecDeque<Record>,
    /// May use the last of the reserve.
    pub(super) is_urgent: bool,
}

/// What a batch did, for the view.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Ticket, index and place of every entry.
    pub(super) placed: Vec<(u64, LogIndex, Place)>,
    /// Segments that were opened.
    pub(super) opened: Vec<SegmentFile>,
}

#[derive(Debug)]
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    spares: Arc<Spares>,
    times: Arc<SyncTimes>,
    segments: Segments,
    active: Active,
    /// Set while what is encoded may use the last of the reserve.
    is_urgent: bool,
    /// The state after everything encoded so far.
    carried: Carried,
}

/// The segment that is written to.
#[derive(Debug)]
struct Active {
    sequence: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    capacity: u32,
    /// Bytes handed to the file.
    written: u32,
    /// Bytes known to be synced.
    durable: u32,
    /// Encoded, to be written behind `written`.
    buffer: Vec<u8>,
}

impl Active {
    fn end(&self) -> u32 {
        self.written + self.buffer.len() as u32
    }

    fn encode(&mut self, kind: Kind, index: LogIndex, payload: &[u8]) -> Spot {
        let spot = Spot { segment: self.sequence, offset: self.end() };
        record::encode(&mut self.buffer, spot, self.durable, kind, index, payload);
        spot
    }

    fn write_buffer(&mut self) -> Result<(), StorageError> {
        if !self.buffer.is_empty() {
            self.file.write_at(&self.buffer, u64::from(self.written)).doing("write", &self.path)?;
            self.written = self.end();
            self.buffer.clear();
        }
        Ok(())
    }

    fn write_buffer_if_large(&mut self) -> Result<(), StorageError> {
        if self.buffer.len() >= BUFFER_BYTES { self.write_buffer() } else { Ok(()) }
    }

    fn sync(&mut self, times: &SyncTimes) -> Result<(), StorageError> {
        self.write_buffer()?;
        if self.durable < self.written {
            let synced = times.time(|| self.file.sync_data()).doing("sync", &self.path);
            // Even when it is for want of room: the kernel may have dropped what it could not write.
            synced.map_err(StorageError::beyond_waiting)?;
            self.durable = self.written;
        }
        Ok(())
    }
}

impl Writer {
    /// Goes on where recovery found the end, or begins a new log.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        spares: Arc<Spares>,
        times: Arc<SyncTimes>,
        recovered: Option<Recovered>,
    ) -> Result<Self, StorageError> {
        let (segments, active, carried) = match recovered {
            None => {
                let active = open_segment(&*disk, &dir, (&spares, false), 1, 0, &Carried::default())?;
                let mut segments = Segments::default();
                segments.push(active.as_file());
                (segments, active, Carried::default())
            }
            Some(recovered) => {
                let Some(last) = recovered.segments.iter().last().cloned() else {
                    return Err(StorageError::corrupt(&dir, 0, "a segment", "none"));
                };
                let active = Active {
                    sequence: last.sequence,
                    path: last.path,
                    file: last.file,
                    capacity: recovered.capacity,
                    written: recovered.end,
                    durable: recovered.end,
                    buffer: Vec::new(),
                };
                (recovered.segments, active, recovered.carried)
            }
        };
        Ok(Self { disk, dir, spares, times, segments, active, is_urgent: false, carried })
    }

    /// All segment files.
    pub(super) fn segments(&self) -> impl Iterator<Item = &SegmentFile> {
        self.segments.iter()
    }

    /// Whether what is encoded from now on may use the last of the reserve.
    pub(super) fn set_urgent(&mut self, is_urgent: bool) {
        self.is_urgent = is_urgent;
    }

    /// Adds the committed mark to the stream.
    pub(super) fn encode_committed(
        &mut self,
        mark: &Bytes,
        written: &mut Written,
    ) -> Result<(), StorageError> {
        self.encode(Kind::Committed, LogIndex(0), mark, written).map(drop)
    }

    /// Makes everything durable that was encoded so far.
    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        self.active.sync(&self.times)
    }

    /// Ends the stream for a clean shutdown: syncs, then says so in a closing record.
    pub(super) fn close(&mut self, committed: Option<&Bytes>) -> Result<(), StorageError> {
        let mut written = Written::default();
        if let Some(mark) = committed {
            self.encode_committed(mark, &mut written)?;
        }
        self.sync()?;
        self.encode(Kind::Close, LogIndex(0), &Bytes::new(), &mut written)?;
        self.sync()
    }

    /// Takes out the segments that the last durable purge made dispensable. They are still there until
    /// [`recycle`](Self::recycle).
    pub(super) fn retire(&mut self) -> Vec<SegmentFile> {
        match &self.carried.purged {
            Some(purged) => self.segments.retire(purged.index),
            None => Vec::new(),
        }
    }

    /// Gives files of retired segments back.
    pub(super) fn recycle(&self, retired: &[SegmentFile]) {
        for segment in retired {
            if let Err(error) = self.spares.recycle(segment) {
                // Nothing depends on it: the next opening of the log finds the file and removes it.
                tracing::warn!(code = error.code(), "can't reuse a purged log segment: {error}");
                return;
            }
        }
    }

    /// Adds a change to the stream. What of an append was encoded is gone from it, so that the rest may come later.
    pub(super) fn encode_change(
        &mut self,
        change: &mut Change,
        written: &mut Written,
    ) -> Result<(), StorageError> {
        match change {
            Change::Append(entries) => {
                while let Some(entry) = entries.records.front() {
                    let spot = self.encode(Kind::Entry, entry.index, &entry.payload, written)?;
                    let place = Place::Written {
                        segment: spot.segment,
                        offset: spot.offset,
                        length: entry.payload.len() as u32,
                    };
                    written.placed.push((entries.ticket, entry.index, place));
                    self.segments.note_entry(entry.index);
                    entries.records.pop_front();
                }
            }
            Change::TruncateFrom(from) => {
                self.encode(Kind::Truncate, *from, &Bytes::new(), written)?;
                self.segments.note_truncation(*from);
            }
            Change::Purge(purged) => {
                self.encode(Kind::Purge, purged.index, &purged.mark, written)?;
            }
            Change::Vote(vote) => {
                self.encode(Kind::Vote, LogIndex(0), vote, written)?;
            }
        }
        Ok(())
    }

    /// Adds one record to the stream, in a new segment if it doesn't fit in this one.
    fn encode(
        &mut self,
        kind: Kind,
        index: LogIndex,
        payload: &Bytes,
        written: &mut Written,
    ) -> Result<Spot, StorageError> {
        let room = self.active.capacity.saturating_sub(self.active.end()) as usize;
        if record::frame_bytes(payload.len()) + CONTINUED_BYTES > room {
            self.roll(written)?;
        }
        let spot = self.active.encode(kind, index, payload);
        let applied = self.carried.apply(kind, index, payload);
        debug_assert!(applied.is_ok(), "the view lets no hole through");
        // What finds no room here stays in the buffer until the sync, which says so.
        match self.active.write_buffer_if_large() {
            Err(StorageError::DiskFull { .. }) | Ok(()) => Ok(spot),
            Err(error) => Err(error),
        }
    }

    /// Makes the active segment durable as a whole, then opens the next one.
    fn roll(&mut self, written: &mut Written) -> Result<(), StorageError> {
        if self.segments.len() >= LOG_SEGMENTS_MAX {
            return Err(StorageError::LogFull { what: "segments", what_max: LOG_SEGMENTS_MAX as u64 });
        }
        self.sync()?;
        let (sequence, end) = (self.active.sequence + 1, self.active.written);
        // Where that finds no room half way, another file takes the name at the next try.
        let spares = (&*self.spares, self.is_urgent);
        let next = open_segment(&*self.disk, &self.dir, spares, sequence, end, &self.carried)?;
        let mut full = std::mem::replace(&mut self.active, next);
        self.segments.push(self.active.as_file());
        written.opened.push(self.active.as_file());
        full.encode(Kind::Continued, LogIndex(0), &[]);
        match full.sync(&self.times) {
            // It only helps to notice that a file was lost.
            Err(StorageError::DiskFull { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Active {
    fn as_file(&self) -> SegmentFile {
        SegmentFile::new(self.sequence, self.path.clone(), Arc::clone(&self.file))
    }
}

/// Puts a spare file in place and gives it a durable header.
fn open_segment(
    disk: &dyn Disk,
    dir: &Path,
    (spares, is_urgent): (&Spares, bool),
    sequence: u64,
    previous_end: u32,
    carried: &Carried,
) -> Result<Active, StorageError> {
    let spare = spares.take(is_urgent)?;
    let path = inventory::segment_path(dir, sequence);
    if let Err(error) = disk.rename(&spare.path, &path).doing("rename", &spare.path) {
        spares.put_back(spare);
        return Err(error);
    }
    let file = spare.file;
    // Before the first byte: as long as the file could come back under an old name, it must hold its old content.
    disk.sync_dir(dir).doing("sync", dir).map_err(StorageError::beyond_waiting)?;
    let capacity = file.len().doing("measure", &path)?;
    let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
    let header = SegmentHeader { sequence, capacity, previous_end, carried: carried.clone() };
    file.write_at(&segment_header::encode(&header), 0).doing("write", &path)?;
    file.sync_data().doing("sync", &path).map_err(StorageError::beyond_waiting)?;
    let begin = HEADER_BYTES as u32;
    Ok(Active { sequence, path, file, capacity, written: begin, durable: begin, buffer: Vec::new() })
}
