//! The founding file: who founds a cluster. `haltline init` writes the same one for every founding node.
//!
//! It holds public keys and addresses only. A node reads it whenever it starts. Who founds counts only until the cluster's
//! first entry is in the log; where enforcers reach the nodes is taken from here always.

use std::{collections::BTreeSet, fmt::Display, io::Read as _, path::Path, str::FromStr};

use haltline_core::{
    command::{Genesis, NodeRecord, PersonAdd, Role, RoleBinding},
    ids::{ClusterId, Digest, Incarnation, KeyHash, NodeId, PersonId, PublicKey},
    limits::{FOUNDING_FILE_BYTES_MAX, NODES_MAX},
    text::Text,
};
use haltline_pki::Endpoint;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::NodeError;

const FORMAT: u32 = 2;

/// Who founds a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Founding {
    format: u32,
    /// The cluster's id.
    #[serde(with = "as_text")]
    pub cluster: ClusterId,
    /// Hash of the trust bundle that was made with the cluster.
    #[serde(with = "as_text")]
    pub trust_bundle: Digest,
    /// How often the cluster was restored from a backup. Such a one isn't founded: its nodes have their data from the
    /// restore, and take part only if that is of this incarnation.
    #[serde(default, skip_serializing_if = "is_first")]
    pub incarnation: u64,
    /// The founding nodes.
    pub nodes: Vec<Founder>,
    /// The first person.
    pub first_admin: FirstAdmin,
}

/// A founding node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Founder {
    /// Its number.
    pub id: u64,
    /// Its name, for people.
    pub name: Text,
    /// `host:port` at which clients reach it.
    pub api_address: String,
    /// `host:port` at which the other nodes reach it.
    pub raft_address: String,
    /// `host:port` at which edges and relays reach it.
    pub edge_address: String,
    /// `host:port` at which an edge that isn't enrolled yet reaches it.
    pub public_address: String,
    /// Where it stands, so that enforcers find the nearest; may be empty.
    pub region: Text,
    /// Hash of its TLS key.
    #[serde(with = "as_text")]
    pub tls_key: KeyHash,
    /// What it signs statements with.
    #[serde(with = "as_text")]
    pub signing_key: PublicKey,
}

/// The first person, an admin of everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstAdmin {
    /// Their name.
    pub name: PersonId,
    /// Hash of their TLS key.
    #[serde(with = "as_text")]
    pub tls_key: KeyHash,
    /// What they sign with.
    #[serde(with = "as_text")]
    pub signing_key: PublicKey,
}

impl Founding {
    /// Puts a founding together.
    ///
    /// # Errors
    /// As [`Founding::load`], for what can't be.
    pub fn new(
        cluster: ClusterId,
        trust_bundle: Digest,
        nodes: Vec<Founder>,
        first_admin: FirstAdmin,
    ) -> Result<Self, NodeError> {
        let founding = Self { format: FORMAT, cluster, trust_bundle, incarnation: 0, nodes, first_admin };
        founding.check().map_err(|reason| NodeError::Founding { path: "the founding".into(), reason })?;
        Ok(founding)
    }

    /// The same for a restored cluster.
    #[must_use]
    pub fn of_incarnation(self, incarnation: Incarnation) -> Self {
        Self { incarnation: incarnation.0, ..self }
    }

    /// Reads a founding file.
    ///
    /// # Errors
    /// [`NodeError::Io`], or [`NodeError::Founding`] saying what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, NodeError> {
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|error| NodeError::io("open", path, error))?;
        file.take(FOUNDING_FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| NodeError::io("read", path, error))?;
        let wrong = |reason: String| NodeError::Founding { path: path.display().to_string(), reason };
        let founding: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        founding.check().map_err(wrong)?;
        Ok(founding)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("expected format {FORMAT}, got {}", self.format));
        }
        if self.nodes.is_empty() || self.nodes.len() > NODES_MAX {
            return Err(format!("expected 1 to {NODES_MAX} nodes, got {}", self.nodes.len()));
        }
        let ids: BTreeSet<_> = self.nodes.iter().map(|node| node.id).collect();
        if ids.len() < self.nodes.len() {
            return Err("two nodes have the same id".into());
        }
        for node in &self.nodes {
            for address in [&node.api_address, &node.raft_address, &node.edge_address, &node.public_address] {
                address.parse::<Endpoint>().map_err(|error| format!("node {}: {error}", node.id))?;
            }
        }
        Ok(())
    }

    /// The founding as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self)
            .expect("a founding is strings and numbers, all of which JSON can hold")
    }

    /// The cluster's first entry.
    #[must_use]
    pub fn genesis(&self) -> Genesis {
        let admin = &self.first_admin;
        let node = |founder: &Founder| NodeRecord {
            id: NodeId(founder.id),
            name: founder.name.clone(),
            key_hash: founder.tls_key,
            signing_key: founder.signing_key,
        };
        Genesis {
            cluster_id: self.cluster,
            incarnation: Incarnation(self.incarnation),
            trust_bundle: self.trust_bundle,
            nodes: self.nodes.iter().map(node).collect(),
            first_admin: PersonAdd {
                person: admin.name.clone(),
                tls_keys: vec![admin.tls_key],
                signing_key: admin.signing_key,
                roles: vec![RoleBinding { role: Role::Admin, path: None }],
            },
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde hands it over")]
fn is_first(incarnation: &u64) -> bool {
    *incarnation == 0
}

/// Ids in files are text, as people see them everywhere else.
pub(crate) mod as_text {
    use super::{Deserialize, Deserializer, Display, FromStr, Serializer};
    use serde::de::Error;

    pub(crate) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
