//! What a node says of a backup that it made.

use super::{AttestError, opening, verify_by};
use crate::{
    command::Signature,
    ids::{ClusterId, Digest, EventSeq, Incarnation, LogIndex, NodeId, PublicKey},
    time::{ClusterTime, WallTime},
};

/// The whole state at `index`, as bytes with this hash and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupStatement {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Up to where the log is in it.
    pub index: LogIndex,
    /// How many enforcement events are in it.
    pub event_seq: EventSeq,
    /// The chain's head after them.
    pub chain_head: Digest,
    /// SHA-256 of the encoded state.
    pub body_sha256: Digest,
    /// Its length in bytes.
    pub body_bytes: u64,
    /// Cluster time, by the last batch in it.
    pub cluster_time: ClusterTime,
    /// The leader's wall clock in that batch, for people.
    pub wall_time: WallTime,
}

impl BackupStatement {
    /// The bytes to sign: the domain, then fields of fixed size, numbers big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = opening(b"haltline/v1/backup\0", self.cluster_id, self.incarnation);
        bytes.extend_from_slice(&self.index.0.to_be_bytes());
        bytes.extend_from_slice(&self.event_seq.0.to_be_bytes());
        bytes.extend_from_slice(&self.chain_head.0);
        bytes.extend_from_slice(&self.body_sha256.0);
        bytes.extend_from_slice(&self.body_bytes.to_be_bytes());
        bytes.extend_from_slice(&self.cluster_time.0.to_be_bytes());
        bytes.extend_from_slice(&self.wall_time.0.to_be_bytes());
        bytes
    }

    /// Checks the signature of `node` over this statement. Whether a body is the one that it speaks of is for whoever reads
    /// it to compare.
    ///
    /// # Errors
    /// [`AttestError::UnknownKey`], [`AttestError::BadSignature`].
    pub fn verify(
        &self,
        node: NodeId,
        signature: &Signature,
        keys: impl Fn(NodeId) -> Option<PublicKey>,
    ) -> Result<(), AttestError> {
        verify_by(node, &self.to_bytes(), signature, keys)
    }
}
