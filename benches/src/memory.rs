//! `memory` (P11), and its enforcer's part: what a process holds that has loaded a snapshot, and how long loading took.
//!
//! Each run is a process of its own, this program under another verb, that reads a snapshot's body from a file as it came
//! over the network, decodes it, puts it in force, lets the body go and reads its own resident set.

use std::{fs, path::PathBuf, process::Command, time::Instant};

use clap::{Args, ValueEnum};
use haltline_core::{ids::LogIndex, view::View};
use haltline_edge::enforce::{CoreOptions, EnforcerCore, ViewBody};

use crate::{
    General, edge,
    edge::{Sizes, failed},
    failure::Failure,
    machine::Machine,
    memory_node,
    report::{self, Line},
    spread::Spread,
};

/// The targets of P11.
const RSS_MIB_MAX: f64 = 120.0 * 1e6 / 1_048_576.0;
const LOAD_S_MAX: f64 = 1.0;

/// What `memory` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct MemoryArguments {
    /// Runs; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Revocations in force, one measurement each
    #[arg(default_values_t = [0, 100_000, 1_000_000])]
    revocations: Vec<u64>,
    /// Agents that the enforcer knows
    #[arg(long, default_value_t = 10_000, value_name = "NUMBER")]
    agents: u64,
    /// Whose memory
    #[arg(long, value_enum, default_value_t)]
    role: Whose,
    /// Agents, running copies and revocations of the node's state
    #[arg(long, num_args = 3, default_values_t = [100_000, 1_000_000, 1_000_000])]
    state: Vec<u64>,
    /// Enforcers that connect to the node
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=11_000))]
    edges: u32,
}

/// Whose memory is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Whose {
    /// First the enforcer's, then the node's
    #[default]
    Both,
    /// An enforcer's
    Edge,
    /// A node's
    Node,
}

impl MemoryArguments {
    pub(crate) fn measures_edge(&self) -> bool {
        self.role != Whose::Node
    }

    pub(crate) fn measures_node(&self) -> bool {
        self.role != Whose::Edge
    }
}

/// The targets of P11 for a node: all of it, and each connected enforcer.
const NODE_MIB_MAX: f64 = 1.5e9 / 1_048_576.0;
const EDGE_KIB_MAX: f64 = 64.0;

/// Runs the node's part.
pub(crate) async fn run_node(general: &General, arguments: &MemoryArguments) -> Result<(), Failure> {
    let [agents, instances, revocations] = arguments.state[..] else {
        return Err(failed(&"--state takes agents, running copies and revocations"));
    };
    let (sizes, directory) = ((agents, instances, revocations), tempfile::tempdir());
    let directory = directory.map_err(Failure::local("make a directory"))?;
    let snapshot = directory.path().join("state");
    eprintln!("making the state, which takes a minute or two");
    let made = memory_node::in_own_process(sizes, &snapshot, true)?;
    let loaded: Result<Vec<_>, _> =
        (0..arguments.runs).map(|_| memory_node::in_own_process(sizes, &snapshot, false)).collect();
    let loaded = loaded?;
    let bytes = fs::metadata(&snapshot).map_err(Failure::local("look at the snapshot"))?.len();
    let of = |of: fn(&memory_node::Held) -> f64| {
        Spread::of(loaded.iter().map(of)).expect("there is at least one run")
    };
    let (rss, peak, load) = (of(|held| held.rss_mib), of(|held| held.peak_mib), of(|held| held.seconds));
    let each = memory_node::per_edge_kib(&general.haltline()?, arguments.edges as usize).await?;
    general.show(&format!("{}\n", Machine::here()));
    let row = |cells: [String; 4]| cells.to_vec();
    let verdict = |holds| if holds { "holds" } else { "FALLS SHORT" }.to_owned();
    let words = |text: &str| text.to_owned();
    let holds_all = made.rss_mib.max(rss.median) <= NODE_MIB_MAX;
    general.show(&report::table(&[
        row([words("P11, node"), words("seen"), words("target"), words("verdict")]),
        row([
            format!("{agents} agents, {instances} running, {revocations} revoked, MiB as made"),
            report::number(made.rss_mib),
            format!("≤ {}", report::number(NODE_MIB_MAX)),
            verdict(holds_all),
        ]),
        row([words("the same from a snapshot, MiB"), report::spread(rss), words(""), words("")]),
        row([words("at most while loading, MiB"), report::spread(peak), words(""), words("")]),
        row([words("loading, s"), report::spread(load), words(""), words("")]),
        row([words("snapshot, MiB"), report::number(bytes as f64 / 1_048_576.0), words(""), words("")]),
        row([
            format!("each of {} enforcers, own connections, KiB", arguments.edges),
            report::number(each),
            format!("≤ {EDGE_KIB_MAX}"),
            verdict(each <= EDGE_KIB_MAX),
        ]),
    ]));
    let line = Line::new("memory")
        .param("role", "node")
        .param("agents", agents)
        .param("instances", instances)
        .param("revocations", revocations)
        .metric("rss_mib", rss)
        .metric("peak_mib", peak)
        .metric("load_s", load)
        .plain_metric("rss_made_mib", made.rss_mib)
        .plain_metric("edge_kib", each);
    general.show_json(&[line]);
    Ok(())
}

/// What the process that is measured takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadArguments {
    /// The body of a snapshot
    snapshot: PathBuf,
}

/// What one run gave.
#[derive(Debug, Clone, Copy)]
struct Figures {
    rss_mib: f64,
    peak_mib: f64,
    load_s: f64,
}

/// Runs the benchmark.
pub(crate) fn run(general: &General, arguments: &MemoryArguments) -> Result<(), Failure> {
    let directory = tempfile::tempdir().map_err(Failure::local("make a directory"))?;
    let mut results = Vec::new();
    for revocations in &arguments.revocations {
        let sizes = Sizes { agents: arguments.agents, kills: 0, revocations: *revocations };
        let snapshot = directory.path().join(format!("view-{revocations}"));
        let bytes = write_snapshot(sizes, &snapshot)?;
        let mut figures = Vec::new();
        for run in 1..=arguments.runs {
            eprintln!("{revocations} revocations, run {run} of {}", arguments.runs);
            figures.push(in_own_process(&snapshot)?);
        }
        results.push((sizes, bytes, figures));
    }
    general.show(&format!("{}\n", Machine::here()));
    general.show(&table(&results));
    let lines: Vec<Line> = results.iter().map(|(sizes, _, figures)| line(*sizes, figures)).collect();
    general.show_json(&lines);
    Ok(())
}

/// Writes the view's encoding, and tells how long it is.
fn write_snapshot(sizes: Sizes, path: &PathBuf) -> Result<usize, Failure> {
    let mut view = View::default();
    edge::events(sizes, &edge::new_signer()?).iter().for_each(|event| view.apply(event));
    let bytes = view.encode();
    fs::write(path, &bytes).map_err(Failure::local("write a snapshot"))?;
    Ok(bytes.len())
}

fn in_own_process(snapshot: &PathBuf) -> Result<Figures, Failure> {
    let program = std::env::current_exe().map_err(Failure::local("find this program"))?;
    let output = Command::new(program)
        .arg("load-view")
        .arg(snapshot)
        .output()
        .map_err(Failure::local("start the process that is measured"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [load_s, rss_mib, peak_mib] if output.status.success() => Ok(Figures { rss_mib, peak_mib, load_s }),
        _ => Err(failed(&String::from_utf8_lossy(&output.stderr))),
    }
}

/// The process that is measured: prints seconds, resident MiB, and the most that was resident.
pub(crate) fn load(arguments: &LoadArguments) -> Result<(), Failure> {
    let bytes = fs::read(&arguments.snapshot).map_err(Failure::local("read the snapshot"))?;
    let start = Instant::now();
    let body = ViewBody::decode(&bytes).map_err(|error| failed(&error))?;
    let core = EnforcerCore::new(CoreOptions::named("edge-1".parse().expect("a name")));
    core.restore(body, LogIndex(1));
    let load_s = start.elapsed().as_secs_f64();
    drop(bytes);
    let status = fs::read_to_string("/proc/self/status").map_err(Failure::local("read its own status"))?;
    println!("{load_s} {} {}", mib(&status, "VmRSS:"), mib(&status, "VmHWM:"));
    drop(core);
    Ok(())
}

pub(crate) fn mib(status: &str, field: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(f64::NAN) / 1_024.0
}

fn spread(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> Spread {
    Spread::of(figures.iter().map(of)).expect("there is at least one run")
}

fn line(sizes: Sizes, figures: &[Figures]) -> Line {
    Line::new("memory")
        .param("role", "edge")
        .param("agents", sizes.agents)
        .param("instances", 0)
        .param("revocations", sizes.revocations)
        .metric("rss_mib", spread(figures, |run| run.rss_mib))
        .metric("peak_mib", spread(figures, |run| run.peak_mib))
        .metric("load_s", spread(figures, |run| run.load_s))
}

fn table(results: &[(Sizes, usize, Vec<Figures>)]) -> String {
    let heading = [
        "P11",
        "agents",
        "revocations",
        "body MiB",
        "resident MiB",
        "peak MiB",
        "load s",
        "target",
        "verdict",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (sizes, bytes, figures) in results {
        let (rss, load) = (spread(figures, |run| run.rss_mib), spread(figures, |run| run.load_s));
        let holds = rss.median <= RSS_MIB_MAX && load.median <= LOAD_S_MAX;
        rows.push(vec![
            "edge".to_owned(),
            sizes.agents.to_string(),
            sizes.revocations.to_string(),
            report::number(*bytes as f64 / 1_048_576.0),
            report::spread(rss),
            report::spread(spread(figures, |run| run.peak_mib)),
            report::spread(load),
            format!("≤ {} MiB, ≤ {LOAD_S_MAX} s", report::number(RSS_MIB_MAX)),
            if holds { "holds" } else { "FALLS SHORT" }.to_owned(),
        ]);
    }
    report::table(&rows)
}
