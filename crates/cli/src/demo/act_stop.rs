//! The acts in which a fleet comes to be, and is stopped.

use haltline_core::{
    command::{Command, FleetCreate, KillCommand, KillMode},
    ids::KillId,
    path::{AgentPath, FleetPath},
    policy::{Intent, Limits},
    selector::Selector,
    text::Labels,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    act::{People, Stage, took},
    act_edges,
    edges::Edges,
    writer::Writer,
};
use crate::{
    commands::{Done, kill as kill_command},
    failure::Failure,
    output::page::grouped,
};

/// The fleet that is stopped.
pub(super) const KILLED: &str = "acme/finance/invoice";
/// The fleet that is stopped while an enforcer is cut off.
pub(super) const CUT_OFF: &str = "acme/sales/outreach";
/// The fleet that the writer writes to.
pub(super) const NIGHT_SHIFT: &str = "acme/night-shift";

/// Every fleet, parents first, with what it is for.
const FLEETS: [(&str, &str); 7] = [
    ("acme", "everything at ACME"),
    ("acme/finance", "money"),
    (KILLED, "pays invoices and refunds"),
    ("acme/finance/payroll", "pays people"),
    ("acme/sales", "finds customers"),
    (CUT_OFF, "writes to customers"),
    (NIGHT_SHIFT, "whatever is left over"),
];
/// Fleets that get agents, each with its share in tenths.
const SHARES: [(&str, u64); 3] = [(KILLED, 4), ("acme/finance/payroll", 3), (CUT_OFF, 3)];
/// Commands on their way at once.
const WINDOW: usize = 512;

/// Creates fleets and registers thousands of agents.
///
/// # Errors
/// It didn't come about.
pub(super) async fn register(stage: &mut Stage<'_>, people: &People) -> Result<(), Failure> {
    stage.narrator.act("Fleets and agents").await;
    for (path, purpose) in FLEETS {
        let wrong = |error: &dyn std::fmt::Display| Failure::local(format!("{path}: {error}"));
        let purpose = purpose.parse().map_err(|error| wrong(&error))?;
        let create = FleetCreate {
            path: path.parse().map_err(|error| wrong(&error))?,
            labels: Labels::none(),
            owner: "ada".parse().map_err(|error| wrong(&error))?,
            contact: haltline_core::text::Text::default(),
            intent: Intent { purpose, ..Intent::default() },
            limits: Limits::default(),
        };
        people.ada.submit(Command::FleetCreate(create)).await?;
    }
    stage.narrator.say(&format!("ada created {} fleets, from acme down to {KILLED}.", FLEETS.len())).await;

    let total = u64::from(stage.agents);
    let (writer, _) = Writer::new(people.ada.clone(), people.ada.facts().await?, WINDOW);
    let began = Instant::now();
    let written = writer.run(|number| agent(number, total), CancellationToken::new()).await?;
    let elapsed = began.elapsed();
    let done = written.acknowledged.len() as u64;
    let a_second = done.saturating_mul(1_000) / u64::try_from(elapsed.as_millis()).unwrap_or(1).max(1);
    stage.narrator.say(&format!(
        "Then {} agents were registered over one stream in {}: {} commands a second, each of them decided by the cluster \
         and on two disks before its answer.",
        grouped(done),
        took(elapsed),
        grouped(a_second)
    )).await;
    let everything = kill_command::preview(&people.ada, &Selector::default()).await?;
    stage
        .check(
            "Everything that was acknowledged is registered",
            done == total && everything.agents_registered == total,
            &format!("The cluster counts {} agents.", grouped(everything.agents_registered)),
        )
        .await;
    Ok(())
}

/// The agent with this number, of so many.
pub(super) fn agent(number: u64, total: u64) -> Option<AgentPath> {
    if number >= total {
        return None;
    }
    let mut turn = number % 10;
    for (fleet, share) in SHARES {
        if turn < share {
            return format!("{fleet}/agent-{number:05}").parse().ok();
        }
        turn -= share;
    }
    None
}

/// Stops the fleet, having looked what that would mean.
///
/// # Errors
/// It didn't come about.
pub(super) async fn kill(stage: &mut Stage<'_>, people: &People, edges: &Edges) -> Result<KillId, Failure> {
    stage.narrator.act("The stop").await;
    stage.narrator.say(
        "3 a.m.: the invoice agents refund whatever they are asked to. lin is on call. First she looks at what a kill \
         would stop:",
    ).await;
    let path: FleetPath = KILLED.parse().map_err(|error| Failure::local(format!("{KILLED}: {error}")))?;
    let selector = Selector::fleet(path);
    stage.narrator.command(&format!("haltline kill fleet {KILLED} --dry-run"));
    let radius = kill_command::preview(&people.lin, &selector).await?;
    stage
        .narrator
        .say(&format!(
            "{} of {} fleets, {} of {} agents. Then she does it:",
            radius.fleets,
            radius.fleets_registered,
            grouped(radius.agents),
            grouped(radius.agents_registered)
        ))
        .await;
    stage.narrator.command(&format!("haltline kill fleet {KILLED} --reason \"runaway refunds\" --yes"));
    let reason = "runaway refunds".parse().map_err(|error| Failure::local(format!("a reason: {error}")))?;
    let command = KillCommand { selector, mode: KillMode::Freeze, reason, expires_after: None };
    let facts = people.lin.facts().await?;
    let request = people.lin.prepare(&facts, Command::Kill(command), crate::client::Signing::Unsigned)?;
    let began = Instant::now();
    let done = Done::read(people.lin.send(&request).await?)?;
    let elapsed = began.elapsed();
    let kill = done.kill().ok_or_else(|| Failure::protocol("the kill's answer names no kill"))?;
    stage
        .narrator
        .say(&format!(
            "{kill} stands in the log at index {}, {} after she pressed Enter. One person sufficed.",
            done.index(),
            took(elapsed)
        ))
        .await;
    act_edges::proof(stage, people, edges, kill).await?;
    let (stopped, beside) = stopped(stage, people, kill).await?;
    let expected = radius.agents;
    stage.check(
        "A kill stops exactly what its dry run said, on every node",
        expected > 0 && stopped.iter().all(|count| *count == expected) && beside == 0,
        &format!(
            "Asked one by one, the nodes say that {} agents of {KILLED} are stopped, and {beside} others.",
            stopped.iter().map(|count| grouped(*count)).collect::<Vec<_>>().join(", ")
        ),
    ).await;
    Ok(kill)
}

/// How many agents of the fleet each node takes for stopped by this kill, and how many others any node does.
async fn stopped(stage: &Stage<'_>, people: &People, kill: KillId) -> Result<(Vec<u64>, u64), Failure> {
    let listed = stage.agents_by_node(&people.ada, "acme").await?;
    let mut inside = Vec::new();
    let mut beside = 0;
    for agents in listed.values() {
        let stopped = agents.iter().filter(|agent| agent.stopped_by.contains(&kill.0));
        let (within, outside): (Vec<_>, Vec<_>) = stopped
            .partition(|agent| agent.path.strip_prefix(KILLED).is_some_and(|rest| rest.starts_with('/')));
        inside.push(within.len() as u64);
        beside = beside.max(outside.len() as u64);
    }
    Ok((inside, beside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_shared_out_and_end() {
        let total = 100;
        let agents: Vec<String> =
            (0..total).filter_map(|number| agent(number, total)).map(|a| a.to_string()).collect();
        assert_eq!(agents.len(), 100);
        assert_eq!(agents.iter().filter(|path| path.starts_with(KILLED)).count(), 40);
        assert_eq!(agent(total, total), None);
        assert_eq!(SHARES.iter().map(|(_, share)| share).sum::<u64>(), 10);
    }
}
