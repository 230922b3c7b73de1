//! The records in those files: what a node signed, with its signature. Their encoding is postcard's, of types that are
//! for this alone, so that nothing else can change it by the way.

use haltline_core::{
    attest::{AttestError, Fresh, ProofLayer, SnapshotStatement},
    command::Signature,
    ids::{ClusterId, Digest, EventSeq, Incarnation, LogIndex, NodeId, Nonce},
    limits::BUNDLE_CHANGES_MAX,
    mark::HighWaterMark,
    time::{ClusterTime, WallTime},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::client::trust::{ProvenChange, Trust};

/// The Fresh that moved the mark, whole, so that it proves itself again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkRecord {
    pub(crate) cluster: ClusterId,
    incarnation: Incarnation,
    nonce: Nonce,
    index: LogIndex,
    event_seq: EventSeq,
    chain_head: Digest,
    cluster_time: ClusterTime,
    node: NodeId,
    signature: Signature,
    layers: Vec<ProofLayer>,
}

impl MarkRecord {
    pub(crate) fn new(cluster: ClusterId, incarnation: Incarnation, fresh: Fresh) -> Self {
        let Fresh { nonce, index, event_seq, chain_head, cluster_time, node, signature, layers } = fresh;
        Self {
            cluster,
            incarnation,
            nonce,
            index,
            event_seq,
            chain_head,
            cluster_time,
            node,
            signature,
            layers,
        }
    }

    /// The mark, if a node signed it whose key was believed when it did. Whoever's probe it answered: a position of the
    /// log stays one when the enforcer is enrolled under another name.
    pub(crate) fn verify(&self, trust: &Trust) -> Result<HighWaterMark, AttestError> {
        let asker = self.layers.first().ok_or(AttestError::BadProof { layer: 0 })?.name.clone();
        let fresh = self.fresh();
        let by = |key| fresh.verify(&asker, self.cluster, self.incarnation, |_| Some(key));
        let unknown = Err(AttestError::UnknownKey { node: self.node });
        // The Fresh that covered a change of keys was signed by a key from before it.
        let verified = trust.keys_ever(self.node).map(by).fold(unknown, Result::or)?;
        Ok(verified.position())
    }

    fn fresh(&self) -> Fresh {
        let Self { nonce, index, event_seq, chain_head, cluster_time, node, signature, .. } = *self;
        Fresh {
            nonce,
            index,
            event_seq,
            chain_head,
            cluster_time,
            node,
            signature,
            layers: self.layers.clone(),
        }
    }
}

/// What a snapshot says of itself, and who signed that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SnapshotRecord {
    cluster: ClusterId,
    incarnation: Incarnation,
    index: LogIndex,
    event_seq: EventSeq,
    chain_head: Digest,
    body_sha256: Digest,
    cluster_time: ClusterTime,
    wall_time: WallTime,
    node: NodeId,
    signature: Signature,
}

/// A snapshot as it was fetched: signed, and its body not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// What is signed.
    pub statement: SnapshotStatement,
    /// By which node.
    pub node: NodeId,
    /// Its signature.
    pub signature: Signature,
    /// The encoded view.
    pub body: Vec<u8>,
}

impl StoredSnapshot {
    /// What goes before the body in the file: the record's length (4 bytes, big-endian) and the record.
    pub(super) fn head(&self) -> Vec<u8> {
        let record = to_bytes(&SnapshotRecord {
            cluster: self.statement.cluster_id,
            incarnation: self.statement.incarnation,
            index: self.statement.index,
            event_seq: self.statement.event_seq,
            chain_head: self.statement.chain_head,
            body_sha256: self.statement.body_sha256,
            cluster_time: self.statement.cluster_time,
            wall_time: self.statement.wall_time,
            node: self.node,
            signature: self.signature,
        });
        let length = u32::try_from(record.len()).expect("a record is a few hundred bytes");
        [&length.to_be_bytes()[..], &record].concat()
    }

    /// Reads a file's content: head and body.
    pub(super) fn from_bytes(mut bytes: Vec<u8>) -> Result<Self, String> {
        let short = || "it ends within its statement".to_owned();
        let (length, rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let length = u32::from_be_bytes(*length) as usize;
        let record: SnapshotRecord = from_bytes(rest.get(..length).ok_or_else(short)?)?;
        bytes.drain(..4 + length);
        let statement = SnapshotStatement {
            cluster_id: record.cluster,
            incarnation: record.incarnation,
            index: record.index,
            event_seq: record.event_seq,
            chain_head: record.chain_head,
            body_sha256: record.body_sha256,
            cluster_time: record.cluster_time,
            wall_time: record.wall_time,
        };
        Ok(Self { statement, node: record.node, signature: record.signature, body: bytes })
    }

    /// Where it stands, if a node signed it whose key is believed now.
    pub(crate) fn verify(&self, trust: &Trust) -> Result<HighWaterMark, AttestError> {
        let keys = |node| trust.key(node);
        Ok(self.statement.verify(self.node, &self.signature, &self.body, keys)?.position())
    }
}

pub(super) fn to_bytes(record: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(record).expect("ids, numbers, names and byte arrays always encode")
}

pub(super) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((record, [])) => Ok(record),
        Ok((_, rest)) => Err(format!("{} bytes follow what it should hold", rest.len())),
        Err(error) => Err(format!("it doesn't hold what it should ({error})")),
    }
}

pub(super) fn changes_from_bytes(bytes: &[u8]) -> Result<Vec<ProvenChange>, String> {
    let changes: Vec<ProvenChange> = from_bytes(bytes)?;
    if changes.len() > BUNDLE_CHANGES_MAX {
        return Err(format!(
            "it holds {} changes of keys; at most {BUNDLE_CHANGES_MAX} are kept",
            changes.len()
        ));
    }
    Ok(changes)
}
