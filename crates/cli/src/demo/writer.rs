//! A client that keeps writing over the pipelined stream, whatever happens to the node it talks to.
//!
//! A command keeps its id until it is decided: after a broken connection it goes out again, to another node, as the same
//! request. So whatever is acknowledged was carried out once.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use haltline_core::{
    command::{AgentRegister, Command, Request},
    path::AgentPath,
    text::Labels,
};
use haltline_wire::{
    convert,
    refusal::Refusal,
    v1::{self, command_reply::Outcome, command_service_client::CommandServiceClient},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};

use crate::{
    client::{Client, ClusterFacts, Signing},
    failure::Failure,
};

/// Silence after which a connection counts as broken while answers are due.
const SILENCE_MAX: Duration = Duration::from_millis(1_500);
/// Before a command that was turned away goes out again.
const PAUSE: Duration = Duration::from_millis(10);

/// A command that was decided.
#[derive(Debug, Clone)]
pub(super) struct Acknowledged {
    /// What it registered.
    pub(super) path: AgentPath,
    /// When the answer came.
    pub(super) at: Instant,
}

/// What came of a run.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// In the order of the answers.
    pub(super) acknowledged: Vec<Acknowledged>,
    /// Refused for good.
    pub(super) refused: Vec<(AgentPath, String)>,
    /// How often a command went out again under the same id.
    pub(super) resent: u64,
    /// How often another connection was made.
    pub(super) reconnected: u32,
}

impl Written {
    /// The longest time without an answer that ended after `moment`.
    pub(super) fn longest_gap_after(&self, moment: Instant) -> Duration {
        let pairs = self.acknowledged.windows(2).filter(|pair| pair[1].at > moment);
        pairs.map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
    }
}

/// Registers agents by number, at most `window` at a time.
pub(super) struct Writer {
    client: Client,
    facts: ClusterFacts,
    window: usize,
    waiting: BTreeMap<u64, (AgentPath, Request)>,
    /// Numbers that must go out again.
    again: VecDeque<u64>,
    next: u64,
    written: Written,
    progress: watch::Sender<usize>,
}

impl Writer {
    /// A writer, and how many of its commands were acknowledged.
    pub(super) fn new(client: Client, facts: ClusterFacts, window: usize) -> (Self, watch::Receiver<usize>) {
        let (progress, acknowledged) = watch::channel(0);
        let writer = Self {
            client,
            facts,
            window,
            waiting: BTreeMap::new(),
            again: VecDeque::new(),
            next: 0,
            written: Written::default(),
            progress,
        };
        (writer, acknowledged)
    }

    /// Writes until `path` gives no more or `stop` is asked for, and all that went out is decided.
    ///
    /// # Errors
    /// A request can't be made.
    pub(super) async fn run(
        mut self,
        path: impl Fn(u64) -> Option<AgentPath>,
        stop: CancellationToken,
    ) -> Result<Written, Failure> {
        loop {
            if self.connection(&path, &stop).await? {
                return Ok(self.written);
            }
            self.written.reconnected += 1;
            self.client.prefer_next();
            self.again = self.waiting.keys().copied().collect();
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Writes over one connection. Says whether all is done.
    async fn connection(
        &mut self,
        path: &impl Fn(u64) -> Option<AgentPath>,
        stop: &CancellationToken,
    ) -> Result<bool, Failure> {
        let (out, messages) = mpsc::channel(self.window);
        let opening = CommandServiceClient::new(self.client.channel());
        let Ok(Ok(answers)) = timeout(SILENCE_MAX, {
            let mut service = opening;
            async move { service.stream(ReceiverStream::new(messages)).await }
        })
        .await
        else {
            return Ok(false);
        };
        let mut answers = answers.into_inner();
        loop {
            while let Some(message) = self.next_message(path, stop)? {
                if out.send(message).await.is_err() {
                    return Ok(false);
                }
            }
            if self.waiting.is_empty() {
                return Ok(true);
            }
            if !self.take_answer(&mut answers).await {
                return Ok(false);
            }
        }
    }

    /// The next message to go out, if there is room for one.
    fn next_message(
        &mut self,
        path: &impl Fn(u64) -> Option<AgentPath>,
        stop: &CancellationToken,
    ) -> Result<Option<v1::CommandRequest>, Failure> {
        while let Some(number) = self.again.pop_front() {
            if let Some((_, request)) = self.waiting.get(&number) {
                self.written.resent += 1;
                return Ok(Some(convert::command_request(number, request)));
            }
        }
        if self.waiting.len() >= self.window || stop.is_cancelled() {
            return Ok(None);
        }
        let Some(agent) = path(self.next) else { return Ok(None) };
        let register = Command::AgentRegister(AgentRegister { path: agent.clone(), labels: Labels::none() });
        let request = self.client.prepare(&self.facts, register, Signing::Unsigned)?;
        let message = convert::command_request(self.next, &request);
        self.waiting.insert(self.next, (agent, request));
        self.next += 1;
        Ok(Some(message))
    }

    /// Takes one answer in. Says whether the connection still serves.
    async fn take_answer(&mut self, answers: &mut Streaming<v1::CommandReply>) -> bool {
        let Ok(Ok(Some(reply))) = timeout(SILENCE_MAX, answers.message()).await else { return false };
        let number = reply.sequence;
        match reply.outcome {
            Some(Outcome::Refusal(refusal)) => {
                let refusal = Refusal::from_message(refusal);
                if refusal.retry_after.is_some() || refusal.code == Code::Unavailable {
                    tokio::time::sleep(PAUSE).await;
                    self.again.push_back(number);
                } else if let Some((path, _)) = self.waiting.remove(&number) {
                    self.written.refused.push((path, refusal.message));
                }
            }
            _ => {
                if let Some((path, _)) = self.waiting.remove(&number) {
                    self.written.acknowledged.push(Acknowledged { path, at: Instant::now() });
                    self.progress.send_replace(self.written.acknowledged.len());
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_the_longest_silence_that_ended_after_the_moment() {
        let start = Instant::now();
        let at = |ms| Acknowledged {
            path: "acme/x/y".parse().expect("a path"),
            at: start + Duration::from_millis(ms),
        };
        let written = Written { acknowledged: [0, 90, 100, 350, 360].map(at).into(), ..Written::default() };
        let gap = |ms| written.longest_gap_after(start + Duration::from_millis(ms));
        assert_eq!(gap(105), Duration::from_millis(250));
        assert_eq!(gap(355), Duration::from_millis(10));
        assert_eq!(gap(400), Duration::ZERO);
    }
}
