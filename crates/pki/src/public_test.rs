//! The public port, from outside: what strangers get, how much of it, and that nobody in between learns a secret.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use haltline_core::{ids::NodeId, time::Millis};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, service::interceptor::InterceptedService, transport::Server};

use crate::{
    ClusterPki, Endpoint, JoinToken, Mistrust, PeerIdentity, PortLimits, PublicCaller, PublicLimits,
    PublicListening, PublicTls, RefusedBecause, Role, Roles, SourceLimits, Subject, TlsFailure, TlsIdentity,
    TrustBundle, TrustedNode, Unverified, Validity, listen_public,
    test_cluster::{TestServer, call, cluster, dialer, edge, expired, loopback, person, wait_for},
    tls_key::TlsKey,
    verify,
};

/// A public port with a service that notes who calls.
struct PublicServer {
    listening: PublicListening,
    address: SocketAddr,
    callers: Arc<Mutex<Vec<PublicCaller>>>,
    shutdown: CancellationToken,
}

impl Drop for PublicServer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl PublicServer {
    async fn start(tls: &TlsIdentity, limits: PublicLimits) -> Self {
        let shutdown = CancellationToken::new();
        let public = PublicTls::new(tls).unwrap();
        let (incoming, listening) = listen_public(loopback().await, public, limits, &shutdown);
        let callers = Arc::new(Mutex::new(Vec::new()));
        let seen = callers.clone();
        let (_, health) = tonic_health::server::health_reporter();
        let service = InterceptedService::new(health, move |request: Request<()>| {
            assert_eq!(request.extensions().get::<PeerIdentity>(), None);
            let caller = request.extensions().get::<PublicCaller>();
            seen.lock().push(*caller.ok_or_else(|| Status::internal("no caller"))?);
            Ok(request)
        });
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        let address = listening.local_addr().unwrap();
        Self { listening, address, callers, shutdown }
    }

    fn endpoint(&self) -> Endpoint {
        self.address.into()
    }

    async fn refused(&self, expected: RefusedBecause) {
        wait_for(&format!("{expected:?}"), || {
            self.listening.refusals().iter().any(|refused| refused.because == expected)
        })
        .await;
    }
}

fn token(cluster: &ClusterPki) -> JoinToken {
    JoinToken::generate(cluster.bundle(), &["localhost:7004".parse().unwrap()]).unwrap()
}

fn mistrust(contact: Unverified, bundle: &TrustBundle, token: &JoinToken) -> Mistrust {
    contact.verify(&bundle.to_json(), token).unwrap_err()
}

#[tokio::test]
async fn who_joins_believes_a_node_of_the_bundle_that_the_token_pins() {
    let cluster = cluster(Validity::leaf());
    let token = token(&cluster);
    let server = PublicServer::start(cluster.nodes()[1].tls(), PublicLimits::default()).await;
    let contact = Unverified::connect(&server.endpoint()).await.unwrap();
    call(contact.channel()).await.unwrap();
    let verified = contact.verify(&cluster.bundle().to_json(), &token).unwrap();
    assert_eq!((verified.node, &verified.bundle), (NodeId(2), cluster.bundle()));
    call(verified.channel).await.unwrap();

    let callers = server.callers.lock().clone();
    assert_eq!(callers.len(), 2);
    assert_eq!(callers[0], callers[1], "one connection");
    let counters = server.listening.counters();
    assert_eq!((counters.accepted, counters.established, counters.open), (1, 1, 1));
}

#[tokio::test]
async fn an_answer_that_does_not_fit_the_token_is_not_believed() {
    let (ours, theirs) = (cluster(Validity::leaf()), cluster(Validity::leaf()));
    let token = token(&ours);
    let server = PublicServer::start(ours.nodes()[0].tls(), PublicLimits::default()).await;
    let contact = || async { Unverified::connect(&server.endpoint()).await.unwrap() };

    let got = contact().await.verify("{}", &token).unwrap_err();
    assert_eq!(got.code(), "JOIN_BUNDLE_MALFORMED");
    let got = contact().await.verify(&" ".repeat(1 << 20), &token).unwrap_err();
    assert_eq!(got.code(), "JOIN_BUNDLE_MALFORMED");
    let got = mistrust(contact().await, theirs.bundle(), &token);
    assert!(matches!(got, Mistrust::OtherCluster { expected, got }
        if expected == ours.cluster() && got == theirs.cluster()));
    // The cluster's id under other roots: what a thief of the name would hand out.
    let forged = TrustBundle::new(
        ours.cluster(),
        ours.bundle().version(),
        theirs.bundle().roots().to_vec(),
        theirs.bundle().nodes().clone(),
    );
    let got = mistrust(contact().await, &forged.unwrap(), &token);
    assert_eq!(got.code(), "JOIN_OTHER_BUNDLE");
    assert!(got.to_string().contains("new token"), "{got}");
}

/// Somebody in between: ends TLS with a chain of their own and writes down everything that is said.
async fn eavesdropper(tls: &TlsIdentity) -> (Endpoint, Arc<Mutex<Vec<u8>>>) {
    let listener = loopback().await;
    let endpoint = Endpoint::from(listener.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let config = PublicTls::new(tls).unwrap().0.config_for(verify::Verdict::default()).unwrap();
    let notes = heard.clone();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (config, notes) = (config.clone(), notes.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = TlsAcceptor::from(config).accept(tcp).await else { return };
                // An empty SETTINGS frame, the first word of an HTTP/2 server.
                stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
                let mut chunk = [0; 4_096];
                while let Ok(read @ 1..) = stream.read(&mut chunk).await {
                    notes.lock().extend_from_slice(&chunk[..read]);
                }
            });
        }
    });
    (endpoint, heard)
}

/// What an honest enforcer does, with the bundle that whoever answers hands out.
async fn join(endpoint: &Endpoint, bundle: &TrustBundle, token: &JoinToken) -> Result<(), Mistrust> {
    let contact = Unverified::connect(endpoint).await.unwrap();
    let asking = contact.channel();
    tokio::spawn(async move { call(asking).await });
    let verified = contact.verify(&bundle.to_json(), token)?;
    let mut request = Request::new(tonic_health::pb::HealthCheckRequest {
        service: format!("{:?}", token.secret().expose()),
    });
    request
        .metadata_mut()
        .insert_bin("secret-bin", tonic::metadata::MetadataValue::from_bytes(token.secret().expose()));
    let mut client = tonic_health::pb::health_client::HealthClient::new(verified.channel);
    let _ = tokio::time::timeout(Duration::from_secs(10), client.check(request)).await;
    Ok(())
}

fn contains(heard: &[u8], secret: &[u8]) -> bool {
    heard.windows(secret.len()).any(|window| window == secret)
}

#[tokio::test]
async fn somebody_in_between_learns_no_secret() {
    let (ours, theirs) = (cluster(Validity::leaf()), cluster(Validity::leaf()));
    let token = token(&ours);
    let shown = format!("{:?}", token.secret().expose());
    // Impostors with every kind of chain that can be had without the key of a node, each handing on the true bundle.
    let chain_of = |subject: Subject| {
        let key = TlsKey::generate().unwrap();
        let root = crate::issuer::CertificateAuthority::root(ours.cluster(), Validity::leaf()).unwrap();
        let issuers = crate::Issuers::create(&root, ours.cluster(), Validity::leaf()).unwrap();
        let chain = issuers.issue(&subject, &[], &key.public_key_info(), Validity::leaf()).unwrap();
        TlsIdentity::new(chain, Arc::new(key)).unwrap()
    };
    let removed = {
        let key = TlsKey::generate().unwrap();
        let subject = Subject::Node(NodeId(9));
        let chain = ours.issuers().issue(&subject, &[], &key.public_key_info(), Validity::leaf()).unwrap();
        TlsIdentity::new(chain, Arc::new(key)).unwrap()
    };
    for (impostor, code) in [
        (theirs.nodes()[0].tls().clone(), "tls_peer_foreign"),
        (chain_of(Subject::Node(NodeId(1))), "tls_peer_untrusted"),
        (removed, "tls_peer_unregistered"),
        (edge(&ours, "rack-7", Validity::leaf()).tls().clone(), "tls_peer_wrong_role"),
        (person(&ours, Validity::leaf()).tls().clone(), "tls_peer_wrong_role"),
    ] {
        let (endpoint, heard) = eavesdropper(&impostor).await;
        match join(&endpoint, ours.bundle(), &token).await.unwrap_err() {
            Mistrust::Server(failure) => assert_eq!(failure.code(), code, "{failure}"),
            other => panic!("{other:?}"),
        }
        wait_for("the question that anybody may hear", || contains(&heard.lock(), b"PRI * HTTP/2.0")).await;
        assert!(
            !contains(&heard.lock(), shown.as_bytes()) && !contains(&heard.lock(), token.secret().expose())
        );
    }
    // The same ears do hear the secret where it is sent: with a node's own key it is no impostor.
    let (endpoint, heard) = eavesdropper(ours.nodes()[0].tls()).await;
    tokio::time::timeout(Duration::from_secs(30), async {
        tokio::select! {
            joined = join(&endpoint, ours.bundle(), &token) => panic!("the eavesdropper never answers: {joined:?}"),
            () = wait_for("the secret", || contains(&heard.lock(), shown.as_bytes())) => {}
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_copied_chain_without_its_key_gets_no_connection() {
    let ours = cluster(Validity::leaf());
    let key = TlsKey::generate().unwrap();
    let chain = ours.nodes()[0].tls().chain().to_vec();
    let certified = rustls::sign::CertifiedKey::new(chain, key.for_rustls().unwrap());
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let mut config = rustls::ServerConfig::builder_with_provider(verify::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = loopback().await;
    let endpoint = Endpoint::from(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let _ = TlsAcceptor::from(Arc::new(config)).accept(tcp).await;
    });
    let failure = Unverified::connect(&endpoint).await.unwrap_err();
    assert_eq!(failure.code(), "tls_peer_malformed", "{failure}");
}

#[tokio::test]
async fn a_verified_channel_is_never_connected_anew() {
    let cluster = cluster(Validity::leaf());
    let token = token(&cluster);
    let limits = PublicLimits { lifetime: Millis(60_000), ..PublicLimits::default() };
    let server = PublicServer::start(cluster.nodes()[0].tls(), limits).await;
    let contact = Unverified::connect(&server.endpoint()).await.unwrap();
    let channel = contact.verify(&cluster.bundle().to_json(), &token).unwrap().channel;
    call(channel.clone()).await.unwrap();
    let port = &server.listening.0.0;
    port.expire_at(tokio::time::Instant::now());
    assert_eq!(server.listening.counters().closed_by_recheck, 0);
    port.expire_at(tokio::time::Instant::now() + Duration::from_secs(61));
    assert_eq!(server.listening.counters().closed_by_recheck, 1);
    wait_for("the connection to be closed", || server.listening.counters().open == 0).await;
    for _ in 0..3 {
        call(channel.clone()).await.unwrap_err();
    }
    assert_eq!(server.listening.counters().accepted, 1, "no second connection");
    let status = call(channel).await.unwrap_err();
    let failure = TlsFailure::find(&status).unwrap();
    assert!(failure.to_string().contains("begin anew"), "{failure}");
}

#[tokio::test]
async fn clocks_count_at_first_contact_too() {
    let cluster = cluster(expired());
    let token = token(&cluster);
    let server = PublicServer::start(cluster.nodes()[0].tls(), PublicLimits::default()).await;
    let contact = Unverified::connect(&server.endpoint()).await.unwrap();
    match mistrust(contact, cluster.bundle(), &token) {
        Mistrust::Server(failure) => assert_eq!(failure.code(), "tls_peer_expired"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_port_that_asks_for_certificates_says_so_at_first_contact() {
    let cluster = cluster(Validity::leaf());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EDGES, PortLimits::default()).await;
    let failure = Unverified::connect(&server.endpoint()).await.unwrap_err();
    assert_eq!(failure, TlsFailure::OwnMissing);
    let gone = loopback().await;
    let endpoint = Endpoint::from(gone.local_addr().unwrap());
    drop(gone);
    assert_eq!(Unverified::connect(&endpoint).await.unwrap_err().code(), "tls_unreachable");
    let silent = loopback().await;
    let endpoint = Endpoint::from(silent.local_addr().unwrap());
    let failure = Unverified::connect_within(&endpoint, Millis(20)).await.unwrap_err();
    assert_eq!(failure, TlsFailure::Timeout { address: endpoint.to_string(), timeout_ms: 20 });
}

#[tokio::test]
async fn a_certificate_shown_to_a_public_port_proves_nothing_there() {
    let cluster = cluster(Validity::leaf());
    let server = PublicServer::start(cluster.nodes()[0].tls(), PublicLimits::default()).await;
    let person = person(&cluster, Validity::leaf());
    // The server didn't ask, so the certificate isn't even sent; the service sees a caller without a name.
    call(dialer(person.tls(), cluster.bundle()).connect(&server.endpoint()).await.unwrap()).await.unwrap();
    assert_eq!(server.callers.lock().len(), 1);
    assert_eq!(server.listening.0.peers(), []);
}

#[tokio::test]
async fn a_source_that_is_too_fast_is_refused_and_the_port_stays_open_for_others() {
    let cluster = cluster(Validity::leaf());
    let sources = SourceLimits { burst: 2, refill: Millis(600_000), ..SourceLimits::default() };
    let limits = PublicLimits { sources, ..PublicLimits::default() };
    let server = PublicServer::start(cluster.nodes()[0].tls(), limits).await;
    for _ in 0..2 {
        call(Unverified::connect(&server.endpoint()).await.unwrap().channel()).await.unwrap();
    }
    let failure = Unverified::connect(&server.endpoint()).await.unwrap_err();
    assert!(failure.is_transient(), "{failure}");
    server.refused(RefusedBecause::SourceRate { burst: 2, refill_ms: 600_000 }).await;
    assert_eq!(server.listening.counters().refused_source, 1);

    // Another address of this machine is another source.
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.3:0".parse().unwrap()).unwrap();
    let _other = other.connect(server.address).await.unwrap();
    wait_for("the other source", || server.listening.counters().accepted == 4).await;
    assert_eq!(server.listening.counters().refused_source, 1);
}

#[tokio::test]
async fn a_source_holds_so_many_connections_and_no_more() {
    let cluster = cluster(Validity::leaf());
    let sources = SourceLimits { open_max: 1, ..SourceLimits::default() };
    let limits = PublicLimits { sources, ..PublicLimits::default() };
    let server = PublicServer::start(cluster.nodes()[0].tls(), limits).await;
    let held = Unverified::connect(&server.endpoint()).await.unwrap();
    Unverified::connect(&server.endpoint()).await.unwrap_err();
    server.refused(RefusedBecause::SourceConnections { max: 1 }).await;
    drop(held);
    wait_for("the connection to end", || server.listening.counters().open == 0).await;
    Unverified::connect(&server.endpoint()).await.unwrap();
}

#[tokio::test]
async fn the_bounds_of_every_port_hold_for_a_public_one() {
    let cluster = cluster(Validity::leaf());
    let port =
        PortLimits { handshake_timeout: Millis(20), handshakes_max: 1, ..PublicLimits::default().port };
    let limits = PublicLimits { port, ..PublicLimits::default() };
    let server = PublicServer::start(cluster.nodes()[0].tls(), limits).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    server.refused(RefusedBecause::HandshakeTimeout { timeout_ms: 20 }).await;
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0, "closed without a word");
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    server.refused(TlsFailure::NotTls.into()).await;
    let renewed = cluster.nodes()[0].renewed(Validity::leaf()).unwrap();
    server.listening.rotate(PublicTls::new(renewed.tls()).unwrap());
    call(Unverified::connect(&server.endpoint()).await.unwrap().channel()).await.unwrap();
}

#[tokio::test]
async fn a_node_whose_key_the_bundle_does_not_list_is_not_believed() {
    let cluster = cluster(Validity::leaf());
    let [one, two] = cluster.nodes() else { panic!("two nodes") };
    // The bundle lists node 1 with the key of node 2.
    let swapped = TrustedNode { tls_key: two.tls().leaf().key_hash, ..one.trusted() };
    let bundle = TrustBundle::new(
        cluster.cluster(),
        cluster.bundle().version(),
        cluster.bundle().roots().to_vec(),
        [(NodeId(1), swapped)].into(),
    )
    .unwrap();
    let token = JoinToken::generate(&bundle, &["localhost:1".parse().unwrap()]).unwrap();
    let server = PublicServer::start(one.tls(), PublicLimits::default()).await;
    let contact = Unverified::connect(&server.endpoint()).await.unwrap();
    match mistrust(contact, &bundle, &token) {
        Mistrust::Server(failure) => assert_eq!(failure.code(), "tls_peer_unregistered"),
        other => panic!("{other:?}"),
    }
    assert_eq!(one.tls().leaf().subject.role(), Role::Node);
}
