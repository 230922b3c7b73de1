//! The node's signed word in a backup, and by whose keys it was checked.

use haltline_core::{
    attest::{AttestError, BackupStatement, KnownBundle, follow_changes},
    command::Signature,
    ids::{ClusterId, Digest, EventSeq, Incarnation, LogIndex, NodeId, PublicKey},
    state::State,
    time::{ClusterTime, WallTime},
};
use haltline_pki::TrustBundle;
use serde::{Deserialize, Serialize};

use super::error::BackupError;
use crate::founding::as_text;

/// What a node said of the content of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedBackup {
    /// The cluster.
    #[serde(with = "as_text")]
    pub cluster: ClusterId,
    /// Its incarnation.
    pub incarnation: u64,
    /// Up to where the log is in it.
    pub index: u64,
    /// How many enforcement events are in it.
    pub event_seq: u64,
    /// The chain's head after them.
    #[serde(with = "as_text")]
    pub chain_head: Digest,
    /// Hash of the encoded state.
    #[serde(with = "as_text")]
    pub content_sha256: Digest,
    /// Its length.
    pub content_bytes: u64,
    /// Cluster time there.
    pub cluster_time_ms: u64,
    /// The leader's wall clock there.
    pub wall_time_ms: u64,
    /// Who signed.
    pub node: u64,
    /// The signature, in hexadecimal.
    pub signature: String,
    /// The bundle that the node was given, as JSON.
    pub trust_bundle: String,
}

/// By which keys a backup's signature was found good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// By a bundle that came another way than the backup.
    ByGivenBundle,
    /// By the bundle that the backup carries: whoever made the whole file could have made that too.
    ByItsOwnBundle,
}

impl SignedBackup {
    /// The statement.
    #[must_use]
    pub fn statement(&self) -> BackupStatement {
        BackupStatement {
            cluster_id: self.cluster,
            incarnation: Incarnation(self.incarnation),
            index: LogIndex(self.index),
            event_seq: EventSeq(self.event_seq),
            chain_head: self.chain_head,
            body_sha256: self.content_sha256,
            body_bytes: self.content_bytes,
            cluster_time: ClusterTime(self.cluster_time_ms),
            wall_time: WallTime(self.wall_time_ms),
        }
    }

    /// Puts a statement and its signature together.
    #[must_use]
    pub fn new(
        statement: &BackupStatement,
        node: NodeId,
        signature: &Signature,
        trust_bundle: String,
    ) -> Self {
        Self {
            cluster: statement.cluster_id,
            incarnation: statement.incarnation.0,
            index: statement.index.0,
            event_seq: statement.event_seq.0,
            chain_head: statement.chain_head,
            content_sha256: statement.body_sha256,
            content_bytes: statement.body_bytes,
            cluster_time_ms: statement.cluster_time.0,
            wall_time_ms: statement.wall_time.0,
            node: node.0,
            signature: hex(&signature.0),
            trust_bundle,
        }
    }

    /// The bundle that it carries.
    ///
    /// # Errors
    /// If it is none.
    pub fn bundle(&self) -> Result<TrustBundle, BackupError> {
        Ok(TrustBundle::from_json(&self.trust_bundle)?)
    }

    /// Checks the signature: by the keys of a bundle that was given, or else by those of the one inside, each followed
    /// through the changes that the state holds, which a majority of the keys before endorsed.
    ///
    /// # Errors
    /// [`BackupError::Statement`].
    pub(super) fn verify(&self, state: &State, given: Option<&TrustBundle>) -> Result<Vouched, BackupError> {
        let (own, vouched) = match given {
            Some(_) => (None, Vouched::ByGivenBundle),
            None => (Some(self.bundle()?), Vouched::ByItsOwnBundle),
        };
        let bundle = given.or(own.as_ref()).ok_or(BackupError::Answer("it has no trust bundle"))?;
        if bundle.cluster() != self.cluster {
            return Err(BackupError::OtherContent { what: "the cluster of the trust bundle" });
        }
        let keys = bundle.nodes().iter().map(|(node, keys)| (*node, keys.signing_key)).collect();
        let changes = state.trust_history().changes();
        let known = follow_changes(self.cluster, (bundle.version(), keys), changes.values())?;
        self.verify_by(&known)?;
        Ok(vouched)
    }

    /// Checks the signature by the keys of bundles that are believed, the oldest first.
    ///
    /// # Errors
    /// [`BackupError::Statement`], for the newest of them.
    pub fn verify_by(&self, known: &[KnownBundle]) -> Result<(), BackupError> {
        let signature = self.signature()?;
        let statement = self.statement();
        let mut refused = None;
        for (_, keys) in known.iter().rev() {
            match statement.verify(NodeId(self.node), &signature, |node| key_of(keys, node)) {
                Ok(()) => return Ok(()),
                Err(error) => drop(refused.get_or_insert(error)),
            }
        }
        Err(refused.unwrap_or(AttestError::UnknownKey { node: NodeId(self.node) }).into())
    }

    fn signature(&self) -> Result<Signature, BackupError> {
        let other = BackupError::OtherContent { what: "the form of the signature" };
        unhex(&self.signature).map(Signature).ok_or(other)
    }
}

fn key_of(keys: &[(NodeId, PublicKey)], node: NodeId) -> Option<PublicKey> {
    keys.iter().find(|(of, _)| *of == node).map(|(_, key)| *key)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if text.len() == 2 * N { bytes.try_into().ok() } else { None }
}
