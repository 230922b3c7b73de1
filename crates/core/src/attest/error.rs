//! Why a statement isn't believed. The codes are stable: logs, metrics and tests name them.

use crate::{
    ids::{ClusterId, Digest, EdgeName, EventSeq, Incarnation, LogIndex, NodeId, Version},
    limits::{NODES_MAX, PROOF_LAYERS_MAX},
};

/// Why a signed statement isn't believed, or contradicts what is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// Signed by a node that the trust bundle doesn't list.
    #[error("node {node} isn't in the trust bundle; enrol anew if the cluster's nodes were replaced")]
    UnknownKey {
        /// Who claims to have signed.
        node: NodeId,
    },
    /// The signature isn't that node's over this statement.
    #[error("the signature isn't node {node}'s over this statement")]
    BadSignature {
        /// Who claims to have signed.
        node: NodeId,
    },
    /// A statement of another cluster.
    #[error("the statement is of cluster {got}, expected {expected}")]
    WrongCluster {
        /// The cluster that was enrolled with.
        expected: ClusterId,
        /// What the statement names.
        got: ClusterId,
    },
    /// A statement of another incarnation.
    #[error("the statement is of incarnation {got}, expected {expected}")]
    WrongIncarnation {
        /// What is known.
        expected: Incarnation,
        /// What the statement names.
        got: Incarnation,
    },
    /// A Merkle path that doesn't fit its tree.
    #[error("layer {layer} of the proof doesn't fit its own count of leaves, or there is no layer")]
    BadProof {
        /// Which layer, counted from the enforcer.
        layer: usize,
    },
    /// A proof through more relays than are allowed.
    #[error("the proof has {got} layers; at most {PROOF_LAYERS_MAX} are allowed")]
    TooManyLayers {
        /// How many came.
        got: usize,
    },
    /// A proof for somebody else.
    #[error("the proof is for {got}, expected {expected}")]
    WrongName {
        /// Who asked.
        expected: EdgeName,
        /// Whom the proof names.
        got: EdgeName,
    },
    /// A body other than the one that was signed.
    #[error("the body's SHA-256 is {got}, but {expected} was signed")]
    OtherBody {
        /// What was signed.
        expected: Digest,
        /// What came.
        got: Digest,
    },
    /// Older than what was verified before.
    #[error("the statement ends at index {got}, below {mark}, which was verified before")]
    BelowMark {
        /// The high-water mark.
        mark: LogIndex,
        /// What the statement says.
        got: LogIndex,
    },
    /// Another chain of events than the one that was followed.
    #[error("the chain's head after event {event_seq} is another than the statement's")]
    ChainMismatch {
        /// At which event they were compared.
        event_seq: EventSeq,
    },
    /// So far back that the chain's head there isn't remembered.
    #[error("the chain's head after event {event_seq} isn't remembered; the oldest is {oldest}")]
    ChainForgotten {
        /// What the statement speaks of.
        event_seq: EventSeq,
        /// The oldest that is remembered.
        oldest: EventSeq,
    },
    /// Ahead of the events that were applied.
    #[error(
        "the statement is after event {event_seq}, but only {newest} are applied; apply its frames first"
    )]
    ChainAhead {
        /// What the statement speaks of.
        event_seq: EventSeq,
        /// The newest applied.
        newest: EventSeq,
    },
    /// A bundle that isn't the next one.
    #[error("the bundle has version {got}, expected {expected}")]
    BundleVersion {
        /// The next version.
        expected: Version,
        /// What came.
        got: Version,
    },
    /// A bundle with no node, too many, or one twice.
    #[error("a bundle of {got} keys; expected 1 to {NODES_MAX}, in the order of their nodes, each once")]
    BundleKeys {
        /// How many came.
        got: usize,
    },
    /// Too few of the old keys agree.
    #[error("{got} of the bundle's old keys agree to the new one; a majority of {needed} is needed")]
    TooFewEndorsements {
        /// How many agree.
        got: usize,
        /// How many it takes.
        needed: usize,
    },
}

impl AttestError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownKey { .. } => "UNKNOWN_KEY",
            Self::BadSignature { .. } => "BAD_SIGNATURE",
            Self::WrongCluster { .. } => "WRONG_CLUSTER",
            Self::WrongIncarnation { .. } => "WRONG_INCARNATION",
            Self::BadProof { .. } => "BAD_PROOF",
            Self::TooManyLayers { .. } => "TOO_MANY_LAYERS",
            Self::WrongName { .. } => "WRONG_NAME",
            Self::OtherBody { .. } => "OTHER_BODY",
            Self::BelowMark { .. } => "BELOW_MARK",
            Self::ChainMismatch { .. } => "CHAIN_MISMATCH",
            Self::ChainForgotten { .. } => "CHAIN_FORGOTTEN",
            Self::ChainAhead { .. } => "CHAIN_AHEAD",
            Self::BundleVersion { .. } => "BUNDLE_VERSION",
            Self::BundleKeys { .. } => "BUNDLE_KEYS",
            Self::TooFewEndorsements { .. } => "TOO_FEW_ENDORSEMENTS",
        }
    }
}
