//! Who calls: the key of the connection's certificate, looked up in the replicated registry.

use haltline_core::{
    ids::{NodeId, PersonId},
    state::State,
};
use haltline_pki::{PeerIdentity, Subject};
use tonic::Extensions;

use crate::refused::Refused;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A person.
    Person(PersonId),
    /// A node of this cluster.
    Node(NodeId),
}

impl Caller {
    /// Whose key the connection has, by this state. A certificate's name counts for nothing.
    pub(crate) fn of(extensions: &Extensions, state: &State) -> Result<Self, Refused> {
        let peer = extensions.get::<PeerIdentity>().ok_or(Refused::NoCertificate)?;
        if let Some(person) = state.person_by_key(&peer.key_hash) {
            return Ok(Self::Person(person.clone()));
        }
        match (state.node_by_key(&peer.key_hash), &peer.subject) {
            (Some(node), _) => Ok(Self::Node(node)),
            (None, subject) => Err(Refused::UnregisteredKey { subject: subject.clone() }),
        }
    }

    /// The person, where nobody else has business.
    pub(crate) fn person(self) -> Result<PersonId, Refused> {
        match self {
            Self::Person(person) => Ok(person),
            Self::Node(node) => Err(Refused::PeopleOnly { subject: Subject::Node(node) }),
        }
    }
}
