//! The keys that nodes sign with, and how they came to be.

use haltline_core::{
    command::Signature,
    event::TrustBundleChange,
    ids::{Incarnation, NodeId, PublicKey, Version},
    state::State,
    time::ClusterTime,
};

use super::{
    At, ConvertError,
    value::{fixed, id},
};
use crate::v1;

/// A node's key as a message.
#[must_use]
pub fn node_signing_key((node, key): (NodeId, PublicKey)) -> v1::NodeSigningKey {
    v1::NodeSigningKey { node: node.0, key: key.0.to_vec() }
}

/// Nodes' keys from a message's field.
///
/// # Errors
/// A key of the wrong length, naming the field and its place.
pub fn node_signing_keys(
    keys: &[v1::NodeSigningKey],
    field: &'static str,
) -> Result<Vec<(NodeId, PublicKey)>, ConvertError> {
    let key = |(position, key): (usize, &v1::NodeSigningKey)| {
        let read: Result<PublicKey, ConvertError> = id(&key.key, "key");
        let read = read.map_err(|error| ConvertError::new(format!("{field}[{position}].key"), error.why))?;
        Ok((NodeId(key.node), read))
    };
    keys.iter().enumerate().map(key).collect()
}

impl From<&TrustBundleChange> for v1::TrustBundleChange {
    fn from(change: &TrustBundleChange) -> Self {
        let endorsement = |(node, signature): &(NodeId, Signature)| v1::Endorsement {
            node: node.0,
            signature: signature.0.to_vec(),
        };
        Self {
            version: change.version.0,
            keys: change.keys.iter().copied().map(node_signing_key).collect(),
            endorsements: change.endorsements.iter().map(endorsement).collect(),
            incarnation: change.incarnation.0,
            old_keys_until_ms: change.old_keys_until.0,
        }
    }
}

impl TryFrom<&v1::TrustBundleChange> for TrustBundleChange {
    type Error = ConvertError;

    fn try_from(message: &v1::TrustBundleChange) -> Result<Self, ConvertError> {
        let endorsement = |(position, endorsement): (usize, &v1::Endorsement)| {
            let signature = fixed(&endorsement.signature, "an Ed25519 signature");
            let signature = signature.at(&format!("endorsements[{position}].signature"))?;
            Ok((NodeId(endorsement.node), Signature(signature)))
        };
        Ok(Self {
            version: Version(message.version),
            keys: node_signing_keys(&message.keys, "keys")?,
            endorsements: message
                .endorsements
                .iter()
                .enumerate()
                .map(endorsement)
                .collect::<Result<_, ConvertError>>()?,
            incarnation: Incarnation(message.incarnation),
            old_keys_until: ClusterTime(message.old_keys_until_ms),
        })
    }
}

/// What a node's state says of the keys. `prepared` is the key that lies ready to be the node's next one.
#[must_use]
pub fn trust(state: &State, node: NodeId, prepared: Option<PublicKey>) -> v1::Trust {
    let history = state.trust_history();
    let proposed = state.proposed_bundle().map(|proposed| v1::ProposedTrustBundle {
        version: proposed.version.0,
        keys: proposed.keys.iter().copied().map(node_signing_key).collect(),
        endorsed_by: proposed.endorsements.iter().map(|(node, _)| node.0).collect(),
        needed: state.bundle_majority(),
        proposed: Some(proposed.proposed.into()),
    });
    v1::Trust {
        cluster_id: state.cluster().map(|cluster| cluster.id.0.to_vec()).unwrap_or_default(),
        version: state.bundle_version().0,
        keys: state.nodes().iter().map(|(id, node)| node_signing_key((*id, node.signing_key))).collect(),
        proposed,
        changes: history.changes().values().map(Into::into).collect(),
        retired: history
            .retired()
            .iter()
            .map(|(key, retired)| v1::RetiredSigningKey {
                key: Some(node_signing_key((retired.node, *key))),
                until_ms: retired.until.0,
            })
            .collect(),
        node: node.0,
        prepared: prepared.map(|key| node_signing_key((node, key))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_change_of_keys_comes_back_as_it_went_and_names_what_is_wrong_with_it() {
        let change = TrustBundleChange {
            version: Version(3),
            keys: vec![(NodeId(1), PublicKey([4; 32])), (NodeId(2), PublicKey([5; 32]))],
            endorsements: vec![(NodeId(1), Signature([6; 64]))],
            incarnation: Incarnation(1),
            old_keys_until: ClusterTime(9),
        };
        let message = v1::TrustBundleChange::from(&change);
        assert_eq!(TrustBundleChange::try_from(&message).unwrap(), change);
        let mut short = message.clone();
        short.keys[1].key.pop();
        assert_eq!(TrustBundleChange::try_from(&short).unwrap_err().field, "keys[1].key");
        let mut short = message;
        short.endorsements[0].signature.pop();
        assert_eq!(TrustBundleChange::try_from(&short).unwrap_err().field, "endorsements[0].signature");
    }
}
