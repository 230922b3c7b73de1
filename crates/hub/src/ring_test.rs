//! The ring on its own: what is coalesced, shared, forgotten and refused.

#![allow(clippy::unwrap_used, clippy::panic)]
use haltline_core::{
    event::{EnforcementEvent, KillForce},
    ids::KillId,
    path::AgentPath,
    selector::Selector,
    text::Labels,
};
use haltline_wire::v1::hub_message::Message as Said;

use super::*;

/// Makes entries one after the other, as a feed does.
struct Log {
    index: u64,
    chain: ChainPosition,
}

impl Log {
    fn new() -> Self {
        Self { index: 0, chain: ChainPosition::default() }
    }

    fn entry(&mut self, events: &[EnforcementEvent]) -> Entry {
        self.index += 1;
        for event in events {
            self.chain = self.chain.after(event);
        }
        Entry::new(LogIndex(self.index), events, self.chain)
    }

    fn agents(&mut self, count: usize) -> Entry {
        let events: Vec<_> = (0..count).map(agent).collect();
        self.entry(&events)
    }
}

#[test]
fn a_position_covers_the_entries_before_the_next_event() {
    let mut log = Log::new();
    let mut ring = Ring::starting(Incarnation(0), LogIndex(0), log.chain);
    assert_eq!(ring.covered(EventSeq(0)), LogIndex(0));
    ring.append(&[log.entry(&[]), log.agents(2)]).unwrap();
    ring.append(&[log.agents(1)]).unwrap();
    ring.append(&[log.entry(&[])]).unwrap();
    let covered = [0, 1, 2, 3, 9].map(|seq| ring.covered(EventSeq(seq)).0);
    assert_eq!(covered, [0, 0, 2, 4, 4]);
}

fn agent(number: usize) -> EnforcementEvent {
    let path: AgentPath = format!("acme/fleet/agent-{number}").parse().unwrap();
    EnforcementEvent::AgentSet { path, labels: Labels::none() }
}

fn kill(number: u64) -> EnforcementEvent {
    EnforcementEvent::KillSet {
        kill: KillId(number),
        selector: Selector::default(),
        force: KillForce::Denying,
    }
}

fn ring() -> Ring {
    Ring::starting(Incarnation(1), LogIndex(0), ChainPosition::default())
}

fn frame(run: &Run) -> v1::Frame {
    match v1::HubMessage::decode(&run.bytes[framing::PREFIX_BYTES..]).unwrap().message {
        Some(Said::Frame(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

/// Follows from a position to the end, checking the chain; returns the frames.
fn follow(ring: &mut Ring, mut at: ChainPosition) -> Vec<v1::Frame> {
    let mut frames = Vec::new();
    while let Some(run) = ring.run(at, EventSeq(u64::MAX), || Millis(0)).unwrap() {
        let frame = frame(&run);
        assert_eq!(frame.first_event_seq, at.seq.0);
        for event in &frame.events {
            at = at.after_bytes(event);
        }
        assert_eq!((at, frame.chain_head.as_ref()), (run.to, at.head.0.as_slice()));
        frames.push(frame);
    }
    assert_eq!(at, ring.latest());
    frames
}

#[test]
fn what_waits_goes_out_in_one_frame_from_wherever_a_stream_stands() {
    let (mut ring, mut log) = (ring(), Log::new());
    let mut positions = vec![ChainPosition::default()];
    for events in [1, 0, 3, 2] {
        let entry = log.agents(events);
        let mut at = *positions.last().unwrap();
        for event in &entry.events {
            at = at.after_bytes(event);
            positions.push(at);
        }
        ring.append(&[entry]).unwrap();
    }
    ring.append(&[log.entry(&[kill(1)])]).unwrap();
    for at in positions {
        let frames = follow(&mut ring, at);
        assert_eq!(frames.len(), 1);
        assert!(frames[0].stops, "the kill at the end is in it");
        assert_eq!(frames[0].index, 5);
        assert_eq!(frames[0].events.len() as u64, 7 - at.seq.0);
    }
}

#[test]
fn streams_that_stand_at_the_same_place_share_the_same_bytes() {
    let (mut ring, mut log) = (ring(), Log::new());
    ring.append(&[log.agents(2)]).unwrap();
    ring.append(&[log.agents(2)]).unwrap();
    let run = |ring: &mut Ring| {
        ring.run(ChainPosition::default(), EventSeq(u64::MAX), || Millis(0)).unwrap().unwrap()
    };
    let (one, two) = (run(&mut ring), run(&mut ring));
    assert_eq!(one.bytes.as_ptr(), two.bytes.as_ptr());
    for _ in 0..2 * HUB_ENCODED_RUNS_MAX {
        ring.append(&[log.agents(1)]).unwrap();
        run(&mut ring);
    }
    assert_eq!(ring.encoded.len(), HUB_ENCODED_RUNS_MAX);
}

#[test]
fn a_run_ends_where_it_was_asked_to_or_with_the_entry_that_contains_it() {
    let (mut ring, mut log) = (ring(), Log::new());
    ring.append(&[log.agents(2), log.agents(2)]).unwrap();
    ring.append(&[log.agents(2)]).unwrap();
    let start = ChainPosition::default();
    assert_eq!(ring.run(start, EventSeq(1), || Millis(0)).unwrap().unwrap().to.seq, EventSeq(4));
    assert!(ring.run(start, EventSeq(0), || Millis(0)).unwrap().is_none());
    assert_eq!(ring.run(start, EventSeq(5), || Millis(0)).unwrap().unwrap().to.seq, EventSeq(6));
}

#[test]
fn frames_have_a_bound_and_name_complete_entries_only() {
    let (mut ring, mut log) = (ring(), Log::new());
    let many = HUB_FRAME_BYTES_MAX / 20;
    ring.append(&[log.agents(1), log.agents(many), log.agents(1)]).unwrap();
    let frames = follow(&mut ring, ChainPosition::default());
    assert!(frames.len() > 1, "{many} agents need more than one frame");
    assert!(frames.iter().all(|frame| frame.encoded_len() <= HUB_FRAME_BYTES_MAX + 128));
    assert_eq!(frames[0].index, 1, "the second entry isn't complete in the first frame");
    assert_eq!(frames.last().unwrap().index, 3);
}

#[test]
fn the_ring_forgets_the_oldest_and_says_so() {
    let (mut ring, mut log) = (ring(), Log::new());
    let first = log.agents(10);
    let after_first = first.chain;
    ring.append(&[first]).unwrap();
    while ring.floor() == ChainPosition::default() {
        ring.append(&[log.agents(1_000)]).unwrap();
    }
    let (events, bytes, _) = ring.held();
    assert!(events <= HUB_RING_EVENTS_MAX && bytes <= HUB_RING_BYTES_MAX);
    assert_eq!(ring.check(ChainPosition::default()), Err(Unfollowable::TooFarBehind));
    assert_eq!(ring.run(after_first, EventSeq(u64::MAX), || Millis(0)).map(|_| ()), ring.check(after_first));
    let floor = ring.floor();
    follow(&mut ring, floor);
}

#[test]
fn positions_are_told_apart_by_their_heads() {
    let (mut ring, mut log) = (ring(), Log::new());
    ring.append(&[log.agents(3)]).unwrap();
    let here = ring.latest();
    let elsewhere = ChainPosition { head: Digest([9; 32]), ..here };
    let ahead = ChainPosition { seq: EventSeq(4), ..here };
    let one = Incarnation(1);
    assert_eq!(ring.admit(one, here), Ok(()));
    assert_eq!(ring.admit(one, elsewhere), Err(Unfollowable::OtherChain));
    assert_eq!(ring.admit(one, ahead), Err(Unfollowable::AheadOfHub));
    assert_eq!(ring.admit(Incarnation(2), here), Err(Unfollowable::OtherIncarnation));
    assert_eq!(ring.admit(Incarnation(0), ChainPosition::default()), Ok(()), "from the first event on");
    let middle = ChainPosition { seq: EventSeq(1), head: Digest([9; 32]) };
    assert_eq!(ring.admit(one, middle), Err(Unfollowable::OtherChain));
}

#[test]
fn a_feed_that_contradicts_its_chain_is_found_out() {
    let (mut ring, mut log) = (ring(), Log::new());
    let mut entry = log.agents(2);
    entry.events.pop();
    assert!(ring.append(&[entry]).is_err());
}
