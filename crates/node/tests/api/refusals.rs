//! Bad input: what is refused, and in which words.

use haltline_core::{
    command::Command,
    ids::KillId,
    limits::{API_REQUEST_BYTES_MAX, PAGE_SIZE_MAX},
};
use haltline_wire::v1::{
    self, command_request::Command as Message, fleet_service_client::FleetServiceClient,
    kill_service_client::KillServiceClient,
};
use tonic::{Code, client::Grpc, codegen::http::uri::PathAndQuery};

use crate::harness::{Cluster, Person, agent, fleet, kill, random_id, refused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_name_reason_field_and_a_way_out() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    ada.command(fleet("acme")).await.unwrap();
    ada.command(fleet("acme/finance")).await.unwrap();
    let mut fleets = FleetServiceClient::new(ada.channel.clone());

    let get = |path: &str| v1::GetFleetRequest { path: path.into() };
    let refusal = refused(fleets.get_fleet(get("Acme")).await).unwrap_err();
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    assert_eq!(refusal.field(), Some("path"));
    let refusal = refused(fleets.get_fleet(get("acme/finanse")).await).unwrap_err();
    assert_eq!((refusal.code, refusal.metadata["nearest"].as_str()), (Code::NotFound, "acme/finance"));

    let list = |page_size, page_token: &str| v1::ListAgentsRequest {
        page_size,
        page_token: page_token.into(),
        ..v1::ListAgentsRequest::default()
    };
    let refusal = refused(fleets.list_agents(list(PAGE_SIZE_MAX + 1, "")).await).unwrap_err();
    assert_eq!(refusal.field(), Some("page_size"));
    let refusal = refused(fleets.list_agents(list(0, "zz")).await).unwrap_err();
    assert_eq!(refusal.reason, "PAGE_TOKEN");

    assert_eq!(ada.command(fleet("acme")).await.unwrap_err().code, Code::AlreadyExists);
    assert_eq!(ada.command(agent("nowhere/x")).await.unwrap_err().reason, "UNKNOWN_FLEET");
    assert_eq!(ada.command(kill("fleet=acme/x")).await.unwrap_err().code, Code::NotFound);
    let mut request = ada.request(fleet("acme/late")).await;
    request.deadline = haltline_core::time::ClusterTime(0);
    assert_eq!(ada.send(&request).await.unwrap_err().field(), Some("meta.deadline_ms"));
    let mut forged = ada
        .request(Command::Resume(haltline_core::command::Resume {
            kill: KillId(7),
            selector: "fleet=acme".parse().unwrap(),
            reason: "x".parse().unwrap(),
        }))
        .await;
    forged.id = random_id();
    assert_eq!(ada.send(&forged).await.unwrap_err().reason, "BAD_SIGNATURE");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversize_and_garbage_get_clear_answers_and_harm_nobody() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    let mut kills = KillServiceClient::new(ada.channel.clone());
    let oversize = v1::CreateKillRequest {
        reason: "x".repeat(API_REQUEST_BYTES_MAX + 1),
        ..v1::CreateKillRequest::default()
    };
    let refusal = refused(kills.create_kill(oversize).await).unwrap_err();
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));

    // A sound message of another type, whose bytes are nonsense for this one.
    let mut raw = Grpc::new(ada.channel.clone());
    raw.ready().await.unwrap();
    let path = PathAndQuery::from_static("/haltline.v1.KillService/CreateKill");
    let garbage = v1::PatternList { patterns: vec!["\u{fffd}".repeat(9)] };
    let codec = tonic_prost::ProstCodec::<v1::PatternList, v1::CommandReply>::default();
    let refusal = refused(raw.unary(tonic::Request::new(garbage), path, codec).await).unwrap_err();
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::InvalidArgument, "MALFORMED_MESSAGE"));

    ada.command(fleet("acme")).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_certificate_and_a_node_get_nowhere() {
    let (cluster, other) = (Cluster::start().await, Cluster::start().await);
    let stranger = Person::connect(other.admin.clone(), &cluster.endpoint).await.err().unwrap();
    assert!(stranger.to_string().contains("cluster"), "{stranger}");

    // A node is known, but it is not a person: it may look, and not command.
    let node = haltline_pki::NodeIdentity::load(&cluster.config.identity_dir).unwrap();
    let tls = haltline_pki::ClientTls::new(
        node.tls(),
        node.bundle(),
        std::sync::Arc::new(haltline_pki::CertificateAlone),
    );
    let channel = haltline_pki::Dialer::new(tls.unwrap()).connect(&cluster.endpoint).await.unwrap();
    let mut clusters = v1::cluster_service_client::ClusterServiceClient::new(channel.clone());
    assert_eq!(clusters.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner().you, "");
    let ada = cluster.ada().await;
    let request = ada.request(fleet("acme")).await;
    let Some(Message::CreateFleet(message)) = haltline_wire::convert::command_request(0, &request).command
    else {
        panic!()
    };
    let refusal = refused(FleetServiceClient::new(channel).create_fleet(message).await).unwrap_err();
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::PermissionDenied, "PEOPLE_ONLY"));
    cluster.stop().await;
    other.stop().await;
}
