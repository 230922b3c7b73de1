//! Thousands of enforcers' sync streams in one process: real TLS, real frames, probes and acknowledgements, and no more
//! work for each than noting when a stop arrived. What an enforcer does with a frame is measured by `decide` and `memory`.
//!
//! The streams share two dozen enrolled identities: enrolling is limited per source, and a hub tells streams apart by
//! themselves.

use std::{
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use haltline_core::{
    command::{Command, EnforcerKind, JoinTokenCreate},
    limits::JOIN_TOKEN_TTL_MAX,
};
use haltline_pki::{CertificateAlone, ClientTls, Dialer, EdgeIdentity, Endpoint, JoinToken};
use haltline_wire::v1::{
    self, edge_message::Message as Up, edge_service_client::EdgeServiceClient, hub_message::Message as Down,
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::{
    arrivals::Arrivals,
    failure::Failure,
    haltline::{SYSTEM, cluster::HaltlineCluster},
};

/// Enrolled identities that the streams share: a hub takes 512 streams of each.
const IDENTITIES: usize = 24;
/// Messages of one stream that wait to be sent.
const UP_WAITING: usize = 8;
/// Connections that are opened at once.
const DIALS_AT_ONCE: usize = 64;
/// How long the whole swarm may take to be in step.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// How the streams are spread over connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connections {
    /// One each.
    Own,
    /// So many for all.
    Shared(usize),
}

/// How the swarm is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) edges: usize,
    pub(crate) connections: Connections,
    /// Between two probes of one stream; none: no probes.
    pub(crate) probe_every: Option<Duration>,
    /// Only this node serves them, or all in turn.
    pub(crate) node: Option<usize>,
}

/// Streams that run. They end when it is dropped.
pub(crate) struct Swarm {
    _streams: JoinSet<()>,
    pub(crate) arrivals: Arc<Arrivals>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    arrivals: Arc<Arrivals>,
    ready: AtomicU64,
    fresh: AtomicU64,
    broken: AtomicU64,
    first_fault: OnceLock<String>,
    /// The first stream says nothing any more.
    first_is_silent: AtomicBool,
    probe_every: Option<Duration>,
}

impl Swarm {
    /// Opens the streams, and waits until all are in step.
    pub(crate) async fn start(cluster: &HaltlineCluster, setup: Setup) -> Result<Self, Failure> {
        let identities = identities(cluster).await?;
        let arrivals = Arc::new(Arrivals::of(setup.edges));
        let shared = Arc::new(Shared {
            arrivals: Arc::clone(&arrivals),
            ready: AtomicU64::new(0),
            fresh: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            first_fault: OnceLock::new(),
            first_is_silent: AtomicBool::new(false),
            probe_every: setup.probe_every,
        });
        let channels = channels(cluster, &identities, setup).await?;
        let positions = positions(cluster).await?;
        let mut streams = JoinSet::new();
        for watcher in 0..setup.edges {
            let (node, channel) = channels[watcher % channels.len()].clone();
            let stream = Stream { watcher, channel, hello: positions[node].clone(), shared: shared.clone() };
            streams.spawn(stream.run());
        }
        let swarm = Self { _streams: streams, arrivals, shared };
        swarm
            .wait_until("in step", |shared| shared.ready.load(Ordering::Relaxed) >= setup.edges as u64)
            .await?;
        Ok(swarm)
    }

    /// Waits until every stream has a lease.
    pub(crate) async fn wait_until_fresh(&self, edges: usize) -> Result<(), Failure> {
        self.wait_until("fresh", |shared| shared.fresh.load(Ordering::Relaxed) >= edges as u64).await
    }

    /// How many answers to probes came so far.
    pub(crate) fn answers(&self) -> u64 {
        self.shared.fresh.load(Ordering::Relaxed)
    }

    /// Whether the first stream keeps silent: it reads nothing, and acknowledges nothing.
    pub(crate) fn silence_first(&self, is_silent: bool) {
        self.shared.first_is_silent.store(is_silent, Ordering::Release);
    }

    async fn wait_until(
        &self,
        expected: &'static str,
        is_so: impl Fn(&Shared) -> bool,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        while !is_so(&self.shared) {
            let broken = self.shared.broken.load(Ordering::Relaxed);
            if broken > 0 {
                let fault = self.shared.first_fault.get().map_or("it ended", String::as_str);
                let reason = format!("{broken} streams of the swarm broke, the first because: {fault}");
                return Err(Failure::Call { system: SYSTEM, reason });
            }
            if began.elapsed() > READY_WITHIN {
                let waited_ms = began.elapsed().as_millis();
                return Err(Failure::NotReady { system: SYSTEM, expected, waited_ms, logs: None });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// Enrols the identities, one after the other.
async fn identities(cluster: &HaltlineCluster) -> Result<Vec<EdgeIdentity>, Failure> {
    let call = |reason: String| Failure::Call { system: SYSTEM, reason };
    let bundle = cluster.admin.identity().bundle();
    let nodes = &cluster.cluster.nodes;
    let mut identities = Vec::new();
    for number in 0..IDENTITIES {
        let directory = cluster.cluster.path().join(format!("swarm-{number}"));
        if let Ok(identity) = EdgeIdentity::load(&directory) {
            identities.push(identity);
            continue;
        }
        let node = &nodes[number % nodes.len()];
        let public: Endpoint = node.public.to_string().parse().map_err(|_| call("a bad address".into()))?;
        let token = JoinToken::generate(bundle, &[public]).map_err(|error| call(error.to_string()))?;
        let create = JoinTokenCreate {
            token: token.id(),
            secret_hash: token.secret_hash(),
            edge: format!("swarm-{number}").parse().expect("a name of letters"),
            kind: EnforcerKind::Edge,
            paths: vec![None],
            trusted_for_acks: false,
            ttl: JOIN_TOKEN_TTL_MAX,
        };
        let leader = cluster.leader().await;
        let created = cluster.admin.command(leader, Command::JoinTokenCreate(create)).await;
        created.map_err(|error| call(error.to_string()))?;
        identities.push(enrol(&token, &directory).await?);
    }
    Ok(identities)
}

async fn enrol(token: &JoinToken, directory: &Path) -> Result<EdgeIdentity, Failure> {
    let enrolled = haltline_edge::enrol(token, directory).await;
    enrolled.map_err(|error| Failure::Call { system: SYSTEM, reason: format!("enrolling: {error}") })
}

/// The connections, each with the node that it leads to.
async fn channels(
    cluster: &HaltlineCluster,
    identities: &[EdgeIdentity],
    setup: Setup,
) -> Result<Vec<(usize, Channel)>, Failure> {
    let number = match setup.connections {
        Connections::Own => setup.edges,
        Connections::Shared(number) => number,
    };
    let mut dialers = Vec::new();
    for identity in identities {
        let tls = ClientTls::new(identity.tls(), identity.bundle(), Arc::new(CertificateAlone));
        let failed =
            |error: haltline_pki::PkiError| Failure::Tls { system: SYSTEM, reason: error.to_string() };
        dialers.push(Dialer::new(tls.map_err(failed)?));
    }
    let nodes = &cluster.cluster.nodes;
    let mut dialing = JoinSet::new();
    let mut channels = Vec::with_capacity(number);
    for index in 0..number {
        if dialing.len() >= DIALS_AT_ONCE {
            take(&mut dialing, &mut channels).await?;
        }
        let node = setup.node.unwrap_or(index % nodes.len());
        let endpoint: Endpoint =
            nodes[node].edge.to_string().parse().expect("a socket address is an endpoint");
        let (dialer, endpoint) = (dialers[index % dialers.len()].clone(), endpoint.expecting(nodes[node].id));
        dialing.spawn(async move { (node, dialer.connect(&endpoint).await) });
    }
    while !dialing.is_empty() {
        take(&mut dialing, &mut channels).await?;
    }
    Ok(channels)
}

type Dialed = (usize, Result<Channel, haltline_pki::TlsFailure>);

async fn take(dialing: &mut JoinSet<Dialed>, channels: &mut Vec<(usize, Channel)>) -> Result<(), Failure> {
    if let Some(Ok((node, dialed))) = dialing.join_next().await {
        let failed =
            |error: haltline_pki::TlsFailure| Failure::Tls { system: SYSTEM, reason: error.to_string() };
        channels.push((node, dialed.map_err(failed)?));
    }
    Ok(())
}

/// Where each node's chain stands: what an enforcer says that has followed so far.
async fn positions(cluster: &HaltlineCluster) -> Result<Vec<v1::Hello>, Failure> {
    let mut positions = Vec::new();
    for node in 0..cluster.cluster.nodes.len() {
        let status = cluster.admin.status(node).await;
        let status = status.map_err(|error| Failure::Call { system: SYSTEM, reason: error.to_string() })?;
        positions.push(v1::Hello {
            incarnation: status.cluster.map_or(0, |cluster| cluster.incarnation),
            index: status.applied_index,
            event_seq: status.event_seq,
            chain_head: status.chain_head,
            version: "bench".into(),
            region: String::new(),
        });
    }
    Ok(positions)
}

/// One enforcer's stream.
struct Stream {
    watcher: usize,
    channel: Channel,
    hello: v1::Hello,
    shared: Arc<Shared>,
}

impl Stream {
    async fn run(self) {
        let shared = Arc::clone(&self.shared);
        if let Err(fault) = self.follow().await {
            let _ = shared.first_fault.set(fault);
            shared.broken.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn follow(self) -> Result<(), String> {
        let ended = |_| "its sender ended".to_owned();
        let refused = |status: tonic::Status| format!("{:?}: {}", status.code(), status.message());
        let Self { watcher, channel, hello, shared } = self;
        let (up, waiting) = mpsc::channel(UP_WAITING);
        let (index, event_seq) = (hello.index, hello.event_seq);
        up.send(message(Up::Hello(hello))).await.map_err(ended)?;
        let mut client = EdgeServiceClient::new(channel);
        let mut down = client.sync(ReceiverStream::new(waiting)).await.map_err(refused)?.into_inner();
        let mut probes = Probes::begin(watcher, shared.probe_every);
        loop {
            if watcher == 0 && shared.first_is_silent.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
            let received = tokio::select! {
                received = down.message() => received.map_err(refused)?.ok_or("the hub ended it")?,
                nonce = probes.due() => {
                    let probe = v1::Probe { sequence: probes.sequence, nonce };
                    up.send(message(Up::Probe(probe))).await.map_err(ended)?;
                    continue;
                }
            };
            match received.message.ok_or("an empty message")? {
                Down::Welcome(_) => {
                    let applied = v1::EdgeApplied { index, event_seq };
                    up.send(message(Up::Applied(applied))).await.map_err(ended)?;
                    shared.ready.fetch_add(1, Ordering::Relaxed);
                }
                Down::Frame(frame) => {
                    if frame.stops {
                        shared.arrivals.arrived(watcher);
                    }
                    let event_seq = frame.first_event_seq + frame.events.len() as u64;
                    let applied = v1::EdgeApplied { index: frame.index, event_seq };
                    up.send(message(Up::Applied(applied))).await.map_err(ended)?;
                }
                Down::Fresh(_) => drop(shared.fresh.fetch_add(1, Ordering::Relaxed)),
                Down::SnapshotNeeded(_) => return Err("the hub asks for a snapshot".into()),
                Down::Hubs(_) => {}
            }
        }
    }
}

fn message(message: Up) -> v1::EdgeMessage {
    v1::EdgeMessage { message: Some(message) }
}

/// A stream's probes, at their own moments.
struct Probes {
    next: Option<tokio::time::Instant>,
    every: Duration,
    watcher: usize,
    sequence: u64,
}

impl Probes {
    /// Spread evenly over the first interval.
    fn begin(watcher: usize, every: Option<Duration>) -> Self {
        let offset = |every: Duration| every * u32::try_from(watcher * 7_919 % 10_000).unwrap_or(0) / 10_000;
        let next = every.map(|every| tokio::time::Instant::now() + offset(every));
        Self { next, every: every.unwrap_or_default(), watcher, sequence: 0 }
    }

    /// A nonce when it is time for the next probe. Cancel safe.
    async fn due(&mut self) -> Vec<u8> {
        let Some(next) = self.next else { return std::future::pending().await };
        tokio::time::sleep_until(next).await;
        self.next = Some(next + self.every);
        self.sequence += 1;
        let mut nonce = vec![0; 32];
        nonce[..8].copy_from_slice(&(self.watcher as u64).to_be_bytes());
        nonce[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        nonce[16..].copy_from_slice(&haltline_testkit::cluster::random_id().0);
        nonce
    }
}

/// Runs something for at most as long as the swarm may take.
pub(crate) async fn within<T>(
    expected: &'static str,
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late =
        |_| Failure::NotReady { system: SYSTEM, expected, waited_ms: READY_WITHIN.as_millis(), logs: None };
    timeout(READY_WITHIN, future).await.map_err(late)?
}
