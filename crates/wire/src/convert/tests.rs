//! Round trips over arbitrary commands, and the errors that a caller sees.
#![allow(clippy::unwrap_used, clippy::panic)]

use haltline_core::{
    command::{
        AgentDelete, AgentRegister, AgentUpdate, Approve, BundleEndorse, BundlePropose, Caller,
        ClusterPolicy, Command, CredentialIssue, EdgeEnrol, EdgeRemove, EdgeUpdate, EnforcerKind,
        FleetCreate, FleetDelete, FleetUpdate, JoinProof, JoinTokenCreate, JoinTokenDelete, KillCommand,
        KillMode, PersonAdd, PersonRemove, PersonUpdate, Request, Resume, RevocationTarget, Revoke, Role,
        RoleBinding, Signature, Withdraw,
    },
    ids::{
        ApprovalId, CredentialId, Digest, EdgeName, GrantId, InstanceId, JoinTokenId, KeyHash, KillId,
        NodeId, PersonId, PublicKey, RequestId, Version,
    },
    path::{AgentPath, FleetPath},
    policy::{Intent, Limits},
    selector::{Pattern, Selector},
    state::Scope,
    text::{Labels, Reason, Text},
    time::{ClusterTime, Millis},
};
use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;

use super::*;
use crate::v1;

fn fleet_path() -> impl Strategy<Value = FleetPath> {
    "[a-z0-9][a-z0-9._-]{0,8}(/[a-z0-9][a-z0-9._-]{0,8}){0,4}".prop_map(|text| text.parse().unwrap())
}

fn agent_path() -> impl Strategy<Value = AgentPath> {
    "[a-z0-9][a-z0-9._-]{0,8}(/[a-z0-9][a-z0-9._-]{0,8}){1,4}".prop_map(|text| text.parse().unwrap())
}

fn person() -> impl Strategy<Value = PersonId> {
    "[a-z0-9][a-z0-9._@-]{0,20}".prop_map(|text| text.parse().unwrap())
}

fn text() -> impl Strategy<Value = Text> {
    "[a-zäß \n\t]{0,40}".prop_map(|text| text.parse().unwrap())
}

fn reason() -> impl Strategy<Value = Reason> {
    "[a-z][a-zäß ]{0,40}".prop_map(|text| text.parse().unwrap())
}

fn label_set() -> impl Strategy<Value = Labels> {
    vec(("[A-Za-z0-9._/-]{1,10}", "[A-Za-z0-9._/-]{1,10}"), 0..4)
        .prop_map(|pairs| Labels::from_pairs(pairs).unwrap())
}

fn glob() -> impl Strategy<Value = Pattern> {
    "[!-~]{1,12}".prop_map(|text| text.parse().unwrap())
}

fn limits() -> impl Strategy<Value = Limits> {
    (option::of(any::<u64>()), option::of(any::<u64>()), any::<Option<u32>>(), any::<Option<u32>>()).prop_map(
        |(staleness, ttl, delegation_depth, instances)| Limits {
            max_staleness: staleness.map(Millis),
            credential_ttl: ttl.map(Millis),
            delegation_depth,
            instances,
        },
    )
}

fn intent() -> impl Strategy<Value = Intent> {
    let list = || option::of(vec(glob(), 0..4));
    (text(), list(), list(), list(), list()).prop_map(|(purpose, tools, resources, models, data_classes)| {
        Intent { purpose, tools, resources, models, data_classes }
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    let ids = (any::<Option<[u8; 16]>>(), any::<Option<[u8; 16]>>());
    let globs = (option::of(glob()), option::of(glob()), option::of(glob()));
    (option::of(fleet_path()), option::of(agent_path()), ids, label_set(), globs).prop_map(
        |(fleet, agent, (instance, lineage), labels, (tool, model, resource))| Selector {
            fleet,
            agent,
            instance: instance.map(InstanceId),
            lineage: lineage.map(GrantId),
            labels,
            tool,
            model,
            resource,
        },
    )
}

fn roles() -> impl Strategy<Value = Vec<RoleBinding>> {
    let role = prop_oneof![
        Just(Role::Viewer),
        Just(Role::Responder),
        Just(Role::Operator),
        Just(Role::Approver),
        Just(Role::Auditor),
        Just(Role::Admin),
    ];
    vec((role, option::of(fleet_path())).prop_map(|(role, path)| RoleBinding { role, path }), 0..4)
}

fn keys() -> impl Strategy<Value = Vec<KeyHash>> {
    vec(any::<[u8; 32]>().prop_map(KeyHash), 0..3)
}

fn version() -> impl Strategy<Value = Option<Version>> {
    option::of(any::<u64>().prop_map(Version))
}

fn fleet_command() -> impl Strategy<Value = Command> {
    let create = (fleet_path(), label_set(), text(), text(), intent(), limits()).prop_map(
        |(path, labels, owner, contact, intent, limits)| {
            Command::FleetCreate(FleetCreate { path, labels, owner, contact, intent, limits })
        },
    );
    let update = (
        (fleet_path(), version()),
        option::of(label_set()),
        (option::of(text()), option::of(text())),
        option::of(intent()),
        option::of(limits()),
    )
        .prop_map(|((path, expected_version), labels, (owner, contact), intent, limits)| {
            Command::FleetUpdate(FleetUpdate {
                path,
                expected_version,
                labels,
                owner,
                contact,
                intent,
                limits,
            })
        });
    let delete = (fleet_path(), version())
        .prop_map(|(path, expected_version)| Command::FleetDelete(FleetDelete { path, expected_version }));
    prop_oneof![create, update, delete]
}

fn agent_command() -> impl Strategy<Value = Command> {
    let register = (agent_path(), label_set())
        .prop_map(|(path, labels)| Command::AgentRegister(AgentRegister { path, labels }));
    let update = (agent_path(), label_set(), version()).prop_map(|(path, labels, expected_version)| {
        Command::AgentUpdate(AgentUpdate { path, labels, expected_version })
    });
    let delete = (agent_path(), version())
        .prop_map(|(path, expected_version)| Command::AgentDelete(AgentDelete { path, expected_version }));
    prop_oneof![register, update, delete]
}

fn person_command() -> impl Strategy<Value = Command> {
    let add = (person(), keys(), any::<[u8; 32]>(), roles()).prop_map(|(person, tls_keys, key, roles)| {
        Command::PersonAdd(PersonAdd { person, tls_keys, signing_key: PublicKey(key), roles })
    });
    let update = (person(), option::of(keys()), any::<Option<[u8; 32]>>(), option::of(roles())).prop_map(
        |(person, tls_keys, key, roles)| {
            let signing_key = key.map(PublicKey);
            Command::PersonUpdate(PersonUpdate { person, tls_keys, signing_key, roles })
        },
    );
    let remove = person().prop_map(|person| Command::PersonRemove(PersonRemove { person }));
    prop_oneof![add, update, remove]
}

fn stop_command() -> impl Strategy<Value = Command> {
    let mode = prop_oneof![
        any::<u64>().prop_map(|drain| KillMode::Drain(Millis(drain))),
        Just(KillMode::Freeze),
        Just(KillMode::Terminate),
    ];
    let kill = (selector(), mode, reason(), option::of(any::<u64>())).prop_map(
        |(selector, mode, reason, expires)| {
            let expires_after = expires.map(Millis);
            Command::Kill(KillCommand { selector, mode, reason, expires_after })
        },
    );
    let resume = (any::<u64>(), selector(), reason()).prop_map(|(kill, selector, reason)| {
        Command::Resume(Resume { kill: KillId(kill), selector, reason })
    });
    let target = prop_oneof![
        any::<[u8; 16]>().prop_map(|id| RevocationTarget::Credential(CredentialId(id))),
        any::<[u8; 16]>().prop_map(|id| RevocationTarget::Grant(GrantId(id))),
        any::<[u8; 16]>().prop_map(|id| RevocationTarget::Instance(InstanceId(id))),
        any::<[u8; 32]>().prop_map(|hash| RevocationTarget::Key(KeyHash(hash))),
        any::<u64>().prop_map(|kill| RevocationTarget::Terminated(KillId(kill))),
    ];
    let revoke = (target, reason()).prop_map(|(target, reason)| Command::Revoke(Revoke { target, reason }));
    prop_oneof![kill, resume, revoke]
}

fn quorum_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        any::<u64>().prop_map(|id| Command::Approve(Approve { approval: ApprovalId(id) })),
        any::<u64>().prop_map(|id| Command::Withdraw(Withdraw { approval: ApprovalId(id) })),
        any::<(u32, u32)>().prop_map(|(resume, widen)| {
            Command::PolicyUpdate(ClusterPolicy { approvals_to_resume: resume, approvals_to_widen: widen })
        }),
    ]
}

fn edge_name() -> impl Strategy<Value = EdgeName> {
    "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?){0,2}"
        .prop_map(|text| text.parse().unwrap())
}

fn scopes() -> impl Strategy<Value = Vec<Scope>> {
    vec(option::of(fleet_path()), 0..4)
}

fn enforcer_command() -> impl Strategy<Value = Command> {
    let kind = prop_oneof![Just(EnforcerKind::Edge), Just(EnforcerKind::Relay)];
    let ids = (any::<[u8; 16]>(), any::<[u8; 32]>());
    let create = (ids, edge_name(), kind, scopes(), any::<bool>(), any::<u64>()).prop_map(
        |((token, hash), edge, kind, paths, trusted_for_acks, ttl)| {
            let (token, secret_hash, ttl) = (JoinTokenId(token), Digest(hash), Millis(ttl));
            let create = JoinTokenCreate { token, secret_hash, edge, kind, paths, trusted_for_acks, ttl };
            Command::JoinTokenCreate(create)
        },
    );
    let delete = any::<[u8; 16]>()
        .prop_map(|token| Command::JoinTokenDelete(JoinTokenDelete { token: JoinTokenId(token) }));
    let update = (edge_name(), option::of(scopes()), any::<Option<bool>>(), any::<Option<bool>>()).prop_map(
        |(edge, paths, trusted_for_acks, fails_open)| {
            Command::EdgeUpdate(EdgeUpdate { edge, paths, trusted_for_acks, fails_open })
        },
    );
    let remove = edge_name().prop_map(|edge| Command::EdgeRemove(EdgeRemove { edge }));
    let keys = vec((any::<u64>(), any::<[u8; 32]>()), 0..4);
    let propose = (any::<u64>(), keys).prop_map(|(version, keys)| {
        let keys = keys.into_iter().map(|(node, key)| (NodeId(node), PublicKey(key))).collect();
        Command::BundlePropose(BundlePropose { version: Version(version), keys })
    });
    prop_oneof![create, delete, update, remove, propose]
}

fn credential_command() -> impl Strategy<Value = Command> {
    let id = || any::<[u8; 16]>();
    let words = (text(), vec(glob(), 0..4), option::of(text()), any::<Option<u64>>());
    ((id(), id(), id()), agent_path(), words).prop_map(
        |((credential, instance, grant), agent, (task, scope, audience, ttl))| {
            Command::CredentialIssue(CredentialIssue {
                credential: CredentialId(credential),
                instance: InstanceId(instance),
                grant: GrantId(grant),
                agent,
                task,
                scope,
                audience,
                ttl: ttl.map(Millis),
            })
        },
    )
}

fn any_request() -> impl Strategy<Value = Request> {
    let command = prop_oneof![
        fleet_command(),
        agent_command(),
        person_command(),
        stop_command(),
        quorum_command(),
        enforcer_command(),
        credential_command(),
    ];
    let signature = option::of(vec(any::<u8>(), 64));
    (any::<[u8; 16]>(), person(), any::<u64>(), signature, command).prop_map(
        |(id, caller, deadline, signature, command)| Request {
            id: RequestId(id),
            caller: Caller::Person(caller),
            deadline: ClusterTime(deadline),
            signature: signature.map(|bytes| Signature(bytes.try_into().unwrap())),
            command,
        },
    )
}

proptest! {
    #[test]
    fn requests_survive_the_wire_exactly(original in any_request()) {
        let bytes = command_request(7, &original).encode_to_vec();
        let message = v1::CommandRequest::decode(&bytes[..]).unwrap();
        prop_assert_eq!(message.sequence, 7);
        let came = request(original.caller.person().unwrap(), message.command.unwrap()).unwrap();
        prop_assert_eq!(came.command.digest(), original.command.digest());
        prop_assert_eq!(came, original);
    }

    #[test]
    fn one_request_has_one_encoding(original in any_request()) {
        let message = command_request(0, &original);
        let bytes = message.encode_to_vec();
        let came = v1::CommandRequest::decode(&bytes[..]).unwrap();
        prop_assert_eq!(came.encode_to_vec(), bytes);
        let converted = request(original.caller.person().unwrap(), came.command.unwrap()).unwrap();
        prop_assert_eq!(command_request(0, &converted), message);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_taken_but_never_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = v1::CommandRequest::decode(&bytes[..])
            && let Some(command) = message.command
        {
            drop(request(&"ada".parse().unwrap(), command));
        }
    }
}

fn meta() -> Option<v1::RequestMeta> {
    Some(v1::RequestMeta { request_id: vec![1; 16], deadline_ms: 1, signature: Vec::new() })
}

fn error_of(message: v1::command_request::Command) -> String {
    request(&"ada".parse().unwrap(), message).unwrap_err().to_string()
}

#[test]
fn errors_name_the_field_what_came_and_what_would_be_right() {
    use v1::command_request::Command as Message;
    let fleet = |fleet: v1::Fleet| {
        error_of(Message::CreateFleet(v1::CreateFleetRequest { meta: meta(), fleet: Some(fleet) }))
    };
    let path = || "acme".to_owned();
    assert_eq!(
        fleet(v1::Fleet { path: "Acme".into(), ..v1::Fleet::default() }),
        "fleet.path: segment 1 of the path is `Acme`; expected 1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit"
    );
    let tools = Some(v1::PatternList { patterns: vec!["ok".into(), "not ok".into()] });
    let intent = Some(v1::Intent { tools, ..v1::Intent::default() });
    assert!(
        fleet(v1::Fleet { path: path(), intent, ..v1::Fleet::default() })
            .starts_with("fleet.intent.tools.patterns[1]: `not ok` is no pattern")
    );
    assert_eq!(
        error_of(Message::CreateFleet(v1::CreateFleetRequest { meta: meta(), fleet: None })),
        "fleet: is missing; expected the fleet to create"
    );
    let person = v1::AddPersonRequest {
        meta: meta(),
        name: "bob".into(),
        tls_keys: vec![vec![0; 31]],
        signing_key: vec![0; 32],
        roles: Vec::new(),
    };
    assert_eq!(
        error_of(Message::AddPerson(person.clone())),
        "tls_keys[0]: is 31 bytes long; expected the 32 bytes of a SHA-256 key hash"
    );
    let roles = vec![v1::RoleBinding { role: 99, path: String::new() }];
    let error = error_of(Message::AddPerson(v1::AddPersonRequest { tls_keys: Vec::new(), roles, ..person }));
    assert!(error.starts_with("roles[0].role: is 99, which stands for nothing here"), "{error}");
}

#[test]
fn what_only_nodes_ask_for_has_no_message() {
    let node = |command| Request {
        id: RequestId([1; 16]),
        caller: Caller::Node(NodeId(1)),
        deadline: ClusterTime(1),
        signature: None,
        command,
    };
    let enrol = EdgeEnrol {
        token: JoinTokenId([1; 16]),
        proof: JoinProof::of_secret(&[2; 32]),
        key: KeyHash([3; 32]),
    };
    let endorse = BundleEndorse { version: Version(2), signature: Signature([0; 64]) };
    for command in [Command::EdgeEnrol(enrol), Command::BundleEndorse(endorse)] {
        assert_eq!(command_request(0, &node(command)).command, None);
    }
}

#[test]
fn errors_about_enforcers_and_credentials_name_the_field() {
    use v1::command_request::Command as Message;
    let token = v1::CreateJoinTokenRequest {
        meta: meta(),
        token: vec![1; 16],
        secret_hash: vec![2; 32],
        edge: "eu-gate".into(),
        kind: v1::EnforcerKind::Edge.into(),
        paths: vec!["acme".into(), "Acme".into()],
        trusted_for_acks: false,
        ttl_ms: 1,
    };
    let create = |token| error_of(Message::CreateJoinToken(token));
    assert!(create(token.clone()).starts_with("paths[1]: "));
    let kindless = v1::CreateJoinTokenRequest { kind: 0, paths: Vec::new(), ..token.clone() };
    assert_eq!(create(kindless), "kind: is missing; expected ENFORCER_KIND_EDGE or ENFORCER_KIND_RELAY");
    let short = v1::CreateJoinTokenRequest { secret_hash: vec![2; 31], ..token.clone() };
    assert!(create(short).starts_with("secret_hash: is 31 bytes long"));
    assert!(create(v1::CreateJoinTokenRequest { edge: "Eu Gate".into(), ..token }).starts_with("edge: "));

    let issue = v1::IssueCredentialRequest {
        meta: meta(),
        credential: vec![1; 16],
        instance: vec![2; 16],
        grant: vec![3; 16],
        agent: "acme/bot".into(),
        scope: vec!["pay.*".into(), String::new()],
        ..v1::IssueCredentialRequest::default()
    };
    let error = |issue| error_of(Message::IssueCredential(issue));
    assert!(error(issue.clone()).starts_with("scope[1]: "));
    let nobody = v1::IssueCredentialRequest { instance: Vec::new(), scope: Vec::new(), ..issue };
    assert_eq!(error(nobody), "instance: is missing; expected an instance id");

    let keys = vec![v1::NodeSigningKey { node: 1, key: vec![1; 32] }, v1::NodeSigningKey::default()];
    let propose = v1::ProposeTrustBundleRequest { meta: meta(), keys, version: 2 };
    assert!(error_of(Message::ProposeTrustBundle(propose)).starts_with("keys[1].key: is missing"));
}

#[test]
fn a_command_needs_its_meta_and_a_kill_its_parts() {
    use v1::command_request::Command as Message;
    let withdraw = |meta| Message::Withdraw(v1::WithdrawRequest { meta, approval: 1 });
    assert_eq!(error_of(withdraw(None)), "meta: is missing; expected request_id and deadline_ms");
    let short = Some(v1::RequestMeta { request_id: vec![1; 15], ..v1::RequestMeta::default() });
    assert_eq!(
        error_of(withdraw(short)),
        "meta.request_id: is 15 bytes long; expected the 16 bytes of a request id"
    );
    let forged = Some(v1::RequestMeta { signature: vec![0; 63], ..meta().unwrap() });
    assert!(error_of(withdraw(forged)).starts_with("meta.signature: is 63 bytes long"));

    let kill = v1::CreateKillRequest {
        meta: meta(),
        selector: Some(v1::Selector::default()),
        mode: v1::KillMode::Freeze.into(),
        reason: "runaway".into(),
        drain_ms: Some(5),
        expires_after_ms: None,
    };
    assert_eq!(
        error_of(Message::CreateKill(kill.clone())),
        "drain_ms: must not be set here: only KILL_MODE_DRAIN has a drain time"
    );
    let silent = v1::CreateKillRequest { drain_ms: None, reason: " ".into(), ..kill.clone() };
    assert_eq!(error_of(Message::CreateKill(silent)), "reason: the text is empty; say at least a few words");
    let aimless = v1::CreateKillRequest { drain_ms: None, selector: None, ..kill };
    assert!(
        error_of(Message::CreateKill(aimless)).starts_with("selector: is missing; expected what to stop")
    );
}
