//! HTTP/JSON for every language, on loopback or a Unix socket: `POST /v1/decide`, `GET /v1/halted`, health and metrics.
//! `docs/sidecar.md` describes it for callers.

mod decide;
mod error;
mod halted;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::{get, post},
};
use haltline_core::limits::{SIDECAR_HEADER_BYTES_MAX, SIDECAR_REQUEST_TIMEOUT};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::error::HttpError;
use super::{
    action_rules::{HeaderFound, HeaderSource},
    desk::Desk,
    listener::{Connection, Listener},
};

/// The text format that Prometheus reads.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What callers of this machine may ask.
pub(super) fn api(desk: Arc<Desk>) -> Router {
    let routes = Router::new()
        .route("/v1/decide", post(decide::decide))
        .route("/v1/halted", get(halted::halted))
        .method_not_allowed_fallback(|| async { HttpError::Method })
        .fallback(|| async { HttpError::NoSuchPath });
    with_probes(routes).with_state(desk)
}

/// Health and metrics alone.
pub(super) fn probes(desk: Arc<Desk>) -> Router {
    with_probes(Router::new().fallback(|| async { HttpError::NoSuchPath })).with_state(desk)
}

fn with_probes(router: Router<Arc<Desk>>) -> Router<Arc<Desk>> {
    router
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// The lease is live and the sidecar isn't stopping. Send it no requests if not: it would refuse them.
async fn readyz(State(desk): State<Arc<Desk>>) -> impl IntoResponse {
    match desk.unready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(desk): State<Arc<Desk>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPENMETRICS)], desk.metrics_page())
}

/// Serves until `draining` is cancelled; then what is in flight is finished.
pub(super) async fn serve(
    listener: Listener,
    router: Router,
    draining: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = draining.cancelled() => return,
        };
        tasks.spawn(converse(connection, router.clone(), draining.clone()));
    }
}

async fn converse(connection: Connection, router: Router, draining: CancellationToken) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    let header_timeout = Duration::from_millis(SIDECAR_REQUEST_TIMEOUT.0);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(SIDECAR_HEADER_BYTES_MAX);
    let service = TowerToHyperService::new(router);
    let serving = builder.serve_connection(TokioIo::new(connection), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = draining.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

/// Headers of a request to the sidecar itself.
struct OwnHeaders<'a>(&'a axum::http::HeaderMap);

impl HeaderSource for OwnHeaders<'_> {
    fn header(&self, name: &str) -> HeaderFound<'_> {
        let mut values = self.0.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => HeaderFound::Missing,
            (Some(value), None) => value.to_str().map_or(HeaderFound::NotOne, HeaderFound::One),
            _ => HeaderFound::NotOne,
        }
    }
}

/// The whole body, bounded in bytes and time.
async fn read_body(body: Body) -> Result<axum::body::Bytes, HttpError> {
    use haltline_core::limits::SIDECAR_BODY_BYTES_MAX;
    let read = axum::body::to_bytes(body, SIDECAR_BODY_BYTES_MAX);
    let timeout = Duration::from_millis(SIDECAR_REQUEST_TIMEOUT.0);
    match tokio::time::timeout(timeout, read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(HttpError::TooLarge),
        Err(_) => Err(HttpError::TooSlow),
    }
}
