//! Connections to etcd, with and without TLS, and the operation that is measured: one durable put.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{
    SYSTEM,
    api::{
        PutRequest, StatusRequest, StatusResponse, kv_client::KvClient, maintenance_client::MaintenanceClient,
    },
};
use crate::{failure::Failure, load::Target, workload};

/// Opens a connection to the member at this port of loopback.
pub(crate) async fn connect(port: u16, tls: Option<Arc<ClientConfig>>) -> Result<Channel, Failure> {
    let address = format!("127.0.0.1:{port}");
    let unreachable = |error: tonic::transport::Error| Failure::Call {
        system: SYSTEM,
        reason: format!("can't connect to {address}: {error:?}"),
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unreachable)?;
    let Some(config) = tls else {
        return endpoint.tcp_nodelay(true).connect().await.map_err(unreachable);
    };
    let origin = Uri::builder().scheme("https").authority(address.as_str()).path_and_query("/");
    let origin = origin.build().expect("an address of loopback is an authority");
    let connector = tower::service_fn(move |_: Uri| dial(port, Arc::clone(&config)));
    endpoint.origin(origin).connect_with_connector(connector).await.map_err(unreachable)
}

/// A connection as bytes.
pub(crate) type Wire = Box<dyn Bytes>;

/// See [`Wire`].
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<B: AsyncRead + AsyncWrite + Send + Unpin> Bytes for B {}

/// Dials the member at this port of loopback, with or without TLS.
pub(crate) async fn dial_any(port: u16, tls: Option<Arc<ClientConfig>>) -> std::io::Result<Wire> {
    match tls {
        Some(config) => Ok(Box::new(dial(port, config).await?.into_inner())),
        None => {
            let tcp = TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).await?;
            tcp.set_nodelay(true)?;
            Ok(Box::new(tcp))
        }
    }
}

async fn dial(
    port: u16,
    config: Arc<ClientConfig>,
) -> std::io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let name = ServerName::from(std::net::IpAddr::from(std::net::Ipv4Addr::LOCALHOST));
    let tcp = TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).await?;
    tcp.set_nodelay(true)?;
    TlsConnector::from(config).connect(name, tcp).await.map(TokioIo::new)
}

/// What a member says of itself.
pub(crate) async fn status(channel: &Channel) -> Result<StatusResponse, Failure> {
    let status = MaintenanceClient::new(channel.clone()).status(StatusRequest {}).await;
    status.map(tonic::Response::into_inner).map_err(|status| Failure::call(SYSTEM, &status))
}

/// Puts over one connection.
#[derive(Debug, Clone)]
pub(crate) struct Putter(KvClient<Channel>);

impl Putter {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(KvClient::new(channel))
    }

    /// Puts a key.
    pub(crate) async fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Failure> {
        let put = self.0.put(PutRequest { key, value }).await;
        put.map(|_| ()).map_err(|status| Failure::call(SYSTEM, &status))
    }
}

impl Target for Putter {
    const SYSTEM: &'static str = SYSTEM;

    async fn call(&mut self, number: u64) -> Result<(), Failure> {
        let (key, value) = workload::key_and_value(number);
        self.put(key, value).await
    }
}
