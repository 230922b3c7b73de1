//! The two ports of enforcers: the edge port, with mutual TLS, where they sync; and the public port, where they enrol.

use std::{sync::Arc, time::Duration};

use haltline_core::limits::{
    API_HEADER_BYTES_MAX, API_REQUEST_BYTES_MAX, HTTP2_PING_INTERVAL, HTTP2_PING_TIMEOUT,
    PUBLIC_STREAMS_PER_CONNECTION, TLS_CONNECTIONS_MAX, TLS_HANDSHAKE_TIMEOUT, TLS_HANDSHAKES_MAX,
};
use haltline_pki::{
    Authority, Listening, NodeIdentity, PkiError, PortLimits, PublicLimits, PublicListening, PublicTls,
    Roles, ServerTls, listen, listen_public,
};
use haltline_wire::v1::edge_service_server::EdgeServiceServer;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Error, Server};
use tower::Layer as _;

use crate::{context::Context, explain::Explain, services::EdgeCalls};

/// A connection that answers no ping within the timeout is closed.
const PING_INTERVAL: Duration = Duration::from_millis(HTTP2_PING_INTERVAL.0);
const PING_TIMEOUT: Duration = Duration::from_millis(HTTP2_PING_TIMEOUT.0);

/// A port's server, until it has ended.
pub(crate) type Serving = JoinHandle<Result<(), Error>>;

/// Opens the port where enforcers sync.
pub(crate) fn open_edge(
    context: &Arc<Context>,
    listener: TcpListener,
    registry: Arc<dyn Authority>,
    closing: &CancellationToken,
) -> Result<(Serving, Listening), PkiError> {
    let limits = PortLimits {
        connections_max: TLS_CONNECTIONS_MAX,
        handshakes_max: TLS_HANDSHAKES_MAX,
        handshake_timeout: TLS_HANDSHAKE_TIMEOUT,
    };
    let (incoming, listening) = listen(listener, edge_tls(&context.identity, registry)?, limits, closing);
    let calls = EdgeServiceServer::new(EdgeCalls(Arc::clone(context)))
        .max_decoding_message_size(API_REQUEST_BYTES_MAX);
    let port = context.enforcements.hub().service(Explain.layer(calls));
    let closing = closing.clone();
    let serving = async move {
        port.serve(incoming, closing).await;
        Ok(())
    };
    Ok((tokio::spawn(serving), listening))
}

/// Opens the port where enforcers enrol.
pub(crate) fn open_public(
    context: &Arc<Context>,
    listener: TcpListener,
    closing: &CancellationToken,
) -> Result<(Serving, PublicListening), PkiError> {
    let tls = PublicTls::new(context.identity.tls())?;
    let (incoming, listening) = listen_public(listener, tls, PublicLimits::default(), closing);
    let calls = EdgeServiceServer::new(EdgeCalls(Arc::clone(context)))
        .max_decoding_message_size(API_REQUEST_BYTES_MAX);
    let closing = closing.clone();
    let serving = Server::builder()
        .layer(Explain)
        .max_concurrent_streams(PUBLIC_STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .http2_max_header_list_size(API_HEADER_BYTES_MAX)
        .add_service(calls)
        .serve_with_incoming_shutdown(incoming, async move { closing.cancelled().await });
    Ok((tokio::spawn(serving), listening))
}

/// The edge port with this identity and registry.
pub(crate) fn edge_tls(identity: &NodeIdentity, registry: Arc<dyn Authority>) -> Result<ServerTls, PkiError> {
    ServerTls::new(identity.tls(), identity.bundle(), Roles::EDGES, registry)
}
