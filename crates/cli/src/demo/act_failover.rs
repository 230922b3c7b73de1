//! The acts in which the leader dies while somebody writes, and comes back.

use std::{collections::BTreeSet, time::Duration};

use haltline_core::ids::{KillId, NodeId};
use haltline_wire::v1;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    PATIENCE,
    act::{History, People, Stage, names, statuses, took},
    act_stop::{KILLED, NIGHT_SHIFT},
    writer::{Writer, Written},
};
use crate::{
    client::Client,
    failure::Failure,
    output::page::{counted, grouped},
};

/// Commands of the writer on their way at once.
const WINDOW: usize = 16;
/// Acknowledged commands before the leader is killed, and again after.
const WRITES_EACH_SIDE: usize = 400;

/// Kills the leader with nothing said, while a client writes. Gives the dead node.
///
/// # Errors
/// It didn't come about.
pub(super) async fn kill_leader(
    stage: &mut Stage<'_>,
    people: &People,
    kill: KillId,
) -> Result<NodeId, Failure> {
    stage.narrator.act("The leader dies").await;
    let leader = stage.leader(&people.ada).await?;
    let dead = NodeId(leader.node_id);
    stage.narrator.say(&format!(
        "A client registers agents in {NIGHT_SHIFT}, as fast as answers come, over a connection to the leader, {}.",
        leader.node_name
    )).await;
    let ada = leader_first(stage, people, dead)?;
    let stop = CancellationToken::new();
    let (writer, mut acknowledged) = Writer::new(ada.clone(), ada.facts().await?, WINDOW);
    let path = |number: u64| format!("{NIGHT_SHIFT}/agent-{number:06}").parse().ok();
    let writing = tokio::spawn(writer.run(path, stop.clone()));
    reach(&mut acknowledged, WRITES_EACH_SIDE).await?;

    let process = stage.nodes.kill_dead(dead)?;
    let killed_at = Instant::now();
    let before = *acknowledged.borrow();
    stage.narrator.command(&format!(
        "kill -9 {process}   ({}, after {} answers)",
        leader.node_name,
        grouped(before as u64)
    ));
    let successor = stage.leader(&people.ada).await?;
    reach(&mut acknowledged, before + WRITES_EACH_SIDE).await?;
    stop.cancel();
    let written = writing.await.map_err(|error| Failure::local(format!("the writer broke: {error}")))??;

    let gap = written.longest_gap_after(killed_at);
    stage
        .check(
            "When the leader dies, the others elect another one by themselves",
            successor.node_id != leader.node_id && successor.term > leader.term,
            &format!(
                "{} leads now, in term {} (before: {}). For {} no write was answered; then they went on.",
                successor.node_name,
                successor.term,
                leader.term,
                took(gap)
            ),
        )
        .await;
    check_nothing_lost(stage, people, &written).await?;
    check_kill_holds(stage, people, kill).await?;
    Ok(dead)
}

/// A client of ada's that calls the leader first.
fn leader_first(stage: &Stage<'_>, people: &People, leader: NodeId) -> Result<Client, Failure> {
    let mut endpoints: Vec<_> = stage.nodes.endpoints().collect();
    endpoints.sort_by_key(|(id, _)| *id != leader);
    let endpoints = endpoints.into_iter().map(|(_, endpoint)| endpoint.clone()).collect();
    Client::new(people.ada.identity().clone(), endpoints, PATIENCE, super::APPROVAL_WINDOW)
}

/// Waits until so many are acknowledged.
async fn reach(acknowledged: &mut watch::Receiver<usize>, count: usize) -> Result<(), Failure> {
    let reached = timeout(PATIENCE, acknowledged.wait_for(|now| *now >= count)).await;
    let slow =
        || Failure::local(format!("the writer didn't get {count} answers within {} s", PATIENCE.as_secs()));
    match reached {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(Failure::local("the writer ended early")),
        Err(_) => Err(slow()),
    }
}

/// Everything acknowledged is on every node that lives, once, in the same history.
async fn check_nothing_lost(
    stage: &mut Stage<'_>,
    people: &People,
    written: &Written,
) -> Result<(), Failure> {
    let history: History = stage.agreement(&people.ada).await?;
    let listed = stage.agents_by_node(&people.ada, NIGHT_SHIFT).await?;
    let promised: BTreeSet<&str> = written.acknowledged.iter().map(|one| one.path.as_str()).collect();
    let mut missing = 0;
    for agents in listed.values() {
        let present: BTreeSet<&str> = agents.iter().map(|agent| agent.path.as_str()).collect();
        missing += promised.difference(&present).count();
    }
    let seen = format!(
        "{} commands were acknowledged; {} list {}.",
        grouped(promised.len() as u64),
        names(listed.keys()),
        if missing == 0 { "every one".to_owned() } else { format!("all but {missing}") }
    );
    stage.check("No acknowledged command is lost", missing == 0 && !listed.is_empty(), &seen).await;

    let twice = promised.len() != written.acknowledged.len();
    let seen = match written.refused.first() {
        Some((path, why)) => format!("{path} was refused: {why}"),
        None => format!(
            "{} had no answer yet when the connection broke. They went out again under the same ids, and none was \
             carried out twice.",
            counted(written.resent, "command")
        ),
    };
    stage
        .check(
            "A command that is sent again is carried out once",
            written.refused.is_empty() && !twice,
            &seen,
        )
        .await;
    stage.narrator.say(
        "Every node folds each fact that matters to enforcement into one hash, its chain head: whoever has the same head \
         has the same history.",
    ).await;
    stage
        .check(
            "The nodes that live hold the same history",
            history.events > 0,
            &format!(
                "{} are at event {} with chain head {}…",
                history.nodes,
                grouped(history.events),
                history.short_head()
            ),
        )
        .await;
    Ok(())
}

async fn check_kill_holds(stage: &mut Stage<'_>, people: &People, kill: KillId) -> Result<(), Failure> {
    let listed = stage.agents_by_node(&people.ada, KILLED).await?;
    let is_stopped = |agent: &v1::Agent| agent.stopped_by.contains(&kill.0);
    let held = listed.values().all(|agents| !agents.is_empty() && agents.iter().all(is_stopped));
    let seen = if held {
        format!("{kill} still stops every agent of {KILLED}, by the word of each node that lives.")
    } else {
        format!("some agents of {KILLED} run again!")
    };
    stage.check("A kill outlives the leader that took it", held, &seen).await;
    Ok(())
}

/// Brings the dead node back and waits until it has caught up.
///
/// # Errors
/// It didn't come about.
pub(super) async fn restart(stage: &mut Stage<'_>, people: &People, dead: NodeId) -> Result<(), Failure> {
    stage.narrator.act("It comes back").await;
    let goal = stage.agreement(&people.ada).await?;
    let began = Instant::now();
    let process = stage.nodes.start(dead)?;
    stage.narrator.command(&format!("haltline node --config node-{dead}/node.toml   (process {process})"));
    let running: Vec<_> = stage.nodes.running().into_iter().filter(|(id, _)| *id == dead).collect();
    let behind = stage
        .until("waiting for the node to answer", || async {
            statuses(&people.ada, &running).await.into_values().next()
        })
        .await?;
    let answered = began.elapsed();
    let history = stage.agreement(&people.ada).await?;
    let caught_up: Duration = began.elapsed();
    stage.check(
        "A node that was killed catches up by itself",
        history.events >= goal.events && history.nodes.matches("node-").count() == 3,
        &format!(
            "node-{dead} answered after {} (at event {}), and had caught up after {}: {} are at event {} with chain head {}…",
            took(answered),
            grouped(behind.event_seq),
            took(caught_up),
            history.nodes,
            grouped(history.events),
            history.short_head()
        ),
    ).await;
    Ok(())
}
