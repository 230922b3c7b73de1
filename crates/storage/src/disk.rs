//! The one door to files.
//!
//! Storage asks only for what these traits offer, and promises nothing that they don't: writes are durable after
//! [`DiskFile::sync_data`] on the same file, creations, renames and removals after [`Disk::sync_dir`] on the directory,
//! and until then any part of them may survive a power cut. Paths are absolute or relative to the process, as with
//! `std::fs`. Errors are plain `io::Error`s; the callers add what they tried.

mod descriptors;
mod memory;
mod real;

use std::{fmt, io, path::Path, sync::Arc};

pub use memory::MemoryDisk;
pub use real::RealDisk;

/// A place with directories and files.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes a directory and its parents, for the owner only (mode 0700), durably. No error if it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes a new, empty file (mode 0600), open for reading and writing; an error if it is there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that is there, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file, replacing what has the new name, atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted; names that aren't UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes the directory's creations, renames and removals durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that this process may still write on the disk under the directory; `None` for a disk without an end.
    fn room(&self, _dir: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// Takes the directory for this process, until the lock is dropped; `WouldBlock` if another has it.
    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// A directory that is locked while this lives.
pub trait DirLock: fmt::Debug + Send + Sync {}

/// An open file, shared by reference: every access names its own offset.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Fills the buffer from the offset on; fewer bytes than asked for only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at the offset, growing the file where needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes zeros from the file's end up to this length, so that later writes change no metadata.
    fn preallocate(&self, bytes: u64) -> io::Result<()>;

    /// Takes room for the file up to this length, which then reads as zeros behind its old end. Quick where the system can
    /// give out room without writing it; the first write into it is slower for that.
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.preallocate(bytes)
    }

    /// Makes everything written so far durable, with what is needed to read it back.
    fn sync_data(&self) -> io::Result<()>;

    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends (with zeros) the file to this length.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
}
