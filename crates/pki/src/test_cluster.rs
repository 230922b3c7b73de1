//! What the tests of this crate stand on: clusters, a registry that can forget, and real servers on loopback.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use haltline_core::ids::{KeyHash, NodeId, PersonId};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Server},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    Authority, CertificateAlone, ClientTls, ClusterPki, Dialer, EdgeIdentity, EdgeRequest, Endpoint,
    Listening, NewNode, NodeIdentity, PeerIdentity, PendingEdge, PersonIdentity, PortLimits, Refusal,
    RefusedBecause, Roles, ServerTls, Subject, TlsFailure, TlsIdentity, TrustBundle, UnixSeconds, Validity,
    listen,
};

/// A registry whose content a test decides.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<BTreeMap<KeyHash, Subject>>);

impl Registry {
    pub(crate) fn add(&self, tls: &TlsIdentity) {
        self.0.lock().insert(tls.leaf().key_hash, tls.leaf().subject.clone());
    }

    pub(crate) fn remove(&self, tls: &TlsIdentity) {
        self.0.lock().remove(&tls.leaf().key_hash);
    }
}

impl Authority for Registry {
    fn admit(&self, subject: &Subject, key_hash: &KeyHash) -> Result<(), Refusal> {
        match self.0.lock().get(key_hash) {
            Some(registered) if registered == subject => Ok(()),
            _ => Err(Refusal::Unregistered),
        }
    }
}

/// A validity that ended an hour ago.
pub(crate) fn expired() -> Validity {
    let now = UnixSeconds::now();
    Validity {
        not_before: now.minus(Duration::from_secs(7_200)),
        not_after: now.minus(Duration::from_secs(3_600)),
    }
}

pub(crate) fn ada() -> PersonId {
    "ada".parse().unwrap()
}

/// Two nodes, whose certificates are for localhost.
pub(crate) fn cluster(validity: Validity) -> ClusterPki {
    let node = |id| NewNode { id: NodeId(id), hosts: vec![format!("node-{id}.example.com")] };
    ClusterPki::create_valid(&[node(1), node(2)], validity).unwrap()
}

pub(crate) fn person(cluster: &ClusterPki, validity: Validity) -> PersonIdentity {
    cluster.create_person(&ada(), Vec::new(), validity).unwrap()
}

/// An enforcer that was issued a certificate; registering it is the test's business.
pub(crate) fn edge(cluster: &ClusterPki, name: &str, validity: Validity) -> EdgeIdentity {
    let pending = PendingEdge::create().unwrap();
    let name = name.parse().unwrap();
    let request = EdgeRequest::parse(pending.request()).unwrap();
    let chain = cluster.issuers().issue_edge(&name, &request, validity).unwrap();
    pending.complete(&name, &chain, cluster.bundle().clone(), Vec::new()).unwrap()
}

/// A gRPC server with one verified port; it remembers who called.
pub(crate) struct TestServer {
    pub(crate) listening: Listening,
    pub(crate) address: SocketAddr,
    pub(crate) registry: Arc<Registry>,
    pub(crate) callers: Arc<Mutex<Vec<PeerIdentity>>>,
    pub(crate) shutdown: CancellationToken,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) async fn loopback() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

impl TestServer {
    pub(crate) async fn start(node: &NodeIdentity, roles: Roles, limits: PortLimits) -> Self {
        Self::start_showing(node.tls(), node.bundle(), roles, limits).await
    }

    pub(crate) async fn start_showing(
        tls: &TlsIdentity,
        bundle: &TrustBundle,
        roles: Roles,
        limits: PortLimits,
    ) -> Self {
        let registry = Arc::new(Registry::default());
        let server_tls = ServerTls::new(tls, bundle, roles, registry.clone()).unwrap();
        let shutdown = CancellationToken::new();
        let (incoming, listening) = listen(loopback().await, server_tls, limits, &shutdown);
        let callers = Arc::new(Mutex::new(Vec::new()));
        let seen = callers.clone();
        let (_, health) = tonic_health::server::health_reporter();
        let service = InterceptedService::new(health, move |request: Request<()>| {
            let peer = request.extensions().get::<PeerIdentity>();
            seen.lock().push(peer.cloned().ok_or_else(|| Status::internal("no peer identity"))?);
            Ok(request)
        });
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        let address = listening.local_addr().unwrap();
        Self { listening, address, registry, callers, shutdown }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.address.into()
    }

    /// Waits until the port has refused a connection for exactly this reason.
    pub(crate) async fn refused(&self, expected: impl Into<RefusedBecause>) {
        let expected = expected.into();
        wait_for(&format!("{expected:?} among {:?}", self.listening), || {
            self.listening.refusals().iter().any(|refused| refused.because == expected)
        })
        .await;
    }
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

pub(crate) fn dialer(tls: &TlsIdentity, bundle: &TrustBundle) -> Dialer {
    Dialer::new(ClientTls::new(tls, bundle, Arc::new(CertificateAlone)).unwrap())
}

/// One health check, to see that a channel works.
pub(crate) async fn call(channel: Channel) -> Result<(), Status> {
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.map(|_| ())
}

/// Why a dial fails.
pub(crate) async fn failure(dialer: &Dialer, endpoint: &Endpoint) -> TlsFailure {
    match dialer.connect(endpoint).await {
        Ok(_) => panic!("the connection was accepted"),
        Err(failure) => failure,
    }
}
