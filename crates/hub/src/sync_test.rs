//! Streams: how they begin, what they are sent in which order, what happens to slow and to rude ones.

#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use haltline_core::{
    event::ChainPosition,
    ids::{Digest, EventSeq, Incarnation},
    limits::{EDGE_MESSAGES_BURST, HUB_FRAME_BYTES_MAX, HUB_RING_BYTES_MAX, HUB_RING_EVENTS_MAX},
    time::Millis,
};
use haltline_wire::v1::{
    self, edge_message::Message as Says, hub_message::Message as Said, snapshot_needed::Reason,
};
use prost::Message as _;
use tonic::Code;

use crate::test_hub::{CLUSTER, NODE, TestHub, agent_set, kill_set, wait_for};

const ONE: Incarnation = Incarnation(1);

#[tokio::test]
async fn an_enforcer_resumes_from_any_event_that_is_held() {
    let hub = TestHub::start().await;
    let mut positions = vec![hub.source.chain()];
    for events in [3, 0, 1, 2] {
        let index = hub.source.commit_agents(events);
        positions.push(hub.source.chain());
        hub.has(index).await;
    }
    let middle = ChainPosition::default().after(&agent_set(0));
    positions.push(middle);
    for at in positions {
        let mut edge = hub.connect("a");
        edge.hello(ONE, at);
        let welcome = edge.welcome().await;
        assert_eq!((welcome.node, welcome.cluster_id.as_slice()), (NODE.0, CLUSTER.0.as_slice()));
        assert_eq!((welcome.incarnation, welcome.index), (1, 4));
        while edge.at != hub.source.chain() {
            edge.frame().await;
        }
        assert!(edge.is_quiet());
    }
}

#[tokio::test]
async fn who_cant_be_served_from_here_is_told_why() {
    let hub = TestHub::start().await;
    hub.has(hub.source.commit_agents(2)).await;
    let here = hub.source.chain();
    let elsewhere = ChainPosition { head: Digest([9; 32]), ..here };
    for (incarnation, at, expected) in [
        (ONE, elsewhere, Reason::OtherChain),
        (Incarnation(2), here, Reason::OtherIncarnation),
        (Incarnation(0), here, Reason::OtherIncarnation),
    ] {
        let mut edge = hub.connect("a");
        edge.hello(incarnation, at);
        assert_eq!(edge.snapshot_needed().await, expected);
        assert_eq!(edge.ended().await.code, Code::Ok);
    }
    assert_eq!(hub.hub.counters().snapshots_needed, 3);
}

#[tokio::test]
async fn who_was_left_behind_by_the_ring_is_sent_for_a_snapshot() {
    let hub = TestHub::start().await;
    let mut slow = hub.follow("slow").await;
    while hub.hub.counters().ring_events as usize == committed(&hub) {
        hub.has(hub.source.commit_agents(4_096)).await;
    }
    let counters = hub.hub.counters();
    assert!(counters.ring_events as usize <= HUB_RING_EVENTS_MAX);
    assert!(counters.ring_bytes as usize <= HUB_RING_BYTES_MAX);
    assert_eq!(slow.snapshot_needed().await, Reason::TooFarBehind);
    assert_eq!(slow.ended().await.code, Code::Ok);

    let mut late = hub.connect("late");
    late.hello(ONE, ChainPosition::default());
    assert_eq!(late.snapshot_needed().await, Reason::TooFarBehind);
}

fn committed(hub: &TestHub) -> usize {
    usize::try_from(hub.source.chain().seq.0).unwrap()
}

#[tokio::test]
async fn a_hub_that_lags_lets_an_enforcer_wait_until_it_has_caught_up() {
    let hub = TestHub::start().await;
    let ahead = hub.source.chain().after(&agent_set(0));
    let mut edge = hub.connect("a");
    edge.hello(ONE, ahead);
    edge.probe(1);
    assert!(edge.is_quiet());
    hub.source.commit_agents(1);
    edge.welcome().await;
    assert_eq!(edge.fresh().await.nonce, [1; 32]);
}

#[tokio::test]
async fn a_hub_that_doesnt_catch_up_says_that_it_is_behind() {
    let hub = TestHub::start_impatient().await;
    let mut edge = hub.connect("a");
    edge.hello(ONE, ChainPosition { seq: EventSeq(5), head: Digest([1; 32]) });
    assert_eq!(edge.snapshot_needed().await, Reason::AheadOfHub);
}

#[tokio::test]
async fn a_stream_that_says_nothing_ends() {
    let hub = TestHub::start_impatient().await;
    let mut edge = hub.connect("a");
    assert_eq!(edge.ended().await.reason, "HELLO_TIMEOUT");
    drop(edge);
    assert_eq!(hub.hub.counters().streams, 0);
}

#[tokio::test]
async fn what_waits_is_coalesced_and_a_kill_takes_it_along() {
    let hub = TestHub::start().await;
    let mut slow = hub.follow("slow").await;
    for _ in 0..100 {
        hub.source.commit_agents(1);
    }
    hub.has(hub.source.commit(&[kill_set(1)])).await;
    let kill = hub.source.chain().seq;
    wait_for("the kill is released", || hub.hub.released() >= kill).await;
    let frame = slow.frame().await;
    assert_eq!((frame.events.len(), frame.stops), (101, true), "all in one frame, the kill with it");
    assert_eq!(frame.index, 101);
    assert!(slow.is_quiet());
}

#[tokio::test]
async fn streams_in_step_get_the_very_same_bytes() {
    let hub = TestHub::start().await;
    let mut edges = Vec::new();
    for number in 0..10 {
        edges.push(hub.follow(&format!("edge-{number}")).await);
    }
    hub.source.commit(&[agent_set(1), kill_set(1)]);
    for edge in &mut edges {
        let frame = edge.frame().await;
        assert_eq!((frame.events.len(), frame.stops), (2, true));
    }
    let counters = hub.hub.counters();
    assert_eq!(counters.frames_sent, 10);
    assert_eq!(counters.frames_encoded, 1);
}

#[tokio::test]
async fn a_reader_that_doesnt_read_holds_no_more_than_a_position() {
    let hub = TestHub::start().await;
    let mut slow = hub.follow("slow").await;
    slow.probe(1);
    slow.turn();
    for round in 2..200 {
        hub.has(hub.source.commit_agents(512)).await;
        slow.probe(round);
    }
    // Nothing was written for it meanwhile, and it has one probe and at most one answer, whatever it said.
    assert_eq!(hub.hub.counters().frames_sent, 0);
    let mut frames = 0;
    while slow.at != hub.source.chain() {
        match slow.message().await {
            Said::Frame(frame) => {
                assert!(frame.encoded_len() <= HUB_FRAME_BYTES_MAX + 256);
                for event in &frame.events {
                    slow.at = slow.at.after_bytes(event);
                }
                frames += 1;
            }
            Said::Fresh(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(frames < 198, "{frames} frames for 198 entries");
}

#[tokio::test]
async fn a_jump_of_the_source_keeps_those_who_stand_where_it_is_and_sends_the_others_for_a_snapshot() {
    let hub = TestHub::start().await;
    let mut here = hub.follow("here").await;
    let mut behind = hub.follow("behind").await;
    hub.has(hub.source.commit_agents(1)).await;
    here.frame().await;
    hub.source.jump();
    wait_for("the feed was taken up anew", || hub.hub.counters().feeds == 2).await;
    assert_eq!(behind.snapshot_needed().await, Reason::TooFarBehind);
    hub.source.commit(&[kill_set(2)]);
    assert!(here.frame().await.stops);
}

#[tokio::test]
async fn another_incarnation_sends_everybody_for_a_snapshot() {
    let hub = TestHub::start().await;
    hub.source.commit_agents(3);
    let mut edge = hub.follow("a").await;
    hub.source.restore(2);
    hub.source.commit_agents(7);
    let reason = edge.snapshot_needed().await;
    assert!(matches!(reason, Reason::OtherChain | Reason::AheadOfHub | Reason::TooFarBehind), "{reason:?}");
    let mut again = hub.connect("a");
    again.hello(ONE, edge.at);
    assert_eq!(again.snapshot_needed().await, Reason::OtherIncarnation);
}

#[tokio::test]
async fn rude_streams_are_refused_by_name() {
    let hub = TestHub::start().await;
    let here = hub.source.chain();
    let hello = |version: &str| {
        Says::Hello(v1::Hello { incarnation: 1, version: version.to_owned(), ..v1::Hello::default() })
    };
    let ack = |event_seq| Says::Applied(v1::EdgeApplied { index: 1, event_seq });
    let probe = |bytes| Says::Probe(v1::Probe { sequence: 1, nonce: vec![1; bytes] });
    let cases: Vec<(Vec<Says>, &str)> = vec![
        (vec![probe(32)], "HELLO_EXPECTED"),
        (vec![ack(0)], "HELLO_EXPECTED"),
        (vec![hello(&"x".repeat(129))], "INVALID_FIELD"),
        (vec![hello(""), hello("")], "HELLO_TWICE"),
        (vec![hello(""), probe(31)], "INVALID_FIELD"),
    ];
    for (says, reason) in cases {
        let mut edge = hub.connect("rude");
        says.into_iter().for_each(|says| edge.say(says));
        assert_eq!(edge.ended().await.reason, reason);
    }
    let mut edge = hub.connect("rude");
    edge.say_bytes(Bytes::from_static(&[0, 255, 255, 255, 255]));
    assert_eq!(edge.ended().await.reason, "MESSAGE_TOO_LARGE");

    let mut edge = hub.follow("rude").await;
    assert_eq!(here, edge.at);
    edge.say(ack(5));
    assert_eq!(edge.ended().await.reason, "ACK_AHEAD");
}

#[tokio::test]
async fn floods_end_the_stream() {
    let hub = TestHub::start().await;
    let mut edge = hub.follow("b").await;
    for _ in 0..=EDGE_MESSAGES_BURST + 1 {
        edge.ack();
    }
    assert_eq!(edge.ended().await.reason, "MESSAGES_TOO_FAST");
}

#[tokio::test]
async fn who_isnt_registered_or_is_no_longer_as_registered_is_turned_away() {
    let hub = TestHub::start().await;
    let refusal = hub.try_connect("stranger").err().unwrap();
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::PermissionDenied, "UNREGISTERED"));
    let mut edge = hub.follow("relay").await;
    let mut registered = crate::test_hub::admitted("relay");
    registered.trusted_for_acks = true;
    hub.source.register(registered);
    hub.hub.recheck();
    assert_eq!(edge.ended().await.reason, "EDGE_CHANGED");
}

#[tokio::test]
async fn hubs_are_told_once_and_again_when_they_change() {
    let hub = TestHub::start().await;
    let list = |port: u16| {
        let address = format!("10.0.0.1:{port}");
        vec![v1::HubEndpoint { node: 1, address, region: "eu".into() }]
    };
    hub.hub.set_hubs(list(1));
    let mut edge = hub.follow("a").await;
    assert_eq!(edge.message().await, Said::Hubs(v1::HubEndpoints { hubs: list(1) }));
    hub.hub.set_hubs(list(1));
    assert!(edge.is_quiet());
    hub.hub.set_hubs(list(2));
    assert_eq!(edge.message().await, Said::Hubs(v1::HubEndpoints { hubs: list(2) }));
}

#[tokio::test]
async fn a_shutdown_tells_everybody_and_ends() {
    let hub = TestHub::start().await;
    let mut edge = hub.follow("a").await;
    hub.hub.shutdown().await;
    assert_eq!(edge.ended().await.reason, "STOPPING");
    assert_eq!(hub.try_connect("a").err().unwrap().reason, "STOPPING");
}

#[tokio::test]
async fn the_list_of_enforcers_says_who_lags() {
    let hub = TestHub::start().await;
    let mut edge = hub.follow("a").await;
    hub.has(hub.source.commit_agents(1)).await;
    hub.clock.advance(Millis(40));
    let status = hub.hub.edges().pop().unwrap();
    assert_eq!((status.name.as_str(), status.lag, status.lease), ("a", 1, None));
    assert_eq!((status.version.as_str(), status.region.as_str()), ("1.2.3", "eu"));
    assert_eq!((status.connected, status.is_following), (Millis(40), true));
    edge.frame().await;
    edge.ack();
    edge.probe(1);
    edge.fresh().await;
    hub.clock.advance(Millis(1_000));
    hub.has(hub.source.commit(&[])).await;
    let status = hub.hub.edges().pop().unwrap();
    assert_eq!(
        (status.lag, status.acked.0, status.granted.0),
        (0, 1, 1),
        "an entry without events is no news"
    );
    // 2 s and the margin for both clocks' drift, less the second that passed.
    assert_eq!(status.lease, Some(Millis(1_005)));
}
