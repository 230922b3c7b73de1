//! Enforcers: the commands about them, and what the state holds of them, both ways.

use haltline_core::{
    command::{BundlePropose, EdgeUpdate, EnforcerKind, JoinTokenCreate},
    ids::{EdgeName, JoinTokenId, NodeId, PublicKey, Version},
    state::{
        Scope,
        records::{EdgeRecord, JoinToken},
    },
    time::Millis,
};

use super::{
    At, ConvertError, Why,
    value::{id, optional, parsed},
};
use crate::v1;

const KINDS: &str = "ENFORCER_KIND_EDGE or ENFORCER_KIND_RELAY";

fn kind(number: i32) -> Result<EnforcerKind, Why> {
    match v1::EnforcerKind::try_from(number) {
        Ok(v1::EnforcerKind::Edge) => Ok(EnforcerKind::Edge),
        Ok(v1::EnforcerKind::Relay) => Ok(EnforcerKind::Relay),
        Ok(v1::EnforcerKind::Unspecified) => Err(Why::Missing { expected: KINDS }),
        Err(_) => Err(Why::Unknown { got: number.into(), expected: KINDS }),
    }
}

impl From<EnforcerKind> for v1::EnforcerKind {
    fn from(kind: EnforcerKind) -> Self {
        match kind {
            EnforcerKind::Edge => Self::Edge,
            EnforcerKind::Relay => Self::Relay,
        }
    }
}

/// Subtrees; an empty text is the whole tree.
fn scopes(paths: &[String], field: &'static str) -> Result<Vec<Scope>, ConvertError> {
    let scope = |(position, text): (usize, &String)| {
        optional(text, field)
            .map_err(|error| ConvertError { field: format!("{field}[{position}]"), why: error.why })
    };
    paths.iter().enumerate().map(scope).collect()
}

fn path_texts(paths: &[Scope]) -> Vec<String> {
    paths.iter().map(|scope| scope.as_ref().map_or_else(String::new, ToString::to_string)).collect()
}

impl TryFrom<v1::CreateJoinTokenRequest> for JoinTokenCreate {
    type Error = ConvertError;

    fn try_from(message: v1::CreateJoinTokenRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            token: id(&message.token, "token")?,
            secret_hash: id(&message.secret_hash, "secret_hash")?,
            edge: parsed(&message.edge, "edge")?,
            kind: kind(message.kind).at("kind")?,
            paths: scopes(&message.paths, "paths")?,
            trusted_for_acks: message.trusted_for_acks,
            ttl: Millis(message.ttl_ms),
        })
    }
}

impl From<&JoinTokenCreate> for v1::CreateJoinTokenRequest {
    fn from(create: &JoinTokenCreate) -> Self {
        Self {
            meta: None,
            token: create.token.0.to_vec(),
            secret_hash: create.secret_hash.0.to_vec(),
            edge: create.edge.to_string(),
            kind: v1::EnforcerKind::from(create.kind).into(),
            paths: path_texts(&create.paths),
            trusted_for_acks: create.trusted_for_acks,
            ttl_ms: create.ttl.0,
        }
    }
}

impl TryFrom<v1::UpdateEdgeRequest> for EdgeUpdate {
    type Error = ConvertError;

    fn try_from(message: v1::UpdateEdgeRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            edge: parsed(&message.name, "name")?,
            paths: message.paths.map(|list| scopes(&list.paths, "paths.paths")).transpose()?,
            trusted_for_acks: message.trusted_for_acks,
            fails_open: message.fails_open,
        })
    }
}

impl From<&EdgeUpdate> for v1::UpdateEdgeRequest {
    fn from(update: &EdgeUpdate) -> Self {
        Self {
            meta: None,
            name: update.edge.to_string(),
            paths: update.paths.as_ref().map(|paths| v1::PathList { paths: path_texts(paths) }),
            trusted_for_acks: update.trusted_for_acks,
            fails_open: update.fails_open,
        }
    }
}

impl TryFrom<v1::ProposeTrustBundleRequest> for BundlePropose {
    type Error = ConvertError;

    fn try_from(message: v1::ProposeTrustBundleRequest) -> Result<Self, ConvertError> {
        let key = |(position, key): (usize, &v1::NodeSigningKey)| {
            let bytes: PublicKey = id(&key.key, "key").map_err(|error: ConvertError| ConvertError {
                field: format!("keys[{position}].key"),
                why: error.why,
            })?;
            Ok((NodeId(key.node), bytes))
        };
        let keys = message.keys.iter().enumerate().map(key).collect::<Result<_, ConvertError>>()?;
        Ok(Self { version: Version(message.version), keys })
    }
}

impl From<&BundlePropose> for v1::ProposeTrustBundleRequest {
    fn from(propose: &BundlePropose) -> Self {
        let key =
            |(node, key): &(NodeId, PublicKey)| v1::NodeSigningKey { node: node.0, key: key.0.to_vec() };
        Self { meta: None, keys: propose.keys.iter().map(key).collect(), version: propose.version.0 }
    }
}

/// An enforcer that was admitted, without how it stands now.
#[must_use]
pub fn edge(name: &EdgeName, record: &EdgeRecord) -> v1::Edge {
    v1::Edge {
        name: name.to_string(),
        kind: v1::EnforcerKind::from(record.kind).into(),
        key: record.key.0.to_vec(),
        paths: path_texts(&record.paths),
        trusted_for_acks: record.trusted_for_acks,
        fails_open: record.fails_open,
        version: record.version.0,
        enrolled: Some(record.enrolled.into()),
        updated: Some(record.updated.into()),
        live: None,
    }
}

/// A join token that waits to be used. What its secret hashes to stays in the state.
#[must_use]
pub fn join_token(id: JoinTokenId, token: &JoinToken) -> v1::JoinToken {
    v1::JoinToken {
        token: id.0.to_vec(),
        edge: token.edge.to_string(),
        kind: v1::EnforcerKind::from(token.kind).into(),
        paths: path_texts(&token.paths),
        trusted_for_acks: token.trusted_for_acks,
        by: token.by.to_string(),
        created: Some(token.created.into()),
        expires_ms: token.expires.0,
    }
}
