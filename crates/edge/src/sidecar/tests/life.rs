//! Health, where the sidecar listens, and its end in order.

use std::os::unix::fs::PermissionsExt;

use envoy_types::pb::envoy::service::ext_proc::v3::{
    processing_request::Request as Asked, processing_response::Response as Answered,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::lab::{Feeder, Lab, config, header, request_headers, until};

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap()
}

#[tokio::test]
async fn ready_is_who_has_a_lease() {
    let lab = Lab::around(Feeder::new(false), config("")).await.unwrap();
    assert_eq!(status(&lab.http("GET /readyz", &[], "").await), "503");
    assert_eq!(status(&lab.http("GET /healthz", &[], "").await), "200");
    lab.feeder.give_lease();
    assert_eq!(status(&lab.http("GET /readyz", &[], "").await), "200");
    lab.feeder.core.revoke_lease();
    assert_eq!(status(&lab.http("GET /readyz", &[], "").await), "503");
}

#[tokio::test]
async fn unix_sockets_are_private_and_serve_health_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("edge.sock");
    let feeder = Feeder::new(false);
    let mut config = config("");
    config.grpc = format!("unix:{}", path.display()).parse().unwrap();
    let lab = Lab::around(feeder, config).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let socket = path.clone();
    let dial = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://socket").connect_with_connector(dial).await.unwrap();
    let health = HealthClient::new(channel);
    let told = |wanted: ServingStatus| {
        let health = health.clone();
        async move {
            until("health says so", || async {
                let answer = health.clone().check(HealthCheckRequest::default()).await.unwrap();
                (answer.into_inner().status() == wanted).then_some(())
            })
            .await;
        }
    };
    told(ServingStatus::NotServing).await;
    lab.feeder.give_lease();
    told(ServingStatus::Serving).await;
    lab.shutdown.cancel();
    lab.served.await.unwrap().unwrap();
    assert!(!path.exists(), "the socket's file goes with the sidecar");
}

#[tokio::test]
async fn a_stopping_sidecar_waits_for_streams_then_cuts_them() {
    let lab = Lab::start("drain_timeout = \"300ms\"").await;
    let mut ended = lab.process().await;
    let mut stuck = lab.process().await;
    for beside in [&mut ended, &mut stuck] {
        let headers = request_headers("/tools/pay", &lab.feeder.token());
        let first = beside.ask(Asked::RequestHeaders(headers)).await;
        assert!(matches!(first.response, Some(Answered::RequestHeaders(_))), "{first:?}");
    }
    lab.shutdown.cancel();
    drop(ended.asked);
    assert_eq!(ended.answered.message().await.unwrap(), None);
    let cut = stuck.answered.message().await.unwrap().unwrap();
    let Some(Answered::ImmediateResponse(immediate)) = cut.response else { panic!("{cut:?}") };
    let headers = immediate.headers.unwrap().set_headers;
    assert_eq!(header(&headers, "x-haltline-reason").unwrap(), "STOPPING");
    assert!(stuck.answered.message().await.is_err());
    lab.served.await.unwrap().unwrap();
}
