//! Connections to the other nodes, and every call that is made over them.
//!
//! Three connections to each peer, opened when first used: what must never wait (heartbeats, votes, barriers), log
//! entries and forwarded batches, and snapshots. On one connection a large message would hold up the small ones behind
//! it, and a heartbeat that is late costs an election.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use haltline_core::{ids::NodeId, limits::RAFT_MESSAGE_BYTES_MAX, time::Millis};
use haltline_pki::{ClientTls, Dialer, Endpoint, TlsFailure};
use haltline_wire::raft::v1::raft_client::RaftClient;
use parking_lot::Mutex;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{
    error::StartError,
    options::{Member, Timing},
};

/// Metadata: the cluster that a call is meant for.
pub(crate) const CLUSTER_KEY: &str = "haltline-cluster";
/// Metadata: the node that a call is meant for.
pub(crate) const TO_KEY: &str = "haltline-to";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Heartbeats, votes, handovers, barriers.
    Control,
    /// Log entries and forwarded commands.
    Bulk,
    /// Snapshots.
    Snapshot,
}

/// A client for one lane to one peer.
pub(crate) type PeerClient = RaftClient<InterceptedService<Channel, Addressed>>;

/// Writes on every call whom it is meant for.
#[derive(Debug, Clone)]
pub(crate) struct Addressed {
    cluster: MetadataValue<Ascii>,
    to: MetadataValue<Ascii>,
}

impl Interceptor for Addressed {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(CLUSTER_KEY, self.cluster.clone());
        request.metadata_mut().insert(TO_KEY, self.to.clone());
        Ok(request)
    }
}

struct Connection {
    address: String,
    client: PeerClient,
}

/// The connections, shared by everything in this node that talks to peers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    me: NodeId,
    cluster: MetadataValue<Ascii>,
    dialer: Dialer,
    timing: Timing,
    routes: BTreeMap<NodeId, String>,
    connections: Mutex<HashMap<(NodeId, Lane), Connection>>,
}

impl Peers {
    pub(crate) fn new(
        me: NodeId,
        cluster: &str,
        dialer: Dialer,
        timing: Timing,
        routes: BTreeMap<NodeId, String>,
    ) -> Result<Self, StartError> {
        let cluster = MetadataValue::try_from(cluster)
            .map_err(|error| StartError::Tls { reason: error.to_string() })?;
        let patience = u64::try_from(timing.connect.as_millis()).unwrap_or(u64::MAX);
        let dialer = dialer.with_timeout(Millis(patience));
        let connections = Mutex::default();
        Ok(Self { shared: Arc::new(Shared { me, cluster, dialer, timing, routes, connections }) })
    }

    /// Shows another certificate from the next connection on.
    pub(crate) fn rotate(&self, tls: ClientTls) {
        self.shared.dialer.rotate(tls);
    }

    /// This node.
    pub(crate) fn me(&self) -> NodeId {
        self.shared.me
    }

    /// How patient to be.
    pub(crate) fn timing(&self) -> Timing {
        self.shared.timing
    }

    /// A client; connects when it is first used, and again whenever the connection breaks.
    pub(crate) fn client(&self, peer: NodeId, member: &Member, lane: Lane) -> Result<PeerClient, TlsFailure> {
        let address = self.shared.routes.get(&peer).unwrap_or(&member.raft_address);
        let mut connections = self.shared.connections.lock();
        if let Some(connection) = connections.get(&(peer, lane))
            && connection.address == *address
        {
            return Ok(connection.client.clone());
        }
        let client = self.open(peer, address)?;
        let connection = Connection { address: address.clone(), client: client.clone() };
        connections.insert((peer, lane), connection);
        Ok(client)
    }

    fn open(&self, peer: NodeId, address: &str) -> Result<PeerClient, TlsFailure> {
        let unreachable = |reason: String| TlsFailure::Unreachable { address: address.to_owned(), reason };
        let endpoint: Endpoint = address.parse().map_err(|error| unreachable(format!("{error}")))?;
        let to = MetadataValue::from(peer.0);
        let silence = self.shared.timing.append;
        let channel = self.shared.dialer.connect_lazy_tuned(&endpoint.expecting(peer), |tonic| {
            tonic
                .http2_keep_alive_interval(silence)
                .keep_alive_timeout(silence)
                .keep_alive_while_idle(true)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .tcp_nodelay(true)
        })?;
        let addressed = Addressed { cluster: self.shared.cluster.clone(), to };
        Ok(RaftClient::with_interceptor(channel, addressed)
            .max_decoding_message_size(RAFT_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(RAFT_MESSAGE_BYTES_MAX))
    }
}

/// Bytes of one call that may be on their way without the receiver having said that it can take more: a full batch.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// The same for a whole connection.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// Runs a call with an end to its patience.
pub(crate) async fn within<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(patience, call).await {
        Ok(result) => result,
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {} ms", patience.as_millis()))),
    }
}
