//! openraft's state machine over [`State`]: applies batches, publishes the result, answers whoever waits.
//!
//! The order matters: a state is published before anybody is told that its commands were carried out, so that a client
//! that reads after its answer sees its own write.

use std::{io, sync::Arc};

use futures::{Stream, StreamExt as _};
use haltline_core::{LogIndex, command::Batch, limits::APPLY_ENTRIES_MAX, state::State};
use openraft::{
    EntryPayload, OptionalSend,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};

use crate::{
    feed::AppliedEntry,
    log_store::invalid,
    published::{Board, Published},
    snapshots::{SnapshotBuilder, SnapshotHandle, Snapshots},
    types::{BatchOutcome, EncodedBatch, Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
};

/// The state and where in the log it stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Position {
    pub(crate) state: State,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: Arc<StoredMembership>,
}

impl Position {
    /// Before the first entry.
    pub(crate) fn first() -> Self {
        Self { state: State::new(), ..Self::default() }
    }

    pub(crate) fn index(&self) -> LogIndex {
        LogIndex(self.applied.map_or(0, |id| id.index))
    }

    pub(crate) fn published(&self) -> Published {
        Published {
            applied: self.index(),
            state: self.state.clone(),
            applied_id: self.applied,
            membership: self.membership.clone(),
        }
    }
}

/// The machine.
pub(crate) struct Machine {
    position: Position,
    board: Board,
    snapshots: Snapshots,
}

/// Answers and feed entries that wait for the next publication.
#[derive(Default)]
struct Unpublished {
    answers: Vec<(ApplyResponder<TypeConfig>, BatchOutcome)>,
    entries: Vec<AppliedEntry>,
    count: usize,
}

impl Machine {
    /// A machine that stands at `position`, and the board that it publishes on.
    pub(crate) fn new(position: Position, snapshots: Snapshots) -> (Self, Board) {
        let board = Board::new(position.published());
        (Self { position, board: board.clone(), snapshots }, board)
    }

    fn apply_entry(&mut self, entry: Entry, unpublished: &mut Unpublished) -> io::Result<BatchOutcome> {
        self.position.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Ok(BatchOutcome::default()),
            EntryPayload::Membership(membership) => {
                let stored = StoredMembership::new(Some(entry.log_id), membership);
                self.position.membership = Arc::new(stored);
                Ok(BatchOutcome::default())
            }
            EntryPayload::Normal(batch) => {
                self.apply_batch(LogIndex(entry.log_id.index), &batch, unpublished)
            }
        }
    }

    fn apply_batch(
        &mut self,
        index: LogIndex,
        batch: &EncodedBatch,
        unpublished: &mut Unpublished,
    ) -> io::Result<BatchOutcome> {
        // The leader decoded every command before it proposed it, so this fails only on a damaged or newer log.
        let batch: Batch = postcard::from_bytes(&batch.0).map_err(|error| {
            invalid(format!("entry {index} is no batch that this version understands: {error}"))
        })?;
        let state = &mut self.position.state;
        let applied = state.apply(index, &batch);
        let stamp = state.last_stamp();
        unpublished.entries.push(AppliedEntry {
            index,
            stamp,
            commands: batch.requests.len(),
            events: applied.events,
            changes: applied.changes,
            chain: state.chain(),
        });
        Ok(BatchOutcome { stamp, results: applied.results })
    }

    fn publish(&self, unpublished: &mut Unpublished) {
        self.board.put(self.position.published());
        let Unpublished { answers, entries, .. } = std::mem::take(unpublished);
        self.board.feed().publish(entries);
        for (responder, outcome) in answers {
            responder.send(outcome);
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.position.applied, self.position.membership.as_ref().clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut unpublished = Unpublished::default();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let outcome = self.apply_entry(entry, &mut unpublished)?;
            unpublished.count += 1;
            unpublished.answers.extend(responder.map(|responder| (responder, outcome)));
            if unpublished.count == APPLY_ENTRIES_MAX {
                self.publish(&mut unpublished);
                tokio::task::yield_now().await;
            }
        }
        if unpublished.count > 0 {
            self.publish(&mut unpublished);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.snapshots.builder(self.position.clone())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotHandle) -> io::Result<()> {
        self.position = self.snapshots.install(meta, snapshot).await?;
        self.board.put(self.position.published());
        self.board.feed().jump(self.position.index());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.snapshots.current()
    }
}
