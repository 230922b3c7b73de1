//! Thousands of enforcers' sync streams: real TLS, real frames, probes and acknowledgements, and no more work for each than
//! noting when a stop arrived. What an enforcer does with a frame is measured by `decide` and `memory`.
//!
//! The streams share two dozen enrolled identities: enrolling is limited per source, and a hub tells streams apart by
//! themselves.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use haltline_core::{
    command::{Command, EnforcerKind, JoinTokenCreate},
    event::{EnforcementEvent, KillForce, event_bytes},
    ids::KillId,
    limits::JOIN_TOKEN_TTL_MAX,
    selector::Selector,
};
use haltline_pki::{CertificateAlone, ClientTls, Dialer, EdgeIdentity, Endpoint, JoinToken};
use haltline_wire::v1::{self, edge_message::Message as Up, hub_message::Message as Down};
use prost::Message as _;

use crate::{
    arrivals::Arrivals,
    crowd::{Crowd, Health, Talk, framed},
    failure::Failure,
    haltline::{SYSTEM, cluster::HaltlineCluster},
};

/// Enrolled identities that the streams share: a hub takes 512 streams of each.
const IDENTITIES: usize = 24;

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
    crowd: Crowd,
    pub(crate) arrivals: Arc<Arrivals>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    arrivals: Arc<Arrivals>,
    health: Arc<Health>,
    fresh: AtomicU64,
    /// The first stream says nothing any more.
    first_is_silent: AtomicBool,
    probe_every: Option<Duration>,
    /// The first byte of an event that stops something.
    kill_tag: u8,
}

impl Swarm {
    /// Opens the streams, and waits until all are in step.
    pub(crate) async fn start(cluster: &HaltlineCluster, setup: Setup) -> Result<Self, Failure> {
        let dialers = dialers(cluster).await?;
        let crowd = Crowd::new(SYSTEM)?;
        let arrivals = Arc::new(Arrivals::of(setup.edges));
        let shared = Arc::new(Shared {
            arrivals: Arc::clone(&arrivals),
            health: Arc::clone(&crowd.health),
            fresh: AtomicU64::new(0),
            first_is_silent: AtomicBool::new(false),
            probe_every: setup.probe_every,
            kill_tag: kill_tag(),
        });
        let positions = positions(cluster).await?;
        let number = match setup.connections {
            Connections::Own => setup.edges,
            Connections::Shared(number) => number,
        };
        let nodes = &cluster.cluster.nodes;
        for index in 0..number {
            let node = setup.node.unwrap_or(index % nodes.len());
            let endpoint: Endpoint =
                nodes[node].edge.to_string().parse().expect("a socket address is an endpoint");
            let endpoint = endpoint.expecting(nodes[node].id);
            let dialer = dialers[index % dialers.len()].clone();
            let watchers = (index..setup.edges).step_by(number);
            let talks = watchers.map(|watcher| EdgeTalk::new(watcher, positions[node].clone(), &shared));
            let dial = async move { dialer.dial(&endpoint).await.map_err(|error| error.to_string()) };
            crowd.connect(dial, talks.collect());
        }
        let all = setup.edges as u64;
        crowd.wait_until("in step", |health| health.ready.load(Ordering::Relaxed) >= all).await?;
        Ok(Self { crowd, arrivals, shared })
    }

    /// Waits until every stream has a lease.
    pub(crate) async fn wait_until_fresh(&self, edges: usize) -> Result<(), Failure> {
        self.crowd.wait_until("fresh", |_| self.answers() >= edges as u64).await
    }

    /// How many answers to probes came so far.
    pub(crate) fn answers(&self) -> u64 {
        self.shared.fresh.load(Ordering::Relaxed)
    }

    /// Whether the first stream keeps silent: it reads nothing, and acknowledges nothing.
    pub(crate) fn silence_first(&self, is_silent: bool) {
        self.shared.first_is_silent.store(is_silent, Ordering::Release);
    }
}

/// Events begin with their kind, so that one byte tells a kill from a revocation.
fn kill_tag() -> u8 {
    let (kill, selector, force) = (KillId(1), Selector::default(), KillForce::Denying);
    event_bytes(&EnforcementEvent::KillSet { kill, selector, force })[0]
}

/// What dials as each of the identities, which are enrolled one after the other.
async fn dialers(cluster: &HaltlineCluster) -> Result<Vec<Dialer>, Failure> {
    let failed = |error: haltline_pki::PkiError| Failure::Tls { system: SYSTEM, reason: error.to_string() };
    let dialer = |identity: &EdgeIdentity| {
        let tls = ClientTls::new(identity.tls(), identity.bundle(), Arc::new(CertificateAlone));
        tls.map(Dialer::new).map_err(failed)
    };
    identities(cluster).await?.iter().map(dialer).collect()
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
struct EdgeTalk {
    watcher: usize,
    hello: v1::Hello,
    shared: Arc<Shared>,
    probes: Probes,
    /// What is to be acknowledged, and when.
    acknowledge: Option<(Instant, v1::EdgeApplied)>,
}

impl EdgeTalk {
    fn new(watcher: usize, hello: v1::Hello, shared: &Arc<Shared>) -> Self {
        let probes = Probes::begin(watcher, shared.probe_every);
        Self { watcher, hello, shared: Arc::clone(shared), probes, acknowledge: None }
    }

    /// An acknowledgement now, or when the hub wants it; one that waits already takes this one's place in.
    fn acknowledge(&mut self, applied: v1::EdgeApplied, after_ms: u32) -> Option<Bytes> {
        if after_ms == 0 && self.acknowledge.is_none() {
            return Some(message(Up::Applied(applied)));
        }
        let at = self.acknowledge.take().map(|(at, _)| at);
        let at = at.unwrap_or_else(|| Instant::now() + Duration::from_millis(after_ms.into()));
        self.acknowledge = Some((at, applied));
        None
    }
}

impl Talk for EdgeTalk {
    const PATH: &'static str = "/haltline.v1.EdgeService/Sync";

    fn opening(&mut self) -> Vec<Bytes> {
        vec![message(Up::Hello(self.hello.clone()))]
    }

    fn hear(&mut self, said: &[u8]) -> Result<Option<Bytes>, String> {
        let said = v1::HubMessage::decode(said).map_err(|error| error.to_string())?;
        Ok(match said.message.ok_or("an empty message")? {
            Down::Welcome(_) => {
                self.shared.health.ready.fetch_add(1, Ordering::Relaxed);
                let v1::Hello { index, event_seq, .. } = self.hello;
                Some(message(Up::Applied(v1::EdgeApplied { index, event_seq })))
            }
            Down::Frame(frame) => {
                let is_kill = |event: &Bytes| event.first() == Some(&self.shared.kill_tag);
                if frame.stops && frame.events.iter().any(is_kill) {
                    self.shared.arrivals.arrived(self.watcher);
                }
                let event_seq = frame.first_event_seq + frame.events.len() as u64;
                let applied = v1::EdgeApplied { index: frame.index, event_seq };
                self.acknowledge(applied, frame.ack_after_ms)
            }
            Down::Fresh(_) => {
                self.shared.fresh.fetch_add(1, Ordering::Relaxed);
                None
            }
            Down::SnapshotNeeded(_) => return Err("the hub asks for a snapshot".into()),
            Down::Hubs(_) => None,
        })
    }

    fn due(&self) -> Option<Instant> {
        self.probes.next.into_iter().chain(self.acknowledge.iter().map(|(at, _)| *at)).min()
    }

    fn say(&mut self) -> Option<Bytes> {
        if let Some((_, applied)) = self.acknowledge.take_if(|(at, _)| *at <= Instant::now()) {
            return Some(message(Up::Applied(applied)));
        }
        let nonce = self.probes.due()?;
        Some(message(Up::Probe(v1::Probe { sequence: self.probes.sequence, nonce })))
    }

    fn is_silent(&self) -> bool {
        self.watcher == 0 && self.shared.first_is_silent.load(Ordering::Acquire)
    }
}

fn message(message: Up) -> Bytes {
    framed(&v1::EdgeMessage { message: Some(message) })
}

/// A stream's probes, at their own moments.
struct Probes {
    next: Option<Instant>,
    every: Duration,
    watcher: usize,
    sequence: u64,
}

impl Probes {
    /// Spread evenly over the first interval.
    fn begin(watcher: usize, every: Option<Duration>) -> Self {
        let offset = |every: Duration| every * u32::try_from(watcher * 7_919 % 10_000).unwrap_or(0) / 10_000;
        let next = every.map(|every| Instant::now() + offset(every));
        Self { next, every: every.unwrap_or_default(), watcher, sequence: 0 }
    }

    /// A nonce if it is time for the next probe.
    fn due(&mut self) -> Option<Vec<u8>> {
        let next = self.next.filter(|next| *next <= Instant::now())?;
        self.next = Some(next + self.every);
        self.sequence += 1;
        let mut nonce = vec![0; 32];
        nonce[..8].copy_from_slice(&(self.watcher as u64).to_be_bytes());
        nonce[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        nonce[16..].copy_from_slice(&haltline_testkit::cluster::random_id().0);
        Some(nonce)
    }
}
