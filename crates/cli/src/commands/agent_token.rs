//! `haltline agent token`: a credential for one running copy of an agent.
//!
//! The token alone goes to standard output, so that it can be piped; what it is goes to standard error. It is written
//! nowhere else.

use haltline_core::{
    command::{Command, CredentialIssue},
    ids::{CredentialId, GrantId, InstanceId},
    time::Millis,
};
use haltline_wire::{
    convert,
    v1::{self, command_reply::Outcome, command_request, credential_service_client::CredentialServiceClient},
};
use serde_json::json;

use super::{Done, Session, resource};
use crate::{
    args::{Format, registry::AgentTokenArgs},
    client::{Client, ClusterFacts, Signing, random},
    exit::Exit,
    failure::Failure,
    output::{times, value, write_out},
};

/// Issues a credential and prints its token.
pub(super) async fn run(session: &Session, args: AgentTokenArgs) -> Result<Exit, Failure> {
    let facts = session.client.facts().await?;
    match obtain(&session.client, &facts, issue(args)?).await? {
        Obtained::Token { done, token, expires_in } => {
            let Outcome::CredentialIssued(issued) = done.outcome() else { return Err(something_else()) };
            show(session, issued, &token, expires_in)?;
            Ok(done.exit())
        }
        Obtained::Waiting(done) => {
            session.screen.print(&done)?;
            Ok(done.exit())
        }
    }
}

/// What came of asking for a credential.
pub(crate) enum Obtained {
    /// It is issued.
    Token {
        /// What was done.
        done: Done,
        /// The token.
        token: String,
        /// How long it is good for.
        expires_in: Millis,
    },
    /// It waits for a second person.
    Waiting(Done),
}

/// Has a credential issued, and its token signed.
///
/// # Errors
/// A refusal, or a node that contradicts itself.
pub(crate) async fn obtain(
    client: &Client,
    facts: &ClusterFacts,
    issue: CredentialIssue,
) -> Result<Obtained, Failure> {
    let request = client.prepare(facts, Command::CredentialIssue(issue), Signing::Own)?;
    let Some(command_request::Command::IssueCredential(message)) =
        convert::command_request(0, &request).command
    else {
        return Err(Failure::protocol("the command has no message"));
    };
    let answer = client
        .call("issuing the credential", |channel| {
            let message = message.clone();
            async move { CredentialServiceClient::new(channel).issue(message).await }
        })
        .await?;
    let done = Done::read(answer.reply.unwrap_or_default())?;
    if done.pending().is_some() {
        return Ok(Obtained::Waiting(done));
    }
    if !matches!(done.outcome(), Outcome::CredentialIssued(_)) {
        return Err(something_else());
    }
    if answer.access_token.is_empty() {
        return Err(Failure::protocol("a node recorded the credential and sent no token for it"));
    }
    Ok(Obtained::Token { done, token: answer.access_token, expires_in: Millis(answer.expires_in_ms) })
}

fn something_else() -> Failure {
    Failure::protocol("a node answered the issue of a credential with something else")
}

fn issue(args: AgentTokenArgs) -> Result<CredentialIssue, Failure> {
    Ok(CredentialIssue {
        credential: CredentialId(random()?),
        instance: match args.instance {
            Some(instance) => instance,
            None => InstanceId(random()?),
        },
        grant: GrantId(random()?),
        agent: args.agent,
        task: args.task.unwrap_or_default(),
        scope: args.tools,
        audience: args.audience,
        ttl: args.ttl,
    })
}

fn show(
    session: &Session,
    issued: &v1::CredentialIssued,
    token: &str,
    expires_in: Millis,
) -> Result<(), Failure> {
    let hex = |bytes: &[u8]| value::hex(bytes);
    if session.screen.format == Format::Table {
        write_out(&format!("{token}\n"))?;
        session.screen.remark(&format!(
            "Credential {} of {}, instance {}, valid for {}.",
            hex(&issued.credential),
            issued.agent,
            hex(&issued.instance),
            times::length(expires_in)
        ));
        session.screen.remark(&format!(
            "Whoever has the token is that agent. To end it: haltline revoke credential {} --reason …",
            hex(&issued.credential)
        ));
        return Ok(());
    }
    session.screen.print(&Issued { issued, token, expires_in })
}

struct Issued<'a> {
    issued: &'a v1::CredentialIssued,
    token: &'a str,
    expires_in: Millis,
}

impl crate::output::Render for Issued<'_> {
    fn page(&self, page: &mut crate::output::page::Page) {
        page.line(self.token);
    }

    fn value(&self) -> serde_json::Value {
        let issued = self.issued;
        json!({
            "access_token": self.token,
            "expires_in_ms": self.expires_in.0,
            "credential": value::hex(&issued.credential),
            "instance": value::hex(&issued.instance),
            "grant": value::hex(&issued.grant),
            "lineage": issued.lineage.iter().map(|grant| value::hex(grant)).collect::<Vec<_>>(),
            "depth": issued.depth,
            "agent": issued.agent,
            "task": issued.task,
            "scope": issued.scope,
            "audience": issued.audience,
            "issued": resource::stamp_value(issued.issued.as_ref()),
            "ends_cluster_time_ms": issued.ends_ms,
            "incarnation": issued.incarnation,
        })
    }
}
