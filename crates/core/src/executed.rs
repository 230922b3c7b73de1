//! Reading what an approved command was answered, without recursion.
//!
//! [`Outcome::Executed`] holds another outcome, and that one can't be executed by an approval in its turn. Bytes that
//! claim otherwise could nest until the stack ends the process, so the inner outcome is read as the type below, which has
//! everything but that.

use serde::{Deserialize, Deserializer};

use crate::{
    ids::{ApprovalId, EdgeName, JoinTokenId, KillId, PersonId, Version},
    outcome::IssuedCredential,
    path::{AgentPath, FleetPath},
    rejection::{Killed, Outcome, Pending, Rejection},
    time::ClusterTime,
};

/// [`Outcome`], variant by variant in the same order, with nothing inside `Executed`.
#[derive(Deserialize)]
enum Inner {
    FleetStored { path: FleetPath, version: Version },
    FleetDeleted { path: FleetPath },
    AgentStored { path: AgentPath, version: Version },
    AgentDeleted { path: AgentPath },
    PersonStored { person: PersonId, ended_bootstrap: bool },
    PersonRemoved { person: PersonId },
    Killed(Box<Killed>),
    Resumed { kill: KillId },
    Pending(Pending),
    Executed(Never),
    Withdrawn { approval: ApprovalId },
    Revoked { ends: ClusterTime },
    PolicyStored,
    JoinTokenStored { token: JoinTokenId, expires: ClusterTime },
    JoinTokenDeleted { token: JoinTokenId },
    EdgeStored { edge: EdgeName, version: Version },
    EdgeRemoved { edge: EdgeName },
    CredentialIssued(Box<IssuedCredential>),
    ReceiptRecorded { kill: KillId },
    BundleProposed { version: Version, needed: u32 },
    BundleEndorsed { version: Version, endorsed: u32, needed: u32, in_force: bool },
}

#[derive(Deserialize)]
enum Never {}

impl From<Inner> for Outcome {
    fn from(inner: Inner) -> Self {
        match inner {
            Inner::FleetStored { path, version } => Self::FleetStored { path, version },
            Inner::FleetDeleted { path } => Self::FleetDeleted { path },
            Inner::AgentStored { path, version } => Self::AgentStored { path, version },
            Inner::AgentDeleted { path } => Self::AgentDeleted { path },
            Inner::PersonStored { person, ended_bootstrap } => Self::PersonStored { person, ended_bootstrap },
            Inner::PersonRemoved { person } => Self::PersonRemoved { person },
            Inner::Killed(killed) => Self::Killed(killed),
            Inner::Resumed { kill } => Self::Resumed { kill },
            Inner::Pending(pending) => Self::Pending(pending),
            Inner::Executed(never) => match never {},
            Inner::Withdrawn { approval } => Self::Withdrawn { approval },
            Inner::Revoked { ends } => Self::Revoked { ends },
            Inner::PolicyStored => Self::PolicyStored,
            Inner::JoinTokenStored { token, expires } => Self::JoinTokenStored { token, expires },
            Inner::JoinTokenDeleted { token } => Self::JoinTokenDeleted { token },
            Inner::EdgeStored { edge, version } => Self::EdgeStored { edge, version },
            Inner::EdgeRemoved { edge } => Self::EdgeRemoved { edge },
            Inner::CredentialIssued(issued) => Self::CredentialIssued(issued),
            Inner::ReceiptRecorded { kill } => Self::ReceiptRecorded { kill },
            Inner::BundleProposed { version, needed } => Self::BundleProposed { version, needed },
            Inner::BundleEndorsed { version, endorsed, needed, in_force } => {
                Self::BundleEndorsed { version, endorsed, needed, in_force }
            }
        }
    }
}

/// Reads the outcome inside `Executed`; for `#[serde(deserialize_with = …)]`.
pub(crate) fn read<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Box<Result<Outcome, Rejection>>, D::Error> {
    Result::<Inner, Rejection>::deserialize(deserializer).map(|result| Box::new(result.map(Outcome::from)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::canonical;

    fn executed(outcome: Result<Outcome, Rejection>) -> Outcome {
        Outcome::Executed { approval: ApprovalId(7), outcome: Box::new(outcome) }
    }

    #[test]
    fn what_an_approval_executed_round_trips() {
        let (fleet, agent) = ("a".parse().expect("fleet"), "a/r".parse().expect("agent"));
        let person: PersonId = "ada".parse().expect("person");
        for outcome in [
            Ok(Outcome::FleetStored { path: "a".parse().expect("fleet"), version: Version(3) }),
            Ok(Outcome::FleetDeleted { path: fleet }),
            Ok(Outcome::AgentStored { path: "a/r".parse().expect("agent"), version: Version(4) }),
            Ok(Outcome::AgentDeleted { path: agent }),
            Ok(Outcome::PersonStored { person: person.clone(), ended_bootstrap: true }),
            Ok(Outcome::PersonRemoved { person: person.clone() }),
            Ok(Outcome::Resumed { kill: KillId(9) }),
            Ok(Outcome::Withdrawn { approval: ApprovalId(8) }),
            Ok(Outcome::Revoked { ends: ClusterTime(10) }),
            Ok(Outcome::PolicyStored),
            Ok(Outcome::JoinTokenStored { token: JoinTokenId([1; 16]), expires: ClusterTime(10) }),
            Ok(Outcome::JoinTokenDeleted { token: JoinTokenId([2; 16]) }),
            Ok(Outcome::EdgeStored { edge: "rack-7".parse().expect("edge"), version: Version(2) }),
            Ok(Outcome::EdgeRemoved { edge: "rack-7".parse().expect("edge") }),
            Ok(Outcome::ReceiptRecorded { kill: KillId(9) }),
            Ok(Outcome::BundleProposed { version: Version(2), needed: 2 }),
            Ok(Outcome::BundleEndorsed { version: Version(2), endorsed: 2, needed: 2, in_force: true }),
            Err(Rejection::UnknownPerson { person }),
        ] {
            let outcome = executed(outcome);
            let read: Outcome = postcard::from_bytes(&canonical(&outcome)).expect("own bytes");
            assert_eq!(read, outcome);
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_exhaust_the_stack() {
        // `Executed`, an approval's number, `Ok`: again and again.
        let bytes = [9, 1, 0].repeat(1_000_000);
        assert!(postcard::from_bytes::<Outcome>(&bytes).is_err());
        assert!(
            postcard::from_bytes::<Outcome>(&canonical(&executed(Ok(executed(Ok(Outcome::PolicyStored))))))
                .is_err()
        );
    }
}
