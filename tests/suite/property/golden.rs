//! The bytes that are frozen: what stands in logs, under signatures, in the chain and in snapshots.
//!
//! **If a test here fails, don't change the fixture.** Old logs, signatures and chains have the old bytes, and a node that
//! reads or hashes them otherwise drifts away from the others. Undo the change of the type and append instead: new
//! variants after the last one, new fields in a new variant; for snapshots, raise `FORMAT_VERSION`, go on reading the
//! format before, and add a new fixture beside the old one. Lines may be added to `canonical-v1.txt`, never changed.

use haltline_core::{
    command::{
        AgentDelete, AgentRegister, AgentUpdate, Approve, Batch, BundleEndorse, BundlePropose, ClusterPolicy,
        Command, CredentialIssue, EdgeEnrol, EdgeRemove, EdgeUpdate, EnforcerKind, FleetCreate, FleetDelete,
        FleetUpdate, JoinProof, JoinTokenCreate, JoinTokenDelete, KillCommand, KillMode, PersonAdd,
        PersonRemove, PersonUpdate, Request, Resume, RevocationTarget, Revoke, Role, Signature, Statement,
        Withdraw,
    },
    event::{ChainPosition, EdgePolicy, EnforcementEvent, FleetPolicy, KillForce, TrustBundleChange},
    ids::{
        ApprovalId, CredentialId, GrantId, Incarnation, InstanceId, JoinTokenId, KillId, LogIndex, NodeId,
        Version,
    },
    lease::{Drift, bound},
    policy::{Intent, Limits},
    receipt::{EnforcedRule, Fenced, FencedWhy, MemberClear, Receipt, SignedReceipt},
    selector::{Pattern, Selector},
    snapshot,
    state::State,
    text::Labels,
    time::{ClusterTime, Millis, Stamp, WallTime},
};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::{
    furnish::{approval, credential, furnishing, join_token, plain_fleet, staleness},
    machine::encoded,
    reports::receipt_of,
    world::{
        CLUSTER, agent, batch, by_node, fleet, founding, index, join_secret, person, public, role, signed,
        tls_key, unsigned,
    },
};

const CANONICAL: &str = include_str!("../../fixtures/canonical-v1.txt");
const SNAPSHOT: &[u8] = include_bytes!("../../fixtures/snapshot-v1.bin");
const SNAPSHOT_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/snapshot-v1.bin");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Encodes, and checks that it is read back.
fn line<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, value: &T) -> String {
    let bytes = postcard::to_stdvec(value).unwrap();
    assert_eq!(&postcard::from_bytes::<T>(&bytes).unwrap(), value, "{name}");
    format!("{name} {}\n", hex(&bytes))
}

fn full_labels() -> Labels {
    Labels::from_pairs([("env", "prod"), ("tier", "1")]).unwrap()
}

fn full_intent() -> Intent {
    let list = |text: &str| Some(vec![text.parse::<Pattern>().unwrap()]);
    Intent {
        purpose: "pays invoices".parse().unwrap(),
        tools: list("pay.*"),
        resources: list("db/*"),
        models: list("large-1"),
        data_classes: Some(Vec::new()),
    }
}

fn full_limits() -> Limits {
    Limits {
        max_staleness: Some(Millis(1_500)),
        credential_ttl: Some(Millis(60_000)),
        delegation_depth: Some(3),
        instances: Some(1_000),
    }
}

fn full_selector() -> Selector {
    Selector {
        fleet: Some(fleet("a/x")),
        agent: Some(agent("a/x/r")),
        instance: Some(InstanceId([7; 16])),
        lineage: Some(GrantId([8; 16])),
        labels: full_labels(),
        tool: Some("pay.*".parse().unwrap()),
        model: Some("large-1".parse().unwrap()),
        resource: Some("db/*".parse().unwrap()),
    }
}

fn full_receipt() -> SignedReceipt {
    let receipt = Receipt {
        cluster_id: CLUSTER,
        incarnation: Incarnation(0),
        kill: KillId(17),
        selector: full_selector(),
        mode: KillMode::Freeze,
        reason: "runaway".parse().unwrap(),
        by: person("ada"),
        index: LogIndex(401),
        placed: Stamp { index: LogIndex(400), cluster_time: ClusterTime(70_000), wall_time: WallTime(7) },
        committed_wall: WallTime(8),
        enforced_wall: WallTime(9),
        took: Millis(1),
        rule: EnforcedRule::Fenced,
        bound: bound(Millis(2_000), Drift::default()),
        max_staleness: Millis(2_000),
        drift_ppm: Drift::default().ppm(),
        enforcers_acked: 10_000,
        fenced: vec![Fenced { name: "rack-7".parse().unwrap(), why: FencedWhy::Silent }],
        fenced_more: 3,
        unbounded: vec!["rack-8".parse().unwrap()],
        unbounded_more: 0,
        members: vec![(NodeId(1), MemberClear::Clear), (NodeId(2), MemberClear::WaitedOut)],
        signer: NodeId(1),
    };
    SignedReceipt { receipt, signature: Signature([6; 64]) }
}

/// One of each variant, in the order of their declaration.
fn commands() -> Vec<Command> {
    let reason = || "runaway".parse().unwrap();
    let create = FleetCreate {
        path: fleet("a/x"),
        labels: full_labels(),
        owner: "finance".parse().unwrap(),
        contact: "ops@example.com".parse().unwrap(),
        intent: full_intent(),
        limits: full_limits(),
    };
    let add = PersonAdd {
        person: person("bob"),
        tls_keys: vec![tls_key(1), tls_key(2)],
        signing_key: public(1),
        roles: vec![role(Role::Admin, ""), role(Role::Responder, "a/x")],
    };
    vec![
        Command::FleetCreate(create),
        Command::FleetUpdate(FleetUpdate {
            path: fleet("a/x"),
            expected_version: Some(Version(300)),
            labels: Some(full_labels()),
            owner: Some("finance".parse().unwrap()),
            contact: None,
            intent: Some(full_intent()),
            limits: Some(full_limits()),
        }),
        Command::FleetDelete(FleetDelete { path: fleet("a/x"), expected_version: None }),
        Command::AgentRegister(AgentRegister { path: agent("a/x/r"), labels: full_labels() }),
        Command::AgentUpdate(AgentUpdate {
            path: agent("a/x/r"),
            labels: full_labels(),
            expected_version: Some(Version(2)),
        }),
        Command::AgentDelete(AgentDelete { path: agent("a/x/r"), expected_version: Some(Version(2)) }),
        Command::PersonAdd(add),
        Command::PersonUpdate(PersonUpdate {
            person: person("bob"),
            tls_keys: Some(vec![tls_key(3)]),
            signing_key: Some(public(3)),
            roles: Some(vec![role(Role::Viewer, ""), role(Role::Operator, "a"), role(Role::Approver, "b")]),
        }),
        Command::PersonRemove(PersonRemove { person: person("bob") }),
        Command::Kill(KillCommand {
            selector: full_selector(),
            mode: KillMode::Drain(Millis(30_000)),
            reason: reason(),
            expires_after: Some(Millis(3_600_000)),
        }),
        Command::Resume(Resume { kill: KillId(17), selector: full_selector(), reason: reason() }),
        Command::Approve(Approve { approval: ApprovalId(3) }),
        Command::Withdraw(Withdraw { approval: ApprovalId(3) }),
        Command::Revoke(Revoke { target: RevocationTarget::Key(tls_key(9)), reason: reason() }),
        Command::PolicyUpdate(ClusterPolicy { approvals_to_resume: 2, approvals_to_widen: 3 }),
    ]
    .into_iter()
    .chain(commands_about_enforcers())
    .collect()
}

fn commands_about_enforcers() -> Vec<Command> {
    vec![
        Command::JoinTokenCreate(JoinTokenCreate {
            token: JoinTokenId([11; 16]),
            secret_hash: JoinProof::of_secret(&join_secret(1)).stored(),
            edge: "rack-7".parse().unwrap(),
            kind: EnforcerKind::Relay,
            paths: vec![None, Some(fleet("a/x"))],
            trusted_for_acks: true,
            ttl: Millis(600_000),
        }),
        Command::JoinTokenDelete(JoinTokenDelete { token: JoinTokenId([11; 16]) }),
        Command::EdgeEnrol(EdgeEnrol {
            token: JoinTokenId([11; 16]),
            proof: JoinProof::of_secret(&join_secret(1)),
            key: tls_key(7),
        }),
        Command::EdgeUpdate(EdgeUpdate {
            edge: "rack-7".parse().unwrap(),
            paths: Some(vec![Some(fleet("a/x"))]),
            trusted_for_acks: Some(false),
            fails_open: None,
        }),
        Command::EdgeRemove(EdgeRemove { edge: "rack-7".parse().unwrap() }),
        Command::CredentialIssue(CredentialIssue {
            credential: CredentialId([1; 16]),
            instance: InstanceId([2; 16]),
            grant: GrantId([3; 16]),
            agent: agent("a/x/r"),
            task: "close the month".parse().unwrap(),
            scope: vec!["pay.*".parse().unwrap()],
            audience: Some("ledger".parse().unwrap()),
            ttl: Some(Millis(60_000)),
        }),
        Command::ReceiptRecord(Box::new(full_receipt())),
        Command::BundlePropose(BundlePropose {
            version: Version(2),
            keys: vec![(NodeId(1), public(5)), (NodeId(2), public(6))],
        }),
        Command::BundleEndorse(BundleEndorse { version: Version(2), signature: Signature([9; 64]) }),
    ]
}

/// The place of a command in its enum. Whoever adds a variant adds an example above, and a line to the fixture.
fn place(command: &Command) -> usize {
    match command {
        Command::FleetCreate(_) => 0,
        Command::FleetUpdate(_) => 1,
        Command::FleetDelete(_) => 2,
        Command::AgentRegister(_) => 3,
        Command::AgentUpdate(_) => 4,
        Command::AgentDelete(_) => 5,
        Command::PersonAdd(_) => 6,
        Command::PersonUpdate(_) => 7,
        Command::PersonRemove(_) => 8,
        Command::Kill(_) => 9,
        Command::Resume(_) => 10,
        Command::Approve(_) => 11,
        Command::Withdraw(_) => 12,
        Command::Revoke(_) => 13,
        Command::PolicyUpdate(_) => 14,
        Command::JoinTokenCreate(_) => 15,
        Command::JoinTokenDelete(_) => 16,
        Command::EdgeEnrol(_) => 17,
        Command::EdgeUpdate(_) => 18,
        Command::EdgeRemove(_) => 19,
        Command::CredentialIssue(_) => 20,
        Command::ReceiptRecord(_) => 21,
        Command::BundlePropose(_) => 22,
        Command::BundleEndorse(_) => 23,
    }
}

fn full_edge() -> EdgePolicy {
    EdgePolicy {
        kind: EnforcerKind::Relay,
        key: tls_key(7),
        paths: vec![None, Some(fleet("a/x"))],
        trusted_for_acks: true,
        fails_open: false,
    }
}

/// One of each variant, in the order of their declaration, with a name for the fixture.
fn events() -> Vec<EnforcementEvent> {
    let policy = FleetPolicy { labels: full_labels(), limits: full_limits(), intent: full_intent() };
    let target = RevocationTarget::Terminated(KillId(17));
    vec![
        EnforcementEvent::Founded { cluster_id: CLUSTER, incarnation: Incarnation(1) },
        EnforcementEvent::NodeKeySet { node: NodeId(1), key: public(4) },
        EnforcementEvent::KillSet { kill: KillId(17), selector: full_selector(), force: KillForce::Denying },
        EnforcementEvent::KillLifted { kill: KillId(17) },
        EnforcementEvent::Revoked {
            target: target.clone(),
            issued_before: Some((full_selector(), LogIndex(400))),
            ends: ClusterTime(86_400_000),
        },
        EnforcementEvent::RevocationEnded { target },
        EnforcementEvent::FleetSet { path: fleet("a/x"), policy },
        EnforcementEvent::FleetRemoved { path: fleet("a/x") },
        EnforcementEvent::AgentSet { path: agent("a/x/r"), labels: full_labels() },
        EnforcementEvent::AgentRemoved { path: agent("a/x/r") },
        EnforcementEvent::EdgeSet { edge: "rack-7".parse().unwrap(), record: full_edge() },
        EnforcementEvent::EdgeRemoved { edge: "rack-7".parse().unwrap() },
        EnforcementEvent::TrustBundleSet(Box::new(TrustBundleChange {
            version: Version(2),
            keys: vec![(NodeId(1), public(5)), (NodeId(2), public(6))],
            endorsements: vec![(NodeId(1), Signature([7; 64])), (NodeId(2), Signature([8; 64]))],
            incarnation: Incarnation(2),
            old_keys_until: ClusterTime(172_800_000),
        })),
        EnforcementEvent::Restored {
            incarnation: Incarnation(3),
            bundle_version: Version(2),
            keys: vec![(NodeId(1), public(5)), (NodeId(2), public(6))],
        },
    ]
}

fn event_name(event: &EnforcementEvent) -> (usize, &'static str) {
    match event {
        EnforcementEvent::Founded { .. } => (0, "founded"),
        EnforcementEvent::NodeKeySet { .. } => (1, "node_key_set"),
        EnforcementEvent::KillSet { .. } => (2, "kill_set"),
        EnforcementEvent::KillLifted { .. } => (3, "kill_lifted"),
        EnforcementEvent::Revoked { .. } => (4, "revoked"),
        EnforcementEvent::RevocationEnded { .. } => (5, "revocation_ended"),
        EnforcementEvent::FleetSet { .. } => (6, "fleet_set"),
        EnforcementEvent::FleetRemoved { .. } => (7, "fleet_removed"),
        EnforcementEvent::AgentSet { .. } => (8, "agent_set"),
        EnforcementEvent::AgentRemoved { .. } => (9, "agent_removed"),
        EnforcementEvent::EdgeSet { .. } => (10, "edge_set"),
        EnforcementEvent::EdgeRemoved { .. } => (11, "edge_removed"),
        EnforcementEvent::TrustBundleSet(_) => (12, "trust_bundle_set"),
        EnforcementEvent::Restored { .. } => (13, "restored"),
    }
}

fn targets() -> Vec<(&'static str, RevocationTarget)> {
    vec![
        ("credential", RevocationTarget::Credential(CredentialId([1; 16]))),
        ("grant", RevocationTarget::Grant(GrantId([2; 16]))),
        ("instance", RevocationTarget::Instance(InstanceId([3; 16]))),
        ("key", RevocationTarget::Key(tls_key(4))),
        ("terminated", RevocationTarget::Terminated(KillId(5))),
    ]
}

/// A batch with a genesis and a signed and an unsigned request, as it stands in the log.
fn full_batch() -> Batch {
    let mut founding = founding();
    founding.cluster_time = ClusterTime(1_234);
    founding.requests = vec![
        signed(1, "ada", 0, 90_000, plain_fleet("a")),
        unsigned(2, "ada", 90_000, commands().swap_remove(9)),
        by_node(3, 2, 90_000, commands().swap_remove(17)),
    ];
    founding.applied = LogIndex(300);
    founding
}

/// All frozen encodings, a line each.
fn canonical() -> String {
    let mut lines = String::new();
    for (at, command) in commands().iter().enumerate() {
        assert_eq!(place(command), at, "examples stand in the order of the variants");
        let bytes = postcard::to_stdvec(command).unwrap();
        assert_eq!(usize::from(bytes[0]), at, "the tag is the place");
        lines += &line(&format!("command/{}", command.name()), command);
    }
    let mut chain = ChainPosition::default();
    for (at, event) in events().iter().enumerate() {
        let (place, name) = event_name(event);
        assert_eq!(place, at, "examples stand in the order of the variants");
        lines += &line(&format!("event/{name}"), event);
        let link =
            [&chain.head.0, b"haltline/v1/event\0".as_slice(), &postcard::to_stdvec(event).unwrap()].concat();
        chain = chain.after(event);
        let by_hand: [u8; 32] = Sha256::digest(link).into();
        assert_eq!(chain.head.0, by_hand, "a link of the chain is what its comment says");
    }
    lines += &format!("chain/after_all_events {}\n", hex(&chain.head.0));
    for (name, target) in targets() {
        lines += &line(&format!("revocation_target/{name}"), &target);
    }
    for (name, mode) in [
        ("drain", KillMode::Drain(Millis(1))),
        ("freeze", KillMode::Freeze),
        ("terminate", KillMode::Terminate),
    ] {
        lines += &line(&format!("kill_mode/{name}"), &mode);
    }
    for role in [Role::Viewer, Role::Responder, Role::Operator, Role::Approver, Role::Auditor, Role::Admin] {
        lines += &line(&format!("role/{role}"), &role);
    }
    lines += &line("batch", &full_batch());
    let request = &full_batch().requests[0];
    let statement = Statement {
        cluster_id: CLUSTER,
        incarnation: Incarnation(0),
        request_id: request.id,
        requester: request.caller.person().unwrap(),
        deadline: request.deadline,
        command: &request.command,
    };
    lines += &format!("statement {}\n", hex(&statement.to_bytes()));
    let by_hand = super::world::statement_bytes(CLUSTER, Incarnation(0), request);
    assert_eq!(statement.to_bytes(), by_hand, "the statement is laid out as its comment says");
    lines
}

#[test]
fn canonical_encodings_never_change() {
    let now = canonical();
    for (now, frozen) in now.lines().zip(CANONICAL.lines()) {
        assert_eq!(now, frozen, "see the comment at the top of this file before you do anything about it");
    }
    let (lines, frozen) = (now.lines().count(), CANONICAL.lines().count());
    let rest: Vec<_> = now.lines().skip(frozen).collect();
    assert_eq!(lines, frozen, "new encodings: append these lines to the fixture\n{}", rest.join("\n"));
}

/// A small state with something in every table.
fn small_state() -> State {
    let mut state = State::new();
    let mut next = 0;
    let mut apply = |state: &mut State, batch: &Batch| {
        next += 1;
        state.apply(index(next), batch)
    };
    apply(&mut state, &founding());
    for request in furnishing() {
        apply(&mut state, &batch(1, vec![request]));
    }
    let kill = |selector: &str, mode, expires_after| {
        let selector = selector.parse().unwrap();
        Command::Kill(KillCommand { selector, mode, reason: "runaway".parse().unwrap(), expires_after })
    };
    let kills = [
        kill("fleet=a/x label=env=prod", KillMode::Freeze, None),
        kill("fleet=b", KillMode::Drain(Millis(60_000)), Some(Millis(600_000))),
        kill("agent=a/r", KillMode::Terminate, Some(Millis(5))),
    ];
    for (at, command) in kills.into_iter().enumerate() {
        apply(&mut state, &batch(10, vec![unsigned(at as u64, "ada", 90_000, command)]));
    }
    let selector = "fleet=a/x label=env=prod".parse().unwrap();
    let resume = Command::Resume(Resume { kill: KillId(1), selector, reason: "fixed".parse().unwrap() });
    let revoke = Command::Revoke(Revoke {
        target: RevocationTarget::Instance(InstanceId([3; 16])),
        reason: "stolen".parse().unwrap(),
    });
    let last = last_requests(&state, resume, revoke);
    let applied = apply(&mut state, &batch(100, last));
    let answers: Vec<_> =
        applied.results.iter().map(|result| result.as_ref().err().map(|no| no.code())).collect();
    let denied = answers.iter().position(|answer| answer.is_some());
    assert_eq!((denied, answers[2]), (Some(2), Some("PERMISSION_DENIED")), "{answers:?}");
    assert_eq!(answers.iter().flatten().count(), 1, "{applied:#?}");
    let tables = [
        state.kills().len(),
        state.lifted_kills().len(),
        state.revocations().len(),
        state.approvals().len(),
        state.requests_len(),
        state.edges().len(),
        state.join_tokens().len(),
        state.credentials().len(),
        state.receipts().len(),
        usize::from(state.proposed_bundle().is_some()),
        usize::from(state.remembers_staleness()),
    ];
    assert!(tables.iter().all(|rows| *rows > 0), "something in every table: {tables:?}");
    state
}

/// Requests that put something into every other table; the third is refused.
fn last_requests(state: &State, resume: Command, revoke: Command) -> Vec<Request> {
    let waiting = signed(23, "ada", 0, 95_000, join_token(4, "rack-4", None));
    let proposal = Command::BundlePropose(BundlePropose {
        version: Version(2),
        keys: (1..=3).map(|node| (NodeId(u64::from(node)), super::world::node_public(node + 3))).collect(),
    });
    let proposal = signed(25, "ada", 0, 95_000, proposal);
    let placed = &state.kills()[&KillId(1)];
    let receipt = receipt_of(KillId(1), placed, NodeId(2), placed.placed.index, Millis(2_000));
    vec![
        signed(20, "ada", 0, 95_000, resume),
        unsigned(21, "bob", 95_000, revoke),
        unsigned(22, "eve", 95_000, plain_fleet("c")),
        waiting.clone(),
        approval(24, "bob", 1, 95_000, 6, &waiting),
        proposal.clone(),
        approval(26, "bob", 1, 95_000, 7, &proposal),
        signed(27, "dan", 3, 95_000, credential(2, 2, 2, "a/r", None)),
        signed(
            28,
            "dan",
            3,
            95_000,
            Command::FleetDelete(FleetDelete { path: fleet("a/y"), expected_version: None }),
        ),
        signed(29, "bob", 1, 95_000, staleness("b", 500)),
        by_node(30, 2, 95_000, Command::ReceiptRecord(Box::new(receipt))),
    ]
}

#[test]
fn a_snapshot_of_format_1_is_read_and_written_as_ever() {
    let mut bytes = SNAPSHOT;
    let state = snapshot::decode(&mut bytes).unwrap();
    assert_eq!(
        hex(&encoded(&state)),
        hex(SNAPSHOT),
        "format 1 is written otherwise now; see the top of this file"
    );
    assert_eq!(state, small_state(), "the same log gives another state now");
}

/// Writes the fixture of a new format, under a new name: an existing file is never replaced.
#[test]
#[ignore = "writes a fixture"]
fn write_a_new_snapshot_fixture() {
    use std::io::Write;
    let mut file = std::fs::File::create_new(SNAPSHOT_PATH).unwrap();
    file.write_all(&encoded(&small_state())).unwrap();
}
