//! What all services share: the replicated state, this node's identity, its bounds and its metrics.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use haltline_consensus::{Consensus, Published};
use haltline_core::{command::Request as Command, ids::PersonId, rejection::Outcome, time::Stamp};
use haltline_pki::NodeIdentity;
use haltline_wire::{convert, v1};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Extensions, Response, Status};

use crate::{
    caller::Caller, diagnosis::Diagnosis, enforcement::Enforcements, metrics::Metrics, places::Places,
    places_taken::PlacesTaken, refused::Refused, reload::InForce, services::Watches, signing::Signing,
};

/// Shared by all services. Held in an [`Arc`].
pub(crate) struct Context {
    pub(crate) consensus: Consensus,
    pub(crate) identity: NodeIdentity,
    pub(crate) signing: Arc<Signing>,
    pub(crate) metrics: Metrics,
    pub(crate) places: Places,
    pub(crate) diagnosis: Diagnosis,
    pub(crate) config: InForce,
    /// When the certificate ends that is shown, in seconds since 1970.
    pub(crate) certificate_ends: AtomicU64,
    pub(crate) watches: Watches,
    pub(crate) enforcements: Arc<Enforcements>,
    pub(crate) progress_streams: PlacesTaken,
    /// For other nodes: people who watch mustn't keep them from proving kills.
    pub(crate) peer_streams: PlacesTaken,
    pub(crate) backups: PlacesTaken,
    pub(crate) started: Instant,
    /// Cancelled when the node begins to stop: long streams end then.
    pub(crate) stopping: CancellationToken,
    /// Streams that are open.
    pub(crate) streams: TaskTracker,
}

/// The state after a read barrier, and who reads it.
pub(crate) struct Reading {
    pub(crate) published: Arc<Published>,
    pub(crate) caller: PersonId,
}

impl Context {
    /// Who calls, by the state as this node has it.
    pub(crate) fn caller(&self, extensions: &Extensions) -> Result<Caller, Refused> {
        Caller::of(extensions, &self.consensus.key_owners())
    }

    /// The person who commands.
    pub(crate) fn commander(&self, extensions: &Extensions) -> Result<PersonId, Refused> {
        self.caller(extensions)?.person()
    }

    /// The current state for a person: every command that was answered before this call began is in it.
    pub(crate) async fn read(&self, extensions: &Extensions) -> Result<Reading, Refused> {
        // Nobody makes the cluster work before it is known who they are, and a key removed meanwhile counts no more.
        self.caller(extensions)?.person()?;
        self.consensus.read_barrier().await?;
        let published = self.consensus.state();
        let caller = Caller::of(extensions, published.state.key_owners())?.person()?;
        Ok(Reading { published, caller })
    }

    /// Reads with a closure that may take long, off the threads that serve calls.
    pub(crate) async fn read_long<T: Send + 'static>(
        &self,
        extensions: &Extensions,
        read: impl FnOnce(&Reading) -> Result<T, Refused> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let reading = self.read(extensions).await?;
        let answer = tokio::task::spawn_blocking(move || read(&reading)).await;
        // The only way not to be joined is a runtime that stops.
        Ok(Response::new(answer.map_err(|_| Refused::Stopping)??))
    }

    /// Carries out one command and waits for what came of it.
    pub(crate) async fn command(
        &self,
        extensions: &Extensions,
        message: v1::command_request::Command,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let caller = self.commander(extensions)?;
        let command = convert::request(&caller, message).map_err(Refused::from)?;
        let (stamp, outcome) = self.propose(command).await?;
        Ok(Response::new(convert::outcome_reply(0, stamp, &outcome)))
    }

    /// Proposes, counts and times one command.
    pub(crate) async fn propose(&self, command: Command) -> Result<(Stamp, Outcome), Refused> {
        let (name, began) = (command.command.name(), Instant::now());
        let answer = self.consensus.propose(&command).await.map_err(Refused::from);
        let decided = answer.and_then(|reply| Ok((reply.stamp, reply.result?)));
        self.metrics.decided(name, began.elapsed(), decided.as_ref().map(|(_, outcome)| outcome));
        decided
    }
}
