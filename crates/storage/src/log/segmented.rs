//! [`SegmentedLog`]: the view, the writer, and the thread between them.

use std::{
    collections::VecDeque,
    ops::Range,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use haltline_core::{
    LogIndex,
    limits::{LOG_PENDING_BYTES_MAX, LOG_READ_BYTES, LOG_ROOM_RETRY},
};
use parking_lot::{Condvar, Mutex};

use super::{
    Flushed, Flusher, LogBounds, LogHealth, LogOptions, Purged, RaftLog, Record, RecoveryReport, Room,
    inventory, record,
    record::Spot,
    recovery,
    spares::Spares,
    sync_times::SyncTimes,
    view::{Found, Located, Queued, View},
    writer::{Writer, Written},
};
use crate::{Disk, StorageError, error::Context as _};

/// A Raft log in segment files. See the module for how it works and [`RaftLog`] for what it promises.
#[derive(Debug)]
pub struct SegmentedLog {
    core: Arc<Core>,
    spares: Arc<Spares>,
    recovery: RecoveryReport,
    flusher: Flusher,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Core {
    view: Mutex<View>,
    /// Something was queued, or the log is closing.
    arrived: Condvar,
    /// The queue got shorter.
    taken: Condvar,
    desk: Mutex<Desk>,
    spares: Arc<Spares>,
    times: Arc<SyncTimes>,
}

/// The writer, and what it has begun and not made durable for want of room.
struct Desk {
    writer: Writer,
    begun: Vec<Queued>,
    written: Written,
}

impl Desk {
    /// Encodes the batch, from its front on, and makes all that was begun durable. What is left in the batch found no room.
    fn work(&mut self, batch: &mut VecDeque<Queued>, committed: Option<&Bytes>) -> Result<(), StorageError> {
        while let Some(queued) = batch.front_mut() {
            if let Queued::Change(change, _) = queued {
                self.writer.encode_change(change, &mut self.written)?;
            }
            self.begun.extend(batch.pop_front());
        }
        if let Some(mark) = committed {
            self.writer.encode_committed(mark, &mut self.written)?;
        }
        self.writer.sync()
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("bounds", &self.view.lock().bounds()).finish_non_exhaustive()
    }
}

impl SegmentedLog {
    /// Opens the log in this directory, or begins one, and reads back what is there.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] for damage that is no torn tail, [`StorageError::NewerFormat`],
    /// [`StorageError::BadOption`], [`StorageError::DiskFull`] or an I/O error.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: LogOptions) -> Result<Self, StorageError> {
        let options = options.checked()?;
        disk.create_dir(dir).doing("create", dir)?;
        let inventory = inventory::list(&*disk, dir)?;
        let mut recovered = recovery::recover(&*disk, dir, &inventory)?;
        let spares = Arc::new(Spares::open(Arc::clone(&disk), dir, &options, inventory.spares)?);
        let mut view = View::new(options.record_bytes_max(), options.cache_bytes);
        let mut report = RecoveryReport::default();
        if let Some(recovered) = &mut recovered {
            report = recovered.report.clone();
            view.restore(recovered.carried.clone(), std::mem::take(&mut recovered.positions));
        }
        let times = Arc::new(SyncTimes::default());
        let writer = Writer::open(disk, dir.to_owned(), Arc::clone(&spares), Arc::clone(&times), recovered)?;
        for segment in writer.segments() {
            view.add_file(segment);
        }
        log_recovery(dir, &report);
        let core = Arc::new(Core {
            view: Mutex::new(view),
            arrived: Condvar::new(),
            taken: Condvar::new(),
            desk: Mutex::new(Desk { writer, begun: Vec::new(), written: Written::default() }),
            spares: Arc::clone(&spares),
            times,
        });
        let log =
            Self { core, spares, recovery: report, flusher: options.flusher, threads: Mutex::default() };
        if options.flusher == Flusher::Thread {
            log.start().doing("start a thread for", dir)?;
        }
        Ok(log)
    }

    fn start(&self) -> std::io::Result<()> {
        let (core, spares) = (Arc::clone(&self.core), Arc::clone(&self.spares));
        let writer = thread::Builder::new().name("log-writer".into()).spawn(move || core.run())?;
        self.threads.lock().push(writer);
        let preparer =
            thread::Builder::new().name("log-segments".into()).spawn(move || spares.keep_ready())?;
        self.threads.lock().push(preparer);
        Ok(())
    }

    /// What opening the log found and mended.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// Writes, syncs and acknowledges everything that was given so far, on this thread. What a log with
    /// [`Flusher::Manual`] lives by; with [`Flusher::Thread`] it is never needed.
    ///
    /// # Errors
    /// The error that stopped the log, or [`StorageError::DiskFull`] if something waits for room: call it again when there
    /// is some.
    pub fn flush(&self) -> Result<(), StorageError> {
        while self.core.has_work() {
            self.core.write_batch()?;
        }
        match self.core.view.lock().stopped() {
            Err(StorageError::Closed) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Flushes what is queued, refuses everything later, and marks the log as closed cleanly. Waits until that is done;
    /// doing it again does nothing.
    ///
    /// # Errors
    /// The error that stopped the log.
    pub fn close(&self) -> Result<(), StorageError> {
        let was_closing = {
            let mut view = self.core.view.lock();
            let was_closing = view.is_closing();
            view.begin_closing();
            was_closing
        };
        self.core.arrived.notify_all();
        self.spares.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        for handle in threads {
            // A callback may hold the last reference to the log: the writer can't wait for itself.
            if handle.thread().id() != thread::current().id() && handle.join().is_err() {
                tracing::error!("a thread of the log has panicked");
            }
        }
        if self.flusher == Flusher::Manual && !was_closing {
            self.flush()?;
            self.core.close();
        }
        match self.core.view.lock().stopped() {
            Err(StorageError::Closed) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        let outcome = {
            let mut view = self.core.view.lock();
            // A log that nobody writes for can't wait for room.
            while self.flusher == Flusher::Thread
                && view.queued_bytes() > LOG_PENDING_BYTES_MAX
                && view.stopped().is_ok()
            {
                self.core.taken.wait(&mut view);
            }
            change(&mut view)
        };
        self.core.arrived.notify_one();
        outcome
    }
}

fn log_recovery(dir: &Path, report: &RecoveryReport) {
    let dir = dir.display();
    tracing::info!(%dir, segments = report.segments, records = report.records, "opened the log");
    if let Some(cut) = &report.cut {
        let file = cut.file.display();
        tracing::warn!(%file, offset = cut.offset, records = cut.records, "cut off a torn tail of the log");
    }
}

impl Drop for SegmentedLog {
    fn drop(&mut self) {
        if self.flusher == Flusher::Thread
            && let Err(error) = self.close()
        {
            tracing::error!(code = error.code(), "the log wasn't closed cleanly: {error}");
        }
    }
}

impl Core {
    /// The body of the writer's thread.
    fn run(&self) {
        loop {
            {
                let mut view = self.view.lock();
                while !view.has_work() && view.waits_since().is_none() && !view.is_closing() {
                    self.arrived.wait(&mut view);
                }
                if !view.has_work() && view.waits_since().is_none() {
                    break;
                }
            }
            if let Err(StorageError::DiskFull { action, path }) = self.write_batch() {
                let mut view = self.view.lock();
                if view.is_closing() {
                    drop(view);
                    self.give_up(StorageError::DiskFull { action, path });
                    break;
                }
                // What arrives meanwhile may be urgent.
                let retry = Duration::from_millis(LOG_ROOM_RETRY.0);
                self.arrived.wait_for(&mut view, retry);
            }
        }
        self.close();
    }

    fn has_work(&self) -> bool {
        let view = self.view.lock();
        view.has_work() || view.waits_since().is_some()
    }

    /// Takes everything that is queued (up to a bound), makes it durable with one sync, and tells the callers in order. What
    /// finds no room stays first in the queue.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`] if something waits; the callers are told every other error.
    fn write_batch(&self) -> Result<(), StorageError> {
        // Held to the end, so that batches and their callbacks don't overtake one another.
        let mut desk = self.desk.lock();
        let (mut batch, committed, failed) = {
            let mut view = self.view.lock();
            // Asked before anything is taken; what is urgent pulls along what was given before it.
            desk.writer.set_urgent(self.spares.report().room != Room::Ample && view.has_urgent());
            let (batch, committed) = view.take_batch();
            (batch, committed, view.failure())
        };
        self.taken.notify_all();
        let mut outcome = match failed {
            Some(error) => Err(error),
            None => desk.work(&mut batch, committed.as_ref()),
        };
        let full = match &outcome {
            Err(error @ StorageError::DiskFull { .. }) => Some(error.clone()),
            _ => None,
        };
        if full.is_some() {
            self.put_back(std::mem::take(&mut batch), committed);
            // What came before may have its room, and needn't wait for the rest.
            outcome = desk.writer.sync();
            if matches!(outcome, Err(StorageError::DiskFull { .. })) {
                return outcome;
            }
        }
        let written = std::mem::take(&mut desk.written);
        let result = {
            let mut view = self.view.lock();
            match &outcome {
                Ok(()) => view.settle(&written),
                Err(error) => view.fail(error),
            }
            if full.is_none() || outcome.is_err() {
                view.found_room();
            }
            outcome
        };
        answer(desk.begun.drain(..).chain(batch), &result);
        if result.is_ok() {
            let retired = desk.writer.retire();
            self.view.lock().drop_files(&retired);
            desk.writer.recycle(&retired);
        }
        full.map_or(Ok(()), Err)
    }

    fn put_back(&self, rest: VecDeque<Queued>, committed: Option<Bytes>) {
        let mut view = self.view.lock();
        view.put_back(rest);
        if let Some(mark) = committed {
            view.put_back_committed(mark);
        }
        if view.waits_since().is_none() {
            tracing::error!("the log waits for room on its disk: free space");
        }
        view.wait_for_room();
    }

    /// The node stops while changes wait for room: they never were durable, and their callers are told.
    fn give_up(&self, error: StorageError) {
        let mut desk = self.desk.lock();
        let rest = {
            let mut view = self.view.lock();
            view.fail(&error);
            view.found_room();
            view.take_all()
        };
        answer(desk.begun.drain(..).chain(rest), &Err(error));
    }

    fn close(&self) {
        let mut desk = self.desk.lock();
        let committed = {
            let mut view = self.view.lock();
            if view.failure().is_some() {
                return;
            }
            view.take_committed()
        };
        if let Err(error) = desk.writer.close(committed.as_ref()) {
            self.view.lock().fail(&error);
        }
    }

    fn room(&self) -> Room {
        let waits = self.view.lock().waits_since().is_some();
        if waits { Room::Nothing } else { self.spares.report().room }
    }

    fn health(&self) -> LogHealth {
        let report = self.spares.report();
        let waiting = self.view.lock().waits_since().map(|since| since.elapsed());
        LogHealth {
            room: if waiting.is_some() { Room::Nothing } else { report.room },
            waiting,
            free_bytes: report.free_bytes,
            reserve_segments: report.reserve,
            reserve_segments_wanted: report.reserve_wanted,
            segment_bytes: report.segment_bytes,
            syncs: self.times.report(),
        }
    }

    /// Reads what was found, neighbours in one go; `None` if something moved meanwhile and must be found again.
    fn load(&self, found: Vec<Found>) -> Result<Option<Vec<Record>>, StorageError> {
        let mut records = Vec::with_capacity(found.len());
        let mut neighbours: Vec<Located> = Vec::new();
        for step in found {
            match step {
                Found::OnDisk(located) if continues(&neighbours, &located) => neighbours.push(located),
                step => {
                    if !self.read_neighbours(&neighbours, &mut records)? {
                        return Ok(None);
                    }
                    neighbours.clear();
                    match step {
                        Found::OnDisk(located) => neighbours.push(located),
                        Found::Cached(entry) => records.push(entry),
                    }
                }
            }
        }
        Ok(self.read_neighbours(&neighbours, &mut records)?.then_some(records))
    }

    fn read_neighbours(&self, run: &[Located], records: &mut Vec<Record>) -> Result<bool, StorageError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(true) };
        let end = last.offset as usize + record::HEADER_BYTES + last.length as usize;
        let mut bytes = vec![0; end - first.offset as usize];
        let read = first.file.read_at(&mut bytes, u64::from(first.offset)).doing("read", &first.path)?;
        bytes.truncate(read);
        let bytes = Bytes::from(bytes);
        for located in run {
            let at = (located.offset - first.offset) as usize;
            let spot = Spot { segment: located.segment, offset: located.offset };
            match record::decode(spot, bytes.get(at..).unwrap_or_default()) {
                Ok((header, payload)) if header.index == located.index => {
                    records.push(Record { index: located.index, payload: bytes.slice_ref(payload) });
                }
                other => {
                    // A file that was purged and reused under our hands holds other bytes by right.
                    if !self.view.lock().is_still_at(located) {
                        return Ok(false);
                    }
                    let got = other.map_or_else(|fault| fault.describe(), |_| "another record");
                    let expected = format!("record {}", located.index);
                    let offset = u64::from(located.offset);
                    return Err(StorageError::corrupt(&located.path, offset, expected, got));
                }
            }
        }
        Ok(true)
    }
}

/// Whether a record can be read together with those before it.
fn continues(run: &[Located], next: &Located) -> bool {
    let Some(first) = run.first() else { return true };
    let end = u64::from(next.offset) + u64::from(next.length);
    first.segment == next.segment
        && first.offset < next.offset
        && end - u64::from(first.offset) <= LOG_READ_BYTES as u64
}

fn answer(batch: impl Iterator<Item = Queued>, result: &Result<(), StorageError>) {
    for queued in batch {
        match queued {
            Queued::Change(_, Some(flushed)) => flushed(result.clone()),
            Queued::Change(_, None) => {}
            Queued::Refused(error, flushed) => flushed(Err(error)),
        }
    }
}

impl RaftLog for SegmentedLog {
    fn bounds(&self) -> LogBounds {
        self.core.view.lock().bounds()
    }

    fn read(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<Record>, StorageError> {
        loop {
            let found = self.core.view.lock().find(&range, bytes_max);
            if let Some(records) = self.core.load(found)? {
                return Ok(records);
            }
        }
    }

    fn append(&self, records: Vec<Record>, flushed: Flushed) {
        self.change(|view| view.append(records, false, flushed));
    }

    fn append_urgent(&self, records: Vec<Record>, flushed: Flushed) {
        self.change(|view| view.append(records, true, flushed));
    }

    fn room(&self) -> Room {
        self.core.room()
    }

    fn health(&self) -> LogHealth {
        self.core.health()
    }

    fn truncate_after(&self, index: Option<LogIndex>) -> Result<(), StorageError> {
        self.change(|view| view.truncate_from(index.map_or(LogIndex(0), LogIndex::next)))
    }

    fn purge_through(&self, purged: Purged) -> Result<(), StorageError> {
        self.change(|view| view.purge(purged))
    }

    fn save_vote(&self, vote: Bytes, flushed: Flushed) {
        self.change(|view| view.save_vote(vote, flushed));
    }

    fn vote(&self) -> Option<Bytes> {
        self.core.view.lock().vote()
    }

    fn save_committed(&self, mark: Bytes) -> Result<(), StorageError> {
        self.core.view.lock().save_committed(mark)
    }

    fn committed(&self) -> Option<Bytes> {
        self.core.view.lock().committed()
    }
}
