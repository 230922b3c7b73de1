//! The pipelined command stream under load: a window of commands in flight, each reply begets the next command.

use std::time::{Duration, Instant};

use haltline_wire::v1::{
    CommandReply, CommandRequest, command_reply::Outcome, command_request::Command as Message,
    command_service_client::CommandServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::{SYSTEM, client::CommandMaker};
use crate::{
    failure::Failure,
    latency::Latencies,
    load::{Run, Window, finished},
};

/// A stream of commands and the window that it keeps full.
pub(crate) struct CommandStream {
    commands: mpsc::Sender<CommandRequest>,
    replies: Streaming<CommandReply>,
}

impl CommandStream {
    /// Opens a stream on which at most `window` commands will be in flight.
    pub(crate) async fn open(channel: Channel, window: usize) -> Result<Self, Failure> {
        let (commands, queue) = mpsc::channel(window);
        let opened = CommandServiceClient::new(channel).stream(ReceiverStream::new(queue)).await;
        let replies = opened.map_err(|status| Failure::call(SYSTEM, &status))?.into_inner();
        Ok(Self { commands, replies })
    }

    /// Sends a command. There must be room in the window.
    pub(crate) async fn send(&self, sequence: u64, command: Message) -> Result<(), Failure> {
        let sent = self.commands.send(CommandRequest { sequence, command: Some(command) }).await;
        sent.map_err(|_| broken("it was closed while commands were being sent"))
    }

    /// The sequence of the next command that was carried out.
    pub(crate) async fn next(&mut self) -> Result<u64, Failure> {
        let reply = self.replies.message().await.map_err(|status| Failure::call(SYSTEM, &status))?;
        let reply = reply.ok_or_else(|| broken("it ended before all replies had come"))?;
        match reply.outcome {
            Some(Outcome::Refusal(refusal)) => {
                Err(broken(&format!("{}: {}", refusal.reason, refusal.message)))
            }
            _ => Ok(reply.sequence),
        }
    }

    /// Carries out all of the commands, as many at once as the window has room for.
    pub(crate) async fn run_all(
        &mut self,
        window: usize,
        commands: impl ExactSizeIterator<Item = Message>,
    ) -> Result<(), Failure> {
        let mut left = commands.len();
        let mut numbered = (0..).zip(commands);
        for (sequence, command) in numbered.by_ref().take(window) {
            self.send(sequence, command).await?;
        }
        while left > 0 {
            self.next().await?;
            left -= 1;
            if let Some((sequence, command)) = numbered.next() {
                self.send(sequence, command).await?;
            }
        }
        Ok(())
    }
}

/// Keeps every stream's window full of updates; `in_flight` is that of all streams together.
pub(crate) async fn closed_loop(
    channels: Vec<Channel>,
    maker: &CommandMaker,
    in_flight: usize,
    window: Window,
    servers: &[u32],
) -> Result<Run, Failure> {
    let (streams, slots) = (channels.len(), in_flight / channels.len().max(1));
    let measured = window.begin();
    let mut running = tokio::task::JoinSet::new();
    for (position, channel) in channels.into_iter().enumerate() {
        let (maker, mut stream) = (maker.clone(), CommandStream::open(channel, slots).await?);
        running.spawn(async move {
            let numbers = (position as u64..).step_by(streams);
            let mut updates = numbers.map(|number| Message::UpdateAgent(maker.update(number)));
            keep_full(&mut stream, slots, &mut updates, |answered| {
                (measured.contains(answered), answered >= measured.end)
            })
            .await
        });
    }
    let cpu = measured.cpu(servers).await?;
    let mut latencies = Latencies::new();
    while let Some(samples) = running.join_next().await {
        finished(samples)??.into_iter().for_each(|latency| latencies.record(latency));
    }
    measured.run(SYSTEM, latencies, cpu)
}

/// One stream's part: `slots` commands in flight, each named by its slot. `judge` says of a moment whether what was
/// answered then counts, and whether it is time to stop.
async fn keep_full(
    stream: &mut CommandStream,
    slots: usize,
    updates: &mut (impl Iterator<Item = Message> + Send),
    judge: impl Fn(Instant) -> (bool, bool) + Send,
) -> Result<Vec<Duration>, Failure> {
    let mut sent = Vec::with_capacity(slots);
    for (slot, update) in (0..slots as u64).zip(updates.by_ref()) {
        sent.push(Instant::now());
        stream.send(slot, update).await?;
    }
    let mut latencies = Vec::new();
    let mut in_flight = sent.len();
    while in_flight > 0 {
        let slot = stream.next().await?;
        let unknown = || broken(&format!("it answered to {slot}, which was never sent"));
        let began = usize::try_from(slot).ok().and_then(|slot| sent.get_mut(slot)).ok_or_else(unknown)?;
        let answered = Instant::now();
        let (counts, stop) = judge(answered);
        if counts {
            latencies.push(answered - *began);
        }
        match updates.next() {
            Some(update) if !stop => {
                *began = answered;
                stream.send(slot, update).await?;
            }
            _ => in_flight -= 1,
        }
    }
    Ok(latencies)
}

fn broken(reason: &str) -> Failure {
    Failure::Call { system: SYSTEM, reason: format!("the command stream: {reason}") }
}
