//! One enforcer's sync stream: the body of its response.
//!
//! The HTTP/2 layer polls a body when it can write, on the one task that it keeps for each call. Everything a stream does
//! happens in that poll: it reads what the enforcer says, and writes what is due. So a stream has no task, no timer and no
//! queue of its own, and one that isn't read isn't polled: it costs what it holds and is coalesced when it wakes.
//!
//! The order of what is written carries the protocol: events up to a statement's position before the statement
//! (design 02, Freshness lease, 3), and the end of the lease noted in the tracker before the statement is handed over.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use haltline_core::{
    LogIndex,
    event::ChainPosition,
    ids::{Digest, EventSeq, Incarnation, Nonce},
    lease::Nanos,
    limits::{
        EDGE_MESSAGES_BURST, EDGE_MESSAGES_PER_SECOND, EDGE_TEXT_BYTES_MAX, HUB_BARRIER_INTERVAL,
        HUB_MESSAGES_PER_TURN, HUB_UNACKED_FRAMES_MAX,
    },
};
use haltline_wire::{
    refusal::Refusal,
    v1::{self, edge_message::Message as Says},
};
use http_body::{Body, Frame};
use tokio::time::Sleep;
use tonic::{Code, Status};

use crate::{
    allowance::Allowance,
    core::{Core, Registered},
    counters::{add, count},
    framing::{self, Part},
    inbound::{Inbound, InboundEnd},
    refused::StreamRefused,
    ring::Unfollowable,
    subscriber::Told,
    upstream::Origin,
};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct SyncStream {
    core: Arc<Core>,
    registered: Registered,
    origin: Origin,
    inbound: Inbound,
    phase: Phase,
    messages: Allowance,
}

#[derive(Debug)]
enum Phase {
    /// Until Hello has come and this hub is where the enforcer is.
    Greeting { hello: Option<Hello>, deadline: Pin<Box<Sleep>> },
    /// In step.
    Following {
        at: ChainPosition,
        /// The enforcer can have the log up to here.
        index: LogIndex,
        sent: Sent,
        hubs_version: u64,
    },
    /// A last message, then the trailers.
    Ending { last: Option<Bytes>, status: Status },
    /// Nothing comes any more.
    Ended,
}

/// Frames that aren't acknowledged yet, and what the last that was proves.
///
/// The index that an enforcer names doesn't count: it may come from another hub that made it up, and cover a kill that the
/// enforcer hasn't heard of. The events that it acknowledges are known here, and so is the index that went out with them.
#[derive(Debug, Default)]
struct Sent {
    /// The enforcer has acknowledged what went out up to here.
    covered: LogIndex,
    waiting: VecDeque<(EventSeq, LogIndex)>,
}

impl Sent {
    fn from(covered: LogIndex) -> Self {
        Self { covered, waiting: VecDeque::new() }
    }

    fn frame(&mut self, to: EventSeq, index: LogIndex) {
        if self.waiting.len() == HUB_UNACKED_FRAMES_MAX {
            // What it would have proven the next one proves.
            self.waiting.pop_front();
        }
        self.waiting.push_back((to, index));
    }

    /// Up to which index everything is in force at an enforcer that acknowledges these events.
    fn acknowledged(&mut self, seq: EventSeq) -> LogIndex {
        while let Some((_, index)) = self.waiting.pop_front_if(|(to, _)| *to <= seq) {
            self.covered = self.covered.max(index);
        }
        self.covered
    }
}

/// Where an enforcer says it stands.
#[derive(Debug, Clone, Copy)]
struct Hello {
    incarnation: Incarnation,
    at: ChainPosition,
}

impl SyncStream {
    pub(crate) fn new(core: Arc<Core>, registered: Registered, origin: Origin, inbound: Inbound) -> Self {
        let deadline = Box::pin(tokio::time::sleep(core.patience.hello));
        let interval = Nanos(NANOS_PER_SECOND / EDGE_MESSAGES_PER_SECOND);
        Self {
            core,
            registered,
            origin,
            inbound,
            phase: Phase::Greeting { hello: None, deadline },
            messages: Allowance::new(interval, EDGE_MESSAGES_BURST),
        }
    }

    fn end(&mut self, last: Option<Bytes>, status: Status) {
        self.phase = Phase::Ending { last, status };
    }

    fn refuse(&mut self, because: &StreamRefused) {
        let name = self.registered.subscriber().admitted.name.as_str();
        tracing::debug!(edge = name, code = because.code(), "ended a sync stream: {because}");
        self.end(None, Refusal::from(because).to_status());
    }

    /// Tells the enforcer that it can't follow from where it stands.
    fn send_for_snapshot(&mut self, because: Unfollowable) {
        count(&self.core.counters.snapshots_needed);
        let index = self.core.ring.lock().index();
        let name = self.registered.subscriber().admitted.name.as_str();
        tracing::debug!(edge = name, ?because, index = index.0, "an enforcer needs a snapshot");
        self.end(Some(framing::snapshot_needed(because.into(), index.0)), Status::new(Code::Ok, ""));
    }

    /// Reads what has come, a bounded part of it at a time.
    fn listen(&mut self, cx: &mut Context<'_>) {
        for _ in 0..HUB_MESSAGES_PER_TURN {
            if matches!(self.phase, Phase::Ending { .. } | Phase::Ended) {
                return;
            }
            match self.inbound.poll_next(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(message)) => {
                    if let Err(refused) = self.hear(message) {
                        self.refuse(&refused);
                    }
                }
                Poll::Ready(Err(InboundEnd::Closed)) => self.end(None, Status::new(Code::Ok, "")),
                Poll::Ready(Err(InboundEnd::Broken(status))) => self.end(None, status),
                Poll::Ready(Err(InboundEnd::Refused(refused))) => self.refuse(&refused),
            }
        }
        // More may have come: other streams first.
        cx.waker().wake_by_ref();
    }

    fn hear(&mut self, message: v1::EdgeMessage) -> Result<(), StreamRefused> {
        let now = self.core.clock.now();
        if !self.messages.take(now) {
            return Err(StreamRefused::MessagesTooFast);
        }
        match (message.message, &mut self.phase) {
            (Some(Says::Hello(said)), Phase::Greeting { hello: hello @ None, deadline }) => {
                let (position, told) = read_hello(said)?;
                *hello = Some(position);
                // From here on the enforcer waits for this hub.
                deadline.as_mut().reset(tokio::time::Instant::now() + self.core.patience.lag);
                self.registered.subscriber().set_told(told);
                Ok(())
            }
            (Some(Says::Hello(_)), _) => Err(StreamRefused::HelloTwice),
            // The first probe may come right after Hello.
            (Some(Says::Probe(probe)), Phase::Greeting { hello: Some(_), .. } | Phase::Following { .. }) => {
                let nonce = Nonce(bytes32("probe.nonce", &probe.nonce)?);
                self.core.probes.join(self.registered.subscriber(), nonce);
                Ok(())
            }
            (Some(Says::Applied(applied)), Phase::Following { at, index, sent: frames, .. }) => {
                let (got, sent) = (EventSeq(applied.event_seq), at.seq);
                if got > sent {
                    return Err(StreamRefused::AckAhead { got, sent });
                }
                let covered = frames.acknowledged(got);
                // Whoever has all events knows of the entries without any too.
                let acked = if got == sent { *index } else { covered };
                let subscriber = self.registered.subscriber();
                subscriber.set_acked(got);
                self.core.tracking.acked(subscriber.stream, acked);
                Ok(())
            }
            (Some(Says::Probe(_)), _) => Err(StreamRefused::HelloExpected { got: "a probe" }),
            (Some(Says::Applied(_)), _) => Err(StreamRefused::HelloExpected { got: "an acknowledgement" }),
            // A message of a later version.
            (None, Phase::Following { .. }) => Ok(()),
            (None, _) => Err(StreamRefused::HelloExpected { got: "an unknown message" }),
        }
    }

    /// What is to be written next.
    fn next(&mut self, cx: &mut Context<'_>) -> Option<Frame<Bytes>> {
        loop {
            match &mut self.phase {
                Phase::Greeting { .. } => {
                    if let Some(bytes) = self.greet(cx) {
                        return Some(Frame::data(bytes));
                    }
                    if matches!(self.phase, Phase::Greeting { .. }) {
                        return None;
                    }
                }
                Phase::Following { .. } => {
                    if let Some(bytes) = self.follow() {
                        return Some(Frame::data(bytes));
                    }
                    if matches!(self.phase, Phase::Following { .. }) {
                        return None;
                    }
                }
                Phase::Ending { last, status } => {
                    if let Some(last) = last.take() {
                        return Some(Frame::data(last));
                    }
                    let trailers = trailers(status);
                    self.phase = Phase::Ended;
                    return Some(Frame::trailers(trailers));
                }
                Phase::Ended => return None,
            }
        }
    }

    /// Answers Hello as soon as it can be.
    fn greet(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        let Phase::Greeting { hello, deadline } = &mut self.phase else { return None };
        let hello = *hello;
        let is_late = deadline.as_mut().poll(cx).is_ready();
        let Some(Hello { incarnation, at }) = hello else {
            if is_late {
                self.refuse(&StreamRefused::HelloTimeout);
            }
            return None;
        };
        let ring = self.core.ring.lock();
        let admitted = if self.core.is_ready() {
            ring.admit(incarnation, at)
        } else {
            // Before the source has said where it stands, everybody is ahead.
            Err(Unfollowable::AheadOfHub)
        };
        let index = ring.covered(at.seq);
        let welcome = v1::Welcome {
            node: self.origin.node.0,
            cluster_id: self.origin.cluster.0.to_vec(),
            incarnation: ring.incarnation().0,
            index: ring.index().0,
            probe_interval_ms_min: u32::try_from(HUB_BARRIER_INTERVAL.0).unwrap_or(u32::MAX),
        };
        drop(ring);
        match admitted {
            Ok(()) => {
                if let Err(refused) = self.registered.follow(at.seq) {
                    self.refuse(&refused);
                    return None;
                }
                self.phase = Phase::Following { at, index, sent: Sent::from(index), hubs_version: 0 };
                Some(framing::hub(Part::Welcome, &welcome))
            }
            // Others may be ahead of this node by a moment: it catches up, or the enforcer is told to go elsewhere.
            Err(Unfollowable::AheadOfHub) if !is_late => None,
            Err(Unfollowable::AheadOfHub) if !self.core.is_ready() => {
                let reason = "the source above it hasn't answered yet".to_owned();
                self.refuse(&StreamRefused::NoSnapshot { reason });
                None
            }
            Err(unfollowable) => {
                self.send_for_snapshot(unfollowable);
                None
            }
        }
    }

    /// The next message of a stream in step: events first, as far as they are released or an answer rests on them.
    fn follow(&mut self) -> Option<Bytes> {
        let Phase::Following { at, index, sent, hubs_version } = &mut self.phase else { return None };
        let subscriber = self.registered.subscriber();
        if let Some((version, bytes)) = self.core.hubs_after(*hubs_version) {
            *hubs_version = version;
            return Some(bytes);
        }
        let through = subscriber.answer_needs().unwrap_or(EventSeq(0)).max(self.core.fanout.released());
        let run = if at.seq < through {
            self.core.ring.lock().run(*at, through, || self.core.fanout.ack_after())
        } else {
            Ok(None)
        };
        match run {
            Ok(Some(run)) => {
                *at = run.to;
                *index = run.index.max(*index);
                sent.frame(at.seq, *index);
                subscriber.set_sent(at.seq);
                count(&self.core.counters.frames_sent);
                add(&self.core.counters.frame_bytes_sent, run.bytes.len() as u64);
                Some(run.bytes)
            }
            Ok(None) => {
                let answer = subscriber.take_answer(at.seq)?;
                // Made after the stream was ended, it may rest on what ended it.
                if subscriber.ended().is_some() {
                    return None;
                }
                // From here on the enforcer may have it, so the tracker must know first.
                if !self.core.grant(subscriber, answer.index()) {
                    count(&self.core.counters.answers_discarded);
                    return None;
                }
                *index = answer.index().max(*index);
                Some(answer.encode(subscriber.admitted.name.as_str()))
            }
            Err(unfollowable) => {
                self.send_for_snapshot(unfollowable);
                None
            }
        }
    }
}

impl Body for SyncStream {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if matches!(this.phase, Phase::Ended) {
            return Poll::Ready(None);
        }
        // Before looking for anything to do, so that nothing that comes meanwhile is missed.
        this.registered.subscriber().register(cx.waker());
        if !matches!(this.phase, Phase::Ending { .. }) {
            if let Some(because) = this.registered.subscriber().ended() {
                this.refuse(&because);
            }
            this.listen(cx);
        }
        match this.next(cx) {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Poll::Pending,
        }
    }
}

pub(crate) fn trailers(status: &Status) -> tonic::codegen::http::HeaderMap {
    let mut trailers = tonic::codegen::http::HeaderMap::new();
    // Messages and details are escaped, so they always fit a header.
    let _ = status.add_header(&mut trailers);
    trailers
}

fn read_hello(said: v1::Hello) -> Result<(Hello, Told), StreamRefused> {
    let seq = EventSeq(said.event_seq);
    // All zero or absent: nothing yet.
    let head = if said.chain_head.is_empty() && seq.0 == 0 {
        Digest([0; 32])
    } else {
        Digest(bytes32("hello.chain_head", &said.chain_head)?)
    };
    for (field, text) in [("hello.version", &said.version), ("hello.region", &said.region)] {
        if text.len() > EDGE_TEXT_BYTES_MAX {
            return Err(StreamRefused::BadField { field, got: text.len(), expected: "at most 128 bytes" });
        }
    }
    let hello = Hello { incarnation: Incarnation(said.incarnation), at: ChainPosition { seq, head } };
    Ok((hello, Told { version: said.version, region: said.region }))
}

fn bytes32(field: &'static str, bytes: &[u8]) -> Result<[u8; 32], StreamRefused> {
    bytes.try_into().map_err(|_| StreamRefused::BadField { field, got: bytes.len(), expected: "32 bytes" })
}
