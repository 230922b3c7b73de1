//! A node's log and snapshot without a running node: what a stopped one holds, and the beginning of one in a restored
//! cluster.
//!
//! What must stay true: reading changes nothing, and what is written is what a leader's snapshot would have left behind, so
//! that a node starts from it as from any other.

use std::{
    io::{self, BufWriter},
    sync::Arc,
};

use haltline_core::{
    LogIndex,
    command::Batch,
    ids::NodeId,
    limits::{RAFT_READ_BYTES_MAX, SNAPSHOT_PART_BYTES_MAX},
    snapshot,
    state::State,
    time::Stamp,
};
use haltline_storage::{Purged, RaftLog, SnapshotStore, StorageError};
use openraft::EntryPayload;

use crate::{
    codec::{self, log_id},
    error::StartError,
    options::Member,
    snapshots::{Output, Snapshots, stored_meta},
    types::{Membership, StoredMembership},
};

/// The term in which a restored cluster's log begins. The earlier incarnation's terms don't matter: its nodes are told apart
/// by the incarnation.
const FIRST_TERM: u64 = 1;

/// What a stopped node holds.
#[derive(Debug, Clone)]
pub struct StoppedNode {
    /// The state after its whole log, entries included that it didn't know to be committed.
    pub state: State,
    /// The last entry of its log.
    pub last: LogIndex,
    /// The term of that entry.
    pub term: u64,
    /// The last entry that it knew to be committed.
    pub committed: LogIndex,
    /// The stamp of the last batch that it knew to be committed.
    pub committed_stamp: Stamp,
    /// The members by its log.
    pub members: Vec<(NodeId, Member)>,
}

/// Reads what a stopped node holds: its snapshot, and all of its log after that.
///
/// # Errors
/// [`StartError::Snapshot`], [`StartError::Entry`], [`StartError::Storage`].
pub fn read_stopped(log: &dyn RaftLog, snapshots: Arc<dyn SnapshotStore>) -> Result<StoppedNode, StartError> {
    let mut position = Snapshots::new(snapshots).load()?;
    let mark = log.committed().map(|mark| codec::decode_log_id(&mark)).transpose();
    let mark = mark.map_err(|error| StartError::Raft { reason: error.to_string() })?;
    let committed = LogIndex(mark.map_or(0, |id| id.index)).max(position.index());
    let mut committed_stamp = position.state.last_stamp();
    let mut next = position.applied.map_or(LogIndex(0), |id| LogIndex(id.index).next());
    let end = log.bounds().next().unwrap_or_default();
    while next < end {
        let records = log.read(next..end, RAFT_READ_BYTES_MAX)?;
        let first = records.first().map(|record| record.index);
        if first != Some(next) {
            let reason = "it is missing between the snapshot and the rest of the log".into();
            return Err(StartError::Entry { index: next, reason });
        }
        for record in records {
            let wrong = |reason: String| StartError::Entry { index: record.index, reason };
            let entry = codec::decode_entry(record.index, &record.payload)
                .map_err(|error| wrong(error.to_string()))?;
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    let stored = StoredMembership::new(Some(entry.log_id), membership);
                    position.set_membership(Arc::new(stored));
                }
                EntryPayload::Normal(batch) => {
                    let batch: Batch =
                        postcard::from_bytes(&batch.0).map_err(|error| wrong(error.to_string()))?;
                    position.state.apply(record.index, &batch);
                }
            }
            position.applied = Some(entry.log_id);
            if record.index <= committed {
                committed_stamp = position.state.last_stamp();
            }
            next = record.index.next();
        }
    }
    let members = position.membership.membership().nodes();
    Ok(StoppedNode {
        last: position.index(),
        term: position.applied.map_or(0, |id| id.leader_id.term),
        committed,
        committed_stamp,
        members: members.map(|(id, member)| (NodeId(*id), member.clone())).collect(),
        state: position.state,
    })
}

/// Writes the beginning of a node in a restored cluster: the state as its newest snapshot, through the state's own last
/// index, with all members as voters, and a log that goes on behind it. The log must be new and is closed by the caller.
///
/// # Errors
/// [`StartError::BadOption`] if there is a log already or the members are none; [`StartError::Storage`].
pub fn write_restored(
    log: &dyn RaftLog,
    snapshots: &dyn SnapshotStore,
    state: &State,
    members: &[(NodeId, Member)],
) -> Result<(), StartError> {
    let bounds = log.bounds();
    if bounds.last.is_some() || bounds.purged.is_some() || snapshots.newest().is_some() {
        let reason = "the data directory isn't new".into();
        return Err(StartError::BadOption { what: "restore", reason });
    }
    let voters = members.iter().map(|(id, _)| id.0).collect();
    let nodes = members.iter().map(|(id, member)| (id.0, member.clone()));
    let membership = Membership::new(vec![voters], nodes.collect::<std::collections::BTreeMap<_, _>>())
        .map_err(|error| StartError::BadOption { what: "members", reason: error.to_string() })?;
    let first = members.iter().map(|(id, _)| id.0).min().unwrap_or_default();
    let last = log_id(FIRST_TERM, first, state.last_stamp().index.0);
    let meta = stored_meta(Some(last), &StoredMembership::new(Some(last), membership));
    let mut output = BufWriter::with_capacity(SNAPSHOT_PART_BYTES_MAX, Output(snapshots.begin(meta)?));
    let unwritten = |error: io::Error| match error.downcast::<StorageError>() {
        Ok(error) => StartError::Storage(error),
        Err(error) => StartError::Raft { reason: error.to_string() },
    };
    snapshot::encode(state, &mut output).map_err(unwritten)?;
    let Output(writer) = output.into_inner().map_err(|error| unwritten(error.into_error()))?;
    writer.finish()?;
    let index = state.last_stamp().index;
    log.purge_through(Purged { index, mark: codec::encode_log_id(&last) })?;
    Ok(())
}
