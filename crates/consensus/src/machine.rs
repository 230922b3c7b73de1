//! openraft's state machine over the core's state: applies batches, publishes the result, answers whoever waits.
//!
//! The order matters: a state is published before anybody is told that its commands were carried out, so that a client
//! that reads after its answer sees its own write.

use std::{io, sync::Arc};

use futures::{Stream, StreamExt as _};
use haltline_core::{LogIndex, command::Batch, limits::APPLY_ENTRIES_MAX};
use openraft::{
    EntryPayload, OptionalSend,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};

use crate::{
    feed::AppliedEntry,
    log_store::invalid,
    published::{Board, Position},
    snapshots::{SnapshotBuilder, SnapshotHandle, Snapshots},
    types::{BatchOutcome, EncodedBatch, Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
};

/// The machine.
pub(crate) struct Machine {
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
        let board = Board::new(position);
        (Self { board: board.clone(), snapshots }, board)
    }

    fn apply_entry(&self, entry: Entry, unpublished: &mut Unpublished) -> io::Result<BatchOutcome> {
        let id = entry.log_id;
        match entry.payload {
            EntryPayload::Blank => {
                self.board.live(|position| position.applied = Some(id));
                Ok(BatchOutcome::default())
            }
            EntryPayload::Membership(membership) => {
                let stored = Arc::new(StoredMembership::new(Some(id), membership));
                self.board.live(|position| {
                    position.applied = Some(id);
                    position.set_membership(stored);
                });
                Ok(BatchOutcome::default())
            }
            EntryPayload::Normal(batch) => self.apply_batch(id, &batch, unpublished),
        }
    }

    fn apply_batch(
        &self,
        id: LogId,
        batch: &EncodedBatch,
        unpublished: &mut Unpublished,
    ) -> io::Result<BatchOutcome> {
        let index = LogIndex(id.index);
        // The leader decoded every command before it proposed it, so this fails only on a damaged or newer log.
        let batch: Batch = postcard::from_bytes(&batch.0).map_err(|error| {
            invalid(format!("entry {index} is no batch that this version understands: {error}"))
        })?;
        let (applied, stamp, chain) = self.board.live(|position| {
            position.applied = Some(id);
            let applied = position.state.apply(index, &batch);
            (applied, position.state.last_stamp(), position.state.chain())
        });
        unpublished.entries.push(AppliedEntry {
            index,
            stamp,
            commands: batch.requests.len(),
            events: applied.events,
            changes: applied.changes,
            chain,
        });
        Ok(BatchOutcome { stamp, results: applied.results })
    }

    fn publish(&self, unpublished: &mut Unpublished) {
        self.board.publish();
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
        Ok(self.board.live(|position| (position.applied, position.membership.as_ref().clone())))
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
        self.snapshots.builder(self.board.live(|position| position.clone()))
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotHandle) -> io::Result<()> {
        let installed = self.snapshots.install(meta, snapshot).await?;
        let index = installed.index();
        tracing::info!(index = index.0, "installed a snapshot");
        self.board.live(|position| {
            let Position { state, applied, membership, .. } = installed;
            (position.state, position.applied) = (state, applied);
            position.set_membership(membership);
            Arc::make_mut(&mut position.former).left_unseen();
        });
        self.board.publish();
        self.board.feed().jump(index);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.snapshots.current()
    }
}
