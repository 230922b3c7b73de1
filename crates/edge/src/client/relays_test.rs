//! Which relays an enforcer believes to be waited for, and at which position.

#![allow(clippy::unwrap_used, clippy::panic)]

use haltline_core::ids::KeyHash;

use super::*;

fn record(kind: EnforcerKind, paths: &[&str]) -> EdgePolicy {
    let path = |path: &&str| (*path != "/").then(|| path.parse().unwrap());
    let paths = paths.iter().map(path).collect();
    EdgePolicy { kind, key: KeyHash([1; 32]), paths, trusted_for_acks: false, fails_open: false }
}

fn edge(paths: &[&str]) -> EdgePolicy {
    record(EnforcerKind::Edge, paths)
}

fn relay(paths: &[&str]) -> EdgePolicy {
    record(EnforcerKind::Relay, paths)
}

fn set(name: &str, record: EdgePolicy) -> EnforcementEvent {
    EnforcementEvent::EdgeSet { edge: name.parse().unwrap(), record }
}

fn removed(name: &str) -> EnforcementEvent {
    EnforcementEvent::EdgeRemoved { edge: name.parse().unwrap() }
}

/// What `gate` knows after these events, one after another, none of them proven.
fn heard(events: &[EnforcementEvent]) -> Relays {
    let mut relays = Relays::below("gate".parse().unwrap());
    (1..).zip(events).for_each(|(seq, event)| relays.hear(event, EventSeq(seq)));
    relays
}

/// By way of these, from the bottom up, at this position.
fn by_way(relays: &Relays, names: &[&str], seq: u64) -> Result<(), &'static str> {
    let layer =
        |name: &&str| ProofLayer { name: name.parse().unwrap(), position: 0, leaves: 1, path: vec![] };
    let layers: Vec<_> = ["gate"].iter().chain(names).map(layer).collect();
    relays.check(&layers, EventSeq(seq)).map_err(|refusal| refusal.code())
}

#[test]
fn a_relay_must_be_registered_as_one_and_cover_all_that_is_served() {
    let relays = heard(&[
        set("gate", edge(&["acme/eu/x", "acme/us"])),
        set("wide", relay(&["acme"])),
        set("both", relay(&["acme/us", "acme/eu"])),
        set("narrow", relay(&["acme/eu"])),
        set("all", relay(&["/"])),
        set("gate-2", edge(&["/"])),
    ]);
    assert_eq!(by_way(&relays, &[], 6), Ok(()), "a node itself");
    for name in ["wide", "both", "all"] {
        assert_eq!(by_way(&relays, &[name], 6), Ok(()), "{name}");
    }
    assert_eq!(by_way(&relays, &["narrow"], 6), Err("BEYOND_RELAY"));
    assert_eq!(by_way(&relays, &["nobody"], 6), Err("NO_RELAY"));
    assert_eq!(by_way(&relays, &["gate-2"], 6), Err("NO_RELAY"), "an edge acknowledges for itself only");
    assert_eq!(by_way(&relays, &["gate"], 6), Err("NO_RELAY"));
}

#[test]
fn an_enforcer_of_everything_needs_a_relay_of_everything() {
    let relays = heard(&[
        set("gate", edge(&["/"])),
        set("wide", relay(&["acme"])),
        set("all", relay(&["acme", "/"])),
        set("none", relay(&[])),
    ]);
    assert_eq!(by_way(&relays, &["all"], 4), Ok(()));
    assert_eq!(by_way(&relays, &["wide"], 4), Err("BEYOND_RELAY"));
    assert_eq!(by_way(&relays, &["none"], 4), Err("BEYOND_RELAY"));
}

#[test]
fn each_link_upwards_covers_the_one_below() {
    let relays = heard(&[
        set("gate", edge(&["acme/eu/x"])),
        set("low", relay(&["acme/eu"])),
        set("high", relay(&["acme"])),
        set("aside", relay(&["acme/us"])),
        set("same", relay(&["acme/eu/x"])),
    ]);
    assert_eq!(by_way(&relays, &["low", "high"], 5), Ok(()));
    assert_eq!(by_way(&relays, &["low", "aside"], 5), Err("BEYOND_RELAY"));
    assert_eq!(by_way(&relays, &["low", "same"], 5), Err("BEYOND_RELAY"), "low hangs on it with more");
    assert_eq!(by_way(&relays, &["low", "gate-9", "high"], 5), Err("NO_RELAY"), "wherever it stands");
}

#[test]
fn records_count_as_of_the_statement() {
    let mut relays = heard(&[
        set("gate", edge(&["acme/eu"])),
        set("relay", relay(&["acme/eu"])),
        set("gate", edge(&["acme"])),
        set("relay", relay(&["acme"])),
        removed("relay"),
        set("relay", edge(&["/"])),
    ]);
    let expected =
        [(1, Err("NO_RELAY")), (2, Ok(())), (3, Err("BEYOND_RELAY")), (4, Ok(())), (5, Err("NO_RELAY"))];
    for (seq, expected) in expected {
        assert_eq!(by_way(&relays, &["relay"], seq), expected, "before anything is proven, at {seq}");
        relays.covered(EventSeq(seq));
        assert_eq!(by_way(&relays, &["relay"], seq), expected, "as it is proven, at {seq}");
    }
    relays.covered(EventSeq(6));
    assert_eq!(by_way(&relays, &["relay"], 6), Err("NO_RELAY"), "the name is an edge's now");
}

#[test]
fn a_snapshot_takes_the_place_of_what_was_heard() {
    let mut relays = heard(&[set("gate", edge(&["acme"])), set("old", relay(&["/"]))]);
    let (name, other) = ("gate".parse().unwrap(), "new".parse().unwrap());
    let (own, new) = (edge(&["acme"]), relay(&["acme"]));
    relays.replaced([(&name, &own), (&other, &new)].into_iter());
    assert_eq!(by_way(&relays, &["new"], 9), Ok(()));
    assert_eq!(by_way(&relays, &["old"], 9), Err("NO_RELAY"));
}

#[test]
fn whoever_is_not_registered_serves_nothing_and_still_needs_a_relay() {
    let relays = heard(&[set("relay", relay(&["acme"]))]);
    assert_eq!(by_way(&relays, &["relay"], 1), Ok(()));
    assert_eq!(by_way(&relays, &["other"], 1), Err("NO_RELAY"));
}
