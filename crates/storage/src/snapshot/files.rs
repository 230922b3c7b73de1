//! Snapshots as files in one directory.
//!
//! `snap-<number>.tmp` is being written, `snap-<number>.snap` is whole: its content was synced before it got that name.
//! The highest number is the newest. Those before it go once the new name is durable; what is found beside the
//! newest at opening is removed.
//!
//! `snap-reserve` holds room for one snapshot on a full disk: its file becomes the unfinished one, and the snapshot that is
//! replaced becomes the next reserve. A state that fits in it can be saved, and with it the log purged, for as long as the
//! disk stays full.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use haltline_core::limits::{
    SNAPSHOT_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_META_BYTES_MAX, SNAPSHOT_WRITERS_MAX,
};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::{
    SnapshotInfo, SnapshotMeta, SnapshotReader, SnapshotStore, SnapshotWriter,
    format::{self, CHUNK_PREFIX_BYTES, FOOTER_BYTES, Fault, FileHeader, Footer, HEADER_BYTES, Next},
};
use crate::{Disk, DiskFile, StorageError, error::Context as _};

/// How much is collected before it becomes a chunk.
const CHUNK_BYTES: usize = 256 * 1_024;
const _: () = assert!(CHUNK_BYTES <= SNAPSHOT_CHUNK_BYTES_MAX);
/// The name of the file that holds room.
const RESERVE_FILE: &str = "snap-reserve";

/// A directory of snapshots.
#[derive(Debug)]
pub struct SnapshotFiles {
    shelf: Arc<Shelf>,
}

#[derive(Debug)]
struct Shelf {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Bytes to keep in reserve; 0 for no reserve.
    reserve_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    newest: Option<Kept>,
    next_number: u64,
    writers: usize,
    /// The reserve file is there.
    has_reserve: bool,
}

#[derive(Debug, Clone)]
struct Kept {
    path: PathBuf,
    info: SnapshotInfo,
}

impl State {
    fn claim_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }
}

fn whole_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("snap-{number:020}.snap"))
}

fn unfinished_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("snap-{number:020}.tmp"))
}

fn number_in(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_prefix("snap-")?.strip_suffix(suffix)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

impl SnapshotFiles {
    /// Opens the directory, or makes it, finds the newest snapshot and removes leftovers of interrupted work. Reads the
    /// newest one's header and footer; its content is checked by [`SnapshotStore::open_newest`].
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] or [`StorageError::NewerFormat`] for the newest file, or an I/O error.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, StorageError> {
        Self::open_with_reserve(disk, dir, 0)
    }

    /// As [`open`](Self::open), and keeps so many bytes on disk for a snapshot when nothing else is free.
    ///
    /// # Errors
    /// As [`open`](Self::open). A disk without room for the reserve is none.
    pub fn open_with_reserve(
        disk: Arc<dyn Disk>,
        dir: &Path,
        reserve_bytes: u64,
    ) -> Result<Self, StorageError> {
        disk.create_dir(dir).doing("create", dir)?;
        let names = disk.list(dir).doing("list", dir)?;
        let mut whole: Vec<u64> = names.iter().filter_map(|name| number_in(name, ".snap")).collect();
        let unfinished: Vec<u64> = names.iter().filter_map(|name| number_in(name, ".tmp")).collect();
        whole.sort_unstable();
        let next_number = whole.iter().chain(&unfinished).max().map_or(1, |sequence| sequence + 1);
        let newest = whole.pop().map(|sequence| find(&*disk, dir, sequence)).transpose()?;
        // A rename that isn't durable yet must be, before what it replaces goes.
        disk.sync_dir(dir).doing("sync", dir)?;
        let leftovers = whole.iter().map(|sequence| whole_path(dir, *sequence));
        for path in leftovers.chain(unfinished.iter().map(|sequence| unfinished_path(dir, *sequence))) {
            disk.remove(&path).doing("remove", &path)?;
        }
        let has_reserve = names.iter().any(|name| name == RESERVE_FILE);
        let state = Mutex::new(State { newest, next_number, writers: 0, has_reserve });
        let files = Self { shelf: Arc::new(Shelf { disk, dir: dir.to_owned(), reserve_bytes, state }) };
        files.keep_reserve();
        Ok(files)
    }
}

impl Shelf {
    fn reserve_path(&self) -> PathBuf {
        self.dir.join(RESERVE_FILE)
    }

    /// Whether the disk has no room for another snapshot like the newest: then the reserve is for it.
    fn is_tight(&self, state: &State) -> bool {
        let like_newest = state.newest.as_ref().map_or(0, |kept| 2 * kept.info.content_bytes);
        let needed = like_newest.max(self.reserve_bytes);
        self.disk.room(&self.dir).ok().flatten().is_some_and(|free| free < needed)
    }

    /// Makes the reserve, or brings one up to its size, unless the room is needed otherwise.
    fn make_reserve(&self, has_one: bool, bytes: u64) -> Result<(), StorageError> {
        let path = self.reserve_path();
        let file = if has_one { self.disk.open(&path) } else { self.disk.create(&path) };
        let file = file.doing("create", &path)?;
        if file.len().doing("measure", &path)? < bytes {
            let made = file.reserve(bytes).and_then(|()| file.sync_data());
            if let Err(error) = made {
                // One that is smaller than it should be is better than none.
                if !has_one {
                    drop(self.disk.remove(&path));
                }
                return Err(error).doing("zero", &path);
            }
        }
        Ok(())
    }

    /// The file for a new snapshot: the reserve on a tight disk, else a new one.
    fn new_file(&self, path: &Path) -> Result<Arc<dyn DiskFile>, StorageError> {
        let mut state = self.state.lock();
        if state.has_reserve && self.is_tight(&state) {
            let reserve = self.reserve_path();
            self.disk.rename(&reserve, path).doing("rename", &reserve)?;
            state.has_reserve = false;
            tracing::warn!("the disk is nearly full: this snapshot takes the room that was kept for it");
            return self.disk.open(path).doing("open", path);
        }
        drop(state);
        self.disk.create(path).doing("create", path)
    }

    fn is_larger_than_reserve(&self, path: &Path) -> bool {
        let length = |path: &Path| self.disk.open(path).and_then(|file| file.len()).unwrap_or(0);
        length(path) > length(&self.reserve_path())
    }

    /// Removes a file, or keeps its room for the next snapshot, if that is more than what is kept.
    fn dispose(&self, state: &mut State, path: &Path) -> Result<(), StorageError> {
        if self.reserve_bytes > 0 && (!state.has_reserve || self.is_larger_than_reserve(path)) {
            self.disk.rename(path, &self.reserve_path()).doing("rename", path)?;
            state.has_reserve = true;
            return Ok(());
        }
        self.disk.remove(path).doing("remove", path)
    }
}

fn find(disk: &dyn Disk, dir: &Path, sequence: u64) -> Result<Kept, StorageError> {
    let path = whole_path(dir, sequence);
    let reader = FileReader::open(disk, &path)?;
    Ok(Kept { path, info: reader.info })
}

impl SnapshotStore for SnapshotFiles {
    fn begin(&self, meta: SnapshotMeta) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        let bytes = meta.meta.len();
        if bytes > SNAPSHOT_META_BYTES_MAX {
            let (bytes, bytes_max) = (bytes as u64, SNAPSHOT_META_BYTES_MAX as u64);
            return Err(StorageError::TooLarge { what: "a snapshot's metadata", bytes, bytes_max });
        }
        let sequence = {
            let mut state = self.shelf.state.lock();
            if state.writers >= SNAPSHOT_WRITERS_MAX {
                return Err(StorageError::SnapshotsBusy { writers_max: SNAPSHOT_WRITERS_MAX });
            }
            state.writers += 1;
            state.claim_number()
        };
        FileWriter::create(Arc::clone(&self.shelf), sequence, meta).map(|writer| Box::new(writer) as _)
    }

    fn newest(&self) -> Option<SnapshotInfo> {
        self.shelf.state.lock().newest.as_ref().map(|kept| kept.info.clone())
    }

    fn open_newest(&self) -> Result<Option<Box<dyn SnapshotReader>>, StorageError> {
        // Opened under the lock, so that the file isn't removed before it is open; read outside of it.
        let mut reader = {
            let state = self.shelf.state.lock();
            let Some(kept) = &state.newest else { return Ok(None) };
            FileReader::open(&*self.shelf.disk, &kept.path)?
        };
        reader.check()?;
        Ok(Some(Box::new(reader)))
    }

    fn keep_reserve(&self) {
        let shelf = &self.shelf;
        // Held to the end: the file must not become a snapshot's while it grows.
        let mut state = shelf.state.lock();
        let is_short =
            shelf.disk.room(&shelf.dir).ok().flatten().is_some_and(|free| free < shelf.reserve_bytes);
        if shelf.reserve_bytes == 0 || state.writers > 0 || is_short {
            return;
        }
        match shelf.make_reserve(state.has_reserve, shelf.reserve_bytes) {
            Ok(()) => state.has_reserve = true,
            Err(error) => {
                tracing::debug!(code = error.code(), "no room is kept for a snapshot: {error}");
            }
        }
    }
}

/// Writes `snap-<number>.tmp`.
struct FileWriter {
    shelf: Arc<Shelf>,
    /// The number in its name, and what its checksums start from.
    sequence: u64,
    meta: SnapshotMeta,
    file: Arc<dyn DiskFile>,
    offset: u64,
    pending: Vec<u8>,
    chunks: u64,
    content_bytes: u64,
    digest: Sha256,
    failed: Option<StorageError>,
    /// What the sealed file says.
    sealed: Option<SnapshotInfo>,
    /// Bytes of the reserve that it came from and didn't need.
    left_over: u64,
    /// The file has its final name, or is gone.
    is_settled: bool,
}

impl FileWriter {
    fn create(shelf: Arc<Shelf>, sequence: u64, meta: SnapshotMeta) -> Result<Self, StorageError> {
        let path = unfinished_path(&shelf.dir, sequence);
        let file = match shelf.new_file(&path) {
            Ok(file) => file,
            Err(error) => {
                shelf.state.lock().writers -= 1;
                return Err(error);
            }
        };
        let header = format::encode_header(&FileHeader { sequence, meta: meta.clone() });
        let mut writer = Self {
            shelf,
            sequence,
            meta,
            file,
            offset: 0,
            pending: Vec::new(),
            chunks: 0,
            content_bytes: 0,
            digest: Sha256::new(),
            failed: None,
            sealed: None,
            left_over: 0,
            is_settled: false,
        };
        writer.put(&header)?;
        Ok(writer)
    }

    fn path(&self) -> PathBuf {
        unfinished_path(&self.shelf.dir, self.sequence)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_at(bytes, self.offset).doing("write", &self.path())?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn put_chunk(&mut self) -> Result<(), StorageError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let content = std::mem::take(&mut self.pending);
        let mut chunk = Vec::with_capacity(CHUNK_PREFIX_BYTES + content.len());
        format::encode_chunk(&mut chunk, self.sequence, self.chunks, &content);
        self.digest.update(&content);
        self.chunks += 1;
        self.put(&chunk)
    }

    fn take_in(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        let total = self.content_bytes + bytes.len() as u64;
        if total > SNAPSHOT_BYTES_MAX {
            let (what, bytes_max) = ("a snapshot", SNAPSHOT_BYTES_MAX);
            return Err(StorageError::TooLarge { what, bytes: total, bytes_max });
        }
        self.content_bytes = total;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == CHUNK_BYTES {
                self.put_chunk()?;
            }
        }
        Ok(())
    }

    /// Ends the file and makes its content durable, once.
    fn end(&mut self) -> Result<SnapshotInfo, StorageError> {
        if let Some(info) = &self.sealed {
            return Ok(info.clone());
        }
        self.put_chunk()?;
        let digest = std::mem::take(&mut self.digest).finalize().into();
        let footer = Footer { chunks: self.chunks, content_bytes: self.content_bytes, digest };
        self.put(&format::encode_footer(self.sequence, &footer))?;
        let length = self.file.len().doing("measure", &self.path())?;
        if length > self.offset {
            self.left_over = length - self.offset;
            self.file.truncate(self.offset).doing("shorten", &self.path())?;
        }
        self.file.sync_data().doing("sync", &self.path())?;
        let info = SnapshotInfo { meta: self.meta.clone(), content_bytes: self.content_bytes, digest };
        self.sealed = Some(info.clone());
        Ok(info)
    }

    /// Gives the file its name, makes that durable, and removes the one before.
    fn publish(&mut self, info: SnapshotInfo) -> Result<SnapshotInfo, StorageError> {
        let shelf = Arc::clone(&self.shelf);
        let mut state = shelf.state.lock();
        if let Some(kept) = &state.newest
            && kept.info.meta.index > info.meta.index
        {
            let (newest, got) = (kept.info.meta.index, info.meta.index);
            return Err(StorageError::SnapshotOutdated { newest, got });
        }
        // Numbered anew, because whichever is finished last is the newest.
        let path = whole_path(&shelf.dir, state.claim_number());
        shelf.disk.rename(&self.path(), &path).doing("rename", &self.path())?;
        self.is_settled = true;
        shelf.disk.sync_dir(&shelf.dir).doing("sync", &shelf.dir)?;
        // What was just given back is taken again, before somebody else does.
        if self.left_over > 0 && !state.has_reserve {
            state.has_reserve = shelf.make_reserve(false, self.left_over.min(shelf.reserve_bytes)).is_ok();
        }
        let before = state.newest.replace(Kept { path, info: info.clone() });
        if let Some(before) = before
            && let Err(error) = shelf.dispose(&mut state, &before.path)
        {
            // The new one is durable all the same; the next opening removes what is left.
            tracing::warn!(file = %before.path.display(), "can't remove an old snapshot: {error}");
        }
        Ok(info)
    }
}

impl SnapshotWriter for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.sealed.is_some() {
            return Err(StorageError::Closed);
        }
        self.take_in(bytes).inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn failure(&self) -> Option<StorageError> {
        self.failed.clone()
    }

    fn seal(&mut self) -> Result<Box<dyn SnapshotReader>, StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.end().inspect_err(|error| self.failed = Some(error.clone()))?;
        let mut reader = FileReader::open(&*self.shelf.disk, &self.path())?;
        reader.check()?;
        Ok(Box::new(reader))
    }

    fn finish(mut self: Box<Self>) -> Result<SnapshotInfo, StorageError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let info = self.end()?;
        self.publish(info)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        let shelf = Arc::clone(&self.shelf);
        let mut state = shelf.state.lock();
        state.writers -= 1;
        if !self.is_settled
            && let Err(error) = shelf.dispose(&mut state, &self.path())
        {
            tracing::warn!(file = %self.path().display(), "can't remove an unfinished snapshot: {error}");
        }
    }
}

/// Reads a whole snapshot.
struct FileReader {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    sequence: u64,
    info: SnapshotInfo,
    footer: Footer,
    /// Where the first chunk begins.
    begin: u64,
    /// Where the footer begins.
    end: u64,
    offset: u64,
    chunks: u64,
    content_bytes: u64,
    digest: Sha256,
    is_done: bool,
}

impl FileReader {
    /// Reads the header and the footer.
    fn open(disk: &dyn Disk, path: &Path) -> Result<Self, StorageError> {
        let file = disk.open(path).doing("open", path)?;
        let length = file.len().doing("measure", path)?;
        let fixed = read(&*file, path, 0, HEADER_BYTES)?;
        let in_header = |fault| wrong(path, 0, "a snapshot's header", fault);
        let meta_length = format::meta_length(&fixed).map_err(in_header)?;
        let header = read(&*file, path, 0, HEADER_BYTES + meta_length)?;
        let header = format::decode_header(&header).map_err(in_header)?;
        let begin = (HEADER_BYTES + meta_length) as u64;
        let end = length.saturating_sub(FOOTER_BYTES as u64).max(begin);
        let footer = format::decode_footer(header.sequence, &read(&*file, path, end, FOOTER_BYTES)?)
            .map_err(|fault| wrong(path, end, "a snapshot's footer", fault))?;
        let info =
            SnapshotInfo { meta: header.meta, content_bytes: footer.content_bytes, digest: footer.digest };
        Ok(Self {
            path: path.to_owned(),
            file,
            sequence: header.sequence,
            info,
            footer,
            begin,
            end,
            offset: begin,
            chunks: 0,
            content_bytes: 0,
            digest: Sha256::new(),
            is_done: false,
        })
    }

    /// Reads all of it once, and goes back to the beginning.
    fn check(&mut self) -> Result<(), StorageError> {
        while self.next_chunk()?.is_some() {}
        self.rewind();
        Ok(())
    }

    fn rewind(&mut self) {
        self.offset = self.begin;
        (self.chunks, self.content_bytes) = (0, 0);
        self.digest = Sha256::new();
        self.is_done = false;
    }

    fn wrong(&self, fault: Fault) -> StorageError {
        wrong(&self.path, self.offset, &format!("chunk {} of a snapshot", self.chunks), fault)
    }

    /// At the footer: everything that it counts must have come.
    fn check_end(&mut self) -> Result<(), StorageError> {
        let digest: [u8; 32] = std::mem::take(&mut self.digest).finalize().into();
        let seen = Footer { chunks: self.chunks, content_bytes: self.content_bytes, digest };
        if self.offset == self.end && seen == self.footer {
            return Ok(());
        }
        let expected =
            format!("{} chunks, {} bytes and their SHA-256", self.footer.chunks, self.footer.content_bytes);
        let got = format!("{} chunks, {} bytes, or another SHA-256", self.chunks, self.content_bytes);
        Err(StorageError::corrupt(&self.path, self.offset, expected, got))
    }
}

fn read(file: &dyn DiskFile, path: &Path, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, offset).doing("read", path)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn wrong(path: &Path, offset: u64, expected: &str, fault: Fault) -> StorageError {
    match fault {
        Fault::Newer(got) => {
            StorageError::NewerFormat { file: path.to_owned(), supported: format::FORMAT, got }
        }
        Fault::Bad(found) => StorageError::corrupt(path, offset, expected, found),
    }
}

impl SnapshotReader for FileReader {
    fn info(&self) -> &SnapshotInfo {
        &self.info
    }

    fn next_chunk(&mut self) -> Result<Option<Bytes>, StorageError> {
        if self.is_done {
            return Ok(None);
        }
        let prefix = read(&*self.file, &self.path, self.offset, CHUNK_PREFIX_BYTES)?;
        let (length, crc) = match format::decode_prefix(&prefix).map_err(|fault| self.wrong(fault))? {
            Next::Footer => {
                self.check_end()?;
                self.is_done = true;
                return Ok(None);
            }
            Next::Chunk { length, crc } => (length, crc),
        };
        let content = read(&*self.file, &self.path, self.offset + CHUNK_PREFIX_BYTES as u64, length)?;
        if content.len() != length || format::chunk_crc(self.sequence, self.chunks, &content) != crc {
            return Err(self.wrong(Fault::Bad("a wrong checksum (CRC-32C)")));
        }
        self.digest.update(&content);
        self.chunks += 1;
        self.content_bytes += length as u64;
        self.offset += (CHUNK_PREFIX_BYTES + length) as u64;
        Ok(Some(Bytes::from(content)))
    }
}
