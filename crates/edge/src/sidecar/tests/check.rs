//! `ext_authz`: what is let through, what is refused how, and when an enforcer may fail open.

use envoy_types::pb::envoy::{
    config::core::v3::{HeaderMap, HeaderValue},
    service::auth::v3::{
        CheckResponse, DeniedHttpResponse, attribute_context::HttpRequest, check_response::HttpResponse,
    },
};

use super::lab::{Feeder, Lab, config, header};
use crate::sidecar::SidecarError;

fn denied(response: CheckResponse) -> DeniedHttpResponse {
    match response.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => denied,
        other => panic!("no denied_response: {other:?}"),
    }
}

fn shown(denied: &DeniedHttpResponse) -> (i32, String) {
    let reason = header(&denied.headers, "x-haltline-reason").unwrap();
    (denied.status.as_ref().unwrap().code, reason)
}

#[tokio::test]
async fn a_permitted_request_carries_the_permit() {
    let lab = Lab::start("").await;
    let bearer = format!("Bearer {}", lab.feeder.token());
    let response = lab.check("/tools/pay", &[("authorization", &bearer)]).await;
    let Some(HttpResponse::OkResponse(ok)) = response.http_response else { panic!("{response:?}") };
    assert_eq!(header(&ok.headers, "x-haltline-index").unwrap(), "100");
    let valid_ms: u64 = header(&ok.headers, "x-haltline-permit-ms").unwrap().parse().unwrap();
    assert!((1..=300_000).contains(&valid_ms), "{valid_ms}");
}

#[tokio::test]
async fn refusals_name_code_kill_and_index() {
    let lab = Lab::start("").await;
    let bearer = format!("Bearer {}", lab.feeder.token());
    let good = [("authorization", bearer.as_str())];
    assert_eq!(shown(&denied(lab.check("/tools/pay", &[]).await)), (401, "NO_TOKEN".into()));
    let bad = lab.check("/tools/pay", &[("authorization", "Bearer nonsense")]).await;
    assert_eq!(shown(&denied(bad)), (401, "TOKEN_MALFORMED".into()));
    assert_eq!(shown(&denied(lab.check("/other", &good).await)), (403, "NO_RULE".into()));
    lab.feeder.kill(3, "fleet=acme");
    let killed = denied(lab.check("/tools/pay", &good).await);
    assert_eq!(shown(&killed), (403, "KILLED".into()));
    assert_eq!(header(&killed.headers, "x-haltline-kill").unwrap(), "kill-3");
    assert_eq!(header(&killed.headers, "x-haltline-index").unwrap(), "101");
    let body: serde_json::Value = serde_json::from_str(&killed.body).unwrap();
    assert_eq!((&body["error"]["code"], &body["error"]["kill"]), (&"KILLED".into(), &"kill-3".into()));
}

#[tokio::test]
async fn a_kill_of_one_tool_is_not_escaped_by_another_spelling() {
    let lab = Lab::start("").await;
    let bearer = format!("Bearer {}", lab.feeder.token());
    let good = [("authorization", bearer.as_str())];
    lab.feeder.kill(4, "fleet=acme tool=pay.*");
    for target in ["/tools/pay.out", "/tools/p%61y.out", "/tools/pay%2Eout/?x=/tools/read"] {
        assert_eq!(shown(&denied(lab.check(target, &good).await)), (403, "KILLED".into()), "{target}");
    }
    let other = lab.check("/tools/read", &good).await;
    assert!(matches!(other.http_response, Some(HttpResponse::OkResponse(_))), "{other:?}");
}

#[tokio::test]
async fn a_view_without_a_lease_is_a_denial_and_no_error() {
    let lab = Lab::start("").await;
    let bearer = format!("Bearer {}", lab.feeder.token());
    lab.feeder.core.revoke_lease();
    let refused = denied(lab.check("/tools/pay", &[("authorization", &bearer)]).await);
    assert_eq!(shown(&refused), (503, "NO_LEASE".into()));
    // Who hasn't heard from the cluster can't tell a forged token from one of a new node.
    let unknown = denied(lab.check("/tools/pay", &[("authorization", "Bearer x")]).await);
    assert_eq!(shown(&unknown), (503, "NOT_READY".into()));
}

#[tokio::test]
async fn raw_headers_are_read_too_and_a_second_token_is_none() {
    let lab = Lab::start("").await;
    let token = HeaderValue {
        key: "authorization".into(),
        raw_value: format!("bearer {}", lab.feeder.token()).into_bytes(),
        ..HeaderValue::default()
    };
    let request = |headers| HttpRequest {
        method: "POST".into(),
        path: "/tools/pay".into(),
        header_map: Some(HeaderMap { headers }),
        ..HttpRequest::default()
    };
    let once = lab.check_http(request(vec![token.clone()])).await;
    assert!(matches!(once.http_response, Some(HttpResponse::OkResponse(_))), "{once:?}");
    let twice = lab.check_http(request(vec![token.clone(), token])).await;
    assert_eq!(shown(&denied(twice)), (401, "BAD_TOKEN_HEADER".into()));
}

#[tokio::test]
async fn failing_open_needs_the_record_of_the_cluster() {
    let feeder = Feeder::new(false);
    feeder.give_lease();
    let refused = Lab::around(feeder, config("fail_open = true")).await.err().unwrap();
    assert!(matches!(refused, SidecarError::FailsClosed { .. }), "{refused}");
    assert!(refused.to_string().contains("`haltline edge update edge-1"), "{refused}");
}

#[tokio::test]
async fn failing_open_ends_with_the_record() {
    let feeder = Feeder::new(true);
    feeder.give_lease();
    let lab = Lab::around(feeder, config("fail_open = true")).await.unwrap();
    let bearer = format!("Bearer {}", lab.feeder.token());
    let good = [("authorization", bearer.as_str())];
    lab.feeder.core.revoke_lease();
    let open = lab.check("/tools/pay", &good).await;
    assert!(matches!(open.http_response, Some(HttpResponse::ErrorResponse(_))), "{open:?}");
    // What denies for another reason than ignorance never opens.
    lab.feeder.kill(5, "fleet=acme");
    let killed = lab.check("/tools/pay", &good).await;
    assert_eq!(shown(&denied(killed)), (403, "KILLED".into()));
    assert_eq!(shown(&denied(lab.check("/tools/pay", &[]).await)), (401, "NO_TOKEN".into()));
    lab.feeder
        .apply(haltline_core::event::EnforcementEvent::KillLifted { kill: haltline_core::ids::KillId(5) });
    lab.feeder.set_fails_open(false);
    assert_eq!(shown(&denied(lab.check("/tools/pay", &good).await)), (503, "NO_LEASE".into()));
}
