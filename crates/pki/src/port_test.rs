//! A port over time: its bounds, its rotation, and connections that outlive their right to be there.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use haltline_core::time::Millis;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    PortLimits, RefusedBecause, Roles, ServerTls, TlsFailure, Validity,
    port::Port,
    test_cluster::{Registry, TestServer, call, cluster, dialer, failure, person, wait_for},
};

#[tokio::test]
async fn the_connection_past_the_bound_is_closed_and_counted() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, Validity::leaf());
    let limits = PortLimits { connections_max: 1, ..PortLimits::default() };
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, limits).await;
    server.registry.add(person.tls());
    let dialer = dialer(person.tls(), cluster.bundle());
    let channel = dialer.connect(&server.endpoint()).await.unwrap();
    call(channel.clone()).await.unwrap();

    assert!(failure(&dialer, &server.endpoint()).await.is_transient());
    server.refused(RefusedBecause::ConnectionsFull { max: 1 }).await;
    assert_eq!(server.listening.counters().refused_full, 1);
    call(channel.clone()).await.unwrap();

    drop(channel);
    wait_for("the slot to be free again", || server.listening.counters().open == 0).await;
    call(dialer.connect(&server.endpoint()).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn the_handshake_past_the_bound_is_closed() {
    let cluster = cluster(Validity::leaf());
    let limits =
        PortLimits { handshakes_max: 1, handshake_timeout: Millis(600_000), ..PortLimits::default() };
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, limits).await;
    let _slow = TcpStream::connect(server.address).await.unwrap();
    wait_for("the first connection", || server.listening.counters().accepted == 1).await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    server.refused(RefusedBecause::HandshakesFull { max: 1 }).await;
    assert_eq!(second.read(&mut [0; 16]).await.unwrap(), 0, "closed without a word");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_given_up() {
    let cluster = cluster(Validity::leaf());
    let limits = PortLimits { handshake_timeout: Millis(20), ..PortLimits::default() };
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, limits).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    server.refused(RefusedBecause::HandshakeTimeout { timeout_ms: 20 }).await;
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0, "closed without a word");
}

#[tokio::test]
async fn garbage_is_refused_and_remembered_within_the_bound() {
    let cluster = cluster(Validity::leaf());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    let max = haltline_core::limits::TLS_REFUSALS_REMEMBERED;
    for round in 0..max + 5 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let byte = u8::try_from(round % 256).unwrap();
        stream.write_all(&[0x16, 0x03, byte, 0xff, 0xff, byte, byte]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    }
    wait_for("all to be refused", || server.listening.counters().refused_tls == (max + 5) as u64).await;
    assert_eq!(server.listening.refusals().len(), max);
}

#[tokio::test]
async fn removing_a_key_closes_its_connections_and_the_next_one_says_why() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, Validity::leaf());
    let other = cluster.nodes()[1].tls();
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    server.registry.add(person.tls());
    server.registry.add(other);
    let channel = dialer(person.tls(), cluster.bundle()).connect(&server.endpoint()).await.unwrap();
    let stays = dialer(other, cluster.bundle()).connect(&server.endpoint()).await.unwrap();
    call(channel.clone()).await.unwrap();
    call(stays.clone()).await.unwrap();
    assert_eq!(server.listening.peers().len(), 2);

    server.registry.remove(person.tls());
    server.listening.recheck();
    wait_for("the connection to be closed", || server.listening.counters().open == 1).await;
    assert_eq!(server.listening.counters().closed_by_recheck, 1);
    call(stays).await.unwrap();

    // The channel may still hold the dead connection for one call; after that it dials again and is told.
    let expected = TlsFailure::OwnUnregistered {
        subject: person.tls().leaf().subject.clone(),
        key_hash: person.tls().leaf().key_hash,
    };
    let told = async {
        loop {
            let status = call(channel.clone()).await.unwrap_err();
            if TlsFailure::find(&status).as_ref() == Some(&expected) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, Validity::leaf());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    server.registry.add(person.tls());
    let channel = dialer(person.tls(), cluster.bundle()).connect(&server.endpoint()).await.unwrap();
    let not_after = person.tls().leaf().validity.not_after;
    server.listening.0.recheck_at(not_after);
    call(channel.clone()).await.unwrap();
    assert_eq!(server.listening.counters().closed_by_recheck, 0);
    server.listening.0.recheck_at(not_after.plus(Duration::from_secs(1)));
    assert_eq!(server.listening.counters().closed_by_recheck, 1);
    wait_for("the connection to be closed", || server.listening.counters().open == 0).await;
    drop(channel);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_after_rotation_and_keeps_its_key() {
    let cluster = cluster(super::test_cluster::expired());
    let person = person(&cluster, Validity::leaf());
    let node = &cluster.nodes()[0];
    let server = TestServer::start(node, Roles::EVERYONE, PortLimits::default()).await;
    server.registry.add(person.tls());
    let dialer = dialer(person.tls(), cluster.bundle());
    assert_eq!(failure(&dialer, &server.endpoint()).await.code(), "tls_peer_expired");

    let renewed = node.renewed(Validity::leaf()).unwrap();
    assert_eq!(renewed.trusted(), node.trusted());
    let tls = ServerTls::new(renewed.tls(), node.bundle(), Roles::EVERYONE, server.registry.clone()).unwrap();
    server.listening.rotate(tls);
    call(dialer.connect(&server.endpoint()).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_rotated_dialer_shows_its_new_certificate() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, super::test_cluster::expired());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    server.registry.add(person.tls());
    let dialer = dialer(person.tls(), cluster.bundle());
    let channel = dialer.connect_lazy(&server.endpoint()).unwrap();
    let status = call(channel.clone()).await.unwrap_err();
    assert_eq!(TlsFailure::find(&status).unwrap().code(), "tls_own_expired");

    // Renewal: the same keys ask again, and the answer is joined to them.
    let request = person.renewal_request().unwrap();
    let issued =
        cluster.issuers().issue_person(&request, Validity::leaf(), cluster.bundle(), Vec::new()).unwrap();
    let renewed = person.renewed(&issued).unwrap();
    assert_eq!(renewed.keys(), person.keys());
    let authority = std::sync::Arc::new(crate::CertificateAlone);
    dialer.rotate(crate::ClientTls::new(renewed.tls(), cluster.bundle(), authority).unwrap());
    call(channel).await.unwrap();
}

#[tokio::test]
async fn shutdown_closes_the_port_and_leaves_running_calls_alone() {
    let cluster = cluster(Validity::leaf());
    let person = person(&cluster, Validity::leaf());
    let server = TestServer::start(&cluster.nodes()[0], Roles::EVERYONE, PortLimits::default()).await;
    server.registry.add(person.tls());
    let dialer = dialer(person.tls(), cluster.bundle());
    let channel = dialer.connect(&server.endpoint()).await.unwrap();
    server.shutdown.cancel();
    let refused = async {
        loop {
            if let Err(TlsFailure::Unreachable { .. }) = dialer.connect(&server.endpoint()).await {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap();
    call(channel).await.unwrap();
}

#[tokio::test]
async fn a_key_removed_during_its_handshake_is_not_let_in() {
    let cluster = cluster(Validity::leaf());
    let [one, two] = cluster.nodes() else { panic!("two nodes") };
    let registry = std::sync::Arc::new(Registry::default());
    registry.add(two.tls());
    let tls = ServerTls::new(one.tls(), one.bundle(), Roles::NODES, registry.clone()).unwrap();
    let port = Port::new(tls, None, None);
    let from = "127.0.0.1:1".parse().unwrap();
    let open = port.register(Some(two.tls().leaf()), from).unwrap();
    assert_eq!(port.counters().open, 1);
    registry.remove(two.tls());
    let failure = port.register(Some(two.tls().leaf()), from).unwrap_err();
    assert_eq!(failure.code(), "tls_peer_unregistered");
    assert_eq!(port.counters().open, 1, "the refused one is not in the table");
    drop(open);
    assert_eq!((port.counters().open, port.counters().established), (0, 1));
}
