//! Hubs on loopback with real TLS, whose words a test decides.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{net::Ipv4Addr, path::Path, pin::Pin, sync::Arc, time::Duration};

use haltline_core::ids::{EventSeq, NodeId};
use haltline_pki::{
    CertificateAlone, EdgeIdentity, EdgeRequest, Endpoint, JoinToken, KnownHub, PendingEdge, PortLimits,
    PublicLimits, PublicTls, Roles, ServerTls, Validity, listen, listen_public,
};
use haltline_wire::v1::{
    self,
    edge_message::Message as Says,
    edge_service_server::{EdgeService, EdgeServiceServer},
    hub_message::Message as Tells,
};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::client::fake_hub::{EDGE, FakeHub, bundle, chunks, cluster, hub_message, node};

/// The log of the cluster, which all its hubs serve.
#[derive(Debug, Clone)]
pub(crate) struct Log(Arc<watch::Sender<FakeHub>>);

impl Log {
    pub(crate) fn founded() -> Self {
        Self(Arc::new(watch::Sender::new(FakeHub::founded(1))))
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut FakeHub)) {
        self.0.send_modify(change);
    }

    pub(crate) fn now(&self) -> FakeHub {
        self.0.borrow().clone()
    }
}

/// Turns what an honest hub would say into what this one says; `None` is nothing.
pub(crate) type Twist = Box<dyn Fn(v1::HubMessage) -> Option<v1::HubMessage> + Send + Sync>;

/// What a test looks at and turns.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) hellos: Vec<v1::Hello>,
    pub(crate) applied: Vec<v1::EdgeApplied>,
    pub(crate) probes: usize,
    pub(crate) snapshots: usize,
    pub(crate) renewals: usize,
    /// Secrets of join tokens that were shown to this hub.
    pub(crate) secrets: usize,
    /// Streams that ended in order.
    pub(crate) farewells: usize,
    pub(crate) twist: Option<Twist>,
}

/// One hub. Stops when dropped.
pub(crate) struct TestHub {
    pub(crate) node: NodeId,
    pub(crate) endpoint: Endpoint,
    pub(crate) seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
}

impl Drop for TestHub {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn loopback() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

impl TestHub {
    /// The edge port of a node.
    pub(crate) async fn start(id: u64, log: &Log) -> Self {
        let identity = cluster().nodes().iter().find(|node| node.id() == NodeId(id)).unwrap();
        let tls = ServerTls::new(identity.tls(), identity.bundle(), Roles::EDGES, Arc::new(CertificateAlone))
            .unwrap();
        let stop = CancellationToken::new();
        let (incoming, listening) = listen(loopback().await, tls, PortLimits::default(), &stop);
        let (service, seen) = Service::new(id, log, &stop);
        let served = Server::builder().add_service(EdgeServiceServer::new(service));
        tokio::spawn(served.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()));
        let endpoint: Endpoint = listening.local_addr().unwrap().into();
        Self { node: NodeId(id), endpoint, seen, stop }
    }

    /// The public port of a node.
    pub(crate) async fn start_public(id: u64, log: &Log) -> Self {
        let identity = cluster().nodes().iter().find(|node| node.id() == NodeId(id)).unwrap();
        Self::start_public_showing(id, log, &PublicTls::new(identity.tls()).unwrap()).await
    }

    /// A public port that shows somebody's certificate.
    pub(crate) async fn start_public_showing(id: u64, log: &Log, tls: &PublicTls) -> Self {
        let stop = CancellationToken::new();
        let (incoming, listening) =
            listen_public(loopback().await, tls.clone(), PublicLimits::default(), &stop);
        let (service, seen) = Service::new(id, log, &stop);
        let served = Server::builder().add_service(EdgeServiceServer::new(service));
        tokio::spawn(served.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()));
        let endpoint: Endpoint = listening.local_addr().unwrap().into();
        Self { node: NodeId(id), endpoint, seen, stop }
    }

    pub(crate) fn twist(
        &self,
        twist: impl Fn(v1::HubMessage) -> Option<v1::HubMessage> + Send + Sync + 'static,
    ) {
        self.seen.lock().twist = Some(Box::new(twist));
    }

    /// As the cluster tells of it, in a region.
    pub(crate) fn known(&self, region: &str) -> KnownHub {
        KnownHub { endpoint: self.endpoint.clone().expecting(self.node), region: region.into() }
    }
}

/// An identity for the enforcer under test, saved there.
pub(crate) fn enrolled(directory: &Path, hubs: Vec<KnownHub>, validity: Validity) -> EdgeIdentity {
    let pending = PendingEdge::open(directory).unwrap();
    let request = EdgeRequest::parse(pending.request()).unwrap();
    let name = EDGE.parse().unwrap();
    let chain = cluster().issuers().issue_edge(&name, &request, validity).unwrap();
    let identity = pending.complete(&name, &chain, bundle(), hubs).unwrap();
    identity.save_public(directory).unwrap();
    identity
}

pub(crate) fn join_token(public: &[&TestHub]) -> JoinToken {
    let endpoints: Vec<_> = public.iter().map(|hub| hub.endpoint.clone()).collect();
    JoinToken::generate(&bundle(), &endpoints).unwrap()
}

/// Waits for a condition; gives up, loudly, after a time that no working machine needs.
pub(crate) async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let polling = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(30), polling).await.is_err() {
        panic!("never saw {what}");
    }
}

struct Service {
    id: u64,
    log: Log,
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    fn new(id: u64, log: &Log, stop: &CancellationToken) -> (Self, Arc<Mutex<Seen>>) {
        let seen = Arc::new(Mutex::new(Seen::default()));
        (Self { id, log: log.clone(), seen: Arc::clone(&seen), stop: stop.clone() }, seen)
    }
}

#[tonic::async_trait]
impl EdgeService for Service {
    type SyncStream = Streamed<v1::HubMessage>;
    type FetchSnapshotStream = Streamed<v1::ViewChunk>;

    async fn get_trust_bundle(
        &self,
        _: Request<v1::GetTrustBundleRequest>,
    ) -> Result<Response<v1::GetTrustBundleResponse>, Status> {
        Ok(Response::new(v1::GetTrustBundleResponse { trust_bundle: bundle().to_json() }))
    }

    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        self.seen.lock().secrets += 1;
        let request = EdgeRequest::parse(&request.into_inner().certificate_request).unwrap();
        let chain =
            cluster().issuers().issue_edge(&EDGE.parse().unwrap(), &request, Validity::leaf()).unwrap();
        Ok(Response::new(v1::EnrollResponse {
            name: EDGE.into(),
            certificate_chain: chain,
            trust_bundle: bundle().to_json(),
            hubs: vec![v1::HubEndpoint {
                node: self.id,
                address: "127.0.0.1:7403".into(),
                region: "eu".into(),
            }],
            relay: false,
        }))
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        self.seen.lock().renewals += 1;
        let request = EdgeRequest::parse(&request.into_inner().certificate_request).unwrap();
        let chain =
            cluster().issuers().issue_edge(&EDGE.parse().unwrap(), &request, Validity::leaf()).unwrap();
        Ok(Response::new(v1::RenewCertificateResponse { certificate_chain: chain }))
    }

    async fn sync(
        &self,
        request: Request<Streaming<v1::EdgeMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let (tell, told) = mpsc::channel(64);
        let conversation = Conversation {
            id: self.id,
            log: self.log.0.subscribe(),
            seen: Arc::clone(&self.seen),
            tell,
            at: EventSeq(0),
        };
        let (stop, says) = (self.stop.clone(), request.into_inner());
        tokio::spawn(async move { stop.run_until_cancelled(conversation.run(says)).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }

    async fn fetch_snapshot(
        &self,
        _: Request<v1::FetchSnapshotRequest>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        self.seen.lock().snapshots += 1;
        let snapshot = self.log.now().snapshot_by(node(self.id));
        let chunks: Vec<_> = chunks(&snapshot, 64).into_iter().map(Ok).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}

/// One stream.
struct Conversation {
    id: u64,
    log: watch::Receiver<FakeHub>,
    seen: Arc<Mutex<Seen>>,
    tell: mpsc::Sender<Result<v1::HubMessage, Status>>,
    at: EventSeq,
}

impl Conversation {
    async fn run(mut self, mut says: Streaming<v1::EdgeMessage>) {
        let Ok(Some(v1::EdgeMessage { message: Some(Says::Hello(hello)) })) = says.message().await else {
            return;
        };
        let log = self.log.borrow_and_update().clone();
        let held = EventSeq(hello.event_seq);
        let is_on_chain = held == EventSeq(0)
            || log.events.iter().any(|(_, _, at)| at.seq == held && at.head.0[..] == hello.chain_head[..]);
        self.seen.lock().hellos.push(hello);
        if !is_on_chain {
            let reason = v1::snapshot_needed::Reason::OtherChain.into();
            let needed = v1::SnapshotNeeded { reason, index: log.index.0 };
            self.say(hub_message(Tells::SnapshotNeeded(needed))).await;
            return;
        }
        self.at = held;
        let mut welcome = log.welcome();
        if let Some(Tells::Welcome(welcome)) = &mut welcome.message {
            welcome.node = self.id;
        }
        self.say(welcome).await;
        self.catch_up().await;
        loop {
            tokio::select! {
                changed = self.log.changed() => {
                    if changed.is_err() { return }
                    self.catch_up().await;
                }
                message = says.message() => match message {
                    Ok(Some(message)) => self.hear(message).await,
                    Ok(None) => {
                        self.seen.lock().farewells += 1;
                        return;
                    }
                    Err(_) => return,
                },
            }
        }
    }

    async fn hear(&mut self, message: v1::EdgeMessage) {
        match message.message {
            Some(Says::Probe(probe)) => {
                self.seen.lock().probes += 1;
                self.catch_up().await;
                let fresh = self.log.borrow().fresh_by(node(self.id), &probe, EDGE);
                self.say(hub_message(Tells::Fresh(fresh))).await;
            }
            Some(Says::Applied(applied)) => self.seen.lock().applied.push(applied),
            _ => {}
        }
    }

    async fn catch_up(&mut self) {
        let log = self.log.borrow_and_update().clone();
        if log.position().seq > self.at {
            self.say(hub_message(Tells::Frame(log.frame_after(self.at)))).await;
            self.at = log.position().seq;
        }
    }

    async fn say(&self, message: v1::HubMessage) {
        let twisted = {
            let seen = self.seen.lock();
            match &seen.twist {
                Some(twist) => twist(message),
                None => Some(message),
            }
        };
        if let Some(message) = twisted {
            // An enforcer that went away hears nothing more.
            let _ = self.tell.send(Ok(message)).await;
        }
    }
}
