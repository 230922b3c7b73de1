//! Credentials: the command that issues one, and what came of it.

use haltline_core::{
    command::CredentialIssue,
    outcome::IssuedCredential,
    selector::{Pattern, SelectorError},
    time::Millis,
};

use super::{
    ConvertError,
    value::{id, parsed},
};
use crate::v1;

impl TryFrom<v1::IssueCredentialRequest> for CredentialIssue {
    type Error = ConvertError;

    fn try_from(message: v1::IssueCredentialRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            credential: id(&message.credential, "credential")?,
            instance: id(&message.instance, "instance")?,
            grant: id(&message.grant, "grant")?,
            agent: parsed(&message.agent, "agent")?,
            task: parsed(&message.task, "task")?,
            scope: scope(&message.scope)?,
            audience: message.audience.map(|text| parsed(&text, "audience")).transpose()?,
            ttl: message.ttl_ms.map(Millis),
        })
    }
}

fn scope(patterns: &[String]) -> Result<Vec<Pattern>, ConvertError> {
    let pattern = |(position, text): (usize, &String)| {
        text.parse().map_err(|why: SelectorError| ConvertError::new(format!("scope[{position}]"), why))
    };
    patterns.iter().enumerate().map(pattern).collect()
}

impl From<&CredentialIssue> for v1::IssueCredentialRequest {
    fn from(issue: &CredentialIssue) -> Self {
        Self {
            meta: None,
            credential: issue.credential.0.to_vec(),
            instance: issue.instance.0.to_vec(),
            grant: issue.grant.0.to_vec(),
            agent: issue.agent.to_string(),
            task: issue.task.to_string(),
            scope: issue.scope.iter().map(ToString::to_string).collect(),
            audience: issue.audience.as_ref().map(ToString::to_string),
            ttl_ms: issue.ttl.map(|ttl| ttl.0),
        }
    }
}

impl From<&IssuedCredential> for v1::CredentialIssued {
    fn from(issued: &IssuedCredential) -> Self {
        Self {
            credential: issued.credential.0.to_vec(),
            instance: issued.instance.0.to_vec(),
            grant: issued.grant.0.to_vec(),
            agent: issued.agent.to_string(),
            lineage: issued.lineage.iter().map(|grant| grant.0.to_vec()).collect(),
            depth: issued.depth,
            task: issued.task.to_string(),
            scope: issued.scope.iter().map(ToString::to_string).collect(),
            audience: issued.audience.as_ref().map(ToString::to_string),
            issued: Some(issued.issued.into()),
            ends_ms: issued.ends.0,
            incarnation: issued.incarnation.0,
        }
    }
}
