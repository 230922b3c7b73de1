//! Health, readiness, metrics, reflection, limits on watches.

use haltline_node::{NodeError, run};
use haltline_wire::{
    refusal::Refusal,
    v1::{self, cluster_service_client::ClusterServiceClient},
};
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::harness::{Cluster, fleet, refused, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_over_both_listeners() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    let mut health = HealthClient::new(ada.channel.clone());
    for service in ["", "haltline.v1.KillService"] {
        until("the service is serving", async || {
            let check = HealthCheckRequest { service: service.into() };
            let answer = health.check(check).await.ok()?.into_inner();
            (answer.status() == ServingStatus::Serving).then_some(())
        })
        .await;
    }
    assert_eq!(cluster.get("/healthz").await.unwrap(), (200, "alive\n".into()));
    assert_eq!(cluster.get("/readyz").await.unwrap().0, 200);
    assert_eq!(cluster.get("/else").await.unwrap().0, 404);
    ada.command(fleet("acme")).await.unwrap();
    let (code, page) = cluster.get("/metrics").await.unwrap();
    assert_eq!(code, 200);
    for line in [
        "haltline_is_leader 1",
        "haltline_table_entries{table=\"fleets\"} 1",
        "haltline_commands_total{command=\"fleet_create\",result=\"ok\"} 1",
        "haltline_connections 1",
    ] {
        assert!(page.lines().any(|got| got == line), "{line} is not in:\n{page}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_lists_every_service() {
    let cluster = Cluster::start().await;
    let mut client = ServerReflectionClient::new(cluster.ada().await.channel);
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let ask = ServerReflectionRequest { host: String::new(), message_request };
    let mut answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["haltline.v1.KillService", "haltline.v1.CommandService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    drop(answers);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_are_bounded_and_say_where_they_could_begin() {
    let cluster = Cluster::start_with(|config| config.watchers_max = 1).await;
    let ada = cluster.ada().await;
    let mut clusters = ClusterServiceClient::new(ada.channel.clone());
    let watch = |from_index| v1::WatchEventsRequest { from_index };
    let mut first = clusters.watch_events(watch(0)).await.unwrap().into_inner();
    let refusal = refused(clusters.watch_events(watch(0)).await).unwrap_err();
    assert_eq!(refusal.reason, "TOO_MANY_WATCHERS");
    ada.command(fleet("acme")).await.unwrap();
    let event = first.message().await.unwrap().unwrap();
    assert_eq!(
        (event.kind.as_str(), event.subject.as_str(), event.by.as_str()),
        ("fleet_created", "acme", "ada")
    );
    drop(first);

    // After a restart the ring begins where the log was applied from; what lies before is told by name.
    let cluster = cluster.restart().await;
    let ada = cluster.ada().await;
    let mut clusters = ClusterServiceClient::new(ada.channel.clone());
    let mut events = clusters.watch_events(watch(1)).await.unwrap().into_inner();
    match events.message().await {
        Ok(event) => assert_eq!(event.unwrap().kind, "founded"),
        Err(status) => assert_eq!(Refusal::from_status(&status).reason, "EVENTS_NOT_HELD"),
    }
    drop(events);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_data_is_refused() {
    let cluster = Cluster::start().await;
    let mut config = cluster.config.clone();
    let anywhere = "127.0.0.1:0".parse().unwrap();
    (config.listen_api, config.listen_raft, config.listen_http) = (anywhere, anywhere, anywhere);
    (config.listen_edge, config.listen_public) = (anywhere, anywhere);
    let error = run(config, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, NodeError::Storage(_)), "{error}");
    assert_eq!(error.code(), "node_storage");
    let error = run(cluster.config.clone(), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, NodeError::Bind { .. }), "{error}");
    cluster.stop().await;
}
