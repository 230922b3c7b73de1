//! `haltline demo-edge`: one of the demo's edges, with its agents, as a process of its own.
//!
//! It uses the enforcer's library as an agent's program would. Tokens come on standard input, a line each with the fleet
//! before it, and an empty line after the last; when standard input closes the process ends. Twenty times a second it
//! writes what it decided as a line of JSON.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use haltline_edge::{
    Action, EdgeConfig, Enforcer, Verdict,
    enforce::{BootClock, Clock as _, Session},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{args::DemoEdgeArgs, exit::Exit, failure::Failure};

/// Between two rounds in which every agent asks once.
const ROUND: Duration = Duration::from_millis(1);
/// Between two reports.
const REPORT: Duration = Duration::from_millis(50);
/// How long agents are waited for that the edge hasn't heard of yet.
const REGISTERED_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked whether it has by now.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What one edge has decided for one fleet so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decided {
    /// Agents that ask.
    pub(crate) agents: u64,
    /// Permits so far.
    pub(crate) permits: u64,
    /// Denials so far.
    pub(crate) denials: u64,
    /// The instant of the last permit, nanoseconds of CLOCK_BOOTTIME.
    pub(crate) last_permit: u64,
}

/// One line of an edge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// When, nanoseconds of CLOCK_BOOTTIME.
    pub(crate) at: u64,
    /// By fleet.
    pub(crate) fleets: BTreeMap<String, Decided>,
}

#[derive(Debug, Default)]
struct Tally {
    agents: u64,
    permits: AtomicU64,
    denials: AtomicU64,
    last_permit: AtomicU64,
}

/// Runs until standard input closes.
///
/// # Errors
/// The edge can't start, or a token isn't taken.
pub(crate) async fn run(args: &DemoEdgeArgs) -> Result<Exit, Failure> {
    let tokens = read_tokens()?;
    let config = EdgeConfig::at(&args.identity_dir, &args.data_dir);
    let connected = Enforcer::connect(config).await;
    let enforcer = connected.map_err(|error| Failure::local(format!("the edge can't start: {error}")))?;
    enforcer.ready().await;
    let (mut sessions, mut tallies) = (Vec::with_capacity(tokens.len()), BTreeMap::<String, Tally>::new());
    for (fleet, token) in tokens {
        sessions.push((fleet.clone(), session(&enforcer, &token).await?));
        tallies.entry(fleet).or_default().agents += 1;
    }
    let tallies = Arc::new(tallies);
    let deciding = Arc::clone(&tallies);
    std::thread::spawn(move || decide_for_ever(&sessions, &deciding));
    let closed = tokio::task::spawn_blocking(|| std::io::stdin().lock().read_to_end(&mut Vec::new()));
    tokio::select! {
        told = report(&tallies) => told?,
        _ = closed => {}
    }
    Ok(Exit::Done)
}

fn read_tokens() -> Result<Vec<(String, String)>, Failure> {
    let mut tokens = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::local(format!("can't read the tokens: {error}")))?;
        match line.split_once(' ') {
            Some((fleet, token)) => tokens.push((fleet.to_owned(), token.to_owned())),
            None if line.is_empty() => break,
            None => return Err(Failure::usage("a line is a fleet, a space and a token")),
        }
    }
    Ok(tokens)
}

/// The session of a token; an agent registered a moment ago may not have reached this edge yet.
async fn session(enforcer: &Enforcer, token: &str) -> Result<Session, Failure> {
    let until = Instant::now() + REGISTERED_WITHIN;
    loop {
        match enforcer.session(token) {
            Ok(session) => return Ok(session),
            Err(refused) if Instant::now() >= until => {
                return Err(Failure::local(format!("the edge takes no session: {refused}")));
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, which does nothing but decide")]
fn decide_for_ever(sessions: &[(String, Session)], tallies: &BTreeMap<String, Tally>) {
    let action = Action::tool("payments.refund");
    let asking: Vec<(&Tally, &Session)> =
        sessions.iter().filter_map(|(fleet, session)| Some((tallies.get(fleet)?, session))).collect();
    loop {
        for (tally, session) in &asking {
            match session.decide(&action) {
                Verdict::Permit(permit) => {
                    tally.permits.fetch_add(1, Ordering::Relaxed);
                    tally.last_permit.fetch_max(permit.at.0, Ordering::Relaxed);
                }
                Verdict::Deny(_) => {
                    tally.denials.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        std::thread::sleep(ROUND);
    }
}

async fn report(tallies: &BTreeMap<String, Tally>) -> Result<(), Failure> {
    loop {
        // The clock first: everything decided before it is in the report.
        let at = BootClock.now().0;
        let fleets = tallies.iter().map(|(fleet, tally)| {
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let (permits, denials) = (count(&tally.permits), count(&tally.denials));
            let decided =
                Decided { agents: tally.agents, permits, denials, last_permit: count(&tally.last_permit) };
            (fleet.clone(), decided)
        });
        let report = Report { at, fleets: fleets.collect() };
        let line = serde_json::to_string(&report).map_err(|error| Failure::local(error.to_string()))?;
        let mut out = std::io::stdout().lock();
        let written = writeln!(out, "{line}").and_then(|()| out.flush());
        written.map_err(|error| Failure::local(format!("nobody reads any more: {error}")))?;
        drop(out);
        tokio::time::sleep(REPORT).await;
    }
}
