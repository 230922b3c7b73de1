//! Snapshots: built from a clone of the state while commits go on, and installed from this disk or from a leader.
//!
//! Everything that touches the disk runs on blocking threads. A received snapshot is written down while it arrives but
//! becomes *the* snapshot only when openraft says so, after it has judged the sender's ballot.

use std::{
    io::{self, BufWriter, Read, Write},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use haltline_core::{
    LogIndex,
    limits::{SNAPSHOT_PART_BYTES_MAX, SNAPSHOT_ROOM_RETRY},
    snapshot,
};
use haltline_storage::{
    SnapshotInfo, SnapshotMeta as StoredMeta, SnapshotReader, SnapshotStore, SnapshotWriter, StorageError,
};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use tokio::task::spawn_blocking;

use crate::{
    codec,
    error::StartError,
    log_store::{invalid, to_io},
    published::Position,
    types::{LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
};

/// How long to wait before looking again whether a snapshot may be begun.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// The contents of a snapshot, wherever they are.
pub(crate) enum SnapshotHandle {
    /// The newest snapshot of a store: usually this node's.
    Stored(Arc<dyn SnapshotStore>),
    /// Received in full, written down and understood, but not yet the newest.
    Received(Box<Received>),
}

/// A snapshot of a leader's, durable and decoded: nothing is left that could fail but giving it its name.
pub(crate) struct Received {
    writer: Box<dyn SnapshotWriter>,
    position: Position,
}

impl Received {
    /// Ends what was received, and reads it: a snapshot that this version doesn't understand never takes another's place.
    pub(crate) fn seal(mut writer: Box<dyn SnapshotWriter>) -> io::Result<Self> {
        let reader = writer.seal().map_err(to_io)?;
        let position = read_position(reader)?;
        Ok(Self { writer, position })
    }
}

/// Builds, installs and hands out snapshots. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Snapshots {
    store: Arc<dyn SnapshotStore>,
}

impl Snapshots {
    pub(crate) fn new(store: Arc<dyn SnapshotStore>) -> Self {
        Self { store }
    }

    pub(crate) fn store(&self) -> &Arc<dyn SnapshotStore> {
        &self.store
    }

    /// The position that the newest snapshot holds; the beginning if there is none.
    pub(crate) fn load(&self) -> Result<Position, StartError> {
        let Some(reader) = self.store.open_newest()? else { return Ok(Position::first()) };
        let index = reader.info().meta.index;
        read_position(reader).map_err(|error| StartError::Snapshot { index, reason: error.to_string() })
    }

    /// Freezes the state for a snapshot.
    pub(crate) fn builder(&self, position: Position) -> SnapshotBuilder {
        SnapshotBuilder { snapshots: self.clone(), position }
    }

    /// The newest snapshot, for sending.
    pub(crate) fn current(&self) -> io::Result<Option<Snapshot>> {
        self.store.newest().map(|info| stored(&info, &self.store)).transpose()
    }

    /// Makes a received snapshot the newest one and reads it.
    pub(crate) async fn install(&self, meta: &SnapshotMeta, handle: SnapshotHandle) -> io::Result<Position> {
        let store = self.store.clone();
        let position = blocking(move || {
            match handle {
                SnapshotHandle::Received(received) => {
                    let Received { writer, position } = *received;
                    writer.finish().map_err(to_io)?;
                    return Ok(position);
                }
                SnapshotHandle::Stored(from) if !Arc::ptr_eq(&from, &store) => copy(&*from, &*store)?,
                SnapshotHandle::Stored(_) => {}
            }
            let reader = store.open_newest().map_err(to_io)?;
            read_position(reader.ok_or_else(|| invalid("the snapshot to install is gone"))?)
        });
        let position = position.await?;
        if position.applied == meta.last_log_id {
            Ok(position)
        } else {
            let (expected, got) = (meta.last_log_id, position.applied);
            Err(invalid(format!(
                "a snapshot through {expected:?} was to be installed, the newest is through {got:?}"
            )))
        }
    }
}

/// Writes down one snapshot of one state.
pub(crate) struct SnapshotBuilder {
    snapshots: Snapshots,
    position: Position,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotHandle;

    /// A disk without room is no error, which would stop the node: the snapshot before is as good, and if there is none this
    /// one is tried until there is room.
    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        loop {
            match self.build_once().await? {
                Ok(info) => return stored(&info, &self.snapshots.store),
                // The leader sent a later one meanwhile, which serves as well.
                Err(StorageError::SnapshotOutdated { .. }) => {
                    return self.snapshots.current()?.ok_or_else(|| invalid("the later snapshot is gone"));
                }
                Err(error @ StorageError::DiskFull { .. }) => {
                    tracing::warn!(code = error.code(), "no snapshot was taken: {error}");
                    if let Some(current) = self.snapshots.current()? {
                        return Ok(current);
                    }
                    tokio::time::sleep(Duration::from_millis(SNAPSHOT_ROOM_RETRY.0)).await;
                }
                Err(error) => return Err(to_io(error)),
            }
        }
    }
}

impl SnapshotBuilder {
    async fn build_once(&self) -> io::Result<Result<SnapshotInfo, StorageError>> {
        let (store, position) = (self.snapshots.store.clone(), self.position.clone());
        let writer = match begin(&store, stored_meta(position.applied, &position.membership)).await? {
            Ok(writer) => writer,
            Err(error) => return Ok(Err(error)),
        };
        blocking(move || {
            let mut output = BufWriter::with_capacity(SNAPSHOT_PART_BYTES_MAX, Output(writer));
            let encoded = snapshot::encode(&position.state, &mut output).and_then(|()| output.flush());
            let (Output(writer), _) = output.into_parts();
            match (writer.failure(), encoded) {
                (Some(failure), _) => Ok(Err(failure)),
                (None, Err(error)) => Err(error),
                (None, Ok(())) => Ok(writer.finish()),
            }
        })
        .await
    }
}

/// Begins to write a snapshot, when half-received ones have left a place for it.
async fn begin(
    store: &Arc<dyn SnapshotStore>,
    meta: StoredMeta,
) -> io::Result<Result<Box<dyn SnapshotWriter>, StorageError>> {
    loop {
        let (store, meta) = (store.clone(), meta.clone());
        match blocking(move || Ok(store.begin(meta))).await? {
            Err(StorageError::SnapshotsBusy { .. }) => tokio::time::sleep(BUSY_PAUSE).await,
            begun => return Ok(begun),
        }
    }
}

/// What the store is told about a snapshot.
pub(crate) fn stored_meta(last: Option<LogId>, membership: &StoredMembership) -> StoredMeta {
    let index = LogIndex(last.map_or(0, |id| id.index));
    StoredMeta { index, meta: codec::encode_position(last.as_ref(), membership) }
}

/// The position of a stored snapshot in openraft's words.
pub(crate) fn raft_meta(info: &SnapshotInfo) -> io::Result<SnapshotMeta> {
    let (last_log_id, last_membership) = codec::decode_position(&info.meta.meta).map_err(invalid)?;
    Ok(SnapshotMeta { last_log_id, last_membership })
}

fn stored(info: &SnapshotInfo, store: &Arc<dyn SnapshotStore>) -> io::Result<Snapshot> {
    Ok(Snapshot { meta: raft_meta(info)?, snapshot: SnapshotHandle::Stored(store.clone()) })
}

/// Makes the newest snapshot of one store that of another.
fn copy(from: &dyn SnapshotStore, to: &dyn SnapshotStore) -> io::Result<()> {
    let reader = from.open_newest().map_err(to_io)?;
    let mut reader = reader.ok_or_else(|| invalid("the snapshot to install is gone"))?;
    let mut writer = to.begin(reader.info().meta.clone()).map_err(to_io)?;
    while let Some(chunk) = reader.next_chunk().map_err(to_io)? {
        writer.write(&chunk).map_err(to_io)?;
    }
    writer.finish().map_err(to_io)?;
    Ok(())
}

fn read_position(reader: Box<dyn SnapshotReader>) -> io::Result<Position> {
    let SnapshotMeta { last_log_id, last_membership } = raft_meta(reader.info())?;
    let mut input = Input { reader, rest: Bytes::new() };
    let state = snapshot::decode(&mut input).map_err(invalid)?;
    Ok(Position { state, applied: last_log_id, membership: Arc::new(last_membership), ..Position::first() })
}

/// Runs disk work where it blocks nobody.
pub(crate) async fn blocking<T: OptionalSend + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A snapshot writer as a stream of bytes.
pub(crate) struct Output(pub(crate) Box<dyn SnapshotWriter>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(to_io)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A snapshot reader as a stream of bytes.
struct Input {
    reader: Box<dyn SnapshotReader>,
    rest: Bytes,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.reader.next_chunk().map_err(to_io)? {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
