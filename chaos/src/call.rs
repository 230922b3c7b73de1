//! One attempt at one node, told apart by what it says about the command.

use std::time::Duration;

use haltline_core::{
    command::{Command, Request},
    time::{ClusterTime, Millis},
};
use haltline_testkit::cluster::{CallError, Person, random_id};
use haltline_wire::{
    refusal::{Refusal, TRANSPORT},
    v1,
};
use tonic::Code;

/// How long an attempt may take: a frozen node must not hold a writer for long.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(2);
/// Between attempts while nobody leads.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// How long a command may be retried, in cluster time, which stands still while nobody leads. Short, because the machine
/// remembers each id until then.
const LIFETIME: Millis = Millis(30_000);

/// What a failed attempt says.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The node did nothing, and trying again helps.
    NotDone,
    /// Nobody can say whether the command was or will be carried out.
    Unknown,
    /// A definite no.
    Refused(Refusal),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        let lost = [TRANSPORT, "OUTCOME_UNKNOWN", "STOPPING"].contains(&refusal.reason.as_str());
        let passing = refusal.retry_after.is_some() || refusal.code == Code::Unavailable;
        match (lost, passing) {
            (true, _) => Self::Unknown,
            (false, true) => Self::NotDone,
            (false, false) => Self::Refused(refusal),
        }
    }
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => refusal.into(),
            CallError::Silence => Self::Unknown,
        }
    }
}

/// Gives up on a call that takes longer than [`ATTEMPT`].
pub(crate) async fn attempt<T>(call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    tokio::time::timeout(ATTEMPT, call).await.unwrap_or(Err(CallError::Silence))
}

/// A signed command with a new id and a short life.
pub(crate) fn request(person: &Person, cluster: &v1::Cluster, command: Command) -> Request {
    let mut request = Request {
        id: random_id(),
        caller: person.id().clone().into(),
        deadline: ClusterTime(cluster.cluster_time_ms).plus(LIFETIME),
        signature: None,
        command,
    };
    request.signature = Some(person.sign(cluster, &request));
    request
}
