//! `fanout` (P5, P6): how fast a stop reaches thousands of enforcers, alone and while others write, beside etcd's watch and
//! beside the least that could be done.
//!
//! The watchers run in this process on the same cores as the servers, for all systems alike: the figures contain what it
//! takes to read the event everywhere.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use haltline_core::{
    command::{Command, KillCommand, KillMode},
    selector::Selector,
};
use haltline_wire::v1::command_reply::Outcome;
use prost::Message as _;

use crate::{
    General,
    arrivals::{Arrivals, Round},
    background::{self, Background},
    crowd::{Crowd, Talk, framed},
    etcd::{
        self,
        api::{WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion},
        client::Putter,
        cluster::EtcdCluster,
    },
    failure::Failure,
    floor,
    haltline::{self, cluster::HaltlineCluster},
    machine::Machine,
    process_cpu,
    report::{self, Line},
    spread::Spread,
    swarm::{Connections, Setup, Swarm},
    workload,
};

/// Between two stops, so that one is over before the next begins.
const PAUSE: Duration = Duration::from_millis(300);
/// How long others write before the first stop.
const WARM_UP: Duration = Duration::from_millis(1_500);

/// How watchers are spread over connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Spreading {
    /// Each has one of its own
    #[default]
    Own,
    /// 102 for all
    Shared,
}

pub(crate) const SHARED_CONNECTIONS: usize = 102;

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
    /// Other commands a second meanwhile, a tenth of them revocations, which go to every enforcer; for etcd puts, a tenth
    /// of them where all watch
    #[arg(long, default_value_t = 0, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=20_000))]
    background: u32,
    /// Stops, one after the other
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=16))]
    rounds: u32,
    /// Leave etcd and the floor out
    #[arg(long)]
    alone: bool,
}

/// What one system showed.
#[derive(Default)]
pub(crate) struct Shown {
    system: &'static str,
    tls: bool,
    ack: Vec<f64>,
    rounds: Vec<Round>,
    cpu: Duration,
}

/// Runs `fanout`.
pub(crate) async fn run(general: &General, arguments: &FanoutArguments) -> Result<(), Failure> {
    let mut shown = vec![of_haltline(general, arguments).await?];
    if !arguments.alone && etcd::cluster::installed().is_some() {
        for tls in [true, false] {
            shown.push(of_etcd(arguments, tls).await?);
        }
    }
    if !arguments.alone && arguments.connections == Spreading::Own && arguments.background == 0 {
        shown.push(of_floor(arguments).await?);
    }
    general.show(&format!("{}\n", Machine::here()));
    let heading = [
        "system",
        "TLS",
        "edges",
        "connections",
        "others/s",
        "ack ms",
        "median edge ms",
        "last ms",
        "last, worst",
        "server CPU ms",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let mut lines = Vec::new();
    for one in &shown {
        let (row, line) = one.show(arguments);
        rows.push(row);
        lines.push(line);
    }
    general.show(&report::table(&rows));
    general.show_json(&lines);
    Ok(())
}

impl Shown {
    fn of(system: &'static str, tls: bool) -> Self {
        Self { system, tls, ..Self::default() }
    }

    /// One stop: `place` sends it and returns with its acknowledgement.
    async fn round(
        &mut self,
        arrivals: &Arrivals,
        servers: &[u32],
        place: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        arrivals.begin();
        let before = process_cpu::used_by(servers)?;
        let sent = Instant::now();
        place.await?;
        self.ack.push(sent.elapsed().as_secs_f64() * 1e3);
        self.rounds.push(arrivals.all(sent, self.system).await?);
        self.cpu += process_cpu::used_by(servers)?.saturating_sub(before);
        Ok(())
    }

    fn show(&self, arguments: &FanoutArguments) -> (Vec<String>, Line) {
        let spread = |values: Vec<f64>| Spread::of(values).expect("there is at least one round");
        let last = spread(self.rounds.iter().map(|round| round.last_ms).collect());
        let median = spread(self.rounds.iter().map(|round| round.median_ms).collect());
        let ack = spread(self.ack.clone());
        let cpu_ms = self.cpu.as_secs_f64() * 1e3 / f64::from(arguments.rounds);
        let row = vec![
            self.system.to_owned(),
            if self.tls { "yes" } else { "no" }.to_owned(),
            arguments.edges.to_string(),
            arguments.connections.name().to_owned(),
            arguments.background.to_string(),
            report::number(ack.median),
            report::number(median.median),
            report::number(last.median),
            report::number(last.max),
            report::number(cpu_ms),
        ];
        let line = Line::new("fanout")
            .param("system", self.system)
            .param("tls", self.tls)
            .param("edges", arguments.edges)
            .param("connections", arguments.connections.name())
            .param("background_per_s", arguments.background)
            .metric("ack_ms_median", ack)
            .plain_metric("median_edge_ms", median.median)
            .plain_metric("last_ms_median", last.median)
            .plain_metric("last_ms_max", last.max)
            .plain_metric("server_cpu_ms_per_kill", cpu_ms);
        (row, line)
    }
}

async fn of_haltline(general: &General, arguments: &FanoutArguments) -> Result<Shown, Failure> {
    let cluster = HaltlineCluster::start(&general.haltline()?).await?;
    cluster.prepare_light().await?;
    let edges = arguments.edges as usize;
    let setup =
        Setup { edges, connections: arguments.connections.connections(), probe_every: None, node: None };
    let swarm = Swarm::start(&cluster, setup).await?;
    let others = match arguments.background {
        0 => None,
        rate => Some(Background::start(&background::Commander::several(&cluster).await?, rate.into())),
    };
    if others.is_some() {
        tokio::time::sleep(WARM_UP).await;
    }
    let mut shown = Shown::of(haltline::SYSTEM, true);
    for number in 0..arguments.rounds {
        tokio::time::sleep(PAUSE).await;
        let kill = Kill::prepare(&cluster, number.into()).await?;
        let place = async { kill.place(&cluster).await.map(|_| ()) };
        shown.round(&swarm.arrivals, &cluster.pids(), place).await?;
    }
    if let Some(others) = others {
        others.stop().await?;
    }
    Ok(shown)
}

/// A kill of an agent that nothing stops yet, ready to be sent to the leader.
pub(crate) struct Kill {
    pub(crate) leader: usize,
    request: haltline_core::command::Request,
}

impl Kill {
    pub(crate) async fn prepare(cluster: &HaltlineCluster, number: u64) -> Result<Self, Failure> {
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

    /// Sends it; its id.
    pub(crate) async fn place(&self, cluster: &HaltlineCluster) -> Result<u64, Failure> {
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
    let (crowd, arrivals) = (Crowd::new(etcd::SYSTEM)?, Arc::new(Arrivals::of(edges)));
    for index in 0..number {
        let watchers = (index..edges).step_by(number);
        let talk = |watcher| Watcher { watcher, arrivals: arrivals.clone(), health: crowd.health.clone() };
        crowd.connect(cluster.dial(index), watchers.map(talk).collect());
    }
    crowd.wait_until("watched by all", |health| health.ready.load(Ordering::Relaxed) >= edges as u64).await?;
    let others = match arguments.background {
        0 => None,
        rate => {
            let putters = cluster.connections(background::CONNECTIONS, true).await?;
            let putters: Vec<_> =
                putters.into_iter().map(|channel| EtcdWriter(Putter::new(channel))).collect();
            Some(Background::start(&putters, rate.into()))
        }
    };
    if others.is_some() {
        tokio::time::sleep(WARM_UP).await;
    }
    let mut writer = Putter::new(cluster.connections(1, true).await?.remove(0));
    let mut shown = Shown::of(etcd::SYSTEM, tls);
    for round in 0..arguments.rounds {
        tokio::time::sleep(PAUSE).await;
        let place = writer.put(STOP.to_vec(), round.to_be_bytes().to_vec());
        shown.round(&arrivals, &cluster.pids(), place).await?;
    }
    if let Some(others) = others {
        others.stop().await?;
    }
    drop(crowd);
    cluster.stop().await?;
    Ok(shown)
}

/// All keys from here to [`WATCHED_END`] are watched.
const WATCHED: &[u8] = b"watched/";
const WATCHED_END: &[u8] = b"watched0";
/// The key that is put to stop; the others there come from the background.
const STOP: &[u8] = b"watched/stop";

/// One watcher of etcd.
struct Watcher {
    watcher: usize,
    arrivals: Arc<Arrivals>,
    health: Arc<crate::crowd::Health>,
}

impl Talk for Watcher {
    const PATH: &'static str = "/etcdserverpb.Watch/Watch";

    fn opening(&mut self) -> Vec<Bytes> {
        let create = WatchCreateRequest { key: WATCHED.to_vec(), range_end: WATCHED_END.to_vec() };
        vec![framed(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })]
    }

    fn hear(&mut self, message: &[u8]) -> Result<Option<Bytes>, String> {
        let answer = WatchResponse::decode(message).map_err(|error| error.to_string())?;
        if answer.created {
            self.health.ready.fetch_add(1, Ordering::Relaxed);
        }
        let is_stop = |event: &Vec<u8>| event.windows(STOP.len()).any(|part| part == STOP);
        if answer.events.iter().any(is_stop) {
            self.arrivals.arrived(self.watcher);
        }
        Ok(None)
    }
}

/// Puts of others, a tenth of them where all watch.
#[derive(Clone)]
struct EtcdWriter(Putter);

impl crate::load::Target for EtcdWriter {
    const SYSTEM: &'static str = etcd::SYSTEM;

    async fn call(&mut self, number: u64) -> Result<(), Failure> {
        let (mut key, value) = workload::key_and_value(number);
        if background::goes_to_all(number) {
            key.splice(..0, WATCHED.iter().copied());
        }
        self.0.put(key, value).await
    }
}

async fn of_floor(arguments: &FanoutArguments) -> Result<Shown, Failure> {
    let edges = arguments.edges as usize;
    let mut server = floor::Server::start().await?;
    let (crowd, arrivals) = (Crowd::new(floor::SYSTEM)?, Arc::new(Arrivals::of(edges)));
    for watcher in 0..edges {
        crowd.listen(server.port(), watcher, &arrivals);
    }
    crowd.wait_until("connected", |health| health.ready.load(Ordering::Relaxed) >= edges as u64).await?;
    let mut shown = Shown::of(floor::SYSTEM, false);
    for _ in 0..arguments.rounds {
        tokio::time::sleep(PAUSE).await;
        let pid = [server.pid()];
        shown.round(&arrivals, &pid, server.stop_all()).await?;
    }
    Ok(shown)
}
