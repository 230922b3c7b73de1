//! Callers that must not get in, and messages that must not be taken.

use std::sync::Arc;

use haltline_core::command::Role;
use haltline_pki::{CertificateAlone, ClientTls, Dialer, NodeIdentity, PendingPerson, TlsFailure, Validity};
use haltline_testkit::cluster::Person;
use haltline_wire::v1::{
    self, GetClusterRequest, cluster_service_client::ClusterServiceClient,
    fleet_service_client::FleetServiceClient,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    people::{enrol, enrol_with_two},
    running,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_whose_key_is_not_registered_is_nobodys() {
    let (cluster, _) = running(1).await;
    let node = NodeIdentity::load(&cluster.nodes[0].directory.join("identity")).expect("the node's identity");
    let pending = PendingPerson::create(&"mallory".parse().expect("a name")).expect("keys");
    let issued = node
        .issuers()
        .issue_person(pending.request(), Validity::leaf(), node.bundle(), cluster.endpoints())
        .expect("a certificate");
    let mallory = Person::new(pending.complete(&issued).expect("fits"), cluster.endpoints()).expect("TLS");
    let failure = dialer(&mallory).connect(&cluster.nodes[0].endpoint()).await.expect_err("nobody");
    assert!(matches!(failure, TlsFailure::OwnUnregistered { .. }), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_who_was_removed_is_nobody_at_once() {
    use haltline_core::command::{Command, PersonRemove};
    let (cluster, ada) = running(1).await;
    let (bob, _) = enrol(&cluster, &ada, "bob", Role::Admin).await;
    let told = ada.cluster(0).await.expect("it answers");
    let eve = enrol_with_two(&cluster, &ada, &bob, "eve", Role::Approver).await;
    eve.status(0).await.expect("eve is somebody");
    let remove = Command::PersonRemove(PersonRemove { person: eve.id().clone() });
    ada.send(0, &ada.request_at(&told, remove)).await.expect("removing takes one person");
    eve.status(0).await.expect_err("the open connection is of no use any more");
    let failure = dialer(&eve).connect(&cluster.nodes[0].endpoint()).await.expect_err("eve is nobody now");
    assert!(matches!(failure, TlsFailure::OwnUnregistered { .. }), "{failure:?}");
}

/// Opens connections in somebody's name, and tells why it can't.
pub(super) fn dialer(person: &Person) -> Dialer {
    let identity = person.identity();
    let tls = ClientTls::new(identity.tls(), identity.bundle(), Arc::new(CertificateAlone));
    Dialer::new(tls.expect("a TLS configuration"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clusters_node_and_person_are_told_apart() {
    let (one, ada) = running(1).await;
    let (other, _) = running(1).await;
    let failure = dialer(&ada).connect(&other.nodes[0].endpoint()).await.expect_err("a foreign node");
    assert!(matches!(failure, TlsFailure::PeerForeign { .. } | TlsFailure::OwnForeign { .. }), "{failure:?}");
    drop(one);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversize_message_is_refused_by_name() {
    let (_cluster, ada) = running(1).await;
    let fleet = v1::Fleet { path: "acme/big".into(), owner: "x".repeat(64 << 20), ..Default::default() };
    let request = v1::CreateFleetRequest { meta: None, fleet: Some(fleet) };
    let status = FleetServiceClient::new(ada.channel(0)).create_fleet(request).await.expect_err("64 MiB");
    assert!(matches!(status.code(), tonic::Code::OutOfRange | tonic::Code::ResourceExhausted), "{status:?}");
    ada.status(0).await.expect("the node goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_any_port_ends_that_connection_and_nothing_else() {
    let (cluster, ada) = running(1).await;
    let node = &cluster.nodes[0];
    for address in [node.api, node.raft, node.http] {
        for garbage in [
            &b"\0\xff\x16\x03\x01garbage"[..],
            &[0x16; 65_536],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff",
        ] {
            let mut socket = tokio::net::TcpStream::connect(address).await.expect("the port is open");
            // The node may hang up before all is written; that is what it should do.
            let _ = socket.write_all(garbage).await;
            let _ = socket.shutdown().await;
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer).await;
        }
    }
    ada.status(0).await.expect("the node goes on");
    let mut client = ClusterServiceClient::new(ada.channel(0));
    client.get_cluster(GetClusterRequest {}).await.expect("and serves");
}
