//! No widening by one person (design 02 and 04, *Never*): whatever one person asks, signed or not, nothing is allowed
//! afterwards that wasn't before; and whatever does widen is named by `widens`.

use std::collections::BTreeMap;

use haltline_core::{
    command::{Approve, Command, Request, Role},
    ids::{LogIndex, PersonId},
    rejection::Outcome,
    state::{Applied, State},
    widens::widens,
};
use proptest::prelude::*;

use super::{
    allowed::Allowed,
    author::command,
    machine::{Bench, run},
    model::Model,
    schedule::{self, Dice, Schedule, What},
    world::{CLUSTER, INCARNATION, KEYS, batch, by_node, fleet, request_id, secret_of, sign, unsigned},
};

const KINDS: [What; 24] = [
    What::FleetCreate,
    What::FleetUpdate,
    What::FleetDelete,
    What::AgentRegister,
    What::AgentUpdate,
    What::AgentDelete,
    What::PersonAdd,
    What::PersonUpdate,
    What::PersonRemove,
    What::Kill,
    What::Resume,
    What::Approve,
    What::Withdraw,
    What::Revoke,
    What::PolicyUpdate,
    What::JoinTokenCreate,
    What::JoinTokenDelete,
    What::EdgeEnrol,
    What::EdgeUpdate,
    What::EdgeRemove,
    What::CredentialIssue,
    What::ReceiptRecord,
    What::BundlePropose,
    What::BundleEndorse,
];

/// What was tried: how often one person sufficed for a kind of command, and how often a reason to widen really widened.
type Tally = BTreeMap<String, usize>;

fn note(tally: &mut Tally, name: String) {
    *tally.entry(name).or_default() += 1;
}

/// A copy of a bench's machine, on which one thing after another is tried at the same cluster time.
struct Trial<'a> {
    bench: &'a Bench,
    state: State,
    next: u64,
}

impl<'a> Trial<'a> {
    fn of(bench: &'a Bench) -> Self {
        Self { bench, state: bench.state.clone(), next: 1 << 50 }
    }

    /// Entries in which a credential that is still around may have been issued: early, late, and by now.
    fn issued(&self) -> Vec<LogIndex> {
        let last = self.bench.state.last_stamp().index;
        vec![LogIndex(1), LogIndex(last.0 / 2), last]
    }

    fn allowed(&self) -> Allowed {
        Allowed::in_state(&self.state, &self.issued())
    }

    /// Sends one request of a person, signed over the given one if at all, in an entry of its own.
    fn send(
        &mut self,
        caller: &PersonId,
        command: Command,
        signed_over: Option<&Request>,
    ) -> (Request, Applied) {
        let now = self.bench.model.now.cluster_time.0;
        self.next += 1;
        let mut request = unsigned(0, caller.as_str(), now + 60_000, command);
        request.id = request_id(self.next);
        if let Some(key) = self.state.people().get(caller).and_then(|person| secret_of(&person.signing_key)) {
            let statement = signed_over.unwrap_or(&request);
            request.signature = Some(sign(&key, CLUSTER, INCARNATION, statement));
        }
        let applied = self.apply(&request);
        (request, applied)
    }

    fn apply(&mut self, request: &Request) -> Applied {
        let index = self.state.last_stamp().index.next();
        self.state.apply(index, &batch(self.bench.model.now.cluster_time.0, vec![request.clone()]))
    }
}

/// Tries one command of every kind, signed and unsigned, by everybody.
fn nobody_widens_alone(bench: &Bench, dice: &[u8; 10], tally: &mut Tally) {
    let people: Vec<PersonId> = bench.model.people.keys().cloned().collect();
    let before = Trial::of(bench).allowed();
    for (turn, kind) in KINDS.into_iter().enumerate() {
        let mut dice = Dice::new(dice.map(|die| die.wrapping_add(17_u8.wrapping_mul(turn as u8))));
        let asked = command(&bench.model, kind, &mut dice);
        // An approval is the second person's word, and so not one person's doing.
        let is_second = matches!(asked, Command::Approve(_));
        for caller in &people {
            for is_signed in [false, true] {
                if is_signed && (is_second || bench.state.is_bootstrap()) {
                    continue;
                }
                let mut trial = Trial::of(bench);
                let applied = if is_signed {
                    trial.send(caller, asked.clone(), None).1
                } else {
                    let deadline = bench.model.now.cluster_time.0 + 60_000;
                    trial.apply(&unsigned(u64::MAX, caller.as_str(), deadline, asked.clone()))
                };
                let mut more = trial.allowed().beyond(&before);
                // A credential takes one person, but that person's own word.
                if !is_signed {
                    more.extend(trial.allowed().credentials_beyond(&before));
                }
                assert!(more.is_empty(), "{caller} alone widened by {asked:#?}: {more:#?}");
                let did =
                    matches!(&applied.results[0], Ok(outcome) if !matches!(outcome, Outcome::Pending(_)));
                if did {
                    note(tally, format!("{} by one person", asked.name()));
                }
            }
        }
    }
}

/// Tries one command of every kind by a node's own word. What two people decided before, a node may carry out: let in
/// whoever has a token's secret, and vouch for new keys.
fn no_node_widens_alone(bench: &Bench, dice: &[u8; 10], tally: &mut Tally) {
    let before = Trial::of(bench).allowed();
    for (turn, kind) in KINDS.into_iter().enumerate() {
        let mut dice = Dice::new(dice.map(|die| die.wrapping_add(23_u8.wrapping_mul(turn as u8))));
        let asked = command(&bench.model, kind, &mut dice);
        for node in 1..=3 {
            let mut trial = Trial::of(bench);
            let deadline = bench.model.now.cluster_time.0 + 60_000;
            let applied = trial.apply(&by_node(u64::MAX, node, deadline, asked.clone()));
            let mut more = trial.allowed().beyond(&before);
            more.extend(trial.allowed().credentials_beyond(&before));
            let is_decided = matches!(asked, Command::EdgeEnrol(_) | Command::BundleEndorse(_));
            assert!(more.is_empty() || is_decided, "node {node} alone widened by {asked:#?}: {more:#?}");
            if applied.results[0].is_ok() {
                note(tally, format!("{} by a node", asked.name()));
            }
        }
    }
}

/// Several commands of one person in a row: what one doesn't widen, two mustn't either, as by deleting and creating again.
fn nobody_widens_alone_in_several_steps(bench: &Bench, dice: &[u8; 10], tally: &mut Tally) {
    if bench.state.is_bootstrap() {
        return;
    }
    let mut trial = Trial::of(bench);
    let before = trial.allowed();
    // Those who may change the most have the most ways.
    let may_much =
        |person: &PersonId| bench.model.may(person, &[Role::Admin, Role::Operator], Some(&fleet("a/x/p")));
    let people: Vec<PersonId> = bench.model.people.keys().filter(|id| may_much(id)).cloned().collect();
    let Some(caller) = people.get(usize::from(dice[0]) % people.len().max(1)) else { return };
    // The reference only follows to find what exists by then.
    let mut model: Model = bench.model.clone();
    for turn in 0..40_u8 {
        let mut dice = Dice::new(dice.map(|die| die.wrapping_mul(31).wrapping_add(turn.wrapping_mul(57))));
        let kinds: Vec<What> = KINDS.into_iter().filter(|kind| *kind != What::Approve).collect();
        let kind = dice.pick(&kinds);
        let asked = command(&model, kind, &mut dice);
        let (request, applied) = trial.send(caller, asked.clone(), None);
        model.apply(trial.state.last_stamp().index, &batch(bench.model.now.cluster_time.0, vec![request]));
        let more = trial.allowed().beyond(&before);
        assert!(more.is_empty(), "{caller} alone widened in several steps, last {asked:#?}: {more:#?}");
        note(tally, format!("a step {}", if applied.results[0].is_ok() { "done" } else { "refused" }));
    }
}

/// With all the people it takes: whatever is allowed afterwards that wasn't before, `widens` had a name for.
fn what_widens_is_named(bench: &Bench, dice: &[u8; 10], tally: &mut Tally) {
    let people: Vec<PersonId> = bench.model.people.keys().cloned().collect();
    let before = Trial::of(bench).allowed();
    for (turn, kind) in KINDS.into_iter().enumerate() {
        let mut dice = Dice::new(dice.map(|die| die.wrapping_add(29_u8.wrapping_mul(turn as u8))));
        let asked = command(&bench.model, kind, &mut dice);
        if matches!(asked, Command::Approve(_)) {
            continue;
        }
        let named = widens(&bench.state, &asked);
        for caller in &people {
            let mut trial = Trial::of(bench);
            let (request, applied) = trial.send(caller, asked.clone(), None);
            if let Ok(Outcome::Pending(pending)) = &applied.results[0] {
                let approve = Command::Approve(Approve { approval: pending.approval });
                for other in &people {
                    trial.send(other, approve.clone(), Some(&request));
                }
            }
            let mut more = trial.allowed().beyond(&before);
            more.extend(trial.allowed().credentials_beyond(&before));
            match named {
                Some(widening) if !more.is_empty() => note(tally, format!("widened: {widening:?}")),
                Some(_) => {}
                None => assert!(more.is_empty(), "{asked:#?} widens and `widens` says no: {more:#?}"),
            }
        }
    }
}

fn check(schedule: &Schedule, dice: &[u8; 10], tally: &mut Tally) {
    let bench = run(schedule);
    nobody_widens_alone(&bench, dice, tally);
    no_node_widens_alone(&bench, dice, tally);
    nobody_widens_alone_in_several_steps(&bench, dice, tally);
    what_widens_is_named(&bench, dice, tally);
}

/// One schedule of a seed.
fn one_widening(seed: u64, tally: &mut Tally) {
    let dice = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes();
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&dice);
    check(&schedule::of_seed(seed, 5..60), &bytes, tally);
}

/// Paste the seed of a failed run here.
#[test]
fn test_one_widening() {
    one_widening(0, &mut Tally::new());
}

#[test]
fn nobody_widens_alone_and_every_reason_was_seen() {
    let mut tally = Tally::new();
    for seed in 0..64 {
        super::naming_the_seed(seed, || one_widening(seed, &mut tally));
    }
    tally.iter().for_each(|(name, times)| println!("{times:>8} {name}"));
    let reasons = [
        "LimitRaised",
        "IntentExtended",
        "LeavesKill",
        "KillLifted",
        "PersonEnrolled",
        "RoleGranted",
        "IdentityChanged",
        "FewerApprovals",
        "EdgeAdmitted",
        "EdgeExtended",
        "CredentialIssued",
        "TrustChanged",
    ];
    let alone = [
        "fleet_create",
        "fleet_update",
        "fleet_delete",
        "agent_register",
        "agent_update",
        "agent_delete",
        "person_update",
        "person_remove",
        "kill",
        "withdraw",
        "revoke",
        "policy_update",
        "join_token_delete",
        "edge_update",
        "edge_remove",
        "credential_issue",
    ];
    let by_nodes = ["edge_enrol", "receipt_record", "bundle_endorse"];
    let expected = reasons.iter().map(|reason| format!("widened: {reason}"));
    let expected = expected.chain(alone.iter().map(|command| format!("{command} by one person")));
    let expected = expected.chain(by_nodes.iter().map(|command| format!("{command} by a node")));
    let missing: Vec<_> = expected.filter(|name| !tally.contains_key(name)).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}");
}

proptest! {
    #![proptest_config(super::cases(24))]

    #[test]
    fn nobody_widens_alone_at_random(schedule in schedule::schedules(1..40), dice in any::<[u8; 10]>()) {
        check(&schedule, &dice, &mut Tally::new());
    }
}

/// Every key of the world has its secret at hand, or signed requests would be unsigned ones.
#[test]
fn every_key_has_its_secret() {
    assert!((0..KEYS).map(super::world::public).all(|key| secret_of(&key).is_some()));
}
