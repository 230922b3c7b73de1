//! Who takes part: learners come first, then voters, one change at a time.

use std::{collections::BTreeSet, time::Duration};

use haltline_core::{
    ids::NodeId,
    limits::{LEADER_TRANSFER_TIMEOUT, NODES_MAX, PROPOSE_TIMEOUT},
};
use openraft::{
    async_runtime::watch::WatchReceiver as _,
    errors::{ClientWriteError, RaftError},
};
use tokio::time::timeout;

use crate::{consensus::Consensus, error::MembershipError, options::Member, types::TypeConfig};

impl Consensus {
    /// Adds a node that follows without a vote, and returns when that is committed; or changes the addresses of one.
    /// Only the leader can.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn add_learner(&self, node: NodeId, member: Member) -> Result<(), MembershipError> {
        let nodes = self.shared.raft.metrics().borrow_watched().membership_config.clone();
        let known = nodes.membership().nodes().map(|(id, _)| *id).collect::<BTreeSet<_>>();
        if !known.contains(&node.0) && known.len() >= NODES_MAX {
            return Err(MembershipError::TooManyNodes);
        }
        self.bounded(self.shared.raft.add_learner(node.0, member, false)).await
    }

    /// Makes these nodes the voters, through a joint configuration. They must be members already. A voter that isn't
    /// named any more is removed, or with `keep_as_learners` goes on as a learner. Only the leader can.
    ///
    /// # Errors
    /// [`MembershipError`]; after [`MembershipError::TimedOut`] the change may have been made half: ask for it again.
    pub async fn change_membership(
        &self,
        voters: BTreeSet<NodeId>,
        keep_as_learners: bool,
    ) -> Result<(), MembershipError> {
        let voters = voters.into_iter().map(|node| node.0).collect::<BTreeSet<_>>();
        self.bounded(self.shared.raft.change_membership(voters, keep_as_learners)).await
    }

    /// Removes a learner. Only the leader can.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn remove_learner(&self, node: NodeId) -> Result<(), MembershipError> {
        let change = openraft::ChangeMembers::RemoveNodes(BTreeSet::from([node.0]));
        self.bounded(self.shared.raft.change_membership(change, false)).await
    }

    /// Lets another voter lead, and returns when it does. Only the leader can.
    ///
    /// # Errors
    /// [`MembershipError`]; after [`MembershipError::TimedOut`] anybody may lead.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), MembershipError> {
        let metrics = self.shared.raft.metrics().borrow_watched().clone();
        if !metrics.state.is_leader() {
            return Err(MembershipError::NotLeader { leader: metrics.current_leader.map(NodeId) });
        }
        if to == self.shared.me {
            return Ok(());
        }
        if !metrics.membership_config.membership().voter_ids().any(|voter| voter == to.0) {
            return Err(MembershipError::Refused { reason: format!("node {to} is no voter") });
        }
        self.shared.raft.trigger().transfer_leader(to.0).await.map_err(|_| MembershipError::Stopping)?;
        if self.transferred(to).await { Ok(()) } else { Err(MembershipError::TimedOut) }
    }

    async fn bounded<T>(
        &self,
        change: impl Future<Output = Result<T, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>>,
    ) -> Result<(), MembershipError> {
        let patience = Duration::from_millis(PROPOSE_TIMEOUT.0.max(LEADER_TRANSFER_TIMEOUT.0));
        match timeout(patience, change).await {
            Err(_) => Err(MembershipError::TimedOut),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::Fatal(_))) => Err(MembershipError::Stopping),
            Ok(Err(RaftError::APIError(error))) => Err(match error {
                ClientWriteError::ForwardToLeader(forward) => {
                    MembershipError::NotLeader { leader: forward.leader_id.map(NodeId) }
                }
                ClientWriteError::LogEntryDiscarded(_) => MembershipError::TimedOut,
                error => MembershipError::Refused { reason: error.to_string() },
            }),
        }
    }
}
