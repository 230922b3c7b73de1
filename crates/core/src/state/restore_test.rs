//! A small cluster is backed up, goes on, and is restored: what was lost must not permit anything.
#![allow(clippy::unwrap_used)]

use ed25519_dalek::{Signer as _, SigningKey};

use super::*;
use crate::{
    command::{
        AgentRegister, Approve, Batch, Command, CredentialIssue, EnforcerKind, FleetCreate, Genesis,
        JoinProof, JoinTokenCreate, PersonAdd, Request, Resume, RoleBinding, Statement,
    },
    ids::{CredentialId, GrantId, InstanceId, JoinTokenId, RequestId},
    policy::{Intent, Limits},
    rejection::Rejection,
    selector::Subject,
    snapshot,
    text::{Labels, Text},
    time::{ClusterTime, Millis},
};

const CLUSTER: ClusterId = ClusterId([7; 16]);
const DEADLINE: ClusterTime = ClusterTime(60_000);

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn public(number: u8) -> PublicKey {
    PublicKey(key(number).verifying_key().to_bytes())
}

fn node(id: u8, signing: u8) -> NodeRecord {
    NodeRecord {
        id: NodeId(u64::from(id)),
        name: format!("node-{id}").parse().unwrap(),
        key_hash: KeyHash([signing; 32]),
        signing_key: public(signing),
    }
}

fn person(name: &str, number: u8) -> PersonAdd {
    PersonAdd {
        person: name.parse().unwrap(),
        tls_keys: vec![KeyHash([0x80 + number; 32])],
        signing_key: public(number),
        roles: vec![RoleBinding { role: Role::Admin, path: None }],
    }
}

/// A log with one command an entry.
struct Log {
    state: State,
    requests: u8,
}

impl Log {
    fn begin(state: State) -> Self {
        Self { state, requests: 100 }
    }

    fn apply(&mut self, batch: &Batch) -> Vec<Result<Outcome, Rejection>> {
        let index = self.state.last_stamp().index.next();
        self.state.apply(index, batch).results
    }

    /// A command of somebody with the key of a number, signed for an incarnation.
    fn request(&mut self, name: &str, number: u8, incarnation: u64, command: Command) -> Request {
        self.requests += 1;
        let mut request = Request {
            id: RequestId([self.requests; 16]),
            caller: name.parse::<PersonId>().unwrap().into(),
            deadline: DEADLINE,
            signature: None,
            command,
        };
        request.signature = Some(sign(&key(number), incarnation, &request));
        request
    }

    fn ask(&mut self, request: &Request) -> Result<Outcome, Rejection> {
        let time = self.state.last_stamp().cluster_time.plus(Millis(10));
        let batch = Batch { cluster_time: time, requests: vec![request.clone()], ..Batch::default() };
        self.apply(&batch).remove(0)
    }

    fn person(
        &mut self,
        name: &str,
        number: u8,
        incarnation: u64,
        command: Command,
    ) -> Result<Outcome, Rejection> {
        let request = self.request(name, number, incarnation, command);
        self.ask(&request)
    }
}

fn sign(key: &SigningKey, incarnation: u64, request: &Request) -> Signature {
    let statement = Statement {
        cluster_id: CLUSTER,
        incarnation: Incarnation(incarnation),
        request_id: request.id,
        requester: request.person().unwrap(),
        deadline: request.deadline,
        command: &request.command,
    };
    Signature(key.sign(&statement.to_bytes()).to_bytes())
}

fn fleet(path: &str) -> Command {
    Command::FleetCreate(FleetCreate {
        path: path.parse().unwrap(),
        labels: Labels::none(),
        owner: Text::default(),
        contact: Text::default(),
        intent: Intent::default(),
        limits: Limits::default(),
    })
}

fn credential(number: u8) -> Command {
    Command::CredentialIssue(CredentialIssue {
        credential: CredentialId([number; 16]),
        instance: InstanceId([number; 16]),
        grant: GrantId([number; 16]),
        agent: "acme/pay/clerk".parse().unwrap(),
        task: "close the month".parse().unwrap(),
        scope: Vec::new(),
        audience: None,
        ttl: None,
    })
}

fn join_token(number: u8) -> Command {
    Command::JoinTokenCreate(JoinTokenCreate {
        token: JoinTokenId([number; 16]),
        secret_hash: JoinProof::of_secret(&[number; 32]).stored(),
        edge: "rack-1".parse().unwrap(),
        kind: EnforcerKind::Edge,
        paths: vec![None],
        trusted_for_acks: false,
        ttl: Millis(600_000),
    })
}

fn kill(path: &str) -> Command {
    Command::Kill(KillCommand {
        selector: Selector::fleet(path.parse().unwrap()),
        mode: KillMode::Freeze,
        reason: "runaway".parse().unwrap(),
        expires_after: None,
    })
}

/// Three nodes, ada and bob, one agent with a credential, a join token, and a resume that waits for bob.
fn cluster() -> Log {
    let genesis = Genesis {
        cluster_id: CLUSTER,
        incarnation: Incarnation(0),
        trust_bundle: Digest([1; 32]),
        nodes: vec![node(1, 1), node(2, 2), node(3, 3)],
        first_admin: person("ada", 11),
    };
    let mut log = Log { state: State::new(), requests: 0 };
    log.apply(&Batch { genesis: Some(Box::new(genesis)), ..Batch::default() });
    let agent = AgentRegister { path: "acme/pay/clerk".parse().unwrap(), labels: Labels::none() };
    for command in [
        fleet("acme"),
        fleet("acme/pay"),
        Command::AgentRegister(agent),
        credential(1),
        join_token(1),
        Command::PersonAdd(person("bob", 12)),
        kill("acme"),
    ] {
        log.person("ada", 11, 0, command).unwrap();
    }
    let resume = resume(&log.state, KillId(1));
    assert!(matches!(log.person("ada", 11, 0, resume), Ok(Outcome::Pending(_))));
    log
}

fn resume(state: &State, kill: KillId) -> Command {
    let selector = state.kills().get(&kill).unwrap().selector.clone();
    Command::Resume(Resume { kill, selector, reason: "looked at it".parse().unwrap() })
}

fn asked(backup: &State, nodes: Vec<NodeRecord>) -> Restore {
    Restore {
        index: backup.last_stamp().index.next(),
        wall_time: WallTime(9),
        incarnation: Incarnation(1),
        by: "ada".parse().unwrap(),
        reason: "restored from a backup".parse().unwrap(),
        nodes,
        trust_bundle: Digest([2; 32]),
        endorsements: Vec::new(),
    }
}

fn restored(backup: &State) -> Restored {
    restore(backup.clone(), &asked(backup, vec![node(1, 4), node(2, 5)])).unwrap()
}

fn encoded(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot::encode(state, &mut bytes).unwrap();
    bytes
}

#[test]
fn everything_is_stopped_until_two_people_resume() {
    let backup = cluster().state;
    let Restored { state, kill, .. } = restored(&backup);
    assert_eq!(kill, KillId(NUMBERS_SKIPPED_BY_RESTORE), "no number comes to mean something else");
    let agent = "acme/pay/clerk".parse().unwrap();
    assert_eq!(state.kills_stopping_agent(&agent), [KillId(1), kill]);
    let mut log = Log::begin(state);
    // The kill of the backup goes; the freeze stays.
    for (of, left) in [(KillId(1), Some(kill)), (kill, None)] {
        let command = resume(&log.state, of);
        let asked = log.request("ada", 11, 1, command);
        let Ok(Outcome::Pending(pending)) = log.ask(&asked) else { panic!("one person suffices") };
        assert!(log.state.kills().contains_key(&of));
        let again = log.request("ada", 11, 1, Command::Approve(Approve { approval: pending.approval }));
        let again = Request { signature: Some(sign(&key(11), 1, &asked)), ..again };
        assert!(log.ask(&again).is_err(), "the same person twice");
        assert!(log.state.kills().contains_key(&of));
        let second = log.request("bob", 12, 1, Command::Approve(Approve { approval: pending.approval }));
        let second = Request { signature: Some(sign(&key(12), 1, &asked)), ..second };
        assert!(matches!(log.ask(&second), Ok(Outcome::Executed { .. })));
        assert_eq!(log.state.kills_stopping_agent(&agent).first().copied(), left);
    }
    assert!(log.person("ada", 11, 1, credential(2)).is_ok(), "and then it runs again");
}

#[test]
fn what_permitted_before_permits_no_more() {
    let mut old = cluster();
    let backup = old.state.clone();
    let state = restored(&backup).state;
    assert_eq!((state.approvals().len(), state.join_tokens().len(), state.credentials().len()), (0, 0, 0));
    assert_eq!(state.live_instances(&"acme".parse().unwrap()), 0);
    assert!(state.proposed_bundle().is_none());
    assert_eq!(state.nodes().len(), 2);
    assert!(state.node_by_key(&KeyHash([3; 32])).is_none(), "the old nodes' keys are nobody's");
    let signed_before = old.request("bob", 12, 0, fleet("other"));
    let mut log = Log::begin(state);
    assert!(matches!(log.ask(&signed_before), Err(Rejection::BadSignature { .. })));
    assert!(matches!(log.person("ada", 11, 1, credential(2)), Err(Rejection::Killed { .. })));
}

#[test]
fn a_command_from_before_the_backup_is_never_carried_out_twice() {
    let mut old = Log { requests: 0, ..cluster() };
    // The first request of all created the fleet `acme`, the fourth issued a credential.
    let create = old.request("ada", 11, 0, fleet("acme"));
    let issue = Request { id: RequestId([4; 16]), ..old.request("ada", 11, 0, credential(1)) };
    let mut log = Log::begin(restored(&old.state).state);
    assert!(matches!(log.ask(&create), Ok(Outcome::FleetStored { .. })), "the first answer");
    assert!(matches!(log.ask(&issue), Err(Rejection::BadSignature { .. })), "its answer is void");
}

#[test]
fn the_view_follows_from_the_events_and_the_bytes_are_the_same_everywhere() {
    let backup = cluster().state;
    let one = restored(&backup);
    let decoded = snapshot::decode(&mut encoded(&backup).as_slice()).unwrap();
    assert_eq!(encoded(&one.state), encoded(&restored(&decoded).state), "from a decoded backup too");
    let mut view = backup.view();
    one.events.iter().for_each(|event| view.apply(event));
    assert_eq!(view, one.state.view());
    assert_eq!(view.position, one.state.chain());
    assert_eq!(view.cluster, Some((CLUSTER, Incarnation(1))));
    assert_eq!(snapshot::decode(&mut encoded(&one.state).as_slice()).unwrap(), one.state);
    let agent = "acme/pay/clerk".parse().unwrap();
    let labels = view.effective_labels(&agent);
    let subject = Subject {
        agent: &agent,
        labels: &labels,
        instance: None,
        lineage: &[],
        tool: None,
        model: None,
        resource: None,
    };
    assert!(view.denied_by(&subject).is_some());
}

#[test]
fn leases_of_the_earlier_incarnation_are_waited_out_as_the_longest_there_are() {
    let backup = cluster().state;
    let mut state = restored(&backup).state;
    let everything = Selector::default();
    assert!(backup.staleness_touched(&everything) < MAX_STALENESS_CEILING);
    assert_eq!(state.staleness_touched(&everything), MAX_STALENESS_CEILING);
    assert_eq!(state.staleness_of_paths(&[]), MAX_STALENESS_CEILING);
    let end = state.restored().unwrap().leases_end;
    state.apply(LogIndex(99), &Batch { cluster_time: end, ..Batch::default() });
    assert_eq!(state.staleness_touched(&everything), backup.staleness_touched(&everything));
}

#[test]
fn keys_are_kept_endorsed_or_unproven() {
    let backup = cluster().state;
    let same = asked(&backup, backup.nodes().values().cloned().collect());
    assert_eq!(same.keys_to_endorse(&backup), None);
    let kept = restore(backup.clone(), &same).unwrap();
    assert_eq!((kept.keys, kept.state.bundle_version()), (KeysAfter::Kept, Version(1)));

    let mut moved = asked(&backup, vec![node(1, 1), node(4, 4)]);
    let unproven = restore(backup.clone(), &moved).unwrap();
    assert_eq!(unproven.keys, KeysAfter::Unproven { kept: 1 });
    assert_eq!(unproven.state.bundle_version(), Version(2));
    assert!(unproven.state.trust_history().changes().is_empty(), "nobody could check it");

    let to_endorse = moved.keys_to_endorse(&backup).unwrap();
    assert_eq!(to_endorse.needed, 2);
    let endorse = |id: u8| (NodeId(u64::from(id)), Signature(key(id).sign(&to_endorse.statement).to_bytes()));
    moved.endorsements = vec![endorse(1)];
    assert!(matches!(restore(backup.clone(), &moved), Err(RestoreError::Endorsements(_))));
    moved.endorsements = vec![endorse(1), endorse(3)];
    let endorsed = restore(backup.clone(), &moved).unwrap();
    assert_eq!(endorsed.keys, KeysAfter::Endorsed);
    assert_eq!(endorsed.state.trust_history().changes().len(), 1);
    assert!(endorsed.state.trust_history().retired().is_empty(), "no earlier token counts");
    let mut view = backup.view();
    endorsed.events.iter().for_each(|event| view.apply(event));
    assert_eq!(view, endorsed.state.view());
}

#[test]
fn what_cant_be_restored_says_why() {
    let backup = cluster().state;
    let sound = asked(&backup, vec![node(1, 4)]);
    let error = |change: &dyn Fn(&mut Restore)| {
        let mut asked = sound.clone();
        change(&mut asked);
        restore(backup.clone(), &asked).unwrap_err().to_string()
    };
    assert_eq!(
        error(&|asked| asked.by = "eve".parse().unwrap()),
        "the backup has no person `eve`; its admins at the root are ada, bob"
    );
    assert_eq!(error(&|asked| asked.nodes.clear()), "a cluster has 1 to 32 nodes, got 0");
    assert_eq!(
        error(&|asked| asked.nodes.push(node(1, 5))),
        "node 1 has the number or a key of another one; every node needs its own"
    );
    assert_eq!(
        error(&|asked| asked.nodes.push(node(2, 12))),
        "node 2 has the number or a key of bob; every node needs its own"
    );
    assert_eq!(
        error(&|asked| asked.incarnation = Incarnation(0)),
        "the new incarnation must be beyond the backup's, which is 0; got 0"
    );
    assert_eq!(
        error(&|asked| asked.index = LogIndex(3)),
        "the restore must stand beyond the backup's index, which is 9; got 3"
    );
    assert_eq!(restore(State::new(), &sound).unwrap_err(), RestoreError::NotFounded,);
}

#[test]
fn a_restored_cluster_can_be_restored_again() {
    let first = restored(&cluster().state);
    let mut again = asked(&first.state, vec![node(1, 6)]);
    again.incarnation = Incarnation(2);
    let second = restore(first.state.clone(), &again).unwrap();
    assert_eq!(second.kill, KillId(2 * NUMBERS_SKIPPED_BY_RESTORE));
    assert_eq!(second.state.kills().len(), first.state.kills().len() + 1, "earlier freezes stay");
}
