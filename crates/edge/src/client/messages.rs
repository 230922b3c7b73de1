//! What a hub says, checked for form: lengths, ranges and required fields. What it means is the protocol's business.

use bytes::Bytes;
use haltline_core::{
    attest::{Fresh, ProofLayer, SnapshotStatement},
    command::Signature,
    ids::{ClusterId, Digest, EventSeq, Incarnation, LogIndex, NodeId, Nonce},
    limits::{HUB_ACK_AFTER_MAX, HUBS_MAX, MERKLE_LEAVES_MAX, PATH_SEGMENT_BYTES_MAX, PROOF_LAYERS_MAX},
    time::{ClusterTime, Millis, WallTime},
};
use haltline_pki::{Endpoint, KnownHub};
use haltline_wire::v1;

use super::refusal::SyncRefusal;

/// Hashes in the longest path that there can be.
const MERKLE_PATH_MAX: usize = MERKLE_LEAVES_MAX.ilog2() as usize + 1;

/// One message of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FromHub {
    Welcome(Welcome),
    Frame(Frame),
    Fresh(Fresh),
    SnapshotNeeded(SnapshotNeeded),
    Hubs(Vec<KnownHub>),
    /// Of a later version. Events that came in it would be missed by the next frame, so it may be passed over.
    Unknown,
}

/// The hub's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) node: NodeId,
    pub(crate) cluster: ClusterId,
    pub(crate) incarnation: Incarnation,
    pub(crate) index: LogIndex,
    pub(crate) probe_interval_min: Millis,
}

/// Events, as bytes: the chain is over these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) index: LogIndex,
    pub(crate) first: EventSeq,
    pub(crate) events: Vec<Bytes>,
    pub(crate) head: Digest,
    /// How long the hub wants to wait for the acknowledgement.
    pub(crate) ack_after: Millis,
}

/// Why a hub can't go on from where the enforcer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Because {
    TooFarBehind,
    OtherIncarnation,
    OtherChain,
    AheadOfHub,
}

/// The hub can't go on from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotNeeded {
    pub(crate) because: Because,
    pub(crate) index: LogIndex,
}

/// What a snapshot says of itself, and who signed that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ViewHeader {
    pub(crate) statement: SnapshotStatement,
    pub(crate) node: NodeId,
    pub(crate) signature: Signature,
    pub(crate) body_bytes: u64,
}

fn fixed<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], SyncRefusal> {
    let malformed = |_| SyncRefusal::Malformed { field, why: format!("{} bytes, expected {N}", bytes.len()) };
    bytes.try_into().map_err(malformed)
}

fn malformed(field: &'static str, why: impl Into<String>) -> SyncRefusal {
    SyncRefusal::Malformed { field, why: why.into() }
}

impl FromHub {
    /// Checks a message's form.
    pub(crate) fn read(message: v1::HubMessage) -> Result<Self, SyncRefusal> {
        use v1::hub_message::Message;
        match message.message {
            Some(Message::Welcome(welcome)) => Welcome::read(&welcome).map(Self::Welcome),
            Some(Message::Frame(frame)) => Frame::read(frame).map(Self::Frame),
            Some(Message::Fresh(fresh)) => read_fresh(&fresh).map(Self::Fresh),
            Some(Message::SnapshotNeeded(needed)) => SnapshotNeeded::read(needed).map(Self::SnapshotNeeded),
            Some(Message::Hubs(hubs)) => read_hubs(&hubs.hubs).map(Self::Hubs),
            None => Ok(Self::Unknown),
        }
    }
}

impl Welcome {
    fn read(welcome: &v1::Welcome) -> Result<Self, SyncRefusal> {
        Ok(Self {
            node: NodeId(welcome.node),
            cluster: ClusterId(fixed(&welcome.cluster_id, "welcome.cluster_id")?),
            incarnation: Incarnation(welcome.incarnation),
            index: LogIndex(welcome.index),
            probe_interval_min: Millis(welcome.probe_interval_ms_min.into()),
        })
    }
}

impl Frame {
    fn read(frame: v1::Frame) -> Result<Self, SyncRefusal> {
        Ok(Self {
            index: LogIndex(frame.index),
            first: EventSeq(frame.first_event_seq),
            events: frame.events,
            head: Digest(fixed(&frame.chain_head, "frame.chain_head")?),
            ack_after: Millis(frame.ack_after_ms.into()).min(HUB_ACK_AFTER_MAX),
        })
    }
}

fn read_fresh(fresh: &v1::Fresh) -> Result<Fresh, SyncRefusal> {
    if fresh.layers.len() > PROOF_LAYERS_MAX {
        let why = format!("{} layers, expected at most {PROOF_LAYERS_MAX}", fresh.layers.len());
        return Err(malformed("fresh.layers", why));
    }
    Ok(Fresh {
        nonce: Nonce(fixed(&fresh.nonce, "fresh.nonce")?),
        index: LogIndex(fresh.index),
        event_seq: EventSeq(fresh.event_seq),
        chain_head: Digest(fixed(&fresh.chain_head, "fresh.chain_head")?),
        cluster_time: ClusterTime(fresh.cluster_time_ms),
        node: NodeId(fresh.node),
        signature: Signature(fixed(&fresh.signature, "fresh.signature")?),
        layers: fresh.layers.iter().map(read_layer).collect::<Result<_, _>>()?,
    })
}

fn read_layer(layer: &v1::ProofLayer) -> Result<ProofLayer, SyncRefusal> {
    let (digests, rest) = layer.path.as_chunks::<32>();
    if !rest.is_empty() || digests.len() > MERKLE_PATH_MAX {
        let why = format!("{} bytes, expected up to {MERKLE_PATH_MAX} hashes of 32", layer.path.len());
        return Err(malformed("fresh.layers.path", why));
    }
    let name = layer.name.parse().map_err(|_| malformed("fresh.layers.name", "it is no enforcer's name"))?;
    let path = digests.iter().copied().map(Digest).collect();
    Ok(ProofLayer { name, position: layer.position, leaves: layer.leaves, path })
}

impl SnapshotNeeded {
    fn read(needed: v1::SnapshotNeeded) -> Result<Self, SyncRefusal> {
        use v1::snapshot_needed::Reason;
        let because = match needed.reason() {
            Reason::TooFarBehind => Because::TooFarBehind,
            Reason::OtherIncarnation => Because::OtherIncarnation,
            Reason::OtherChain => Because::OtherChain,
            Reason::AheadOfHub => Because::AheadOfHub,
            Reason::Unspecified => {
                return Err(malformed("snapshot_needed.reason", format!("{} is no reason", needed.reason)));
            }
        };
        Ok(Self { because, index: LogIndex(needed.index) })
    }
}

/// Hubs as messages tell of them.
pub(crate) fn read_hubs(hubs: &[v1::HubEndpoint]) -> Result<Vec<KnownHub>, SyncRefusal> {
    if hubs.len() > HUBS_MAX {
        return Err(malformed("hubs", format!("{} hubs, expected at most {HUBS_MAX}", hubs.len())));
    }
    let read = |hub: &v1::HubEndpoint| {
        let endpoint: Endpoint =
            hub.address.parse().map_err(|_| malformed("hubs.address", "it is no HOST:PORT"))?;
        if hub.region.len() > PATH_SEGMENT_BYTES_MAX {
            return Err(malformed("hubs.region", format!("{} bytes", hub.region.len())));
        }
        Ok(KnownHub { endpoint: endpoint.expecting(NodeId(hub.node)), region: hub.region.clone() })
    };
    hubs.iter().map(read).collect()
}

impl ViewHeader {
    /// A header for an enforcer of this cluster: a snapshot of another has a signature over something else.
    pub(crate) fn read(header: &v1::ViewHeader, cluster_id: ClusterId) -> Result<Self, SyncRefusal> {
        let statement = SnapshotStatement {
            cluster_id,
            incarnation: Incarnation(header.incarnation),
            index: LogIndex(header.index),
            event_seq: EventSeq(header.event_seq),
            chain_head: Digest(fixed(&header.chain_head, "header.chain_head")?),
            body_sha256: Digest(fixed(&header.body_sha256, "header.body_sha256")?),
            cluster_time: ClusterTime(header.cluster_time_ms),
            wall_time: WallTime(header.wall_time_ms),
        };
        let signature = Signature(fixed(&header.signature, "header.signature")?);
        Ok(Self { statement, node: NodeId(header.node), signature, body_bytes: header.body_bytes })
    }
}
