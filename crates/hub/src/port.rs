//! The edge port's server: HTTP/2 connections that are open for months, each with its calls on one task
//! ([`crate::one_task`]).

use std::{convert::Infallible, time::Duration};

use haltline_core::limits::{
    API_HEADER_BYTES_MAX, EDGE_STREAMS_PER_CONNECTION, HTTP2_PING_INTERVAL, HTTP2_PING_TIMEOUT,
};
use haltline_pki::{Incoming, TlsConnection};
use hyper::{body::Incoming as RequestBody, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    body::Body,
    codegen::http::{Request, Response},
};
use tower::Service;

use crate::{
    one_task::{Calls, OneTask},
    service::EdgePort,
    upstream::Upstream,
};

impl<U, S> EdgePort<U, S>
where
    U: Upstream,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    /// Serves the connections of a port, until none comes any more or `closing` is cancelled, and those that are open
    /// have ended in order.
    pub async fn serve(self, mut incoming: Incoming, closing: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let connection = tokio::select! {
                connection = incoming.accept() => connection,
                () = closing.cancelled() => None,
            };
            let Some(connection) = connection else { break };
            connections.spawn(serve_connection(connection, self.clone(), closing.clone()));
        }
        connections.close();
        connections.wait().await;
    }
}

async fn serve_connection<U, S>(connection: TlsConnection, port: EdgePort<U, S>, closing: CancellationToken)
where
    U: Upstream,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let peer = connection.peer().clone();
    let service = hyper::service::service_fn(move |request: Request<RequestBody>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        port.clone().call(request)
    });
    let calls = Calls::default();
    let serving = http2::Builder::new(calls.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(EDGE_STREAMS_PER_CONNECTION)
        .keep_alive_interval(Duration::from_millis(HTTP2_PING_INTERVAL.0))
        .keep_alive_timeout(Duration::from_millis(HTTP2_PING_TIMEOUT.0))
        .max_header_list_size(API_HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(connection), service);
    let serving = OneTask::new(serving, calls)
        .told_when(closing.cancelled_owned(), |serving| serving.graceful_shutdown());
    if let Err(error) = serving.await {
        tracing::debug!(%error, "a connection of an enforcer ended");
    }
}
