//! Who waits for a command, and the command while it waits.

use std::sync::Arc;

use bytes::Bytes;
use haltline_core::{
    command::Request,
    limits::{COMMAND_BYTES_MAX, PROPOSE_TIMEOUT},
    rejection::{Outcome, Rejection},
    time::Stamp,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::oneshot,
    time::{Duration, Instant},
};

use crate::error::ProposeError;

/// A command's place in the log and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The entry that answered. For a retry of a command that was carried out before, the retry's.
    pub stamp: Stamp,
    /// What was done, or why nothing was.
    pub result: Result<Outcome, Rejection>,
}

/// What a proposal comes to.
pub type ProposeResult = Result<Reply, ProposeError>;

/// Takes the answers of many commands, so that a stream of commands needs no channel and no task for each.
///
/// Called exactly once for each command, possibly from inside the state machine's task: it must not block.
pub trait ReplySink: Send + Sync + 'static {
    /// The answer to the command that was submitted with this token.
    fn deliver(&self, token: u64, result: ProposeResult);
}

/// Delivers exactly one answer: the given one, or on being dropped that the node is stopping.
#[derive(Debug)]
pub(crate) struct Ticket(Option<Waiter>);

enum Waiter {
    One(oneshot::Sender<ProposeResult>),
    Many { sink: Arc<dyn ReplySink>, token: u64 },
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(_) => f.write_str("One"),
            Self::Many { token, .. } => write!(f, "Many({token})"),
        }
    }
}

impl Ticket {
    pub(crate) fn one() -> (Self, oneshot::Receiver<ProposeResult>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(Waiter::One(sender))), receiver)
    }

    pub(crate) fn many(sink: Arc<dyn ReplySink>, token: u64) -> Self {
        Self(Some(Waiter::Many { sink, token }))
    }

    pub(crate) fn deliver(mut self, result: ProposeResult) {
        self.hand_out(result);
    }

    fn hand_out(&mut self, result: ProposeResult) {
        match self.0.take() {
            Some(Waiter::One(sender)) => {
                // The caller may have given up waiting.
                let _ = sender.send(result);
            }
            Some(Waiter::Many { sink, token }) => sink.deliver(token, result),
            None => {}
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.hand_out(Err(ProposeError::Stopping));
    }
}

/// A command as it goes into a batch: encoded once, where it entered the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncodedRequest {
    pub(crate) bytes: Bytes,
    pub(crate) kill: bool,
}

impl EncodedRequest {
    pub(crate) fn encode(request: &Request) -> Result<Self, ProposeError> {
        let bytes =
            postcard::to_stdvec(request).expect("requests are plain data, which postcard always encodes");
        Self::sized(bytes.into(), request.command.is_kill())
    }

    /// Takes a command from another node, if it is exactly one command. A batch with anything else in it would stop
    /// every node that applies it.
    pub(crate) fn decode(bytes: Bytes) -> Option<Self> {
        let (request, rest) = postcard::take_from_bytes::<Request>(&bytes).ok()?;
        let kill = request.command.is_kill();
        if rest.is_empty() { Self::sized(bytes, kill).ok() } else { None }
    }

    fn sized(bytes: Bytes, kill: bool) -> Result<Self, ProposeError> {
        match bytes.len() {
            0..=COMMAND_BYTES_MAX => Ok(Self { bytes, kill }),
            got => Err(ProposeError::TooLarge { got }),
        }
    }
}

/// Where a command came from: one that was forwarded here is never forwarded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Here,
    Forwarded,
}

/// A command that waits for its outcome.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) request: EncodedRequest,
    pub(crate) ticket: Ticket,
    pub(crate) origin: Origin,
    pub(crate) since: Instant,
    pub(crate) expires: Instant,
    /// A leader may have it in its log.
    pub(crate) uncertain: bool,
}

impl Proposal {
    pub(crate) fn new(request: EncodedRequest, ticket: Ticket, origin: Origin, timeout: Duration) -> Self {
        let since = Instant::now();
        let expires = since + timeout.min(Duration::from_millis(PROPOSE_TIMEOUT.0));
        Self { request, ticket, origin, since, expires, uncertain: false }
    }

    /// Hands out a result. Where an earlier attempt may stand in some leader's log, a later one's word that nothing was
    /// done would be a guess, and so would be that its deadline has passed: the first may have been carried out.
    pub(crate) fn settle(self, result: ProposeResult) {
        let is_guess = self.uncertain
            && match &result {
                Ok(reply) => matches!(reply.result, Err(Rejection::DeadlinePassed { .. })),
                Err(
                    ProposeError::Busy { .. }
                    | ProposeError::DiskFull
                    | ProposeError::NotUnderstood
                    | ProposeError::TooLarge { .. },
                ) => true,
                Err(_) => false,
            };
        if is_guess { self.give_up() } else { self.ticket.deliver(result) }
    }

    /// Answers that it took too long, or that this node can't do it.
    pub(crate) fn give_up(self) {
        let waited_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ticket.deliver(Err(if self.uncertain {
            ProposeError::UnknownOutcome { waited_ms }
        } else {
            ProposeError::NoLeader { waited_ms }
        }));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_uncertain_command_is_never_said_to_be_undone() {
        let busy = || Err(ProposeError::Busy { queued: 1 });
        let (deadline, now) = Default::default();
        let late = || {
            Ok(Reply { stamp: Stamp::default(), result: Err(Rejection::DeadlinePassed { deadline, now }) })
        };
        for (uncertain, result) in [(false, busy()), (false, late()), (true, busy()), (true, late())] {
            let (ticket, mut receiver) = Ticket::one();
            let request = EncodedRequest { bytes: Bytes::new(), kill: false };
            let mut proposal = Proposal::new(request, ticket, Origin::Here, Duration::from_secs(1));
            proposal.uncertain = uncertain;
            proposal.settle(result.clone());
            let told = receiver.try_recv().unwrap();
            assert_eq!(
                matches!(told, Err(ProposeError::UnknownOutcome { .. })),
                uncertain,
                "{result:?} {told:?}"
            );
        }
    }

    #[test]
    fn a_ticket_answers_once_also_when_it_is_lost() {
        let (ticket, mut receiver) = Ticket::one();
        drop(ticket);
        assert_eq!(receiver.try_recv().unwrap(), Err(ProposeError::Stopping));
        let (ticket, mut receiver) = Ticket::one();
        ticket.deliver(Err(ProposeError::NoLeader { waited_ms: 3 }));
        assert_eq!(receiver.try_recv().unwrap(), Err(ProposeError::NoLeader { waited_ms: 3 }));
    }

    #[test]
    fn only_whole_commands_are_taken_from_other_nodes() {
        let request = crate::testing::kill(1);
        let encoded = EncodedRequest::encode(&request).unwrap();
        assert!(encoded.kill);
        assert_eq!(EncodedRequest::decode(encoded.bytes.clone()), Some(encoded.clone()));
        let mut longer = encoded.bytes.to_vec();
        longer.push(0);
        assert_eq!(EncodedRequest::decode(longer.into()), None);
        assert_eq!(EncodedRequest::decode(encoded.bytes.slice(1..)), None);
        assert_eq!(EncodedRequest::decode(Bytes::new()), None);
    }
}
