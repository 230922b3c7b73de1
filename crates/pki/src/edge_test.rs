//! Enforcers: from a key to an identity on disk, its renewal, and who may connect to whom.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use haltline_core::{
    ids::{EdgeName, KeyHash, NodeId},
    limits::{EDGE_REQUEST_BYTES_MAX, HUBS_MAX},
};
use parking_lot::Mutex;

use crate::{
    Authority, ClusterPki, EdgeIdentity, EdgeRequest, Endpoint, KnownHub, PendingEdge, PkiError, PortLimits,
    Refusal, RegisteredEdges, Roles, ServerTls, Subject, TlsFailure, Validity, spki_hash_of_cert,
    test_cluster::{TestServer, call, cluster, dialer, edge, expired, failure, person},
};

fn name(text: &str) -> EdgeName {
    text.parse().unwrap()
}

fn hubs() -> Vec<KnownHub> {
    let endpoint: Endpoint = "hub.example.com:7003".parse().unwrap();
    vec![
        KnownHub { endpoint: endpoint.clone().expecting(NodeId(1)), region: "eu".into() },
        KnownHub { endpoint: endpoint.expecting_relay(name("relay-7")), region: String::new() },
    ]
}

fn issue(cluster: &ClusterPki, to: &str, pending: &PendingEdge, validity: Validity) -> String {
    let request = EdgeRequest::parse(pending.request()).unwrap();
    assert_eq!(request.key_hash(), pending.key_hash());
    cluster.issuers().issue_edge(&name(to), &request, validity).unwrap()
}

#[test]
fn enrolment_that_was_cut_short_goes_on_with_the_same_key() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("edge");
    let cluster = cluster(Validity::leaf());
    let first = PendingEdge::open(&directory).unwrap();
    assert!(!EdgeIdentity::is_in(&directory));
    let again = PendingEdge::open(&directory).unwrap();
    assert_eq!(again.key_hash(), first.key_hash());

    let chain = issue(&cluster, "rack-7", &again, Validity::leaf());
    let identity = again.complete(&name("rack-7"), &chain, cluster.bundle().clone(), hubs()).unwrap();
    identity.save_public(&directory).unwrap();
    assert!(EdgeIdentity::is_in(&directory));
    let loaded = EdgeIdentity::load(&directory).unwrap();
    assert_eq!(loaded.name(), &name("rack-7"));
    assert_eq!(loaded.hubs(), hubs());
    assert_eq!(loaded.bundle(), cluster.bundle());
    assert_eq!(loaded.tls().leaf(), identity.tls().leaf());
    assert_eq!(loaded.tls().leaf().key_hash, first.key_hash());
    let mode = |file: &str| fs::metadata(directory.join(file)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (mode("tls.key"), mode("tls.crt"), mode("identity.json"), mode(".")),
        (0o600, 0o644, 0o644, 0o700)
    );

    let error = identity.save(&directory).unwrap_err();
    assert!(matches!(error, PkiError::Exists { .. }), "{error}");
    fs::set_permissions(directory.join("tls.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let error = EdgeIdentity::load(&directory).unwrap_err();
    assert!(matches!(error, PkiError::Exposed { mode: 0o640, .. }), "{error}");
    assert!(matches!(PendingEdge::open(&directory).unwrap_err(), PkiError::Exposed { .. }));
}

#[test]
fn an_answer_for_somebody_else_is_refused() {
    let (ours, theirs) = (cluster(Validity::leaf()), cluster(Validity::leaf()));
    let complete = |chain: &str, pending: PendingEdge| {
        pending.complete(&name("rack-7"), chain, ours.bundle().clone(), hubs()).unwrap_err()
    };
    let pending = || PendingEdge::create().unwrap();
    let (one, other) = (pending(), pending());
    let chain = issue(&ours, "rack-7", &other, Validity::leaf());
    assert_eq!(complete(&chain, one).code(), "pki_key_mismatch");
    let one = pending();
    assert_eq!(complete(&issue(&ours, "rack-8", &one, Validity::leaf()), one).code(), "pki_request_refused");
    let one = pending();
    assert_eq!(complete(&issue(&theirs, "rack-7", &one, Validity::leaf()), one).code(), "pki_wrong_cluster");
    let one = pending();
    let error = complete(&issue(&ours, "rack-7", &one, expired()), one);
    assert!(matches!(error, PkiError::Issued(TlsFailure::PeerExpired { .. })), "{error}");
    // Our cluster's id in a certificate of another root: only the chain tells.
    let one = pending();
    let root = crate::issuer::CertificateAuthority::root(ours.cluster(), Validity::leaf()).unwrap();
    let issuers = crate::Issuers::create(&root, ours.cluster(), Validity::leaf()).unwrap();
    let request = EdgeRequest::parse(one.request()).unwrap();
    let chain = issuers.issue_edge(&name("rack-7"), &request, Validity::leaf()).unwrap();
    assert!(matches!(complete(&chain, one), PkiError::Issued(TlsFailure::PeerUntrusted { .. })));
    assert_eq!(complete("", pending()).code(), "pki_malformed");
}

#[test]
fn requests_prove_their_key() {
    let pending = PendingEdge::create().unwrap();
    let mut broken = pending.request().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let too_long = vec![0; EDGE_REQUEST_BYTES_MAX + 1];
    for (der, code) in [
        (&broken[..], "pki_request_refused"),
        (&b""[..], "pki_request_refused"),
        (&pending.request()[..50], "pki_request_refused"),
        (&too_long, "pki_too_many"),
    ] {
        assert_eq!(EdgeRequest::parse(der).unwrap_err().code(), code);
    }
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&ed25519).unwrap();
    let error = EdgeRequest::parse(request.der()).unwrap_err();
    assert!(error.to_string().contains("P-256"), "{error}");
}

#[test]
fn a_certificate_is_renewed_for_its_key_alone() {
    let cluster = cluster(Validity::leaf());
    let old = edge(&cluster, "rack-7", Validity::leaf());
    let key = old.tls().leaf().key_hash;
    let request = EdgeRequest::parse(&old.renewal_request().unwrap()).unwrap();
    let chain = cluster.issuers().renew_edge(old.name(), &key, &request, Validity::leaf()).unwrap();
    let renewed = old.renewed(&chain).unwrap();
    assert_eq!((renewed.name(), renewed.tls().leaf().key_hash), (old.name(), key));
    assert_ne!(renewed.tls().chain()[0], old.tls().chain()[0]);
    assert_eq!(spki_hash_of_cert(&renewed.tls().chain()[0]).unwrap(), key);

    let stranger = PendingEdge::create().unwrap();
    let request = EdgeRequest::parse(stranger.request()).unwrap();
    let error = cluster.issuers().renew_edge(old.name(), &key, &request, Validity::leaf()).unwrap_err();
    assert!(error.to_string().contains("join token"), "{error}");
    let chain = cluster.issuers().issue_edge(old.name(), &request, Validity::leaf()).unwrap();
    assert_eq!(old.renewed(&chain).unwrap_err().code(), "pki_key_mismatch");
    let own = EdgeRequest::parse(&old.renewal_request().unwrap()).unwrap();
    let chain = cluster.issuers().issue_edge(old.name(), &own, expired()).unwrap();
    assert_eq!(old.renewed(&chain).unwrap_err().code(), "pki_issued_invalid");
    let chain = cluster.issuers().issue_edge(&name("rack-8"), &own, Validity::leaf()).unwrap();
    assert_eq!(old.renewed(&chain).unwrap_err().code(), "pki_request_refused");
}

#[test]
fn hubs_are_bounded() {
    let cluster = cluster(Validity::leaf());
    let edge = edge(&cluster, "rack-7", Validity::leaf());
    let many = vec![hubs()[0].clone(); HUBS_MAX + 1];
    assert_eq!(edge.clone().with_hubs(many).unwrap_err().code(), "pki_too_many");
    let wordy = KnownHub { region: "r".repeat(64), ..hubs()[0].clone() };
    assert_eq!(edge.clone().with_hubs(vec![wordy]).unwrap_err().code(), "pki_too_many");
    assert_eq!(edge.with_hubs(hubs()).unwrap().hubs(), hubs());
}

/// A server for enforcers alone, which knows one of them.
async fn edge_port(cluster: &ClusterPki, known: &EdgeIdentity) -> (TestServer, Arc<Mutex<Option<Refusal>>>) {
    let node = &cluster.nodes()[0];
    let server = TestServer::start(node, Roles::EDGES, PortLimits::default()).await;
    let refusing = Arc::new(Mutex::new(None));
    let (refusal, known) = (refusing.clone(), known.clone());
    let authority = RegisteredEdges::new(move |name| match *refusal.lock() {
        Some(refusal) => Err(refusal),
        None if name == known.name() => Ok(known.tls().leaf().key_hash),
        None => Err(Refusal::Unregistered),
    });
    let tls = ServerTls::new(node.tls(), node.bundle(), Roles::EDGES, Arc::new(authority)).unwrap();
    server.listening.rotate(tls);
    (server, refusing)
}

#[tokio::test]
async fn the_edge_port_is_for_registered_enforcers_alone() {
    let cluster = cluster(Validity::leaf());
    let rack = edge(&cluster, "rack-7", Validity::leaf());
    let (server, refusing) = edge_port(&cluster, &rack).await;
    let rack_dialer = dialer(rack.tls(), cluster.bundle());
    call(rack_dialer.connect(&server.endpoint().expecting(NodeId(1))).await.unwrap()).await.unwrap();
    assert_eq!(server.callers.lock().pop().unwrap().subject, Subject::Edge(rack.name().clone()));

    let person = person(&cluster, Validity::leaf());
    for tls in [person.tls(), cluster.nodes()[1].tls()] {
        let got = failure(&dialer(tls, cluster.bundle()), &server.endpoint()).await;
        let subject = tls.leaf().subject.clone();
        assert_eq!(got, TlsFailure::OwnWrongRole { subject: subject.clone() });
        server.refused(TlsFailure::PeerWrongRole { accepted: Roles::EDGES, got: subject }).await;
    }
    // The name with another key, and a name that nobody registered.
    for (other, reason) in [("rack-7", Refusal::OtherKey), ("rack-8", Refusal::Unregistered)] {
        let stranger = edge(&cluster, other, Validity::leaf());
        let (subject, key_hash) = (stranger.tls().leaf().subject.clone(), stranger.tls().leaf().key_hash);
        let got = failure(&dialer(stranger.tls(), cluster.bundle()), &server.endpoint()).await;
        assert_eq!(got, TlsFailure::OwnUnregistered { subject: subject.clone(), key_hash });
        server.refused(TlsFailure::PeerUnregistered { subject, key_hash, reason }).await;
    }
    *refusing.lock() = Some(Refusal::NotReady);
    assert_eq!(failure(&rack_dialer, &server.endpoint()).await, TlsFailure::OwnUndecided);
}

#[tokio::test]
async fn a_relay_is_known_by_its_name() {
    let cluster = cluster(Validity::leaf());
    let relay = edge(&cluster, "relay-1", Validity::leaf());
    let rack = edge(&cluster, "rack-7", Validity::leaf());
    let limits = PortLimits::default();
    let server = TestServer::start_showing(relay.tls(), relay.bundle(), Roles::EDGES, limits).await;
    server.registry.add(rack.tls());
    let dialer = dialer(rack.tls(), cluster.bundle());
    let endpoint = server.endpoint();
    call(dialer.connect(&endpoint.clone().expecting_relay(name("relay-1"))).await.unwrap()).await.unwrap();

    let got = failure(&dialer, &endpoint.clone().expecting_relay(name("relay-2"))).await;
    assert_eq!(got, TlsFailure::PeerWrongRelay { expected: name("relay-2"), got: name("relay-1") });
    for endpoint in [endpoint.clone(), endpoint.clone().expecting(NodeId(1))] {
        let got = failure(&dialer, &endpoint).await;
        let subject = Subject::Edge(name("relay-1"));
        assert_eq!(got, TlsFailure::PeerWrongRole { accepted: Roles::NODES, got: subject });
    }
    let node = TestServer::start(&cluster.nodes()[0], Roles::EDGES, PortLimits::default()).await;
    let got = failure(&dialer, &node.endpoint().expecting_relay(name("relay-1"))).await;
    assert_eq!(got, TlsFailure::PeerWrongRole { accepted: Roles::EDGES, got: Subject::Node(NodeId(1)) });
}

#[test]
fn nodes_and_people_are_no_enforcers() {
    let admits = RegisteredEdges::new(|_| Ok(KeyHash([0; 32])));
    for subject in [Subject::Node(NodeId(1)), Subject::Person("ada".parse().unwrap())] {
        let got = admits.admit(&subject, &KeyHash([0; 32]));
        assert_eq!(got, Err(Refusal::Unregistered));
    }
}
