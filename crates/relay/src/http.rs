//! Health and metrics of a relay, on loopback: `/healthz`, `/readyz`, `/metrics`.

use std::{sync::Arc, time::Duration};

use axum::{
    Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse,
    routing::get,
};
use haltline_core::limits::{HTTP_CONNECTIONS_MAX, HTTP_HEADER_TIMEOUT};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::health::Health;

/// How long the loop rests after `accept` failed, as it does when file descriptors run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until `closing` is cancelled.
pub(crate) async fn serve(listener: TcpListener, health: Arc<Health>, closing: CancellationToken) {
    let router = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    let (places, conversations) = (Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX)), TaskTracker::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => return,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_BACKOFF).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(%peer, max = HTTP_CONNECTIONS_MAX, "HTTP connection refused: too many are open");
            continue;
        };
        let (router, closing) = (router.clone(), closing.clone());
        conversations.spawn(async move {
            tokio::select! {
                () = converse(stream, router) => {}
                () = closing.cancelled() => {}
            }
            drop(place);
        });
    }
}

async fn converse(stream: TcpStream, router: Router) {
    let mut builder = Builder::new(hyper_util::rt::TokioExecutor::new()).http1_only();
    let patience = Duration::from_millis(HTTP_HEADER_TIMEOUT.0);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience);
    let service = TowerToHyperService::new(router);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

/// Somebody below would become fresh here. Send nobody if not.
async fn readyz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    match health.unready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPENMETRICS)], health.metrics_page())
}
