//! The keys by which tokens are checked, ready for use: a key that lies compressed costs a square root at each check.

use std::{collections::HashMap, fmt};

use ed25519_dalek::VerifyingKey;
use haltline_core::{
    ids::{KeyHash, NodeId, PublicKey},
    limits::TOKEN_KEYS_MAX,
    time::ClusterTime,
};
use sha2::{Digest as _, Sha256};

use crate::{error::PkiError, trust_bundle::TrustBundle};

/// The `kid` of a node's signing key: SHA-256 of its 32 bytes.
#[must_use]
pub fn key_id(key: &PublicKey) -> KeyHash {
    KeyHash(Sha256::digest(key.0).into())
}

/// The nodes' signing keys by their `kid`. Made anew when the trust bundle changes.
#[derive(Clone, Default)]
pub struct VerifyingKeys(HashMap<KeyHash, TokenKey>);

/// One of them.
#[derive(Clone, Copy)]
pub(super) struct TokenKey {
    pub(super) node: NodeId,
    pub(super) key: VerifyingKey,
    /// A key that was replaced vouches for no token that ends later.
    pub(super) until: Option<ClusterTime>,
}

impl VerifyingKeys {
    /// Takes in keys. A node may have two: the one in use and the one that it replaced.
    ///
    /// # Errors
    /// [`PkiError::Malformed`] for a key that is no point of the curve, or one of small order, which would accept
    /// signatures that nobody made; [`PkiError::TooMany`] past [`TOKEN_KEYS_MAX`].
    pub fn new(keys: impl IntoIterator<Item = (NodeId, PublicKey)>) -> Result<Self, PkiError> {
        Self::with_retired(keys.into_iter().map(|(node, key)| (node, key, None)))
    }

    /// As [`VerifyingKeys::new`], with keys that were replaced among them: those vouch only for tokens that end by a time.
    /// Where a key comes twice the later counts.
    ///
    /// # Errors
    /// As [`VerifyingKeys::new`].
    pub fn with_retired(
        keys: impl IntoIterator<Item = (NodeId, PublicKey, Option<ClusterTime>)>,
    ) -> Result<Self, PkiError> {
        let mut table = HashMap::new();
        for (node, public, until) in keys {
            let key =
                VerifyingKey::from_bytes(&public.0).ok().filter(|key| !key.is_weak()).ok_or_else(|| {
                    PkiError::malformed(format!("the signing key of node {node}"), "an Ed25519 public key")
                })?;
            table.insert(key_id(&public), TokenKey { node, key, until });
            if table.len() > TOKEN_KEYS_MAX {
                let what = "keys of nodes";
                return Err(PkiError::TooMany { what, got: table.len(), max: TOKEN_KEYS_MAX });
            }
        }
        Ok(Self(table))
    }

    /// The keys of all nodes in a trust bundle.
    ///
    /// # Errors
    /// As [`VerifyingKeys::new`].
    pub fn of_bundle(bundle: &TrustBundle) -> Result<Self, PkiError> {
        Self::new(bundle.nodes().iter().map(|(node, keys)| (*node, keys.signing_key)))
    }

    /// Whose key a `kid` is.
    #[must_use]
    pub fn node(&self, kid: &KeyHash) -> Option<NodeId> {
        self.0.get(kid).map(|key| key.node)
    }

    /// Whether a key is known and vouches for a token that ends then.
    #[must_use]
    pub fn vouches_until(&self, kid: &KeyHash, ends: ClusterTime) -> bool {
        self.0.get(kid).is_some_and(|key| key.until.is_none_or(|until| ends <= until))
    }

    pub(super) fn get(&self, kid: &KeyHash) -> Option<&TokenKey> {
        self.0.get(kid)
    }
}

impl fmt::Debug for VerifyingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(kid, key)| (kid, key.node))).finish()
    }
}
