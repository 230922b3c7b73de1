//! `failover` (P12): kill -9 of the leader under a light, steady load, and the time until a write is acknowledged again.
//!
//! Counted is from just before the signal is sent to the first acknowledgement of a write that was *begun after it*, by
//! either of the nodes that are left: an answer that was already on its way says nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tonic::transport::Channel;

use crate::{
    General,
    failure::Failure,
    haltline::{
        self,
        client::{CommandMaker, Updater},
        cluster::HaltlineCluster,
    },
    load::Target as _,
    machine::Machine,
    report::{self, Line},
    spread::Spread,
    workload,
};

/// The target's median.
const MEDIAN_MS_MAX: f64 = 300.0;
/// Between two writes of one writer: 200 a second from each.
const WRITE_PAUSE: Duration = Duration::from_millis(5);
/// A write that isn't acknowledged by then is begun anew. A client that waits longer for a dead leader's answer would
/// measure its own patience.
const WRITE_PATIENCE: Duration = Duration::from_millis(50);
/// Acknowledged writes by which the load counts as steady.
const STEADY_WRITES: u64 = 50;
/// No failover takes that long.
const HOPELESS: Duration = Duration::from_secs(30);
/// The kill comes at a random moment within this, so that it isn't in step with heartbeats.
const KILL_JITTER_MAX: Duration = Duration::from_millis(256);

/// What `failover` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct FailoverArguments {
    /// Leaders that are killed, one after the other
    #[arg(default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// Runs the benchmark.
pub(crate) async fn run(general: &General, arguments: &FailoverArguments) -> Result<(), Failure> {
    let mut cluster = HaltlineCluster::start(&general.haltline()?).await?;
    cluster.prepare_light().await?;
    let mut outages_ms = Vec::new();
    for round in 1..=arguments.rounds {
        let outage = one_round(&mut cluster).await?;
        outages_ms.push(outage.as_secs_f64() * 1e3);
        eprintln!("round {round} of {}: {} ms", arguments.rounds, outage.as_millis());
    }
    let spread = Spread::of(outages_ms).expect("there is at least one round");
    general.show(&format!("{}\n", Machine::here()));
    general.show(&table(arguments.rounds, spread));
    let line = Line::new("failover")
        .param("system", haltline::SYSTEM)
        .param("profile", "lan")
        .param("rounds", arguments.rounds)
        .plain_metric("median_ms", spread.median)
        .plain_metric("min_ms", spread.min)
        .plain_metric("max_ms", spread.max);
    general.show_json(&[line]);
    Ok(())
}

fn table(rounds: u32, spread: Spread) -> String {
    let verdict = if spread.median <= MEDIAN_MS_MAX { "holds" } else { "FALLS SHORT" };
    let heading = ["P12", "rounds", "median ms", "max ms", "target", "verdict"].map(str::to_owned).to_vec();
    let row = [
        "kill -9 of the leader to the first acknowledged write".to_owned(),
        rounds.to_string(),
        report::number(spread.median),
        report::number(spread.max),
        format!("median ≤ {MEDIAN_MS_MAX}"),
        verdict.to_owned(),
    ];
    report::table(&[heading, row.to_vec()])
}

/// Kills the leader once, and puts everything right again.
async fn one_round(cluster: &mut HaltlineCluster) -> Result<Duration, Failure> {
    let leader = cluster.leader().await;
    let mut writers = Writers::start(cluster.connections(2, false).await?).await?;
    writers.wait_until_steady().await?;
    tokio::time::sleep(jitter()).await;
    let killed = Instant::now();
    cluster.cluster.kill(leader).map_err(Failure::local("kill the leader"))?;
    let outage = writers.first_begun_after(killed).await? - killed;
    drop(writers);

    cluster.cluster.start(leader).map_err(Failure::local("start the killed node again"))?;
    let new_leader = cluster.leader().await;
    let status = cluster
        .admin
        .status(new_leader)
        .await
        .map_err(|error| Failure::Call { system: haltline::SYSTEM, reason: error.to_string() })?;
    cluster.cluster.wait_until_equal(&cluster.admin, status.applied_index).await;
    Ok(outage)
}

fn jitter() -> Duration {
    let [byte, ..] = haltline_testkit::cluster::random_id().0;
    KILL_JITTER_MAX * u32::from(byte) / 256
}

/// Writers that write on, whatever happens, until they are dropped.
struct Writers {
    tasks: JoinSet<()>,
    acknowledged: Arc<AtomicU64>,
    acks: mpsc::Receiver<Acknowledged>,
}

/// A write, from its beginning to its acknowledgement.
struct Acknowledged {
    begun: Instant,
    answered: Instant,
}

impl Writers {
    /// One writer for each connection.
    async fn start(channels: Vec<Channel>) -> Result<Self, Failure> {
        let maker = CommandMaker::new(channels[0].clone()).await?;
        let acknowledged = Arc::<AtomicU64>::default();
        let (sender, acks) = mpsc::channel(channels.len());
        let mut tasks = JoinSet::new();
        for channel in channels {
            let updater = Updater::new(channel, maker.clone());
            tasks.spawn(write(updater, Arc::clone(&acknowledged), sender.clone()));
        }
        Ok(Self { tasks, acknowledged, acks })
    }

    async fn wait_until_steady(&mut self) -> Result<(), Failure> {
        while self.acknowledged.load(Ordering::Relaxed) < STEADY_WRITES {
            self.next("taking writes").await?;
        }
        Ok(())
    }

    /// When the first write that was begun after this moment was acknowledged.
    async fn first_begun_after(&mut self, moment: Instant) -> Result<Instant, Failure> {
        loop {
            let ack = self.next("taking writes again").await?;
            if ack.begun >= moment {
                self.tasks.abort_all();
                return Ok(ack.answered);
            }
        }
    }

    async fn next(&mut self, expected: &'static str) -> Result<Acknowledged, Failure> {
        let system = haltline::SYSTEM;
        let next = timeout(HOPELESS, self.acks.recv()).await;
        next.ok().flatten().ok_or(Failure::NotReady {
            system,
            expected,
            waited_ms: HOPELESS.as_millis(),
            logs: None,
        })
    }
}

async fn write(mut updater: Updater, acknowledged: Arc<AtomicU64>, acks: mpsc::Sender<Acknowledged>) {
    for number in (0..workload::LIGHT_KEYS).cycle() {
        let begun = Instant::now();
        // A refusal or silence is what an outage looks like; the next write tries again.
        if let Ok(Ok(())) = timeout(WRITE_PATIENCE, updater.call(number)).await {
            acknowledged.fetch_add(1, Ordering::Relaxed);
            // Never waits for long: whoever reads them reads all of them, but for the last ms of a round.
            let ack = Acknowledged { begun, answered: Instant::now() };
            if acks.send(ack).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(WRITE_PAUSE).await;
    }
}
