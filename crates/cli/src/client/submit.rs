//! Commands: an id, a deadline, a signature, and the same request until somebody has decided it.

use std::time::Duration;

use haltline_core::{
    command::{Command, Request, Signature, Statement},
    ids::RequestId,
    limits::REQUEST_LIFETIME_MAX,
    time::Millis,
};
use haltline_wire::{convert, v1};

use super::{Client, ClusterFacts, unary};
use crate::{exit::Exit, failure::Failure};

/// Whose signature a command carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signing {
    /// None: what only stops needs none.
    Unsigned,
    /// The caller's own, over this command; it may then wait for others.
    Own,
    /// One over something else, which the command names.
    Given(Signature),
}

/// The time a command that needs nobody else has, beyond what the caller waits.
const GRACE: Millis = Millis(30_000);

impl Client {
    /// Carries out a command, signed unless it only stops.
    ///
    /// # Errors
    /// The refusal, or no decision in time; then it isn't known whether the command was carried out.
    pub(crate) async fn submit(&self, command: Command) -> Result<v1::CommandReply, Failure> {
        let signing = match command {
            Command::Kill(_)
            | Command::Revoke(_)
            | Command::Withdraw(_)
            | Command::JoinTokenDelete(_)
            | Command::EdgeRemove(_) => Signing::Unsigned,
            _ => Signing::Own,
        };
        self.submit_as(command, signing).await
    }

    /// As [`Client::submit`], with a say in the signature.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub(crate) async fn submit_as(
        &self,
        command: Command,
        signing: Signing,
    ) -> Result<v1::CommandReply, Failure> {
        let facts = self.facts().await?;
        let request = self.prepare(&facts, command, signing)?;
        self.send(&request).await
    }

    /// A request that is ready to send, as often as need be.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(crate) fn prepare(
        &self,
        facts: &ClusterFacts,
        command: Command,
        signing: Signing,
    ) -> Result<Request, Failure> {
        let id = RequestId(random()?);
        let caller = self.identity().person().clone();
        let deadline = facts.now.plus(match signing {
            // It waits for nobody, and is remembered until then.
            Signing::Own if matches!(command, Command::CredentialIssue(_)) => self.brief_lifetime(),
            Signing::Own => self.approval_window.max(millis(self.patience)),
            Signing::Unsigned | Signing::Given(_) => self.brief_lifetime(),
        });
        let signature = match signing {
            Signing::Unsigned => None,
            Signing::Given(signature) => Some(signature),
            Signing::Own => {
                let statement = Statement {
                    cluster_id: facts.id,
                    incarnation: facts.incarnation,
                    request_id: id,
                    requester: &caller,
                    deadline,
                    command: &command,
                };
                Some(Signature(self.identity().signer().sign(&statement.to_bytes())))
            }
        };
        Ok(Request { id, caller: caller.into(), deadline, signature, command })
    }

    /// Sends a request until it is decided.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub(crate) async fn send(&self, request: &Request) -> Result<v1::CommandReply, Failure> {
        let message = convert::command_request(0, request)
            .command
            .ok_or_else(|| Failure::protocol("the command has no message"))?;
        let purpose = purpose(&request.command);
        let sent = self.call(purpose, |channel| unary::send(channel, message.clone())).await;
        sent.map_err(|failure| match failure.exit {
            Exit::Unreachable => unknown_outcome(failure),
            _ => failure,
        })
    }

    fn brief_lifetime(&self) -> Millis {
        Millis(millis(self.patience).0.saturating_add(GRACE.0).min(REQUEST_LIFETIME_MAX.0))
    }
}

fn millis(duration: Duration) -> Millis {
    Millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// Random bytes, for ids and secrets.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::local(format!("the system has no randomness: {error}")))?;
    Ok(bytes)
}

fn unknown_outcome(failure: Failure) -> Failure {
    let message = format!("{}; whether it was carried out isn't known", failure.message);
    Failure { message, ..failure }.with("outcome", "unknown")
}

/// What is going on, for a person who waits.
const fn purpose(command: &Command) -> &'static str {
    match command {
        Command::FleetCreate(_) => "creating the fleet",
        Command::FleetUpdate(_) => "changing the fleet",
        Command::FleetDelete(_) => "deleting the fleet",
        Command::AgentRegister(_) => "registering the agent",
        Command::AgentUpdate(_) => "changing the agent",
        Command::AgentDelete(_) => "deleting the agent",
        Command::PersonAdd(_) => "enrolling the person",
        Command::PersonUpdate(_) => "changing the person",
        Command::PersonRemove(_) => "removing the person",
        Command::Kill(_) => "placing the kill",
        Command::Resume(_) => "resuming",
        Command::Approve(_) => "approving",
        Command::Withdraw(_) => "withdrawing",
        Command::Revoke(_) => "revoking",
        Command::PolicyUpdate(_) => "changing the policy",
        Command::JoinTokenCreate(_) => "making the join token",
        Command::JoinTokenDelete(_) => "deleting the join token",
        Command::EdgeEnrol(_) => "enrolling the edge",
        Command::EdgeUpdate(_) => "changing the edge",
        Command::EdgeRemove(_) => "removing the edge",
        Command::CredentialIssue(_) => "issuing the credential",
        Command::ReceiptRecord(_) => "recording the receipt",
        Command::BundlePropose(_) => "proposing the trust bundle",
        Command::BundleEndorse(_) => "endorsing the trust bundle",
    }
}
