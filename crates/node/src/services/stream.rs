//! The pipelined command stream.
//!
//! One [`CommandStream`] is both ends of a call: polled for replies, it first takes in what the client sent. So a stream
//! costs no task and no channel of its own, and a client that doesn't take its replies isn't read either. At most so many
//! commands of a stream are in flight; past that a bounded look-ahead is still read, only to let kills in it pass.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context as Wakeups, Poll, Waker},
    time::{Duration, Instant},
};

use futures::Stream;
use haltline_consensus::{ProposeResult, ReplySink};
use haltline_core::{
    command::Request as Command,
    ids::PersonId,
    limits::{
        API_BYTES_PER_STREAM, API_KILLS_IN_FLIGHT_PER_STREAM, API_LOOK_AHEAD_PER_STREAM, PROPOSE_TIMEOUT,
    },
};
use haltline_wire::{
    convert::{self, ConvertError},
    v1::{self, command_reply::Outcome, command_service_server::CommandService},
};
use parking_lot::Mutex;
use prost::Message as _;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::task_tracker::TaskTrackerToken,
};
use tonic::{Request, Response, Status, Streaming};

use super::Services;
use crate::{
    context::Context,
    refused::{Refused, of_transport},
};

/// How long a command may wait for its outcome.
const PATIENCE: Duration = Duration::from_millis(PROPOSE_TIMEOUT.0);
/// Messages taken in before replies get a turn.
const TAKEN_AT_ONCE: usize = 256;

#[tonic::async_trait]
impl CommandService for Services {
    type StreamStream = CommandStream<Streaming<v1::CommandRequest>>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::CommandRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let caller = self.0.commander(request.extensions())?;
        Ok(Response::new(CommandStream::new(Arc::clone(&self.0), caller, request.into_inner())))
    }
}

/// A command that waits for its outcome.
struct InFlight {
    sequence: u64,
    name: &'static str,
    is_kill: bool,
    bytes: usize,
    began: Instant,
}

/// A command that was read, but not submitted because too much is in flight.
struct LookedAt {
    sequence: u64,
    command: Command,
    bytes: usize,
}

/// Outcomes that came, and who is to be woken for them.
#[derive(Default)]
struct Inbox {
    outcomes: Vec<(u64, ProposeResult)>,
    waker: Option<Waker>,
}

/// The end of the stream that the state machine delivers to.
#[derive(Default)]
struct Delivery(Mutex<Inbox>);

impl ReplySink for Delivery {
    fn deliver(&self, token: u64, result: ProposeResult) {
        let mut inbox = self.0.lock();
        inbox.outcomes.push((token, result));
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Delivery {
    /// Takes what came; if nothing did, whoever polls is woken when something does.
    fn take(&self, wakeups: &Wakeups<'_>) -> Vec<(u64, ProposeResult)> {
        let mut inbox = self.0.lock();
        if inbox.outcomes.is_empty() {
            inbox.waker = Some(wakeups.waker().clone());
        }
        std::mem::take(&mut inbox.outcomes)
    }
}

/// Both ends of a pipelined stream.
pub(crate) struct CommandStream<S> {
    context: Arc<Context>,
    caller: PersonId,
    inbound: S,
    inbound_ended: bool,
    /// What ends the stream once all replies are out.
    failure: Option<Status>,
    delivery: Arc<Delivery>,
    in_flight: Slots,
    kills_in_flight: usize,
    in_flight_max: usize,
    /// What the commands in flight and looked at came to on the wire.
    bytes: usize,
    look_ahead: VecDeque<LookedAt>,
    replies: VecDeque<v1::CommandReply>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    _tracked: TaskTrackerToken,
}

impl<S> CommandStream<S>
where
    S: Stream<Item = Result<v1::CommandRequest, Status>> + Unpin,
{
    fn new(context: Arc<Context>, caller: PersonId, inbound: S) -> Self {
        let stopping: CancellationToken = context.stopping.clone();
        Self {
            caller,
            inbound,
            inbound_ended: false,
            failure: None,
            delivery: Arc::default(),
            in_flight: Slots::default(),
            kills_in_flight: 0,
            in_flight_max: context.config.get().in_flight_per_stream_max,
            bytes: 0,
            look_ahead: VecDeque::new(),
            replies: VecDeque::new(),
            stopping: Box::pin(stopping.cancelled_owned()),
            _tracked: context.streams.token(),
            context,
        }
    }

    /// Takes in what the client sent, as far as there is room. Says whether it stopped only because of its own bound.
    fn take_in(&mut self, wakeups: &mut Wakeups<'_>) -> bool {
        for _ in 0..TAKEN_AT_ONCE {
            let has_room = self.look_ahead.len() < API_LOOK_AHEAD_PER_STREAM
                && self.kills_in_flight < API_KILLS_IN_FLIGHT_PER_STREAM
                && self.bytes < API_BYTES_PER_STREAM
                && self.replies.len() < self.in_flight_max;
            if self.inbound_ended || !has_room {
                return false;
            }
            match Pin::new(&mut self.inbound).poll_next(wakeups) {
                Poll::Pending => return false,
                Poll::Ready(Some(Ok(message))) => self.accept(message),
                Poll::Ready(Some(Err(status))) => {
                    self.inbound_ended = true;
                    self.failure = Some(of_transport(&status).to_status());
                }
                Poll::Ready(None) => self.inbound_ended = true,
            }
        }
        true
    }

    fn accept(&mut self, message: v1::CommandRequest) {
        let (sequence, bytes) = (message.sequence, message.encoded_len());
        let missing = || ConvertError::missing("command", "one of the commands");
        let command =
            message.command.ok_or_else(missing).and_then(|message| convert::request(&self.caller, message));
        match command {
            Ok(command) => {
                self.bytes += bytes;
                let looked_at = LookedAt { sequence, command, bytes };
                if looked_at.command.command.is_kill() {
                    self.submit(&looked_at);
                } else {
                    self.look_ahead.push_back(looked_at);
                }
            }
            Err(error) => {
                let refused = Refused::from(error);
                self.replies.push_back(refusal_reply(sequence, &refused));
            }
        }
        self.submit_what_fits();
    }

    fn submit_what_fits(&mut self) {
        while self.in_flight.len() - self.kills_in_flight < self.in_flight_max
            && let Some(looked_at) = self.look_ahead.pop_front()
        {
            self.submit(&looked_at);
        }
    }

    fn submit(&mut self, looked_at: &LookedAt) {
        let LookedAt { sequence, command, bytes } = looked_at;
        let (name, is_kill) = (command.command.name(), command.command.is_kill());
        self.kills_in_flight += usize::from(is_kill);
        let waiting = InFlight { sequence: *sequence, name, is_kill, bytes: *bytes, began: Instant::now() };
        let token = self.in_flight.put(waiting);
        let sink: Arc<dyn ReplySink> = self.delivery.clone();
        self.context.consensus.submit(command, sink, token, PATIENCE);
    }

    /// Turns outcomes into replies and refills what they made room for.
    fn settle(&mut self, wakeups: &Wakeups<'_>) {
        for (token, result) in self.delivery.take(wakeups) {
            let Some(waiting) = self.in_flight.take(token) else { continue };
            self.kills_in_flight -= usize::from(waiting.is_kill);
            self.bytes -= waiting.bytes;
            let reply = self.reply(&waiting, result);
            self.replies.push_back(reply);
        }
        self.submit_what_fits();
    }

    fn reply(&self, waiting: &InFlight, result: ProposeResult) -> v1::CommandReply {
        let took = waiting.began.elapsed();
        let (reply, refused) = match result {
            Ok(reply) => {
                let message = convert::reply(waiting.sequence, reply.stamp, &reply.result);
                match reply.result {
                    Ok(outcome) => {
                        self.context.metrics.decided(waiting.name, took, Ok(&outcome));
                        return message;
                    }
                    Err(rejection) => (message, Refused::from(rejection)),
                }
            }
            Err(error) => {
                let refused = Refused::from(error);
                (refusal_reply(waiting.sequence, &refused), refused)
            }
        };
        self.context.metrics.decided(waiting.name, took, Err(&refused));
        reply
    }

    fn is_done(&self) -> bool {
        self.inbound_ended && self.in_flight.len() == 0 && self.look_ahead.is_empty()
    }
}

impl<S> Stream for CommandStream<S>
where
    S: Stream<Item = Result<v1::CommandRequest, Status>> + Unpin,
{
    type Item = Result<v1::CommandReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, wakeups: &mut Wakeups<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(reply) = this.replies.pop_front() {
            return Poll::Ready(Some(Ok(reply)));
        }
        if !this.inbound_ended && this.stopping.as_mut().poll(wakeups).is_ready() {
            // What is in flight gets its answer; nothing more is taken.
            this.inbound_ended = true;
            this.failure = Some(Refused::Stopping.into());
        }
        this.settle(wakeups);
        let has_more = this.take_in(wakeups);
        if let Some(reply) = this.replies.pop_front() {
            return Poll::Ready(Some(Ok(reply)));
        }
        if this.is_done() {
            return Poll::Ready(this.failure.take().map(Err));
        }
        if has_more {
            wakeups.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

fn refusal_reply(sequence: u64, refused: &Refused) -> v1::CommandReply {
    let outcome = Some(Outcome::Refusal(refused.refusal().to_message()));
    v1::CommandReply { sequence, stamp: None, outcome }
}

/// Commands in flight by token; tokens are reused.
#[derive(Default)]
struct Slots {
    slots: Vec<Option<InFlight>>,
    free: Vec<u64>,
}

impl Slots {
    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn put(&mut self, waiting: InFlight) -> u64 {
        match self.free.pop() {
            Some(token) => {
                self.slots[token as usize] = Some(waiting);
                token
            }
            None => {
                self.slots.push(Some(waiting));
                self.slots.len() as u64 - 1
            }
        }
    }

    fn take(&mut self, token: u64) -> Option<InFlight> {
        let waiting = self.slots.get_mut(usize::try_from(token).ok()?)?.take()?;
        self.free.push(token);
        Some(waiting)
    }
}
