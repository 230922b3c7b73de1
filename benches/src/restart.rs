//! `restart` (P13): kill -9 of a node whose state has a million entries, and the time from its start until it serves.
//!
//! Counted is from just before the process is made to the first `200` of its `/readyz`, which says that it has read its
//! disk, has caught up with the leader and that a quorum confirms it. Two ways back are measured one after the other: from
//! the log alone, and from a snapshot with what came after it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use clap::Args;
use haltline_testkit::cluster::wait_until;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    General,
    failure::Failure,
    haltline::{self, cluster::HaltlineCluster},
    machine::Machine,
    process_cpu,
    report::{self, Line},
    spread::Spread,
};

/// The target's median.
const MEDIAN_MS_MAX: f64 = 5_000.0;
/// Between two looks at whether the node serves.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// How long one look may take.
const LOOK_PATIENCE: Duration = Duration::from_millis(500);
/// No restart takes that long.
const HOPELESS: Duration = Duration::from_secs(120);
/// A snapshot after so few entries of the log, each of which is a batch of many commands, comes soon after the start.
const SNAPSHOT_SOON: (&str, &str) = ("HALTLINE_SNAPSHOTS_AFTER_ENTRIES", "100");
/// No snapshot while the log alone is measured.
const SNAPSHOT_NEVER: [(&str, &str); 2] =
    [("HALTLINE_SNAPSHOTS_AFTER_ENTRIES", "1000000000"), ("HALTLINE_SNAPSHOTS_AFTER_BYTES", "64 GiB")];

/// What `restart` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct RestartArguments {
    /// Agents that the state holds
    #[arg(default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    entries: u64,
    /// Restarts, each way; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// From where the state comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Log,
    Snapshot,
}

impl From {
    const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Snapshot => "snapshot",
        }
    }
}

/// All restarts of one way.
struct Restarts {
    from: From,
    took: Spread,
    /// Processor time of the node until it served: what is left of the figure where others keep the cores busy.
    cpu: Spread,
}

/// Runs the benchmark.
pub(crate) async fn run(general: &General, arguments: &RestartArguments) -> Result<(), Failure> {
    let never = SNAPSHOT_NEVER.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut cluster = HaltlineCluster::start_with(&general.haltline()?, never.into()).await?;
    eprintln!("registering {} agents", arguments.entries);
    let began = Instant::now();
    cluster.fill(arguments.entries).await?;
    eprintln!("registered in {:.1} s", began.elapsed().as_secs_f64());
    // A follower: whoever restarts a leader waits for an election as well, which `failover` measures.
    let node = (cluster.leader().await + 1) % cluster.cluster.nodes.len();
    let mut results = Vec::new();
    for from in [From::Log, From::Snapshot] {
        if from == From::Snapshot {
            take_snapshot(&mut cluster, node, arguments.entries).await?;
        }
        let (mut restarts_ms, mut cpus_ms) = (Vec::new(), Vec::new());
        for round in 1..=arguments.rounds {
            let (took, cpu) = restart(&mut cluster, node, arguments.entries).await?;
            restarts_ms.push(took.as_secs_f64() * 1e3);
            cpus_ms.push(cpu.as_secs_f64() * 1e3);
            let (from, took, cpu) = (from.name(), took.as_millis(), cpu.as_millis());
            eprintln!("from the {from}, round {round} of {}: {took} ms, {cpu} ms of CPU", arguments.rounds);
        }
        let spread = |values: Vec<f64>| Spread::of(values).expect("there is at least one round");
        results.push(Restarts { from, took: spread(restarts_ms), cpu: spread(cpus_ms) });
    }
    general.show(&format!("{}\n", Machine::here()));
    general.show(&table(arguments, &results));
    let lines: Vec<Line> = results.iter().map(|restarts| line(arguments, restarts)).collect();
    general.show_json(&lines);
    Ok(())
}

/// Kills the node, starts it, waits until it serves, and checks that it serves all of it.
async fn restart(
    cluster: &mut HaltlineCluster,
    node: usize,
    entries: u64,
) -> Result<(Duration, Duration), Failure> {
    cluster.cluster.kill(node).map_err(Failure::local("kill a node"))?;
    let began = Instant::now();
    cluster.cluster.start(node).map_err(Failure::local("start the node again"))?;
    wait_until_ready(cluster, node).await?;
    let took = began.elapsed();
    let pids: Vec<u32> = cluster.cluster.nodes[node].pid().into_iter().collect();
    let cpu = process_cpu::used_by(&pids)?;
    let call_failed = |reason: String| Failure::Call { system: haltline::SYSTEM, reason };
    let status = cluster.admin.status(node).await.map_err(|error| call_failed(error.to_string()))?;
    let agents = status.counts.unwrap_or_default().agents;
    if agents != entries {
        return Err(call_failed(format!("the node serves {agents} agents after its restart, not {entries}")));
    }
    Ok((took, cpu))
}

/// Has the node take a snapshot and drop most of the log before it.
async fn take_snapshot(cluster: &mut HaltlineCluster, node: usize, entries: u64) -> Result<(), Failure> {
    let (name, value) = SNAPSHOT_SOON;
    cluster.cluster.nodes[node].environment.push((name.to_owned(), value.to_owned()));
    restart(cluster, node, entries).await?;
    let (admin, target) = (&cluster.admin, node);
    wait_until("the node has taken a snapshot", || async move {
        let status = admin.status(target).await.ok()?;
        (status.snapshot_index > 0).then_some(())
    })
    .await;
    Ok(())
}

async fn wait_until_ready(cluster: &HaltlineCluster, node: usize) -> Result<(), Failure> {
    let http = cluster.cluster.nodes[node].http;
    let ready = async {
        while !is_ready(http).await {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    timeout(HOPELESS, ready).await.map_err(|_| Failure::NotReady {
        system: haltline::SYSTEM,
        expected: "ready",
        waited_ms: HOPELESS.as_millis(),
        logs: Some(cluster.cluster.path().into()),
    })
}

/// Whether `/readyz` says `200` now. A port that isn't open yet is a no.
async fn is_ready(http: SocketAddr) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(http).await.ok()?;
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        Some(answer.starts_with(b"HTTP/1.1 200"))
    };
    matches!(timeout(LOOK_PATIENCE, asked).await, Ok(Some(true)))
}

fn line(arguments: &RestartArguments, Restarts { from, took, cpu }: &Restarts) -> Line {
    Line::new("restart")
        .param("system", haltline::SYSTEM)
        .param("entries", arguments.entries)
        .param("rounds", arguments.rounds)
        .param("from", from.name())
        .plain_metric("median_ms", took.median)
        .plain_metric("min_ms", took.min)
        .plain_metric("max_ms", took.max)
        .metric("server_cpu_ms", *cpu)
}

fn table(arguments: &RestartArguments, results: &[Restarts]) -> String {
    let heading =
        ["P13", "entries", "rounds", "median ms", "min ms", "max ms", "CPU ms", "target", "verdict"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for Restarts { from, took, cpu } in results {
        rows.push(vec![
            format!("kill -9 to serving again, from the {}", from.name()),
            arguments.entries.to_string(),
            arguments.rounds.to_string(),
            report::number(took.median),
            report::number(took.min),
            report::number(took.max),
            report::number(cpu.median),
            format!("median ≤ {MEDIAN_MS_MAX}"),
            if took.median <= MEDIAN_MS_MAX { "holds" } else { "FALLS SHORT" }.to_owned(),
        ]);
    }
    report::table(&rows)
}
