//! Every table of the machine at its bound at once: each says so by name, and kills get through all the same.

use haltline_core::{
    command::{Command, KillMode, Resume, RevocationTarget, Revoke, Role},
    ids::{InstanceId, KillId, NodeId},
    rejection::{Adjusted, Outcome, Rejection, Table},
    selector::Selector,
    state::Bounds,
    time::Millis,
};

use super::{
    bounds::{Answer, Machine, code, kill, kill_of, killed},
    furnish::{
        credential, edge_key, enrolment, join_token, labelled_agent, newcomer, plain_fleet, staleness,
    },
    reports::receipt_of,
    world::role,
};

const BOUNDS: Bounds = Bounds {
    fleets: 6,
    agents: 5,
    people: 5,
    kills: 3,
    lifted_kills: 1,
    revocations: 2,
    approvals: 4,
    approvals_per_person: 3,
    requests: 80,
    requests_per_person: 80,
    kill_requests_reserve: 2,
    join_tokens: 2,
    edges: 1,
    credentials: 1,
    receipts: 1,
    old_staleness: 1,
};

fn is_full(answer: &Answer, table: Table, bound: usize) {
    let full = matches!(answer, Err(Rejection::TableFull { table: named, max, .. })
        if *named == table && *max as usize == bound);
    assert!(full, "expected {table:?} to be full at {bound}, got {answer:?}");
}

fn revoke(number: u8) -> Command {
    let target = RevocationTarget::Instance(InstanceId([number; 16]));
    Command::Revoke(Revoke { target, reason: "stolen".parse().unwrap() })
}

fn resume(kill: KillId, selector: &str) -> Command {
    Command::Resume(Resume { kill, selector: selector.parse().unwrap(), reason: "fixed".parse().unwrap() })
}

/// Lets kills expire, so that more are lifted than are remembered.
fn lift_kills(machine: &mut Machine) {
    for _ in 0..=BOUNDS.lifted_kills {
        machine.ask("ada", kill_of("fleet=b".parse().unwrap(), KillMode::Freeze, Some(10))).unwrap();
        machine.now += 10;
        machine.tick();
    }
    assert_eq!(machine.state.lifted_kills().len(), BOUNDS.lifted_kills);
}

fn fill_registry(machine: &mut Machine) {
    machine.sign("ada", 0, plain_fleet("c")).unwrap();
    is_full(&machine.sign("ada", 0, plain_fleet("d")), Table::Fleets, BOUNDS.fleets);
    machine.sign("ada", 0, labelled_agent("c/r", &[])).unwrap();
    is_full(&machine.sign("ada", 0, labelled_agent("c/s", &[])), Table::Agents, BOUNDS.agents);
    let fay = newcomer("fay", 5, vec![role(Role::Viewer, "")]);
    is_full(&machine.sign("ada", 0, fay), Table::People, BOUNDS.people);
    machine.sign("ada", 0, staleness("a", 500)).unwrap();
    is_full(&machine.sign("ada", 0, staleness("b", 500)), Table::OldStaleness, BOUNDS.old_staleness);
}

fn fill_enforcers(machine: &mut Machine) {
    for number in [2, 3] {
        machine.together(join_token(number, &format!("rack-{number}"), None)).unwrap();
    }
    is_full(&machine.sign("ada", 0, join_token(4, "rack-4", None)), Table::JoinTokens, BOUNDS.join_tokens);
    is_full(&machine.report(1, enrolment(2, edge_key(2))), Table::Edges, BOUNDS.edges);
    machine.sign("dan", 3, credential(2, 2, 2, "a/r", None)).unwrap();
    let another = credential(3, 3, 3, "a/r", None);
    is_full(&machine.sign("dan", 3, another), Table::Credentials, BOUNDS.credentials);
    machine.ask("ada", revoke(1)).unwrap();
    machine.ask("ada", revoke(2)).unwrap();
    is_full(&machine.ask("ada", revoke(3)), Table::Revocations, BOUNDS.revocations);
}

fn fill_kills(machine: &mut Machine) -> KillId {
    let kills =
        ["fleet=a/x", "fleet=a/y", "fleet=b"].map(|selector| killed(machine.ask("ada", kill(selector))));
    // Receipts refuse nothing: those of lifted kills make room for others, and those in force are no more than kills.
    for placed in &kills[..BOUNDS.receipts] {
        let kill = &machine.state.kills()[&placed.kill];
        let receipt = receipt_of(placed.kill, kill, NodeId(3), kill.placed.index, Millis(2_000));
        machine.report(3, Command::ReceiptRecord(Box::new(receipt))).unwrap();
    }
    kills[2].kill
}

fn fill_approvals(machine: &mut Machine, kill: KillId) {
    for _ in 0..BOUNDS.approvals_per_person {
        assert!(matches!(machine.sign("ada", 0, resume(kill, "fleet=b")), Ok(Outcome::Pending(_))));
    }
    let full = machine.sign("ada", 0, resume(kill, "fleet=b"));
    is_full(&full, Table::Approvals, BOUNDS.approvals_per_person);
    assert!(matches!(machine.sign("bob", 1, resume(kill, "fleet=b")), Ok(Outcome::Pending(_))));
    is_full(&machine.sign("bob", 1, resume(kill, "fleet=b")), Table::Approvals, BOUNDS.approvals);
}

fn fill_ids(machine: &mut Machine) {
    let refused = (0..=BOUNDS.requests).map(|_| machine.sign("ada", 0, plain_fleet("d")));
    let refused: Vec<_> = refused.map(|answer| code(&answer)).collect();
    assert_eq!(refused.first(), Some(&Some("TABLE_FULL")), "a refusal is remembered like any outcome");
    assert_eq!(refused.last(), Some(&Some("REQUEST_TABLE_FULL")));
}

/// A table that is added must be filled here: this doesn't compile until somebody has thought of it.
fn assert_all_full(machine: &Machine) {
    let Bounds {
        fleets,
        agents,
        people,
        kills,
        lifted_kills,
        revocations,
        approvals,
        approvals_per_person: _,
        requests,
        requests_per_person: _,
        kill_requests_reserve: _,
        join_tokens,
        edges,
        credentials,
        receipts,
        old_staleness: _,
    } = BOUNDS;
    let state = &machine.state;
    assert_eq!(
        [
            state.fleets().len(),
            state.agents().len(),
            state.people().len(),
            state.kills().len(),
            state.lifted_kills().len(),
            state.revocations().len(),
            state.approvals().len(),
            state.requests_len(),
            state.join_tokens().len(),
            state.edges().len(),
            state.credentials().len(),
            state.receipts().len(),
        ],
        [
            fleets,
            agents,
            people,
            kills,
            lifted_kills,
            revocations,
            approvals,
            requests,
            join_tokens,
            edges,
            credentials,
            receipts,
        ]
    );
}

#[test]
fn with_every_table_full_kills_still_get_through() {
    let mut machine = Machine::new(BOUNDS);
    lift_kills(&mut machine);
    fill_registry(&mut machine);
    fill_enforcers(&mut machine);
    let kill_of_b = fill_kills(&mut machine);
    fill_approvals(&mut machine, kill_of_b);
    fill_ids(&mut machine);
    assert_all_full(&machine);

    // The first take the reserve of ids, the others go without; all stop what they were asked to, or more.
    for selector in ["agent=a/x/r", "agent=b/r", "fleet=a", "fleet=c", "tool=pay.*", "everything"] {
        let asked: Selector = selector.parse().unwrap();
        let killed = killed(machine.ask("ada", kill(selector)));
        assert!(killed.selector.covers(&asked), "{} stops less than {selector}", killed.selector);
        let placed = &machine.state.kills()[&killed.kill];
        assert!(placed.selector.covers(&asked) && placed.expires.is_none());
    }
    let again = killed(machine.ask("eve", kill("fleet=a/x")));
    assert_eq!(again.adjusted, Some(Adjusted::AlreadyInForce));
    assert_eq!(machine.state.requests_len(), BOUNDS.requests + BOUNDS.kill_requests_reserve);
    assert_eq!(code(&machine.sign("ada", 0, plain_fleet("d"))), Some("REQUEST_TABLE_FULL"));
}
