//! Commands as messages: what a client sends, and what an approver is shown.
//!
//! What only nodes ask for, by themselves (an enforcer's enrolment, a receipt, an endorsement), has no message: it never
//! comes through the API.

use haltline_core::command::{
    AgentUpdate, Command, FleetCreate, FleetUpdate, KillCommand, KillMode, PersonAdd, PersonUpdate, Request,
    Signature,
};

use super::value::label_map;
use crate::v1::{self, command_request::Command as Message};

/// The request as one message of the pipelined stream; its inner message is the one that the unary call takes. There is
/// none for what only nodes ask for.
#[must_use]
pub fn command_request(sequence: u64, request: &Request) -> v1::CommandRequest {
    let meta = Some(meta_of(request));
    v1::CommandRequest { sequence, command: message(meta, &request.command) }
}

/// What every command carries.
#[must_use]
pub fn meta_of(request: &Request) -> v1::RequestMeta {
    v1::RequestMeta {
        request_id: request.id.0.to_vec(),
        deadline_ms: request.deadline.0,
        signature: request.signature.map_or_else(Vec::new, |Signature(bytes)| bytes.to_vec()),
    }
}

fn message(meta: Option<v1::RequestMeta>, command: &Command) -> Option<Message> {
    Some(match command {
        Command::FleetCreate(create) => {
            Message::CreateFleet(v1::CreateFleetRequest { meta, fleet: Some(new_fleet(create)) })
        }
        Command::FleetUpdate(update) => Message::UpdateFleet(fleet_update(meta, update)),
        Command::FleetDelete(delete) => Message::DeleteFleet(v1::DeleteFleetRequest {
            meta,
            path: delete.path.to_string(),
            expected_version: delete.expected_version.map(|version| version.0),
        }),
        Command::AgentRegister(register) => Message::RegisterAgent(v1::RegisterAgentRequest {
            meta,
            path: register.path.to_string(),
            labels: label_map(&register.labels),
        }),
        Command::AgentUpdate(update) => Message::UpdateAgent(agent_update(meta, update)),
        Command::AgentDelete(delete) => Message::DeleteAgent(v1::DeleteAgentRequest {
            meta,
            path: delete.path.to_string(),
            expected_version: delete.expected_version.map(|version| version.0),
        }),
        Command::PersonAdd(add) => Message::AddPerson(person_add(meta, add)),
        Command::PersonUpdate(update) => Message::UpdatePerson(person_update(meta, update)),
        Command::PersonRemove(remove) => {
            Message::RemovePerson(v1::RemovePersonRequest { meta, name: remove.person.to_string() })
        }
        Command::Kill(kill) => Message::CreateKill(create_kill(meta, kill)),
        Command::Resume(resume) => Message::Resume(v1::ResumeRequest {
            meta,
            kill: resume.kill.0,
            selector: Some((&resume.selector).into()),
            reason: resume.reason.to_string(),
        }),
        Command::Approve(approve) => {
            Message::Approve(v1::ApproveRequest { meta, approval: approve.approval.0 })
        }
        Command::Withdraw(withdraw) => {
            Message::Withdraw(v1::WithdrawRequest { meta, approval: withdraw.approval.0 })
        }
        Command::Revoke(revoke) => Message::Revoke(v1::RevokeRequest {
            meta,
            target: Some((&revoke.target).into()),
            reason: revoke.reason.to_string(),
        }),
        Command::PolicyUpdate(policy) => {
            Message::UpdatePolicy(v1::UpdatePolicyRequest { meta, policy: Some((*policy).into()) })
        }
        Command::JoinTokenCreate(create) => {
            Message::CreateJoinToken(v1::CreateJoinTokenRequest { meta, ..create.into() })
        }
        Command::JoinTokenDelete(delete) => {
            Message::DeleteJoinToken(v1::DeleteJoinTokenRequest { meta, token: delete.token.0.to_vec() })
        }
        Command::EdgeUpdate(update) => Message::UpdateEdge(v1::UpdateEdgeRequest { meta, ..update.into() }),
        Command::EdgeRemove(remove) => {
            Message::RemoveEdge(v1::RemoveEdgeRequest { meta, name: remove.edge.to_string() })
        }
        Command::CredentialIssue(issue) => {
            Message::IssueCredential(v1::IssueCredentialRequest { meta, ..issue.into() })
        }
        Command::BundlePropose(propose) => {
            Message::ProposeTrustBundle(v1::ProposeTrustBundleRequest { meta, ..propose.into() })
        }
        Command::EdgeEnrol(_) | Command::ReceiptRecord(_) | Command::BundleEndorse(_) => return None,
    })
}

fn new_fleet(create: &FleetCreate) -> v1::Fleet {
    v1::Fleet {
        path: create.path.to_string(),
        labels: label_map(&create.labels),
        owner: create.owner.to_string(),
        contact: create.contact.to_string(),
        intent: Some((&create.intent).into()),
        limits: Some((&create.limits).into()),
        ..v1::Fleet::default()
    }
}

fn fleet_update(meta: Option<v1::RequestMeta>, update: &FleetUpdate) -> v1::UpdateFleetRequest {
    v1::UpdateFleetRequest {
        meta,
        path: update.path.to_string(),
        expected_version: update.expected_version.map(|version| version.0),
        labels: update.labels.as_ref().map(Into::into),
        owner: update.owner.as_ref().map(ToString::to_string),
        contact: update.contact.as_ref().map(ToString::to_string),
        intent: update.intent.as_ref().map(Into::into),
        limits: update.limits.as_ref().map(Into::into),
    }
}

fn agent_update(meta: Option<v1::RequestMeta>, update: &AgentUpdate) -> v1::UpdateAgentRequest {
    v1::UpdateAgentRequest {
        meta,
        path: update.path.to_string(),
        labels: label_map(&update.labels),
        expected_version: update.expected_version.map(|version| version.0),
    }
}

fn person_add(meta: Option<v1::RequestMeta>, add: &PersonAdd) -> v1::AddPersonRequest {
    v1::AddPersonRequest {
        meta,
        name: add.person.to_string(),
        tls_keys: add.tls_keys.iter().map(|hash| hash.0.to_vec()).collect(),
        signing_key: add.signing_key.0.to_vec(),
        roles: add.roles.iter().map(Into::into).collect(),
    }
}

fn person_update(meta: Option<v1::RequestMeta>, update: &PersonUpdate) -> v1::UpdatePersonRequest {
    v1::UpdatePersonRequest {
        meta,
        name: update.person.to_string(),
        tls_keys: update
            .tls_keys
            .as_ref()
            .map(|keys| v1::KeyHashes { hashes: keys.iter().map(|hash| hash.0.to_vec()).collect() }),
        signing_key: update.signing_key.map_or_else(Vec::new, |key| key.0.to_vec()),
        roles: update
            .roles
            .as_ref()
            .map(|roles| v1::RoleBindings { bindings: roles.iter().map(Into::into).collect() }),
    }
}

fn create_kill(meta: Option<v1::RequestMeta>, kill: &KillCommand) -> v1::CreateKillRequest {
    let (mode, drain_ms) = kill_mode(kill.mode);
    v1::CreateKillRequest {
        meta,
        selector: Some((&kill.selector).into()),
        mode: mode.into(),
        reason: kill.reason.to_string(),
        drain_ms,
        expires_after_ms: kill.expires_after.map(|after| after.0),
    }
}

/// A mode and, where it drains, for how long in ms.
pub(super) const fn kill_mode(mode: KillMode) -> (v1::KillMode, Option<u64>) {
    match mode {
        KillMode::Drain(drain) => (v1::KillMode::Drain, Some(drain.0)),
        KillMode::Freeze => (v1::KillMode::Freeze, None),
        KillMode::Terminate => (v1::KillMode::Terminate, None),
    }
}

/// The part that every command carries.
pub(super) const fn meta_mut(message: &mut Message) -> Option<&mut v1::RequestMeta> {
    let meta = match message {
        Message::CreateFleet(message) => &mut message.meta,
        Message::UpdateFleet(message) => &mut message.meta,
        Message::DeleteFleet(message) => &mut message.meta,
        Message::RegisterAgent(message) => &mut message.meta,
        Message::UpdateAgent(message) => &mut message.meta,
        Message::DeleteAgent(message) => &mut message.meta,
        Message::AddPerson(message) => &mut message.meta,
        Message::UpdatePerson(message) => &mut message.meta,
        Message::RemovePerson(message) => &mut message.meta,
        Message::CreateKill(message) => &mut message.meta,
        Message::Resume(message) => &mut message.meta,
        Message::Approve(message) => &mut message.meta,
        Message::Withdraw(message) => &mut message.meta,
        Message::Revoke(message) => &mut message.meta,
        Message::UpdatePolicy(message) => &mut message.meta,
        Message::CreateJoinToken(message) => &mut message.meta,
        Message::DeleteJoinToken(message) => &mut message.meta,
        Message::UpdateEdge(message) => &mut message.meta,
        Message::RemoveEdge(message) => &mut message.meta,
        Message::IssueCredential(message) => &mut message.meta,
        Message::ProposeTrustBundle(message) => &mut message.meta,
    };
    meta.as_mut()
}
