//! `commit` (P4): durable commands through three nodes with TLS and fsync, and the same through three etcd members.
//!
//! Systems take turns within every run, so that a machine that gets slower meanwhile doesn't favour one of them, and only
//! one cluster exists at a time. Each run starts its clusters anew.

mod results;
mod verdict;
mod workloads;

use std::{path::Path, time::Duration};

use clap::Args;
use tempfile::TempDir;

use crate::{
    General,
    etcd::{self, cluster::EtcdCluster},
    failure::Failure,
    haltline::{self, cluster::HaltlineCluster},
    load::Window,
    machine::Machine,
};
use results::Results;
use workloads::{Entry, Workload};

/// What `commit` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct CommitArguments {
    /// Unary calls in flight, one measurement each
    #[arg(default_values_t = [1, 64, 1_024])]
    in_flight: Vec<usize>,
    /// Runs; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Seconds that are measured, in each run of each workload
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Seconds of load before that
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
    /// Commands in flight on the pipelined stream
    #[arg(long, default_value_t = 2_048, value_name = "NUMBER")]
    stream_in_flight: usize,
    /// Connections that carry one pipelined stream each
    #[arg(long, default_value_t = 2, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    streams: u32,
    /// Rate of the open loop, the same for every system; 0: none
    #[arg(long, default_value_t = 1_000, value_name = "NUMBER")]
    offered_per_s: u64,
    /// Only these systems: haltline, etcd, etcd-plain
    #[arg(long, value_delimiter = ',', default_values = ["haltline", "etcd", "etcd-plain"])]
    systems: Vec<SystemName>,
    /// Only through this entry
    #[arg(long, value_delimiter = ',', default_values = ["leader", "any", "stream"])]
    entries: Vec<Entry>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SystemName {
    Haltline,
    Etcd,
    EtcdPlain,
}

impl SystemName {
    /// Name and whether it has TLS, as in the results.
    const fn params(self) -> (&'static str, bool) {
        match self {
            Self::Haltline => (haltline::SYSTEM, true),
            Self::Etcd => (etcd::SYSTEM, true),
            Self::EtcdPlain => (etcd::SYSTEM, false),
        }
    }
}

/// Runs the benchmark.
pub(crate) async fn run(general: &General, arguments: &CommitArguments) -> Result<(), Failure> {
    let systems = available(&arguments.systems);
    let window = Window {
        warm_up: Duration::from_secs(arguments.warm_up),
        measured: Duration::from_secs(arguments.seconds),
    };
    let mut results = Results::default();
    for run in 1..=arguments.runs {
        for system in &systems {
            let workloads = workloads::of(arguments, *system != SystemName::Haltline);
            eprintln!("run {run} of {}: {}", arguments.runs, results::system_label(system.params()));
            measure(general, *system, &workloads, window, &mut results).await?;
        }
    }
    let note = systems.contains(&SystemName::Etcd).then(etcd::cluster::installed).flatten();
    let etcd_version = note.map_or_else(String::new, |version| format!("; etcd {version}"));
    general.show(&format!("{}{etcd_version}\n", Machine::here()));
    general.show(&results.table());
    general.show(&verdict::table(&results));
    general.show_json(&results.lines());
    Ok(())
}

/// Without an etcd there is nothing to compare with, which is said and not hidden.
fn available(wanted: &[SystemName]) -> Vec<SystemName> {
    let mut systems = wanted.to_vec();
    let wants_etcd = systems.iter().any(|system| *system != SystemName::Haltline);
    if wants_etcd && etcd::cluster::installed().is_none() {
        eprintln!("etcd isn't installed (Debian: etcd-server), so there is no comparison with it");
        systems.retain(|system| *system == SystemName::Haltline);
    }
    systems
}

/// One run of one system: a new cluster, then each workload.
async fn measure(
    general: &General,
    system: SystemName,
    workloads: &[Workload],
    window: Window,
    results: &mut Results,
) -> Result<(), Failure> {
    match system {
        SystemName::Haltline => {
            let cluster = HaltlineCluster::start(&general.haltline()?).await?;
            cluster.prepare().await?;
            for workload in workloads {
                results.add(system.params(), *workload, workload.run_on_haltline(&cluster, window).await?);
            }
        }
        SystemName::Etcd | SystemName::EtcdPlain => {
            let directory = temporary_directory()?;
            let cluster = start_etcd(directory.path(), system).await?;
            for workload in workloads {
                results.add(system.params(), *workload, workload.run_on_etcd(&cluster, window).await?);
            }
            cluster.stop().await?;
        }
    }
    Ok(())
}

async fn start_etcd(directory: &Path, system: SystemName) -> Result<EtcdCluster, Failure> {
    EtcdCluster::start(directory, system == SystemName::Etcd).await
}

/// On the same disk as the harness's clusters.
fn temporary_directory() -> Result<TempDir, Failure> {
    tempfile::Builder::new().prefix("haltline-etcd-").tempdir().map_err(Failure::local("make a directory"))
}
