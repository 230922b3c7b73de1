//! How entries, votes and log ids look on disk.
//!
//! Written out by hand rather than derived from openraft's types, so that a new openraft can't change what an old node
//! wrote. All integers are little-endian; the first byte names the form and leaves room for others.
//!
//! ```text
//! entry   form 1 = blank, 2 = batch, 3 = membership | term u64 | node u64 | body
//! vote    form 1 | term u64 | node u64 | committed u8
//! log id  form 1 | term u64 | node u64 | index u64
//! ```
//!
//! A batch's body is the core's encoding of it (postcard), handed out again without a copy.

use bytes::{BufMut as _, Bytes, BytesMut};
use haltline_core::{
    LogIndex,
    command::Request,
    time::{ClusterTime, WallTime},
};
use openraft::{EntryPayload, entry::RaftEntry as _};
use serde::{Deserialize, Serialize};

use crate::{
    options::Member,
    types::{EncodedBatch, Entry, LeaderId, LogId, Membership, StoredMembership, Vote},
};

const BLANK: u8 = 1;
const BATCH: u8 = 2;
const MEMBERSHIP: u8 = 3;
const VOTE: u8 = 1;
const LOG_ID: u8 = 1;
const ENTRY_HEADER_BYTES: usize = 17;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {got}")]
pub(crate) struct CodecError {
    expected: &'static str,
    got: String,
}

impl CodecError {
    #[allow(clippy::needless_pass_by_value, reason = "taken as `map_err` hands it over")]
    fn new(expected: &'static str, got: impl ToString) -> Self {
        Self { expected, got: got.to_string() }
    }
}

/// The membership as it is stored: plain lists, so that its form is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembershipRecord {
    voters: Vec<Vec<u64>>,
    members: Vec<(u64, Member)>,
}

impl From<&Membership> for MembershipRecord {
    fn from(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().iter().map(|set| set.iter().copied().collect()).collect(),
            members: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
        }
    }
}

impl TryFrom<MembershipRecord> for Membership {
    type Error = CodecError;

    fn try_from(record: MembershipRecord) -> Result<Self, CodecError> {
        let voters = record.voters.into_iter().map(|set| set.into_iter().collect()).collect::<Vec<_>>();
        let members = record.members.into_iter().collect::<std::collections::BTreeMap<_, _>>();
        if voters.is_empty() && members.is_empty() {
            return Ok(Self::default());
        }
        Self::new(voters, members).map_err(|error| CodecError::new("a membership", error))
    }
}

fn integer(bytes: &[u8], at: usize) -> Option<u64> {
    let end = at.checked_add(8)?;
    Some(u64::from_le_bytes(bytes.get(at..end)?.try_into().ok()?))
}

/// The record of an entry; its index is kept beside it.
pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let leader = entry.log_id.leader_id;
    let (form, body) = match &entry.payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(batch) => (BATCH, batch.0.clone()),
        EntryPayload::Membership(membership) => (MEMBERSHIP, encode_membership(membership)),
    };
    let mut record = BytesMut::with_capacity(ENTRY_HEADER_BYTES + body.len());
    record.put_u8(form);
    record.put_u64_le(leader.term);
    record.put_u64_le(leader.node_id);
    record.extend_from_slice(&body);
    record.freeze()
}

/// The entry of a record.
pub(crate) fn decode_entry(index: LogIndex, record: &Bytes) -> Result<Entry, CodecError> {
    let id = entry_id(index, record)?;
    let body = record.slice(ENTRY_HEADER_BYTES..);
    let payload = match record[0] {
        BLANK => EntryPayload::Blank,
        BATCH => EntryPayload::Normal(EncodedBatch(body)),
        MEMBERSHIP => EntryPayload::Membership(decode_membership(&body)?),
        other => return Err(CodecError::new("form 1, 2 or 3 of an entry", other)),
    };
    Ok(Entry::new(id, payload))
}

/// The identity alone.
pub(crate) fn entry_id(index: LogIndex, record: &[u8]) -> Result<LogId, CodecError> {
    match (integer(record, 1), integer(record, 9)) {
        (Some(term), Some(node)) => Ok(log_id(term, node, index.0)),
        _ => Err(CodecError::new("an entry of at least 17 bytes", record.len())),
    }
}

/// The cluster time in an entry's record, if it carries a batch. Reads the front only.
pub(crate) fn entry_stamp(record: &[u8]) -> Option<(ClusterTime, WallTime)> {
    let body = record.get(ENTRY_HEADER_BYTES..)?;
    (record[0] == BATCH).then(|| batch_stamp(body)).flatten()
}

/// Whether an entry may use the last room of a full disk: kills, and what a change of leader or members takes. Not a tick,
/// and no batch of other commands. Reads the front only.
pub(crate) fn is_urgent(record: &[u8]) -> bool {
    match (record.first(), record.get(ENTRY_HEADER_BYTES..)) {
        (Some(&BATCH), Some(batch)) => begins_with_kill(batch),
        _ => true,
    }
}

/// Kills have entries of their own, so the first command tells.
fn begins_with_kill(batch: &[u8]) -> bool {
    let front = postcard::take_from_bytes::<((ClusterTime, WallTime), u64)>(batch);
    let Ok(((_, count), requests)) = front else { return false };
    let first = postcard::take_from_bytes::<Request>(requests);
    count > 0 && first.is_ok_and(|(request, _)| request.command.is_kill())
}

/// The stamps at the front of an encoded batch.
pub(crate) fn batch_stamp(batch: &[u8]) -> Option<(ClusterTime, WallTime)> {
    postcard::take_from_bytes(batch).ok().map(|(stamps, _)| stamps)
}

pub(crate) fn encode_membership(membership: &Membership) -> Bytes {
    postcard::to_stdvec(&MembershipRecord::from(membership))
        .expect("lists of integers and strings always encode")
        .into()
}

pub(crate) fn decode_membership(bytes: &[u8]) -> Result<Membership, CodecError> {
    postcard::from_bytes::<MembershipRecord>(bytes)
        .map_err(|error| CodecError::new("a membership", error))?
        .try_into()
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    let mut bytes = BytesMut::with_capacity(18);
    bytes.put_u8(VOTE);
    bytes.put_u64_le(vote.leader_id.term);
    bytes.put_u64_le(vote.leader_id.node_id);
    bytes.put_u8(u8::from(vote.committed));
    bytes.freeze()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, CodecError> {
    match (bytes.first(), integer(bytes, 1), integer(bytes, 9), bytes.get(17), bytes.len()) {
        (Some(&VOTE), Some(term), Some(node), Some(committed @ (0 | 1)), 18) => {
            Ok(Vote { leader_id: LeaderId { term, node_id: node }, committed: *committed == 1 })
        }
        _ => Err(CodecError::new("18 bytes of a vote", shown(bytes))),
    }
}

pub(crate) fn encode_log_id(id: &LogId) -> Bytes {
    let mut bytes = BytesMut::with_capacity(25);
    bytes.put_u8(LOG_ID);
    bytes.put_u64_le(id.leader_id.term);
    bytes.put_u64_le(id.leader_id.node_id);
    bytes.put_u64_le(id.index);
    bytes.freeze()
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<LogId, CodecError> {
    match (bytes.first(), integer(bytes, 1), integer(bytes, 9), integer(bytes, 17), bytes.len()) {
        (Some(&LOG_ID), Some(term), Some(node), Some(index), 25) => Ok(log_id(term, node, index)),
        _ => Err(CodecError::new("25 bytes of a log id", shown(bytes))),
    }
}

pub(crate) const fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id: node }, index }
}

fn shown(bytes: &[u8]) -> String {
    format!("{} bytes, {:02x?}", bytes.len(), &bytes[..bytes.len().min(8)])
}

/// Where a snapshot stands, as the snapshot store keeps it.
#[derive(Serialize, Deserialize)]
struct PositionRecord {
    last: Option<(u64, u64, u64)>,
    membership_id: Option<(u64, u64, u64)>,
    membership: MembershipRecord,
}

/// The position of a snapshot: its last entry, and the membership in force there.
pub(crate) fn encode_position(last: Option<&LogId>, membership: &StoredMembership) -> Bytes {
    let flat = |id: &LogId| (id.leader_id.term, id.leader_id.node_id, id.index);
    let record = PositionRecord {
        last: last.map(flat),
        membership_id: membership.log_id().as_ref().map(flat),
        membership: membership.membership().into(),
    };
    postcard::to_stdvec(&record).expect("integers and strings always encode").into()
}

pub(crate) fn decode_position(bytes: &[u8]) -> Result<(Option<LogId>, StoredMembership), CodecError> {
    let record = postcard::from_bytes::<PositionRecord>(bytes)
        .map_err(|error| CodecError::new("a snapshot's position", error))?;
    let id = |(term, node, index)| log_id(term, node, index);
    let membership = StoredMembership::new(record.membership_id.map(id), record.membership.try_into()?);
    Ok((record.last.map(id), membership))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use haltline_core::command::Batch;

    use super::*;
    use crate::testing;

    fn membership() -> Membership {
        let member = |name: &str| Member {
            name: name.into(),
            raft_address: format!("{name}:7002"),
            api_address: format!("{name}:7001"),
        };
        let members = BTreeMap::from([(1, member("a")), (2, member("b")), (3, member("c"))]);
        Membership::new(vec![[1, 2].into(), [2].into()], members).unwrap()
    }

    #[test]
    fn entries_come_back_and_have_golden_bytes() {
        let batch = Batch { cluster_time: ClusterTime(300), wall_time: WallTime(7), ..Batch::default() };
        let batch = EncodedBatch(postcard::to_stdvec(&batch).unwrap().into());
        let payloads =
            [EntryPayload::Blank, EntryPayload::Normal(batch), EntryPayload::Membership(membership())];
        for payload in payloads {
            let entry = Entry::new(log_id(2, 3, 9), payload);
            assert_eq!(decode_entry(LogIndex(9), &encode_entry(&entry)).unwrap(), entry);
        }
        let blank = encode_entry(&Entry::new(log_id(2, 3, 9), EntryPayload::Blank));
        assert_eq!(&blank[..], [1, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_stamp_is_read_from_the_front_of_a_batch_only() {
        let batch = Batch { cluster_time: ClusterTime(300), wall_time: WallTime(7), ..Batch::default() };
        let batch = EncodedBatch(postcard::to_stdvec(&batch).unwrap().into());
        let record = encode_entry(&Entry::new(log_id(2, 3, 9), EntryPayload::Normal(batch)));
        assert_eq!(entry_stamp(&record), Some((ClusterTime(300), WallTime(7))));
        let blank = encode_entry(&Entry::new(log_id(2, 3, 9), EntryPayload::Blank));
        assert_eq!(entry_stamp(&blank), None);
        for garbage in [&[][..], &[BATCH], &[BLANK], &[BATCH; ENTRY_HEADER_BYTES]] {
            assert_eq!(entry_stamp(garbage), None);
        }
    }

    #[test]
    fn kills_and_changes_of_leader_are_urgent_and_nothing_else() {
        let record = |requests| {
            let batch = Batch { cluster_time: ClusterTime(1 << 40), requests, ..Batch::default() };
            let batch = EncodedBatch(postcard::to_stdvec(&batch).unwrap().into());
            encode_entry(&Entry::new(log_id(2, 3, 9), EntryPayload::Normal(batch)))
        };
        assert!(is_urgent(&record(vec![testing::kill(1), testing::kill(2)])));
        assert!(!is_urgent(&record(vec![testing::fleet(1), testing::fleet(2)])));
        assert!(!is_urgent(&record(Vec::new())), "a tick");
        for payload in [EntryPayload::Blank, EntryPayload::Membership(membership())] {
            assert!(is_urgent(&encode_entry(&Entry::new(log_id(2, 3, 9), payload))));
        }
        assert!(!is_urgent(&[BATCH; ENTRY_HEADER_BYTES + 3]));
    }

    #[test]
    fn votes_ids_and_positions_come_back() {
        for committed in [false, true] {
            let vote = Vote { leader_id: LeaderId { term: 7, node_id: 2 }, committed };
            assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        }
        let id = log_id(u64::MAX, 1, 4);
        assert_eq!(decode_log_id(&encode_log_id(&id)).unwrap(), id);
        let stored = StoredMembership::new(Some(log_id(1, 1, 0)), membership());
        assert_eq!(decode_position(&encode_position(Some(&id), &stored)).unwrap(), (Some(id), stored));
        let empty = StoredMembership::default();
        assert_eq!(decode_position(&encode_position(None, &empty)).unwrap(), (None, empty));
    }

    #[test]
    fn garbage_is_refused_and_never_panics() {
        for length in 0..40 {
            let garbage = Bytes::from(vec![0xfe; length]);
            assert!(decode_entry(LogIndex(1), &garbage).is_err());
            assert!(decode_vote(&garbage).is_err());
            assert!(decode_log_id(&garbage).is_err());
            assert!(decode_membership(&garbage).is_err());
            assert!(decode_position(&garbage).is_err());
        }
    }
}
