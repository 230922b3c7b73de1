//! The keys by which tokens are checked, ready for use: a key that lies compressed costs a square root at each check.

use std::{collections::HashMap, fmt};

use ed25519_dalek::VerifyingKey;
use haltline_core::{
    ids::{KeyHash, NodeId, PublicKey},
    limits::TOKEN_KEYS_MAX,
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
pub struct VerifyingKeys(HashMap<KeyHash, (NodeId, VerifyingKey)>);

impl VerifyingKeys {
    /// Takes in keys. A node may have two: the one in use and the one that it replaced.
    ///
    /// # Errors
    /// [`PkiError::Malformed`] for a key that is no point of the curve, or one of small order, which would accept
    /// signatures that nobody made; [`PkiError::TooMany`] past [`TOKEN_KEYS_MAX`].
    pub fn new(keys: impl IntoIterator<Item = (NodeId, PublicKey)>) -> Result<Self, PkiError> {
        let mut table = HashMap::new();
        for (node, public) in keys {
            let key =
                VerifyingKey::from_bytes(&public.0).ok().filter(|key| !key.is_weak()).ok_or_else(|| {
                    PkiError::malformed(format!("the signing key of node {node}"), "an Ed25519 public key")
                })?;
            table.insert(key_id(&public), (node, key));
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
        self.0.get(kid).map(|(node, _)| *node)
    }

    pub(super) fn get(&self, kid: &KeyHash) -> Option<&(NodeId, VerifyingKey)> {
        self.0.get(kid)
    }
}

impl fmt::Debug for VerifyingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(kid, (node, _))| (kid, node))).finish()
    }
}
