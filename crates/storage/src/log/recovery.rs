//! Reads a log back.
//!
//! Records are one ordered stream over all segments. It may end in a tail that a power cut tore: records that were
//! written but not synced can be there in any part and mixture. Such a tail is cut at its first record that isn't whole.
//! What makes a tail torn rather than damaged is that no record says otherwise:
//!
//! - every record carries how much of its segment was synced when it was written; one that names bytes behind the first
//!   bad one proves damage;
//! - a segment is synced whole before its successor's header is written, and the header says where it ends; then a
//!   record behind that end says that there is a successor.
//!
//! What can't be told apart: damage to the very last sync's records, after a crash, and a torn tail. From then on no
//! later byte vouches for them. A clean shutdown writes a closing record that does.
//!
//! After reading, the records of the last sync are written again and synced, because a kernel that failed to write them
//! may still show them; and records behind the cut are zeroed, so that they can't come back behind new ones.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use haltline_core::{LogIndex, limits::LOG_RECORDS_MAX};

use super::{
    inventory::Inventory,
    positions::{Place, Positions},
    record::{self, Fault, Kind, Spot},
    replay::Carried,
    segment_header::{self, FORMAT, HEADER_BYTES, HeaderFault, SegmentHeader},
    segments::{SegmentFile, Segments},
};
use crate::{Disk, DiskFile, StorageError, error::Context as _};

/// What opening a log found and mended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Segments that were read.
    pub segments: usize,
    /// Records that are held.
    pub records: usize,
    /// The torn tail that was cut off, if there was one.
    pub cut: Option<TailCut>,
    /// Files that an interrupted change had left and that were removed.
    pub leftovers: usize,
}

/// A torn tail. None of it was ever acknowledged, unless the disk damaged the last records of all after they were
/// synced, which can't be told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailCut {
    /// The file it was in.
    pub file: PathBuf,
    /// The byte it was cut at.
    pub offset: u64,
    /// Record headers that were still readable behind it.
    pub records: usize,
}

/// A log as it was found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) carried: Carried,
    pub(super) positions: Positions,
    pub(super) segments: Segments,
    /// Where the last segment goes on.
    pub(super) end: u32,
    /// Bytes of the last segment's file.
    pub(super) capacity: u32,
    pub(super) report: RecoveryReport,
}

/// A segment file in memory.
struct Loaded {
    sequence: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    bytes: Vec<u8>,
}

impl Loaded {
    fn read(disk: &dyn Disk, sequence: u64, path: &Path) -> Result<Self, StorageError> {
        let file = disk.open(path).doing("open", path)?;
        let length = file.len().doing("measure", path)?;
        let mut bytes = vec![0; usize::try_from(length.min(u64::from(u32::MAX))).unwrap_or(0)];
        let read = file.read_at(&mut bytes, 0).doing("read", path)?;
        bytes.truncate(read);
        Ok(Self { sequence, path: path.to_owned(), file, bytes })
    }

    fn header(&self) -> Result<SegmentHeader, HeaderFault> {
        segment_header::decode(self.sequence, &self.bytes)
    }

    fn header_error(&self, fault: &HeaderFault) -> StorageError {
        match fault {
            HeaderFault::Newer(format) => {
                StorageError::NewerFormat { file: self.path.clone(), supported: FORMAT, got: *format }
            }
            HeaderFault::Invalid(found) => StorageError::corrupt(
                &self.path,
                0,
                format!("the header of segment {}", self.sequence),
                *found,
            ),
        }
    }

    /// The record headers that validate at or behind this offset, with their offsets.
    fn headers_from(&self, offset: u32) -> impl Iterator<Item = (u32, record::Header)> {
        let offsets = (offset as usize..self.bytes.len()).step_by(record::ALIGNMENT);
        offsets.filter_map(|at| {
            let spot = Spot { segment: self.sequence, offset: at as u32 };
            Some((at as u32, record::decode_header(spot, &self.bytes[at..]).ok()?))
        })
    }

    /// Whether some record proves that this segment's header was once durable.
    fn was_used(&self) -> bool {
        self.headers_from(HEADER_BYTES as u32).any(|(_, header)| header.durable >= HEADER_BYTES as u32)
    }
}

/// The stream so far.
#[derive(Default)]
struct Stream {
    carried: Carried,
    positions: Positions,
    segments: Segments,
}

/// Where reading a segment stopped.
struct Stop {
    offset: u32,
    fault: Fault,
    /// The most that any record read says was synced.
    durable: u32,
}

impl Stream {
    /// Takes the state from the oldest segment's header: the records before it are missing until something drops them.
    fn begin(&mut self, oldest: &Loaded, header: &SegmentHeader) -> Result<(), StorageError> {
        self.carried = header.carried.clone();
        let Some((first, last)) = header.carried.held else { return Ok(()) };
        if last.0 - first.0 >= LOG_RECORDS_MAX as u64 {
            let expected = format!("at most {LOG_RECORDS_MAX} records before it");
            return Err(StorageError::corrupt(&oldest.path, 0, expected, format!("{first} to {last}")));
        }
        for index in first.0..=last.0 {
            self.positions.push(LogIndex(index), Place::Missing);
        }
        Ok(())
    }

    /// Takes in the records of a segment, up to the first that isn't whole or to `end`.
    fn read(&mut self, segment: &Loaded, end: usize) -> Result<Stop, StorageError> {
        self.segments.push(SegmentFile::new(
            segment.sequence,
            segment.path.clone(),
            Arc::clone(&segment.file),
        ));
        let limit = &segment.bytes[..end.min(segment.bytes.len())];
        let (mut at, mut durable) = (HEADER_BYTES, 0);
        loop {
            let spot = Spot { segment: segment.sequence, offset: at as u32 };
            let bytes = limit.get(at..).unwrap_or_default();
            let (header, payload) = match record::decode(spot, bytes) {
                Ok(found) => found,
                Err(fault) => return Ok(Stop { offset: at as u32, fault, durable }),
            };
            durable = durable.max(header.durable);
            self.take(segment, spot, &header, payload)?;
            at += header.frame_bytes();
        }
    }

    fn take(
        &mut self,
        segment: &Loaded,
        spot: Spot,
        header: &record::Header,
        payload: &[u8],
    ) -> Result<(), StorageError> {
        let index = header.index;
        let opaque = if header.kind == Kind::Entry { Bytes::new() } else { Bytes::copy_from_slice(payload) };
        self.carried.apply(header.kind, index, &opaque).map_err(|expected| {
            let offset = u64::from(spot.offset);
            StorageError::corrupt(
                &segment.path,
                offset,
                format!("record {expected}"),
                format!("record {index}"),
            )
        })?;
        match header.kind {
            Kind::Entry => {
                let place =
                    Place::Written { segment: spot.segment, offset: spot.offset, length: header.length };
                self.positions.push(index, place);
                self.segments.note_entry(index);
            }
            Kind::Truncate => {
                self.positions.truncate_from(index);
                self.segments.note_truncation(index);
            }
            Kind::Purge => self.positions.purge_through(index),
            Kind::Continued => {
                let expected = format!("segment {} after it", spot.segment + 1);
                let (path, offset) = (&segment.path, u64::from(spot.offset));
                return Err(StorageError::corrupt(path, offset, expected, "none that can be read"));
            }
            Kind::Vote | Kind::Committed | Kind::Close => {}
        }
        Ok(())
    }
}

/// Reads the log in this directory back; `None` if there is none yet. Changes nothing unless it succeeds.
pub(super) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    inventory: &Inventory,
) -> Result<Option<Recovered>, StorageError> {
    let mut leftovers = inventory.unfinished.clone();
    let mut segments = inventory.segments.as_slice();
    let Some(mut last) = load_last(disk, segments)? else {
        remove(disk, dir, &leftovers)?;
        return Ok(None);
    };
    if let Err(fault) = last.header() {
        let Some(earlier) = without_unused(&last, &fault, segments)? else {
            leftovers.push(last.path);
            remove(disk, dir, &leftovers)?;
            return Ok(None);
        };
        leftovers.push(last.path);
        segments = earlier;
        let Some(before) = load_last(disk, segments)? else { return Ok(None) };
        last = before;
    }
    let (unneeded, run) = segments.split_at(run_start(segments));
    leftovers.extend(unneeded.iter().map(|(_, path)| path.clone()));
    let (stream, stop) = replay(disk, run, &last)?;
    check_nothing_missing(&stream, run)?;
    let (cut, dirty_end) = judge_tail(&last, &stop)?;
    mend_tail(disk, dir, &last, &stop, dirty_end)?;
    let report = RecoveryReport {
        segments: run.len(),
        records: stream.positions.len(),
        cut,
        leftovers: leftovers.len(),
    };
    remove(disk, dir, &leftovers)?;
    Ok(Some(Recovered {
        carried: stream.carried,
        positions: stream.positions,
        segments: stream.segments,
        end: stop.offset,
        capacity: last.bytes.len() as u32,
        report,
    }))
}

fn load_last(disk: &dyn Disk, segments: &[(u64, PathBuf)]) -> Result<Option<Loaded>, StorageError> {
    segments.last().map(|(sequence, path)| Loaded::read(disk, *sequence, path)).transpose()
}

/// The segments without the last one, if that was never used: a power cut came while it was being opened. `None` if
/// nothing else is there because it was the very first.
///
/// # Errors
/// The header's fault, if the segment was used.
fn without_unused<'a>(
    last: &Loaded,
    fault: &HeaderFault,
    segments: &'a [(u64, PathBuf)],
) -> Result<Option<&'a [(u64, PathBuf)]>, StorageError> {
    let earlier = &segments[..segments.len() - 1];
    // The segment before it can't be gone yet: it goes when this one's header has taken its place.
    let follows = match earlier.last() {
        Some((sequence, _)) => sequence + 1 == last.sequence,
        None => last.sequence == 1,
    };
    if matches!(fault, HeaderFault::Newer(_)) || last.was_used() || !follows {
        return Err(last.header_error(fault));
    }
    Ok((!earlier.is_empty()).then_some(earlier))
}

/// Where the gapless run of sequences that ends with the last segment begins.
fn run_start(segments: &[(u64, PathBuf)]) -> usize {
    let gap = segments.windows(2).rposition(|pair| pair[0].0 + 1 != pair[1].0);
    gap.map_or(0, |before| before + 1)
}

/// Replays the run of segments; the last one is loaded already.
fn replay(disk: &dyn Disk, run: &[(u64, PathBuf)], last: &Loaded) -> Result<(Stream, Stop), StorageError> {
    let mut stream = Stream::default();
    let mut previous: Option<Loaded> = None;
    for (sequence, path) in &run[..run.len() - 1] {
        let segment = Loaded::read(disk, *sequence, path)?;
        enter(&mut stream, previous.as_ref(), &segment)?;
        previous = Some(segment);
    }
    enter(&mut stream, previous.as_ref(), last)?;
    let stop = stream.read(last, last.bytes.len())?;
    Ok((stream, stop))
}

/// Goes from one segment to the next: all records of the first must be whole, and the second must begin with the state
/// that they lead to.
fn enter(stream: &mut Stream, previous: Option<&Loaded>, segment: &Loaded) -> Result<(), StorageError> {
    let header = segment.header().map_err(|fault| segment.header_error(&fault))?;
    if segment.bytes.len() < header.capacity as usize {
        let expected = format!("a file of {} bytes", header.capacity);
        return Err(StorageError::corrupt(&segment.path, segment.bytes.len() as u64, expected, "its end"));
    }
    let Some(previous) = previous else { return stream.begin(segment, &header) };
    let end = header.previous_end;
    let stop = stream.read(previous, end as usize)?;
    if stop.offset != end {
        let expected = format!(
            "a whole record, of which there were {end} bytes when segment {} began",
            segment.sequence
        );
        let offset = u64::from(stop.offset);
        return Err(StorageError::corrupt(&previous.path, offset, expected, stop.fault.describe()));
    }
    if stream.carried != header.carried {
        let expected = format!("the state that segment {} leads to", previous.sequence);
        return Err(StorageError::corrupt(&segment.path, 0, expected, "another one"));
    }
    Ok(())
}

fn check_nothing_missing(stream: &Stream, run: &[(u64, PathBuf)]) -> Result<(), StorageError> {
    let Some(missing) = stream.positions.missing() else { return Ok(()) };
    let Some((sequence, path)) = run.first() else { return Ok(()) };
    let expected = format!("segment {} before it, with record {missing}", sequence.saturating_sub(1));
    Err(StorageError::corrupt(path, 0, expected, "no such file"))
}

/// Tells a torn tail from damage, and where the last readable header behind the cut ends.
fn judge_tail(last: &Loaded, stop: &Stop) -> Result<(Option<TailCut>, u32), StorageError> {
    let (mut records, mut dirty_end) = (0, stop.offset);
    for (offset, header) in last.headers_from(stop.offset) {
        if header.durable > stop.offset {
            let expected = format!(
                "a whole record: the one at byte {offset} says that {} bytes were synced before it",
                header.durable
            );
            let at = u64::from(stop.offset);
            return Err(StorageError::corrupt(&last.path, at, expected, stop.fault.describe()));
        }
        records += 1;
        let end = (offset as usize + header.frame_bytes()).min(last.bytes.len());
        dirty_end = dirty_end.max(end as u32);
    }
    let cut = TailCut { file: last.path.clone(), offset: u64::from(stop.offset), records };
    Ok(((records > 0).then_some(cut), dirty_end))
}

/// Writes the last sync's records again, zeroes what was cut off, and makes all that was found durable.
fn mend_tail(
    disk: &dyn Disk,
    dir: &Path,
    last: &Loaded,
    stop: &Stop,
    dirty_end: u32,
) -> Result<(), StorageError> {
    let (durable, end) = (stop.durable as usize, stop.offset as usize);
    last.file.write_at(&last.bytes[durable..end], durable as u64).doing("write", &last.path)?;
    if dirty_end > stop.offset {
        let zeros = vec![0; dirty_end as usize - end];
        last.file.write_at(&zeros, end as u64).doing("write", &last.path)?;
    }
    last.file.sync_data().doing("sync", &last.path)?;
    disk.sync_dir(dir).doing("sync", dir)
}

fn remove(disk: &dyn Disk, dir: &Path, leftovers: &[PathBuf]) -> Result<(), StorageError> {
    for path in leftovers {
        disk.remove(path).doing("remove", path)?;
    }
    if leftovers.is_empty() { Ok(()) } else { disk.sync_dir(dir).doing("sync", dir) }
}
