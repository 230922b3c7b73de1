//! Whom a relay knows and by what proof, and how long the staleness of a scope that was tightened still counts.

#![allow(clippy::unwrap_used)]

use haltline_core::{command::EnforcerKind, ids::KeyHash, lease::Nanos, policy::Limits};

use super::*;

const NOW: BootNanos = BootNanos(1_000_000_000_000);

fn fleet(path: &str, own: Option<u64>) -> EnforcementEvent {
    let limits = Limits { max_staleness: own.map(Millis), ..Limits::default() };
    EnforcementEvent::FleetSet {
        path: path.parse().unwrap(),
        policy: FleetPolicy { limits, ..FleetPolicy::default() },
    }
}

fn record(key: u8) -> EdgePolicy {
    let (kind, key) = (EnforcerKind::Edge, KeyHash([key; 32]));
    EdgePolicy { kind, key, paths: vec![None], trusted_for_acks: false, fails_open: false }
}

fn edge(name: &str, key: u8) -> EnforcementEvent {
    EnforcementEvent::EdgeSet { edge: name.parse().unwrap(), record: record(key) }
}

fn scope(path: &str) -> [Option<FleetPath>; 1] {
    [Some(path.parse().unwrap())]
}

fn later(millis: u64) -> BootNanos {
    NOW.plus(Nanos(millis * 1_000_000))
}

#[test]
fn somebody_is_known_from_the_proof_on_and_gone_from_the_first_word() {
    let (mut book, name) = (RecordBook::default(), "edge-1".parse().unwrap());
    book.hear(&edge("edge-1", 1), EventSeq(1), NOW);
    assert_eq!(book.edge(&name), None);
    book.confirm(EventSeq(1), NOW);
    assert_eq!(book.edge(&name), Some(&record(1)));
    book.hear(&edge("edge-1", 2), EventSeq(2), NOW);
    assert_eq!(book.edge(&name), None, "neither key counts until it is known which");
    book.confirm(EventSeq(2), NOW);
    assert_eq!(book.edge(&name), Some(&record(2)));
    book.hear(&EnforcementEvent::EdgeRemoved { edge: name.clone() }, EventSeq(3), NOW);
    assert_eq!(book.edge(&name), None);
    book.confirm(EventSeq(2), NOW);
    assert_eq!((book.edge(&name), book.pending()), (None, 1));
}

#[test]
fn a_tightened_value_counts_until_no_lease_can_rest_on_it() {
    let mut book = RecordBook::default();
    book.hear(&fleet("acme", Some(60_000)), EventSeq(1), NOW);
    book.confirm(EventSeq(1), NOW);
    let settled = later(200_000);
    assert_eq!(book.staleness(&scope("acme/x"), settled), Millis(60_000));
    book.hear(&fleet("acme", Some(500)), EventSeq(2), settled);
    book.confirm(EventSeq(2), settled);
    assert_eq!(book.staleness(&scope("acme/x"), settled), Millis(60_000));
    let over = outlived(Millis(60_000), settled);
    let still = BootNanos(over.0 - 1);
    assert_eq!(book.staleness(&scope("acme"), still), Millis(60_000));
    assert_eq!(book.staleness(&scope("acme"), over), Millis(500));
    assert_eq!(book.staleness(&[None], over), MAX_STALENESS_DEFAULT, "elsewhere the default holds");
}

#[test]
fn a_forged_tightening_shortens_nothing_and_a_loosening_counts_at_once() {
    let mut book = RecordBook::default();
    book.hear(&fleet("acme", Some(60_000)), EventSeq(1), NOW);
    book.confirm(EventSeq(1), NOW);
    book.hear(&fleet("acme", Some(500)), EventSeq(2), NOW);
    let long_after = later(10_000_000);
    assert_eq!(book.staleness(&scope("acme"), long_after), Millis(60_000));
    book.hear(&fleet("acme/x", Some(90_000)), EventSeq(3), long_after);
    assert_eq!(book.staleness(&[None], long_after), Millis(90_000));
    assert_eq!(book.smallest(), Millis(500));
}

#[test]
fn what_a_snapshot_replaces_is_remembered_too() {
    let mut book = RecordBook::default();
    book.hear(&fleet("acme", Some(60_000)), EventSeq(1), NOW);
    book.confirm(EventSeq(1), NOW);
    let settled = later(200_000);
    book.install(Records::default(), settled);
    assert_eq!(book.staleness(&scope("acme"), settled), Millis(60_000));
    assert_eq!(book.staleness(&scope("acme"), outlived(Millis(60_000), settled)), MAX_STALENESS_DEFAULT);
}

#[test]
fn a_fleet_that_inherited_is_remembered_as_such() {
    let mut book = RecordBook::default();
    book.hear(&fleet("acme", Some(500)), EventSeq(1), NOW);
    assert_eq!(book.staleness(&scope("acme"), NOW), MAX_STALENESS_DEFAULT, "it had the default until now");
    book.confirm(EventSeq(1), NOW);
    assert_eq!(book.staleness(&scope("acme"), later(10_000)), Millis(500));
}

#[test]
fn what_an_earlier_life_passed_on_is_waited_out() {
    let book = RecordBook::after(Some(Millis(10_000)), NOW);
    let over = outlived(Millis(10_000), NOW);
    assert_eq!(book.staleness(&[None], BootNanos(over.0 - 1)), Millis(10_000));
    assert_eq!(book.staleness(&[None], over), MAX_STALENESS_DEFAULT);
}
