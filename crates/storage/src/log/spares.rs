//! Segment files ahead of their use.
//!
//! A write into a file that already has its blocks changes no metadata, so its sync is one disk write instead of two.
//! Files are zeroed ahead by a thread of their own, or come back from segments that were purged; what such a file still
//! holds never validates in its next life (see `record.rs`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use haltline_core::limits::LOG_SPARE_SEGMENTS_MAX;
use parking_lot::{Condvar, Mutex};

use super::inventory;
use crate::{Disk, StorageError, error::Context as _};

#[derive(Debug)]
pub(super) struct Spares {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes: u64,
    shelf: Mutex<Shelf>,
    changed: Condvar,
}

#[derive(Debug)]
struct Shelf {
    ready: Vec<PathBuf>,
    next_number: u64,
    /// The preparing thread works on one.
    is_preparing: bool,
    /// There is a preparing thread, and it hasn't failed since the last file was taken.
    is_wanted: bool,
    is_stopping: bool,
}

impl Spares {
    /// Takes over the spare files that were found; those of another size are removed.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        file_bytes: u64,
        found: Vec<(u64, PathBuf)>,
    ) -> Result<Self, StorageError> {
        let next_number = found.last().map_or(1, |(number, _)| number + 1);
        let mut ready = Vec::new();
        for (_, path) in found {
            let length = disk.open(&path).and_then(|file| file.len()).doing("open", &path)?;
            if length == file_bytes && ready.len() < LOG_SPARE_SEGMENTS_MAX {
                ready.push(path);
            } else {
                disk.remove(&path).doing("remove", &path)?;
            }
        }
        let shelf = Shelf { ready, next_number, is_preparing: false, is_wanted: false, is_stopping: false };
        Ok(Self { disk, dir: dir.to_owned(), file_bytes, shelf: Mutex::new(shelf), changed: Condvar::new() })
    }

    /// A spare file's path; zeroes one now if none is ready.
    pub(super) fn take(&self) -> Result<PathBuf, StorageError> {
        let mut shelf = self.shelf.lock();
        // Waiting for the one in the making is quicker than making another.
        while shelf.ready.is_empty() && shelf.is_preparing {
            self.changed.wait(&mut shelf);
        }
        shelf.is_wanted = true;
        if let Some(path) = shelf.ready.pop() {
            self.changed.notify_all();
            return Ok(path);
        }
        let number = shelf.claim_number();
        drop(shelf);
        let path = self.prepare(number)?;
        self.changed.notify_all();
        Ok(path)
    }

    /// Keeps a file that is no longer needed, or removes it if there are enough.
    pub(super) fn recycle(&self, path: &Path) -> Result<(), StorageError> {
        let length = self.disk.open(path).and_then(|file| file.len()).doing("open", path)?;
        let mut shelf = self.shelf.lock();
        if length != self.file_bytes || shelf.ready.len() >= LOG_SPARE_SEGMENTS_MAX {
            return self.disk.remove(path).doing("remove", path);
        }
        let spare = inventory::spare_path(&self.dir, shelf.claim_number());
        self.disk.rename(path, &spare).doing("rename", path)?;
        shelf.ready.push(spare);
        Ok(())
    }

    /// Zeroes a file, makes it durable and gives it its name.
    fn prepare(&self, number: u64) -> Result<PathBuf, StorageError> {
        let unfinished = inventory::unfinished_path(&self.dir, number);
        let spare = inventory::spare_path(&self.dir, number);
        let file = self.disk.create(&unfinished).doing("create", &unfinished)?;
        let zeroed = file
            .preallocate(self.file_bytes)
            .doing("zero", &unfinished)
            .and_then(|()| file.sync_data().doing("sync", &unfinished))
            .and_then(|()| self.disk.rename(&unfinished, &spare).doing("rename", &unfinished));
        if let Err(error) = zeroed {
            // Give its room back; whatever that meets, the first error is the one to tell.
            drop(self.disk.remove(&unfinished));
            return Err(error);
        }
        Ok(spare)
    }

    /// Keeps one file ready until [`stop`](Self::stop): the body of the preparing thread.
    pub(super) fn keep_ready(&self) {
        let mut shelf = self.shelf.lock();
        shelf.is_wanted = true;
        loop {
            while !shelf.is_stopping && !shelf.lacks_one() {
                self.changed.wait(&mut shelf);
            }
            if shelf.is_stopping {
                return;
            }
            let number = shelf.claim_number();
            shelf.is_preparing = true;
            drop(shelf);
            let prepared = self.prepare(number);
            shelf = self.shelf.lock();
            shelf.is_preparing = false;
            match prepared {
                Ok(path) => shelf.ready.push(path),
                Err(error) => {
                    // Not fatal yet: the writer meets the same error when it needs the file, and stops the log then.
                    tracing::warn!(code = error.code(), "can't prepare the next log segment: {error}");
                    shelf.is_wanted = false;
                }
            }
            self.changed.notify_all();
        }
    }

    /// Ends [`keep_ready`](Self::keep_ready).
    pub(super) fn stop(&self) {
        self.shelf.lock().is_stopping = true;
        self.changed.notify_all();
    }
}

impl Shelf {
    fn lacks_one(&self) -> bool {
        self.is_wanted && self.ready.is_empty()
    }

    fn claim_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }
}
