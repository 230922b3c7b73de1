//! When a kill is enforced in the whole cluster, member by member and second by second.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::receipt::FencedWhy;

const L: Millis = Millis(1_000);

fn at(millis: u64) -> BootNanos {
    BootNanos(millis * 1_000_000)
}

fn drift() -> Drift {
    Drift::from_ppm(0).unwrap()
}

fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

fn members(ids: &[u64]) -> Membership {
    let mut membership = Membership::default();
    membership.observe(&nodes(ids), drift(), at(0));
    membership
}

fn wait() -> Enforcement {
    Enforcement::new(NodeId(1), LogIndex(6), L, drift(), at(5_000))
}

fn cleared(acked: u64, fenced: &[&str]) -> Cleared {
    let fenced = fenced.iter().map(|name| Fenced { name: name.parse().unwrap(), why: FencedWhy::Silent });
    Cleared { acked, fenced: fenced.collect() }
}

fn rule(decision: &Decision) -> Option<EnforcedRule> {
    match decision {
        Decision::Enforced(enforced) => Some(enforced.rule),
        Decision::Waiting { .. } => None,
    }
}

#[test]
fn all_members_clear_is_enforced() {
    let mut wait = wait();
    wait.report(NodeId(1), cleared(3, &[]));
    let waiting = Decision::Waiting { members: vec![NodeId(2)], until: at(6_000) };
    assert_eq!(wait.decide(&members(&[1, 2]), at(5_001)), waiting);
    wait.report(NodeId(2), cleared(4, &[]));
    let Decision::Enforced(enforced) = wait.decide(&members(&[1, 2]), at(5_002)) else { panic!("enforced") };
    assert_eq!((enforced.rule, enforced.acked), (EnforcedRule::Acked, 7));
    assert_eq!(enforced.members, [(NodeId(1), MemberClear::Clear), (NodeId(2), MemberClear::Clear)]);
}

#[test]
fn who_cant_be_reached_is_waited_out_from_when_the_kill_was_observed() {
    let mut wait = wait();
    wait.report(NodeId(1), cleared(3, &[]));
    assert_eq!(rule(&wait.decide(&members(&[1, 2]), BootNanos(at(6_000).0 - 1))), None);
    let Decision::Enforced(enforced) = wait.decide(&members(&[1, 2]), at(6_000)) else { panic!("enforced") };
    assert_eq!(enforced.rule, EnforcedRule::Fenced);
    assert_eq!(enforced.members, [(NodeId(1), MemberClear::Clear), (NodeId(2), MemberClear::WaitedOut)]);
}

#[test]
fn an_enforcer_that_a_member_waited_out_makes_it_fenced() {
    let mut wait = wait();
    wait.report(NodeId(1), cleared(3, &["b", "a"]));
    wait.report(NodeId(1), cleared(9, &[]));
    let Decision::Enforced(enforced) = wait.decide(&members(&[1]), at(5_900)) else { panic!("enforced") };
    assert_eq!((enforced.rule, enforced.acked), (EnforcedRule::Fenced, 3), "the first word stands");
    assert_eq!(enforced.fenced, cleared(0, &["a", "b"]).fenced);
}

#[test]
fn a_member_removed_lately_counts_until_its_leases_have_ended() {
    let mut membership = members(&[1, 2]);
    membership.observe(&nodes(&[1]), drift(), at(4_500));
    let mut wait = wait();
    wait.report(NodeId(1), cleared(0, &[]));
    let waiting = Decision::Waiting { members: vec![NodeId(2)], until: at(5_500) };
    assert_eq!(wait.decide(&membership, at(5_499)), waiting);
    assert_eq!(rule(&wait.decide(&membership, at(5_500))), Some(EnforcedRule::Acked));
    membership.observe(&nodes(&[1, 2]), drift(), at(5_500));
    assert!(membership.former().is_empty(), "back again");
    assert_eq!(rule(&wait.decide(&membership, at(5_500))), None);
}

#[test]
fn the_observers_own_clear_is_always_asked_for() {
    let mut wait = wait();
    wait.report(NodeId(2), cleared(0, &[]));
    assert_eq!(rule(&wait.decide(&members(&[2]), at(5_999))), None);
    assert_eq!(rule(&wait.decide(&Membership::default(), at(5_999))), None);
    assert_eq!(rule(&wait.decide(&Membership::default(), at(6_000))), Some(EnforcedRule::Fenced));
}

#[test]
fn former_members_are_bounded_and_those_not_named_are_waited_for_all_the_same() {
    let mut membership = Membership::default();
    let last = 1 + FORMER_MEMBERS_MAX as u64;
    for node in 2..=last + 2 {
        membership.observe(&nodes(&[1, node]), drift(), at(node));
    }
    assert_eq!(membership.former().len(), FORMER_MEMBERS_MAX);
    let mut wait = Enforcement::new(NodeId(1), LogIndex(6), L, drift(), at(500));
    wait.report(NodeId(1), cleared(0, &[]));
    for node in membership.former().keys().chain(membership.current()) {
        wait.report(*node, cleared(0, &[]));
    }
    // Node 2 was removed when node 3 came, at 3 ms.
    let waiting = Decision::Waiting { members: vec![], until: at(1_003) };
    assert_eq!(wait.decide(&membership, at(1_002)), waiting);
    assert_eq!(rule(&wait.decide(&membership, at(1_003))), Some(EnforcedRule::Acked));
}

#[test]
fn many_fenced_names_are_counted() {
    let names: Vec<String> = (0..100).map(|number| format!("edge-{number:03}")).collect();
    let mut wait = wait();
    wait.report(NodeId(1), cleared(0, &names.iter().map(String::as_str).collect::<Vec<_>>()));
    let Decision::Enforced(enforced) = wait.decide(&members(&[1]), at(5_900)) else { panic!("enforced") };
    assert_eq!((enforced.fenced.len(), enforced.fenced_more), (RECEIPT_NAMES_MAX, 36));
    assert_eq!(enforced.fenced[0].name.as_str(), "edge-000");
}
