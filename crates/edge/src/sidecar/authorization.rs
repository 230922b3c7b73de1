//! Envoy's `ext_authz` over gRPC: may this request go on?
//!
//! What must stay true: a refusal is a `denied_response`, also when the view is stale. Envoy's `failure_mode_allow` looks
//! only at errors, so an operator who sets it opens nothing here. `error_response` is what an enforcer sends that the log
//! knows to fail open.

use std::sync::Arc;

use envoy_types::pb::{
    envoy::service::auth::v3::{
        CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse, attribute_context::HttpRequest,
        authorization_server::Authorization as AuthorizationService, check_response::HttpResponse,
    },
    google::rpc,
};
use tonic::{Code, Request, Response, Status};

use super::{
    action_rules::{Call, HeaderSource},
    answer::{self, Kind, Refusal},
    desk::Desk,
    envoy::{self, Joined, Listed},
    metrics::Surface,
};
use crate::enforce::Permit;

/// The service.
#[derive(Debug)]
pub(super) struct Authorization(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl AuthorizationService for Authorization {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let http = request.get_ref().attributes.as_ref().and_then(|all| all.request.as_ref());
        let answer = match http.and_then(|request| request.http.as_ref()) {
            Some(http) => self.judge(http),
            None => Err(Refusal::malformed("the HTTP request")),
        };
        Ok(Response::new(match answer {
            Ok(permit) => allowed(&permit),
            Err(refusal) => refused(&refusal, self.0.opens_for(&refusal)),
        }))
    }
}

impl Authorization {
    fn judge(&self, http: &HttpRequest) -> Result<Permit, Refusal> {
        let (joined, listed);
        let headers: &dyn HeaderSource = match &http.header_map {
            Some(map) => {
                listed = Listed::of(Some(map));
                &listed
            }
            None => {
                joined = Joined(&http.headers);
                &joined
            }
        };
        let call = Call { method: &http.method, target: &http.path, host: &http.host, headers };
        self.0.judge(Surface::Check, &call).map(|(_, permit)| permit)
    }
}

fn grpc_status(code: Code) -> Option<rpc::Status> {
    Some(rpc::Status { code: code.into(), ..rpc::Status::default() })
}

fn allowed(permit: &Permit) -> CheckResponse {
    let headers = envoy::overwriting(answer::permit_headers(permit), false);
    CheckResponse {
        status: grpc_status(Code::Ok),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
            headers,
            ..OkHttpResponse::default()
        })),
        ..CheckResponse::default()
    }
}

fn refused(refusal: &Refusal, opens: bool) -> CheckResponse {
    let mut headers = envoy::overwriting(answer::refusal_headers(refusal), false);
    headers.extend(envoy::overwriting([("content-type", "application/json".to_owned())], false));
    let denied = DeniedHttpResponse {
        status: envoy::status(refusal.kind.status()),
        headers,
        body: envoy::body(refusal),
    };
    let code = match refusal.kind {
        Kind::Token => Code::Unauthenticated,
        Kind::Denied => Code::PermissionDenied,
        Kind::Ignorant => Code::Unavailable,
    };
    let response =
        if opens { HttpResponse::ErrorResponse(denied) } else { HttpResponse::DeniedResponse(denied) };
    CheckResponse { status: grpc_status(code), http_response: Some(response), ..CheckResponse::default() }
}
