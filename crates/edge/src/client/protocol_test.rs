//! What the protocol believes, and what it refuses with which word. After every refusal nothing more is permitted than
//! before.

#![allow(clippy::unwrap_used, clippy::panic)]

use haltline_core::{
    command::EnforcerKind,
    event::EdgePolicy,
    ids::{KeyHash, Nonce},
    limits::{EVENTS_UNVERIFIED_MAX, PROBES_OUTSTANDING_MAX},
};
use haltline_pki::StatementSigner;
use sha2::Digest as _;

use super::*;
use crate::client::fake_hub::{
    Act, EDGE, FakeHub, Signer, Witness, bundle, bundle_change, hub_message, kill_lifted, kill_set, node,
    node_keys,
};
use v1::hub_message::Message;

const L: Millis = Millis(2_000);

type Alter = fn(&mut v1::Fresh);

/// An enforcer, its decision engine, its clock and its randomness.
struct Edge {
    protocol: Protocol,
    witness: Witness,
    now: u64,
    nonces: u8,
}

fn remembered() -> Remembered {
    Remembered { trust: Trust::enrolled(&bundle()), mark: None, snapshot: None, ignored: vec![] }
}

impl Edge {
    fn new() -> Self {
        Self::from(remembered())
    }

    fn from(remembered: Remembered) -> Self {
        let witness = Witness::default();
        let (protocol, aside) = Protocol::new(EDGE.parse().unwrap(), remembered, &witness);
        assert_eq!(aside, None);
        Self { protocol, witness, now: 1_000_000_000, nonces: 0 }
    }

    /// Connected to a hub that goes on from where the enforcer stands.
    fn synced(hub: &FakeHub) -> Self {
        let mut edge = Self::new();
        edge.join(hub).unwrap();
        edge
    }

    fn open(&mut self) -> v1::Hello {
        self.protocol.opened(Some(NodeId(1)), BootNanos(self.now), "0.1.0", "eu")
    }

    /// Opens a stream and takes all that the hub has.
    fn join(&mut self, hub: &FakeHub) -> Result<Vec<Effect>, SyncRefusal> {
        let hello = self.open();
        self.take(hub.welcome())?;
        self.frame(hub.frame_after(EventSeq(hello.event_seq)))
    }

    fn take(&mut self, message: v1::HubMessage) -> Result<Vec<Effect>, SyncRefusal> {
        let message = FromHub::read(message)?;
        self.protocol.received(message, BootNanos(self.now), &self.witness)
    }

    fn frame(&mut self, frame: v1::Frame) -> Result<Vec<Effect>, SyncRefusal> {
        self.take(hub_message(Message::Frame(frame)))
    }

    fn fresh(&mut self, fresh: v1::Fresh) -> Result<Vec<Effect>, SyncRefusal> {
        self.take(hub_message(Message::Fresh(fresh)))
    }

    fn needs_snapshot(
        &mut self,
        reason: v1::snapshot_needed::Reason,
        index: u64,
    ) -> Result<Vec<Effect>, SyncRefusal> {
        self.take(hub_message(Message::SnapshotNeeded(v1::SnapshotNeeded { reason: reason.into(), index })))
    }

    /// A second later, the next probe.
    fn probe(&mut self) -> v1::Probe {
        self.now += 1_000_000_000;
        self.nonces += 1;
        let random = Probe { nonce: Nonce([self.nonces; 32]), jitter: 0 };
        self.protocol.probe(BootNanos(self.now), || random, L).expect("a second is more than the interval")
    }

    /// Asks, and takes an honest answer.
    fn renew(&mut self, hub: &FakeHub) -> Result<Vec<Effect>, SyncRefusal> {
        let probe = self.probe();
        self.fresh(hub.fresh(&probe))
    }

    fn permits(&self) -> bool {
        self.witness.permits(BootNanos(self.now))
    }

    /// The lease has ended: whatever came since it was refused.
    fn permits_nothing_later(&self) {
        assert!(!self.witness.permits(BootNanos(self.now + 2_000_000_000)), "{:?}", self.witness.lease());
    }
}

fn code(result: Result<Vec<Effect>, SyncRefusal>) -> &'static str {
    result.expect_err("refused").code()
}

#[test]
fn frames_act_at_once_and_a_fresh_confirms_then_leases() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    assert!(!edge.permits());
    assert_eq!(edge.witness.take(), [Act::Provisional(1, LogIndex(1))]);
    edge.renew(&hub).unwrap();
    let sent = BootNanos(edge.now);
    let cluster_time = haltline_core::time::ClusterTime(1_000);
    let leased = Act::Leased(FreshLease { fresh_from: sent, index: LogIndex(1), cluster_time });
    assert_eq!(edge.witness.take(), [Act::Confirmed(LogIndex(1), EventSeq(1)), leased]);
    assert!(edge.permits());

    // Entries without events move the index alone.
    hub.commit(&[]);
    let effects = edge.renew(&hub).unwrap();
    assert!(effects.contains(&Effect::Acknowledge { index: LogIndex(2), event_seq: EventSeq(1) }));
    assert_eq!(edge.protocol.mark().index, LogIndex(2));
}

#[test]
fn a_lease_counts_from_when_its_probe_was_sent_not_from_its_answer() {
    let hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let probe = edge.probe();
    let sent = edge.now;
    edge.now += 1_500_000_000;
    edge.fresh(hub.fresh(&probe)).unwrap();
    assert_eq!(edge.witness.lease().unwrap().fresh_from, BootNanos(sent));
}

#[test]
fn a_tampered_frame_is_refused_and_nothing_of_it_acts() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    edge.renew(&hub).unwrap();
    edge.witness.take();
    hub.commit(&[kill_set(1), kill_set(2)]);
    let good = hub.frame_after(EventSeq(1));

    let mut tampered = good.clone();
    let mut bytes = tampered.events[1].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    tampered.events[1] = bytes.into();
    assert_eq!(code(edge.frame(tampered)), "WRONG_HEAD");

    let mut dropped = good.clone();
    dropped.events.pop();
    assert_eq!(code(edge.frame(dropped)), "WRONG_HEAD");

    let mut swapped = good.clone();
    swapped.events.swap(0, 1);
    assert_eq!(code(edge.frame(swapped)), "WRONG_HEAD");

    let gap = v1::Frame { first_event_seq: 2, ..good.clone() };
    assert_eq!(code(edge.frame(gap)), "GAP");
    let overlap = v1::Frame { first_event_seq: 0, ..good.clone() };
    assert_eq!(code(edge.frame(overlap)), "OVERLAP");
    let back = v1::Frame { index: 0, ..good.clone() };
    assert_eq!(code(edge.frame(back)), "INDEX_BACK");

    assert_eq!(edge.witness.take(), [], "nothing of them acted");
    edge.frame(good).unwrap();
    edge.permits_nothing_later();
}

#[test]
fn an_unreadable_event_is_refused_although_its_chain_holds() {
    let hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let unknown = bytes::Bytes::from_static(&[250, 1, 2]);
    let head = hub.position().after_bytes(&unknown).head.0.to_vec().into();
    let frame = v1::Frame {
        index: 2,
        first_event_seq: 1,
        events: vec![unknown],
        chain_head: head,
        ..v1::Frame::default()
    };
    assert_eq!(code(edge.frame(frame)), "UNREADABLE_EVENT");
    edge.permits_nothing_later();
}

#[test]
fn permissions_in_a_frame_wait_for_a_statement_and_the_mark_too() {
    let mut hub = FakeHub::founded(1);
    hub.commit(&[kill_set(1)]);
    let mut edge = Edge::synced(&hub);
    edge.renew(&hub).unwrap();
    edge.witness.take();
    let mark = edge.protocol.mark();

    hub.commit(&[kill_lifted(1)]);
    edge.frame(hub.frame_after(EventSeq(2))).unwrap();
    assert_eq!(edge.witness.take(), [Act::Provisional(1, LogIndex(3))], "provisional alone");
    assert_eq!(edge.protocol.mark(), mark);
    assert_eq!(edge.witness.positions().unverified, 1, "the engine holds it back");

    edge.renew(&hub).unwrap();
    assert_eq!(edge.witness.take()[0], Act::Confirmed(LogIndex(3), EventSeq(3)));
    assert_eq!(edge.protocol.mark().index, LogIndex(3));
}

#[test]
fn a_fresh_signed_by_a_forged_or_unknown_key_is_refused() {
    let hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let forger = StatementSigner::generate().unwrap();
    for (claimed, expected) in [(1, "BAD_SIGNATURE"), (9, "UNKNOWN_KEY")] {
        let probe = edge.probe();
        let signer = Signer { node: NodeId(claimed), key: &forger };
        assert_eq!(code(edge.fresh(hub.fresh_by(signer, &probe, EDGE))), expected);
    }
    let probe = edge.probe();
    let as_another = Signer { node: NodeId(2), key: node(1).key };
    assert_eq!(code(edge.fresh(hub.fresh_by(as_another, &probe, EDGE))), "BAD_SIGNATURE");
    assert_eq!(edge.witness.lease(), None);
}

#[test]
fn every_field_of_a_fresh_is_under_its_signature() {
    let mut hub = FakeHub::founded(1);
    hub.commit(&[kill_set(1)]);
    let mut edge = Edge::synced(&hub);
    let alter: [(&str, Alter); 8] = [
        ("index", |fresh| fresh.index += 1),
        ("event_seq", |fresh| fresh.event_seq -= 1),
        ("chain_head", |fresh| fresh.chain_head[0] ^= 1),
        ("cluster_time", |fresh| fresh.cluster_time_ms += 1),
        ("node", |fresh| fresh.node = 2),
        ("position", |fresh| fresh.layers[0].position = 0),
        ("path", |fresh| fresh.layers[0].path[0] ^= 1),
        ("signature", |fresh| fresh.signature[0] ^= 1),
    ];
    for (field, alter) in alter {
        let probe = edge.probe();
        let mut fresh = hub.fresh(&probe);
        alter(&mut fresh);
        assert!(edge.fresh(fresh).is_err(), "{field}");
        assert_eq!(edge.witness.lease(), None, "{field}");
    }
    edge.renew(&hub).unwrap();
    assert!(edge.permits());
}

#[test]
fn a_replayed_fresh_and_an_unknown_nonce_are_refused() {
    let hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let probe = edge.probe();
    let fresh = hub.fresh(&probe);
    edge.fresh(fresh.clone()).unwrap();
    assert_eq!(code(edge.fresh(fresh)), "UNKNOWN_NONCE");

    let never_sent = v1::Probe { sequence: 1, nonce: vec![99; 32] };
    assert_eq!(code(edge.fresh(hub.fresh(&never_sent))), "UNKNOWN_NONCE");

    // A probe of an earlier stream counts for nothing on the next.
    let unanswered = edge.probe();
    edge.protocol.closed(None);
    edge.open();
    edge.take(hub.welcome()).unwrap();
    assert_eq!(code(edge.fresh(hub.fresh(&unanswered))), "UNKNOWN_NONCE");
    edge.permits_nothing_later();
}

#[test]
fn a_fresh_for_somebody_else_is_refused() {
    let hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let probe = edge.probe();
    let for_another = hub.fresh_by(node(1), &probe, "edge-2");
    assert_eq!(code(edge.fresh(for_another.clone())), "WRONG_NAME");
    let mut renamed = for_another;
    renamed.layers[0].name = EDGE.into();
    assert_eq!(code(edge.fresh(renamed)), "BAD_SIGNATURE");
    assert_eq!(edge.witness.lease(), None);
}

#[test]
fn a_statement_below_the_mark_or_off_the_chain_is_refused() {
    let mut hub = FakeHub::founded(1);
    let behind = hub.clone();
    hub.commit(&[kill_set(1)]);
    let mut edge = Edge::synced(&hub);
    edge.renew(&hub).unwrap();
    let mark = edge.protocol.mark();

    let probe = edge.probe();
    assert_eq!(code(edge.fresh(behind.fresh(&probe))), "BELOW_MARK");

    let mut fork = behind;
    fork.commit(&[kill_set(2)]);
    let probe = edge.probe();
    assert_eq!(code(edge.fresh(fork.fresh(&probe))), "CHAIN_MISMATCH");

    fork.commit(&[kill_set(3)]);
    let probe = edge.probe();
    assert_eq!(code(edge.fresh(fork.fresh(&probe))), "CHAIN_AHEAD");
    assert_eq!(edge.protocol.mark(), mark);
    edge.permits_nothing_later();
}

#[test]
fn a_fresh_is_compared_at_its_own_event_not_at_the_latest() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let probe = edge.probe();
    let answer = hub.fresh(&probe);
    hub.commit(&[kill_set(1)]);
    edge.frame(hub.frame_after(EventSeq(1))).unwrap();
    edge.fresh(answer).unwrap();
    assert_eq!(edge.protocol.mark().event_seq, EventSeq(1));
    assert_eq!(edge.protocol.held().position.seq, EventSeq(2));
}

#[test]
fn events_that_were_made_up_never_pass_a_fresh() {
    let hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    edge.renew(&hub).unwrap();
    // A hub extends the chain on its own. What denies acts, which is safe; the honest statement doesn't fit it any more.
    let mut liar = hub.clone();
    liar.commit(&[kill_lifted(1), kill_set(9)]);
    edge.frame(liar.frame_after(EventSeq(1))).unwrap();
    let mut honest = hub;
    honest.commit(&[kill_set(1)]);
    honest.commit(&[kill_set(2)]);
    let probe = edge.probe();
    let refusal = edge.fresh(honest.fresh(&probe)).unwrap_err();
    assert_eq!(refusal.code(), "CHAIN_MISMATCH");
    edge.permits_nothing_later();
    // The next stream begins after a snapshot.
    edge.protocol.closed(Some(&refusal));
    assert!(edge.protocol.must_start_over());
    edge.protocol.install(&honest.snapshot(), &edge.witness).unwrap();
    assert!(!edge.protocol.must_start_over());
    edge.join(&honest).unwrap();
    edge.renew(&honest).unwrap();
    assert!(edge.permits());
}

#[test]
fn another_cluster_is_refused() {
    let hub = FakeHub::founded(1);
    let mut stranger = hub.clone();
    stranger.cluster = ClusterId([9; 16]);
    let mut edge = Edge::new();
    edge.open();
    assert_eq!(code(edge.take(stranger.welcome())), "WRONG_CLUSTER");
    // One that says it is ours can't sign as ours.
    let mut edge = Edge::synced(&hub);
    let probe = edge.probe();
    assert_eq!(code(edge.fresh(stranger.fresh(&probe))), "BAD_SIGNATURE");
    assert_eq!(code(edge.protocol.install(&stranger.snapshot(), &edge.witness)), "WRONG_CLUSTER");
    let mut relabelled = stranger.snapshot();
    relabelled.statement.cluster_id = hub.cluster;
    assert_eq!(code(edge.protocol.install(&relabelled, &edge.witness)), "BAD_SIGNATURE");
    assert_eq!(edge.witness.lease(), None);
}

#[test]
fn an_older_incarnation_is_refused_and_a_newer_one_needs_a_snapshot() {
    let older = FakeHub::founded(1);
    let mut edge = Edge::synced(&older);
    edge.renew(&older).unwrap();

    let newer = FakeHub::founded(2);
    edge.open();
    assert_eq!(edge.take(newer.welcome()).unwrap(), [Effect::FetchSnapshot]);
    edge.protocol.install(&newer.snapshot(), &edge.witness).unwrap();
    assert!(!edge.permits(), "the lease of the old incarnation ended");
    edge.join(&newer).unwrap();
    edge.renew(&newer).unwrap();
    assert_eq!(edge.protocol.mark().incarnation, Incarnation(2));

    edge.open();
    assert_eq!(code(edge.take(older.welcome())), "OLDER_INCARNATION");
    assert_eq!(code(edge.protocol.install(&older.snapshot(), &edge.witness)), "WRONG_INCARNATION");
    let probe = {
        edge.join(&newer).unwrap();
        edge.probe()
    };
    assert_eq!(code(edge.fresh(older.fresh(&probe))), "BAD_SIGNATURE");
    edge.permits_nothing_later();
}

#[test]
fn a_tampered_snapshot_is_refused_and_changes_nothing() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    edge.renew(&hub).unwrap();
    edge.witness.take();
    let below = FakeHub::founded(1);
    hub.commit(&[kill_set(1)]);
    edge.frame(hub.frame_after(EventSeq(1))).unwrap();
    edge.renew(&hub).unwrap();
    edge.witness.take();
    let (held, mark) = (edge.protocol.held(), edge.protocol.mark());
    hub.commit(&[kill_set(2)]);
    let good = hub.snapshot();
    let forger = StatementSigner::generate().unwrap();

    let mut body = good.clone();
    *body.body.last_mut().unwrap() ^= 1;
    let mut index = good.clone();
    index.statement.index = LogIndex(99);
    let mut other_view = hub.clone();
    other_view.view.kills.clear();
    let mut other_place = hub.clone();
    other_place.view.position.seq = EventSeq(7);
    let mut not_a_view = good.clone();
    not_a_view.body = b"nothing".to_vec();
    let forged = hub.snapshot_by(Signer { node: NodeId(1), key: &forger });
    let unknown = hub.snapshot_by(Signer { node: NodeId(9), key: &forger });
    for (snapshot, expected) in [
        (body, "OTHER_BODY"),
        (index, "BAD_SIGNATURE"),
        (not_a_view, "OTHER_BODY"),
        (forged, "BAD_SIGNATURE"),
        (unknown, "UNKNOWN_KEY"),
        (below.snapshot(), "BELOW_MARK"),
    ] {
        assert_eq!(code(edge.protocol.install(&snapshot, &edge.witness)), expected);
    }
    assert_eq!((edge.protocol.held(), edge.protocol.mark()), (held, mark));
    assert_eq!(edge.witness.take(), []);
    edge.permits_nothing_later();
    edge.protocol.install(&good, &edge.witness).unwrap();
    assert_eq!(edge.protocol.held().index, hub.index);
}

#[test]
fn a_snapshot_whose_body_isnt_what_its_statement_says_is_refused() {
    let hub = FakeHub::founded(1);
    let mut edge = Edge::new();
    let mut moved = hub.clone();
    moved.commit(&[kill_set(1)]);
    // Signed by an honest key, by a node that mixed two positions up.
    let mut mixed = moved.snapshot();
    mixed.body = hub.view.encode();
    mixed.statement.body_sha256 = haltline_core::ids::Digest(sha2::Sha256::digest(&mixed.body).into());
    mixed.signature = haltline_core::command::Signature(node(1).key.sign(&mixed.statement.to_bytes()));
    assert_eq!(code(edge.protocol.install(&mixed, &edge.witness)), "SNAPSHOT_CONTENT");
    assert_eq!(edge.witness.take(), []);
}

#[test]
fn the_view_never_goes_back_under_a_lease() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    edge.renew(&hub).unwrap();
    let lagging = hub.clone();
    hub.commit(&[kill_set(1)]);
    edge.frame(hub.frame_after(EventSeq(1))).unwrap();
    assert!(edge.protocol.applied(LogIndex(2), EventSeq(2)).is_some(), "the kill is acknowledged");
    let early = edge.probe();
    edge.witness.take();

    edge.protocol.closed(None);
    edge.protocol.start_over();
    edge.protocol.install(&lagging.snapshot(), &edge.witness).unwrap();
    assert_eq!(edge.witness.take(), [Act::Installed(LogIndex(1))]);
    assert!(!edge.permits(), "the lease ended");
    edge.join(&lagging).unwrap();
    assert_eq!(
        code(edge.fresh(lagging.fresh(&early))),
        "UNKNOWN_NONCE",
        "probes from before count for nothing"
    );
}

#[test]
fn a_snapshot_further_on_ends_the_lease_until_the_next_answer() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    edge.renew(&hub).unwrap();
    hub.commit(&[kill_set(1)]);
    edge.witness.take();
    let too_far = v1::snapshot_needed::Reason::TooFarBehind;
    assert_eq!(edge.needs_snapshot(too_far, 2).unwrap(), [Effect::FetchSnapshot]);
    edge.protocol.closed(None);
    edge.protocol.install(&hub.snapshot(), &edge.witness).unwrap();
    assert_eq!(edge.witness.take(), [Act::Installed(LogIndex(2))]);
    assert!(!edge.permits());
    edge.join(&hub).unwrap();
    edge.renew(&hub).unwrap();
    assert!(edge.permits());
}

#[test]
fn more_than_can_wait_for_a_statement_is_caught_up_by_a_snapshot() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let many: Vec<_> = (0..=EVENTS_UNVERIFIED_MAX as u64).map(kill_lifted).collect();
    hub.commit(&many);
    let held = edge.protocol.held();
    assert_eq!(edge.frame(hub.frame_after(EventSeq(1))).unwrap(), [Effect::FetchSnapshot]);
    assert_eq!(edge.protocol.held(), held, "nothing of it was taken");
    edge.protocol.closed(None);
    edge.protocol.install(&hub.snapshot(), &edge.witness).unwrap();
    edge.join(&hub).unwrap();
    edge.renew(&hub).unwrap();
    assert!(edge.permits());
}

#[test]
fn a_hub_that_lags_is_left_and_not_followed_back() {
    let hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let refusal = edge.needs_snapshot(v1::snapshot_needed::Reason::AheadOfHub, 0).unwrap_err();
    assert_eq!(refusal.code(), "HUB_BEHIND");
    edge.protocol.closed(Some(&refusal));
    assert!(!edge.protocol.must_start_over(), "lagging isn't lying");
}

#[test]
fn a_lease_dies_with_its_process_and_the_mark_does_not() {
    let mut hub = FakeHub::founded(1);
    let behind = hub.clone();
    hub.commit(&[kill_set(1)]);
    let mut edge = Edge::synced(&hub);
    edge.renew(&hub).unwrap();
    let unanswered = edge.probe();
    assert!(edge.permits());

    let snapshot = Some(behind.snapshot());
    let kept = Remembered { mark: Some(edge.protocol.mark()), snapshot, ..remembered() };
    let mut restarted = Edge::from(kept);
    restarted.now = edge.now;
    assert_eq!(restarted.witness.lease(), None);
    assert_eq!(restarted.open().event_seq, 1, "it goes on from the cached snapshot");
    restarted.take(behind.welcome()).unwrap();
    assert_eq!(code(restarted.fresh(behind.fresh(&unanswered))), "UNKNOWN_NONCE");
    let probe = restarted.probe();
    assert_eq!(code(restarted.fresh(behind.fresh(&probe))), "BELOW_MARK", "the mark was kept");
    assert!(!restarted.permits());
    restarted.join(&hub).unwrap();
    restarted.renew(&hub).unwrap();
    assert!(restarted.permits());
}

#[test]
fn new_keys_count_once_a_majority_of_the_old_ones_and_a_statement_stand_behind_them() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let fresh_key = StatementSigner::generate().unwrap();
    let fourth = Signer { node: NodeId(4), key: &fresh_key };
    let keys = [&node_keys()[..2], &[(NodeId(4), fresh_key.public_key())]].concat();
    let change = bundle_change(1, 2, keys, &[node(1), node(3)]);
    let before = hub.clone();
    hub.commit(&[EnforcementEvent::TrustBundleSet(Box::new(change))]);
    edge.frame(hub.frame_after(EventSeq(1))).unwrap();

    let probe = edge.probe();
    assert_eq!(
        code(edge.fresh(before.fresh_by(fourth, &probe, EDGE))),
        "UNKNOWN_KEY",
        "a frame alone changes no key: this statement is of before the change"
    );
    assert_eq!(edge.witness.lease(), None);
    let probe = edge.probe();
    let effects = edge.fresh(hub.fresh_by(node(3), &probe, EDGE)).unwrap();
    assert!(effects.contains(&Effect::KeysChanged));
    let probe = edge.probe();
    edge.fresh(hub.fresh_by(fourth, &probe, EDGE)).unwrap();
    let probe = edge.probe();
    assert_eq!(code(edge.fresh(hub.fresh_by(node(3), &probe, EDGE))), "UNKNOWN_KEY", "the old key is gone");
}

#[test]
fn a_node_signs_with_its_new_key_from_the_change_on() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let new: Vec<_> = (1..=3).map(|_| StatementSigner::generate().unwrap()).collect();
    let keys = (1..=3).zip(&new).map(|(id, key)| (NodeId(id), key.public_key())).collect();
    let change = bundle_change(1, 2, keys, &[node(1), node(2)]);
    hub.commit(&[EnforcementEvent::TrustBundleSet(Box::new(change))]);
    edge.frame(hub.frame_after(EventSeq(1))).unwrap();
    let probe = edge.probe();
    let by_new = Signer { node: NodeId(1), key: &new[0] };
    let effects = edge.fresh(hub.fresh_by(by_new, &probe, EDGE)).unwrap();
    assert!(effects.contains(&Effect::KeysChanged), "all keys at once");
    assert!(edge.permits());
}

/// Every node's key is replaced twice, each time endorsed by the keys before.
fn all_replaced_twice(hub: &mut FakeHub) -> Vec<StatementSigner> {
    let new: Vec<_> = (0..6).map(|_| StatementSigner::generate().unwrap()).collect();
    let signers = |from: usize| -> Vec<Signer<'_>> {
        (1..=3).map(|id| Signer { node: NodeId(id), key: &new[from + id as usize - 1] }).collect()
    };
    let keys = |signers: &[Signer<'_>]| signers.iter().map(|by| (by.node, by.key.public_key())).collect();
    let first = bundle_change(1, 2, keys(&signers(0)), &[node(1), node(3)]);
    let second = bundle_change(1, 3, keys(&signers(3)), &signers(0)[..2]);
    hub.commit(&[EnforcementEvent::TrustBundleSet(Box::new(first))]);
    hub.commit(&[EnforcementEvent::TrustBundleSet(Box::new(second))]);
    new
}

#[test]
fn a_snapshot_proves_the_keys_by_which_it_is_signed() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    edge.renew(&hub).unwrap();
    let new = all_replaced_twice(&mut hub);
    let by_latest = Signer { node: NodeId(2), key: &new[4] };
    let effects = edge.protocol.install(&hub.snapshot_by(by_latest), &edge.witness).unwrap();
    assert!(effects.contains(&Effect::KeysChanged));
    assert_eq!(edge.protocol.trust().version(), haltline_core::ids::Version(3));
    assert_eq!(edge.protocol.trust().changes().len(), 2, "kept as their own proof");
    let probe = edge.probe();
    edge.fresh(hub.fresh_by(by_latest, &probe, EDGE)).unwrap();
    let probe = edge.probe();
    assert_eq!(code(edge.fresh(hub.fresh_by(node(2), &probe, EDGE))), "BAD_SIGNATURE", "an old key");
}

#[test]
fn a_snapshot_whose_keys_no_majority_of_those_before_endorsed_is_refused() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    edge.renew(&hub).unwrap();
    let held = (edge.protocol.held(), edge.protocol.trust().version());
    let thief: Vec<_> = (0..3).map(|_| StatementSigner::generate().unwrap()).collect();
    let signers: Vec<_> = (1..=3).zip(&thief).map(|(id, key)| Signer { node: NodeId(id), key }).collect();
    let keys: Vec<_> = signers.iter().map(|by| (by.node, by.key.public_key())).collect();
    for endorsers in [&signers[..], &[node(1), signers[1], signers[2]], &[]] {
        let mut forged = hub.clone();
        let change = bundle_change(1, 2, keys.clone(), endorsers);
        forged.commit(&[EnforcementEvent::TrustBundleSet(Box::new(change))]);
        let refused = edge.protocol.install(&forged.snapshot_by(signers[0]), &edge.witness);
        assert_eq!(code(refused), "TOO_FEW_ENDORSEMENTS");
    }
    // A true history under which somebody else signs.
    all_replaced_twice(&mut hub);
    let refused = edge.protocol.install(&hub.snapshot_by(signers[0]), &edge.witness);
    assert_eq!(code(refused), "BAD_SIGNATURE");
    assert_eq!((edge.protocol.held(), edge.protocol.trust().version()), held);
}

#[test]
fn a_snapshot_whose_history_begins_too_late_says_that_the_enforcer_must_be_enrolled_anew() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let new = StatementSigner::generate().unwrap();
    let by_new = Signer { node: NodeId(1), key: &new };
    let keys = vec![(NodeId(1), new.public_key())];
    let change = bundle_change(1, 3, keys, &[node(1), node(2)]);
    hub.commit(&[EnforcementEvent::TrustBundleSet(Box::new(change))]);
    let refused = edge.protocol.install(&hub.snapshot_by(by_new), &edge.witness);
    assert_eq!(code(refused), "BUNDLE_GAP");
}

#[test]
fn keys_that_only_new_or_too_few_old_keys_endorse_are_refused() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    edge.renew(&hub).unwrap();
    let (one, two) = (StatementSigner::generate().unwrap(), StatementSigner::generate().unwrap());
    let new = [Signer { node: NodeId(1), key: &one }, Signer { node: NodeId(2), key: &two }];
    let keys: Vec<_> = new.iter().map(|signer| (signer.node, signer.key.public_key())).collect();
    for endorsers in [&new[..], &[node(1)], &[node(1), node(1), new[0], new[1]], &[]] {
        let change = bundle_change(1, 2, keys.clone(), endorsers);
        let mut forged = hub.clone();
        forged.commit(&[EnforcementEvent::TrustBundleSet(Box::new(change))]);
        assert_eq!(code(edge.frame(forged.frame_after(EventSeq(1)))), "TOO_FEW_ENDORSEMENTS");
    }
    let of_another_incarnation = bundle_change(7, 2, keys, &[node(1), node(2), node(3)]);
    hub.commit(&[EnforcementEvent::TrustBundleSet(Box::new(of_another_incarnation))]);
    assert_eq!(code(edge.frame(hub.frame_after(EventSeq(1)))), "TOO_FEW_ENDORSEMENTS");
    let probe = edge.probe();
    assert_eq!(code(edge.fresh(FakeHub::founded(1).fresh_by(new[0], &probe, EDGE))), "BAD_SIGNATURE");
    edge.permits_nothing_later();
}

#[test]
fn a_version_of_the_bundle_that_was_missed_changes_no_key_and_stops_nothing() {
    let mut hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let stranger = StatementSigner::generate().unwrap();
    let keys = vec![(NodeId(5), stranger.public_key())];
    let change = bundle_change(1, 3, keys, &[Signer { node: NodeId(5), key: &stranger }]);
    hub.commit(&[EnforcementEvent::TrustBundleSet(Box::new(change))]);
    edge.frame(hub.frame_after(EventSeq(1))).unwrap();
    edge.renew(&hub).unwrap();
    assert!(edge.permits(), "the old keys go on");
    let probe = edge.probe();
    let by_stranger = Signer { node: NodeId(5), key: &stranger };
    assert_eq!(code(edge.fresh(hub.fresh_by(by_stranger, &probe, EDGE))), "UNKNOWN_KEY");
}

#[test]
fn messages_out_of_turn_or_out_of_form_are_refused() {
    let hub = FakeHub::founded(1);
    let mut edge = Edge::new();
    edge.open();
    assert_eq!(code(edge.frame(hub.frame_after(EventSeq(0)))), "OUT_OF_TURN");
    let probe = edge.probe();
    assert_eq!(code(edge.fresh(hub.fresh(&probe))), "OUT_OF_TURN");
    edge.take(hub.welcome()).unwrap();
    assert_eq!(code(edge.take(hub.welcome())), "OUT_OF_TURN");
    assert_eq!(edge.take(v1::HubMessage { message: None }).unwrap(), [], "a message of a later version");
    let short = v1::Fresh { nonce: vec![1; 31], ..hub.fresh(&probe) };
    assert_eq!(code(edge.fresh(short)), "MALFORMED");
    let no_layer = v1::Fresh { layers: vec![], ..hub.fresh(&probe) };
    assert_eq!(code(edge.fresh(no_layer)), "BAD_PROOF");
    let mut wrong_node = Edge::new();
    wrong_node.protocol.opened(Some(NodeId(2)), BootNanos(0), "", "");
    assert_eq!(code(wrong_node.take(hub.welcome())), "WRONG_NODE");
}

#[test]
fn probes_come_every_quarter_of_the_staleness_or_sooner_and_are_bounded() {
    let hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    for (staleness, jitter, nanos) in [
        (2_000, 0, 500_000_000),
        (2_000, u32::MAX, 437_500_000),
        (200, 0, 50_000_000),
        (300_000, 0, 10_000_000_000),
    ] {
        edge.now += 60_000_000_000;
        edge.nonces += 1;
        let random = Probe { nonce: Nonce([edge.nonces; 32]), jitter };
        let now = BootNanos(edge.now);
        edge.protocol.probe(now, || random, Millis(staleness)).unwrap();
        assert_eq!(edge.protocol.next_due(Millis(10_000_000)).unwrap().since(now), Nanos(nanos));
        assert!(edge.protocol.probe(now, || random, Millis(staleness)).is_none(), "not yet due");
    }
    edge.now += 60_000_000_000;
    let first = edge.probe();
    (0..PROBES_OUTSTANDING_MAX).for_each(|_| drop(edge.probe()));
    assert_eq!(code(edge.fresh(hub.fresh(&first))), "UNKNOWN_NONCE", "the oldest was forgotten");
}

#[test]
fn a_silent_hub_is_left_and_an_answering_one_is_not() {
    let hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let probe = edge.probe();
    let later = |edge: &Edge, millis: u64| BootNanos(edge.now + millis * 1_000_000);
    assert_eq!(edge.protocol.check_silence(later(&edge, 900), Millis(1_000)), Ok(()));
    let refusal = edge.protocol.check_silence(later(&edge, 1_001), Millis(1_000)).unwrap_err();
    assert_eq!(refusal.code(), "SILENT");
    edge.fresh(hub.fresh(&probe)).unwrap();
    assert_eq!(edge.protocol.check_silence(later(&edge, 999), Millis(1_000)), Ok(()));
}

#[test]
fn an_acknowledgement_is_sent_once_and_anew_on_every_stream() {
    let hub = FakeHub::founded(1);
    let mut edge = Edge::synced(&hub);
    let sent = edge.protocol.applied(LogIndex(1), EventSeq(1)).unwrap();
    assert_eq!((sent.index, sent.event_seq), (1, 1));
    assert!(edge.protocol.applied(LogIndex(1), EventSeq(1)).is_none());
    edge.protocol.closed(None);
    assert!(edge.protocol.applied(LogIndex(1), EventSeq(1)).is_none(), "there is nobody to tell");
    edge.open();
    let effects = edge.take(hub.welcome()).unwrap();
    // The index was that hub's word alone.
    assert_eq!(effects, [Effect::Acknowledge { index: LogIndex(0), event_seq: EventSeq(1) }]);
    assert!(edge.protocol.applied(LogIndex(0), EventSeq(1)).is_some());
}

/// A log in which this enforcer and others are registered.
fn with_relays() -> FakeHub {
    let record = |kind, path: &str| EdgePolicy {
        kind,
        key: KeyHash([1; 32]),
        paths: vec![(path != "/").then(|| path.parse().unwrap())],
        trusted_for_acks: true,
        fails_open: false,
    };
    let set = |name: &str, record| EnforcementEvent::EdgeSet { edge: name.parse().unwrap(), record };
    let mut hub = FakeHub::founded(1);
    hub.commit(&[
        set(EDGE, record(EnforcerKind::Edge, "acme")),
        set("relay-1", record(EnforcerKind::Relay, "acme")),
        set("relay-2", record(EnforcerKind::Relay, "/")),
        set("narrow", record(EnforcerKind::Relay, "acme/eu")),
        set("edge-2", record(EnforcerKind::Edge, "/")),
    ]);
    hub
}

#[test]
fn an_answer_counts_only_by_way_of_relays_that_are_waited_for_on_its_behalf() {
    let hub = with_relays();
    let by_way_of = |edge: &mut Edge, names: &[&str]| {
        let probe = edge.probe();
        edge.fresh(hub.fresh_by_way_of(node(1), &probe, names))
    };
    for names in [&[EDGE, "relay-1"][..], &[EDGE, "relay-1", "relay-2"]] {
        let mut edge = Edge::synced(&hub);
        by_way_of(&mut edge, names).unwrap();
        assert!(edge.permits(), "{names:?}");
    }
    let refused = [
        (&[EDGE, "narrow"][..], "BEYOND_RELAY"),
        (&[EDGE, "relay-1", "narrow"], "BEYOND_RELAY"),
        (&[EDGE, "relay-2", "relay-1"], "BEYOND_RELAY"),
        (&[EDGE, "edge-2"], "NO_RELAY"),
        (&[EDGE, "stranger", "relay-2"], "NO_RELAY"),
        (&["relay-1"], "WRONG_NAME"),
    ];
    for (names, expected) in refused {
        let mut edge = Edge::synced(&hub);
        let mark = edge.protocol.mark();
        assert_eq!(code(by_way_of(&mut edge, names)), expected, "{names:?}");
        assert!(!edge.permits(), "{names:?}");
        assert_eq!(edge.protocol.mark(), mark, "a refusal moves nothing: {names:?}");
    }
}

#[test]
fn a_relay_that_was_removed_renews_nothing_and_one_from_a_snapshot_does() {
    let mut hub = with_relays();
    let mut edge = Edge::new();
    edge.open();
    edge.protocol.install(&hub.snapshot(), &edge.witness).unwrap();
    edge.join(&hub).unwrap();
    let probe = edge.probe();
    edge.fresh(hub.fresh_by_way_of(node(1), &probe, &[EDGE, "relay-1"])).unwrap();
    let seq = hub.position().seq;
    hub.commit(&[EnforcementEvent::EdgeRemoved { edge: "relay-1".parse().unwrap() }]);
    edge.frame(hub.frame_after(seq)).unwrap();
    let probe = edge.probe();
    assert_eq!(code(edge.fresh(hub.fresh_by_way_of(node(1), &probe, &[EDGE, "relay-1"]))), "NO_RELAY");
    edge.permits_nothing_later();
}
