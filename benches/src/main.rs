//! Benchmarks of Haltline: each starts what it measures as users run it, and what they would use instead beside it.
//!
//! `cargo build --release -p haltline-cli && cargo run --release -p haltline-benches -- <name> [--json] [sizes…]`. A
//! table goes to standard output; with `--json` it goes to standard error, and standard output gets one object a line.
#![allow(clippy::float_arithmetic, reason = "statistics of measurements; nothing here decides anything")]

mod arrivals;
mod background;
mod commit;
mod crowd;
mod decide;
mod edge;
mod enforcement;
mod etcd;
mod failover;
mod failure;
mod fanout;
mod floor;
mod haltline;
mod latency;
mod load;
mod machine;
mod memory;
mod memory_node;
mod process_cpu;
mod report;
mod restart;
mod spread;
mod swarm;
mod token;
mod workload;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use failure::Failure;

/// Measures Haltline, and what it is compared with, on this machine.
#[derive(Debug, Parser)]
#[command(name = "haltline-benches", version, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    general: General,
    #[command(subcommand)]
    bench: Bench,
}

/// What applies to every benchmark.
#[derive(Debug, Clone, Args)]
pub(crate) struct General {
    /// Print one JSON object a line on standard output, and the table on standard error
    #[arg(long, global = true)]
    json: bool,
    /// The haltline binary [default: the one beside this program]
    #[arg(long, global = true, value_name = "FILE")]
    binary: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Durable commands through three nodes, beside etcd
    Commit(commit::CommitArguments),
    /// How long writes are refused after the leader was killed
    Failover(failover::FailoverArguments),
    /// How long a node with much state takes from its start until it serves
    Restart(restart::RestartArguments),
    /// What one warm decision of an enforcer costs
    Decide(decide::DecideArguments),
    /// What the first decision for a token costs, beside one bare check of a signature
    Token(token::TokenArguments),
    /// What an enforcer and a node hold in memory, and how long they load
    Memory(memory::MemoryArguments),
    /// How fast a stop reaches all enforcers, beside etcd's watch
    Fanout(fanout::FanoutArguments),
    /// How fast it is proven that a stop is enforced everywhere
    Enforce(enforcement::EnforceArguments),
    /// What it costs a node to keep its enforcers fresh
    Freshness(enforcement::FreshnessArguments),
    /// The process that `memory` measures
    #[command(hide = true)]
    LoadView(memory::LoadArguments),
    /// The process that `memory` measures for a node
    #[command(hide = true)]
    NodeState(memory_node::StateArguments),
    /// The process that `fanout` compares with
    #[command(hide = true)]
    FloorServer,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = tokio::select! {
        result = run(arguments) => result,
        // What was started ends with the future that holds it.
        () = told_to_stop() => return ExitCode::FAILURE,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(Arguments { general, bench }: Arguments) -> Result<(), Failure> {
    match bench {
        Bench::Commit(arguments) => commit::run(&general, &arguments).await,
        Bench::Failover(arguments) => failover::run(&general, &arguments).await,
        Bench::Restart(arguments) => restart::run(&general, &arguments).await,
        Bench::Decide(arguments) => alone(move || decide::run(&general, &arguments)).await,
        Bench::Token(arguments) => alone(move || token::run(&general, &arguments)).await,
        Bench::Memory(arguments) => {
            let (of_edge, of_node) = (general.clone(), arguments.clone());
            if arguments.measures_edge() {
                alone(move || memory::run(&of_edge, &arguments)).await?;
            }
            if of_node.measures_node() { memory::run_node(&general, &of_node).await } else { Ok(()) }
        }
        Bench::Fanout(arguments) => fanout::run(&general, &arguments).await,
        Bench::Enforce(arguments) => enforcement::enforce(&general, &arguments).await,
        Bench::Freshness(arguments) => enforcement::freshness(&general, &arguments).await,
        Bench::LoadView(arguments) => alone(move || memory::load(&arguments)).await,
        Bench::NodeState(arguments) => alone(move || memory_node::measured(&arguments)).await,
        Bench::FloorServer => alone(floor::serve).await,
    }
}

/// Runs what computes without a pause on a thread of its own, which ends with the program: so that it can be interrupted.
async fn alone(bench: impl FnOnce() -> Result<(), Failure> + Send + 'static) -> Result<(), Failure> {
    let (sender, result) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || sender.send(bench()));
    result.await.unwrap_or_else(|_| Err(edge::failed(&"the benchmark panicked")))
}

impl General {
    /// The binary to measure.
    fn haltline(&self) -> Result<PathBuf, Failure> {
        let path = match &self.binary {
            Some(path) => path.clone(),
            None => std::env::current_exe()
                .map_err(Failure::local("find this program"))?
                .with_file_name("haltline"),
        };
        if path.is_file() { Ok(path) } else { Err(Failure::NoBinary { path }) }
    }

    /// Shows a table to people.
    fn show(&self, text: &str) {
        if self.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }

    /// Shows results to programs, if they are wanted.
    fn show_json(&self, lines: &[report::Line]) {
        let machine = machine::Machine::here();
        if self.json {
            lines.iter().for_each(|line| println!("{}", line.to_json(&machine)));
        }
    }
}

/// Returns when the process is interrupted or terminated.
async fn told_to_stop() {
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate)] = signals else { return std::future::pending().await };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
