//! `enforce` (P7) and `freshness` (P8): how fast it is proven that a stop is in force everywhere, and what keeping thousands
//! of enforcers fresh costs.

use std::time::{Duration, Instant};

use clap::Args;
use haltline_core::{
    lease::{Drift, bound},
    limits::MAX_STALENESS_DEFAULT,
};
use haltline_wire::v1::{self, EnforcementState, enforcement_service_client::EnforcementServiceClient};

use crate::{
    General,
    failure::Failure,
    fanout::{Kill, SHARED_CONNECTIONS},
    haltline::{self, cluster::HaltlineCluster},
    machine::Machine,
    process_cpu,
    report::{self, Line},
    spread::Spread,
    swarm::{Connections, Setup, Swarm},
};

/// How long freshness is measured.
const FRESHNESS_WINDOW: Duration = Duration::from_secs(10);
/// Between two probes of one enforcer in `enforce`: a quarter of the default `max_staleness`.
const PROBE_EVERY: Duration = Duration::from_millis(MAX_STALENESS_DEFAULT.0 / 4);
/// Past the boot wait of every node, which hides how fast acknowledgements are.
const SETTLED: Duration = Duration::from_millis(3_000);

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
