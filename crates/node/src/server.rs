//! The life of a node: open the disk, take part in consensus, open the ports, serve, and end gracefully.
//!
//! The order of the end matters. Health says no first, so that nobody is sent here any more; no connection is accepted;
//! long streams are told to end and calls in progress get a bounded time; only then leadership is handed over and the
//! log closed, because whoever is being answered still needs it.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use haltline_consensus::{Clock as _, Compaction, Consensus, FatalError, Member, Options, SystemClock};
use haltline_core::{
    ids::NodeId,
    lease::Drift,
    limits::{
        API_HEADER_BYTES_MAX, BACKUPS_MAX, ENFORCEMENT_STREAMS_MAX, HTTP2_PING_INTERVAL, HTTP2_PING_TIMEOUT,
        PEER_STREAMS_MAX, SNAPSHOT_RESERVE_BYTES, TLS_HANDSHAKE_TIMEOUT, TLS_HANDSHAKES_MAX,
    },
};
use haltline_hub::{Hub, HubOptions, SystemBootClock};
use haltline_pki::{NodeIdentity, PortLimits, UnixSeconds, listen};
use haltline_storage::{DataDir, Identity, LogOptions, RealDisk, SegmentedLog, SnapshotFiles};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::NodeConfig,
    context::Context,
    descriptors,
    diagnosis::Diagnosis,
    edge_ports::{self, Serving},
    edge_upstream::NodeUpstream,
    endorsing,
    enforcement::{Enforcements, Peers},
    error::NodeError,
    explain::Explain,
    follow,
    founding::Founding,
    health::Health,
    http,
    metrics::Metrics,
    places::Places,
    places_taken::PlacesTaken,
    registry::Registry,
    reload::{self, InForce, Reloads},
    renewal::{self, Certificates},
    sd_notify::ServiceManager,
    services::{Services, Watches},
    signing::Signing,
    supervision,
    surroundings::{Sockets, Surroundings},
};

/// Flow control windows of one call and of one connection: a pipelined stream at full speed over 100 ms of distance.
const STREAM_WINDOW_BYTES: u32 = 2 * 1_024 * 1_024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1_024 * 1_024;
/// Ping frames are tiny; a connection that answers none within the timeout is closed.
const PING_INTERVAL: Duration = Duration::from_millis(HTTP2_PING_INTERVAL.0);
const PING_TIMEOUT: Duration = Duration::from_millis(HTTP2_PING_TIMEOUT.0);

/// Runs a node until `shutdown` is cancelled, or until it must stop.
///
/// # Errors
/// Why it couldn't start, or why it had to stop.
pub async fn run(config: NodeConfig, shutdown: CancellationToken) -> Result<(), NodeError> {
    run_with(config, Surroundings { shutdown, ..Surroundings::default() }).await
}

/// As [`run`], with a service manager and reloads.
///
/// # Errors
/// As [`run`].
pub async fn run_with(config: NodeConfig, surroundings: Surroundings) -> Result<(), NodeError> {
    let sockets = Sockets::bind(&config)?;
    start_and_serve(config, sockets, surroundings).await
}

/// As [`run`], on sockets that are bound already.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    config: NodeConfig,
    sockets: Sockets,
    shutdown: CancellationToken,
) -> Result<(), NodeError> {
    start_and_serve(config, sockets, Surroundings { shutdown, ..Surroundings::default() }).await
}

async fn start_and_serve(
    config: NodeConfig,
    sockets: Sockets,
    surroundings: Surroundings,
) -> Result<(), NodeError> {
    let Surroundings { shutdown, manager, reloads } = surroundings;
    let node = Node::start(&config, sockets, manager, reloads).await?;
    node.serve(shutdown).await
}

/// A running node.
struct Node {
    context: Arc<Context>,
    log: Arc<SegmentedLog>,
    api: Serving,
    edge: Serving,
    public: Serving,
    /// Cancelled to stop accepting.
    closing: CancellationToken,
    /// Cancelled to stop the plain HTTP listener, last of all.
    http_closing: CancellationToken,
    tasks: TaskTracker,
    // Keeps the lock on the directory.
    _data: DataDir,
}

impl Node {
    async fn start(
        config: &NodeConfig,
        sockets: Sockets,
        manager: ServiceManager,
        reloads: Option<Reloads>,
    ) -> Result<Self, NodeError> {
        descriptors::raise(config.connections_max)?;
        let identity = load_identity(&config.identity_dir)?;
        let founding = Founding::load(&config.founding_file)?;
        check_founding(&identity, &founding, &config.founding_file)?;
        let (data, log, snapshots) = open_storage(config, &identity).await?;
        tracing::info!(
            cluster = %identity.bundle().cluster(),
            node = %identity.id(),
            version = env!("CARGO_PKG_VERSION"),
            data_dir = %config.data_dir.display(),
            "starting"
        );
        let options = consensus_options(config, &identity, &founding, sockets.raft, (log.clone(), snapshots));
        let consensus = Consensus::start(options).await?;
        let stopping = CancellationToken::new();
        let signing = Signing::new(&identity, &config.identity_dir);
        let enforcements = enforcements(&consensus, &identity, &signing, &stopping)?;
        let certificate_ends = AtomicU64::new(identity.tls().leaf().validity.not_after.0);
        let context = Arc::new(Context {
            consensus,
            identity,
            signing,
            metrics: Metrics::new(),
            places: Places::of(&founding),
            diagnosis: Diagnosis::default(),
            certificate_ends,
            config: InForce::new(config),
            watches: Watches::at_most(config.watchers_max),
            enforcements,
            progress_streams: PlacesTaken::at_most(ENFORCEMENT_STREAMS_MAX),
            peer_streams: PlacesTaken::at_most(PEER_STREAMS_MAX),
            backups: PlacesTaken::at_most(BACKUPS_MAX),
            started: Instant::now(),
            stopping,
            streams: TaskTracker::new(),
        });
        let (closing, http_closing, tasks) = Default::default();
        let mut node = Self {
            context,
            log,
            api: tokio::spawn(async { Ok(()) }),
            edge: tokio::spawn(async { Ok(()) }),
            public: tokio::spawn(async { Ok(()) }),
            closing,
            http_closing,
            tasks,
            _data: data,
        };
        let Sockets { api, http, edge, public, .. } = sockets;
        match node.open_ports(config, api, http, edge, public) {
            Ok((health, certificates)) => node.look_after(health, certificates, manager, reloads),
            Err(error) => {
                node.context.enforcements.hub().shutdown().await;
                node.context.consensus.shutdown().await;
                return Err(error);
            }
        }
        Ok(node)
    }

    /// Opens the API port and the plain HTTP listener.
    fn open_ports(
        &mut self,
        config: &NodeConfig,
        api: StdListener,
        http: StdListener,
        edge: StdListener,
        public: StdListener,
    ) -> Result<(Arc<Health>, Arc<Certificates>), NodeError> {
        let context = &self.context;
        let health = Health::new(Arc::clone(context));
        let http = listener(http)?;
        self.tasks.spawn(http::serve(http, Arc::clone(&health), self.http_closing.clone()));

        let registry = Registry::new(context.consensus.clone(), context.identity.bundle().clone());
        let tls = renewal::api_tls(&context.identity, registry.clone())?;
        let limits = PortLimits {
            connections_max: config.connections_max,
            handshakes_max: TLS_HANDSHAKES_MAX,
            handshake_timeout: TLS_HANDSHAKE_TIMEOUT,
        };
        let (incoming, listening) = listen(listener(api)?, tls, limits, &self.closing);
        health.set_listening(listening.clone());
        tracing::info!(api = ?listening.local_addr(), http = %config.listen_http, "ports are open");

        let (reporter, health_service) = tonic_health::server::health_reporter();
        let routes = Services(Arc::clone(context)).routes()?.add_service(health_service);
        let closing = self.closing.clone();
        let server = tonic::transport::Server::builder()
            .layer(Explain)
            .max_concurrent_streams(config.streams_per_connection_max)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .http2_max_header_list_size(API_HEADER_BYTES_MAX)
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, async move { closing.cancelled().await });
        self.api = tokio::spawn(server);
        self.tasks.spawn(Arc::clone(&health).confirm());
        self.tasks.spawn(Arc::clone(&health).report(reporter));
        let (edge, edge_port) =
            edge_ports::open_edge(context, listener(edge)?, registry.clone(), &self.closing)?;
        let (public, public_port) = edge_ports::open_public(context, listener(public)?, &self.closing)?;
        (self.edge, self.public) = (edge, public);
        context.enforcements.start();
        context.enforcements.hub().set_hubs(context.places.hubs(&context.consensus.state().state));
        let ports = renewal::Ports { api: listening.clone(), edge: edge_port.clone(), public: public_port };
        let certificates = Certificates::new(context, &config.identity_dir, ports, registry);
        self.tasks.spawn(follow::follow(Arc::clone(context), vec![listening, edge_port]));
        Ok((health, certificates))
    }

    /// Begins what goes on beside serving, until the node stops.
    fn look_after(
        &self,
        health: Arc<Health>,
        certificates: Arc<Certificates>,
        manager: ServiceManager,
        reloads: Option<Reloads>,
    ) {
        let context = &self.context;
        self.tasks.spawn(endorsing::keep_endorsing(Arc::clone(context)));
        self.tasks.spawn(renewal::keep_renewed(Arc::clone(&certificates)));
        self.tasks.spawn(supervision::supervise(Arc::clone(context), health, manager.clone()));
        if let Some(reloads) = reloads {
            self.tasks.spawn(reload::run(Arc::clone(context), certificates, reloads, manager));
        }
    }

    /// Serves until told to stop, or until something says that it must.
    async fn serve(mut self, shutdown: CancellationToken) -> Result<(), NodeError> {
        let mut fatal = self.context.consensus.fatal();
        let ended = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            failed = fatal.wait_for(Option::is_some) => Err(fatal_error(failed.ok().and_then(|fatal| fatal.clone()))),
            ended = &mut self.api => Err(api_ended(ended)),
            ended = &mut self.edge => Err(api_ended(ended)),
            ended = &mut self.public => Err(api_ended(ended)),
        };
        match &ended {
            Ok(()) => tracing::info!("stopping"),
            Err(error) => tracing::error!(%error, "this node must stop"),
        }
        let drain = self.context.config.get().drain_timeout;
        self.stop(drain).await;
        ended
    }

    async fn stop(mut self, drain: Duration) {
        self.context.stopping.cancel();
        self.closing.cancel();
        self.context.streams.close();
        // Before the servers are waited for: they end when their streams do.
        self.context.enforcements.hub().shutdown().await;
        let deadline = tokio::time::Instant::now() + drain;
        for server in [&mut self.api, &mut self.edge, &mut self.public] {
            if !server.is_finished() && tokio::time::timeout_at(deadline, &mut *server).await.is_err() {
                tracing::warn!(drain = ?drain, "calls were cut off that took longer than the drain timeout");
                server.abort();
            }
        }
        self.context.enforcements.stopped().await;
        self.context.consensus.shutdown().await;
        self.http_closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let log = Arc::clone(&self.log);
        let closed = tokio::task::spawn_blocking(move || log.close()).await;
        match closed {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => {
                tracing::error!(%error, "the log did not close cleanly; recovery will check it");
            }
            Err(_) => tracing::error!("the log could not be closed; recovery will check it"),
        }
    }
}

fn fatal_error(fatal: Option<FatalError>) -> NodeError {
    // Without a word of its own the whole of consensus is gone, which is as bad.
    NodeError::Fatal(fatal.unwrap_or_else(|| FatalError { reason: "consensus ended by itself".into() }))
}

fn api_ended(ended: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>) -> NodeError {
    let reason = match ended {
        Ok(Ok(())) => "it ended by itself".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    NodeError::ApiEnded(reason)
}

fn listener(listener: StdListener) -> Result<TcpListener, NodeError> {
    let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    listener
        .set_nonblocking(true)
        .and_then(|()| TcpListener::from_std(listener))
        .map_err(|source| NodeError::Bind { address, source })
}

/// The identity, with a fresh certificate if the one on disk is due.
fn load_identity(directory: &Path) -> Result<NodeIdentity, NodeError> {
    let identity = NodeIdentity::load(directory)?;
    let renewed = renewal::renewed_if_due(&identity, directory, UnixSeconds::now())?;
    Ok(renewed.unwrap_or(identity))
}

/// The hub and those who prove that kills are enforced.
fn enforcements(
    consensus: &Consensus,
    identity: &NodeIdentity,
    signing: &Arc<Signing>,
    stopping: &CancellationToken,
) -> Result<Arc<Enforcements>, NodeError> {
    let drift = Drift::default();
    let upstream = NodeUpstream::new(consensus.clone(), identity.clone(), Arc::clone(signing));
    let hub = Hub::start(upstream, HubOptions { clock: Arc::new(SystemBootClock), drift });
    let peers = Peers::new(identity)?;
    let signer = (identity.clone(), Arc::clone(signing));
    Ok(Enforcements::new(consensus.clone(), signer, hub, peers, drift, stopping.clone()))
}

pub(crate) fn check_founding(
    identity: &NodeIdentity,
    founding: &Founding,
    path: &Path,
) -> Result<(), NodeError> {
    let wrong = |reason: String| NodeError::Founding { path: path.display().to_string(), reason };
    let (own, cluster) = (identity.id(), identity.bundle().cluster());
    if founding.cluster != cluster {
        return Err(wrong(format!(
            "it founds cluster {}, but the identity is of cluster {cluster}",
            founding.cluster
        )));
    }
    let keys = identity.trusted();
    match founding.nodes.iter().find(|node| node.id == own.0) {
        // Its signing key may be another one by now: that is for the trust bundle to say.
        Some(node) if node.tls_key == keys.tls_key => Ok(()),
        Some(_) => Err(wrong(format!("it has another TLS key for node {own} than the identity"))),
        None => Err(wrong(format!("node {own} isn't among its nodes"))),
    }
}

fn founders(founding: &Founding) -> Vec<(NodeId, Member)> {
    let member = |founder: &crate::founding::Founder| Member {
        name: founder.name.to_string(),
        raft_address: founder.raft_address.clone(),
        api_address: founder.api_address.clone(),
    };
    founding.nodes.iter().map(|founder| (NodeId(founder.id), member(founder))).collect()
}

/// How this node takes part in consensus.
fn consensus_options(
    config: &NodeConfig,
    identity: &NodeIdentity,
    founding: &Founding,
    listener: StdListener,
    (log, snapshots): (Arc<SegmentedLog>, Arc<SnapshotFiles>),
) -> Options {
    Options {
        identity: identity.clone(),
        listener,
        founders: founders(founding),
        genesis: Some(founding.genesis()),
        routes: config.routes.0.iter().map(|(node, to)| (*node, to.to_string())).collect(),
        timing: config.profile.timing(),
        compaction: Compaction {
            entries: config.snapshot_after_entries,
            bytes: config.snapshot_after.0,
            // In proportion, so that a node with small snapshots doesn't keep a large log behind them.
            keep_entries: config.snapshot_after_entries / 5,
            keep_bytes: config.snapshot_after.0 / 2,
        },
        log,
        snapshots,
        clock: Arc::new(SystemClock),
    }
}

type Storage = (DataDir, Arc<SegmentedLog>, Arc<SnapshotFiles>);

/// Opens the data directory, which reads the whole log, off the threads that serve.
async fn open_storage(config: &NodeConfig, identity: &NodeIdentity) -> Result<Storage, NodeError> {
    let path = config.data_dir.clone();
    let whose = Identity { cluster: identity.bundle().cluster(), node: identity.id() };
    let open = move || {
        let data = DataDir::open(Arc::new(RealDisk), &path, whose, SystemClock.wall())?;
        let log = SegmentedLog::open(data.disk(), &data.log_dir(), LogOptions::default())?;
        let snapshots =
            SnapshotFiles::open_with_reserve(data.disk(), &data.snapshot_dir(), SNAPSHOT_RESERVE_BYTES)?;
        let recovery = log.recovery();
        tracing::info!(?recovery, "log recovered");
        Ok((data, Arc::new(log), Arc::new(snapshots)))
    };
    tokio::task::spawn_blocking(open).await.map_err(|_| NodeError::Interrupted)?
}
