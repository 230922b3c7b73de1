//! Commands about enforcers: who may enforce, where, and with which keys their statements are signed.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Signature;
use crate::{
    ids::{Digest, EdgeName, JoinTokenId, KeyHash, NodeId, PublicKey, Version},
    state::Scope,
    time::Millis,
};

/// What an enforcer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EnforcerKind {
    /// Decides beside agents.
    Edge,
    /// Passes the stream on to other enforcers.
    Relay,
}

/// Proof that an enforcer holds a join token's secret: the SHA-256 of the secret.
///
/// What is stored with the token is the SHA-256 of this, so that whoever only reads the log, or the state of a node,
/// can't let itself in with a token that waits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinProof(pub Digest);

impl JoinProof {
    /// The proof that goes with a secret.
    #[must_use]
    pub fn of_secret(secret: &[u8; 32]) -> Self {
        Self(Digest(Sha256::digest(secret).into()))
    }

    /// What is stored with the token: [`JoinTokenCreate::secret_hash`].
    #[must_use]
    pub fn stored(&self) -> Digest {
        let Self(Digest(bytes)) = self;
        Digest(Sha256::digest(bytes).into())
    }
}

impl std::fmt::Debug for JoinProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinProof(…)")
    }
}

/// See [`super::Command::JoinTokenCreate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenCreate {
    /// Its id, chosen at random.
    pub token: JoinTokenId,
    /// [`JoinProof::stored`] of its secret.
    pub secret_hash: Digest,
    /// The name that the enforcer will have.
    pub edge: EdgeName,
    /// What it will be.
    pub kind: EnforcerKind,
    /// Subtrees that it will be bound to; `None` is the whole tree.
    pub paths: Vec<Scope>,
    /// Whether a relay's word that all below it have acknowledged will count.
    pub trusted_for_acks: bool,
    /// How long the token can be used, at most [`crate::limits::JOIN_TOKEN_TTL_MAX`].
    pub ttl: Millis,
}

/// See [`super::Command::JoinTokenDelete`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenDelete {
    /// Which.
    pub token: JoinTokenId,
}

/// See [`super::Command::EdgeEnrol`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeEnrol {
    /// The token that lets it in.
    pub token: JoinTokenId,
    /// That the enforcer holds the token's secret.
    pub proof: JoinProof,
    /// The key that its certificate is for.
    pub key: KeyHash,
}

/// See [`super::Command::EdgeUpdate`]. A field that is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeUpdate {
    /// Which enforcer.
    pub edge: EdgeName,
    /// New subtrees, all of them.
    pub paths: Option<Vec<Scope>>,
    /// Whether a relay's word that all below it have acknowledged counts.
    pub trusted_for_acks: Option<bool>,
    /// Whether it permits when it can't decide, so that no receipt bounds what it does.
    pub fails_open: Option<bool>,
}

/// See [`super::Command::EdgeRemove`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRemove {
    /// Which enforcer.
    pub edge: EdgeName,
}

/// See [`super::Command::BundlePropose`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundlePropose {
    /// The version that the new bundle will have: the one in force and one.
    pub version: Version,
    /// All keys of the new bundle: each node of the cluster, once.
    pub keys: Vec<(NodeId, PublicKey)>,
}

/// See [`super::Command::BundleEndorse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleEndorse {
    /// The version of the bundle that is endorsed.
    pub version: Version,
    /// By the node's key in the bundle in force, over the [`crate::attest::BundleStatement`].
    pub signature: Signature,
}
