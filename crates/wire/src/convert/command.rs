//! Commands from messages.

use haltline_core::{
    command::{
        AgentDelete, AgentRegister, AgentUpdate, Approve, Command, EdgeRemove, FleetCreate, FleetDelete,
        FleetUpdate, JoinTokenDelete, KillCommand, KillMode, PersonAdd, PersonRemove, PersonUpdate, Request,
        Resume, Revoke, Signature, Withdraw,
    },
    ids::{ApprovalId, KillId, PersonId, Version},
    time::{ClusterTime, Millis},
};

use super::{
    At, ConvertError, Why,
    value::{fixed, id, key_hashes, labels, nested, optional_id, parsed, required, role_bindings},
};
use crate::v1::{self, command_request::Command as Message};

/// A command as a person asks for it. What only nodes ask for, by themselves, has no message.
///
/// # Errors
/// The first field that isn't what it should be.
pub fn request(caller: &PersonId, message: Message) -> Result<Request, ConvertError> {
    let (meta, command) = split(message)?;
    let meta = required(meta, "meta", "request_id and deadline_ms")?;
    let signature = match &meta.signature[..] {
        [] => None,
        bytes => Some(Signature(fixed(bytes, "an Ed25519 signature").at("meta.signature")?)),
    };
    Ok(Request {
        id: id(&meta.request_id, "meta.request_id")?,
        caller: caller.clone().into(),
        deadline: ClusterTime(meta.deadline_ms),
        signature,
        command,
    })
}

/// What is asked, apart from who asks and how: for showing a command, or signing one that waits.
///
/// # Errors
/// The first field that isn't what it should be.
pub fn bare_command(message: Message) -> Result<Command, ConvertError> {
    split(message).map(|(_, command)| command)
}

fn split(message: Message) -> Result<(Option<v1::RequestMeta>, Command), ConvertError> {
    Ok(match message {
        Message::CreateFleet(message) => (message.meta, fleet_create(message.fleet)?),
        Message::UpdateFleet(mut message) => (message.meta.take(), fleet_update(message)?),
        Message::DeleteFleet(mut message) => (message.meta.take(), fleet_delete(&message)?),
        Message::RegisterAgent(message) => {
            let path = parsed(&message.path, "path")?;
            let labels = labels(&message.labels, "labels")?;
            (message.meta, Command::AgentRegister(AgentRegister { path, labels }))
        }
        Message::UpdateAgent(message) => {
            let path = parsed(&message.path, "path")?;
            let labels = labels(&message.labels, "labels")?;
            let expected_version = message.expected_version.map(Version);
            (message.meta, Command::AgentUpdate(AgentUpdate { path, labels, expected_version }))
        }
        Message::DeleteAgent(message) => {
            let path = parsed(&message.path, "path")?;
            let expected_version = message.expected_version.map(Version);
            (message.meta, Command::AgentDelete(AgentDelete { path, expected_version }))
        }
        Message::AddPerson(mut message) => (message.meta.take(), person_add(message)?),
        Message::UpdatePerson(mut message) => (message.meta.take(), person_update(message)?),
        Message::RemovePerson(message) => {
            let person = parsed(&message.name, "name")?;
            (message.meta, Command::PersonRemove(PersonRemove { person }))
        }
        Message::CreateKill(mut message) => (message.meta.take(), kill(message)?),
        Message::Resume(mut message) => (message.meta.take(), resume(message)?),
        Message::Approve(message) => {
            let approval = ApprovalId(message.approval);
            (message.meta, Command::Approve(Approve { approval }))
        }
        Message::Withdraw(message) => {
            let approval = ApprovalId(message.approval);
            (message.meta, Command::Withdraw(Withdraw { approval }))
        }
        Message::Revoke(message) => {
            let expected = "one of credential, grant, instance, key";
            let target = nested(required(message.target, "target", expected)?, "target")?;
            let reason = parsed(&message.reason, "reason")?;
            (message.meta, Command::Revoke(Revoke { target, reason }))
        }
        Message::UpdatePolicy(message) => {
            let expected = "approvals_to_resume and approvals_to_widen";
            let policy = required(message.policy, "policy", expected)?;
            (message.meta, Command::PolicyUpdate(policy.into()))
        }
        Message::CreateJoinToken(mut message) => {
            (message.meta.take(), Command::JoinTokenCreate(message.try_into()?))
        }
        Message::DeleteJoinToken(message) => {
            let token = id(&message.token, "token")?;
            (message.meta, Command::JoinTokenDelete(JoinTokenDelete { token }))
        }
        Message::UpdateEdge(mut message) => (message.meta.take(), Command::EdgeUpdate(message.try_into()?)),
        Message::RemoveEdge(message) => {
            let edge = parsed(&message.name, "name")?;
            (message.meta, Command::EdgeRemove(EdgeRemove { edge }))
        }
        Message::IssueCredential(mut message) => {
            (message.meta.take(), Command::CredentialIssue(message.try_into()?))
        }
        Message::ProposeTrustBundle(mut message) => {
            (message.meta.take(), Command::BundlePropose(message.try_into()?))
        }
    })
}

fn fleet_create(fleet: Option<v1::Fleet>) -> Result<Command, ConvertError> {
    let fleet = required(fleet, "fleet", "the fleet to create")?;
    let create = || {
        Ok(FleetCreate {
            path: parsed(&fleet.path, "path")?,
            labels: labels(&fleet.labels, "labels")?,
            owner: parsed(&fleet.owner, "owner")?,
            contact: parsed(&fleet.contact, "contact")?,
            intent: nested(fleet.intent.unwrap_or_default(), "intent")?,
            limits: fleet.limits.unwrap_or_default().into(),
        })
    };
    create().map(Command::FleetCreate).map_err(|error: ConvertError| error.under("fleet"))
}

fn fleet_update(message: v1::UpdateFleetRequest) -> Result<Command, ConvertError> {
    Ok(Command::FleetUpdate(FleetUpdate {
        path: parsed(&message.path, "path")?,
        expected_version: message.expected_version.map(Version),
        labels: message.labels.map(|set| labels(&set.labels, "labels.labels")).transpose()?,
        owner: message.owner.map(|text| parsed(&text, "owner")).transpose()?,
        contact: message.contact.map(|text| parsed(&text, "contact")).transpose()?,
        intent: message.intent.map(|intent| nested(intent, "intent")).transpose()?,
        limits: message.limits.map(Into::into),
    }))
}

fn fleet_delete(message: &v1::DeleteFleetRequest) -> Result<Command, ConvertError> {
    let path = parsed(&message.path, "path")?;
    let expected_version = message.expected_version.map(Version);
    Ok(Command::FleetDelete(FleetDelete { path, expected_version }))
}

fn person_add(message: v1::AddPersonRequest) -> Result<Command, ConvertError> {
    Ok(Command::PersonAdd(PersonAdd {
        person: parsed(&message.name, "name")?,
        tls_keys: key_hashes(&message.tls_keys, "tls_keys")?,
        signing_key: id(&message.signing_key, "signing_key")?,
        roles: role_bindings(message.roles, "roles")?,
    }))
}

fn person_update(message: v1::UpdatePersonRequest) -> Result<Command, ConvertError> {
    Ok(Command::PersonUpdate(PersonUpdate {
        person: parsed(&message.name, "name")?,
        tls_keys: message.tls_keys.map(|list| key_hashes(&list.hashes, "tls_keys.hashes")).transpose()?,
        signing_key: optional_id(&message.signing_key, "signing_key")?,
        roles: message.roles.map(|list| role_bindings(list.bindings, "roles.bindings")).transpose()?,
    }))
}

fn kill(message: v1::CreateKillRequest) -> Result<Command, ConvertError> {
    let mode = kill_mode(message.mode, message.drain_ms)?;
    let expected = "what to stop; a selector without conditions stops everything";
    Ok(Command::Kill(KillCommand {
        selector: nested(required(message.selector, "selector", expected)?, "selector")?,
        mode,
        reason: parsed(&message.reason, "reason")?,
        expires_after: message.expires_after_ms.map(Millis),
    }))
}

fn kill_mode(number: i32, drain_ms: Option<u64>) -> Result<KillMode, ConvertError> {
    const MODES: &str = "KILL_MODE_DRAIN, KILL_MODE_FREEZE or KILL_MODE_TERMINATE";
    let mode = match (v1::KillMode::try_from(number), drain_ms) {
        (Ok(v1::KillMode::Drain), Some(drain)) => return Ok(KillMode::Drain(Millis(drain))),
        (Ok(v1::KillMode::Drain), None) => {
            return Err(ConvertError::missing("drain_ms", "how long what runs may go on"));
        }
        (Ok(v1::KillMode::Freeze), _) => KillMode::Freeze,
        (Ok(v1::KillMode::Terminate), _) => KillMode::Terminate,
        (Ok(v1::KillMode::Unspecified), _) => return Err(ConvertError::missing("mode", MODES)),
        (Err(_), _) => {
            return Err(ConvertError::new("mode", Why::Unknown { got: number.into(), expected: MODES }));
        }
    };
    match drain_ms {
        None => Ok(mode),
        Some(_) => {
            let because = "only KILL_MODE_DRAIN has a drain time";
            Err(ConvertError::new("drain_ms", Why::Unexpected { because }))
        }
    }
}

fn resume(message: v1::ResumeRequest) -> Result<Command, ConvertError> {
    let expected = "the kill's selector as you saw it";
    Ok(Command::Resume(Resume {
        kill: KillId(message.kill),
        selector: nested(required(message.selector, "selector", expected)?, "selector")?,
        reason: parsed(&message.reason, "reason")?,
    }))
}
