//! Calls to the other nodes' [`PeerService`](v1::peer_service_client): when they are clear of a kill, and which
//! enforcers hang on them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use haltline_core::{
    ids::NodeId,
    limits::{API_RESPONSE_BYTES_MAX, PEER_CALL_TIMEOUT, PEER_RETRY},
    receipt::Fenced,
    time::Millis,
    tracker::{Cleared, WatchedKill},
};
use haltline_pki::{CertificateAlone, ClientTls, Dialer, Endpoint, NodeIdentity, PkiError};
use haltline_wire::v1::{self, peer_service_client::PeerServiceClient};
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Status, transport::Channel};

use super::progress::{MemberStanding, MemberState};

/// What a member said, or that it can't be asked now.
pub(super) enum Word {
    Standing(MemberStanding),
    Clear(Cleared),
}

/// The other nodes, as this one calls them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers {
    dialer: Dialer,
    channels: Arc<Mutex<BTreeMap<NodeId, (String, Channel)>>>,
}

impl Peers {
    pub(crate) fn new(identity: &NodeIdentity) -> Result<Self, PkiError> {
        let tls = ClientTls::new(identity.tls(), identity.bundle(), Arc::new(CertificateAlone))?;
        Ok(Self { dialer: Dialer::new(tls), channels: Arc::default() })
    }

    /// Shows a renewed certificate from the next connection on.
    pub(crate) fn rotate(&self, identity: &NodeIdentity) -> Result<(), PkiError> {
        self.dialer.rotate(ClientTls::new(identity.tls(), identity.bundle(), Arc::new(CertificateAlone))?);
        Ok(())
    }

    fn client(&self, node: NodeId, address: &str) -> Result<PeerServiceClient<Channel>, Status> {
        let mut channels = self.channels.lock();
        let channel = match channels.get(&node) {
            Some((known, channel)) if known == address => channel.clone(),
            _ => {
                let endpoint: Endpoint = address.parse().map_err(|_| {
                    Status::invalid_argument(format!("`{address}` of node {node} is no host:port"))
                })?;
                let channel = self.dialer.connect_lazy(&endpoint.expecting(node));
                let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
                channels.insert(node, (address.to_owned(), channel.clone()));
                channel
            }
        };
        Ok(PeerServiceClient::new(channel).max_decoding_message_size(API_RESPONSE_BYTES_MAX))
    }

    /// Which enforcers hang on a node.
    pub(crate) async fn streams(
        &self,
        node: NodeId,
        address: &str,
    ) -> Result<v1::ListStreamsResponse, Status> {
        let mut client = self.client(node, address)?;
        let call = client.list_streams(v1::ListStreamsRequest {});
        match timeout(Duration::from_millis(PEER_CALL_TIMEOUT.0), call).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded(format!("node {node} didn't answer in time"))),
        }
    }

    /// Asks a member until it is clear, again and again where it can't be reached.
    pub(super) async fn follow_clear(
        self,
        node: NodeId,
        address: String,
        kill: WatchedKill,
        tell: mpsc::Sender<(NodeId, Word)>,
    ) {
        loop {
            match self.clear_once(node, &address, &kill, &tell).await {
                Ok(Some(cleared)) => {
                    let _ = tell.send((node, Word::Clear(cleared))).await;
                    return;
                }
                Ok(None) => {}
                Err(status) => tracing::debug!(%node, %status, "a node can't say whether it is clear"),
            }
            if tell.send((node, Word::Standing(MemberStanding::default()))).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(PEER_RETRY.0)).await;
        }
    }

    async fn clear_once(
        &self,
        node: NodeId,
        address: &str,
        kill: &WatchedKill,
        tell: &mpsc::Sender<(NodeId, Word)>,
    ) -> Result<Option<Cleared>, Status> {
        let request = v1::WatchClearRequest {
            index: kill.index.0,
            selector: Some((&kill.selector).into()),
            max_staleness_ms: kill.max_staleness.0,
        };
        let mut reports = self.client(node, address)?.watch_clear(request).await?.into_inner();
        while let Some(report) = reports.message().await? {
            if report.node != node.0 {
                return Err(Status::new(
                    Code::Internal,
                    format!("node {} answers for node {node}", report.node),
                ));
            }
            if report.clear {
                return cleared(report).map(Some);
            }
            if tell.send((node, Word::Standing(standing(&report)))).await.is_err() {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

fn cleared(report: v1::ClearReport) -> Result<Cleared, Status> {
    let fenced: Result<Vec<Fenced>, _> = report.fenced.into_iter().map(Fenced::try_from).collect();
    let fenced = fenced.map_err(|error| Status::internal(format!("fenced: {error}")))?;
    Ok(Cleared { acked: report.acked, fenced })
}

fn standing(report: &v1::ClearReport) -> MemberStanding {
    let lagging = report.lagging.iter();
    let lagging = lagging.filter_map(|one| Some((one.name.parse().ok()?, Millis(one.lease_left_ms))));
    MemberStanding {
        state: MemberState::Waiting,
        acked: report.acked,
        waiting: report.waiting,
        lagging: lagging.collect(),
    }
}
