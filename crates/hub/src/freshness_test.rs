//! Freshness, acknowledgements and kills that are waited for.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::Ordering;

use haltline_core::{
    LogIndex,
    attest::FreshStatement,
    command::EnforcerKind,
    event::ChainPosition,
    ids::{Digest, EventSeq, Incarnation, Nonce},
    lease::{Drift, fence},
    merkle,
    receipt::FencedWhy,
    selector::Selector,
    time::{ClusterTime, Millis},
    tracker::{Clear, TrackerError, WatchedKill},
};
use haltline_pki::verify_statement;
use haltline_wire::v1::{self, hub_message::Message as Said};

use crate::{
    KillWatch,
    test_hub::{CLUSTER, FakeSource, STALENESS, TestEdge, TestHub, admitted, fleet_set, kill_set, wait_for},
};

/// Checks an answer as an enforcer does, down to the node's signature.
fn verify(source: &FakeSource, name: &str, fresh: &v1::Fresh) {
    let layer = &fresh.layers[0];
    assert_eq!((fresh.layers.len(), layer.name.as_str()), (1, name));
    let nonce = Nonce(fresh.nonce.as_slice().try_into().unwrap());
    let path: Vec<_> = layer.path.chunks(32).map(|digest| Digest(digest.try_into().unwrap())).collect();
    let leaf = merkle::leaf(&nonce, name);
    let root = merkle::root_from_path(leaf, layer.position, layer.leaves, &path).unwrap();
    let statement = FreshStatement {
        cluster_id: CLUSTER,
        incarnation: Incarnation(1),
        index: LogIndex(fresh.index),
        event_seq: EventSeq(fresh.event_seq),
        chain_head: Digest(fresh.chain_head.as_slice().try_into().unwrap()),
        cluster_time: ClusterTime(fresh.cluster_time_ms),
        root,
    };
    let signature = fresh.signature.as_slice().try_into().unwrap();
    assert!(verify_statement(&source.signer.public_key(), &statement.to_bytes(), signature));
}

fn kill(index: LogIndex) -> WatchedKill {
    WatchedKill { index, selector: Selector::default(), max_staleness: STALENESS }
}

fn watch(hub: &TestHub, index: LogIndex) -> KillWatch {
    hub.hub.watch(kill(index)).unwrap()
}

fn lagging(watch: &mut KillWatch) -> u64 {
    match watch.look().unwrap() {
        Clear::Waiting { lagging, .. } => lagging,
        Clear::Cleared(cleared) => panic!("{cleared:?}"),
    }
}

#[tokio::test]
async fn one_barrier_and_one_signature_answer_all_who_wait() {
    let hub = TestHub::start().await;
    hub.source.barriers.forget_permits(usize::MAX);
    let mut edges = Vec::new();
    for number in 0..9 {
        edges.push(hub.follow(&format!("edge-{number}")).await);
    }
    // The first begins a barrier that doesn't end; the others come while it is under way.
    edges[0].probe(0);
    edges[0].turn();
    wait_for("a barrier began", || hub.source.barriers_begun.load(Ordering::SeqCst) == 1).await;
    for (edge, nonce) in edges.iter_mut().zip(0..).skip(1) {
        edge.probe(nonce);
        edge.turn();
    }
    hub.source.barriers.add_permits(1);
    verify(&hub.source, "edge-0", &edges[0].fresh().await);
    assert!(edges[1].is_quiet(), "its barrier must begin after it asked");
    hub.source.barriers.add_permits(1);
    for (edge, number) in edges.iter_mut().zip(0_u8..).skip(1) {
        let fresh = edge.fresh().await;
        assert_eq!(fresh.nonce, [number; 32]);
        assert_eq!(fresh.layers[0].leaves, 8);
        verify(&hub.source, &format!("edge-{number}"), &fresh);
    }
    assert_eq!(hub.source.barriers_begun.load(Ordering::SeqCst), 2);
    let counters = hub.hub.counters();
    assert_eq!((counters.statements, counters.probes_answered), (2, 9));
}

#[tokio::test]
async fn every_event_that_a_statement_rests_on_comes_before_it() {
    let hub = TestHub::start().await;
    let mut edge = hub.follow("a").await;
    for _ in 0..5 {
        hub.source.commit_agents(3);
        edge.probe(1);
        let fresh = edge.fresh().await;
        assert_eq!(fresh.event_seq, edge.at.seq.0);
        assert_eq!(fresh.chain_head, edge.at.head.0);
        assert_eq!(fresh.index, edge.index.0);
        verify(&hub.source, "a", &fresh);
    }
}

#[tokio::test]
async fn a_newer_probe_takes_the_place_of_one_that_waits() {
    let hub = TestHub::start().await;
    hub.source.barriers.forget_permits(usize::MAX);
    let mut edge = hub.follow("a").await;
    for nonce in 1..=4 {
        edge.probe(nonce);
        edge.turn();
        wait_for("a barrier began", || hub.source.barriers_begun.load(Ordering::SeqCst) == 1).await;
    }
    hub.source.barriers.add_permits(2);
    assert_eq!(edge.fresh().await.nonce, [1; 32]);
    assert_eq!(edge.fresh().await.nonce, [4; 32]);
}

#[tokio::test]
async fn a_kill_is_clear_as_soon_as_all_have_acknowledged() {
    let hub = TestHub::start().await;
    let mut edges = [hub.follow("a").await, hub.follow("b").await];
    for edge in &mut edges {
        edge.probe(1);
        edge.fresh().await;
    }
    let index = hub.source.commit(&[kill_set(1)]);
    assert!(matches!(hub.hub.watch(kill(LogIndex(9))), Err(TrackerError::NotApplied { .. })));
    hub.has(index).await;
    let mut watch = watch(&hub, index);
    assert_eq!(lagging(&mut watch), 2);
    for edge in &mut edges {
        edge.frame().await;
    }
    assert_eq!(lagging(&mut watch), 2, "sent isn't applied");
    edges[0].ack();
    edges[0].turn();
    assert_eq!(lagging(&mut watch), 1);
    assert_eq!(watch.lagging(9)[0].0.as_str(), "b");
    let before = EventSeq(edges[1].at.seq.0 - 1);
    edges[1].ack_events(before, LogIndex(u64::MAX));
    edges[1].turn();
    assert_eq!(lagging(&mut watch), 1, "who has no more than earlier events may name any index");
    let waiting = tokio::spawn(async move { watch.cleared().await });
    edges[1].ack();
    edges[1].turn();
    let cleared = waiting.await.unwrap().unwrap();
    assert_eq!((cleared.acked, cleared.fenced.len()), (2, 0));
}

#[tokio::test]
async fn a_closed_stream_is_waited_out_and_another_ones_ack_doesnt_help() {
    let hub = TestHub::start().await;
    let mut edge = hub.follow("a").await;
    edge.probe(1);
    edge.fresh().await;
    drop(edge);
    let index = hub.source.commit(&[kill_set(1)]);
    hub.has(index).await;
    let mut watch = watch(&hub, index);
    let mut again = hub.follow("a").await;
    again.ack();
    again.turn();
    assert_eq!((lagging(&mut watch), hub.hub.departed()), (1, 1));
    hub.clock.advance(Millis(fence(STALENESS, Drift::default()).0 - 1));
    assert_eq!(lagging(&mut watch), 1);
    hub.clock.advance(Millis(1));
    let cleared = watch.cleared().await.unwrap();
    assert_eq!((cleared.fenced[0].name.as_str(), cleared.fenced[0].why), ("a", FencedWhy::Gone));
}

#[tokio::test]
async fn a_silent_enforcer_is_waited_out_and_never_longer() {
    let hub = TestHub::start().await;
    let mut edge = hub.follow("a").await;
    edge.probe(1);
    edge.fresh().await;
    let index = hub.source.commit(&[kill_set(1)]);
    hub.has(index).await;
    let mut watch = watch(&hub, index);
    hub.clock.advance(fence(STALENESS, Drift::default()));
    let cleared = watch.cleared().await.unwrap();
    assert_eq!(cleared.fenced[0].why, FencedWhy::Silent);
}

#[tokio::test]
async fn a_relay_counts_only_if_it_is_trusted() {
    for (name, trusted) in [("trusted", true), ("untrusted", false)] {
        let hub = TestHub::start().await;
        let mut relay = admitted(name);
        (relay.kind, relay.trusted_for_acks) = (EnforcerKind::Relay, trusted);
        hub.source.register(relay);
        let mut stream = hub.try_connect(name).unwrap();
        stream.hello(Incarnation(1), hub.source.chain());
        stream.welcome().await;
        stream.probe(1);
        stream.fresh().await;
        let index = hub.source.commit(&[kill_set(1)]);
        stream.frame().await;
        let mut watch = watch(&hub, index);
        stream.ack();
        stream.turn();
        if trusted {
            assert_eq!(watch.cleared().await.unwrap().acked, 1);
        } else {
            assert_eq!(lagging(&mut watch), 1);
            hub.clock.advance(fence(STALENESS, Drift::default()));
            assert_eq!(watch.cleared().await.unwrap().fenced[0].why, FencedWhy::Untrusted);
        }
    }
}

#[tokio::test]
async fn an_answer_below_a_kill_that_is_clear_is_never_sent() {
    let hub = TestHub::start().await;
    let mut edge = hub.follow("a").await;
    edge.probe(1);
    edge.turn();
    wait_for("the answer is there", || hub.hub.counters().probes_answered == 1).await;
    // The stream isn't read now, so the answer waits for it while a kill comes and is clear: nobody has a lease.
    let index = hub.source.commit(&[kill_set(1)]);
    hub.has(index).await;
    assert!(matches!(watch(&hub, index).look().unwrap(), Clear::Cleared(_)));
    assert!(edge.frame().await.stops);
    assert!(edge.is_quiet());
    assert_eq!(hub.hub.counters().answers_discarded, 1);
    edge.probe(2);
    let fresh = edge.fresh().await;
    assert_eq!((fresh.index, fresh.nonce), (index.0, vec![2; 32]));
}

#[tokio::test]
async fn a_lease_is_known_before_its_answer_can_be_read() {
    let hub = TestHub::start().await;
    let mut edge = hub.follow("a").await;
    edge.probe(1);
    wait_for_answer(&mut edge).await;
    // Written, read by nobody yet: from here on it may permit.
    let index = hub.source.commit(&[kill_set(1)]);
    hub.has(index).await;
    assert_eq!(lagging(&mut watch(&hub, index)), 1);
}

async fn wait_for_answer(edge: &mut TestEdge) {
    while !edge.waiting().iter().any(|said| matches!(said, Said::Fresh(_))) {
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_loosened_staleness_counts_before_anything_can_rest_on_it() {
    let hub = TestHub::start().await;
    let mut edge = hub.follow("a").await;
    edge.probe(1);
    edge.fresh().await;
    hub.source.set_staleness(Millis(60_000));
    hub.source.commit(&[fleet_set()]);
    edge.probe(2);
    edge.fresh().await;
    let lease = hub.hub.edges()[0].lease.unwrap();
    assert!(lease > Millis(60_000), "{lease}");
}

#[tokio::test]
async fn nothing_is_clear_before_the_boot_wait_has_passed() {
    let source = FakeSource::new();
    let young = TestHub::start_young(source.clone()).await;
    let index = source.commit(&[kill_set(1)]);
    young.has(index).await;
    let mut watch = watch(&young, index);
    assert_eq!(lagging(&mut watch), 0);
    assert_eq!(young.hub.settled(&[None]), None);
    young.clock.advance(fence(STALENESS, Drift::default()));
    assert_eq!(watch.cleared().await.unwrap().acked, 0);
    assert_eq!(young.hub.settled(&[None]), Some(index));
}

#[tokio::test]
async fn a_relay_settles_what_everything_below_it_has() {
    let hub = TestHub::start().await;
    let mut edge = hub.follow("a").await;
    edge.probe(1);
    let fresh = edge.fresh().await;
    let index = hub.source.commit(&[kill_set(1)]);
    hub.has(index).await;
    assert_eq!(hub.hub.settled(&[None]), Some(LogIndex(fresh.index)));
    edge.frame().await;
    edge.ack();
    edge.turn();
    assert_eq!(hub.hub.settled(&[None]), Some(index));
}

#[tokio::test]
async fn a_statement_whose_events_never_come_isnt_handed_on() {
    let hub = TestHub::start_impatient().await;
    let mut edge = hub.connect("a");
    edge.hello(Incarnation(1), hub.source.chain());
    edge.welcome().await;
    hub.source.lie_about(ChainPosition { seq: EventSeq(40), head: Digest([4; 32]) });
    edge.probe(1);
    edge.turn();
    wait_for("the probe is given up", || hub.hub.counters().probes_unanswered == 1).await;
    assert!(edge.is_quiet());
}

#[tokio::test]
async fn a_statement_about_another_chain_isnt_handed_on() {
    let hub = TestHub::start().await;
    let mut edge = hub.follow("a").await;
    hub.source.lie_about(ChainPosition { seq: EventSeq(0), head: Digest([4; 32]) });
    edge.probe(1);
    edge.turn();
    wait_for("the probe is given up", || hub.hub.counters().probes_unanswered == 1).await;
    assert!(edge.is_quiet());
}

#[tokio::test]
async fn an_index_without_events_is_reached_by_a_statement() {
    let hub = TestHub::start().await;
    let mut edge = hub.follow("a").await;
    let index = hub.source.commit(&[]);
    edge.probe(1);
    assert_eq!(edge.fresh().await.index, index.0);
    edge.ack();
    edge.turn();
    assert_eq!(hub.hub.edges()[0].acked, index);
}
