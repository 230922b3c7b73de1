//! `fanout` (P5), `enforce` (P7) and `freshness` (P8): how fast a stop reaches thousands of enforcers, how fast that is
//! proven, and what keeping them fresh costs.
//!
//! The watchers run in this process on the same cores as the servers, for both systems alike: the figures contain what it
//! takes to read the event everywhere.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use haltline_core::{
    command::{Command, KillCommand, KillMode},
    lease::{Drift, bound},
    limits::MAX_STALENESS_DEFAULT,
    selector::Selector,
};
use haltline_wire::v1::{
    self, EnforcementState, command_reply::Outcome, enforcement_service_client::EnforcementServiceClient,
};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use crate::{
    General,
    arrivals::{Arrivals, Round},
    etcd::{
        self,
        api::{WatchCreateRequest, WatchRequest, watch_client::WatchClient, watch_request::RequestUnion},
        client::Putter,
        cluster::EtcdCluster,
    },
    failure::Failure,
    haltline::{self, cluster::HaltlineCluster},
    machine::Machine,
    process_cpu,
    report::{self, Line},
    spread::Spread,
    swarm::{self, Connections, Setup, Swarm},
    workload,
};

/// Between two stops, so that one is over before the next begins.
const PAUSE: Duration = Duration::from_millis(300);
/// How long freshness is measured.
const FRESHNESS_WINDOW: Duration = Duration::from_secs(10);
/// Between two probes of one enforcer in `enforce`: a quarter of the default `max_staleness`.
const PROBE_EVERY: Duration = Duration::from_millis(MAX_STALENESS_DEFAULT.0 / 4);
/// Past the boot wait of every node, which hides how fast acknowledgements are.
const SETTLED: Duration = Duration::from_millis(3_000);

/// How watchers are spread over connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Spreading {
    /// Each has one of its own
    #[default]
    Own,
    /// 102 for all
    Shared,
}

const SHARED_CONNECTIONS: usize = 102;

impl Spreading {
    const fn connections(self) -> Connections {
        match self {
            Self::Own => Connections::Own,
            Self::Shared => Connections::Shared(SHARED_CONNECTIONS),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Shared => "shared",
        }
    }
}

/// What `fanout` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct FanoutArguments {
    /// Enforcers, and watchers of etcd
    #[arg(default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=11_000))]
    edges: u32,
    /// How they are connected
    #[arg(long, value_enum, default_value_t)]
    connections: Spreading,
    /// Stops, one after the other
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=16))]
    rounds: u32,
    /// Leave etcd out
    #[arg(long)]
    alone: bool,
}

/// What one system showed.
struct Shown {
    system: &'static str,
    tls: bool,
    ack: Vec<f64>,
    rounds: Vec<Round>,
    cpu_ms: f64,
}

/// Runs `fanout`.
pub(crate) async fn fanout(general: &General, arguments: &FanoutArguments) -> Result<(), Failure> {
    let mut shown = vec![of_haltline(general, arguments).await?];
    if !arguments.alone && etcd::cluster::installed().is_some() {
        for tls in [true, false] {
            shown.push(of_etcd(arguments, tls).await?);
        }
    }
    general.show(&format!("{}\n", Machine::here()));
    let heading =
        ["system", "TLS", "edges", "connections", "ack ms", "median edge ms", "last ms", "last, worst"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let mut lines = Vec::new();
    for one in &shown {
        let spread = |values: Vec<f64>| Spread::of(values).expect("there is at least one round");
        let last = spread(one.rounds.iter().map(|round| round.last_ms).collect());
        let median = spread(one.rounds.iter().map(|round| round.median_ms).collect());
        let ack = spread(one.ack.clone());
        rows.push(vec![
            one.system.to_owned(),
            if one.tls { "yes" } else { "no" }.to_owned(),
            arguments.edges.to_string(),
            arguments.connections.name().to_owned(),
            report::number(ack.median),
            report::number(median.median),
            report::number(last.median),
            report::number(last.max),
        ]);
        let line = Line::new("fanout")
            .param("system", one.system)
            .param("tls", one.tls)
            .param("edges", arguments.edges)
            .param("connections", arguments.connections.name())
            .param("background_per_s", 0)
            .metric("ack_ms_median", ack)
            .plain_metric("median_edge_ms", median.median)
            .plain_metric("last_ms_median", last.median)
            .plain_metric("last_ms_max", last.max)
            .plain_metric("server_cpu_ms_per_kill", one.cpu_ms / f64::from(arguments.rounds));
        lines.push(line);
    }
    general.show(&report::table(&rows));
    general.show_json(&lines);
    Ok(())
}

async fn of_haltline(general: &General, arguments: &FanoutArguments) -> Result<Shown, Failure> {
    let cluster = HaltlineCluster::start(&general.haltline()?).await?;
    cluster.prepare_light().await?;
    let edges = arguments.edges as usize;
    let setup =
        Setup { edges, connections: arguments.connections.connections(), probe_every: None, node: None };
    let swarm = Swarm::start(&cluster, setup).await?;
    let (mut ack, mut rounds, mut cpu) = (Vec::new(), Vec::new(), Duration::ZERO);
    for number in 0..arguments.rounds {
        tokio::time::sleep(PAUSE).await;
        let kill = Kill::prepare(&cluster, number.into()).await?;
        swarm.arrivals.begin();
        let before = process_cpu::used_by(&cluster.pids())?;
        let sent = Instant::now();
        kill.place(&cluster).await?;
        ack.push(sent.elapsed().as_secs_f64() * 1e3);
        rounds.push(swarm.arrivals.all(sent, haltline::SYSTEM).await?);
        cpu += process_cpu::used_by(&cluster.pids())?.saturating_sub(before);
    }
    Ok(Shown { system: haltline::SYSTEM, tls: true, ack, rounds, cpu_ms: cpu.as_secs_f64() * 1e3 })
}

/// A kill of an agent that nothing stops yet, ready to be sent to the leader.
struct Kill {
    leader: usize,
    request: haltline_core::command::Request,
}

impl Kill {
    async fn prepare(cluster: &HaltlineCluster, number: u64) -> Result<Self, Failure> {
        let agent =
            workload::agent_path(number % workload::LIGHT_KEYS).parse().expect("the pattern is a path");
        let kill = Command::Kill(KillCommand {
            selector: Selector { agent: Some(agent), ..Selector::default() },
            mode: KillMode::Freeze,
            reason: "a benchmark".parse().expect("words"),
            expires_after: None,
        });
        let leader = cluster.leader().await;
        let request = cluster.admin.request(leader, kill).await.map_err(call)?;
        Ok(Self { leader, request })
    }

    async fn place(&self, cluster: &HaltlineCluster) -> Result<u64, Failure> {
        let reply = cluster.admin.send(self.leader, &self.request).await.map_err(call)?;
        match reply.outcome {
            Some(Outcome::Killed(killed)) => Ok(killed.kill),
            other => Err(Failure::Call { system: haltline::SYSTEM, reason: format!("answered {other:?}") }),
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn call(error: haltline_testkit::cluster::CallError) -> Failure {
    Failure::Call { system: haltline::SYSTEM, reason: error.to_string() }
}

async fn of_etcd(arguments: &FanoutArguments, tls: bool) -> Result<Shown, Failure> {
    let home = tempfile::tempdir().map_err(Failure::local("make a directory for etcd"))?;
    let cluster = EtcdCluster::start(home.path(), tls).await?;
    let edges = arguments.edges as usize;
    let number = match arguments.connections.connections() {
        Connections::Own => edges,
        Connections::Shared(number) => number,
    };
    let channels = cluster.connections_to_all(number).await?;
    let arrivals = Arc::new(Arrivals::of(edges));
    let mut watchers = JoinSet::new();
    let (created, mut all_created) = tokio::sync::mpsc::channel(64);
    for watcher in 0..edges {
        let channel = channels[watcher % channels.len()].clone();
        watchers.spawn(watch(channel, watcher, Arc::clone(&arrivals), created.clone()));
    }
    drop(created);
    for _ in 0..edges {
        let none = || Failure::Call { system: etcd::SYSTEM, reason: "a watch broke".into() };
        swarm::within("watched by all", async { all_created.recv().await.ok_or_else(none) }).await?;
    }
    let mut writer = Putter::new(cluster.connections(1, true).await?.remove(0));
    let (mut ack, mut rounds, mut cpu) = (Vec::new(), Vec::new(), Duration::ZERO);
    for round in 0..arguments.rounds {
        tokio::time::sleep(PAUSE).await;
        arrivals.begin();
        let before = process_cpu::used_by(&cluster.pids())?;
        let sent = Instant::now();
        writer.put(WATCHED.to_vec(), round.to_be_bytes().to_vec()).await?;
        ack.push(sent.elapsed().as_secs_f64() * 1e3);
        rounds.push(arrivals.all(sent, etcd::SYSTEM).await?);
        cpu += process_cpu::used_by(&cluster.pids())?.saturating_sub(before);
    }
    drop(watchers);
    cluster.stop().await?;
    Ok(Shown { system: etcd::SYSTEM, tls, ack, rounds, cpu_ms: cpu.as_secs_f64() * 1e3 })
}

const WATCHED: &[u8] = b"stop";

async fn watch(
    channel: tonic::transport::Channel,
    watcher: usize,
    arrivals: Arc<Arrivals>,
    created: tokio::sync::mpsc::Sender<()>,
) -> Option<()> {
    let create = WatchCreateRequest { key: WATCHED.to_vec(), range_end: Vec::new() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    // The stream of requests stays open as long as the watch.
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut answers = WatchClient::new(channel).watch(requests).await.ok()?.into_inner();
    while let Some(answer) = answers.message().await.ok()? {
        if answer.created {
            created.send(()).await.ok()?;
        }
        if !answer.events.is_empty() {
            arrivals.arrived(watcher);
        }
    }
    Some(())
}

/// What `enforce` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct EnforceArguments {
    /// Enforcers, over shared connections
    #[arg(default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    edges: u32,
    /// Stops, one after the other
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=16))]
    rounds: u32,
    /// One enforcer says nothing, and is waited out
    #[arg(long)]
    partitioned: bool,
}

/// Runs `enforce`.
pub(crate) async fn enforce(general: &General, arguments: &EnforceArguments) -> Result<(), Failure> {
    let cluster = HaltlineCluster::start(&general.haltline()?).await?;
    cluster.prepare_light().await?;
    let edges = arguments.edges as usize;
    let setup = Setup {
        edges,
        connections: Connections::Shared(SHARED_CONNECTIONS.min(edges)),
        probe_every: Some(PROBE_EVERY),
        node: None,
    };
    let swarm = Swarm::start(&cluster, setup).await?;
    swarm.wait_until_fresh(2 * edges).await?;
    tokio::time::sleep(SETTLED).await;
    let mut enforced = Vec::new();
    for number in 0..arguments.rounds {
        let kill = Kill::prepare(&cluster, number.into()).await?;
        swarm.silence_first(arguments.partitioned);
        let sent = Instant::now();
        let id = kill.place(&cluster).await?;
        wait_enforced(&cluster, kill.leader, id).await?;
        enforced.push(sent.elapsed().as_secs_f64() * 1e3);
        swarm.silence_first(false);
        tokio::time::sleep(PROBE_EVERY * 3).await;
    }
    let spread = Spread::of(enforced).expect("there is at least one round");
    let bound_ms = bound(MAX_STALENESS_DEFAULT, Drift::default()).0;
    general.show(&format!("{}\n", Machine::here()));
    let heading = ["P7", "edges", "partitioned", "enforced ms, median", "max", "bound ms"];
    let row = [
        "kill to receipt".to_owned(),
        edges.to_string(),
        u8::from(arguments.partitioned).to_string(),
        report::number(spread.median),
        report::number(spread.max),
        bound_ms.to_string(),
    ];
    general.show(&report::table(&[heading.map(str::to_owned).to_vec(), row.to_vec()]));
    let line = Line::new("enforce")
        .param("edges", arguments.edges)
        .param("partitioned", u8::from(arguments.partitioned))
        .metric("enforced_ms_median", spread)
        .plain_metric("bound_ms", bound_ms as f64);
    general.show_json(&[line]);
    Ok(())
}

async fn wait_enforced(cluster: &HaltlineCluster, node: usize, kill: u64) -> Result<(), Failure> {
    let failed = |status: tonic::Status| Failure::call(haltline::SYSTEM, &status);
    let mut client = EnforcementServiceClient::new(cluster.admin.channel(node));
    let mut progress =
        client.wait_enforced(v1::WaitEnforcedRequest { kill }).await.map_err(failed)?.into_inner();
    while let Some(step) = progress.message().await.map_err(failed)? {
        if step.state() == EnforcementState::Enforced {
            return Ok(());
        }
    }
    Err(Failure::Call { system: haltline::SYSTEM, reason: "the wait ended without a receipt".into() })
}

/// What `freshness` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct FreshnessArguments {
    /// Enforcers, all on one node, each with a probe a second
    #[arg(default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    edges: u32,
    /// Windows of ten seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// Runs `freshness`.
pub(crate) async fn freshness(general: &General, arguments: &FreshnessArguments) -> Result<(), Failure> {
    let cluster = HaltlineCluster::start(&general.haltline()?).await?;
    cluster.prepare_light().await?;
    let edges = arguments.edges as usize;
    let node = (cluster.leader().await + 1) % cluster.cluster.nodes.len();
    let setup = Setup {
        edges,
        connections: Connections::Shared(SHARED_CONNECTIONS.min(edges)),
        probe_every: Some(Duration::from_secs(1)),
        node: Some(node),
    };
    let swarm = Swarm::start(&cluster, setup).await?;
    swarm.wait_until_fresh(edges).await?;
    let pid = [cluster.cluster.nodes[node].pid().unwrap_or_default()];
    let (mut cores, mut rate) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        let (began, cpu, answers) = (Instant::now(), process_cpu::used_by(&pid)?, swarm.answers());
        tokio::time::sleep(FRESHNESS_WINDOW).await;
        let elapsed = began.elapsed().as_secs_f64();
        cores.push(process_cpu::used_by(&pid)?.saturating_sub(cpu).as_secs_f64() / elapsed);
        rate.push((swarm.answers() - answers) as f64 / elapsed);
    }
    let cores = Spread::of(cores).expect("there is at least one round");
    let rate = Spread::of(rate).expect("there is at least one round");
    general.show(&format!("{}\n", Machine::here()));
    let heading = ["P8", "edges", "answers a second", "cores of the node, median", "max", "target"];
    let row = [
        "freshness from one follower".to_owned(),
        edges.to_string(),
        report::number(rate.median),
        report::number(cores.median),
        report::number(cores.max),
        "≤ 0.25 at 10,000".to_owned(),
    ];
    general.show(&report::table(&[heading.map(str::to_owned).to_vec(), row.to_vec()]));
    let line = Line::new("freshness")
        .param("edges", arguments.edges)
        .param("probes_per_s", arguments.edges)
        .metric("server_cores", cores)
        .plain_metric("answers_per_s", rate.median);
    general.show_json(&[line]);
    Ok(())
}
