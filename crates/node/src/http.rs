//! The plain HTTP listener: `/healthz`, `/readyz`, `/metrics`. For probes and scrapers on the same machine.

use std::sync::Arc;

use axum::{
    Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse,
    routing::get,
};
use haltline_core::limits::{HTTP_CONNECTIONS_MAX, HTTP_HEADER_TIMEOUT};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// How long the loop rests after `accept` failed, as it does when file descriptors run out.
const ACCEPT_BACKOFF: std::time::Duration = std::time::Duration::from_millis(50);
/// The text format that Prometheus reads.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until `shutdown` is cancelled.
pub(crate) async fn serve(listener: TcpListener, health: Arc<Health>, shutdown: CancellationToken) {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    let connections = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_BACKOFF).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            tracing::warn!(%peer, max = HTTP_CONNECTIONS_MAX, "HTTP connection refused: too many are open");
            continue;
        };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, router) => {}
                () = shutdown.cancelled() => {}
            }
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let mut builder = Builder::new(TokioExecutor::new());
    let header_timeout = std::time::Duration::from_millis(HTTP_HEADER_TIMEOUT.0);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout);
    let service = TowerToHyperService::new(router);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

/// The process is alive and its storage has not failed. Restart it if not.
async fn healthz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    match health.fatal() {
        None => (StatusCode::OK, "alive\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// A leader is known and this node has caught up with it. Send it no calls if not.
async fn readyz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    match health.unready() {
        None => {
            let warning = health.warning().map_or_else(String::new, |warning| format!("{warning}\n"));
            (StatusCode::OK, format!("ready\n{warning}"))
        }
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPENMETRICS)], health.metrics_page())
}
