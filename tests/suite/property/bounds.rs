//! What happens at the bounds: a named refusal, or for kills, which are never refused, a wider kill that is in force once.
//!
//! Where the real bound is cheap to reach it is reached; else the tables are made smaller.

use haltline_core::{
    command::{
        Command, EdgeRemove, KillCommand, KillMode, PersonAdd, PersonUpdate, Request, Resume,
        RevocationTarget, Revoke, Role,
    },
    ids::{InstanceId, KeyHash, KillId, NodeId},
    limits::{
        APPROVAL_LIFETIME_MAX, COMMAND_BYTES_MAX, KILLS_MAX, PENDING_APPROVALS_PER_PERSON_MAX,
        REQUEST_LIFETIME_MAX,
    },
    rejection::{Adjusted, Killed, Outcome, Rejection},
    selector::Selector,
    state::{Bounds, State},
    time::Millis,
};

use super::{
    furnish::{
        approval, credential, edge_key, enrolment, furnishing, join_token, labelled_agent, newcomer,
        plain_fleet, staleness,
    },
    reports::receipt_of,
    world::{
        batch, batch_after, by_node, founding, index, person, public, request_id, role, signed, tls_key,
        unsigned,
    },
};

pub(super) type Answer = Result<Outcome, Rejection>;

/// A furnished machine whose log goes on, one request an entry.
pub(super) struct Machine {
    pub(super) state: State,
    entries: usize,
    ids: u64,
    pub(super) now: u64,
}

impl Machine {
    pub(super) fn new(bounds: Bounds) -> Self {
        let mut machine = Self { state: State::with_bounds(bounds), entries: 1, ids: 0, now: 1 };
        machine.state.apply(index(1), &founding());
        for request in furnishing() {
            let answer = machine.send(request);
            assert!(answer.is_ok(), "{answer:?}");
        }
        // Furnishing's ids are forgotten, so that the table of ids is empty.
        machine.now = 1_000_000;
        machine.tick();
        assert_eq!(machine.state.requests_len(), 0);
        machine
    }

    pub(super) fn send(&mut self, request: Request) -> Answer {
        self.entries += 1;
        let batch = batch_after(self.now, self.entries - 1, vec![request]);
        self.state.apply(index(self.entries), &batch).results.remove(0)
    }

    pub(super) fn tick(&mut self) {
        self.entries += 1;
        self.state.apply(index(self.entries), &batch_after(self.now, self.entries - 1, Vec::new()));
    }

    /// By a node, with a deadline a minute ahead.
    pub(super) fn report(&mut self, node: u64, command: Command) -> Answer {
        let request = by_node(self.next_id(), node, self.now + 60_000, command);
        self.send(request)
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Unsigned, with a deadline a minute ahead.
    pub(super) fn ask(&mut self, caller: &str, command: Command) -> Answer {
        let request = unsigned(self.next_id(), caller, self.now + 60_000, command);
        self.send(request)
    }

    /// Signed by ada or bob, with a deadline a minute ahead.
    pub(super) fn sign(&mut self, caller: &str, key: u8, command: Command) -> Answer {
        let request = signed(self.next_id(), caller, key, self.now + 60_000, command);
        self.send(request)
    }

    /// Asked by ada, approved by bob.
    pub(super) fn together(&mut self, command: Command) -> Answer {
        let asked = signed(self.next_id(), "ada", 0, self.now + 60_000, command);
        let Outcome::Pending(pending) = self.send(asked.clone())? else { panic!("needs two") };
        let number = self.next_id();
        match self.send(approval(number, "bob", 1, self.now + 60_000, pending.approval.0, &asked))? {
            Outcome::Executed { outcome, .. } => *outcome,
            other => panic!("bob was the second: {other:?}"),
        }
    }
}

pub(super) fn kill_of(selector: Selector, mode: KillMode, expires_after: Option<u64>) -> Command {
    let reason = "runaway".parse().unwrap();
    Command::Kill(KillCommand { selector, mode, reason, expires_after: expires_after.map(Millis) })
}

pub(super) fn kill(selector: &str) -> Command {
    kill_of(selector.parse().unwrap(), KillMode::Freeze, None)
}

fn instance_kill(number: usize) -> Command {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    let selector = Selector { instance: Some(InstanceId(bytes)), ..Selector::fleet("a/x".parse().unwrap()) };
    kill_of(selector, KillMode::Freeze, None)
}

pub(super) fn killed(answer: Answer) -> Killed {
    match answer {
        Ok(Outcome::Killed(killed)) => *killed,
        other => panic!("a kill was refused: {other:?}"),
    }
}

pub(super) fn code(answer: &Answer) -> Option<&'static str> {
    answer.as_ref().err().map(Rejection::code)
}

#[test]
fn at_the_real_bound_a_kill_is_widened_and_found_again() {
    let mut machine = Machine::new(Bounds::default());
    for start in (0..KILLS_MAX).step_by(1_000) {
        let kills: Vec<Request> = (start..start + 1_000)
            .map(|number| unsigned(machine.next_id(), "eve", machine.now + 60_000, instance_kill(number)))
            .collect();
        machine.entries += 1;
        let applied = machine.state.apply(index(machine.entries), &batch(machine.now, kills));
        assert!(applied.results.into_iter().all(|answer| killed(answer).adjusted.is_none()));
    }
    assert_eq!(machine.state.kills().len(), KILLS_MAX);

    let twin = killed(machine.ask("eve", instance_kill(17)));
    assert_eq!((twin.kill, twin.adjusted), (KillId(18), Some(Adjusted::AlreadyInForce)));

    let wider = killed(machine.ask("eve", instance_kill(KILLS_MAX)));
    assert_eq!(wider.adjusted, Some(Adjusted::WidenedAtTheBound));
    assert_eq!(wider.selector, "fleet=a/x".parse().unwrap());
    let again = killed(machine.ask("eve", instance_kill(KILLS_MAX + 1)));
    assert_eq!((again.kill, again.adjusted), (wider.kill, Some(Adjusted::AlreadyInForce)));
    assert_eq!(machine.state.kills().len(), KILLS_MAX + 1);
}

#[test]
fn beyond_the_bound_one_person_cannot_grow_the_table_for_ever() {
    let mut machine = Machine::new(Bounds { kills: 4, ..Bounds::default() });
    let fleets = machine.state.fleets().len();
    let selectors =
        ["fleet=a", "fleet=a/x", "agent=a/x/r", "fleet=a label=env=prod", "tool=pay.*", "everything"];
    let modes = [KillMode::Drain(Millis(9_000)), KillMode::Freeze, KillMode::Terminate];
    for round in 0..200_u64 {
        // Time passes, so that every drain and every expiry is another one.
        machine.now += 10;
        let selector: Selector = selectors[round as usize % selectors.len()].parse().unwrap();
        let mode = modes[(round as usize / 2) % modes.len()];
        let expires_after = (round % 3 == 0).then_some(2_000_000 + round);
        let was = machine.state.kills().len();
        let killed = killed(machine.ask("ada", kill_of(selector.clone(), mode, expires_after)));
        assert!(killed.selector.covers(&selector), "{} stops less than {selector}", killed.selector);
        let placed = &machine.state.kills()[&killed.kill];
        if was >= 4 && killed.adjusted != Some(Adjusted::AlreadyInForce) {
            assert!(placed.selector.is_plain() && placed.expires.is_none() && placed.drain_ends.is_none());
        }
    }
    let kills = machine.state.kills().len();
    assert!(kills <= 4 + 2 * (fleets + 1), "{kills} kills");
}

/// The twin of a kill stops as hard, as soon and as long.
#[test]
fn a_lesser_kill_is_no_twin() {
    let drain = |ms| KillMode::Drain(Millis(ms));
    for (there, there_expires, asked, asked_expires, is_twin) in [
        (KillMode::Freeze, None, KillMode::Freeze, None, true),
        (KillMode::Terminate, None, KillMode::Freeze, Some(5_000), true),
        (KillMode::Freeze, None, KillMode::Terminate, None, false),
        (KillMode::Freeze, Some(5_000), KillMode::Freeze, None, false),
        (KillMode::Freeze, Some(5_000), KillMode::Freeze, Some(4_000), true),
        (KillMode::Freeze, Some(5_000), KillMode::Freeze, Some(6_000), false),
        (KillMode::Freeze, None, drain(10), None, true),
        (drain(1_000), None, drain(2_000), None, true),
        (drain(2_000), None, drain(1_000), None, false),
        (drain(2_000), None, KillMode::Freeze, None, false),
    ] {
        let mut machine = Machine::new(Bounds { kills: 1, ..Bounds::default() });
        let selector: Selector = "fleet=a".parse().unwrap();
        let first = killed(machine.ask("ada", kill_of(selector.clone(), there, there_expires)));
        let second = killed(machine.ask("ada", kill_of(selector, asked, asked_expires)));
        assert_eq!(
            second.kill == first.kill,
            is_twin,
            "{there:?} {there_expires:?}, {asked:?} {asked_expires:?}"
        );
    }
}

#[test]
fn a_full_table_of_ids_refuses_all_but_kills() {
    let bounds =
        Bounds { requests: 30, requests_per_person: 20, kill_requests_reserve: 3, ..Bounds::default() };
    let mut machine = Machine::new(bounds);
    for number in 0..20 {
        assert!(machine.sign("ada", 0, labelled_agent(&format!("a/n{number}"), &[])).is_ok());
    }
    // Nobody alone fills the table; others go on.
    let refused = machine.sign("ada", 0, labelled_agent("a/more", &[]));
    assert_eq!(code(&refused), Some("REQUEST_TABLE_FULL"));
    for number in 20..30 {
        assert!(machine.sign("bob", 1, labelled_agent(&format!("a/n{number}"), &[])).is_ok());
    }
    let refused = machine.sign("bob", 1, labelled_agent("a/more", &[]));
    assert_eq!(code(&refused), Some("REQUEST_TABLE_FULL"));

    // Kills take the reserve, and go on when that is used up.
    for path in ["a", "a/x", "a/y"] {
        assert!(killed(machine.ask("ada", kill(&format!("fleet={path}")))).adjusted.is_none());
    }
    assert_eq!(machine.state.requests_len(), 33);
    let unremembered = unsigned(machine.next_id(), "ada", machine.now + 60_000, kill("fleet=b"));
    let first = killed(machine.send(unremembered.clone()));
    assert_eq!((machine.state.requests_len(), first.adjusted), (33, None));
    let again = killed(machine.send(unremembered));
    assert_eq!((again.kill, again.adjusted), (first.kill, Some(Adjusted::AlreadyInForce)));
    assert_eq!(machine.state.kills().len(), 4);

    // Deadlines pass, ids are forgotten, and there is room.
    machine.now += 60_001;
    assert!(machine.sign("ada", 0, labelled_agent("a/more", &[])).is_ok());
    assert_eq!(machine.state.requests_len(), 1);
}

#[test]
fn a_full_table_of_ids_still_gives_first_answers() {
    let mut machine = Machine::new(Bounds { requests: 24, ..Bounds::default() });
    let first = signed(999, "ada", 0, machine.now + 60_000, labelled_agent("a/n", &[]));
    let answer = machine.send(first.clone());
    assert!(answer.is_ok());
    for number in 1..24 {
        assert!(machine.sign("bob", 1, labelled_agent(&format!("a/n{number}"), &[])).is_ok());
    }
    assert_eq!(code(&machine.sign("ada", 0, labelled_agent("a/m", &[]))), Some("REQUEST_TABLE_FULL"));
    assert_eq!(machine.send(first), answer);
}

#[test]
fn waiting_commands_are_bounded_for_each_and_for_all() {
    let mut machine = Machine::new(Bounds { approvals: 105, ..Bounds::default() });
    let grant = |at: usize| newcomer("fay", 5, vec![role(Role::Viewer, ["", "a", "b"][at % 3])]);
    for at in 0..PENDING_APPROVALS_PER_PERSON_MAX {
        assert!(matches!(machine.sign("ada", 0, grant(at)), Ok(Outcome::Pending(_))));
    }
    let full = machine.sign("ada", 0, grant(0));
    assert!(matches!(&full, Err(Rejection::TableFull { max: 100, .. })), "{full:?}");
    for at in 0..5 {
        assert!(matches!(machine.sign("bob", 1, grant(at)), Ok(Outcome::Pending(_))));
    }
    let full = machine.sign("bob", 1, grant(0));
    assert!(matches!(&full, Err(Rejection::TableFull { max: 105, .. })), "{full:?}");
    // They lapse by themselves.
    machine.now += 60_001;
    assert!(matches!(machine.sign("ada", 0, grant(0)), Ok(Outcome::Pending(_))));
    assert_eq!(machine.state.approvals().len(), 1);
}

#[test]
fn full_tables_of_the_registry_are_named() {
    let bounds = Bounds { fleets: 6, agents: 5, people: 5, revocations: 2, ..Bounds::default() };
    let mut machine = Machine::new(bounds);
    assert!(machine.sign("ada", 0, plain_fleet("c")).is_ok());
    assert_eq!(code(&machine.sign("ada", 0, plain_fleet("d"))), Some("TABLE_FULL"));
    assert!(machine.sign("ada", 0, labelled_agent("c/r", &[])).is_ok());
    assert_eq!(code(&machine.sign("ada", 0, labelled_agent("c/s", &[]))), Some("TABLE_FULL"));
    let fay = newcomer("fay", 5, vec![role(Role::Viewer, "")]);
    assert_eq!(code(&machine.sign("ada", 0, fay)), Some("TABLE_FULL"));

    let revoke = |number| {
        let target = RevocationTarget::Instance(InstanceId([number; 16]));
        Command::Revoke(Revoke { target, reason: "stolen".parse().unwrap() })
    };
    assert!(machine.ask("ada", revoke(1)).is_ok());
    assert!(machine.ask("ada", revoke(2)).is_ok());
    assert_eq!(code(&machine.ask("ada", revoke(3))), Some("TABLE_FULL"));
    // One that is there is kept for longer, whatever the table holds.
    assert!(machine.ask("ada", revoke(2)).is_ok());
}

#[test]
fn full_tables_of_enforcers_are_named_and_use_up_no_token() {
    let mut machine = Machine::new(Bounds { join_tokens: 2, edges: 2, ..Bounds::default() });
    assert!(machine.together(join_token(2, "rack-2", None)).is_ok());
    assert!(machine.together(join_token(3, "rack-3", None)).is_ok());
    assert_eq!(code(&machine.sign("ada", 0, join_token(4, "rack-4", None))), Some("TABLE_FULL"));

    assert!(machine.report(1, enrolment(2, edge_key(2))).is_ok());
    assert_eq!(code(&machine.report(1, enrolment(3, edge_key(3)))), Some("TABLE_FULL"));
    assert_eq!(machine.state.join_tokens().len(), 1, "the token can be used when there is room");
    let remove = Command::EdgeRemove(EdgeRemove { edge: "rack-1".parse().unwrap() });
    assert!(machine.sign("ada", 0, remove).is_ok());
    assert!(machine.report(2, enrolment(3, edge_key(3))).is_ok());
    assert_eq!(machine.state.edge_by_key(&edge_key(1)), None);
}

#[test]
fn a_full_table_of_credentials_empties_itself() {
    let mut machine = Machine::new(Bounds { credentials: 2, ..Bounds::default() });
    for number in [1, 2] {
        assert!(machine.sign("dan", 3, credential(number, number, number, "a/r", Some(5_000))).is_ok());
    }
    let third = credential(3, 3, 3, "a/r", None);
    assert_eq!(code(&machine.sign("dan", 3, third.clone())), Some("TABLE_FULL"));
    machine.now += 5_000;
    assert!(machine.sign("dan", 3, third).is_ok());
    assert_eq!(machine.state.credentials().len(), 1);
}

#[test]
fn receipts_of_lifted_kills_make_room_and_those_in_force_stay() {
    let mut machine = Machine::new(Bounds { receipts: 2, ..Bounds::default() });
    let mut enforced = |expires: Option<u64>, fleet: &str| {
        let kill = kill_of(fleet.parse().unwrap(), KillMode::Freeze, expires);
        let id = killed(machine.ask("ada", kill)).kill;
        let placed = &machine.state.kills()[&id];
        let receipt = receipt_of(id, placed, NodeId(3), placed.placed.index, Millis(2_000));
        assert!(machine.report(3, Command::ReceiptRecord(Box::new(receipt))).is_ok());
        if expires.is_some() {
            machine.now += 10;
            machine.tick();
        }
        (id, machine.state.receipts().keys().copied().collect::<Vec<_>>())
    };
    let (lifted, _) = enforced(Some(10), "fleet=a");
    let (first, kept) = enforced(None, "fleet=b");
    assert_eq!(kept, [lifted, first]);
    let (second, kept) = enforced(None, "fleet=a/x");
    assert_eq!(kept, [first, second]);
    let (third, kept) = enforced(None, "fleet=a");
    assert_eq!(kept, [first, second, third], "each of a kill in force");
}

#[test]
fn a_receipt_is_about_the_freeze_that_a_drain_ends_in() {
    let mut machine = Machine::new(Bounds::default());
    let drain = kill_of("fleet=a".parse().unwrap(), KillMode::Drain(Millis(1_000)), None);
    let id = killed(machine.ask("ada", drain)).kill;
    let present = |machine: &mut Machine, index: Option<haltline_core::LogIndex>| {
        let kill = machine.state.kills()[&id].clone();
        let receipt = receipt_of(id, &kill, NodeId(3), index.unwrap_or(kill.placed.index), Millis(2_000));
        code(&machine.report(3, Command::ReceiptRecord(Box::new(receipt))))
    };
    assert_eq!(present(&mut machine, None), Some("BAD_RECEIPT"), "it still drains");
    machine.now += 1_000;
    machine.tick();
    assert_eq!(
        present(&mut machine, None),
        Some("BAD_RECEIPT"),
        "everybody may have known of the drain alone"
    );
    let freezes = machine.state.kills()[&id].denies_from;
    assert_eq!(present(&mut machine, freezes), None);
}

#[test]
fn a_full_table_of_old_staleness_refuses_more_until_leases_have_ended() {
    let mut machine = Machine::new(Bounds { old_staleness: 1, ..Bounds::default() });
    assert!(machine.sign("ada", 0, staleness("a", 500)).is_ok());
    assert_eq!(code(&machine.sign("ada", 0, staleness("b", 500))), Some("TABLE_FULL"));
    assert_eq!(machine.state.fleets()["b"].limits.max_staleness, None, "a refusal changes nothing");
    machine.tick();
    machine.now += 10_000;
    assert!(machine.sign("ada", 0, staleness("b", 500)).is_ok());
}

/// What a terminating kill ended must stay ended: the kill stays until there is room to remember that.
#[test]
fn a_terminating_kill_stays_while_its_revocation_has_no_room() {
    let mut machine = Machine::new(Bounds { revocations: 1, ..Bounds::default() });
    let revoke = Command::Revoke(Revoke {
        target: RevocationTarget::Instance(InstanceId([1; 16])),
        reason: "stolen".parse().unwrap(),
    });
    let Ok(Outcome::Revoked { ends }) = machine.ask("ada", revoke) else { panic!("room for one") };
    let selector: Selector = "fleet=a/x".parse().unwrap();
    let expiring =
        killed(machine.ask("ada", kill_of(selector.clone(), KillMode::Terminate, Some(1_000)))).kill;
    let staying = killed(machine.ask("ada", kill_of(selector.clone(), KillMode::Terminate, None))).kill;
    machine.now += 1_000;
    machine.tick();
    assert!(machine.state.kills().contains_key(&expiring), "no room yet");
    let resume = Command::Resume(Resume { kill: staying, selector, reason: "fixed".parse().unwrap() });
    assert_eq!(code(&machine.together(resume.clone())), Some("TABLE_FULL"));

    machine.now = ends.0;
    machine.tick();
    // It is looked at again every minute.
    machine.now += 60_000;
    machine.tick();
    assert!(!machine.state.kills().contains_key(&expiring), "there is room now");
    assert!(machine.state.revocations().contains_key(&RevocationTarget::Terminated(expiring)));
    assert_eq!(code(&machine.together(resume)), Some("TABLE_FULL"));
}

#[test]
fn the_lift_that_is_longest_ago_is_forgotten_first() {
    let mut machine = Machine::new(Bounds { lifted_kills: 2, ..Bounds::default() });
    let old = killed(machine.ask("ada", kill_of(Selector::default(), KillMode::Freeze, Some(100_000)))).kill;
    for _ in 0..3 {
        machine.ask("ada", kill_of("fleet=b".parse().unwrap(), KillMode::Freeze, Some(10))).unwrap();
        machine.now += 10;
        machine.tick();
    }
    machine.now += 100_000;
    machine.tick();
    let kept: Vec<KillId> = machine.state.lifted_kills().keys().copied().collect();
    assert_eq!(kept, [old, KillId(4)]);
}

#[test]
fn deadlines_are_bounded_to_the_millisecond() {
    let mut machine = Machine::new(Bounds::default());
    let agent = || labelled_agent("a/n", &[]);
    let far = |max: Millis| machine.now + max.0;
    let (unsigned_max, signed_max) = (far(REQUEST_LIFETIME_MAX), far(APPROVAL_LIFETIME_MAX));
    for (request, expected) in [
        (unsigned(1, "ada", machine.now, agent()), Some("DEADLINE_PASSED")),
        (unsigned(2, "ada", unsigned_max + 1, agent()), Some("DEADLINE_TOO_FAR")),
        (signed(3, "ada", 0, signed_max + 1, agent()), Some("DEADLINE_TOO_FAR")),
        (unsigned(4, "ada", machine.now + 1, agent()), None),
        (unsigned(5, "ada", unsigned_max, labelled_agent("a/m", &[])), None),
        (signed(6, "ada", 0, signed_max, labelled_agent("a/l", &[])), None),
    ] {
        assert_eq!(code(&machine.send(request)), expected);
    }
}

/// A command at the bound is judged, one byte beyond it isn't.
#[test]
fn commands_are_bounded_to_the_byte() {
    let mut machine = Machine::new(Bounds::default());
    let of_size = |keys: usize, letters: usize| {
        let roles = vec![role(Role::Viewer, &"a".repeat(letters))];
        let tls_keys = vec![KeyHash([1; 32]); keys];
        Command::PersonAdd(PersonAdd { person: person("fay"), tls_keys, signing_key: public(5), roles })
    };
    let size = |command: &Command| postcard::to_stdvec(command).unwrap().len();
    // As many keys as fit, and then as many letters.
    let keys = (0..).take_while(|keys| size(&of_size(*keys, 1)) <= COMMAND_BYTES_MAX).last().unwrap();
    let letters = COMMAND_BYTES_MAX - size(&of_size(keys, 1)) + 1;
    assert_eq!(size(&of_size(keys, letters)), COMMAND_BYTES_MAX);
    let fits = machine.sign("ada", 0, of_size(keys, letters));
    assert_eq!(code(&fits), Some("BAD_COUNT"), "small enough to be judged");
    let beyond = machine.sign("ada", 0, of_size(keys, letters + 1));
    let expected = Rejection::CommandTooLarge {
        got_bytes: COMMAND_BYTES_MAX as u64 + 1,
        max_bytes: COMMAND_BYTES_MAX as u64,
    };
    assert_eq!(beyond, Err(expected));
    // Refused before it is remembered, so the id is free.
    assert_eq!(machine.state.requests_len(), 1);
}

/// A retry with a later deadline is remembered until then.
#[test]
fn a_retry_with_a_later_deadline_runs_once() {
    let mut machine = Machine::new(Bounds::default());
    let mut request = unsigned(1, "ada", machine.now + 100, kill("fleet=a"));
    let first = killed(machine.send(request.clone()));
    for _ in 0..5 {
        machine.now += 90;
        request.deadline.0 = machine.now + 100;
        assert_eq!(killed(machine.send(request.clone())), first);
    }
    assert_eq!(machine.state.kills().len(), 1);
}

/// Somebody whose role lies below an agent's fleet can't be told that the agent is stopped.
#[test]
fn a_kill_is_not_narrowed_to_nothing() {
    let mut machine = Machine::new(Bounds::default());
    assert_eq!(code(&machine.ask("eve", kill("agent=a/r"))), Some("PERMISSION_DENIED"));
    assert_eq!(code(&machine.ask("eve", kill("fleet=a agent=a/r"))), Some("PERMISSION_DENIED"));
    let narrowed = killed(machine.ask("eve", kill("fleet=a")));
    assert_eq!(narrowed.selector, "fleet=a/x".parse().unwrap());
    assert_eq!(narrowed.adjusted, Some(Adjusted::NarrowedToCallersPath));
}

/// What was agreed to before a kill was placed can't lead out of it.
#[test]
fn a_signature_from_before_a_kill_does_not_lead_out_of_it() {
    let mut machine = Machine::new(Bounds::default());
    let intent = haltline_core::policy::Intent { tools: Some(Vec::new()), ..Default::default() };
    let restrict = |intent, labels: &[(&str, &str)]| {
        Command::FleetUpdate(haltline_core::command::FleetUpdate {
            path: "a/x".parse().unwrap(),
            expected_version: None,
            labels: Some(haltline_core::text::Labels::from_pairs(labels.iter().copied()).unwrap()),
            owner: None,
            contact: None,
            intent: Some(intent),
            limits: None,
        })
    };
    assert!(machine.sign("ada", 0, restrict(intent, &[("env", "prod")])).is_ok());
    // It extends the intent and drops a label that no kill asks for yet.
    let asked = signed(500, "ada", 0, machine.now + 60_000, restrict(Default::default(), &[]));
    let Ok(Outcome::Pending(pending)) = machine.send(asked.clone()) else { panic!("needs two") };
    let placed = killed(machine.ask("eve", kill("fleet=a/x label=env=prod")));
    let deadline = machine.now + 60_000;
    let second = machine.send(approval(501, "bob", 1, deadline, pending.approval.0, &asked));
    let Ok(Outcome::Pending(still)) = second else { panic!("ada signed before the kill: {second:?}") };
    assert_eq!((still.signed, still.needed), (1, 2));
    let third = machine.send(approval(502, "cyd", 2, deadline, pending.approval.0, &asked));
    assert!(matches!(third, Ok(Outcome::Executed { ref outcome, .. }) if outcome.is_ok()), "{third:?}");
    assert!(machine.state.kills().contains_key(&placed.kill));
}

/// Each admin's new key must be their own, and the old one signs nothing any more.
#[test]
fn a_replaced_key_counts_for_nothing() {
    let mut machine = Machine::new(Bounds::default());
    let fay = newcomer("fay", 5, vec![role(Role::Viewer, "")]);
    let asked = signed(600, "ada", 0, machine.now + 60_000, fay);
    let Ok(Outcome::Pending(pending)) = machine.send(asked.clone()) else { panic!("needs two") };
    let rekey = |key: u8| {
        let (tls_keys, signing_key) = (Some(vec![tls_key(key)]), Some(public(key)));
        Command::PersonUpdate(PersonUpdate { person: person("ada"), tls_keys, signing_key, roles: None })
    };
    assert!(machine.together(rekey(9)).is_ok());
    let deadline = machine.now + 60_000;
    let second = machine.send(approval(601, "bob", 1, deadline, pending.approval.0, &asked));
    assert!(matches!(&second, Ok(Outcome::Pending(still)) if still.signed == 1), "{second:?}");
    let old = machine.send(Request { id: request_id(602), ..asked });
    assert_eq!(code(&old), Some("BAD_SIGNATURE"));
}
