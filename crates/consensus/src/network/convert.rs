//! Messages between nodes and openraft's types. Whatever is missing or impossible in a message is an error, never a
//! default.

use haltline_wire::raft::v1 as wire;
use openraft::{
    EntryPayload,
    entry::RaftEntry as _,
    raft::{
        AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
        TransferLeaderResponse,
    },
};

use crate::{
    codec,
    options::Member,
    types::{EncodedBatch, Entry, LeaderId, LogId, Membership, TypeConfig, Vote},
};

/// A message that isn't what its type promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} without {missing}")]
pub(crate) struct BadMessage {
    message: &'static str,
    missing: &'static str,
}

impl BadMessage {
    pub(crate) const fn new(message: &'static str, missing: &'static str) -> Self {
        Self { message, missing }
    }
}

impl From<BadMessage> for tonic::Status {
    fn from(error: BadMessage) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

pub(crate) const fn log_id_out(id: LogId) -> wire::LogId {
    wire::LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

pub(crate) const fn log_id_in(id: wire::LogId) -> LogId {
    codec::log_id(id.term, id.node, id.index)
}

pub(crate) const fn ballot_out(vote: Vote) -> wire::Ballot {
    wire::Ballot { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub(crate) fn ballot_in(ballot: Option<wire::Ballot>, message: &'static str) -> Result<Vote, BadMessage> {
    let ballot = ballot.ok_or(BadMessage::new(message, "a ballot"))?;
    Ok(Vote { leader_id: LeaderId { term: ballot.term, node_id: ballot.node }, committed: ballot.committed })
}

pub(crate) fn membership_out(membership: &Membership) -> wire::Membership {
    let voters = membership.get_joint_config().iter();
    let members = membership.nodes().map(|(id, member)| wire::Member {
        id: *id,
        name: member.name.clone(),
        raft_address: member.raft_address.clone(),
        api_address: member.api_address.clone(),
    });
    wire::Membership {
        voters: voters.map(|set| wire::VoterSet { nodes: set.iter().copied().collect() }).collect(),
        members: members.collect(),
    }
}

pub(crate) fn membership_in(membership: wire::Membership) -> Result<Membership, BadMessage> {
    let voters = membership.voters.into_iter().map(|set| set.nodes.into_iter().collect()).collect::<Vec<_>>();
    let members = membership.members.into_iter().map(|member| {
        let wire::Member { id, name, raft_address, api_address } = member;
        (id, Member { name, raft_address, api_address })
    });
    let members = members.collect::<std::collections::BTreeMap<_, _>>();
    if voters.is_empty() && members.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(voters, members)
        .map_err(|_| BadMessage::new("a membership", "an address of each of its voters"))
}

fn entry_out(entry: Entry) -> wire::Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => wire::entry::Payload::Blank(wire::Blank {}),
        EntryPayload::Normal(batch) => wire::entry::Payload::Batch(batch.0),
        EntryPayload::Membership(membership) => wire::entry::Payload::Membership(membership_out(&membership)),
    };
    wire::Entry { id: Some(log_id_out(entry.log_id)), payload: Some(payload) }
}

fn entry_in(entry: wire::Entry) -> Result<Entry, BadMessage> {
    let id = entry.id.ok_or(BadMessage::new("an entry", "an id"))?;
    let payload = match entry
        .payload
        .ok_or(BadMessage::new("an entry", "a payload that this version knows"))?
    {
        wire::entry::Payload::Blank(_) => EntryPayload::Blank,
        wire::entry::Payload::Batch(batch) => EntryPayload::Normal(EncodedBatch(batch)),
        wire::entry::Payload::Membership(membership) => EntryPayload::Membership(membership_in(membership)?),
    };
    Ok(Entry::new(log_id_in(id), payload))
}

pub(crate) fn append_out(request: AppendEntriesRequest<TypeConfig>) -> wire::AppendRequest {
    wire::AppendRequest {
        ballot: Some(ballot_out(request.vote)),
        previous: request.prev_log_id.map(log_id_out),
        committed: request.leader_commit.map(log_id_out),
        entries: request.entries.into_iter().map(entry_out).collect(),
    }
}

/// Checks what openraft takes for granted: that the entries follow one another without a hole.
pub(crate) fn append_in(
    request: wire::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, BadMessage> {
    let vote = ballot_in(request.ballot, "an append")?;
    let prev_log_id = request.previous.map(log_id_in);
    let entries = request.entries.into_iter().map(entry_in).collect::<Result<Vec<_>, _>>()?;
    let mut next = prev_log_id.map_or(0, |id| id.index.saturating_add(1));
    for entry in &entries {
        if entry.log_id.index != next {
            return Err(BadMessage::new("an append", "entries that follow one another"));
        }
        next = next.saturating_add(1);
    }
    let leader_commit = request.committed.map(log_id_in);
    Ok(AppendEntriesRequest { vote, prev_log_id, leader_commit, entries })
}

pub(crate) fn append_result_out(result: &StreamAppendResult<TypeConfig>) -> wire::AppendResponse {
    use wire::append_response::Result as Out;
    let result = match result {
        Ok(matching) => Out::Matching(wire::Matching { id: matching.map(log_id_out) }),
        Err(StreamAppendError::Conflict(id)) => Out::Conflict(log_id_out(*id)),
        Err(StreamAppendError::HigherVote(vote)) => Out::HigherBallot(ballot_out(*vote)),
    };
    wire::AppendResponse { result: Some(result) }
}

pub(crate) fn append_result_in(
    response: wire::AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, BadMessage> {
    use wire::append_response::Result as In;
    Ok(match response.result.ok_or(BadMessage::new("an append's answer", "a result"))? {
        In::Matching(matching) => Ok(matching.id.map(log_id_in)),
        In::Conflict(id) => Err(StreamAppendError::Conflict(log_id_in(id))),
        In::HigherBallot(ballot) => {
            Err(StreamAppendError::HigherVote(ballot_in(Some(ballot), "an append's answer")?))
        }
    })
}

pub(crate) fn transfer_result_out(
    result: &TransferLeaderResponse<TypeConfig>,
) -> wire::TransferLeaderResponse {
    use wire::transfer_leader_response::Result as Out;
    let result = match result {
        Ok(()) => Out::Accepted(wire::TransferAccepted {}),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => Out::BallotChanged(ballot_out(*actual)),
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            Out::NotCaughtUp(wire::Matching { id: actual.map(log_id_out) })
        }
    };
    wire::TransferLeaderResponse { result: Some(result) }
}

/// The answer to a handover, with what was expected taken from the request.
pub(crate) fn transfer_result_in(
    response: wire::TransferLeaderResponse,
    from: Vote,
    last: Option<LogId>,
) -> Result<TransferLeaderResponse<TypeConfig>, BadMessage> {
    use wire::transfer_leader_response::Result as In;
    Ok(match response.result.ok_or(BadMessage::new("a handover's answer", "a result"))? {
        In::Accepted(_) => Ok(()),
        In::BallotChanged(ballot) => Err(TransferLeaderError::VoteChanged {
            expected: from,
            actual: ballot_in(Some(ballot), "a handover's answer")?,
        }),
        In::NotCaughtUp(matching) => {
            Err(TransferLeaderError::LogNotFlushed { expected: last, actual: matching.id.map(log_id_in) })
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    fn membership() -> Membership {
        let member = |name: &str| Member { name: name.into(), ..Member::default() };
        let members = BTreeMap::from([(1, member("a")), (2, member("b")), (9, member("learner"))]);
        Membership::new(vec![[1, 2].into(), [2].into()], members).unwrap()
    }

    #[test]
    fn appends_and_their_answers_come_back() {
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(EncodedBatch(vec![1, 2, 3].into())),
            EntryPayload::Membership(membership()),
        ];
        let entries = payloads.into_iter().zip(5..);
        let request = AppendEntriesRequest {
            vote: Vote { leader_id: LeaderId { term: 3, node_id: 1 }, committed: true },
            prev_log_id: Some(codec::log_id(2, 1, 4)),
            entries: entries
                .map(|(payload, index)| Entry::new(codec::log_id(3, 1, index), payload))
                .collect(),
            leader_commit: None,
        };
        let back = append_in(append_out(request.clone())).unwrap();
        assert_eq!(format!("{back:?}"), format!("{request:?}"));

        let vote = Vote { leader_id: LeaderId { term: 4, node_id: 2 }, committed: false };
        let id = codec::log_id(3, 1, 7);
        let results = [
            Ok(Some(id)),
            Ok(None),
            Err(StreamAppendError::Conflict(id)),
            Err(StreamAppendError::HigherVote(vote)),
        ];
        for result in results {
            assert_eq!(append_result_in(append_result_out(&result)).unwrap(), result);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            append_in(wire::AppendRequest::default()).unwrap_err().to_string(),
            "an append without a ballot"
        );
        let hole = wire::AppendRequest {
            ballot: Some(wire::Ballot::default()),
            previous: None,
            committed: None,
            entries: vec![wire::Entry {
                id: Some(wire::LogId { term: 1, node: 1, index: 3 }),
                payload: Some(wire::entry::Payload::Blank(wire::Blank {})),
            }],
        };
        assert!(append_in(hole).unwrap_err().to_string().contains("follow one another"));
        assert!(append_result_in(wire::AppendResponse::default()).is_err());
        let nobody = wire::Membership { voters: vec![wire::VoterSet { nodes: vec![1] }], members: vec![] };
        assert!(membership_in(nobody).is_err());
    }
}
