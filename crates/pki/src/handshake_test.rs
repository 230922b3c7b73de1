//! Every way in which two ends should or shouldn't talk, over real sockets, with the exact failure on both sides.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use haltline_core::{ids::NodeId, time::Millis};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    CertificateAlone, ClientTls, Dialer, Endpoint, PortLimits, Refusal, Role, Roles, ServerTls, Subject,
    TlsFailure, TlsIdentity, Validity,
    authority::Authority,
    certificate::LeafCertificate,
    test_cluster::{TestServer, ada, call, cluster, dialer, expired, failure, loopback, person, wait_for},
    tls_key::TlsKey,
    verify::{self, ChainVerifier, Expected, ServerVerifier, Verdict},
};

const NODE_1: Subject = Subject::Node(NodeId(1));
const NODE_2: Subject = Subject::Node(NodeId(2));

fn person_ada() -> Subject {
    Subject::Person(ada())
}

#[tokio::test]
async fn nodes_and_people_with_registered_keys_are_served_and_known_by_name() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, Validity::leaf());
    let [one, two] = cluster.nodes() else { panic!("two nodes") };
    let server = TestServer::start(one, Roles::EVERYONE, PortLimits::default()).await;
    for (tls, endpoint) in [
        (person.tls(), server.endpoint()),
        (two.tls(), server.endpoint().expecting(NodeId(1))),
        (person.tls(), format!("localhost:{}", server.address.port()).parse().unwrap()),
    ] {
        server.registry.add(tls);
        let channel = dialer(tls, cluster.bundle()).connect(&endpoint).await.unwrap();
        call(channel).await.unwrap();
        let caller = server.callers.lock().pop().unwrap();
        assert_eq!(caller.subject, tls.leaf().subject);
        assert_eq!(caller.key_hash, tls.leaf().key_hash);
        assert_eq!(caller.not_after, tls.leaf().validity.not_after);
    }
    assert_eq!(server.listening.counters().established, 3);
    assert_eq!(server.listening.refusals(), []);
}

#[tokio::test]
async fn nodes_find_each_other_by_the_trust_bundle_before_there_is_a_log() {
    let cluster = cluster(Validity::leaf());
    let [one, two] = cluster.nodes() else { panic!("two nodes") };
    let authority: Arc<dyn Authority> = Arc::new(cluster.bundle().clone());
    let server = TestServer::start(one, Roles::NODES, PortLimits::default()).await;
    server
        .listening
        .rotate(ServerTls::new(one.tls(), one.bundle(), Roles::NODES, authority.clone()).unwrap());
    let dialer = Dialer::new(ClientTls::new(two.tls(), two.bundle(), authority).unwrap());
    call(dialer.connect(&server.endpoint().expecting(NodeId(1))).await.unwrap()).await.unwrap();

    // A third node with a certificate of this cluster, but in no bundle, is nobody.
    let key = TlsKey::generate().unwrap();
    let subject = Subject::Node(NodeId(3));
    let chain = cluster.issuers().issue(&subject, &[], &key.public_key_info(), Validity::leaf()).unwrap();
    let three = TlsIdentity::new(chain, Arc::new(key)).unwrap();
    let key_hash = three.leaf().key_hash;
    let got = failure(&self::dialer(&three, cluster.bundle()), &server.endpoint()).await;
    assert_eq!(got, TlsFailure::OwnUnregistered { subject: subject.clone(), key_hash });
    let reason = Refusal::Unregistered;
    server.refused(TlsFailure::PeerUnregistered { subject, key_hash, reason }).await;
}

#[tokio::test]
async fn an_expired_client_is_told_to_renew() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, expired());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    server.registry.add(person.tls());
    let not_after = person.tls().leaf().validity.not_after;
    let got = failure(&dialer(person.tls(), cluster.bundle()), &server.endpoint()).await;
    assert_eq!(got, TlsFailure::OwnExpired { subject: person_ada(), not_after });
    server.refused(TlsFailure::PeerExpired { subject: person_ada(), not_after }).await;
    let text = got.to_string();
    assert!(
        text.contains("person ada") && text.contains(&not_after.to_string()) && text.contains("renew"),
        "{text}"
    );
}

#[tokio::test]
async fn an_expired_server_is_named_with_its_date() {
    let cluster = cluster(expired());
    let person = person(&cluster, Validity::leaf());
    let node = &cluster.nodes()[0];
    let server = TestServer::start(node, Roles::EVERYONE, PortLimits::default()).await;
    server.registry.add(person.tls());
    let not_after = node.tls().leaf().validity.not_after;
    let got = failure(&dialer(person.tls(), cluster.bundle()), &server.endpoint()).await;
    assert_eq!(got, TlsFailure::PeerExpired { subject: NODE_1, not_after });
    server.refused(TlsFailure::OwnExpired { subject: NODE_1, not_after }).await;
}

#[tokio::test]
async fn a_certificate_that_has_not_begun_is_refused() {
    let cluster = cluster(Validity::leaf());
    let later = Validity {
        not_before: Validity::leaf().not_after,
        not_after: Validity::leaf().not_after.plus(std::time::Duration::from_secs(60)),
    };
    let person = person(&cluster, later);
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    server.registry.add(person.tls());
    failure(&dialer(person.tls(), cluster.bundle()), &server.endpoint()).await;
    let not_before = person.tls().leaf().validity.not_before;
    server.refused(TlsFailure::PeerNotYetValid { subject: person_ada(), not_before }).await;
}

#[tokio::test]
async fn a_server_of_another_cluster_is_foreign() {
    let (ours, theirs) = (cluster(Validity::leaf()), cluster(Validity::leaf()));
    let person = person(&ours, Validity::leaf());
    let server = TestServer::start(&theirs.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    let got = failure(&dialer(person.tls(), ours.bundle()), &server.endpoint()).await;
    assert_eq!(got, TlsFailure::PeerForeign { expected: ours.cluster(), got: theirs.cluster() });
    assert!(got.to_string().contains(&theirs.cluster().to_string()));
    server.refused(TlsFailure::OwnRefused { subject: NODE_1, alert: "UnknownCA".into() }).await;
}

#[tokio::test]
async fn a_client_of_another_cluster_is_foreign() {
    let (ours, theirs) = (cluster(Validity::leaf()), cluster(Validity::leaf()));
    let person = person(&theirs, Validity::leaf());
    let server = TestServer::start(&ours.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    // A mixed-up identity is refused when it is put together; a stranger wouldn't ask.
    let authority = Arc::new(CertificateAlone);
    let error = ClientTls::new(person.tls(), ours.bundle(), authority.clone()).unwrap_err();
    assert_eq!(error.code(), "pki_wrong_cluster");
    let tls = ClientTls::unchecked(person.tls(), ours.bundle(), authority).unwrap();
    let got = failure(&Dialer::new(tls), &server.endpoint()).await;
    let (expected, foreign) = (ours.cluster(), theirs.cluster());
    assert_eq!(got, TlsFailure::OwnForeign { subject: person_ada(), expected, got: foreign });
    server.refused(TlsFailure::PeerForeign { expected, got: foreign }).await;
}

#[tokio::test]
async fn a_person_has_no_business_at_the_raft_port() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, Validity::leaf());
    let server = TestServer::start(&cluster.nodes()[0], Roles::NODES, PortLimits::default()).await;
    server.registry.add(person.tls());
    let got = failure(&dialer(person.tls(), cluster.bundle()), &server.endpoint()).await;
    assert_eq!(got, TlsFailure::OwnWrongRole { subject: person_ada() });
    server.refused(TlsFailure::PeerWrongRole { accepted: Roles::NODES, got: person_ada() }).await;
}

#[tokio::test]
async fn a_person_who_serves_is_no_node() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, Validity::leaf());
    let roles = Roles::EVERYONE;
    let server =
        TestServer::start_showing(person.tls(), cluster.bundle(), roles, PortLimits::default()).await;
    let client = dialer(cluster.nodes()[1].tls(), cluster.bundle());
    let got = failure(&client, &server.endpoint()).await;
    assert_eq!(got, TlsFailure::PeerWrongRole { accepted: Roles::NODES, got: person_ada() });
}

#[tokio::test]
async fn node_1_answering_as_node_2_is_noticed() {
    let cluster = cluster(Validity::leaf());
    let [one, two] = cluster.nodes() else { panic!("two nodes") };
    let server = TestServer::start(one, Roles::NODES, PortLimits::default()).await;
    server.registry.add(two.tls());
    let endpoint = server.endpoint().expecting(NodeId(2));
    let got = failure(&dialer(two.tls(), cluster.bundle()), &endpoint).await;
    assert_eq!(got, TlsFailure::PeerWrongNode { expected: NodeId(2), got: NodeId(1) });
    server.refused(TlsFailure::OwnRefused { subject: NODE_1, alert: "BadCertificate".into() }).await;
}

#[tokio::test]
async fn a_node_called_by_a_host_that_its_certificate_does_not_hold_says_which_it_does() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, Validity::leaf());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    let elsewhere: Endpoint = format!("127.0.0.2:{}", server.address.port()).parse().unwrap();
    // 127.0.0.2 is this machine too, but the port is bound to 127.0.0.1: forward by hand.
    let forwarder = tokio::net::TcpListener::bind(("127.0.0.2", server.address.port())).await.unwrap();
    let target = server.address;
    tokio::spawn(async move {
        let (mut inbound, _) = forwarder.accept().await.unwrap();
        let mut outbound = TcpStream::connect(target).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await;
    });
    match failure(&dialer(person.tls(), cluster.bundle()), &elsewhere).await {
        TlsFailure::PeerWrongHost { expected, node, presented } => {
            assert_eq!((expected.as_str(), node), ("127.0.0.2", NodeId(1)));
            assert_eq!(presented, ["node-1.example.com", "localhost", "127.0.0.1", "::1"]);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unregistered_key_is_nobody_on_either_side() {
    let cluster = cluster(Validity::leaf());
    let [one, two] = cluster.nodes() else { panic!("two nodes") };
    let server = TestServer::start(one, Roles::NODES, PortLimits::default()).await;
    let key_hash = two.tls().leaf().key_hash;
    let got = failure(&dialer(two.tls(), cluster.bundle()), &server.endpoint()).await;
    assert_eq!(got, TlsFailure::OwnUnregistered { subject: NODE_2, key_hash });
    let reason = Refusal::Unregistered;
    server.refused(TlsFailure::PeerUnregistered { subject: NODE_2, key_hash, reason }).await;

    server.registry.add(two.tls());
    let nobody = Arc::new(crate::test_cluster::Registry::default());
    let client = Dialer::new(ClientTls::new(two.tls(), two.bundle(), nobody).unwrap());
    let key_hash = one.tls().leaf().key_hash;
    let got = failure(&client, &server.endpoint()).await;
    assert_eq!(got, TlsFailure::PeerUnregistered { subject: NODE_1, key_hash, reason });
}

/// A client of our own making, for what ours doesn't do.
async fn raw_client(server: &TestServer, config: ClientConfig) -> TlsFailure {
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let outcome = async {
        let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        let mut byte = [0];
        tls.read_exact(&mut byte).await.map(|_| ())
    };
    TlsFailure::find(&outcome.await.unwrap_err()).unwrap()
}

fn raw_config(
    cluster: &crate::ClusterPki,
    version: &'static rustls::SupportedProtocolVersion,
) -> ClientConfig {
    raw_verified(cluster, version).with_no_client_auth()
}

fn raw_verified(
    cluster: &crate::ClusterPki,
    version: &'static rustls::SupportedProtocolVersion,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let chain = ChainVerifier::new(cluster.bundle(), Roles::NODES, Arc::new(CertificateAlone)).unwrap();
    let verifier =
        ServerVerifier { chain: Arc::new(chain), expected: Expected::Host, verdict: Verdict::default() };
    ClientConfig::builder_with_provider(verify::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
}

#[tokio::test]
async fn tls_1_2_is_not_spoken() {
    let cluster = cluster(Validity::leaf());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    let got = raw_client(&server, raw_config(&cluster, &rustls::version::TLS12)).await;
    assert_eq!(got, TlsFailure::Version);
    server.refused(TlsFailure::Version).await;
}

#[tokio::test]
async fn without_a_certificate_there_is_no_service() {
    let cluster = cluster(Validity::leaf());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    let got = raw_client(&server, raw_config(&cluster, &rustls::version::TLS13)).await;
    assert_eq!(got, TlsFailure::OwnMissing);
    server.refused(TlsFailure::PeerWithoutCertificate).await;
}

#[tokio::test]
async fn a_refused_client_that_talks_on_is_heard_out_instead_of_reset() {
    let cluster = cluster(Validity::leaf());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let config = Arc::new(raw_config(&cluster, &rustls::version::TLS13));
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = TlsConnector::from(config).connect(name, tcp).await.unwrap();
    // More than the server has read when it decides: closing over unread bytes would reset the connection, and on a
    // lossy network the alert with it.
    tls.write_all(&[0; 48 * 1_024]).await.unwrap();
    tls.flush().await.unwrap();
    let (mut tcp, _) = tls.into_inner();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    assert!(!answer.is_empty(), "an alert was sent");
    server.refused(TlsFailure::PeerWithoutCertificate).await;
}

#[tokio::test]
async fn a_client_that_speaks_another_protocol_is_refused() {
    let cluster = cluster(Validity::leaf());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    let mut config = raw_config(&cluster, &rustls::version::TLS13);
    config.alpn_protocols = vec![b"smtp".to_vec()];
    assert_eq!(raw_client(&server, config).await, TlsFailure::NoCommonProtocol);
    server.refused(TlsFailure::NoCommonProtocol).await;
}

/// A chain that our root didn't make, shown to the port as it is.
async fn refused_chain(
    cluster: &crate::ClusterPki,
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: TlsKey,
) -> TlsFailure {
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    let tls = TlsIdentity::new(chain, Arc::new(key)).unwrap();
    server.registry.add(&tls);
    failure(&dialer(&tls, cluster.bundle()), &server.endpoint()).await;
    let refusals = server.listening.refusals();
    match &refusals[..] {
        [refused] => match &refused.because {
            crate::RefusedBecause::Tls(failure) => failure.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stolen_node_intermediate_makes_no_people() {
    let cluster = cluster(Validity::leaf());
    let key = TlsKey::generate().unwrap();
    let mut chain = cluster.issuers().issue_by_node_intermediate(&person_ada(), &key).unwrap();
    // All intermediates of the cluster are sent along: it is not for want of one that the chain fails.
    chain.push(cluster.issuers().authority(Role::Person).certificate().clone());
    let got = refused_chain(&cluster, chain, key).await;
    assert_eq!(
        got,
        TlsFailure::PeerUntrusted { subject: person_ada(), reason: "no chain to the root".into() }
    );
}

#[tokio::test]
async fn an_impostor_root_with_our_cluster_id_vouches_for_nobody() {
    let cluster = cluster(Validity::leaf());
    let forever = Validity::leaf();
    let root = crate::issuer::CertificateAuthority::root(cluster.cluster(), forever).unwrap();
    let issuers = crate::Issuers::create(&root, cluster.cluster(), forever).unwrap();
    let key = TlsKey::generate().unwrap();
    let chain = issuers.issue(&NODE_2, &[], &key.public_key_info(), forever).unwrap();
    let got = refused_chain(&cluster, chain, key).await;
    assert!(matches!(&got, TlsFailure::PeerUntrusted { subject, .. } if *subject == NODE_2), "{got:?}");
}

#[tokio::test]
async fn an_intermediate_that_has_ended_is_named() {
    let cluster = cluster(Validity::leaf());
    let root = crate::issuer::CertificateAuthority::root(cluster.cluster(), Validity::leaf()).unwrap();
    let ended = expired();
    let issuers = crate::Issuers::create(&root, cluster.cluster(), ended).unwrap();
    let key = TlsKey::generate().unwrap();
    let chain = issuers.issue(&NODE_2, &[], &key.public_key_info(), Validity::leaf()).unwrap();
    let bundle = crate::TrustBundle::new(
        cluster.cluster(),
        cluster.bundle().version(),
        vec![root.certificate().clone()],
        cluster.bundle().nodes().clone(),
    );
    let verifier = ChainVerifier::new(&bundle.unwrap(), Roles::NODES, Arc::new(CertificateAlone)).unwrap();
    let verdict = Verdict::default();
    let client = verify::ClientVerifier { chain: Arc::new(verifier), verdict: verdict.clone() };
    let now = rustls::pki_types::UnixTime::now();
    rustls::server::danger::ClientCertVerifier::verify_client_cert(&client, &chain[0], &chain[1..], now)
        .unwrap_err();
    let expected = TlsFailure::IssuerExpired { role: Role::Node, not_after: ended.not_after };
    assert_eq!(verdict.failure(), Some(expected));
}

#[tokio::test]
async fn a_copied_certificate_without_its_key_learns_nothing_of_the_registry() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, Validity::leaf());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    let key = TlsKey::generate().unwrap();
    let certified = rustls::sign::CertifiedKey::new(person.tls().chain().to_vec(), key.for_rustls().unwrap());
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let mut seen = Vec::new();
    for registered in [false, true] {
        if registered {
            server.registry.add(person.tls());
        }
        let config =
            raw_verified(&cluster, &rustls::version::TLS13).with_client_cert_resolver(resolver.clone());
        seen.push(raw_client(&server, config).await);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].code(), "tls_broken");
    server.refused(TlsFailure::PeerWithoutKey { subject: person_ada() }).await;
    assert_eq!(server.listening.counters().refused_tls, 2);
}

#[tokio::test]
async fn a_node_that_has_not_read_the_registry_says_try_again() {
    struct Unread;
    impl Authority for Unread {
        fn admit(&self, _: &Subject, _: &haltline_core::ids::KeyHash) -> Result<(), Refusal> {
            Err(Refusal::NotReady)
        }
    }
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, Validity::leaf());
    let node = &cluster.nodes()[0];
    let server = TestServer::start(node, Roles::EVERYONE, PortLimits::default()).await;
    let tls = ServerTls::new(node.tls(), node.bundle(), Roles::EVERYONE, Arc::new(Unread)).unwrap();
    server.listening.rotate(tls);
    let got = failure(&dialer(person.tls(), cluster.bundle()), &server.endpoint()).await;
    assert_eq!(got, TlsFailure::OwnUndecided);
    assert!(got.is_transient());
}

#[tokio::test]
async fn sessions_are_never_resumed_so_every_connection_is_judged() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, Validity::leaf());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    server.registry.add(person.tls());
    // A client that would resume, if it were let.
    let mut config = raw_verified(&cluster, &rustls::version::TLS13)
        .with_client_cert_resolver(person.tls().resolver().unwrap());
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let config = Arc::new(config);
    for _ in 0..2 {
        let tcp = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = TlsConnector::from(config.clone()).connect(name, tcp).await.unwrap();
        tls.read_exact(&mut [0]).await.unwrap();
        assert_eq!(tls.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn chains_without_end_and_certificates_of_strangers_are_malformed() {
    let cluster = cluster(Validity::leaf());
    let key = TlsKey::generate().unwrap();
    let mut chain = cluster.issuers().issue(&NODE_2, &[], &key.public_key_info(), Validity::leaf()).unwrap();
    while chain.len() <= haltline_core::limits::CERTIFICATE_CHAIN_MAX {
        chain.push(chain[1].clone());
    }
    let got = refused_chain(&cluster, chain, key).await;
    assert!(matches!(&got, TlsFailure::PeerMalformed { reason } if reason.contains("at most 4")), "{got:?}");
    // An intermediate is no leaf of anybody.
    let intermediate = cluster.issuers().authority(Role::Node).certificate();
    assert!(LeafCertificate::parse(intermediate).is_err());
}

#[tokio::test]
async fn a_lazy_channel_tells_why_in_the_status_of_the_call() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, expired());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    let channel = dialer(person.tls(), cluster.bundle()).connect_lazy(&server.endpoint()).unwrap();
    let status = call(channel).await.unwrap_err();
    let not_after = person.tls().leaf().validity.not_after;
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(TlsFailure::find(&status), Some(TlsFailure::OwnExpired { subject: person_ada(), not_after }));
}

#[tokio::test]
async fn nobody_there_silence_and_plain_text_are_told_apart() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, Validity::leaf());
    let dialer = dialer(person.tls(), cluster.bundle());

    let gone = loopback().await;
    let address = gone.local_addr().unwrap();
    drop(gone);
    match failure(&dialer, &address.into()).await {
        TlsFailure::Unreachable { address: got, reason } => {
            assert_eq!(got, address.to_string());
            assert!(reason.contains("refused"), "{reason}");
        }
        other => panic!("{other:?}"),
    }

    let silent = loopback().await;
    let endpoint = Endpoint::from(silent.local_addr().unwrap());
    let timeout_ms = 50;
    let got = failure(&dialer.clone().with_timeout(Millis(timeout_ms)), &endpoint).await;
    assert_eq!(got, TlsFailure::Timeout { address: endpoint.to_string(), timeout_ms });

    let plain = loopback().await;
    let endpoint = Endpoint::from(plain.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    assert_eq!(failure(&dialer, &endpoint).await, TlsFailure::NotTls);
}

#[tokio::test]
async fn plain_text_at_a_tls_port_is_refused() {
    let cluster = cluster(Validity::leaf());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    server.refused(TlsFailure::NotTls).await;
    wait_for("the slot to be free again", || server.listening.counters().open == 0).await;
}
