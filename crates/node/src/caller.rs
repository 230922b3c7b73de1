//! Who calls: the key of the connection's certificate, looked up in the replicated registry.

use haltline_core::{
    ids::{EdgeName, NodeId, PersonId},
    state::{KeyOwner, KeyOwners},
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
    /// An enforcer.
    Edge(EdgeName),
}

impl Caller {
    /// Whose key the connection has, by the registry. A certificate's name counts for nothing.
    pub(crate) fn of(extensions: &Extensions, owners: &KeyOwners) -> Result<Self, Refused> {
        let peer = extensions.get::<PeerIdentity>().ok_or(Refused::NoCertificate)?;
        match owners.get(&peer.key_hash) {
            Some(KeyOwner::Person(person)) => Ok(Self::Person(person.clone())),
            Some(KeyOwner::Node(node)) => Ok(Self::Node(*node)),
            Some(KeyOwner::Edge(edge)) => Ok(Self::Edge(edge.clone())),
            None => Err(Refused::UnregisteredKey { subject: peer.subject.clone() }),
        }
    }

    /// The node, where nobody else has business.
    pub(crate) fn node(self) -> Result<NodeId, Refused> {
        match self {
            Self::Node(node) => Ok(node),
            Self::Person(person) => Err(Refused::NodesOnly { subject: Subject::Person(person) }),
            Self::Edge(edge) => Err(Refused::NodesOnly { subject: Subject::Edge(edge) }),
        }
    }

    /// The person, where nobody else has business.
    pub(crate) fn person(self) -> Result<PersonId, Refused> {
        match self {
            Self::Person(person) => Ok(person),
            Self::Node(node) => Err(Refused::PeopleOnly { subject: Subject::Node(node) }),
            Self::Edge(edge) => Err(Refused::PeopleOnly { subject: Subject::Edge(edge) }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use haltline_core::{
        LogIndex,
        command::{Batch, Genesis, NodeRecord, PersonAdd, Role, RoleBinding},
        ids::{ClusterId, Digest, Incarnation, KeyHash, PublicKey},
        state::State,
    };
    use haltline_pki::UnixSeconds;
    use haltline_wire::refusal::Refusal;

    use super::*;

    const ADAS: KeyHash = KeyHash([1; 32]);
    const NODES: KeyHash = KeyHash([2; 32]);

    fn owners() -> KeyOwners {
        let node = NodeRecord {
            id: NodeId(1),
            name: "one".parse().unwrap(),
            key_hash: NODES,
            signing_key: PublicKey([3; 32]),
        };
        let first_admin = PersonAdd {
            person: "ada".parse().unwrap(),
            tls_keys: vec![ADAS],
            signing_key: PublicKey([4; 32]),
            roles: vec![RoleBinding { role: Role::Admin, path: None }],
        };
        let genesis = Genesis {
            cluster_id: ClusterId([5; 16]),
            incarnation: Incarnation(0),
            trust_bundle: Digest([6; 32]),
            nodes: vec![node],
            first_admin,
        };
        let mut state = State::new();
        state.apply(LogIndex(1), &Batch { genesis: Some(Box::new(genesis)), ..Batch::default() });
        state.key_owners().clone()
    }

    fn caller(name: &str, key_hash: KeyHash) -> Result<Caller, Refused> {
        let mut extensions = Extensions::new();
        extensions.insert(PeerIdentity {
            subject: Subject::Person(name.parse().unwrap()),
            key_hash,
            not_after: UnixSeconds(0),
            remote_addr: ([127, 0, 0, 1], 1).into(),
        });
        Caller::of(&extensions, &owners())
    }

    #[test]
    fn the_key_counts_and_not_the_name() {
        let ada = Caller::Person("ada".parse().unwrap());
        assert_eq!(caller("ada", ADAS).unwrap(), ada);
        assert_eq!(caller("mallory", ADAS).unwrap(), ada);
        assert_eq!(caller("ada", NODES).unwrap(), Caller::Node(NodeId(1)));
        assert_eq!(caller("ada", NODES).unwrap().person().unwrap_err().reason(), "PEOPLE_ONLY");
    }

    #[test]
    fn an_unregistered_key_is_nobody_and_learns_nothing_else() {
        let refusal: Refusal = caller("ada", KeyHash([9; 32])).unwrap_err().refusal();
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (tonic::Code::Unauthenticated, "UNREGISTERED_KEY")
        );
        assert_eq!(
            refusal.message,
            "person ada is nobody here: the key of this certificate isn't registered (or was removed); ask an operator \
             to register it"
        );
        assert_eq!(Caller::of(&Extensions::new(), &owners()).unwrap_err().reason(), "NO_CERTIFICATE");
    }
}
