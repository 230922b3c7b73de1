//! Who asks for a command.
//!
//! Authority hangs on registered keys (design 04, Nodes and edges): the node that takes a command up knows whose key
//! the connection has, and says so here. What each kind of caller may ask for stands in one place, [`Caller::may_ask`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    command::Command,
    ids::{EdgeName, NodeId, PersonId},
};

/// Who asks for a command, by the word of the node that took it up. Suffices to stop things, never to widen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Caller {
    /// A person.
    Person(PersonId),
    /// A node of the cluster, by itself.
    Node(NodeId),
    /// An enforcer, by itself.
    Edge(EdgeName),
}

impl Caller {
    /// The person, if it is one.
    #[must_use]
    pub const fn person(&self) -> Option<&PersonId> {
        match self {
            Self::Person(person) => Some(person),
            Self::Node(_) | Self::Edge(_) => None,
        }
    }

    /// Whether this kind of caller may ask for this kind of command at all; roles are judged separately. People ask for
    /// what people decide; nodes only report.
    #[must_use]
    pub const fn may_ask(&self, command: &Command) -> bool {
        match self {
            Self::Person(_) => !command.is_by_node(),
            Self::Node(_) => command.is_by_node(),
            Self::Edge(_) => false,
        }
    }
}

impl From<PersonId> for Caller {
    fn from(person: PersonId) -> Self {
        Self::Person(person)
    }
}

impl From<NodeId> for Caller {
    fn from(node: NodeId) -> Self {
        Self::Node(node)
    }
}

impl From<EdgeName> for Caller {
    fn from(edge: EdgeName) -> Self {
        Self::Edge(edge)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(person) => write!(f, "{person}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Edge(edge) => write!(f, "edge {edge}"),
        }
    }
}
