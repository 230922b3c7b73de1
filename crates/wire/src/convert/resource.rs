//! What the state holds, as resources that people read.

use haltline_core::{
    command::{EnforcerKind, NodeRecord, RevocationTarget},
    event::ChainPosition,
    ids::{ApprovalId, KillId, PersonId},
    lease::{Drift, bound},
    path::{AgentPath, FleetPath},
    selector::Selector,
    state::{
        BlastRadius, State,
        change::Change,
        records::{Agent, Fleet, Kill, LiftedKill, PendingApproval, Person, Revocation},
    },
    text::Labels,
    time::Stamp,
};

use super::{
    command_message::{command_request, kill_mode},
    outcome::adjusted,
    value::{effective_limits, label_map},
};
use crate::v1;

/// A fleet, with what follows from where it is.
#[must_use]
pub fn fleet(state: &State, path: &FleetPath, fleet: &Fleet) -> v1::Fleet {
    v1::Fleet {
        path: path.to_string(),
        labels: label_map(&fleet.labels),
        owner: fleet.owner.to_string(),
        contact: fleet.contact.to_string(),
        intent: Some((&fleet.intent).into()),
        limits: Some((&fleet.limits).into()),
        effective_limits: Some(effective_limits(&state.effective_limits(path))),
        version: fleet.version.0,
        created: Some(fleet.created.into()),
        updated: Some(fleet.updated.into()),
        agents: state.agents_under(Some(path)).count() as u64,
        stopped_by: numbers(state.kills_stopping_fleet(path)),
        live_instances: state.live_instances(path),
        kill_bound_ms: bound(state.staleness_touched(&everything_in(path)), Drift::default()).0,
    }
}

/// An agent, with what follows from where it is.
#[must_use]
pub fn agent(state: &State, path: &AgentPath, agent: &Agent) -> v1::Agent {
    v1::Agent {
        path: path.to_string(),
        labels: label_map(&agent.labels),
        effective_labels: label_map(&state.effective_labels(path)),
        version: agent.version.0,
        registered: Some(agent.registered.into()),
        stopped_by: numbers(state.kills_stopping_agent(path)),
    }
}

fn everything_in(fleet: &FleetPath) -> Selector {
    Selector { fleet: Some(fleet.clone()), ..Selector::default() }
}

fn numbers(kills: Vec<KillId>) -> Vec<u64> {
    kills.into_iter().map(|kill| kill.0).collect()
}

/// A person.
#[must_use]
pub fn person(name: &PersonId, person: &Person) -> v1::Person {
    v1::Person {
        name: name.to_string(),
        tls_keys: person.tls_keys.iter().map(|hash| hash.0.to_vec()).collect(),
        signing_key: person.signing_key.0.to_vec(),
        roles: person.roles.iter().map(Into::into).collect(),
        enrolled: Some(person.enrolled.into()),
    }
}

/// A kill in force.
#[must_use]
pub fn kill(state: &State, id: KillId, kill: &Kill) -> v1::Kill {
    let (mode, _) = kill_mode(kill.mode);
    v1::Kill {
        id: id.0,
        selector: Some((&kill.selector).into()),
        mode: mode.into(),
        reason: kill.reason.to_string(),
        by: kill.by.to_string(),
        placed: Some(kill.placed.into()),
        drain_ends_ms: kill.drain_ends.map_or(0, |time| time.0),
        expires_ms: kill.expires.map_or(0, |time| time.0),
        has_receipt: state.receipts().contains_key(&id),
        ..v1::Kill::default()
    }
}

/// A kill that was lifted.
#[must_use]
pub fn lifted_kill(state: &State, id: KillId, lifted: &LiftedKill) -> v1::Kill {
    v1::Kill {
        lifted: Some(lifted.lifted.into()),
        lifted_by: lifted.by.as_ref().map_or_else(String::new, ToString::to_string),
        lift_reason: lifted.reason.as_ref().map_or_else(String::new, ToString::to_string),
        ..kill(state, id, &lifted.kill)
    }
}

/// A command that waits for more people.
#[must_use]
pub fn approval(id: ApprovalId, waiting: &PendingApproval) -> v1::Approval {
    let mut command = command_request(0, &waiting.request);
    strip_signature(&mut command);
    v1::Approval {
        id: id.0,
        requester: waiting.request.caller.to_string(),
        request_id: waiting.request.id.0.to_vec(),
        deadline_ms: waiting.request.deadline.0,
        needed: waiting.needed,
        signed_by: waiting.signed_by().map(ToString::to_string).collect(),
        created: Some(waiting.created.into()),
        summary: summary(&waiting.request.command),
        command: Some(command),
    }
}

/// Approvers sign for themselves; the requester's signature is nobody else's business.
fn strip_signature(request: &mut v1::CommandRequest) {
    if let Some(meta) = request.command.as_mut().and_then(super::command_message::meta_mut) {
        meta.signature.clear();
    }
}

/// One line that says what a command would do.
fn summary(command: &haltline_core::command::Command) -> String {
    use haltline_core::command::Command;
    let roles = |roles: &[haltline_core::command::RoleBinding]| {
        roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    match command {
        Command::FleetCreate(create) => format!("create fleet {}", create.path),
        Command::FleetUpdate(update) => format!("change fleet {}", update.path),
        Command::FleetDelete(delete) => format!("delete fleet {}", delete.path),
        Command::AgentRegister(register) => format!("register agent {}", register.path),
        Command::AgentUpdate(update) => format!("change agent {}", update.path),
        Command::AgentDelete(delete) => format!("delete agent {}", delete.path),
        Command::PersonAdd(add) => format!("enrol {} as {}", add.person, roles(&add.roles)),
        Command::PersonUpdate(update) => {
            let keys =
                if update.tls_keys.is_some() || update.signing_key.is_some() { " with new keys" } else { "" };
            let new = update.roles.as_ref().map(|list| format!(" to {}", roles(list))).unwrap_or_default();
            format!("change {}{new}{keys}", update.person)
        }
        Command::PersonRemove(remove) => format!("remove {}", remove.person),
        Command::Kill(kill) => format!("stop {} ({})", kill.selector, kill.mode),
        Command::Resume(resume) => format!("lift {} on {}: {}", resume.kill, resume.selector, resume.reason),
        Command::Approve(approve) => format!("approve {}", approve.approval),
        Command::Withdraw(withdraw) => format!("withdraw {}", withdraw.approval),
        Command::Revoke(revoke) => format!("revoke {}: {}", revoke.target, revoke.reason),
        Command::PolicyUpdate(policy) => format!(
            "ask for {} people to resume and {} to widen",
            policy.approvals_to_resume, policy.approvals_to_widen
        ),
        Command::JoinTokenCreate(create) => match create.kind {
            EnforcerKind::Edge => format!("let in edge {}", create.edge),
            EnforcerKind::Relay => format!("let in relay {}", create.edge),
        },
        Command::JoinTokenDelete(delete) => format!("delete join token {}", delete.token),
        Command::EdgeEnrol(enrol) => format!("enrol an edge with join token {}", enrol.token),
        Command::EdgeUpdate(update) => format!("change edge {}", update.edge),
        Command::EdgeRemove(remove) => format!("remove edge {}", remove.edge),
        Command::CredentialIssue(issue) => format!("issue a credential to {}", issue.agent),
        Command::ReceiptRecord(signed) => format!("keep the receipt of {}", signed.receipt.kill),
        Command::BundlePropose(propose) => {
            format!("propose version {} of the trust bundle", propose.version)
        }
        Command::BundleEndorse(endorse) => {
            format!("endorse version {} of the trust bundle", endorse.version)
        }
    }
}

/// A revocation in force.
#[must_use]
pub fn revocation(target: &RevocationTarget, revocation: &Revocation) -> v1::Revocation {
    v1::Revocation {
        target: Some(target.into()),
        reason: revocation.reason.to_string(),
        by: revocation.by.to_string(),
        placed: Some(revocation.placed.into()),
        ends_ms: revocation.ends.0,
    }
}

/// What a kill would stop, beside how much there is.
#[must_use]
pub fn blast_radius(state: &State, radius: &BlastRadius) -> v1::BlastRadius {
    let max_staleness = state.staleness_touched(&radius.selector);
    v1::BlastRadius {
        selector: Some((&radius.selector).into()),
        fleets: radius.fleets,
        agents: radius.agents,
        fleet_sample: radius.fleet_sample.iter().map(ToString::to_string).collect(),
        agent_sample: radius.agent_sample.iter().map(ToString::to_string).collect(),
        partial: radius.partial,
        fleets_registered: state.fleets().len() as u64,
        agents_registered: state.agents().len() as u64,
        adjusted: adjusted(radius.adjusted).into(),
        live_instances: live_instances(state, &radius.selector),
        edges: state.edges().len() as u64,
        max_staleness_ms: max_staleness.0,
        bound_ms: bound(max_staleness, Drift::default()).0,
    }
}

/// Running copies of the agents that a selector may stop something of.
fn live_instances(state: &State, selector: &Selector) -> u64 {
    let reach = selector.reach();
    let agents = state.agents_under(reach.as_ref());
    let needs_labels = !selector.labels.is_empty();
    let touched = agents.filter(|agent| {
        let labels = if needs_labels { state.effective_labels(agent) } else { Labels::none() };
        selector.may_touch(agent, &labels)
    });
    touched.map(|agent| state.live_instances_of(agent)).sum()
}

/// One change, at its place in the log.
#[must_use]
pub fn event(stamp: Stamp, position: u32, change: &Change, chain: &ChainPosition) -> v1::Event {
    v1::Event {
        stamp: Some(stamp.into()),
        position,
        by: change.caller.as_ref().map_or_else(String::new, ToString::to_string),
        kind: change.kind.name().into(),
        subject: change.kind.subject(),
        summary: change.kind.to_string(),
        event_seq: chain.seq.0,
        chain_head: chain.head.0.to_vec(),
    }
}

/// A node as the log knows it; its addresses stand elsewhere.
#[must_use]
pub fn node(record: &NodeRecord) -> v1::Node {
    v1::Node {
        id: record.id.0,
        name: record.name.to_string(),
        signing_key: record.signing_key.0.to_vec(),
        ..v1::Node::default()
    }
}
