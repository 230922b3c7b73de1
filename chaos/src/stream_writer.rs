//! A writer that pipelines: it counts counters up over one stream, many updates in flight at once.
//!
//! When the stream breaks everything in flight is in doubt and goes out again, under the same ids, through another node.

use std::{collections::BTreeMap, time::Duration};

use haltline_core::{
    command::{AgentUpdate, Command, Request},
    text::Labels,
};
use haltline_testkit::rng::Rng;
use haltline_wire::{
    convert,
    refusal::Refusal,
    v1::{self, command_reply::Outcome, command_service_client::CommandServiceClient},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    call::{self, ATTEMPT, Failed, PAUSE},
    ledger::Promise,
    unary_writer::Load,
};

/// Commands in flight on one stream.
const WINDOW: usize = 64;
/// One doubtful command in so many is given up on.
const GIVE_UP_ONE_IN: u64 = 16;
/// Before a command that was turned away goes out again.
const TURNED_AWAY_PAUSE: Duration = Duration::from_millis(5);
/// How long one stream is used: deadlines are made from the time that it began with.
const STREAM_LIFE: Duration = Duration::from_secs(4);

/// A command in flight.
struct InFlight {
    request: Request,
    promise: Promise,
    doubtful: bool,
}

/// One such writer.
pub(crate) struct StreamWriter {
    load: Load,
    rng: Rng,
    /// Which counters are its own: no two writers share one.
    counters: std::ops::Range<usize>,
    in_flight: BTreeMap<u64, InFlight>,
    sequence: u64,
    node: usize,
}

/// Why a stream is left.
enum Left {
    /// Everything is settled, and nothing new is wanted.
    Done,
    /// It broke, fell silent, or has been used long enough.
    Broken,
}

impl StreamWriter {
    /// A writer of these counters.
    pub(crate) fn new(load: Load, mut rng: Rng, counters: std::ops::Range<usize>) -> Self {
        let node = usize::try_from(rng.below(load.nodes as u64)).unwrap_or_default();
        Self { load, rng, counters, in_flight: BTreeMap::new(), sequence: 0, node }
    }

    /// Writes until it is told to stop and everything in flight is settled.
    pub(crate) async fn run(mut self) {
        loop {
            let (cluster, node) = self.load.look(self.node).await;
            self.node = node;
            if matches!(self.one_stream(&cluster).await, Left::Done) {
                return;
            }
            self.doubt_everything();
            self.node = (self.node + 1) % self.load.nodes;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn one_stream(&mut self, cluster: &v1::Cluster) -> Left {
        // Whatever is in flight fits, so that sending never waits.
        let (outbound, queue) = mpsc::channel(WINDOW);
        for (sequence, item) in &self.in_flight {
            let message = convert::command_request(*sequence, &item.request);
            if outbound.send(message).await.is_err() {
                return Left::Broken;
            }
        }
        let mut client = CommandServiceClient::new(self.load.person.channel(self.node));
        let opened = tokio::time::timeout(ATTEMPT, client.stream(ReceiverStream::new(queue))).await;
        let Ok(Ok(response)) = opened else { return Left::Broken };
        let mut inbound = response.into_inner();
        let renew = tokio::time::Instant::now() + STREAM_LIFE;
        loop {
            let fills = !self.load.is_stopping() && tokio::time::Instant::now() < renew;
            while fills && self.in_flight.len() < WINDOW {
                if outbound.send(self.next(cluster)).await.is_err() {
                    return Left::Broken;
                }
            }
            if self.in_flight.is_empty() {
                return if self.load.is_stopping() { Left::Done } else { Left::Broken };
            }
            let Ok(Ok(Some(reply))) = tokio::time::timeout(ATTEMPT, inbound.message()).await else {
                return Left::Broken;
            };
            if let Some(again) = self.note(reply) {
                tokio::time::sleep(TURNED_AWAY_PAUSE).await;
                if outbound.send(again).await.is_err() {
                    return Left::Broken;
                }
            }
        }
    }

    /// Notes one answer; a command that was turned away comes back, to be sent again.
    fn note(&mut self, reply: v1::CommandReply) -> Option<v1::CommandRequest> {
        let sequence = reply.sequence;
        let mut ledger = self.load.ledger.lock();
        let Some(item) = self.in_flight.remove(&sequence) else {
            ledger.violations.push(format!("an answer to sequence {sequence}, which isn't in flight"));
            return None;
        };
        let Some(Outcome::Refusal(refusal)) = reply.outcome else {
            ledger.answered(&item.promise, reply, item.doubtful);
            return None;
        };
        let failed = Failed::from(Refusal::from_message(refusal));
        if !ledger.failed(&item.promise, &failed, item.doubtful) {
            return None;
        }
        let message = convert::command_request(sequence, &item.request);
        let doubtful = item.doubtful || matches!(failed, Failed::Unknown);
        self.in_flight.insert(sequence, InFlight { doubtful, ..item });
        Some(message)
    }

    fn next(&mut self, cluster: &v1::Cluster) -> v1::CommandRequest {
        self.sequence += 1;
        let count = self.counters.len() as u64;
        let position = self.counters.start + usize::try_from(self.rng.below(count)).unwrap_or_default();
        let path = self.load.ledger.lock().counters[position].path.clone();
        let labels = Labels::from_pairs([("n", self.sequence.to_string())]).unwrap_or_default();
        let command = Command::AgentUpdate(AgentUpdate { path, labels, expected_version: None });
        let request = call::request(&self.load.person, cluster, command);
        let message = convert::command_request(self.sequence, &request);
        let item = InFlight { request, promise: Promise::Count(position), doubtful: false };
        self.in_flight.insert(self.sequence, item);
        message
    }

    /// After a break nobody knows what became of what was in flight.
    fn doubt_everything(&mut self) {
        let mut ledger = self.load.ledger.lock();
        let rng = &mut self.rng;
        self.in_flight.retain(|_, item| {
            ledger.unknown += 1;
            item.doubtful = true;
            let kept = !rng.chance(1, GIVE_UP_ONE_IN);
            if !kept {
                ledger.gave_up(&item.promise);
            }
            kept
        });
    }
}
