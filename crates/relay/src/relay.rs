//! A running relay: its tasks, how it starts and how it ends.
//!
//! Health says no first when it ends, then those below are told to go elsewhere, and the link above is closed last: as long
//! as anybody hangs here, what is in force below can still be acknowledged.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use haltline_core::{
    lease::{BootNanos, Drift},
    limits::{
        API_HEADER_BYTES_MAX, API_REQUEST_BYTES_MAX, EDGE_STREAMS_PER_CONNECTION, HTTP2_PING_INTERVAL,
        HTTP2_PING_TIMEOUT, OLD_STALENESS_MARGIN, RELAY_DRAIN_TIMEOUT, RELAY_WISHES_MAX, TLS_CONNECTIONS_MAX,
        TLS_HANDSHAKE_TIMEOUT, TLS_HANDSHAKES_MAX,
    },
    time::Millis,
};
use haltline_edge::client::{ConnectError, Running, Status, Wish, load};
use haltline_hub::{Hub, HubOptions, Settling, SystemBootClock};
use haltline_pki::{Listening, PkiError, PortLimits, listen};
use haltline_wire::v1::edge_service_server::EdgeServiceServer;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Error, Server};

use crate::{
    below::{Below, edge_tls},
    config::RelayConfig,
    health::Health,
    http,
    kept::Kept,
    records::outlived,
    renewal::Renewals,
    upstream::RelayUpstream,
    view::RelayView,
};

/// Why a relay couldn't start, or had to stop. [`RelayError::code`] is stable.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Its identity or data can't be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Its certificate can't be shown.
    #[error(transparent)]
    Tls(#[from] PkiError),
    /// It can't listen.
    #[error("can't listen on {address} (`{key}`): {source}")]
    Listen {
        /// The key of the configuration.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server of the edge port failed.
    #[error("the edge port's server ended: {0}")]
    Server(#[source] Error),
}

impl RelayError {
    /// A stable word for the reason.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Connect(error) => error.code(),
            Self::Tls(error) => error.code(),
            Self::Listen { .. } => "LISTEN",
            Self::Server(_) => "SERVER",
        }
    }
}

/// A relay that serves.
pub struct Relay {
    health: Arc<Health>,
    listening: Listening,
    http: Option<SocketAddr>,
    server: JoinHandle<Result<(), Error>>,
    /// Ends the ports.
    closing: CancellationToken,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("edge", &self.listening.local_addr()).finish_non_exhaustive()
    }
}

impl Relay {
    /// Opens the ports and turns to the hubs above. It doesn't wait for one: whoever comes before one has answered is told
    /// to try elsewhere.
    ///
    /// # Errors
    /// [`RelayError`]. That no hub answers is no error.
    pub async fn start(config: RelayConfig) -> Result<Self, RelayError> {
        let RelayConfig { link, listen_edge, listen_http } = config;
        let (edge_listener, http_listener) =
            (bind("listen.edge", listen_edge).await?, bind_http(listen_http).await?);
        let data_dir = link.data_dir.clone();
        let loading = tokio::task::spawn_blocking(move || {
            let loaded = load(link)?;
            Ok::<_, ConnectError>((loaded, Kept::open(&data_dir)))
        });
        let (loaded, (kept, earlier)) = loading.await.map_err(|error| cut_short(&error))??;
        let identity = loaded.identity().clone();

        let clock = Arc::new(SystemBootClock);
        let view = Arc::new(RelayView::new(identity.name().clone(), clock.clone(), earlier));
        let (wishes, heard) = mpsc::channel(RELAY_WISHES_MAX);
        let cluster = identity.bundle().cluster();
        let upstream = RelayUpstream::new(cluster, Arc::clone(&view), wishes.clone());
        let hub = Hub::start(Arc::new(upstream), HubOptions { clock, drift: Drift::default() });
        let below = Arc::new(Below::new(Arc::clone(&view), hub.clone(), kept));
        below.keep_longest();

        let closing = CancellationToken::new();
        tokio::spawn(forget_earlier(Arc::clone(&below), earlier, closing.clone()));
        let limits = PortLimits {
            connections_max: TLS_CONNECTIONS_MAX,
            handshakes_max: TLS_HANDSHAKES_MAX,
            handshake_timeout: TLS_HANDSHAKE_TIMEOUT,
        };
        let (incoming, listening) = listen(edge_listener, edge_tls(&identity, &view)?, limits, &closing);
        below.set_listening(listening.clone());

        let (runtime, started) = (tokio::runtime::Handle::current(), Arc::clone(&below));
        let starting =
            tokio::task::spawn_blocking(move || Running::start(loaded, &started, Some(heard), &runtime));
        let running = Arc::new(starting.await.map_err(|error| cut_short(&error))??);
        let renewals = Renewals::new(Arc::clone(&view), wishes.clone());
        let calls = EdgeServiceServer::new(renewals).max_decoding_message_size(API_REQUEST_BYTES_MAX);
        tokio::spawn(keep_acknowledging(below, hub.settling(), wishes, closing.clone()));

        let stopping = CancellationToken::new();
        let health = Arc::new(Health { running, view, hub: hub.clone(), stopping });
        let http = http_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        if let Some(listener) = http_listener {
            tokio::spawn(http::serve(listener, Arc::clone(&health), closing.clone()));
        }
        let server = tokio::spawn(
            Server::builder()
                .max_concurrent_streams(EDGE_STREAMS_PER_CONNECTION)
                .http2_keepalive_interval(Some(Duration::from_millis(HTTP2_PING_INTERVAL.0)))
                .http2_keepalive_timeout(Some(Duration::from_millis(HTTP2_PING_TIMEOUT.0)))
                .http2_max_header_list_size(API_HEADER_BYTES_MAX)
                .add_service(hub.service(calls))
                .serve_with_incoming_shutdown(incoming, closing.clone().cancelled_owned()),
        );
        tracing::info!(name = %identity.name(), edge = %listen_edge, http = ?http, "the relay serves");
        Ok(Self { health, listening, http, server, closing })
    }

    /// Where enforcers connect.
    #[must_use]
    pub fn edge_address(&self) -> Option<SocketAddr> {
        self.listening.local_addr()
    }

    /// Where health and metrics are.
    #[must_use]
    pub const fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// How its link above does.
    #[must_use]
    pub fn status(&self) -> Status {
        self.health.status()
    }

    /// Serves until `shutdown` is cancelled, then ends in order.
    ///
    /// # Errors
    /// The edge port's server failed.
    pub async fn serve(mut self, shutdown: CancellationToken) -> Result<(), RelayError> {
        let failed = tokio::select! {
            () = shutdown.cancelled() => None,
            ended = &mut self.server => Some(ended),
        };
        self.health.stopping.cancel();
        tracing::info!(streams = self.health.hub.counters().streams, "stopping the relay");
        self.health.hub.shutdown().await;
        self.closing.cancel();
        if failed.is_none() {
            let patience = Duration::from_millis(RELAY_DRAIN_TIMEOUT.0);
            if tokio::time::timeout(patience, &mut self.server).await.is_err() {
                tracing::warn!("somebody doesn't read their last answer; closing the connection under it");
            }
        }
        self.health.running.shutdown().await;
        match failed {
            Some(Ok(Err(error))) => Err(RelayError::Server(error)),
            _ => Ok(()),
        }
    }
}

/// Once the leases of an earlier life have ended, the file needn't tell the next life of them.
async fn forget_earlier(below: Arc<Below>, earlier: Option<Millis>, closing: CancellationToken) {
    let Some(lasts) = earlier else { return };
    // By another clock than the one that leases are measured on: if it is early, the file goes on saying more.
    let ended = Duration::from_nanos(outlived(lasts, BootNanos(0)).0);
    tokio::select! {
        () = tokio::time::sleep(ended + Duration::from_millis(OLD_STALENESS_MARGIN.0)) => below.keep_longest(),
        () = closing.cancelled() => {}
    }
}

/// Has acknowledged upstream what came into force below since the last time.
async fn keep_acknowledging(
    below: Arc<Below>,
    mut settling: Settling,
    wishes: mpsc::Sender<Wish>,
    closing: CancellationToken,
) {
    let mut told = None;
    loop {
        let settled = below.settled();
        // Where there is no room the next look finds the same.
        if settled > told && wishes.try_send(Wish::Acknowledge).is_ok() {
            told = settled;
        }
        tokio::select! {
            () = settling.moved() => {}
            () = closing.cancelled() => return,
        }
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, RelayError> {
    TcpListener::bind(address).await.map_err(|source| RelayError::Listen { key, address, source })
}

async fn bind_http(address: Option<SocketAddr>) -> Result<Option<TcpListener>, RelayError> {
    match address {
        None => Ok(None),
        Some(address) => bind("listen.http", address).await.map(Some),
    }
}

fn cut_short(error: &tokio::task::JoinError) -> RelayError {
    RelayError::Connect(ConnectError::CutShort(error.to_string()))
}
