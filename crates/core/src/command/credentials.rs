//! Commands about credentials.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{CredentialId, GrantId, InstanceId},
    path::AgentPath,
    selector::Pattern,
    text::Text,
    time::Millis,
};

/// See [`super::Command::CredentialIssue`]. The ids are random, chosen by who asks, so that a retry asks for the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialIssue {
    /// The credential (`jti`).
    pub credential: CredentialId,
    /// The running copy; one that lives may get further credentials.
    pub instance: InstanceId,
    /// The grant that begins this lineage.
    pub grant: GrantId,
    /// The agent.
    pub agent: AgentPath,
    /// What it is for, in words.
    pub task: Text,
    /// Tools that it may use, within what its fleets declare; empty: all that they declare.
    pub scope: Vec<Pattern>,
    /// Whom the token is for (`aud`); `None`: this cluster's enforcers.
    pub audience: Option<Text>,
    /// How long it lives; `None`: as long as the fleet allows.
    pub ttl: Option<Millis>,
}
