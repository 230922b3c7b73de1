//! openraft's view of Haltline: what an entry carries, what applying it answers, and how the answer travels.

use std::fmt;

use bytes::Bytes;
use haltline_core::{
    rejection::{Outcome, Rejection},
    time::Stamp,
};
use openraft::{
    raft::responder::Responder,
    type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf},
};
use serde::{Deserialize, Serialize};

use crate::{machine::Machine, options::Member, snapshots::SnapshotHandle};

/// The types that openraft is generic over. Written out because its macro can't set the responder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = EncodedBatch;
    type R = BatchOutcome;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Self::D, Self::NodeId, Self::Node>;
    type Entry = openraft::Entry<Self::LeaderId, Self::Payload>;
    #[allow(deprecated, reason = "the only other path is another crate's")]
    type AsyncRuntime = openraft::impls::TokioRuntime;
    type Responder<T>
        = OnSettled<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;
pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type Vote = VoteOf<TypeConfig>;
pub(crate) type LeaderId = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = SnapshotOf<TypeConfig, SnapshotHandle>;

/// A batch of commands, encoded once by the leader and never re-encoded.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EncodedBatch(pub(crate) Bytes);

impl fmt::Debug for EncodedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedBatch({} bytes)", self.0.len())
    }
}

impl fmt::Display for EncodedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a batch came to: its stamp, and one result for each command. Empty for entries that carry no batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BatchOutcome {
    pub(crate) stamp: Stamp,
    pub(crate) results: Vec<Result<Outcome, Rejection>>,
}

/// Hands the answer to whoever waits, from the task that produced it: no channel, no task of its own.
pub(crate) struct OnSettled<T> {
    commit: Option<Box<dyn FnOnce() + Send>>,
    complete: Box<dyn FnOnce(T) + Send>,
}

impl<T> OnSettled<T> {
    pub(crate) fn new(
        commit: impl FnOnce() + Send + 'static,
        complete: impl FnOnce(T) + Send + 'static,
    ) -> Self {
        Self { commit: Some(Box::new(commit)), complete: Box::new(complete) }
    }
}

impl<T: Send + 'static> Responder<TypeConfig, T> for OnSettled<T> {
    fn on_commit(&mut self, _: LogId) {
        if let Some(commit) = self.commit.take() {
            commit();
        }
    }

    fn on_complete(self, result: T) {
        (self.complete)(result);
    }
}
