//! A pipelined stream of log entries to one follower.
//!
//! Several messages may be on their way at once, up to a bound. What makes this delicate is openraft's bookkeeping: the
//! answer "the logs match up to 10" credits *every* message sent so far that ends at 10, also a later one without
//! entries that only carried a new commit index, and takes the later one's sending time for a heartbeat's. The follower
//! may not have seen that one, so a read barrier could count an answer that is older than its request, which is the
//! very thing it must not do (design 02, Freshness lease, rule 2).
//!
//! So an answer is passed on only if no message after it, already sent, ends at or before where it matches; otherwise
//! the answer to that later message, which says the same, is passed on in its place. Reading requests and passing on
//! answers happen in one task, in turn, so that none can slip in between.

use std::{collections::VecDeque, pin::Pin, task::Poll, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use haltline_core::{ids::NodeId, limits::RAFT_APPENDS_IN_FLIGHT_MAX};
use haltline_wire::raft::v1 as wire;
use openraft::{
    entry::RaftEntry as _,
    errors::{NetworkError, RPCError, Unreachable},
    raft::{AppendEntriesRequest, StreamAppendResult},
};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{convert, peers::PeerClient};
use crate::types::{LogId, TypeConfig};

pub(super) type Answer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Sends `requests` and yields the answers.
pub(super) async fn run<S>(
    mut client: PeerClient,
    peer: NodeId,
    requests: S,
    patience: Duration,
) -> Result<impl Stream<Item = Answer> + Send, RPCError<TypeConfig>>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let (sender, outgoing) = mpsc::channel(RAFT_APPENDS_IN_FLIGHT_MAX);
    let call = async move {
        let response = client.append(ReceiverStream::new(outgoing)).await?;
        Ok::<_, Status>(response.into_inner())
    };
    let pipeline = Pipeline {
        peer,
        requests,
        requests_ended: false,
        sender: Some(sender),
        answers: Answers::Opening(Box::pin(call)),
        in_flight: VecDeque::new(),
        patience,
        deadline: Box::pin(sleep_until(Instant::now() + patience)),
        failed: false,
    };
    Ok(stream::unfold(pipeline, Pipeline::step))
}

type Call = Pin<Box<dyn Future<Output = Result<tonic::Streaming<wire::AppendResponse>, Status>> + Send>>;

enum Answers {
    Opening(Call),
    Open(Box<tonic::Streaming<wire::AppendResponse>>),
}

struct Pipeline<S> {
    peer: NodeId,
    requests: S,
    requests_ended: bool,
    /// `None` once everything was sent.
    sender: Option<mpsc::Sender<wire::AppendRequest>>,
    answers: Answers,
    /// Where each unanswered message ends, in the order they were sent.
    in_flight: VecDeque<Option<LogId>>,
    patience: Duration,
    /// When the oldest unanswered message counts as lost.
    deadline: Pin<Box<Sleep>>,
    failed: bool,
}

impl<S> Pipeline<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    async fn step(mut self) -> Option<(Answer, Self)> {
        if self.failed {
            return None;
        }
        let answer = std::future::poll_fn(|cx| self.poll(cx)).await?;
        self.failed = !matches!(answer, Ok(Ok(_)));
        Some((answer, self))
    }

    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Option<Answer>> {
        loop {
            self.send_what_may_go(cx);
            if self.in_flight.is_empty() && self.requests_ended {
                return Poll::Ready(None);
            }
            match self.poll_answer(cx) {
                Poll::Ready(Some(answer)) => {
                    if let Some(answer) = self.judge(answer) {
                        return Poll::Ready(Some(answer));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(Some(Err(self.broken("the peer ended the stream")))),
                Poll::Pending if self.in_flight.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    return self.deadline.as_mut().poll(cx).map(|()| {
                        let waited = self.patience.as_millis();
                        Some(Err(self.broken(format!("no answer to log entries within {waited} ms"))))
                    });
                }
            }
        }
    }

    /// Takes requests while the bound allows, and hands them to the transport.
    fn send_what_may_go(&mut self, cx: &mut std::task::Context<'_>) {
        while !self.requests_ended && self.in_flight.len() < RAFT_APPENDS_IN_FLIGHT_MAX {
            match self.requests.poll_next_unpin(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => {
                    self.requests_ended = true;
                    self.sender = None;
                }
                Poll::Ready(Some(request)) => self.send(request),
            }
        }
    }

    fn send(&mut self, request: AppendEntriesRequest<TypeConfig>) {
        if self.in_flight.is_empty() {
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
        let end = request.entries.last().map(|entry| entry.log_id()).or(request.prev_log_id);
        self.in_flight.push_back(end);
        // As many places as may be in flight, so there is always one. A closed channel shows as a missing answer.
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(convert::append_out(request));
        }
    }

    fn poll_answer(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<wire::AppendResponse, Status>>> {
        loop {
            match &mut self.answers {
                Answers::Open(answers) => return answers.poll_next_unpin(cx),
                Answers::Opening(call) => match call.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(status)) => return Poll::Ready(Some(Err(status))),
                    Poll::Ready(Ok(answers)) => self.answers = Answers::Open(Box::new(answers)),
                },
            }
        }
    }

    /// What to pass on for one answer of the peer; `None` if a later answer will say it.
    fn judge(&mut self, answer: Result<wire::AppendResponse, Status>) -> Option<Answer> {
        let response = match answer {
            Ok(response) => response,
            Err(status) => return Some(Err(self.refused(&status))),
        };
        let Some(end) = self.in_flight.pop_front() else {
            return Some(Err(self.broken("an answer to nothing")));
        };
        self.deadline.as_mut().reset(Instant::now() + self.patience);
        let result = match convert::append_result_in(response) {
            Ok(result) => result,
            Err(error) => return Some(Err(self.broken(error))),
        };
        // An answer speaks for its own message only, whatever more the follower may have.
        let result = result.map(|matching| matching.min(end));
        match &result {
            Ok(matching) if credits_later(*matching, &self.in_flight) => None,
            _ => Some(Ok(result)),
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "taken as `map_err` hands it over")]
    fn broken(&self, reason: impl ToString) -> RPCError<TypeConfig> {
        let reason = format!("node {}: {}", self.peer, reason.to_string());
        RPCError::Network(NetworkError::from_string(reason))
    }

    fn refused(&self, status: &Status) -> RPCError<TypeConfig> {
        failure(self.peer, status)
    }
}

/// Whether openraft would credit a message that the follower hasn't answered.
fn credits_later(matching: Option<LogId>, in_flight: &VecDeque<Option<LogId>>) -> bool {
    in_flight.front().is_some_and(|next| *next <= matching)
}

/// A failed call in openraft's words. An unreachable peer is left alone for a while, anything else is tried again.
pub(super) fn failure(peer: NodeId, status: &Status) -> RPCError<TypeConfig> {
    let reason = format!("node {peer}: {}", status.message());
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::PermissionDenied | Code::FailedPrecondition => {
            RPCError::Unreachable(Unreachable::from_string(reason))
        }
        _ => RPCError::Network(NetworkError::from_string(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::log_id;

    #[test]
    fn an_answer_is_held_back_while_a_later_message_without_entries_is_unanswered() {
        let id = |index| Some(log_id(1, 1, index));
        assert!(!credits_later(id(10), &VecDeque::new()));
        assert!(!credits_later(id(10), &[id(12)].into()));
        assert!(credits_later(id(10), &[id(10)].into()));
        assert!(credits_later(id(10), &[id(10), id(12)].into()));
        assert!(credits_later(None, &[None].into()));
    }
}
