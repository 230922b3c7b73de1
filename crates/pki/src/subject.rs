//! Who a certificate is for: a role, a name in it, and the SPIFFE ID that writes both down.
//!
//! A leaf names its subject in exactly one URI: `spiffe://<cluster id>/<role>/<name>`. An intermediate names its role as
//! `spiffe://<cluster id>/ca/<role>`, signed by the root, so a node's intermediate can't vouch for a person.

use std::{fmt, str::FromStr};

pub use haltline_core::ids::EdgeName;
use haltline_core::ids::{ClusterId, NodeId, PersonId};

/// What the holder of a certificate is. Each role has its own intermediate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A node of the control plane.
    Node,
    /// An edge enforcer.
    Edge,
    /// A person.
    Person,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Node, Self::Edge, Self::Person];

    /// The word that stands in file names and SPIFFE IDs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Edge => "edge",
            Self::Person => "person",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The roles that a port accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles(&'static [Role]);

impl Roles {
    /// Nodes alone: the Raft port.
    pub const NODES: Self = Self(&[Role::Node]);
    /// Enforcers alone, edges and relays: the edge port.
    pub const EDGES: Self = Self(&[Role::Edge]);
    /// Nodes, edges and people: the API port.
    pub const EVERYONE: Self = Self(&Role::ALL);

    /// Whether a role is among them.
    #[must_use]
    pub fn contains(self, role: Role) -> bool {
        self.0.contains(&role)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, role) in self.0.iter().enumerate() {
            let separator = match index {
                0 => "",
                _ if index + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{separator}{role}")?;
        }
        Ok(())
    }
}

/// The text names no subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected spiffe://<32 hex digits>/<node, edge or person>/<name>")]
pub struct SubjectError;

/// Whom a certificate is for. Shown as `node 1` or `person ada`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A node.
    Node(NodeId),
    /// An edge.
    Edge(EdgeName),
    /// A person.
    Person(PersonId),
}

impl Subject {
    /// The role.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self {
            Self::Node(_) => Role::Node,
            Self::Edge(_) => Role::Edge,
            Self::Person(_) => Role::Person,
        }
    }

    /// The name within the role, as it stands in the SPIFFE ID.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Node(id) => id.to_string(),
            Self::Edge(name) => name.as_str().into(),
            Self::Person(person) => person.as_str().into(),
        }
    }

    fn parse(role: &str, name: &str) -> Result<Self, SubjectError> {
        match role {
            "node" => {
                let id: u64 = name.parse().map_err(|_| SubjectError)?;
                // One spelling a node: "+1" and "01" parse as numbers, but are nobody.
                if id.to_string() == name { Ok(Self::Node(NodeId(id))) } else { Err(SubjectError) }
            }
            "edge" => name.parse().map(Self::Edge).map_err(|_| SubjectError),
            "person" => name.parse().map(Self::Person).map_err(|_| SubjectError),
            _ => Err(SubjectError),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role(), self.name())
    }
}

/// The SPIFFE ID of a leaf: the cluster and the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpiffeId {
    pub(crate) cluster: ClusterId,
    pub(crate) subject: Subject,
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.cluster, self.subject.role(), self.subject.name())
    }
}

impl FromStr for SpiffeId {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let rest = text.strip_prefix("spiffe://").ok_or(SubjectError)?;
        let mut parts = rest.splitn(3, '/');
        let (Some(cluster), Some(role), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(SubjectError);
        };
        let id: ClusterId = cluster.parse().map_err(|_| SubjectError)?;
        if id.to_string() != cluster {
            return Err(SubjectError);
        }
        Subject::parse(role, name).map(|subject| Self { cluster: id, subject })
    }
}

/// The URI by which the root marks the intermediate of a role.
pub(crate) fn issuer_uri(cluster: ClusterId, role: Role) -> String {
    format!("spiffe://{cluster}/ca/{role}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CLUSTER: &str = "000102030405060708090a0b0c0d0e0f";

    #[test]
    fn ids_round_trip() {
        for rest in ["node/1", "edge/rack-7.eu", "person/ada@example.com"] {
            let text = format!("spiffe://{CLUSTER}/{rest}");
            assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_subject_is_refused() {
        for rest in
            ["node/01", "node/+1", "node/", "node/1/2", "ca/node", "person/Ada", "person/", "admin/ada", ""]
        {
            assert_eq!(format!("spiffe://{CLUSTER}/{rest}").parse::<SpiffeId>(), Err(SubjectError), "{rest}");
        }
        for text in ["", "spiffe://", "https://example.com/node/1", "spiffe://0001/node/1"] {
            assert_eq!(text.parse::<SpiffeId>(), Err(SubjectError), "{text}");
        }
        let dashed = "spiffe://00010203-0405-0607-0809-0a0b0c0d0e0f/node/1";
        assert_eq!(dashed.parse::<SpiffeId>(), Err(SubjectError));
    }

    #[test]
    fn roles_read_as_words() {
        assert_eq!(Roles::NODES.to_string(), "node");
        assert_eq!(Roles::EVERYONE.to_string(), "node, edge or person");
    }
}
