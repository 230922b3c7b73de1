//! Segment files ahead of their use, and how much room the disk has for more.
//!
//! A write into a file that already has its blocks changes no metadata, so its sync is one disk write instead of two.
//! Files are zeroed ahead by a thread of their own, or come back from segments that were purged; what such a file still
//! holds never validates in its next life (see `record.rs`).
//!
//! Beyond the next one there is a reserve: files that are the log's already when the disk is full. They are given out when
//! no other can be made, the last one only for what is urgent, and come back when a purge frees segments or the disk has
//! room again. A spare file is kept open, so that using it needs no file descriptor.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use haltline_core::limits::{LOG_ROOM_INTERVAL, LOG_ROOM_RETRY, LOG_SPARE_SEGMENTS_MAX};
use parking_lot::{Condvar, Mutex};

use super::{LogOptions, health::Room, inventory, segments::SegmentFile};
use crate::{Disk, DiskFile, StorageError, error::Context as _};

/// Segments of the reserve that only what is urgent may use.
const LAST_SEGMENTS: usize = 1;

#[derive(Debug)]
pub(super) struct Spares {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes: u64,
    reserve_wanted: usize,
    low_water_bytes: u64,
    shelf: Mutex<Shelf>,
    changed: Condvar,
}

/// A file that waits for its use.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
}

/// How much room there is, and what is held against the lack of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoomReport {
    /// [`Room::Ample`] or [`Room::Low`].
    pub(super) room: Room,
    pub(super) free_bytes: Option<u64>,
    pub(super) reserve: usize,
    pub(super) reserve_wanted: usize,
    pub(super) segment_bytes: u64,
}

#[derive(Debug)]
struct Shelf {
    ready: Vec<Spare>,
    reserve: Vec<Spare>,
    next_number: u64,
    /// The preparing thread works on one.
    is_preparing: bool,
    is_stopping: bool,
    /// The disk had no room for the last file that was wanted.
    was_refused: bool,
    free_bytes: Option<u64>,
    /// There is less than the low-water mark.
    is_below_mark: bool,
}

/// What a file is prepared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Next,
    Reserve,
}

impl Spares {
    /// Takes over the spare files that were found; those of another size are removed.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: &LogOptions,
        found: Vec<(u64, PathBuf)>,
    ) -> Result<Self, StorageError> {
        let file_bytes = u64::from(options.segment_bytes);
        let reserve_wanted = options.reserve_kept();
        let next_number = found.last().map_or(1, |(number, _)| number + 1);
        let (mut ready, mut reserve) = (Vec::new(), Vec::new());
        for (_, path) in found {
            let file = disk.open(&path).doing("open", &path)?;
            let length = file.len().doing("measure", &path)?;
            if length == file_bytes && reserve.len() < reserve_wanted {
                reserve.push(Spare { path, file });
            } else if length == file_bytes && ready.len() < LOG_SPARE_SEGMENTS_MAX {
                ready.push(Spare { path, file });
            } else {
                disk.remove(&path).doing("remove", &path)?;
            }
        }
        let shelf = Shelf {
            ready,
            reserve,
            next_number,
            is_preparing: false,
            is_stopping: false,
            was_refused: false,
            free_bytes: None,
            is_below_mark: false,
        };
        let spares = Self {
            disk,
            dir: dir.to_owned(),
            file_bytes,
            reserve_wanted,
            low_water_bytes: options.low_water_bytes,
            shelf: Mutex::new(shelf),
            changed: Condvar::new(),
        };
        if reserve_wanted > 0 {
            let free = spares.free_bytes();
            spares.shelf.lock().note_free(free, spares.low_water_bytes);
        }
        Ok(spares)
    }

    /// A spare file; zeroes one now if none is ready, and falls back on the reserve if there is no room for one.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`] when there is no room and no reserve for this, or an I/O error.
    pub(super) fn take(&self, is_urgent: bool) -> Result<Spare, StorageError> {
        let mut shelf = self.shelf.lock();
        // Waiting for the one in the making is quicker than making another.
        while shelf.ready.is_empty() && shelf.is_preparing {
            self.changed.wait(&mut shelf);
        }
        if let Some(spare) = shelf.ready.pop() {
            self.changed.notify_all();
            return Ok(spare);
        }
        let number = shelf.claim_number();
        drop(shelf);
        let made = self.prepare(number, Purpose::Next);
        self.changed.notify_all();
        match made {
            Err(error @ StorageError::DiskFull { .. }) => {
                let mut shelf = self.shelf.lock();
                shelf.was_refused = true;
                let kept = if is_urgent { 0 } else { LAST_SEGMENTS };
                if shelf.reserve.len() > kept { shelf.reserve.pop().ok_or(error) } else { Err(error) }
            }
            Ok(spare) => {
                let mut shelf = self.shelf.lock();
                shelf.was_refused &= shelf.reserve.len() < self.reserve_wanted;
                Ok(spare)
            }
            failed => failed,
        }
    }

    /// Takes back a file that could not be used.
    pub(super) fn put_back(&self, spare: Spare) {
        self.shelf.lock().ready.push(spare);
    }

    /// Keeps a file that is no longer needed, or removes it if there are enough.
    pub(super) fn recycle(&self, segment: &SegmentFile) -> Result<(), StorageError> {
        let path = &segment.path;
        let length = segment.file.len().doing("measure", path)?;
        let mut shelf = self.shelf.lock();
        // On a full disk what is given back is gone: somebody else takes it.
        let reserve_max = if shelf.is_low() { 2 * self.reserve_wanted } else { self.reserve_wanted };
        let has_place = shelf.ready.len() < LOG_SPARE_SEGMENTS_MAX || shelf.reserve.len() < reserve_max;
        if length != self.file_bytes || !has_place {
            return self.disk.remove(path).doing("remove", path);
        }
        let spare = inventory::spare_path(&self.dir, shelf.claim_number());
        self.disk.rename(path, &spare).doing("rename", path)?;
        let spare = Spare { path: spare, file: Arc::clone(&segment.file) };
        if shelf.ready.len() < LOG_SPARE_SEGMENTS_MAX {
            shelf.ready.push(spare);
        } else {
            shelf.reserve.push(spare);
        }
        Ok(())
    }

    /// How much room there is.
    pub(super) fn report(&self) -> RoomReport {
        let shelf = self.shelf.lock();
        RoomReport {
            room: if shelf.is_low() { Room::Low } else { Room::Ample },
            free_bytes: shelf.free_bytes,
            reserve: shelf.reserve.len(),
            reserve_wanted: self.reserve_wanted,
            segment_bytes: self.file_bytes,
        }
    }

    /// What the disk says that it has; unknown if it doesn't say.
    fn free_bytes(&self) -> Option<u64> {
        self.disk.room(&self.dir).ok().flatten()
    }

    /// Makes a file, durable and under its name.
    fn prepare(&self, number: u64, purpose: Purpose) -> Result<Spare, StorageError> {
        let unfinished = inventory::unfinished_path(&self.dir, number);
        let path = inventory::spare_path(&self.dir, number);
        // Not even begun where it can't be finished: a full disk should not be written to its last byte again and again.
        if self.free_bytes().is_some_and(|free| free < self.file_bytes) {
            return Err(StorageError::DiskFull { action: "zero", path: unfinished });
        }
        let file = self.disk.create(&unfinished).doing("create", &unfinished)?;
        let filled = match purpose {
            Purpose::Next => file.preallocate(self.file_bytes),
            Purpose::Reserve => file.reserve(self.file_bytes),
        };
        let made = filled
            .doing("zero", &unfinished)
            .and_then(|()| file.sync_data().doing("sync", &unfinished))
            .and_then(|()| self.disk.rename(&unfinished, &path).doing("rename", &unfinished));
        if let Err(error) = made {
            // Give its room back; whatever that meets, the first error is the one to tell.
            drop(self.disk.remove(&unfinished));
            return Err(error);
        }
        Ok(Spare { path, file })
    }

    /// Keeps the next file and the reserve ready until [`stop`](Self::stop), and looks how much room there is: the body of
    /// the preparing thread.
    pub(super) fn keep_ready(&self) {
        let mut shelf = self.shelf.lock();
        let mut had_trouble = false;
        while !shelf.is_stopping {
            let was_low = shelf.is_low();
            let missing = shelf.missing(self.reserve_wanted);
            if let Some(purpose) = missing {
                let number = shelf.claim_number();
                shelf.is_preparing = purpose == Purpose::Next;
                drop(shelf);
                let made = self.prepare(number, purpose);
                shelf = self.shelf.lock();
                shelf.is_preparing = false;
                self.changed.notify_all();
                match made {
                    Ok(spare) => {
                        shelf.put(spare, purpose);
                        had_trouble = false;
                        continue;
                    }
                    Err(StorageError::DiskFull { .. }) => shelf.was_refused = true,
                    // Not fatal yet: the writer meets the same error when it needs the file, and stops the log then.
                    Err(error) if !had_trouble => {
                        tracing::warn!(code = error.code(), "can't prepare the next log segment: {error}");
                        had_trouble = true;
                    }
                    Err(_) => {}
                }
            } else {
                shelf.was_refused = false;
            }
            shelf.note_free(self.free_bytes(), self.low_water_bytes);
            self.tell(&shelf, was_low);
            let pause = if shelf.is_low() { LOG_ROOM_RETRY } else { LOG_ROOM_INTERVAL };
            self.changed.wait_for(&mut shelf, Duration::from_millis(pause.0));
        }
    }

    fn tell(&self, shelf: &Shelf, was_low: bool) {
        let (dir, free_bytes, reserve) = (self.dir.display(), shelf.free_bytes, shelf.reserve.len());
        match (was_low, shelf.is_low()) {
            (false, true) => tracing::warn!(%dir, free_bytes, reserve, "the disk is nearly full: free space"),
            (true, false) => tracing::info!(%dir, free_bytes, reserve, "the disk has room again"),
            _ => {}
        }
    }

    /// Ends [`keep_ready`](Self::keep_ready).
    pub(super) fn stop(&self) {
        self.shelf.lock().is_stopping = true;
        self.changed.notify_all();
    }
}

impl Shelf {
    fn is_low(&self) -> bool {
        self.was_refused || self.is_below_mark
    }

    /// Takes in what the disk says. Once below the mark, a quarter more must be free, so that the answer doesn't flutter.
    fn note_free(&mut self, free: Option<u64>, mark: u64) {
        let mark = if self.is_below_mark { mark.saturating_add(mark / 4) } else { mark };
        self.free_bytes = free;
        self.is_below_mark = free.is_some_and(|free| free < mark);
    }

    fn missing(&self, reserve_wanted: usize) -> Option<Purpose> {
        if self.ready.is_empty() {
            Some(Purpose::Next)
        } else if self.reserve.len() < reserve_wanted {
            Some(Purpose::Reserve)
        } else {
            None
        }
    }

    fn put(&mut self, spare: Spare, purpose: Purpose) {
        match purpose {
            Purpose::Next => self.ready.push(spare),
            Purpose::Reserve => self.reserve.push(spare),
        }
    }

    fn claim_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }
}
