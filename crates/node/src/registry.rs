//! The replicated registry as the handshakes of the API and edge ports ask it.

use std::sync::Arc;

use haltline_consensus::Consensus;
use haltline_core::{command::RevocationTarget, ids::KeyHash, state::KeyOwner};
use haltline_pki::{Authority, Refusal, Subject, TrustBundle};

/// Admits the keys that the applied state knows. Before the cluster's first entry is applied nobody is known but the
/// founding nodes.
pub(crate) struct Registry {
    consensus: Consensus,
    bundle: TrustBundle,
}

impl Registry {
    pub(crate) fn new(consensus: Consensus, bundle: TrustBundle) -> Arc<Self> {
        Arc::new(Self { consensus, bundle })
    }
}

impl Authority for Registry {
    fn admit(&self, subject: &Subject, key_hash: &KeyHash) -> Result<(), Refusal> {
        let published = self.consensus.state();
        let state = &published.state;
        if !state.is_founded() {
            return self.bundle.admit(subject, key_hash).map_err(|_| Refusal::NotReady);
        }
        let is_revoked = state.revocations().contains_key(&RevocationTarget::Key(*key_hash));
        let (is_theirs, is_known) = match subject {
            Subject::Person(person) => {
                (state.person_by_key(key_hash) == Some(person), state.people().contains_key(person))
            }
            Subject::Node(node) => {
                (state.node_by_key(key_hash) == Some(*node), state.nodes().contains_key(node))
            }
            Subject::Edge(edge) => {
                let is_theirs =
                    matches!(state.key_owners().get(key_hash), Some(KeyOwner::Edge(owner)) if owner == edge);
                // People and nodes lose a key by `operator` verbs and a new bundle; an enforcer whose key is revoked is out.
                (is_theirs && !is_revoked, state.edges().contains_key(edge))
            }
        };
        match (is_theirs, is_known) {
            (true, _) => Ok(()),
            (false, true) => Err(Refusal::OtherKey),
            (false, false) => Err(Refusal::Unregistered),
        }
    }
}
