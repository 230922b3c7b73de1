//! The rounds: write, hurt, mend, agree, look.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use haltline_core::{
    command::{AgentRegister, Command, FleetCreate},
    path::{AgentPath, FleetPath},
    policy::{Intent, Limits},
    text::{Labels, Reason, Text},
};
use haltline_testkit::{
    cluster::{Cluster, Person, wait_until},
    rng::Rng,
};
use haltline_wire::v1::{CommandReply, command_reply::Outcome};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{
    ChaosError, Options, audit,
    call::{PAUSE, attempt},
    fault::{Deck, Fault},
    ledger::{Counter, Ledger},
    report::Report,
    stream_writer::StreamWriter,
    unary_writer::{Load, UnaryWriter},
};

const NODES: usize = 3;
const COUNTERS_PER_WRITER: usize = 8;
/// Acknowledgements that show that the cluster writes again.
const PROGRESS: u64 = 100;

/// A run in progress.
struct Run<'a> {
    options: &'a Options,
    rng: Rng,
    cluster: Cluster,
    admin: Person,
    ledger: Arc<Mutex<Ledger>>,
    report: Report,
    term: u64,
}

/// Runs all rounds on a new cluster.
///
/// # Errors
/// If processes, files or the set-up fail. Broken promises are in the report.
pub(crate) async fn run(options: &Options, seed: u64, binary: &Path) -> Result<Report, ChaosError> {
    let mut rng = Rng::new(seed);
    let mut deck = Deck::new(rng.fork());
    let mut cluster = Cluster::create(binary, NODES)?;
    let snapshot_after = options.snapshot_after.to_string();
    cluster.environment.push(("HALTLINE_SNAPSHOTS_AFTER_ENTRIES".to_owned(), snapshot_after));
    cluster.start_all()?;
    let admin = cluster.admin()?;
    cluster.wait_for_leader(&admin).await;
    let mut run =
        Run { options, rng, cluster, admin, ledger: Arc::default(), report: Report::default(), term: 0 };
    run.set_up().await?;
    let statuses = run.cluster.wait_until_equal(&run.admin, 0).await;
    run.term = statuses.iter().map(|status| status.term).max().unwrap_or_default();
    for round in 1..=options.rounds {
        let fault = deck.draw();
        run.round(round, fault).await?;
        if !run.ledger.lock().violations.is_empty() {
            let kept = run.cluster.keep();
            eprintln!("the cluster's files and logs are kept in {}", kept.display());
            break;
        }
    }
    run.report.ledger = std::mem::take(&mut run.ledger.lock());
    Ok(run.report)
}

impl Run<'_> {
    /// The fleets and counters that all rounds share.
    async fn set_up(&mut self) -> Result<(), ChaosError> {
        self.create_fleet(&path("chaos")?).await?;
        self.create_fleet(&path("chaos/counters")?).await?;
        for number in 0..COUNTERS_PER_WRITER * usize::from(self.options.stream_writers) {
            let path: AgentPath = parsed(&format!("chaos/counters/c-{number}"))?;
            let command = AgentRegister { path: path.clone(), labels: Labels::default() };
            let reply = self.command("registering a counter", Command::AgentRegister(command)).await?;
            let first_version = match reply.outcome {
                Some(Outcome::Stored(stored)) => stored.version,
                _ => 0,
            };
            let counter = Counter { path, first_version, versions: Vec::new(), abandoned: 0 };
            self.ledger.lock().counters.push(counter);
        }
        Ok(())
    }

    async fn round(&mut self, round: u32, fault: Fault) -> Result<(), ChaosError> {
        let fleet = path(&format!("chaos/r-{round}"))?;
        self.create_fleet(&fleet).await?;
        self.ledger.lock().begin_round();
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = self.writers(&fleet, &stop)?;
        self.progress("the writers are at work").await;
        self.moment(50, 800).await;
        let victims = self.hurt_and_mend(fault).await?;
        self.cluster.wait_for_leader(&self.admin).await;
        self.progress("the cluster writes after the fault").await;
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = writers.join_next().await {
            ended.map_err(std::io::Error::other)?;
        }
        self.agree_and_audit(round, fault, &fleet, &victims).await
    }

    fn writers(&mut self, fleet: &FleetPath, stop: &Arc<AtomicBool>) -> Result<JoinSet<()>, ChaosError> {
        let load = Load {
            person: self.admin.clone(),
            nodes: NODES,
            ledger: Arc::clone(&self.ledger),
            stop: Arc::clone(stop),
        };
        let reason: Reason = parsed("a drill")?;
        let mut writers = JoinSet::new();
        for writer in 0..self.options.unary_writers {
            let prefix = format!("{fleet}/w{writer}-");
            writers.spawn(UnaryWriter::new(load.clone(), self.rng.fork(), prefix, reason.clone()).run());
        }
        for writer in 0..usize::from(self.options.stream_writers) {
            let own = writer * COUNTERS_PER_WRITER..(writer + 1) * COUNTERS_PER_WRITER;
            writers.spawn(StreamWriter::new(load.clone(), self.rng.fork(), own).run());
        }
        Ok(writers)
    }

    /// Inflicts the fault, waits until the others go on where they can, and brings everybody back. The names of the hurt.
    async fn hurt_and_mend(&mut self, fault: Fault) -> Result<String, ChaosError> {
        let leader = self.leader().await;
        match fault {
            Fault::LeaderKilled => self.kill_one(leader).await,
            Fault::FollowerKilled => {
                let other = 1 + usize::try_from(self.rng.below(NODES as u64 - 1)).unwrap_or_default();
                self.kill_one((leader + other) % NODES).await
            }
            Fault::AllKilled => {
                for position in 0..NODES {
                    self.cluster.kill(position)?;
                }
                self.moment(0, 200).await;
                self.cluster.start_all()?;
                Ok("all".to_owned())
            }
            Fault::LeaderFrozen => {
                self.cluster.pause(leader)?;
                self.progress("the others write while the leader is frozen").await;
                self.moment(0, 500).await;
                self.cluster.unpause(leader)?;
                Ok(self.cluster.nodes[leader].name.clone())
            }
        }
    }

    async fn kill_one(&mut self, victim: usize) -> Result<String, ChaosError> {
        self.cluster.kill(victim)?;
        self.progress("the others write while a node is down").await;
        self.moment(0, 800).await;
        self.cluster.start(victim)?;
        Ok(self.cluster.nodes[victim].name.clone())
    }

    /// Waits until the nodes agree, then holds the ledger against each of them.
    async fn agree_and_audit(
        &mut self,
        round: u32,
        fault: Fault,
        fleet: &FleetPath,
        victims: &str,
    ) -> Result<(), ChaosError> {
        let index = self.ledger.lock().index_max;
        let statuses = self.cluster.wait_until_equal(&self.admin, index).await;
        let term = statuses.iter().map(|status| status.term).max().unwrap_or_default();
        self.report.elections += term.saturating_sub(self.term);
        self.term = term;
        self.report.agreements += 1;
        self.report.snapshot_index =
            statuses.iter().map(|status| status.snapshot_index).max().unwrap_or_default();
        self.report.last_index = statuses.first().map_or(0, |status| status.applied_index);
        let counters: Vec<String> =
            self.ledger.lock().counters.iter().map(|counter| counter.path.to_string()).collect();
        for (position, node) in self.cluster.nodes.iter().enumerate() {
            let seen = audit::look(&self.admin, position, fleet, &counters)
                .await
                .map_err(|source| ChaosError::Call { what: "asking for everything", source })?;
            let mut ledger = self.ledger.lock();
            let broken = audit::compare(&ledger, &seen, &node.name);
            ledger.violations.extend(broken);
        }
        let mut ledger = self.ledger.lock();
        let silence = ledger.take_longest_silence();
        self.report.silences.entry(fault).or_default().push(silence);
        self.report.agents += ledger.agents.len() as u64;
        println!(
            "round {round:>3}  {:<16} {victims:<4} term {term:>4}  index {:>8}  acknowledged {:>8}  silence {:>6} ms",
            fault.name(),
            self.report.last_index,
            ledger.acknowledged,
            silence.as_millis()
        );
        Ok(())
    }

    /// Who leads, by the word of whoever answers.
    async fn leader(&self) -> usize {
        wait_until("somebody leads", || async {
            for position in 0..NODES {
                if let Ok(status) = attempt(self.admin.status(position)).await
                    && status.role == "leader"
                {
                    return Some(position);
                }
            }
            None
        })
        .await
    }

    async fn progress(&self, what: &str) {
        let before = self.ledger.lock().acknowledged;
        wait_until(what, || async { (self.ledger.lock().acknowledged >= before + PROGRESS).then_some(()) })
            .await;
    }

    /// Lets a random time pass: the point of the fault is that nobody chose its moment.
    async fn moment(&mut self, from_ms: u64, to_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.rng.between(from_ms, to_ms))).await;
    }

    async fn create_fleet(&self, path: &FleetPath) -> Result<(), ChaosError> {
        let command = FleetCreate {
            path: path.clone(),
            labels: Labels::default(),
            owner: parsed::<Text>("chaos")?,
            contact: parsed::<Text>("chaos")?,
            intent: Intent::default(),
            limits: Limits::default(),
        };
        self.command("creating a fleet", Command::FleetCreate(command)).await.map(drop)
    }

    /// Carries out a command of the run's own, at any node, however long it takes to find one.
    async fn command(&self, what: &'static str, command: Command) -> Result<CommandReply, ChaosError> {
        let cluster = wait_until("a node tells the cluster's time", || async {
            for node in 0..NODES {
                if let Ok(cluster) = attempt(self.admin.cluster(node)).await {
                    return Some(cluster);
                }
            }
            None
        })
        .await;
        let request = self.admin.request_at(&cluster, command);
        for node in (0..NODES).cycle().take(100 * NODES) {
            match attempt(self.admin.send(node, &request)).await {
                Ok(reply) => return Ok(reply),
                Err(error) => match crate::call::Failed::from(error) {
                    crate::call::Failed::Refused(refusal) => {
                        let source = haltline_testkit::cluster::CallError::Refused(refusal);
                        return Err(ChaosError::Call { what, source });
                    }
                    _ => tokio::time::sleep(PAUSE).await,
                },
            }
        }
        Err(ChaosError::Call { what, source: haltline_testkit::cluster::CallError::Silence })
    }
}

fn path(text: &str) -> Result<FleetPath, ChaosError> {
    parsed(text)
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, ChaosError> {
    text.parse().map_err(|error| ChaosError::Value(format!("`{text}`: {error}")))
}
