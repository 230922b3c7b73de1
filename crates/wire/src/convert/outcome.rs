//! What came of a command, as a reply.

use haltline_core::{
    rejection::{Adjusted, Killed, Outcome, Rejection},
    time::Stamp,
};

use crate::{
    refusal::Refusal,
    v1::{self, command_reply::Outcome as Message, deleted::Kind, killed},
};

/// The reply to a command that was decided at `stamp`: its outcome, or the refusal.
#[must_use]
pub fn reply(sequence: u64, stamp: Stamp, result: &Result<Outcome, Rejection>) -> v1::CommandReply {
    let outcome = match result {
        Ok(outcome) => message(stamp, outcome),
        Err(rejection) => Message::Refusal(Refusal::from(rejection).to_message()),
    };
    v1::CommandReply { sequence, stamp: Some(stamp.into()), outcome: Some(outcome) }
}

/// The reply to a command that was carried out.
#[must_use]
pub fn outcome_reply(sequence: u64, stamp: Stamp, outcome: &Outcome) -> v1::CommandReply {
    v1::CommandReply { sequence, stamp: Some(stamp.into()), outcome: Some(message(stamp, outcome)) }
}

fn message(stamp: Stamp, outcome: &Outcome) -> Message {
    match outcome {
        Outcome::FleetStored { path, version } => stored(path.to_string(), version.0, false),
        Outcome::AgentStored { path, version } => stored(path.to_string(), version.0, true),
        Outcome::FleetDeleted { path } => deleted(path.to_string(), Kind::Fleet),
        Outcome::AgentDeleted { path } => deleted(path.to_string(), Kind::Agent),
        Outcome::PersonRemoved { person } => deleted(person.to_string(), Kind::Person),
        Outcome::PersonStored { person, ended_bootstrap } => Message::PersonStored(v1::PersonStored {
            name: person.to_string(),
            ended_bootstrap: *ended_bootstrap,
        }),
        Outcome::Killed(killed) => Message::Killed(killed_message(killed)),
        Outcome::Resumed { kill } => Message::Resumed(v1::Resumed { kill: kill.0 }),
        Outcome::Pending(pending) => Message::Pending(v1::Pending {
            approval: pending.approval.0,
            needed: pending.needed,
            signed: pending.signed,
            deadline_ms: pending.deadline.0,
        }),
        Outcome::Executed { approval, outcome } => Message::Executed(Box::new(v1::Executed {
            approval: approval.0,
            outcome: Some(Box::new(reply(0, stamp, outcome))),
        })),
        Outcome::Withdrawn { approval } => Message::Withdrawn(v1::Withdrawn { approval: approval.0 }),
        Outcome::Revoked { ends } => Message::Revoked(v1::Revoked { ends_ms: ends.0 }),
        Outcome::PolicyStored => Message::PolicyStored(v1::PolicyStored {}),
        Outcome::JoinTokenStored { token, expires } => {
            Message::JoinTokenStored(v1::JoinTokenStored { token: token.0.to_vec(), expires_ms: expires.0 })
        }
        Outcome::JoinTokenDeleted { token } => {
            Message::JoinTokenDeleted(v1::JoinTokenDeleted { token: token.0.to_vec() })
        }
        Outcome::EdgeStored { edge, version } => {
            Message::EdgeStored(v1::EdgeStored { name: edge.to_string(), version: version.0 })
        }
        Outcome::EdgeRemoved { edge } => Message::EdgeRemoved(v1::EdgeRemoved { name: edge.to_string() }),
        Outcome::CredentialIssued(issued) => Message::CredentialIssued((&**issued).into()),
        Outcome::ReceiptRecorded { kill } => Message::ReceiptRecorded(v1::ReceiptRecorded { kill: kill.0 }),
        Outcome::BundleProposed { version, needed } => {
            Message::TrustBundleProposed(v1::TrustBundleProposed { version: version.0, needed: *needed })
        }
        Outcome::BundleEndorsed { version, endorsed, needed, in_force } => {
            Message::TrustBundleEndorsed(v1::TrustBundleEndorsed {
                version: version.0,
                endorsed: *endorsed,
                needed: *needed,
                in_force: *in_force,
            })
        }
    }
}

fn stored(path: String, version: u64, is_agent: bool) -> Message {
    Message::Stored(v1::StoredResource { path, version, is_agent })
}

fn deleted(name: String, kind: Kind) -> Message {
    Message::Deleted(v1::Deleted { name, kind: kind.into() })
}

fn killed_message(outcome: &Killed) -> v1::Killed {
    v1::Killed {
        kill: outcome.kill.0,
        index: outcome.index.0,
        selector: Some((&outcome.selector).into()),
        adjusted: adjusted(outcome.adjusted).into(),
    }
}

/// How a kill differs from what was asked.
#[must_use]
pub const fn adjusted(adjusted: Option<Adjusted>) -> killed::Adjusted {
    match adjusted {
        None => killed::Adjusted::Unspecified,
        Some(Adjusted::NarrowedToCallersPath) => killed::Adjusted::NarrowedToCallersPath,
        Some(Adjusted::WidenedAtTheBound) => killed::Adjusted::WidenedAtTheBound,
        Some(Adjusted::AlreadyInForce) => killed::Adjusted::AlreadyInForce,
    }
}
