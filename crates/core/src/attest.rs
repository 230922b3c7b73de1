//! What a node signs, and how whoever relies on it checks that (design 02, What is signed).
//!
//! Every statement begins with a domain that ends in a zero byte, names cluster and incarnation, and has one encoding: a
//! signature over one can't be taken for another. Verification yields an [`Attested`] position, which nothing else makes;
//! so what must rest on a verified statement (permissions, the high-water mark) can ask for one by type.

mod backup;
mod bundle;
mod error;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    command::Signature,
    ids::{ClusterId, Digest, EdgeName, EventSeq, Incarnation, LogIndex, NodeId, Nonce, PublicKey},
    limits::PROOF_LAYERS_MAX,
    mark::HighWaterMark,
    merkle,
    time::{ClusterTime, WallTime},
};

pub use backup::BackupStatement;
pub use bundle::{BundleStatement, KnownBundle, follow_changes};
pub use error::AttestError;

/// A position of the log that a node's signature vouches for, and the cluster time there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attested {
    position: HighWaterMark,
    cluster_time: ClusterTime,
}

impl Attested {
    /// Where in the log and on the chain.
    #[must_use]
    pub const fn position(&self) -> HighWaterMark {
        self.position
    }

    /// Cluster time there.
    #[must_use]
    pub const fn cluster_time(&self) -> ClusterTime {
        self.cluster_time
    }
}

/// The log up to `index` was applied, and a read barrier that began after every nonce under `root` had arrived confirmed
/// that nothing committed was missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreshStatement {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Up to where the log is applied.
    pub index: LogIndex,
    /// How many enforcement events there are by then.
    pub event_seq: EventSeq,
    /// The chain's head after them.
    pub chain_head: Digest,
    /// Cluster time, by the entry at `index`.
    pub cluster_time: ClusterTime,
    /// Root of the tree over the nonces ([`merkle`]).
    pub root: Digest,
}

impl FreshStatement {
    /// The bytes to sign: the domain, then fields of fixed size, numbers big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = opening(b"haltline/v1/fresh\0", self.cluster_id, self.incarnation);
        bytes.extend_from_slice(&self.index.0.to_be_bytes());
        bytes.extend_from_slice(&self.event_seq.0.to_be_bytes());
        bytes.extend_from_slice(&self.chain_head.0);
        bytes.extend_from_slice(&self.cluster_time.0.to_be_bytes());
        bytes.extend_from_slice(&self.root.0);
        bytes
    }
}

/// The view at `index`, as bytes with this hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotStatement {
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
    /// SHA-256 of the encoded view.
    pub body_sha256: Digest,
    /// Cluster time, by the entry at `index`.
    pub cluster_time: ClusterTime,
    /// The leader's wall clock in that entry, for people.
    pub wall_time: WallTime,
}

impl SnapshotStatement {
    /// The bytes to sign: the domain, then fields of fixed size, numbers big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = opening(b"haltline/v1/snapshot\0", self.cluster_id, self.incarnation);
        bytes.extend_from_slice(&self.index.0.to_be_bytes());
        bytes.extend_from_slice(&self.event_seq.0.to_be_bytes());
        bytes.extend_from_slice(&self.chain_head.0);
        bytes.extend_from_slice(&self.body_sha256.0);
        bytes.extend_from_slice(&self.cluster_time.0.to_be_bytes());
        bytes.extend_from_slice(&self.wall_time.0.to_be_bytes());
        bytes
    }

    /// Checks the signature of `node` over this statement, and that it speaks of this body. Whether the body's own chain
    /// position is the statement's is for whoever decodes it to compare.
    ///
    /// # Errors
    /// [`AttestError`]: the key isn't known, the signature isn't its, or the body is another.
    pub fn verify(
        &self,
        node: NodeId,
        signature: &Signature,
        body: &[u8],
        keys: impl Fn(NodeId) -> Option<PublicKey>,
    ) -> Result<Attested, AttestError> {
        let got = Digest(Sha256::digest(body).into());
        if got != self.body_sha256 {
            return Err(AttestError::OtherBody { expected: self.body_sha256, got });
        }
        verify_by(node, &self.to_bytes(), signature, keys)?;
        Ok(Attested { position: self.position(), cluster_time: self.cluster_time })
    }

    fn position(&self) -> HighWaterMark {
        HighWaterMark {
            incarnation: self.incarnation,
            index: self.index,
            event_seq: self.event_seq,
            head: self.chain_head,
        }
    }
}

/// One Merkle tree on the way from an enforcer's nonce to the root that a node signed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProofLayer {
    /// Whose leaf this is: the enforcer's own in the first layer, a relay's in the next.
    pub name: EdgeName,
    /// The leaf's place, counted from zero.
    pub position: u32,
    /// How many leaves the tree has.
    pub leaves: u32,
    /// Siblings from the leaf up.
    pub path: Vec<Digest>,
}

/// The root that the layers lead to from a nonce. Relays compose: the root of one layer is the nonce of the next.
///
/// # Errors
/// [`AttestError::TooManyLayers`] and [`AttestError::BadProof`].
pub fn root_of(nonce: &Nonce, layers: &[ProofLayer]) -> Result<Digest, AttestError> {
    if layers.len() > PROOF_LAYERS_MAX {
        return Err(AttestError::TooManyLayers { got: layers.len() });
    }
    let mut root = None;
    for (number, layer) in layers.iter().enumerate() {
        let asked = root.map_or(*nonce, |Digest(bytes)| Nonce(bytes));
        let leaf = merkle::leaf(&asked, layer.name.as_str());
        let above = merkle::root_from_path(leaf, layer.position, layer.leaves, &layer.path);
        root = Some(above.ok_or(AttestError::BadProof { layer: number })?);
    }
    root.ok_or(AttestError::BadProof { layer: 0 })
}

/// A node's answer to a probe, with the proof that it answers this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fresh {
    /// The probe's nonce.
    pub nonce: Nonce,
    /// Up to where the log was applied.
    pub index: LogIndex,
    /// How many enforcement events there were.
    pub event_seq: EventSeq,
    /// The chain's head after them.
    pub chain_head: Digest,
    /// Cluster time there.
    pub cluster_time: ClusterTime,
    /// The node that signed.
    pub node: NodeId,
    /// Its signature over the [`FreshStatement`] with the root that the layers lead to.
    pub signature: Signature,
    /// From the asker's own nonce up: one for the hub it talks to, one more for each relay between.
    pub layers: Vec<ProofLayer>,
}

impl Fresh {
    /// Checks that a node of this cluster and incarnation signed an answer to this very nonce of `asker`.
    ///
    /// Whether the asker has a probe with that nonce waiting is its [`crate::lease::LeaseBook`]'s to say, and whether the
    /// head is the one that its own chain had at `event_seq` its [`crate::mark::ChainHistory`]'s.
    ///
    /// # Errors
    /// [`AttestError`]: another's proof, a proof that leads nowhere, an unknown key, a signature that isn't its.
    pub fn verify(
        &self,
        asker: &EdgeName,
        cluster_id: ClusterId,
        incarnation: Incarnation,
        keys: impl Fn(NodeId) -> Option<PublicKey>,
    ) -> Result<Attested, AttestError> {
        if let Some(first) = self.layers.first()
            && first.name != *asker
        {
            return Err(AttestError::WrongName { expected: asker.clone(), got: first.name.clone() });
        }
        let root = root_of(&self.nonce, &self.layers)?;
        let statement = self.statement(cluster_id, incarnation, root);
        verify_by(self.node, &statement.to_bytes(), &self.signature, keys)?;
        let position = HighWaterMark {
            incarnation,
            index: self.index,
            event_seq: self.event_seq,
            head: self.chain_head,
        };
        Ok(Attested { position, cluster_time: self.cluster_time })
    }

    fn statement(&self, cluster_id: ClusterId, incarnation: Incarnation, root: Digest) -> FreshStatement {
        FreshStatement {
            cluster_id,
            incarnation,
            index: self.index,
            event_seq: self.event_seq,
            chain_head: self.chain_head,
            cluster_time: self.cluster_time,
            root,
        }
    }
}

/// The beginning of every statement.
pub(crate) fn opening(domain: &[u8], cluster_id: ClusterId, incarnation: Incarnation) -> Vec<u8> {
    const TYPICAL_BYTES: usize = 224;
    let mut bytes = Vec::with_capacity(TYPICAL_BYTES);
    bytes.extend_from_slice(domain);
    bytes.extend_from_slice(&cluster_id.0);
    bytes.extend_from_slice(&incarnation.0.to_be_bytes());
    bytes
}

/// Checks a node's signature, strictly (RFC 8032).
pub(crate) fn verify_by(
    node: NodeId,
    statement: &[u8],
    signature: &Signature,
    keys: impl Fn(NodeId) -> Option<PublicKey>,
) -> Result<(), AttestError> {
    let key = keys(node).ok_or(AttestError::UnknownKey { node })?;
    if is_signed_by(&key, statement, signature) { Ok(()) } else { Err(AttestError::BadSignature { node }) }
}

/// Whether the signature is the key's, strictly. A key that is no curve point signs nothing.
pub(crate) fn is_signed_by(key: &PublicKey, statement: &[u8], signature: &Signature) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    ed25519_dalek::VerifyingKey::from_bytes(&key.0)
        .is_ok_and(|key| key.verify_strict(statement, &signature).is_ok())
}

#[cfg(test)]
#[path = "attest_test.rs"]
mod tests;
