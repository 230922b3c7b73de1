//! What a node can say about itself and, while it leads, about the others.

use haltline_core::{
    LogIndex,
    event::ChainPosition,
    ids::NodeId,
    time::{ClusterTime, Stamp},
};
use haltline_storage::LogHealth;
use openraft::{ServerState, async_runtime::watch::WatchReceiver as _};

use crate::{
    options::Member,
    published::Published,
    types::{LogId, Raft},
};

/// What a node is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It proposes.
    Leader,
    /// It votes and follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It follows without a vote.
    Learner,
    /// It has stopped.
    Stopped,
}

/// A member and how far it is, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id.
    pub id: NodeId,
    /// Its name and addresses.
    pub member: Member,
    /// Whether it votes.
    pub voter: bool,
    /// How far its log agrees with the leader's; known to the leader only.
    pub matched: Option<LogIndex>,
    /// Entries of the leader's log that it doesn't have yet; known to the leader only.
    pub lag: Option<u64>,
}

/// A node's view of itself and its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// The term it is in.
    pub term: u64,
    /// Who leads, if known.
    pub leader: Option<NodeId>,
    /// Where the leader is reached.
    pub leader_member: Option<Member>,
    /// The last entry in this node's log.
    pub last_log: LogIndex,
    /// The last entry known to be committed.
    pub committed: LogIndex,
    /// The last entry applied here.
    pub applied: LogIndex,
    /// The last entry in the newest snapshot here, 0 if there is none.
    pub snapshot: LogIndex,
    /// Everything up to here was purged from this node's log.
    pub purged: LogIndex,
    /// The members as of this node's log.
    pub members: Vec<MemberStatus>,
    /// The stamp of the last batch applied here.
    pub stamp: Stamp,
    /// About what time it is in the cluster.
    pub cluster_now: ClusterTime,
    /// Where the chain of enforcement events stands here.
    pub chain: ChainPosition,
    /// Whether the founding entry is applied.
    pub founded: bool,
    /// Commands that wait at this node.
    pub waiting: usize,
    /// How the node fares on its disk.
    pub disk: DiskStatus,
}

/// How a node fares on its disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskStatus {
    /// The log's room and syncs.
    pub log: LogHealth,
    /// This node leads and takes no commands but kills, because it or too many others are short of room.
    pub takes_kills_only: bool,
}

impl From<ServerState> for Role {
    fn from(state: ServerState) -> Self {
        match state {
            ServerState::Learner => Self::Learner,
            ServerState::Follower => Self::Follower,
            ServerState::Candidate => Self::Candidate,
            ServerState::Leader => Self::Leader,
            ServerState::Shutdown => Self::Stopped,
        }
    }
}

fn index(id: Option<&LogId>) -> LogIndex {
    LogIndex(id.map_or(0, |id| id.index))
}

/// Puts the pieces together.
pub(crate) fn status(
    raft: &Raft,
    published: &Published,
    cluster_now: ClusterTime,
    waiting: usize,
    disk: DiskStatus,
) -> Status {
    let metrics = raft.metrics().borrow_watched().clone();
    let membership = metrics.membership_config.membership();
    let last_log = LogIndex(metrics.last_log_index.unwrap_or(0));
    let voters = membership.voter_ids().collect::<Vec<_>>();
    let members = membership.nodes().map(|(id, member)| {
        let matched = metrics.replication.as_ref().and_then(|replication| replication.get(id));
        let matched = matched.map(|matched| index(matched.as_ref()));
        MemberStatus {
            id: NodeId(*id),
            member: member.clone(),
            voter: voters.contains(id),
            matched,
            lag: matched.map(|matched| last_log.0.saturating_sub(matched.0)),
        }
    });
    Status {
        node: NodeId(metrics.id),
        role: metrics.state.into(),
        term: metrics.current_term,
        leader: metrics.current_leader.map(NodeId),
        leader_member: metrics.current_leader.and_then(|id| membership.get_node(&id).cloned()),
        last_log,
        committed: index(metrics.cluster_committed.as_ref()),
        applied: published.applied,
        snapshot: index(metrics.snapshot.as_ref()),
        purged: index(metrics.purged.as_ref()),
        members: members.collect(),
        stamp: published.state.last_stamp(),
        cluster_now,
        chain: published.state.chain(),
        founded: published.state.is_founded(),
        waiting,
        disk,
    }
}
