//! The acts about people: who may do what alone, and what takes two.

use haltline_core::{
    command::{Command, Resume, Role, RoleBinding},
    ids::{ApprovalId, KillId},
};
use haltline_pki::PendingPerson;

use super::{
    act::{People, Stage},
    client,
};
use crate::{
    client::Client,
    commands::{Done, approvals, kills, operator, resource},
    exit::Exit,
    failure::Failure,
};

/// Enrols two people: the first ends bootstrap, the second takes both admins.
///
/// # Errors
/// It didn't come about.
pub(super) async fn enrol(stage: &mut Stage<'_>, ada: Client) -> Result<People, Failure> {
    stage.narrator.act("From one person to two").await;
    let before = ada.cluster().await?.bootstrap;
    stage
        .narrator
        .say("The cluster is in bootstrap: ada alone may do everything. She enrols a second admin, grace.")
        .await;
    stage.narrator.command("haltline operator add grace --role admin");
    let everywhere = |role| vec![RoleBinding { role, path: None }];
    let pending = pending(stage, "grace")?;
    let done = operator::enrol(&ada, pending.request(), everywhere(Role::Admin)).await?;
    let grace = complete(stage, &ada, pending, "grace").await?;
    let after = ada.cluster().await?.bootstrap;
    stage
        .check(
            "Enrolling a second person ends bootstrap, for good",
            before && !after && done.ended_bootstrap(),
            &format!("bootstrap before: {}, after: {}.", yes_or_no(before), yes_or_no(after)),
        )
        .await;

    stage.narrator.say(
        "Now ada enrols lin, who is on call: a responder, who may stop anything and start nothing. That hands out \
         authority, so ada's word alone no longer suffices.",
    ).await;
    stage.narrator.command("haltline operator add lin --role responder");
    let pending = self::pending(stage, "lin")?;
    let done = operator::enrol(&ada, pending.request(), everywhere(Role::Responder)).await?;
    let waited = done.pending().cloned();
    let enrolled = match &waited {
        Some(waiting) => {
            let approval = ApprovalId(waiting.approval);
            stage.narrator.say(&format!(
                "It waits as {approval}. grace reads what she is about to sign, and signs it with her own key."
            )).await;
            stage.narrator.command(&format!("haltline approve {approval}"));
            approve(&grace, approval).await?
        }
        None => done,
    };
    let lin = complete(stage, &ada, pending, "lin").await?;
    stage
        .check(
            "Handing out authority takes two people",
            waited.is_some() && enrolled.exit() == Exit::Done,
            "ada alone was left waiting; with grace's signature lin was enrolled.",
        )
        .await;
    Ok(People { ada, grace, lin })
}

fn yes_or_no(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

/// Makes a person's keys, on their own machine as it were.
fn pending(stage: &Stage<'_>, name: &str) -> Result<PendingPerson, Failure> {
    let person = name.parse().map_err(|error| Failure::local(format!("{name}: {error}")))?;
    let pending = PendingPerson::create(&person)?;
    pending.save(&stage.nodes.identity(name))?;
    Ok(pending)
}

/// Fetches a person's certificate, and acts in their name from now on.
async fn complete(
    stage: &Stage<'_>,
    by: &Client,
    pending: PendingPerson,
    name: &str,
) -> Result<Client, Failure> {
    let issued = operator::issue(by, pending.request()).await?;
    let identity = pending.complete(&issued)?;
    identity.save_public(&stage.nodes.identity(name))?;
    client(identity)
}

/// Looks at a command that waits, and signs it.
pub(super) async fn approve(by: &Client, approval: ApprovalId) -> Result<Done, Failure> {
    let facts = by.facts().await?;
    let waiting = approvals::fetch(by, approval).await?;
    Done::read(approvals::sign_and_send(by, &facts, &waiting).await?)
}

/// Lifts the kill: not by the responder, not by ada alone, but by ada and grace.
///
/// # Errors
/// It didn't come about.
pub(super) async fn resume(stage: &mut Stage<'_>, people: &People, kill: KillId) -> Result<(), Failure> {
    stage.narrator.act("Starting again takes two").await;
    let placed = kills::fetch(&people.ada, kill).await?;
    let selector = resource::selector(placed.selector)?;
    let reason =
        "the refund rule is fixed".parse().map_err(|error| Failure::local(format!("a reason: {error}")))?;
    let resume = Command::Resume(Resume { kill, selector, reason });

    stage.narrator.say("lin stopped the fleet with one command. She can't start it again:").await;
    stage
        .narrator
        .command(&format!("haltline resume {kill} --reason \"the refund rule is fixed\"   (as lin)"));
    let refused = people.lin.submit(resume.clone()).await.err();
    let is_denied = refused.as_ref().is_some_and(|failure| failure.exit == Exit::Denied);
    let words = refused.map_or_else(|| "it was accepted!".to_owned(), |failure| failure.message);
    stage.check("Who may stop may not start", is_denied, &format!("The cluster says: {words}")).await;

    stage.narrator.say("ada may ask for it, but not alone:").await;
    stage
        .narrator
        .command(&format!("haltline resume {kill} --reason \"the refund rule is fixed\"   (as ada)"));
    let asked = Done::read(people.ada.submit(resume).await?)?;
    let Some(waiting) = asked.pending().cloned() else {
        stage.check("One person alone can't resume", false, "ada alone lifted the kill.").await;
        return Ok(());
    };
    let approval = ApprovalId(waiting.approval);
    stage
        .narrator
        .say(&format!("It waits as {approval}. ada tries to sign for the second person too:"))
        .await;
    stage.narrator.command(&format!("haltline approve {approval}   (as ada)"));
    let twice = approve(&people.ada, approval).await;
    let still_stopped = stopped_agents(stage, people).await?;
    let words = match &twice {
        Err(failure) => {
            format!("The cluster says: {}. {still_stopped} agents are still stopped.", failure.message)
        }
        Ok(_) => "ada signed twice and it counted!".to_owned(),
    };
    stage.check("One person alone can't resume", twice.is_err() && still_stopped > 0, &words).await;

    together(stage, people, kill, approval).await
}

/// The second person signs, and the fleet runs again.
async fn together(
    stage: &mut Stage<'_>,
    people: &People,
    kill: KillId,
    approval: ApprovalId,
) -> Result<(), Failure> {
    stage.narrator.say("grace looks at the very command that ada signed, and agrees:").await;
    stage.narrator.command(&format!("haltline approve {approval}   (as grace)"));
    let done = approve(&people.grace, approval).await?;
    let left = stopped_agents(stage, people).await?;
    stage
        .check(
            "Two people together resume",
            done.exit() == Exit::Done && left == 0,
            &format!(
                "{kill} is lifted (log index {}): {left} agents of acme/finance/invoice are stopped now.",
                done.index()
            ),
        )
        .await;
    let history = stage.agreement(&people.ada).await?;
    stage
        .check(
            "At the end all three nodes hold the same history",
            history.nodes.matches("node-").count() == 3,
            &format!(
                "{} are all at event {} with chain head {}…",
                history.nodes,
                history.events,
                history.short_head()
            ),
        )
        .await;
    Ok(())
}

/// The most agents of the killed fleet that any node takes for stopped.
async fn stopped_agents(stage: &Stage<'_>, people: &People) -> Result<usize, Failure> {
    let listed = stage.agents_by_node(&people.ada, super::act_stop::KILLED).await?;
    let stopped =
        listed.values().map(|agents| agents.iter().filter(|agent| !agent.stopped_by.is_empty()).count());
    Ok(stopped.max().unwrap_or_default())
}
