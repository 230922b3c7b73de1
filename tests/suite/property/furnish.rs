//! A cluster with a few fleets, agents and people, for schedules that shouldn't begin from nothing.

use haltline_core::{
    command::{AgentRegister, Approve, Command, FleetCreate, PersonAdd, Request, Role, RoleBinding},
    ids::ApprovalId,
    policy::{Intent, Limits},
    text::{Labels, Text},
};

use super::world::{CLUSTER, INCARNATION, agent, fleet, person, public, role, secret, sign, signed, tls_key};

/// Ids of these requests begin here, out of the way of those that follow.
const FIRST: u64 = 1 << 40;
const DEADLINE: u64 = 200_000;

/// A fleet without limits or intent of its own.
pub(crate) fn plain_fleet(path: &str) -> Command {
    Command::FleetCreate(FleetCreate {
        path: fleet(path),
        labels: Labels::none(),
        owner: Text::default(),
        contact: Text::default(),
        intent: Intent::default(),
        limits: Limits::default(),
    })
}

/// An agent with labels.
pub(crate) fn labelled_agent(path: &str, labels: &[(&str, &str)]) -> Command {
    let labels = Labels::from_pairs(labels.iter().copied()).unwrap();
    Command::AgentRegister(AgentRegister { path: agent(path), labels })
}

/// A person with the keys of a number.
pub(crate) fn newcomer(name: &str, key: u8, roles: Vec<RoleBinding>) -> Command {
    Command::PersonAdd(PersonAdd {
        person: person(name),
        tls_keys: vec![tls_key(key)],
        signing_key: public(key),
        roles,
    })
}

/// An approval, signed by somebody with the key of a number.
pub(crate) fn approval(
    number: u64,
    caller: &str,
    key: u8,
    deadline: u64,
    approval: u64,
    waiting: &Request,
) -> Request {
    let command = Command::Approve(Approve { approval: ApprovalId(approval) });
    let mut request = super::world::unsigned(number, caller, deadline, command);
    request.signature = Some(sign(&secret(key), CLUSTER, INCARNATION, waiting));
    request
}

/// The requests, one a batch, all at cluster time 1: ada and bob are admins, cyd approves, dan operates `a`, eve responds
/// in `a/x`.
pub(crate) fn furnishing() -> Vec<Request> {
    let alone = [
        plain_fleet("a"),
        plain_fleet("a/x"),
        plain_fleet("a/x/p"),
        plain_fleet("a/y"),
        plain_fleet("b"),
        labelled_agent("a/r", &[]),
        labelled_agent("a/x/r", &[("env", "prod")]),
        labelled_agent("a/x/s", &[("env", "dev"), ("tier", "prod")]),
        labelled_agent("b/r", &[]),
        newcomer("bob", 1, vec![role(Role::Admin, "")]),
    ];
    let mut requests: Vec<Request> = Vec::new();
    for command in alone {
        requests.push(signed(FIRST + requests.len() as u64, "ada", 0, DEADLINE, command));
    }
    let staff = [
        newcomer("cyd", 2, vec![role(Role::Approver, "")]),
        newcomer("dan", 3, vec![role(Role::Operator, "a"), role(Role::Approver, "a/x")]),
        newcomer("eve", 4, vec![role(Role::Responder, "a/x")]),
    ];
    for (at, command) in staff.into_iter().enumerate() {
        let asked = signed(FIRST + requests.len() as u64, "ada", 0, DEADLINE, command);
        requests.push(asked.clone());
        let (number, waits_as) = (FIRST + requests.len() as u64, at as u64 + 1);
        requests.push(approval(number, "bob", 1, DEADLINE, waits_as, &asked));
    }
    requests
}
