//! The calling side: a verified connection to a node, or a gRPC channel over such connections.
//!
//! In TLS 1.3 a client's handshake is done before the server has looked at its certificate. So a dial ends only when the
//! server has said its first word, which an HTTP/2 server does at once; a refusal comes as an alert instead, and as a
//! typed failure from here, rather than as a broken connection somewhere in the middle of the first call.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use haltline_core::{
    limits::{CONNECT_CONFIRM_TIMEOUT, CONNECT_TIMEOUT, HTTP2_PING_INTERVAL, HTTP2_PING_TIMEOUT},
    time::Millis,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{io::AsyncBufReadExt, net::TcpStream, sync::watch, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Uri};

use crate::{
    connection::ClientConnection, endpoint::Endpoint, failure::TlsFailure, tcp, tls_config::ClientTls,
    verify::Verdict,
};

/// Opens connections in one name. Cheap to clone; all clones and all channels follow a [`Dialer::rotate`].
#[derive(Debug, Clone)]
pub struct Dialer {
    tls: Arc<watch::Sender<ClientTls>>,
    timeout: Millis,
}

impl Dialer {
    /// A dialer that waits [`CONNECT_TIMEOUT`] for an answer.
    #[must_use]
    pub fn new(tls: ClientTls) -> Self {
        Self { tls: Arc::new(watch::Sender::new(tls)), timeout: CONNECT_TIMEOUT }
    }

    /// The same dialer with another patience, TCP and TLS together.
    #[must_use]
    pub fn with_timeout(self, timeout: Millis) -> Self {
        Self { timeout, ..self }
    }

    /// Shows another certificate from the next connection on, channels that reconnect included.
    pub fn rotate(&self, tls: ClientTls) {
        self.tls.send_replace(tls);
    }

    /// A gRPC channel that is connected, and reconnects by itself.
    ///
    /// # Errors
    /// Why the first connection failed.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, TlsFailure> {
        let channel = tonic_endpoint(endpoint)?.connect_with_connector(self.connector(endpoint)).await;
        channel.map_err(|error| explain_channel(&error))
    }

    /// A gRPC channel that connects when it is first used. A call that can't connect fails as `Unavailable`;
    /// [`TlsFailure::find`] on its `Status` tells why.
    ///
    /// # Errors
    /// [`TlsFailure::Unreachable`] if the endpoint is no address that HTTP can write.
    pub fn connect_lazy(&self, endpoint: &Endpoint) -> Result<Channel, TlsFailure> {
        self.connect_lazy_tuned(endpoint, |tonic| tonic)
    }

    /// As [`Dialer::connect_lazy`], with a say in windows, timeouts and limits of the channel.
    ///
    /// # Errors
    /// As [`Dialer::connect_lazy`].
    pub fn connect_lazy_tuned(
        &self,
        endpoint: &Endpoint,
        tune: impl FnOnce(tonic::transport::Endpoint) -> tonic::transport::Endpoint,
    ) -> Result<Channel, TlsFailure> {
        Ok(tune(tonic_endpoint(endpoint)?).connect_with_connector_lazy(self.connector(endpoint)))
    }

    /// A connection as bytes, whose server is verified and has accepted our certificate.
    ///
    /// # Errors
    /// Why not.
    pub async fn dial(&self, endpoint: &Endpoint) -> Result<ClientConnection, TlsFailure> {
        let tls = self.tls.borrow().clone();
        match timeout(tcp::duration(self.timeout), dial(tls, endpoint)).await {
            Ok(result) => result,
            Err(_) => Err(TlsFailure::Timeout { address: endpoint.to_string(), timeout_ms: self.timeout.0 }),
        }
    }

    fn connector(&self, endpoint: &Endpoint) -> Connector {
        Connector { dialer: self.clone(), endpoint: endpoint.clone() }
    }
}

/// Dials one endpoint whenever a channel needs a connection.
#[derive(Debug)]
struct Connector {
    dialer: Dialer,
    endpoint: Endpoint,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<ClientConnection>;
    type Error = TlsFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, TlsFailure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TlsFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (dialer, endpoint) = (self.dialer.clone(), self.endpoint.clone());
        Box::pin(async move { dialer.dial(&endpoint).await.map(TokioIo::new) })
    }
}

async fn dial(tls: ClientTls, endpoint: &Endpoint) -> Result<ClientConnection, TlsFailure> {
    let (name, tcp) = open_tcp(endpoint).await?;
    let verdict = Verdict::default();
    let config = tls
        .config_for(endpoint.expected(), verdict.clone())
        .map_err(|error| TlsFailure::Broken { reason: error.to_string() })?;
    let mut stream = TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .map_err(|error| verdict.failure().unwrap_or_else(|| tls.explain(&error)))?;
    first_word(&mut stream, endpoint, |error| tls.explain(error)).await?;
    Ok(ClientConnection { stream, tls })
}

/// Opens a TCP connection to an endpoint, for a handshake under this name.
pub(crate) async fn open_tcp(endpoint: &Endpoint) -> Result<(ServerName<'static>, TcpStream), TlsFailure> {
    let unreachable = |reason: String| TlsFailure::Unreachable { address: endpoint.to_string(), reason };
    let name = endpoint.server_name().map_err(|error| unreachable(error.to_string()))?;
    let tcp =
        TcpStream::connect(endpoint.socket_target()).await.map_err(|error| unreachable(error.to_string()))?;
    tcp::tune(&tcp).map_err(|error| unreachable(error.to_string()))?;
    Ok((name, tcp))
}

/// Waits for the server's first word, by which it accepts us.
pub(crate) async fn first_word(
    stream: &mut TlsStream<TcpStream>,
    endpoint: &Endpoint,
    explain: impl Fn(&std::io::Error) -> TlsFailure,
) -> Result<(), TlsFailure> {
    match timeout(tcp::duration(CONNECT_CONFIRM_TIMEOUT), stream.fill_buf()).await {
        Ok(Ok([])) => {
            Err(TlsFailure::Broken { reason: "the node closed it right after the handshake".into() })
        }
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(explain(&error)),
        Err(_) => {
            tracing::debug!(%endpoint, "the server waits to be spoken to; taking that for acceptance");
            Ok(())
        }
    }
}

/// What the failure of a channel's first connection comes to.
pub(crate) fn explain_channel(error: &tonic::transport::Error) -> TlsFailure {
    TlsFailure::find(error).unwrap_or_else(|| TlsFailure::Broken { reason: sources(error) })
}

pub(crate) fn tonic_endpoint(endpoint: &Endpoint) -> Result<tonic::transport::Endpoint, TlsFailure> {
    let unreachable = |error: &dyn std::fmt::Display| TlsFailure::Unreachable {
        address: endpoint.to_string(),
        reason: error.to_string(),
    };
    // The channel is told `http` because TLS is the connector's business; the requests say `https`, as they are.
    let origin: Uri = format!("https://{endpoint}").parse().map_err(|error| unreachable(&error))?;
    Ok(tonic::transport::Endpoint::from_shared(format!("http://{endpoint}"))
        .map_err(|error| unreachable(&error))?
        .origin(origin)
        .http2_keep_alive_interval(tcp::duration(HTTP2_PING_INTERVAL))
        .keep_alive_timeout(tcp::duration(HTTP2_PING_TIMEOUT))
        .keep_alive_while_idle(true))
}

fn sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
