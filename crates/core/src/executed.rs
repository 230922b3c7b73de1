//! Reading what an approved command was answered, without recursion.
//!
//! [`Outcome::Executed`] holds another outcome, and that one can't be executed by an approval in its turn. Bytes that
//! claim otherwise could nest until the stack ends the process, so the inner outcome is read as the type below, which has
//! everything but that.

use serde::{Deserialize, Deserializer};

use crate::{
    ids::{ApprovalId, KillId, PersonId, Version},
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
