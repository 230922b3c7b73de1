//! Ways out of a kill by label, one by one: every fleet and agent of a small tree is relabelled and deleted in every way,
//! under kills of several shapes, in force or already lifted from what they terminated.

use haltline_core::{
    command::{
        AgentDelete, AgentUpdate, Batch, ClusterPolicy, Command, FleetDelete, FleetUpdate, KillCommand,
        KillMode, PersonUpdate, Request, Role,
    },
    ids::LogIndex,
    rejection::{Outcome, Rejection},
    selector::Selector,
    state::State,
    text::Labels,
    time::Millis,
};

use super::{
    allowed::Allowed,
    furnish::{approval, furnishing, newcomer},
    world::{batch, fleet, founding, index, person, public, role, signed, unsigned},
};

const NOW: u64 = 1_000;
const LABELS: [&[(&str, &str)]; 5] =
    [&[], &[("env", "prod")], &[("env", "dev")], &[("tier", "prod")], &[("env", "prod"), ("tier", "dev")]];

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

fn relabel_fleet(path: &str, pairs: &[(&str, &str)]) -> Command {
    Command::FleetUpdate(FleetUpdate {
        path: fleet(path),
        expected_version: None,
        labels: Some(labels(pairs)),
        owner: None,
        contact: None,
        intent: None,
        limits: None,
    })
}

/// A log that goes on.
struct Log {
    state: State,
    entries: usize,
}

impl Log {
    fn apply(&mut self, batch: &Batch) -> Vec<Result<Outcome, Rejection>> {
        self.entries += 1;
        self.state.apply(index(self.entries), batch).results
    }

    fn ask(&mut self, now: u64, request: Request) -> Result<Outcome, Rejection> {
        self.apply(&batch(now, vec![request])).remove(0)
    }
}

/// The furnished tree with labels on fleets above fleets and agents that carry others.
fn labelled() -> Log {
    let mut log = Log { state: State::new(), entries: 0 };
    log.apply(&founding());
    for request in furnishing() {
        assert!(log.ask(1, request).is_ok());
    }
    for (at, (path, pairs)) in
        [("a", LABELS[3]), ("a/x", LABELS[1]), ("b", LABELS[2])].into_iter().enumerate()
    {
        let request = signed(at as u64, "ada", 0, 90_000, relabel_fleet(path, pairs));
        assert!(log.ask(2, request).is_ok());
    }
    log
}

/// Everything that might lead out of a kill.
fn ways_out(state: &State) -> Vec<Command> {
    let mut ways = Vec::new();
    for path in state.fleets().keys() {
        ways.extend(LABELS.map(|pairs| relabel_fleet(path.as_str(), pairs)));
        ways.push(Command::FleetDelete(FleetDelete { path: path.clone(), expected_version: None }));
    }
    for path in state.agents().keys() {
        ways.extend(LABELS.map(|pairs| {
            Command::AgentUpdate(AgentUpdate {
                path: path.clone(),
                labels: labels(pairs),
                expected_version: None,
            })
        }));
        ways.push(Command::AgentDelete(AgentDelete { path: path.clone(), expected_version: None }));
    }
    ways
}

#[test]
fn no_relabelling_leads_out_of_a_kill() {
    let base = labelled();
    let (mut done, mut stopped) = (0, 0);
    for selector in [
        "label=env=prod",
        "label=tier=prod",
        "fleet=a label=env=prod",
        "fleet=a/x label=tier=prod",
        "fleet=a/x label=env=prod label=tier=prod",
        "fleet=a/x/p",
        "agent=a/x/r",
    ] {
        for is_lifted in [false, true] {
            let mut killed = Log { state: base.state.clone(), entries: base.entries };
            let selector: Selector = selector.parse().unwrap();
            let (mode, expires_after) =
                if is_lifted { (KillMode::Terminate, Some(Millis(10))) } else { (KillMode::Freeze, None) };
            let reason = "runaway".parse().unwrap();
            let kill = Command::Kill(KillCommand { selector, mode, reason, expires_after });
            let placed = killed.ask(NOW, unsigned(90, "ada", 90_000, kill));
            assert!(placed.is_ok(), "{placed:?}");
            let now = NOW + 10;
            killed.apply(&batch(now, Vec::new()));
            let issued = [LogIndex(1), killed.state.last_stamp().index];
            let before = Allowed::in_state(&killed.state, &issued);
            for way in ways_out(&killed.state) {
                let mut trial = Log { state: killed.state.clone(), entries: killed.entries };
                let answer = trial.ask(now, unsigned(91, "ada", 90_000, way.clone()));
                match answer {
                    Err(Rejection::SignatureRequired { .. }) => stopped += 1,
                    Ok(_) => done += 1,
                    Err(_) => {}
                }
                let more = Allowed::in_state(&trial.state, &issued).beyond(&before);
                assert!(more.is_empty(), "{way:#?}: {more:#?}");
            }
        }
    }
    println!("{done} ways led nowhere, {stopped} would have led out");
    assert!(done > 0 && stopped > 0);
}

/// A count that was asked for when a command began to wait is asked for to its end.
#[test]
fn lowering_the_count_does_not_help_what_waits_already() {
    let mut log = labelled();
    let policy = |approvals_to_widen| {
        Command::PolicyUpdate(ClusterPolicy { approvals_to_resume: 2, approvals_to_widen })
    };
    assert!(log.ask(NOW, signed(100, "ada", 0, 90_000, policy(3))).is_ok());
    let fay = signed(101, "ada", 0, 90_000, newcomer("fay", 5, vec![role(Role::Viewer, "")]));
    let lower = signed(102, "ada", 0, 90_000, policy(2));
    let [first, next] = [&fay, &lower].map(|request| match log.ask(NOW, request.clone()) {
        Ok(Outcome::Pending(pending)) => pending.approval.0,
        other => panic!("{other:?}"),
    });
    for (number, caller, key) in [(103, "bob", 1), (104, "cyd", 2)] {
        assert!(log.ask(NOW, approval(number, caller, key, 90_000, next, &lower)).is_ok());
    }
    assert_eq!(log.state.policy().approvals_to_widen, 2);
    let second = log.ask(NOW, approval(105, "bob", 1, 90_000, first, &fay));
    assert!(matches!(&second, Ok(Outcome::Pending(still)) if still.needed == 3), "{second:?}");
    assert!(!log.state.people().contains_key(&person("fay")));
    assert!(log.ask(NOW, approval(106, "cyd", 2, 90_000, first, &fay)).is_ok());
    assert!(log.state.people().contains_key(&person("fay")));
}

/// A signature counts as long as its key is the person's. Afterwards they may sign anew, and count once.
#[test]
fn whose_key_was_replaced_signs_anew() {
    let mut log = labelled();
    let policy = ClusterPolicy { approvals_to_resume: 2, approvals_to_widen: 3 };
    assert!(log.ask(NOW, signed(100, "ada", 0, 90_000, Command::PolicyUpdate(policy))).is_ok());
    let wait = |log: &mut Log, request: &Request| match log.ask(NOW, request.clone()) {
        Ok(Outcome::Pending(pending)) => pending.approval.0,
        other => panic!("{other:?}"),
    };
    let fay = signed(101, "ada", 0, 90_000, newcomer("fay", 5, vec![role(Role::Viewer, "")]));
    let first = wait(&mut log, &fay);
    let approve = |number, key| approval(number, "bob", key, 90_000, first, &fay);
    assert!(matches!(log.ask(NOW, approve(102, 1)), Ok(Outcome::Pending(now)) if now.signed == 2));
    assert!(matches!(log.ask(NOW, approve(103, 1)), Err(Rejection::AlreadySigned { .. })));

    // Bob's key is lost: he gets another one, and what the old one signed counts no more.
    let update =
        PersonUpdate { person: person("bob"), tls_keys: None, signing_key: Some(public(7)), roles: None };
    let rekeyed = signed(104, "ada", 0, 90_000, Command::PersonUpdate(update));
    let next = wait(&mut log, &rekeyed);
    for (number, caller, key) in [(105, "bob", 1), (106, "cyd", 2)] {
        assert!(log.ask(NOW, approval(number, caller, key, 90_000, next, &rekeyed)).is_ok());
    }
    let cyd = log.ask(NOW, approval(107, "cyd", 2, 90_000, first, &fay));
    assert!(matches!(&cyd, Ok(Outcome::Pending(now)) if now.signed == 2), "ada and cyd: {cyd:?}");
    assert!(matches!(log.ask(NOW, approve(108, 1)), Err(Rejection::BadSignature { .. })), "the lost key");
    let done = log.ask(NOW, approve(109, 7));
    assert!(matches!(&done, Ok(Outcome::Executed { outcome, .. }) if outcome.is_ok()), "{done:?}");
    assert!(log.state.people().contains_key(&person("fay")));
}
