//! No secret shows: everything that holds a private key is formatted and searched for it.

#![allow(clippy::unwrap_used)]

use std::{fmt::Debug, fs, path::Path, sync::Arc};

use haltline_core::ids::NodeId;
use zeroize::Zeroizing;

use crate::{
    CertificateAlone, ClientTls, Dialer, JoinToken, NodeIdentity, PendingEdge, PendingPerson, PersonIdentity,
    PkiError, PortLimits, PublicLimits, PublicTls, Roles, ServerTls, Subject, Unverified, Validity, listen,
    listen_public,
    pem_text::{self, PRIVATE_KEY},
    test_cluster::{TestServer, ada, cluster, dialer, edge, loopback, person},
};

/// Secret bytes as a careless formatter could show them.
fn shapes(secret: &[u8]) -> Vec<String> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{secret:?}");
    let spread = format!("{secret:#?}").replace([' ', '\n'], "").replace(",]", "]");
    let spaced_hex: Vec<_> = secret.iter().map(|byte| format!("0x{byte:02x}")).collect();
    vec![
        hex.to_uppercase(),
        hex,
        list[1..list.len() - 1].to_owned(),
        spread[1..spread.len() - 1].to_owned(),
        spaced_hex.join(", "),
        pem_text::base64_encode(secret).trim_end_matches('=').to_owned(),
    ]
}

/// The secret part of every private key below a directory.
fn secrets_below(directory: &Path) -> Vec<Zeroizing<Vec<u8>>> {
    let mut secrets = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            secrets.extend(secrets_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "key") {
            let der = pem_text::decode_one(PRIVATE_KEY, &fs::read_to_string(&path).unwrap()).unwrap();
            // The 32 secret bytes of a P-256 key stand at 36 of its PKCS#8, those of an Ed25519 key at the end.
            let secret = if der.len() == 48 { &der[16..] } else { &der[36..68] };
            secrets.push(Zeroizing::new(secret.to_vec()));
        }
    }
    secrets
}

fn shown(value: &dyn Debug) -> String {
    let dense = format!("{value:#?}").replace([' ', '\n'], "");
    format!("{value:?}\n{value:#?}\n{dense}")
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let secret: Vec<u8> = (100..132).collect();
    for text in [format!("{secret:?}"), format!("{secret:#?}"), format!("{:02x?}", secret).replace(", ", "")]
    {
        let dense = text.replace([' ', '\n'], "");
        assert!(shapes(&secret).iter().any(|shape| text.contains(shape) || dense.contains(shape)), "{text}");
    }
}

#[tokio::test]
async fn nothing_that_holds_a_key_shows_it() {
    let home = tempfile::tempdir().unwrap();
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, Validity::leaf());
    let pending = PendingPerson::create(&ada()).unwrap();
    let node = &cluster.nodes()[0];
    let at = |name: &str| home.path().join(name);
    cluster.save_root(&at("root")).unwrap();
    node.save(&at("node")).unwrap();
    person.save(&at("person")).unwrap();
    pending.save(&at("pending")).unwrap();
    let secrets = secrets_below(home.path());
    assert_eq!(secrets.len(), 1 + 5 + 2 + 2, "root, node with intermediates, person, pending");

    let authority = Arc::new(CertificateAlone);
    let server_tls = ServerTls::new(node.tls(), node.bundle(), Roles::NODES, authority.clone()).unwrap();
    let client_tls = ClientTls::new(person.tls(), person.bundle(), authority).unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let (incoming, listening) =
        listen(loopback().await, server_tls.clone(), PortLimits::default(), &shutdown);
    let server = TestServer::start(node, Roles::EVERYONE, PortLimits::default()).await;
    server.registry.add(person.tls());
    let connection = dialer(person.tls(), cluster.bundle()).dial(&server.endpoint()).await.unwrap();
    let issued = cluster
        .issuers()
        .issue_person(pending.request(), Validity::leaf(), cluster.bundle(), vec![])
        .unwrap();

    // Errors that keys take part in.
    fs::copy(at("pending").join("tls.key"), at("person").join("tls.key")).unwrap();
    let mismatch = PersonIdentity::load(&at("person")).unwrap_err();
    let key_path = at("node").join("signing.key");
    let text = fs::read_to_string(&key_path).unwrap();
    fs::write(&key_path, text.replace("-----END", "=-----END")).unwrap();
    let damaged = NodeIdentity::load(&at("node")).unwrap_err();
    let mismatch_shown = mismatch.to_string();
    let damaged_shown = damaged.to_string();

    let values: [&dyn Debug; 20] = [
        &cluster,
        node,
        node.issuers(),
        node.signer(),
        node.tls(),
        node.bundle(),
        &person,
        person.signer(),
        &pending,
        pending.request(),
        &issued,
        &server_tls,
        &client_tls,
        &Dialer::new(client_tls.clone()),
        &connection,
        &incoming,
        &listening,
        &mismatch,
        &damaged,
        &(&mismatch_shown, &damaged_shown),
    ];
    assert_hidden(&secrets, &values);
}

fn assert_hidden(secrets: &[Zeroizing<Vec<u8>>], values: &[&dyn Debug]) {
    for secret in secrets {
        for shape in shapes(secret) {
            for (index, value) in values.iter().enumerate() {
                assert!(!shown(value).contains(&shape), "value {index} shows a secret");
            }
        }
    }
}

#[tokio::test]
async fn nothing_of_an_enforcer_shows_a_secret() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let cluster = cluster(Validity::leaf());
    let enforcer = edge(&cluster, "rack-7", Validity::leaf());
    enforcer.save(&at("edge")).unwrap();
    let pending = PendingEdge::open(&at("pending-edge")).unwrap();
    let token = JoinToken::generate(cluster.bundle(), &["localhost:1".parse().unwrap()]).unwrap();
    let node = &cluster.nodes()[0];
    node.save(&at("node")).unwrap();
    let mut secrets = secrets_below(home.path());
    assert_eq!(secrets.len(), 2 + 5, "both enforcers, and the node with its intermediates");
    secrets.push(Zeroizing::new(token.secret().expose().to_vec()));

    let public = PublicTls::new(node.tls()).unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let (incoming, listening) =
        listen_public(loopback().await, public.clone(), PublicLimits::default(), &shutdown);
    let endpoint = listening.local_addr().unwrap().into();
    let (_, health) = tonic_health::server::health_reporter();
    let server =
        tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
    let contact = Unverified::connect(&endpoint).await.unwrap();
    let before = format!("{contact:?}");
    let verified = contact.verify(&cluster.bundle().to_json(), &token).unwrap();
    let values: [&dyn Debug; 8] =
        [&enforcer, &pending, &token, token.secret(), &public, &listening, &before, &verified];
    assert_hidden(&secrets, &values);
    server.abort();
}

#[test]
fn every_message_of_this_crate_can_be_acted_on() {
    // A sample of messages as a person reads them; the wording is part of what users know.
    let errors = [
        PkiError::Exposed { path: "/etc/haltline/tls.key".into(), mode: 0o644 },
        PkiError::KeyMismatch { subject: Subject::Node(NodeId(1)) },
    ];
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts[0],
        "/etc/haltline/tls.key holds a private key, but its mode 0644 lets others at it; run `chmod 600 \
         /etc/haltline/tls.key`, and replace the key if anyone could have copied it"
    );
    assert_eq!(
        texts[1],
        "the certificate of node 1 and the private key beside it don't belong together; restore both from one backup"
    );
}
