//! A cluster with a few fleets, agents and people, for schedules that shouldn't begin from nothing.

use haltline_core::{
    command::{
        AgentRegister, Approve, Command, CredentialIssue, EdgeEnrol, EnforcerKind, FleetCreate, FleetUpdate,
        JoinProof, JoinTokenCreate, PersonAdd, Request, Role, RoleBinding,
    },
    ids::{ApprovalId, CredentialId, GrantId, InstanceId, JoinTokenId, KeyHash},
    policy::{Intent, Limits},
    text::{Labels, Text},
    time::Millis,
};

use super::world::{
    CLUSTER, INCARNATION, agent, by_node, fleet, join_secret, person, public, role, secret, sign, signed,
    tls_key,
};

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

/// Sets a fleet's `max_staleness`.
pub(crate) fn staleness(path: &str, ms: u64) -> Command {
    let limits = Limits { max_staleness: Some(Millis(ms)), ..Limits::default() };
    Command::FleetUpdate(FleetUpdate {
        path: fleet(path),
        expected_version: None,
        labels: None,
        owner: None,
        contact: None,
        intent: None,
        limits: Some(limits),
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

/// The join token with a number, for an enforcer in a fleet or (`None`) everywhere.
pub(crate) fn join_token(number: u8, edge: &str, path: Option<&str>) -> Command {
    Command::JoinTokenCreate(JoinTokenCreate {
        token: JoinTokenId([number; 16]),
        secret_hash: JoinProof::of_secret(&join_secret(number)).stored(),
        edge: edge.parse().unwrap(),
        kind: EnforcerKind::Edge,
        paths: vec![path.map(fleet)],
        trusted_for_acks: false,
        ttl: Millis(600_000),
    })
}

/// The enrolment of an enforcer by the token with a number.
pub(crate) fn enrolment(number: u8, key: KeyHash) -> Command {
    let proof = JoinProof::of_secret(&join_secret(number));
    Command::EdgeEnrol(EdgeEnrol { token: JoinTokenId([number; 16]), proof, key })
}

/// A credential with numbers for its ids.
pub(crate) fn credential(
    credential: u8,
    instance: u8,
    grant: u8,
    path: &str,
    ttl_ms: Option<u64>,
) -> Command {
    Command::CredentialIssue(CredentialIssue {
        credential: CredentialId([credential; 16]),
        instance: InstanceId([instance; 16]),
        grant: GrantId([grant; 16]),
        agent: agent(path),
        task: "close the month".parse().unwrap(),
        scope: Vec::new(),
        audience: None,
        ttl: ttl_ms.map(Millis),
    })
}

/// The key of the enforcer with a number.
pub(crate) fn edge_key(number: u8) -> KeyHash {
    KeyHash([0x80 + number; 32])
}

/// The requests, one a batch, all at cluster time 1: ada and bob are admins, cyd approves, dan operates `a`, eve responds
/// in `a/x`; `rack-1` enforces in `a`, and an instance of `a/r` has a credential.
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
    let next = |requests: &[Request]| FIRST + requests.len() as u64;
    let asked = signed(next(&requests), "ada", 0, DEADLINE, join_token(1, "rack-1", Some("a")));
    requests.push(asked.clone());
    requests.push(approval(next(&requests), "bob", 1, DEADLINE, 4, &asked));
    requests.push(by_node(next(&requests), 1, DEADLINE, enrolment(1, edge_key(1))));
    requests.push(signed(next(&requests), "dan", 3, DEADLINE, credential(1, 1, 1, "a/r", None)));
    requests
}
