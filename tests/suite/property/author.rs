//! Turns abstract deeds into requests, looking at the reference model to find what exists.

use haltline_core::{
    command::{
        AgentDelete, AgentRegister, AgentUpdate, Approve, ClusterPolicy, Command, CredentialIssue,
        EdgeRemove, EdgeUpdate, EnforcerKind, FleetCreate, FleetDelete, FleetUpdate, JoinProof,
        JoinTokenCreate, JoinTokenDelete, KillCommand, KillMode, PersonAdd, PersonRemove, PersonUpdate,
        Request, Resume, RevocationTarget, Revoke, Role, RoleBinding, Signature, Withdraw,
    },
    ids::{
        ApprovalId, ClusterId, CredentialId, EdgeName, GrantId, InstanceId, JoinTokenId, KillId, PersonId,
        PublicKey, Version,
    },
    limits::{APPROVAL_LIFETIME_MAX, EDGE_PATHS_MAX, REQUEST_LIFETIME_MAX},
    path::{AgentPath, FleetPath},
    policy::{Intent, Limits},
    selector::Selector,
    text::{Labels, Reason},
    time::{ClusterTime, Millis},
};

use super::{
    furnish::edge_key,
    model::Model,
    reports::{bundle_endorse, bundle_propose, edge_enrol, receipt_record, reporter, stranger},
    schedule::{Deadline, Deed, Dice, Signing, What},
    world::{
        AGENTS, CLUSTER, EDGES, FLEETS, INCARNATION, KEYS, PEOPLE, agent, fleet, join_secret, person, public,
        request_id, role, secret, secret_of, sign, tls_key, weak_key,
    },
};

/// Who writes the requests of one schedule; remembers them for replays.
#[derive(Debug, Default)]
pub(crate) struct Author {
    pub(crate) sent: Vec<Request>,
}

impl Author {
    /// The request of a deed, for a batch at cluster time `now`.
    pub(crate) fn write(&mut self, model: &Model, now: u64, deed: &Deed) -> Request {
        let mut dice = Dice::new(deed.dice);
        let again = matches!(deed.what, What::Replay | What::ReplayLater | What::ReuseId);
        if again && !self.sent.is_empty() {
            // Mostly a recent one, since older ones have lapsed.
            let recent = self.sent.len().saturating_sub(20);
            let from = if dice.in_ten(7) { recent } else { 0 };
            let at = from + dice.below(self.sent.len() - from);
            let mut request = self.sent[at].clone();
            match deed.what {
                What::ReplayLater => request.deadline = deadline(now, Deadline::Later, false, &mut dice),
                What::ReuseId => request.command = kill(model, &mut dice),
                _ => {}
            }
            return request;
        }
        let request = fresh(model, now, deed, self.sent.len() as u64, dice);
        self.sent.push(request.clone());
        request
    }
}

fn fresh(model: &Model, now: u64, deed: &Deed, number: u64, mut dice: Dice) -> Request {
    let command = command(model, deed.what, &mut dice);
    let caller = if command.is_by_node() {
        reporter(model, &command, &mut dice)
    } else if dice.below(60) == 0 {
        stranger(&mut dice)
    } else {
        caller(model, deed.what, &mut dice).into()
    };
    let signs = match deed.signing {
        _ if caller.person().is_none() => false,
        Signing::AsUsual => !matches!(command, Command::Kill(_) | Command::Revoke(_) | Command::Withdraw(_)),
        Signing::Unsigned => false,
        _ => true,
    };
    let mut request = Request {
        id: request_id(number),
        caller,
        deadline: deadline(now, deed.deadline, signs, &mut dice),
        signature: None,
        command,
    };
    request.signature = signs.then(|| signature(model, deed.signing, &request, &mut dice));
    request
}

/// Whoever is enrolled, mostly; for an approval somebody who hasn't signed yet.
fn caller(model: &Model, what: What, dice: &mut Dice) -> PersonId {
    let enrolled: Vec<PersonId> = model.people.keys().cloned().collect();
    if enrolled.is_empty() || dice.below(40) == 0 {
        return person(dice.pick(&PEOPLE));
    }
    let at_root: Vec<PersonId> = model
        .people
        .iter()
        .filter(|(_, person)| person.roles.iter().any(|role| role.path.is_none() && role.role == Role::Admin))
        .map(|(id, _)| id.clone())
        .collect();
    let is_fussy = !matches!(what, What::Kill | What::AgentRegister | What::Approve);
    if is_fussy && !at_root.is_empty() && dice.in_ten(5) { dice.pick(&at_root) } else { dice.pick(&enrolled) }
}

fn deadline(now: u64, deadline: Deadline, signs: bool, dice: &mut Dice) -> ClusterTime {
    let max = if signs { APPROVAL_LIFETIME_MAX } else { REQUEST_LIFETIME_MAX };
    ClusterTime(match deadline {
        Deadline::Soon => now + 1 + 100 * dice.below(20) as u64,
        Deadline::Later => now + max.0 - 1_000 * dice.below(200) as u64,
        Deadline::Passed => now.saturating_sub(dice.below(50) as u64),
        Deadline::TooFar => now + max.0 + 100_000_000 + dice.below(5) as u64,
    })
}

/// What is to be signed: an approval signs the statement that waits.
fn signature(model: &Model, signing: Signing, request: &Request, dice: &mut Dice) -> Signature {
    let mut statement = match &request.command {
        Command::Approve(approve) => {
            model.approvals.get(&approve.approval).map_or(request, |waiting| &waiting.request).clone()
        }
        _ => request.clone(),
    };
    let asker = request.caller.person().and_then(|person| model.people.get(person));
    let own = asker.and_then(|person| secret_of(&person.signing_key));
    let mut key = own.unwrap_or_else(|| secret(0));
    let mut cluster = CLUSTER;
    match signing {
        Signing::ForeignKey => {
            // The key after one's own in the row: another's, nobody's, or a former one.
            let at = (0..KEYS).find(|at| secret(*at) == key).unwrap_or(0);
            key = secret((at + 1 + dice.below(usize::from(KEYS) - 1) as u8) % KEYS);
        }
        Signing::OtherRequest => statement.id = request_id(u64::MAX - dice.below(3) as u64),
        Signing::OtherCluster => cluster = ClusterId([0xee; 16]),
        Signing::AsUsual | Signing::Unsigned | Signing::Signed => {}
    }
    sign(&key, cluster, INCARNATION, &statement)
}

/// A command of a kind.
pub(crate) fn command(model: &Model, what: What, dice: &mut Dice) -> Command {
    match what {
        What::FleetCreate => fleet_create(model, dice),
        What::FleetUpdate => fleet_update(model, dice),
        What::FleetDelete => fleet_delete(model, dice),
        What::AgentRegister => agent_register(model, dice),
        What::AgentUpdate => agent_update(model, dice),
        What::AgentDelete => agent_delete(model, dice),
        What::PersonAdd => person_add(model, dice),
        What::PersonUpdate => person_update(model, dice),
        What::PersonRemove => Command::PersonRemove(PersonRemove { person: some_person(model, dice) }),
        What::Kill | What::Replay | What::ReplayLater | What::ReuseId => kill(model, dice),
        What::Resume => resume(model, dice),
        What::Approve => Command::Approve(Approve { approval: some_approval(model, dice) }),
        What::Withdraw => Command::Withdraw(Withdraw { approval: some_approval(model, dice) }),
        What::Revoke => revoke(dice),
        What::PolicyUpdate => {
            let counts = [2, 2, 2, 3, 3, 4, 1, 6];
            Command::PolicyUpdate(ClusterPolicy {
                approvals_to_resume: dice.pick(&counts),
                approvals_to_widen: dice.pick(&counts),
            })
        }
        What::JoinTokenCreate => join_token_create(model, dice),
        What::JoinTokenDelete => Command::JoinTokenDelete(JoinTokenDelete { token: some_token(model, dice) }),
        What::EdgeUpdate => Command::EdgeUpdate(EdgeUpdate {
            edge: some_edge(model, dice),
            paths: dice.in_ten(4).then(|| some_paths(model, dice)),
            trusted_for_acks: dice.pick(&[None, None, Some(true), Some(false)]),
            fails_open: dice.pick(&[None, None, Some(true), Some(false)]),
        }),
        What::EdgeRemove => Command::EdgeRemove(EdgeRemove { edge: some_edge(model, dice) }),
        What::CredentialIssue => credential_issue(model, dice),
        What::BundlePropose => bundle_propose(model, dice),
        What::EdgeEnrol => edge_enrol(model, dice),
        What::ReceiptRecord => receipt_record(model, dice),
        What::BundleEndorse => bundle_endorse(model, dice),
        What::TooLarge => {
            let tls_keys = (0..=255).cycle().take(3_000).map(tls_key_of).collect();
            let (signing_key, roles) = (public(5), vec![role(Role::Viewer, "")]);
            Command::PersonAdd(PersonAdd { person: person("dan"), tls_keys, signing_key, roles })
        }
    }
}

fn tls_key_of(number: u8) -> haltline_core::ids::KeyHash {
    haltline_core::ids::KeyHash([number; 32])
}

/// One of those that are there, mostly; else any.
pub(crate) fn existing<T: Clone>(there: &[T], any: &[T], dice: &mut Dice) -> T {
    if there.is_empty() || dice.below(12) == 0 { dice.pick(any) } else { dice.pick(there) }
}

fn some_fleet(model: &Model, dice: &mut Dice) -> FleetPath {
    let there: Vec<_> = model.fleets.keys().cloned().collect();
    existing(&there, &FLEETS.map(fleet), dice)
}

fn some_agent(model: &Model, dice: &mut Dice) -> AgentPath {
    let there: Vec<_> = model.agents.keys().cloned().collect();
    existing(&there, &AGENTS.map(agent), dice)
}

fn some_token(model: &Model, dice: &mut Dice) -> JoinTokenId {
    let there: Vec<_> = model.tokens.keys().copied().collect();
    existing(&there, &[JoinTokenId([1; 16]), JoinTokenId([99; 16])], dice)
}

pub(crate) fn some_edge(model: &Model, dice: &mut Dice) -> EdgeName {
    let there: Vec<_> = model.edges.keys().cloned().collect();
    existing(&there, &EDGES.map(|name| name.parse().unwrap()), dice)
}

/// Places for an enforcer: one, mostly; none or too many, rarely.
fn some_paths(model: &Model, dice: &mut Dice) -> Vec<Option<FleetPath>> {
    let mut place = || if dice.in_ten(3) { None } else { Some(some_fleet(model, dice)) };
    match place() {
        first @ Some(_) if model.fleets.len() > 3 => vec![first, place()],
        Some(first) if first.as_str() == "a/x/p/q" => Vec::new(),
        None if model.fleets.is_empty() => vec![None; EDGE_PATHS_MAX + 1],
        first => vec![first],
    }
}

fn join_token_create(model: &Model, dice: &mut Dice) -> Command {
    let number = dice.below(6) as u8;
    let free: Vec<EdgeName> = EDGES
        .map(|name| name.parse().unwrap())
        .into_iter()
        .filter(|name| !model.edges.contains_key(name))
        .collect();
    let kind = dice.pick(&[EnforcerKind::Edge, EnforcerKind::Edge, EnforcerKind::Relay]);
    let ttls = [600_000, 600_000, 1_000, 50, 3_600_000, 3_600_001, 0];
    Command::JoinTokenCreate(JoinTokenCreate {
        token: JoinTokenId([number; 16]),
        secret_hash: JoinProof::of_secret(&join_secret(number)).stored(),
        edge: if dice.in_ten(2) {
            some_edge(model, dice)
        } else {
            existing(&free, &EDGES.map(|name| name.parse().unwrap()), dice)
        },
        kind,
        paths: some_paths(model, dice),
        trusted_for_acks: dice.in_ten(if kind == EnforcerKind::Relay { 5 } else { 1 }),
        ttl: Millis(dice.pick(&ttls)),
    })
}

/// Ids from so few that they meet again, and agents from all over.
fn credential_issue(model: &Model, dice: &mut Dice) -> Command {
    let id = |dice: &mut Dice| dice.below(16) as u8;
    let scope = match dice.below(24) {
        0 => vec!["x".parse().unwrap(); 65],
        1..=4 => vec!["pay.*".parse().unwrap()],
        _ => Vec::new(),
    };
    let ttls = [None, None, Some(1_000), Some(50), Some(60_000), Some(90_000_000), Some(0)];
    Command::CredentialIssue(CredentialIssue {
        credential: CredentialId([id(dice); 16]),
        instance: InstanceId([id(dice); 16]),
        grant: GrantId([id(dice); 16]),
        agent: some_agent(model, dice),
        task: "close the month".parse().unwrap(),
        scope,
        audience: dice.in_ten(2).then(|| "ledger".parse().unwrap()),
        ttl: dice.pick(&ttls).map(Millis),
    })
}

fn some_person(model: &Model, dice: &mut Dice) -> PersonId {
    let there: Vec<_> = model.people.keys().cloned().collect();
    existing(&there, &PEOPLE.map(person), dice)
}

fn some_approval(model: &Model, dice: &mut Dice) -> ApprovalId {
    let there: Vec<_> = model.approvals.keys().copied().collect();
    existing(&there, &[ApprovalId(1), ApprovalId(1_000_000)], dice)
}

fn reason(dice: &mut Dice) -> Reason {
    dice.pick(&["runaway", "spends too much", "no longer needed"]).parse().unwrap()
}

/// Labels over two keys with two values each.
pub(crate) fn labels(dice: &mut Dice) -> Labels {
    let values = [None, None, Some("prod"), Some("dev")];
    let pairs = [("env", dice.pick(&values)), ("tier", dice.pick(&values))];
    Labels::from_pairs(pairs.into_iter().filter_map(|(key, value)| value.map(|value| (key, value)))).unwrap()
}

/// Limits around their defaults, rarely out of range.
pub(crate) fn limits(dice: &mut Dice) -> Limits {
    if dice.in_ten(4) {
        return Limits::default();
    }
    let staleness = [None, None, Some(1_000), Some(2_000), Some(5_000), Some(300), Some(9), Some(2_000)];
    let ttl = [None, None, None, Some(60_000), Some(300_000), Some(600_000)];
    let depth = [None, None, None, Some(2), Some(4), Some(6), Some(9)];
    let instances = [None, None, Some(0), Some(1), Some(1), Some(2), Some(100)];
    Limits {
        max_staleness: dice.pick(&staleness).map(Millis),
        credential_ttl: dice.pick(&ttl).map(Millis),
        delegation_depth: dice.pick(&depth),
        instances: dice.pick(&instances),
    }
}

/// Declared intents with a few patterns, rarely too many.
pub(crate) fn intent(dice: &mut Dice) -> Intent {
    let patterns = |list: &[&str]| Some(list.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>());
    let lists = [
        None,
        None,
        None,
        patterns(&[]),
        patterns(&["pay.*"]),
        patterns(&["pay.out", "mail.read"]),
        patterns(&["*"]),
    ];
    let too_many = || Some(vec!["x".parse().unwrap(); 65]);
    let tools = if dice.below(60) == 0 { too_many() } else { dice.pick(&lists) };
    let purpose = if dice.in_ten(5) { "pays invoices" } else { "" }.parse().unwrap();
    Intent { purpose, tools, models: dice.pick(&lists), ..Intent::default() }
}

fn fleet_create(model: &Model, dice: &mut Dice) -> Command {
    let free: Vec<FleetPath> = FLEETS
        .map(fleet)
        .into_iter()
        .filter(|path| !model.fleets.contains_key(path))
        .filter(|path| path.parent().is_none_or(|parent| model.fleets.contains_key(&parent)))
        .collect();
    Command::FleetCreate(FleetCreate {
        path: existing(&free, &FLEETS.map(fleet), dice),
        limits: limits(dice),
        intent: if dice.in_ten(6) { Intent::default() } else { intent(dice) },
        labels: labels(dice),
        owner: "finance".parse().unwrap(),
        contact: "+49 30 1234".parse().unwrap(),
    })
}

fn fleet_update(model: &Model, dice: &mut Dice) -> Command {
    let path = some_fleet(model, dice);
    let current = model.fleets.get(&path).map(|fleet| fleet.version);
    Command::FleetUpdate(FleetUpdate {
        expected_version: expected(current, dice),
        path,
        limits: dice.in_ten(4).then(|| limits(dice)),
        labels: dice.in_ten(5).then(|| labels(dice)),
        intent: dice.in_ten(3).then(|| intent(dice)),
        owner: dice.in_ten(2).then(|| "someone else".parse().unwrap()),
        contact: dice.in_ten(2).then(|| "elsewhere".parse().unwrap()),
    })
}

fn fleet_delete(model: &Model, dice: &mut Dice) -> Command {
    let is_empty = |path: &FleetPath| {
        !model.fleets.keys().any(|other| other != path && path.contains(other))
            && !model.agents.keys().any(|agent| path.contains_agent(agent))
    };
    let empty: Vec<_> = model.fleets.keys().filter(|path| is_empty(path)).cloned().collect();
    let path =
        if dice.in_ten(7) { existing(&empty, &FLEETS.map(fleet), dice) } else { some_fleet(model, dice) };
    let current = model.fleets.get(&path).map(|fleet| fleet.version);
    Command::FleetDelete(FleetDelete { expected_version: expected(current, dice), path })
}

fn agent_register(model: &Model, dice: &mut Dice) -> Command {
    let free: Vec<AgentPath> = AGENTS
        .map(agent)
        .into_iter()
        .filter(|path| !model.agents.contains_key(path) && model.fleets.contains_key(&path.fleet()))
        .collect();
    let path = existing(&free, &AGENTS.map(agent), dice);
    Command::AgentRegister(AgentRegister { path, labels: labels(dice) })
}

fn agent_update(model: &Model, dice: &mut Dice) -> Command {
    let path = some_agent(model, dice);
    let current = model.agents.get(&path).map(|agent| agent.version);
    Command::AgentUpdate(AgentUpdate {
        labels: labels(dice),
        expected_version: expected(current, dice),
        path,
    })
}

fn agent_delete(model: &Model, dice: &mut Dice) -> Command {
    let path = some_agent(model, dice);
    let current = model.agents.get(&path).map(|agent| agent.version);
    Command::AgentDelete(AgentDelete { expected_version: expected(current, dice), path })
}

fn expected(current: Option<Version>, dice: &mut Dice) -> Option<Version> {
    match dice.below(8) {
        0 => Some(Version(77)),
        1 | 2 => current,
        _ => None,
    }
}

fn free_key(model: &Model, dice: &mut Dice) -> u8 {
    let start = dice.below(usize::from(KEYS)) as u8;
    let is_taken = |number: &u8| model.people.values().any(|person| person.signing_key == public(*number));
    (0..KEYS).map(|step| (start + step) % KEYS).find(|number| !is_taken(number)).unwrap_or(start)
}

/// A key that is free, mostly; or somebody's, or no key at all.
fn signing_key(model: &Model, dice: &mut Dice) -> PublicKey {
    match dice.below(16) {
        0 => public(dice.below(usize::from(KEYS)) as u8),
        1 => weak_key(),
        2 if !model.nodes.is_empty() => model.nodes[0].signing_key,
        _ => public(free_key(model, dice)),
    }
}

fn roles(dice: &mut Dice) -> Vec<RoleBinding> {
    let all = [Role::Admin, Role::Approver, Role::Operator, Role::Responder, Role::Viewer, Role::Auditor];
    let paths = ["", "", "a", "a/x", "a/x/p", "a-b", "b"];
    let count = dice.pick(&[1, 1, 1, 2, 2, 3, 0]);
    (0..count).map(|_| role(dice.pick(&all), dice.pick(&paths))).collect()
}

fn person_add(model: &Model, dice: &mut Dice) -> Command {
    let newcomers: Vec<PersonId> =
        PEOPLE[..6].iter().map(|name| person(name)).filter(|id| !model.people.contains_key(id)).collect();
    Command::PersonAdd(PersonAdd {
        person: existing(&newcomers, &PEOPLE[..6].iter().map(|name| person(name)).collect::<Vec<_>>(), dice),
        tls_keys: vec![tls_key(free_key(model, dice))],
        signing_key: signing_key(model, dice),
        roles: if model.is_bootstrap() && dice.in_ten(7) { vec![role(Role::Admin, "")] } else { roles(dice) },
    })
}

fn person_update(model: &Model, dice: &mut Dice) -> Command {
    Command::PersonUpdate(PersonUpdate {
        person: some_person(model, dice),
        tls_keys: dice.in_ten(2).then(|| vec![tls_key(dice.below(usize::from(KEYS)) as u8)]),
        signing_key: dice.in_ten(3).then(|| signing_key(model, dice)),
        roles: dice.in_ten(6).then(|| roles(dice)),
    })
}

/// A selector of any shape, mostly about what exists.
pub(crate) fn selector(model: &Model, dice: &mut Dice) -> Selector {
    let mut selector = Selector::default();
    match dice.below(16) {
        0 => {}
        1..=5 => selector.fleet = Some(some_fleet(model, dice)),
        6 | 7 => selector.agent = Some(some_agent(model, dice)),
        8 => {
            selector.agent = Some(some_agent(model, dice));
            selector.fleet = Some(some_fleet(model, dice));
        }
        9..=11 => selector.labels = labels(dice),
        12 | 13 => {
            selector.fleet = Some(some_fleet(model, dice));
            selector.labels = labels(dice);
        }
        14 => {
            selector.fleet = Some(some_fleet(model, dice));
            selector.tool = Some(dice.pick(&["pay.*", "*", "mail.read"]).parse().unwrap());
        }
        _ => {
            selector.instance = dice.in_ten(5).then_some(InstanceId([1; 16]));
            selector.lineage = Some(GrantId([2; 16]));
        }
    }
    selector
}

pub(crate) fn kill(model: &Model, dice: &mut Dice) -> Command {
    let drains = [10, 1_000, 30_000, 500_000, 0].map(|ms| KillMode::Drain(Millis(ms)));
    let mode = match dice.below(8) {
        0..=3 => KillMode::Freeze,
        4 | 5 => KillMode::Terminate,
        _ => dice.pick(&drains),
    };
    let expires_after = dice.pick(&[None, None, None, Some(20), Some(1_000), Some(200_000), Some(u64::MAX)]);
    Command::Kill(KillCommand {
        selector: selector(model, dice),
        mode,
        reason: reason(dice),
        expires_after: expires_after.map(Millis),
    })
}

fn resume(model: &Model, dice: &mut Dice) -> Command {
    let there: Vec<KillId> = model.kills.keys().copied().collect();
    let kill = existing(&there, &[KillId(1), KillId(1_000_000)], dice);
    let seen = match model.kills.get(&kill) {
        Some(kill) if !dice.in_ten(1) => kill.selector.clone(),
        _ => Selector::fleet(fleet("a")),
    };
    Command::Resume(Resume { kill, selector: seen, reason: reason(dice) })
}

fn revoke(dice: &mut Dice) -> Command {
    let number = dice.below(4) as u8;
    let target = match dice.below(6) {
        0 => RevocationTarget::Credential(CredentialId([number; 16])),
        1 => RevocationTarget::Grant(GrantId([number; 16])),
        2 => RevocationTarget::Instance(InstanceId([number; 16])),
        3 => RevocationTarget::Key(tls_key(number)),
        4 => RevocationTarget::Key(edge_key(number)),
        _ => RevocationTarget::Terminated(KillId(u64::from(number))),
    };
    Command::Revoke(Revoke { target, reason: reason(dice) })
}
