//! The events that a hub holds: one bounded ring for all its streams.
//!
//! A stream is a position on the chain and nothing more. What it misses is cut from the ring when it can be written,
//! several entries in one frame, encoded once for all streams that stand at the same place. A stream that the ring has
//! left behind is told so and starts from a snapshot; nothing grows for it.
//!
//! Positions are checked by the head of the chain, never by number alone: whoever followed another chain is found out.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use haltline_core::{
    LogIndex,
    event::ChainPosition,
    ids::{Digest, EventSeq, Incarnation},
    limits::{HUB_ENCODED_RUNS_MAX, HUB_FRAME_BYTES_MAX, HUB_RING_BYTES_MAX, HUB_RING_EVENTS_MAX},
    time::Millis,
};
use haltline_wire::v1;
use prost::Message as _;

use crate::{
    framing::{self, Part},
    upstream::{Entry, Urgency},
};

/// Events of entries that came together, encoded as elements of `Frame.events`.
#[derive(Debug)]
struct Segment {
    /// The chain before the first event.
    before: ChainPosition,
    /// The last entry whose events are complete here.
    index: LogIndex,
    encoded: Bytes,
    /// Where the encoding of each event ends.
    ends: Vec<u32>,
    /// The chain's head after each event.
    heads: Vec<Digest>,
    stops: bool,
}

impl Segment {
    fn last(&self) -> EventSeq {
        EventSeq(self.before.seq.0 + self.heads.len() as u64)
    }

    fn after(&self) -> ChainPosition {
        ChainPosition { seq: self.last(), head: self.heads.last().copied().unwrap_or(self.before.head) }
    }

    /// The head after so many events of the chain, which lie in this segment.
    fn head_at(&self, seq: EventSeq) -> Option<Digest> {
        match seq.0.checked_sub(self.before.seq.0)? {
            0 => Some(self.before.head),
            events => self.heads.get(usize::try_from(events).ok()? - 1).copied(),
        }
    }

    /// The encoded events after that position.
    fn encoded_after(&self, seq: EventSeq) -> &[u8] {
        let skipped = usize::try_from(seq.0.saturating_sub(self.before.seq.0)).unwrap_or(usize::MAX);
        let start = match skipped {
            0 => 0,
            events => self.ends.get(events - 1).map_or(self.encoded.len(), |end| *end as usize),
        };
        &self.encoded[start..]
    }

    fn weight(&self) -> usize {
        self.encoded.len() + self.heads.len() * (size_of::<Digest>() + size_of::<u32>())
    }
}

/// A segment that is being filled.
#[derive(Debug)]
struct Filling {
    before: ChainPosition,
    at: ChainPosition,
    encoded: BytesMut,
    ends: Vec<u32>,
    heads: Vec<Digest>,
    stops: bool,
}

impl Filling {
    fn from(before: ChainPosition) -> Self {
        let (encoded, ends, heads) = Default::default();
        Self { before, at: before, encoded, ends, heads, stops: false }
    }

    fn add(&mut self, event: &[u8], stops: bool) {
        self.at = self.at.after_bytes(event);
        framing::event_field(event, &mut self.encoded);
        // Frames are closed far below 4 GiB.
        self.ends.push(u32::try_from(self.encoded.len()).unwrap_or(u32::MAX));
        self.heads.push(self.at.head);
        self.stops |= stops;
    }

    fn close(&mut self, index: LogIndex) -> Option<Segment> {
        let filled = std::mem::replace(self, Self::from(self.at));
        let Self { before, encoded, ends, heads, stops, .. } = filled;
        (!heads.is_empty()).then(|| Segment { before, index, encoded: encoded.freeze(), ends, heads, stops })
    }
}

/// The feed contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("after entry {index} the chain should stand at {expected:?}, but its events lead to {got:?}")]
pub(crate) struct ChainBroken {
    index: LogIndex,
    expected: ChainPosition,
    got: ChainPosition,
}

/// Why a position can't be followed from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfollowable {
    /// What comes after it isn't held any more.
    TooFarBehind,
    /// Another incarnation of the cluster.
    OtherIncarnation,
    /// Events that this chain doesn't have.
    OtherChain,
    /// This hub isn't there yet.
    AheadOfHub,
}

impl From<Unfollowable> for v1::snapshot_needed::Reason {
    fn from(unfollowable: Unfollowable) -> Self {
        match unfollowable {
            Unfollowable::TooFarBehind => Self::TooFarBehind,
            Unfollowable::OtherIncarnation => Self::OtherIncarnation,
            Unfollowable::OtherChain => Self::OtherChain,
            Unfollowable::AheadOfHub => Self::AheadOfHub,
        }
    }
}

/// A run of events for one stream.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// One frame, ready for the body.
    pub(crate) bytes: Bytes,
    /// Where the stream stands after it.
    pub(crate) to: ChainPosition,
    /// The last entry whose events are complete with it.
    pub(crate) index: LogIndex,
}

#[derive(Debug)]
struct Encoded {
    from: EventSeq,
    run: Run,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ring {
    incarnation: Incarnation,
    segments: VecDeque<Segment>,
    /// Everything after this is held.
    floor: ChainPosition,
    /// Up to where everything is known at the floor.
    floor_index: LogIndex,
    latest: ChainPosition,
    /// The log is applied up to here.
    index: LogIndex,
    events: usize,
    bytes: usize,
    encoded: VecDeque<Encoded>,
    frames_encoded: u64,
}

impl Ring {
    /// An empty ring that begins here.
    pub(crate) fn starting(incarnation: Incarnation, index: LogIndex, chain: ChainPosition) -> Self {
        let (segments, encoded) = Default::default();
        Self {
            incarnation,
            segments,
            floor: chain,
            floor_index: index,
            latest: chain,
            index,
            events: 0,
            bytes: 0,
            encoded,
            frames_encoded: 0,
        }
    }

    pub(crate) const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(crate) const fn index(&self) -> LogIndex {
        self.index
    }

    pub(crate) const fn latest(&self) -> ChainPosition {
        self.latest
    }

    #[cfg(test)]
    pub(crate) const fn floor(&self) -> ChainPosition {
        self.floor
    }

    /// Events and bytes that are held, and how many frames were encoded.
    pub(crate) const fn held(&self) -> (usize, usize, u64) {
        (self.events, self.bytes, self.frames_encoded)
    }

    /// Takes entries in, and checks that their events lead to where the feed says.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<(), ChainBroken> {
        let mut filling = Filling::from(self.latest);
        for entry in entries {
            let stops = entry.urgency >= Urgency::Revocation;
            for event in &entry.events {
                let is_full =
                    !filling.heads.is_empty() && filling.encoded.len() + event.len() > HUB_FRAME_BYTES_MAX;
                if is_full {
                    self.push(filling.close(self.index));
                }
                filling.add(event, stops);
            }
            if filling.at != entry.chain {
                return Err(ChainBroken { index: entry.index, expected: entry.chain, got: filling.at });
            }
            self.reached(entry.index);
        }
        self.push(filling.close(self.index));
        Ok(())
    }

    /// The log up to there holds no event that isn't here.
    pub(crate) fn reached(&mut self, index: LogIndex) {
        self.index = self.index.max(index);
    }

    /// Whether an enforcer that starts from there will find what follows for some time to come.
    pub(crate) fn will_hold(&self, at: ChainPosition) -> bool {
        match self.check(at) {
            Ok(()) => {
                let is_roomy = self.events < HUB_RING_EVENTS_MAX / 2 && self.bytes < HUB_RING_BYTES_MAX / 2;
                let middle = self.floor.seq.0.midpoint(self.latest.seq.0);
                is_roomy || at.seq.0 >= middle
            }
            // What comes next will be held when it comes.
            Err(unfollowable) => unfollowable == Unfollowable::AheadOfHub,
        }
    }

    fn push(&mut self, segment: Option<Segment>) {
        let Some(segment) = segment else { return };
        self.latest = segment.after();
        self.events += segment.heads.len();
        self.bytes += segment.weight();
        self.segments.push_back(segment);
        while self.segments.len() > 1
            && (self.events > HUB_RING_EVENTS_MAX || self.bytes > HUB_RING_BYTES_MAX)
        {
            if let Some(oldest) = self.segments.pop_front() {
                self.floor_index = oldest.index;
                self.events -= oldest.heads.len();
                self.bytes -= oldest.weight();
                self.floor = oldest.after();
            }
        }
    }

    /// Up to which entry everything is known at a position of this chain.
    pub(crate) fn covered(&self, seq: EventSeq) -> LogIndex {
        if seq >= self.latest.seq {
            return self.index;
        }
        let next = self.segment_after(seq);
        next.checked_sub(1).map_or(self.floor_index, |last| self.segments[last].index)
    }

    /// The first segment with something after that position.
    fn segment_after(&self, seq: EventSeq) -> usize {
        self.segments.partition_point(|segment| segment.last() <= seq)
    }

    /// The chain's head after so many events, if it is held.
    fn head_at(&self, seq: EventSeq) -> Option<Digest> {
        if seq == self.latest.seq {
            return Some(self.latest.head);
        }
        self.segments.get(self.segment_after(seq))?.head_at(seq)
    }

    /// Whether a stream that stands there can follow from here.
    pub(crate) fn check(&self, at: ChainPosition) -> Result<(), Unfollowable> {
        if at.seq > self.latest.seq {
            return Err(Unfollowable::AheadOfHub);
        }
        if at.seq < self.floor.seq {
            return Err(Unfollowable::TooFarBehind);
        }
        if self.head_at(at.seq) == Some(at.head) { Ok(()) } else { Err(Unfollowable::OtherChain) }
    }

    /// As [`Ring::check`], for an enforcer that says where it stands.
    pub(crate) fn admit(&self, incarnation: Incarnation, at: ChainPosition) -> Result<(), Unfollowable> {
        // Whoever has nothing yet belongs to no incarnation.
        let has_nothing = at == ChainPosition::default();
        if incarnation != self.incarnation && !has_nothing {
            return Err(Unfollowable::OtherIncarnation);
        }
        self.check(at)
    }

    /// One frame with what comes after `from`, up to `through` if its size allows; `None` if the stream is there. It
    /// says when it is to be acknowledged, as far as it isn't encoded yet.
    pub(crate) fn run(
        &mut self,
        from: ChainPosition,
        through: EventSeq,
        ack_after: impl FnOnce() -> Millis,
    ) -> Result<Option<Run>, Unfollowable> {
        self.check(from)?;
        let through = through.min(self.latest.seq);
        if from.seq >= through {
            return Ok(None);
        }
        let first = self.segment_after(from.seq);
        let last = self.last_of_run(first, from.seq, through);
        let to = self.segments[last].after();
        if let Some(known) = self.encoded.iter().find(|known| known.from == from.seq && known.run.to == to) {
            return Ok(Some(known.run.clone()));
        }
        let run =
            Run { bytes: self.encode(first, last, from, ack_after()), to, index: self.segments[last].index };
        self.frames_encoded += 1;
        if self.encoded.len() == HUB_ENCODED_RUNS_MAX {
            self.encoded.pop_front();
        }
        self.encoded.push_back(Encoded { from: from.seq, run: run.clone() });
        Ok(Some(run))
    }

    /// The last segment that goes into one frame with the first.
    fn last_of_run(&self, first: usize, from: EventSeq, through: EventSeq) -> usize {
        let mut bytes = self.segments[first].encoded_after(from).len();
        let mut last = first;
        while self.segments[last].last() < through {
            let Some(next) = self.segments.get(last + 1) else { break };
            bytes += next.encoded.len();
            if bytes > HUB_FRAME_BYTES_MAX {
                break;
            }
            last += 1;
        }
        last
    }

    fn encode(&self, first: usize, last: usize, from: ChainPosition, ack_after: Millis) -> Bytes {
        let run = || self.segments.range(first..=last);
        let end = &self.segments[last];
        let head = v1::Frame {
            index: end.index.0,
            first_event_seq: from.seq.0,
            events: Vec::new(),
            chain_head: Bytes::copy_from_slice(&end.after().head.0),
            stops: run().any(|segment| segment.stops),
            ack_after_ms: u32::try_from(ack_after.0).unwrap_or(u32::MAX),
        };
        let head = head.encode_to_vec();
        let events = run().map(|segment| segment.encoded_after(from.seq));
        framing::hub_message(Part::Frame, std::iter::once(head.as_slice()).chain(events))
    }
}

#[cfg(test)]
#[path = "ring_test.rs"]
mod tests;
