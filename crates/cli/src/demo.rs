//! `haltline demo`: a real cluster at work on this machine, told in plain words, with every claim checked.
//!
//! Three nodes and two edges, all processes of this very binary, with TLS and disks under a temporary directory. Whatever happens (an error, a
//! panic, Ctrl-C), the processes that were started here are ended by their ids and the directory is removed.

mod act;
mod act_edges;
mod act_failover;
mod act_people;
mod act_stop;
mod claims;
pub(crate) mod edge_worker;
mod edges;
mod narrator;
mod nodes;
mod writer;

use std::time::Duration;

use haltline_pki::PersonIdentity;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::{DemoArgs, Format},
    client::Client,
    exit::Exit,
    failure::Failure,
    output::Screen,
};
use act::Stage;
use claims::Claims;
use narrator::Narrator;
use nodes::Nodes;

/// The demo ends by itself within a minute, also on a slow machine and when something hangs.
const WHOLE_MAX: Duration = Duration::from_secs(55);
/// How long one call of the demo may take.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long a command of the demo may wait for a second person.
const APPROVAL_WINDOW: Duration = Duration::from_secs(600);

/// Runs the demo.
///
/// # Errors
/// It couldn't be set up. A claim that broke is an exit code instead.
pub(crate) async fn run(args: &DemoArgs, screen: Screen) -> Result<Exit, Failure> {
    let mut narrator = Narrator::new(screen, args.fast);
    let mut claims = Claims::default();
    let mut nodes = Nodes::create(args.keep)?;
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(WHOLE_MAX, play(args, &mut nodes, &mut narrator, &mut claims)) => {
            outcome.unwrap_or_else(|_| {
                let message = format!("the demo isn't through after {} s", WHOLE_MAX.as_secs());
                Err(Failure::new(Exit::Broken, "DEMO_TOO_SLOW", message))
            })
        }
        interrupted = interruption() => {
            interrupted?;
            nodes.stop();
            return Err(Failure::local("interrupted; the nodes are stopped and their files removed"));
        }
    };
    if let Err(failure) = &outcome {
        claims.interrupted(&failure.message);
    }
    let held = claims.all_held();
    narrator.summary(&claims);
    finish(args, &mut nodes, &mut narrator, held);
    if screen.format != Format::Table {
        screen.print(&Report { claims: &claims, kept: args.keep && held, nodes: &nodes })?;
    }
    Ok(if held { Exit::Done } else { Exit::Broken })
}

async fn play(
    args: &DemoArgs,
    nodes: &mut Nodes,
    narrator: &mut Narrator,
    claims: &mut Claims,
) -> Result<(), Failure> {
    narrator.opening(nodes.directory());
    let mut stage = Stage { nodes, narrator, claims, agents: args.agents };
    let first = act::found(&mut stage).await?;
    let people = act_people::enrol(&mut stage, first).await?;
    act_stop::register(&mut stage, &people).await?;
    let edges = act_edges::connect(&mut stage, &people).await?;
    let kill = act_stop::kill(&mut stage, &people, &edges).await?;
    act_edges::cut_off(&mut stage, &people, &edges).await?;
    drop(edges);
    let dead = act_failover::kill_leader(&mut stage, &people, kill).await?;
    act_failover::restart(&mut stage, &people, dead).await?;
    act_people::resume(&mut stage, &people, kill).await
}

/// A client in somebody's name, for all nodes.
fn client(identity: PersonIdentity) -> Result<Client, Failure> {
    let endpoints = identity.endpoints().to_vec();
    Client::new(identity, endpoints, PATIENCE, APPROVAL_WINDOW)
}

async fn interruption() -> Result<(), Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::local(format!("can't listen for signals: {error}")));
    let (mut interrupt, mut terminate, mut hangup) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

/// Leaves the cluster, its logs, or nothing behind.
fn finish(args: &DemoArgs, nodes: &mut Nodes, narrator: &mut Narrator, held: bool) {
    if !held {
        nodes.stop();
        let directory = nodes.keep_directory();
        narrator.kept_logs(&directory);
    } else if args.keep {
        nodes.release();
        narrator.kept_cluster(nodes);
    } else {
        nodes.stop();
        narrator.gone();
    }
}

/// What the demo showed, for programs.
struct Report<'a> {
    claims: &'a Claims,
    kept: bool,
    nodes: &'a Nodes,
}

impl crate::output::Render for Report<'_> {
    fn page(&self, _: &mut crate::output::page::Page) {}

    fn value(&self) -> Value {
        let mut value = json!({ "held": self.claims.all_held(), "claims": self.claims.value() });
        if self.kept {
            value["directory"] = Value::from(self.nodes.directory().display().to_string());
            value["process_ids"] = self.nodes.process_ids().collect();
        }
        value
    }
}
