//! A change of the trust bundle: new node keys, believed only on the word of a majority of the old ones.

use std::collections::BTreeSet;

use super::{AttestError, is_signed_by, opening};
use crate::{
    command::{Signature, canonical},
    event::TrustBundleChange,
    ids::{ClusterId, Incarnation, NodeId, PublicKey, Version},
    limits::NODES_MAX,
};

/// These are the nodes' keys from this version of the bundle on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleStatement<'a> {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The bundle's version: one more than the old one's.
    pub version: Version,
    /// The new keys, in the order of their nodes.
    pub keys: &'a [(NodeId, PublicKey)],
}

impl BundleStatement<'_> {
    /// The bytes to sign: the domain, fields of fixed size, then the keys' canonical encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = opening(b"haltline/v1/bundle\0", self.cluster_id, self.incarnation);
        bytes.extend_from_slice(&self.version.0.to_be_bytes());
        bytes.extend_from_slice(&canonical(&self.keys));
        bytes
    }

    /// Checks that this follows version `from`, and that a majority of the **old** keys endorse it. New keys, unknown
    /// nodes and signatures that aren't the old key's count for nothing, nor does one key under two names count twice.
    ///
    /// # Errors
    /// [`AttestError::BundleVersion`], [`AttestError::BundleKeys`], [`AttestError::TooFewEndorsements`].
    pub fn verify(
        &self,
        from: Version,
        old: &[(NodeId, PublicKey)],
        endorsements: &[(NodeId, Signature)],
    ) -> Result<(), AttestError> {
        if self.version != from.next() {
            return Err(AttestError::BundleVersion { expected: from.next(), got: self.version });
        }
        let ordered = self.keys.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !ordered || self.keys.is_empty() || self.keys.len() > NODES_MAX {
            return Err(AttestError::BundleKeys { got: self.keys.len() });
        }
        let electorate: BTreeSet<PublicKey> = old.iter().map(|(_, key)| *key).collect();
        let statement = self.to_bytes();
        let endorsed = |node: NodeId, key: &PublicKey| {
            endorsements.iter().any(|(by, signature)| *by == node && is_signed_by(key, &statement, signature))
        };
        let agreeing: BTreeSet<PublicKey> =
            old.iter().filter(|(node, key)| endorsed(*node, key)).map(|(_, key)| *key).collect();
        let needed = electorate.len() / 2 + 1;
        if agreeing.len() < needed {
            return Err(AttestError::TooFewEndorsements { got: agreeing.len(), needed });
        }
        Ok(())
    }
}

/// One bundle of a proven history: its version and its keys.
pub type KnownBundle = (Version, Vec<(NodeId, PublicKey)>);

/// Follows changes from a bundle that is believed, each checked by a majority of the keys before it, and answers all bundles
/// on the way, the first one included. Changes that are in the first one already are passed over.
///
/// # Errors
/// The first change that doesn't follow, as [`BundleStatement::verify`] says it.
pub fn follow_changes<'a>(
    cluster_id: ClusterId,
    believed: KnownBundle,
    changes: impl IntoIterator<Item = &'a TrustBundleChange>,
) -> Result<Vec<KnownBundle>, AttestError> {
    let first = believed.0;
    let (mut version, mut keys) = believed;
    let mut proven = vec![(version, keys.clone())];
    for change in changes.into_iter().filter(|change| change.version > first) {
        let statement = BundleStatement {
            cluster_id,
            incarnation: change.incarnation,
            version: change.version,
            keys: &change.keys,
        };
        statement.verify(version, &keys, &change.endorsements)?;
        (version, keys) = (change.version, change.keys.clone());
        proven.push((version, keys.clone()));
    }
    Ok(proven)
}
