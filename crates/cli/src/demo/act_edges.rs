//! The acts in which enforcers decide, a stop is proven everywhere, and one enforcer is cut off while it comes.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use haltline_core::{
    command::{Command, CredentialIssue, EnforcerKind, JoinTokenCreate, KillCommand, KillMode},
    ids::{ApprovalId, CredentialId, EdgeName, GrantId, InstanceId, KillId},
    lease::{Drift, bound},
    limits::{JOIN_TOKEN_TTL_MAX, MAX_STALENESS_DEFAULT},
    path::AgentPath,
    receipt::{EnforcedRule, SignedReceipt},
    selector::Selector,
    text::Text,
};
use haltline_edge::enforce::{BootClock, Clock as _};
use haltline_pki::JoinToken;
use tokio::time::Instant;

use super::{
    act::{People, Stage, took},
    act_stop::{CUT_OFF, KILLED, agent},
    edges::Edges,
};
use crate::{
    client::{Client, ClusterFacts, Signing, random},
    commands::{
        Done,
        agent_token::{Obtained, obtain},
        enforcement,
    },
    failure::Failure,
    output::{page::grouped, times},
};

/// Edges of the demo.
const NAMES: [&str; 2] = ["edge-a", "edge-b"];
/// Agents that run, over both edges: each has a credential of its own.
const RUNNING_MAX: u64 = 2_000;
/// From a node's start as a process until it counts its boot wait.
const STARTING: Duration = Duration::from_millis(500);
/// Credentials that are asked for at once.
const ASKED_AT_ONCE: usize = 64;

/// Enrols two edges, gives agents their credentials, and lets them decide.
///
/// # Errors
/// It didn't come about.
pub(super) async fn connect(stage: &mut Stage<'_>, people: &People) -> Result<Edges, Failure> {
    stage.narrator.act("Enforcers beside the agents").await;
    let total = u64::from(stage.agents);
    let began = Instant::now();
    let tokens = credentials(&people.ada, total).await?;
    stage.narrator.say(&format!(
        "{} agents got a credential each in {}: a signed token for one task, good for five minutes, and an entry of the \
         log.",
        grouped(tokens.len() as u64),
        took(began.elapsed())
    )).await;
    let mut edges = Edges::default();
    let mut processes = Vec::new();
    for (number, name) in NAMES.into_iter().enumerate() {
        let name: EdgeName = name.parse().map_err(|error| Failure::local(format!("{name}: {error}")))?;
        stage
            .narrator
            .command(&format!("haltline edge token create {name} --path acme   (and enrol with it)"));
        let directory = enrol(stage, people, &name).await?;
        let share: Vec<_> = tokens.iter().skip(number).step_by(NAMES.len()).cloned().collect();
        let binary = stage.nodes.binary().to_owned();
        processes.push(edges.start(&binary, &directory, name, &share)?.to_string());
    }
    stage
        .until("waiting for the agents to be at work", || async {
            let all = edges.iter().all(|edge| edge.decided(KILLED).permits > 0);
            all.then_some(())
        })
        .await?;
    stage.narrator.say(&format!(
        "Two edges run as processes {}. Every action of an agent is decided in its own process, under a signed copy that \
         may be two seconds old at most; nothing asks the cluster.",
        processes.join(" and ")
    )).await;
    let boot_wait = bound(MAX_STALENESS_DEFAULT, Drift::default());
    stage.narrator.say(&format!(
        "A node vouches for nothing in the first {} after its start: permissions from a life before could still run. All \
         three are past that in a moment.",
        times::exact(boot_wait)
    )).await;
    let boot_wait = Duration::from_millis(boot_wait.0) + STARTING;
    while stage.nodes.up_for() < boot_wait {
        let up = stage.nodes.up_for();
        tokio::time::sleep(boot_wait.saturating_sub(up)).await;
    }
    Ok(edges)
}

/// A credential for each of the agents that run, with its fleet.
async fn credentials(ada: &Client, total: u64) -> Result<Vec<(String, String)>, Failure> {
    let facts = ada.facts().await?;
    let agents: Vec<AgentPath> =
        (0..total.min(RUNNING_MAX)).filter_map(|number| agent(number, total)).collect();
    let asked = stream::iter(agents).map(|agent| {
        let facts = &facts;
        async move {
            let fleet = agent.fleet().to_string();
            token(ada, facts, agent).await.map(|token| (fleet, token))
        }
    });
    let issued: Vec<Result<(String, String), Failure>> =
        asked.buffer_unordered(ASKED_AT_ONCE).collect().await;
    issued.into_iter().collect()
}

async fn token(ada: &Client, facts: &ClusterFacts, agent: AgentPath) -> Result<String, Failure> {
    let issue = CredentialIssue {
        credential: CredentialId(random()?),
        instance: InstanceId(random()?),
        grant: GrantId(random()?),
        agent,
        task: Text::default(),
        scope: Vec::new(),
        audience: None,
        ttl: None,
    };
    match obtain(ada, facts, issue).await? {
        Obtained::Token { token, .. } => Ok(token),
        Obtained::Waiting(_) => Err(Failure::protocol("a credential waits for a second person")),
    }
}

/// Makes a join token and enrols with it; where the identity is, under `identity`.
async fn enrol(
    stage: &mut Stage<'_>,
    people: &People,
    name: &EdgeName,
) -> Result<std::path::PathBuf, Failure> {
    let public: Vec<_> = stage.nodes.public_endpoints().cloned().collect();
    let token = JoinToken::generate(people.ada.identity().bundle(), &public)?;
    let path = "acme".parse().map_err(|error| Failure::local(format!("acme: {error}")))?;
    let create = JoinTokenCreate {
        token: token.id(),
        secret_hash: token.secret_hash(),
        edge: name.clone(),
        kind: EnforcerKind::Edge,
        paths: vec![Some(path)],
        trusted_for_acks: false,
        ttl: JOIN_TOKEN_TTL_MAX,
    };
    two_people(people, Command::JoinTokenCreate(create)).await?;
    let directory = stage.nodes.directory().join(name.as_str());
    std::fs::create_dir_all(&directory)
        .map_err(|error| Failure::local(format!("can't make {}: {error}", directory.display())))?;
    let enrolled = haltline_edge::enrol(&token, &directory.join("identity")).await;
    enrolled.map_err(|error| Failure::local(format!("{name} can't enrol: {error}")))?;
    Ok(directory)
}

/// Has ada ask and grace agree.
async fn two_people(people: &People, command: Command) -> Result<(), Failure> {
    let done = Done::read(people.ada.submit(command).await?)?;
    if let Some(waiting) = done.pending() {
        super::act_people::approve(&people.grace, ApprovalId(waiting.approval)).await?;
    }
    Ok(())
}

/// Shows that a kill that was just placed has reached every agent, with the receipt.
///
/// # Errors
/// It didn't come about.
pub(super) async fn proof(
    stage: &mut Stage<'_>,
    people: &People,
    edges: &Edges,
    kill: KillId,
) -> Result<(), Failure> {
    let before = edges.decided(KILLED);
    let receipt = receipt(&people.lin, kill).await?;
    let proven = BootClock.now().0;
    stage
        .until("waiting for the edges' next report", || async {
            edges.have_reported_after(proven).then_some(())
        })
        .await?;
    let (at_once, others) = (edges.decided(KILLED), edges.decided(CUT_OFF));
    stage
        .until("waiting for some decisions more", || async {
            (edges.decided(KILLED).denials > at_once.denials
                && edges.decided(CUT_OFF).permits > others.permits)
                .then_some(())
        })
        .await?;
    let later = edges.decided(KILLED);
    let is_acked = receipt.receipt.rule == EnforcedRule::Acked;
    stage
        .check(
            "A kill comes back with a signed receipt once every enforcer has it",
            is_acked && receipt.receipt.enforcers_acked == NAMES.len() as u64,
            &format!(
                "Receipt of {kill}: {} enforcers acknowledged, {} after the commit; signed by node-{}.",
                receipt.receipt.enforcers_acked,
                times::exact(receipt.receipt.took),
                receipt.receipt.signer
            ),
        )
        .await;
    stage
        .check(
            "After the receipt nothing of the killed fleet is permitted, and everything else goes on",
            later.permits == at_once.permits && later.last_permit < proven && before.permits > 0,
            &format!(
                "{} agents of {KILLED} were permitted {} actions before; since the receipt 0, and {} denied. {CUT_OFF} \
                 was permitted {} more meanwhile.",
                grouped(later.agents),
                grouped(at_once.permits),
                grouped(later.denials - before.denials),
                grouped(edges.decided(CUT_OFF).permits - others.permits)
            ),
        )
        .await;
    Ok(())
}

/// Pauses one edge, stops a fleet, and wakes the edge after the receipt.
///
/// # Errors
/// It didn't come about.
pub(super) async fn cut_off(stage: &mut Stage<'_>, people: &People, edges: &Edges) -> Result<(), Failure> {
    stage.narrator.act("An enforcer is cut off").await;
    let Some(paused) = edges.iter().last() else { return Err(Failure::local("there is no edge")) };
    stage
        .narrator
        .say(&format!(
            "{} stops answering, with agents of {CUT_OFF} beside it that may go on any moment. lin stops that fleet:",
            paused.name
        ))
        .await;
    stage.narrator.command(&format!("kill -STOP {}   ({})", paused.process_id(), paused.name));
    paused.pause()?;
    stage.narrator.command(&format!("haltline kill fleet {CUT_OFF} --reason \"spam\" --yes"));
    let kill = place(people).await?;
    let committed = BootClock.now();
    let receipt = receipt(&people.lin, kill).await?;
    let bound = receipt.receipt.bound;
    let fenced = receipt.receipt.fenced.iter().any(|fenced| fenced.name == paused.name);
    stage
        .check(
            "Who can't answer is waited out, and the receipt says so",
            receipt.receipt.rule == EnforcedRule::Fenced && fenced,
            &format!(
                "Receipt of {kill}: 1 acknowledged, {} waited out, {} after the commit; the bound was {}.",
                paused.name,
                times::exact(receipt.receipt.took),
                times::exact(bound)
            ),
        )
        .await;
    stage.narrator.command(&format!("kill -CONT {}   ({})", paused.process_id(), paused.name));
    paused.wake()?;
    let woken = BootClock.now().0;
    let asleep = paused.decided(CUT_OFF);
    stage
        .until("waiting for the edge to decide again", || async {
            let now = paused.decided(CUT_OFF);
            (paused.reported_at() > woken && now.denials > asleep.denials).then_some(())
        })
        .await?;
    let last = edges.decided(CUT_OFF).last_permit;
    let ends = committed.plus(bound.into()).0;
    stage
        .check(
            "An enforcer that was cut off permits nothing past the bound when it wakes",
            last < ends && last < woken,
            &format!(
                "By its own account {} permitted its last action {} before the bound passed, and denied {} since it woke.",
                paused.name,
                took(Duration::from_nanos(ends.saturating_sub(last))),
                grouped(paused.decided(CUT_OFF).denials - asleep.denials)
            ),
        )
        .await;
    Ok(())
}

/// Stops the fleet of the second kill; one person suffices.
async fn place(people: &People) -> Result<KillId, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::local(format!("{CUT_OFF}: {error}"));
    let kill = KillCommand {
        selector: Selector::fleet(CUT_OFF.parse().map_err(|error| wrong(&error))?),
        mode: KillMode::Freeze,
        reason: "spam".parse().map_err(|error| wrong(&error))?,
        expires_after: None,
    };
    let facts = people.lin.facts().await?;
    let request = people.lin.prepare(&facts, Command::Kill(kill), Signing::Unsigned)?;
    let done = Done::read(people.lin.send(&request).await?)?;
    done.kill().ok_or_else(|| Failure::protocol("the kill's answer names no kill"))
}

async fn receipt(client: &Client, kill: KillId) -> Result<SignedReceipt, Failure> {
    let followed = enforcement::follow(client, kill, |_| Ok(())).await?;
    let signed =
        followed.ok_or_else(|| Failure::local(format!("{kill} was lifted before it was enforced")))?;
    let nodes = client.identity().bundle().nodes();
    let holds = signed.verify(|node| nodes.get(&node).map(|keys| keys.signing_key));
    holds.map_err(|error| Failure::local(format!("the receipt doesn't hold: {error}")))?;
    Ok(signed)
}
