//! What a relay hands on and to whom: proven answers, each frame once, and nothing beyond its own paths.

#![allow(clippy::unwrap_used, clippy::panic)]

use haltline_core::{
    command::Signature,
    ids::{ClusterId, Digest},
    time::ClusterTime,
};
use haltline_hub::{Feed as _, SystemBootClock};
use haltline_pki::UnixSeconds;

use super::*;

const RELAY: &str = "relay-1";

fn record(kind: EnforcerKind, key: u8, path: Option<&str>) -> EdgePolicy {
    let paths = vec![path.map(|path| path.parse().unwrap())];
    EdgePolicy { kind, key: KeyHash([key; 32]), paths, trusted_for_acks: false, fails_open: false }
}

fn set(name: &str, record: EdgePolicy) -> EnforcementEvent {
    EnforcementEvent::EdgeSet { edge: name.parse().unwrap(), record }
}

fn founded() -> EnforcementEvent {
    EnforcementEvent::Founded { cluster_id: ClusterId([1; 16]), incarnation: Incarnation(1) }
}

fn view() -> RelayView {
    RelayView::new(RELAY.parse().unwrap(), Arc::new(SystemBootClock), None)
}

fn hear(view: &RelayView, events: &[EnforcementEvent], index: u64) {
    view.hear(events, LogIndex(index), || {}).unwrap();
}

/// A view to which these are proven.
fn proven(events: &[EnforcementEvent]) -> RelayView {
    let view = view();
    hear(&view, events, 1);
    view.confirm(LogIndex(1), EventSeq(events.len() as u64)).unwrap();
    view
}

fn peer(name: &str, key: u8) -> PeerIdentity {
    PeerIdentity {
        subject: Subject::Edge(name.parse().unwrap()),
        key_hash: KeyHash([key; 32]),
        not_after: UnixSeconds::now(),
        remote_addr: "127.0.0.1:7".parse().unwrap(),
    }
}

fn fresh(nonce: Nonce) -> Fresh {
    Fresh {
        nonce,
        index: LogIndex(4),
        event_seq: EventSeq(2),
        chain_head: Digest([3; 32]),
        cluster_time: ClusterTime(9),
        node: NodeId(2),
        signature: Signature([7; 64]),
        layers: vec![],
    }
}

#[test]
fn nothing_but_the_answer_to_the_very_probe_is_handed_on() {
    let view = view();
    let asked = Nonce([1; 32]);
    assert!(matches!(view.expect(asked), Err(UpstreamError::Unavailable { .. })), "no hub serves");
    view.connected();
    let mut answer = view.expect(asked).unwrap();
    view.attested(&fresh(Nonce([2; 32])));
    assert!(answer.try_recv().is_err(), "an own probe's answer is none for those below");
    view.attested(&fresh(asked));
    let statement = answer.try_recv().unwrap();
    assert_eq!((statement.node, statement.index, statement.signature), (NodeId(2), LogIndex(4), [7; 64]));
    view.attested(&fresh(asked));
    let mut later = view.expect(Nonce([3; 32])).unwrap();
    assert!(later.try_recv().is_err(), "a replayed answer is for nobody");
    view.disconnected();
    assert!(matches!(later.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
}

#[test]
fn those_below_are_admitted_by_proof_and_within_the_relays_own_paths() {
    let view = proven(&[
        founded(),
        set(RELAY, record(EnforcerKind::Relay, 9, Some("acme/eu"))),
        set("inside", record(EnforcerKind::Edge, 1, Some("acme/eu/x"))),
        set("beyond", record(EnforcerKind::Edge, 2, Some("acme"))),
        set("everywhere", record(EnforcerKind::Edge, 3, None)),
    ]);
    assert_eq!(view.admit(&peer("inside", 1)).unwrap().name.as_str(), "inside");
    assert!(matches!(view.admit(&peer("inside", 2)), Err(RelayRefused::Unregistered { .. })));
    assert!(matches!(view.admit(&peer("nobody", 1)), Err(RelayRefused::Unregistered { .. })));
    for (name, key) in [("beyond", 2), ("everywhere", 3)] {
        assert!(matches!(view.admit(&peer(name, key)), Err(RelayRefused::BeyondPaths { .. })), "{name}");
    }
    hear(&view, &[set("late", record(EnforcerKind::Edge, 4, Some("acme/eu")))], 2);
    assert!(matches!(view.admit(&peer("late", 4)), Err(RelayRefused::Unregistered { .. })), "unproven");
    view.confirm(LogIndex(2), EventSeq(6)).unwrap();
    assert!(view.admit(&peer("late", 4)).is_ok());
    hear(&view, &[set(RELAY, record(EnforcerKind::Edge, 9, None))], 3);
    assert!(matches!(view.admit(&peer("inside", 1)), Err(RelayRefused::NoRelay { .. })));
}

#[test]
fn a_feed_begins_with_proof_carries_each_frame_once_and_ends_with_a_snapshot() {
    let view = view();
    hear(&view, &[founded()], 1);
    assert!(view.follow().is_err(), "nothing is proven yet");
    view.confirm(LogIndex(1), EventSeq(1)).unwrap();
    let mut start = view.follow().unwrap();
    assert_eq!((start.incarnation, start.index, start.chain.seq), (Incarnation(1), LogIndex(0), EventSeq(0)));
    assert_eq!(start.feed.try_next().unwrap().unwrap().index, LogIndex(1));
    let own =
        [set(RELAY, record(EnforcerKind::Relay, 9, None)), set("gate", record(EnforcerKind::Edge, 1, None))];
    hear(&view, &own[..1], 2);
    hear(&view, &own[1..], 3);
    let entry = start.feed.try_next().unwrap().unwrap();
    assert_eq!((entry.index, entry.chain.seq), (LogIndex(2), EventSeq(2)));
    let entry = start.feed.try_next().unwrap().unwrap();
    assert_eq!(
        (entry.index, view.events_at(LogIndex(2)), view.events_at(LogIndex(9))),
        (LogIndex(3), EventSeq(2), EventSeq(3))
    );
    hear(&view, &own[..1], 4);
    let entry = start.feed.try_next().unwrap().unwrap();
    assert!(entry.edges_changed.len() >= 2, "its own record decides on everybody: {:?}", entry.edges_changed);
    let body = haltline_core::view::View::default().encode();
    view.install(&ViewBody::decode(&body).unwrap(), LogIndex(9));
    assert_eq!(start.feed.try_next(), Err(FeedEnd::Jumped));
}

#[test]
fn only_statements_and_what_stops_somebody_may_settle() {
    let view = proven(&[founded()]);
    assert_eq!(view.may_settle(), LogIndex(1));
    hear(&view, &[set("gate", record(EnforcerKind::Edge, 1, None))], 5);
    assert_eq!(view.may_settle(), LogIndex(1));
    let kill = EnforcementEvent::KillSet {
        kill: haltline_core::ids::KillId(1),
        selector: haltline_core::selector::Selector::default(),
        force: haltline_core::event::KillForce::Denying,
    };
    hear(&view, &[kill], 6);
    assert_eq!(view.may_settle(), LogIndex(6));
}

/// A view of a log with these events, as it travels.
fn body(events: &[EnforcementEvent]) -> (ViewBody, ChainPosition) {
    let mut view = haltline_core::view::View::default();
    events.iter().for_each(|event| view.apply(event));
    (ViewBody::decode(&view.encode()).unwrap(), view.position)
}

#[test]
fn a_feed_begins_where_the_snapshot_ends_whatever_came_before_anybody_followed() {
    let view = view();
    let (body, at) = body(&[founded(), set(RELAY, record(EnforcerKind::Relay, 9, None))]);
    view.install(&body, LogIndex(7));
    hear(&view, &[set("gate", record(EnforcerKind::Edge, 1, None))], 8);
    hear(&view, &[set("late", record(EnforcerKind::Edge, 2, None))], 9);
    let mut start = view.follow().unwrap();
    assert_eq!((start.index, start.chain, view.began()), (LogIndex(7), at, at.seq));
    let indices = |start: &mut Start<RelayFeed>| {
        std::iter::from_fn(|| start.feed.try_next().unwrap()).map(|entry| entry.index.0).collect::<Vec<_>>()
    };
    assert_eq!(indices(&mut start), [8, 9]);
    hear(&view, &[EnforcementEvent::EdgeRemoved { edge: "late".parse().unwrap() }], 10);
    assert_eq!(indices(&mut start), [10]);
    // Whoever lost step begins where everything was handed over.
    let again = view.follow().unwrap();
    assert_eq!((again.index, again.chain.seq), (LogIndex(10), EventSeq(5)));
}

#[test]
fn a_hub_that_does_not_keep_up_begins_anew_and_what_waits_for_it_is_bounded() {
    let view = view();
    let (body, at) = body(&[founded()]);
    view.install(&body, LogIndex(1));
    let removed = || [EnforcementEvent::EdgeRemoved { edge: "nobody".parse().unwrap() }];
    let more = RELAY_FEED_MAX as u64 + 10;
    for index in 0..more {
        hear(&view, &removed(), 2 + index);
        view.confirm(LogIndex(2 + index), EventSeq(at.seq.0 + 1 + index)).unwrap();
    }
    let mut start = view.follow().unwrap();
    assert_eq!(start.index, LogIndex(11), "the oldest ten were dropped, and the beginning moved on");
    hear(&view, &removed(), more + 2);
    let handed = std::iter::from_fn(|| start.feed.try_next().ok().flatten()).count();
    assert_eq!((handed, start.feed.try_next()), (RELAY_FEED_MAX, Err(FeedEnd::Jumped)));
    assert_eq!(view.follow().unwrap().index, LogIndex(more + 2));
}
