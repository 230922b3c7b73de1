//! Snapshots of the state: what a store of them promises ([`SnapshotStore`]), and the one on files ([`SnapshotFiles`]).
//!
//! Contents and metadata are opaque. A snapshot is written in chunks by whoever builds or receives it, on its own
//! thread, and takes no lock that an append needs. It exists once [`SnapshotWriter::finish`] has returned, and not at
//! all before: a crash leaves the previous one.

mod files;
mod format;

use bytes::Bytes;
use haltline_core::LogIndex;

pub use files::SnapshotFiles;

use crate::StorageError;

/// What a snapshot says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry that the state covers.
    pub index: LogIndex,
    /// The caller's encoded log id, membership and whatever else; at most `SNAPSHOT_META_BYTES_MAX` bytes.
    pub meta: Bytes,
}

/// A snapshot that is whole and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// What it says about itself.
    pub meta: SnapshotMeta,
    /// Bytes of content.
    pub content_bytes: u64,
    /// SHA-256 of the content.
    pub digest: [u8; 32],
}

/// Keeps the newest snapshot.
pub trait SnapshotStore: Send + Sync + 'static {
    /// Begins a snapshot. It is given up if the writer is dropped unfinished.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] for the metadata, [`StorageError::SnapshotsBusy`], [`StorageError::DiskFull`] or an
    /// I/O error.
    fn begin(&self, meta: SnapshotMeta) -> Result<Box<dyn SnapshotWriter>, StorageError>;

    /// What the newest snapshot says, without reading its content.
    fn newest(&self) -> Option<SnapshotInfo>;

    /// Opens the newest snapshot after checking all of it.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if it isn't what was written; an older one is never taken in its place, because the
    /// log may not reach back to it. Or an I/O error.
    fn open_newest(&self) -> Result<Option<Box<dyn SnapshotReader>>, StorageError>;

    /// Takes room for the next snapshot, if there is some and none is taken: to be called now and then.
    fn keep_reserve(&self) {}
}

/// A snapshot being written.
pub trait SnapshotWriter: Send {
    /// Adds bytes to the content.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] beyond `SNAPSHOT_BYTES_MAX`, [`StorageError::DiskFull`] or an I/O error. The snapshot
    /// can't be finished after any of them.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// What made [`write`](Self::write) fail, if something did.
    fn failure(&self) -> Option<StorageError>;

    /// Ends the content, makes it durable and opens it for reading, checked: it is no snapshot yet, and gone if the writer is
    /// dropped. Nothing can be written any more; [`finish`](Self::finish) only gives it its name.
    ///
    /// # Errors
    /// As [`write`](Self::write), or [`StorageError::Corrupt`] if it can't be read back.
    fn seal(&mut self) -> Result<Box<dyn SnapshotReader>, StorageError>;

    /// Makes the snapshot durable and the newest one, and removes those before it.
    ///
    /// # Errors
    /// [`StorageError::SnapshotOutdated`] if one of a later index was finished meanwhile, or as
    /// [`write`](Self::write).
    fn finish(self: Box<Self>) -> Result<SnapshotInfo, StorageError>;
}

/// A snapshot being read, checked again on the way.
pub trait SnapshotReader: Send {
    /// What it says about itself.
    fn info(&self) -> &SnapshotInfo;

    /// The next piece of the content, at most `SNAPSHOT_CHUNK_BYTES_MAX` bytes; `None` at its end.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] or an I/O error.
    fn next_chunk(&mut self) -> Result<Option<Bytes>, StorageError>;
}
