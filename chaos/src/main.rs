//! Chaos: a real cluster of three processes, writers that never rest, and nodes that die at bad moments.
//!
//! Each round writes, hurts the cluster in the middle of it, mends it, waits until all nodes hold the same chain head at
//! the same index, and then asks every node for everything that was ever acknowledged. At the end stands a table of what
//! was exercised; a run that never killed a leader, saw no election or left no outcome unknown proves nothing and fails.
//!
//! `cargo run --release -p haltline-chaos -- --rounds 30`. The same `--seed` makes the same choices; what the processes
//! do between them stays their own.

mod audit;
mod call;
mod fault;
mod ledger;
mod report;
mod rounds;
mod stream_writer;
mod unary_writer;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Parser;

/// Kills nodes of a real cluster under load and checks that nothing acknowledged is lost
#[derive(Debug, Clone, Parser)]
#[command(name = "haltline-chaos", version)]
struct Options {
    /// Rounds, each with one fault; every kind of fault comes up once in four
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(4..=10_000))]
    rounds: u32,
    /// Chooses faults, victims and moments [default: by the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Writers that wait for each answer before the next command
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    unary_writers: u16,
    /// Writers that pipeline commands over one stream
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=32))]
    stream_writers: u16,
    /// Log entries between two snapshots of a node; few, so that restarts and laggards meet them
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    snapshot_after: u32,
    /// The haltline binary [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Why a run came to no verdict.
#[derive(Debug, thiserror::Error)]
enum ChaosError {
    /// There is nothing to run.
    #[error(
        "there is no haltline binary at {}; build it (`cargo build --release --bin haltline`) or name it with --binary", path.display()
    )]
    NoBinary {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Processes or files failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The cluster refused what it should carry out.
    #[error("{what}: {source}")]
    Call {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        source: haltline_testkit::cluster::CallError,
    },
    /// A constant of this program that is no value of the core.
    #[error("{0}")]
    Value(String),
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(seed_by_the_clock);
    let replay =
        format!("cargo run --release -p haltline-chaos -- --rounds {} --seed {seed}", options.rounds);
    println!("commit {}, replay with: {replay}", commit());
    match run(&options, seed).await {
        Ok(report) => {
            println!("\n{report}");
            let failures = report.failures();
            for failure in &failures {
                eprintln!("FAILED: {failure}");
            }
            if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(options: &Options, seed: u64) -> Result<report::Report, ChaosError> {
    let path = options.binary.clone().unwrap_or_else(binary_beside_this);
    if !path.is_file() {
        return Err(ChaosError::NoBinary { path });
    }
    rounds::run(options, seed, &path).await
}

fn binary_beside_this() -> PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    this.parent().unwrap_or(Path::new(".")).join("haltline")
}

fn seed_by_the_clock() -> u64 {
    // Only to differ from run to run; the seed is printed.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn commit() -> String {
    let printed = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    printed.ok().filter(|output| output.status.success()).map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
