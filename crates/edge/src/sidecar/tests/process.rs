//! `ext_proc`: a stream that lasts as long as what it stands beside, and cuts it.

use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpBody, HttpHeaders, HttpTrailers, ImmediateResponse, ProcessingRequest, ProcessingResponse,
    processing_request::Request as Asked, processing_response::Response as Answered,
};
use tonic::Code;

use super::lab::{Beside, Lab, header, request_headers, until};

fn immediate(response: ProcessingResponse) -> ImmediateResponse {
    match response.response {
        Some(Answered::ImmediateResponse(immediate)) => immediate,
        other => panic!("no immediate response: {other:?}"),
    }
}

fn reason(immediate: &ImmediateResponse) -> (i32, String) {
    let headers = &immediate.headers.as_ref().unwrap().set_headers;
    (immediate.status.as_ref().unwrap().code, header(headers, "x-haltline-reason").unwrap())
}

/// A stream beside a request that was let through.
async fn begun(lab: &Lab, target: &str) -> Beside {
    let mut beside = lab.process().await;
    let first = beside.ask(Asked::RequestHeaders(request_headers(target, &lab.feeder.token()))).await;
    let Some(Answered::RequestHeaders(headers)) = first.response else { panic!("{first:?}") };
    let mutation = headers.response.unwrap().header_mutation.unwrap();
    assert!(header(&mutation.set_headers, "x-haltline-permit-until").is_some());
    beside
}

/// The refusal by which a stream is cut, and the error that follows it.
async fn cut(beside: &mut Beside) -> (i32, String) {
    let refusal = reason(&immediate(beside.answered.message().await.unwrap().unwrap()));
    assert_eq!(beside.answered.message().await.unwrap_err().code(), Code::PermissionDenied);
    refusal
}

#[tokio::test]
async fn a_kill_cuts_what_is_in_flight() {
    let lab = Lab::start("").await;
    let mut beside = begun(&lab, "/tools/pay").await;
    lab.feeder.kill(3, "fleet=acme");
    assert_eq!(cut(&mut beside).await, (403, "KILLED".into()));
    let metrics = lab.http("GET /metrics", &[], "").await;
    assert!(metrics.contains("haltline_sidecar_streams_cut_total{code=\"KILLED\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_kill_of_one_tool_cuts_its_streams_and_no_others() {
    let lab = Lab::start("").await;
    let (mut pay, mut read) = (begun(&lab, "/tools/pay").await, begun(&lab, "/tools/read").await);
    lab.feeder.kill(3, "fleet=acme tool=pay");
    assert_eq!(cut(&mut pay).await, (403, "KILLED".into()));
    let answer = read.ask(Asked::ResponseHeaders(HttpHeaders::default())).await;
    assert!(matches!(answer.response, Some(Answered::ResponseHeaders(_))), "{answer:?}");
}

#[tokio::test]
async fn a_view_that_goes_stale_cuts_too() {
    let lab = Lab::start("").await;
    let mut beside = begun(&lab, "/tools/pay").await;
    lab.feeder.core.revoke_lease();
    assert_eq!(cut(&mut beside).await, (503, "NO_LEASE".into()));
}

#[tokio::test]
async fn what_is_refused_never_begins() {
    let lab = Lab::start("").await;
    lab.feeder.kill(3, "everything");
    let mut beside = lab.process().await;
    let token = lab.feeder.token();
    let first = beside.ask(Asked::RequestHeaders(request_headers("/tools/pay", &token))).await;
    assert_eq!(reason(&immediate(first)), (403, "KILLED".into()));
    let mut beside = lab.process().await;
    let first = beside.ask(Asked::RequestHeaders(request_headers("/tools/pay", "forged"))).await;
    assert_eq!(reason(&immediate(first)), (401, "TOKEN_MALFORMED".into()));
}

#[tokio::test]
async fn every_mode_is_answered_until_the_stream_ends_in_order() {
    let lab = Lab::start("").await;
    let mut beside = begun(&lab, "/tools/pay").await;
    for (asked, field) in [
        (Asked::RequestBody(HttpBody::default()), "RequestBody"),
        (Asked::RequestTrailers(HttpTrailers::default()), "RequestTrailers"),
        (Asked::ResponseHeaders(HttpHeaders::default()), "ResponseHeaders"),
        (Asked::ResponseBody(HttpBody::default()), "ResponseBody"),
        (Asked::ResponseTrailers(HttpTrailers::default()), "ResponseTrailers"),
    ] {
        let answer = format!("{:?}", beside.ask(asked).await.response.unwrap());
        assert!(answer.starts_with(field), "{answer}");
    }
    let Beside { asked, mut answered } = beside;
    drop(asked);
    assert_eq!(answered.message().await.unwrap(), None);
    until("the slot is free", || async {
        let metrics = lab.http("GET /metrics", &[], "").await;
        metrics.contains("haltline_sidecar_streams_watched 0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_mode_in_which_nothing_can_be_cut_is_refused() {
    let lab = Lab::start("").await;
    let mut beside = lab.process().await;
    let headers = request_headers("/tools/pay", &lab.feeder.token());
    let observing = ProcessingRequest {
        request: Some(Asked::RequestHeaders(headers)),
        observability_mode: true,
        ..ProcessingRequest::default()
    };
    beside.asked.send(observing).await.unwrap();
    assert_eq!(beside.answered.message().await.unwrap_err().code(), Code::FailedPrecondition);
    let mut beside = lab.process().await;
    let first = ProcessingRequest {
        request: Some(Asked::ResponseHeaders(HttpHeaders::default())),
        ..ProcessingRequest::default()
    };
    beside.asked.send(first).await.unwrap();
    assert_eq!(beside.answered.message().await.unwrap_err().code(), Code::InvalidArgument);
}
