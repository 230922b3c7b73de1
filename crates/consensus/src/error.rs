//! What can go wrong, told apart by what the caller may do about it.

use haltline_core::{
    LogIndex,
    ids::NodeId,
    limits::{COMMAND_BYTES_MAX, NODES_MAX},
};

/// Why a proposed command has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The queue of this node, or of the leader, is full. Nothing was done.
    #[error("this node has {queued} commands waiting, its limit; try again later or through another node")]
    Busy {
        /// How many wait.
        queued: usize,
    },
    /// Larger than any command may be. Nothing was done.
    #[error("the command takes {got} bytes encoded; at most {COMMAND_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size.
        got: usize,
    },
    /// No leader was found in time. Nothing was done.
    #[error(
        "no leader took the command within {waited_ms} ms; a majority of the nodes must be up and reach each other"
    )]
    NoLeader {
        /// How long was waited.
        waited_ms: u64,
    },
    /// It was handed to a leader, and whether it was or will be carried out isn't known.
    #[error(
        "the outcome isn't known yet: no answer within {waited_ms} ms; send the command again with the same request id"
    )]
    UnknownOutcome {
        /// How long was waited.
        waited_ms: u64,
    },
    /// The leader's disk is nearly full, or too many others' are. Nothing was done. Kills are still taken.
    #[error(
        "the disks of the cluster are nearly full, so it takes no commands but kills; free space on the nodes that \
         `haltline status` names, then try again"
    )]
    DiskFull,
    /// The nodes run versions that don't understand each other's commands. Nothing was done.
    #[error("the leader doesn't understand this command; finish the upgrade of all nodes, then try again")]
    NotUnderstood,
    /// The node is shutting down. If the command had been handed on, its outcome isn't known.
    #[error("this node is stopping; send the command again with the same request id, through another node")]
    Stopping,
}

/// Why a read barrier was not passed. A read that asked for it must not be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// Nobody leads, as far as this node knows.
    #[error("no leader is known; a majority of the nodes must be up and reach each other")]
    NoLeader,
    /// The leader could not prove in time that it still leads, or did not answer.
    #[error("the leader could not confirm in time that it still leads")]
    NoQuorum,
    /// This node is no member, so it may not speak for the cluster.
    #[error("node {node} is not a member of the cluster (any more)")]
    NotMember {
        /// The node.
        node: NodeId,
    },
    /// This node lags behind.
    #[error("this node has applied the log up to {applied} and needs {needed}; try again, or another node")]
    Lagging {
        /// How far it has come.
        applied: LogIndex,
        /// How far it must come.
        needed: LogIndex,
    },
    /// As many readers wait as may.
    #[error("{waiting} readers wait for a barrier already, the limit")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// The node is shutting down.
    #[error("this node is stopping")]
    Stopping,
}

/// Why the membership was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Only the leader changes it.
    #[error("this node doesn't lead; ask {}", leader.map_or_else(|| "again when there is a leader".to_owned(), |node| format!("node {node}")))]
    NotLeader {
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// Refused as it stands.
    #[error("the membership can't be changed so: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// Too many nodes.
    #[error("a cluster has at most {NODES_MAX} nodes, learners included")]
    TooManyNodes,
    /// The change was begun and its end not seen in time.
    #[error("the change was not finished in time; look at the members before trying again")]
    TimedOut,
    /// The node is shutting down.
    #[error("this node is stopping")]
    Stopping,
}

/// Why a node could not be started.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// A setting that can't be.
    #[error("{what}: {reason}")]
    BadOption {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The log or the snapshot can't be read.
    #[error(transparent)]
    Storage(#[from] haltline_storage::StorageError),
    /// The snapshot isn't one of this version.
    #[error("the snapshot through index {index} can't be understood: {reason}")]
    Snapshot {
        /// What it covers.
        index: LogIndex,
        /// Why not.
        reason: String,
    },
    /// The log holds something that is no entry.
    #[error("entry {index} of the log can't be understood: {reason}; its disk may be damaged")]
    Entry {
        /// Which.
        index: LogIndex,
        /// Why not.
        reason: String,
    },
    /// openraft refused what it found.
    #[error("consensus could not start: {reason}")]
    Raft {
        /// Its words.
        reason: String,
    },
    /// Certificates.
    #[error("TLS between nodes: {reason}")]
    Tls {
        /// Which.
        reason: String,
    },
    /// The port.
    #[error("can't listen for nodes: {reason}")]
    Listen {
        /// The operating system's words.
        reason: String,
    },
}

/// Why a running node must stop. It is not safe to go on, nor to try again in the same process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this node must stop: {reason}")]
pub struct FatalError {
    /// What happened.
    pub reason: String,
}

/// Why an entry subscription ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The subscriber was slower than the ring is long, or the state jumped forward by a snapshot. Read the state, then
    /// subscribe again.
    #[error(
        "entries after {after} are no longer held (the oldest is {oldest}); start again from a snapshot of the state"
    )]
    FellBehind {
        /// The last entry that the subscriber has seen.
        after: LogIndex,
        /// The oldest that could be given.
        oldest: LogIndex,
    },
    /// The node is shutting down.
    #[error("this node is stopping")]
    Stopping,
}
