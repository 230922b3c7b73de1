//! The trust bundle: whom a member of a cluster believes before it has talked to anybody.
//!
//! It names the cluster, its root certificates, and each node's keys as they were when the bundle was made. Its canonical
//! bytes have one form only, so that a hash pins it (join tokens) and signatures cover it (design 02, What is signed).

use std::{collections::BTreeMap, path::Path};

use haltline_core::{
    ids::{ClusterId, Digest, KeyHash, NodeId, PublicKey, Version},
    limits::{NODES_MAX, TRUST_ROOTS_MAX},
};
use rustls::{RootCertStore, pki_types::CertificateDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    authority::{Authority, Refusal},
    certificate::{chain_from_pem, chain_to_pem},
    error::PkiError,
    private_file::{self, Access},
    subject::Subject,
};

/// Separates the hash of a bundle from every other hash and signature.
const DOMAIN: &[u8] = b"haltline/v1/trust-bundle";

/// One node's public keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedNode {
    /// The key that signs its statements.
    #[serde(with = "text")]
    pub signing_key: PublicKey,
    /// The hash of its TLS key.
    #[serde(with = "text")]
    pub tls_key: KeyHash,
}

/// Cluster, roots and node keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    cluster: ClusterId,
    version: Version,
    roots: Vec<CertificateDer<'static>>,
    nodes: BTreeMap<NodeId, TrustedNode>,
}

impl TrustBundle {
    /// Puts a bundle together. Roots are sorted, so the same content gives the same bytes.
    ///
    /// # Errors
    /// [`PkiError::TooMany`] past the bounds, [`PkiError::Malformed`] without a root or with one that isn't a
    /// certificate.
    pub fn new(
        cluster: ClusterId,
        version: Version,
        mut roots: Vec<CertificateDer<'static>>,
        nodes: BTreeMap<NodeId, TrustedNode>,
    ) -> Result<Self, PkiError> {
        bounded("root certificates in one trust bundle", roots.len(), TRUST_ROOTS_MAX)?;
        bounded("nodes in one trust bundle", nodes.len(), NODES_MAX)?;
        roots.sort_by(|left, right| left.as_ref().cmp(right.as_ref()));
        roots.dedup();
        let bundle = Self { cluster, version, roots, nodes };
        bundle.root_store()?;
        Ok(bundle)
    }

    /// The cluster.
    #[must_use]
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Counts changes of the bundle.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The nodes and their keys.
    #[must_use]
    pub const fn nodes(&self) -> &BTreeMap<NodeId, TrustedNode> {
        &self.nodes
    }

    /// The root certificates.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// How many of this bundle's nodes must sign its successor: a majority.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    /// The one form in bytes: domain, cluster, version, roots, nodes; counts and lengths as u32, all big-endian.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut bytes = DOMAIN.to_vec();
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(&self.version.0.to_be_bytes());
        bytes.extend_from_slice(&length(self.roots.len()));
        for root in &self.roots {
            bytes.extend_from_slice(&length(root.len()));
            bytes.extend_from_slice(root);
        }
        bytes.extend_from_slice(&length(self.nodes.len()));
        for (id, node) in &self.nodes {
            bytes.extend_from_slice(&id.0.to_be_bytes());
            bytes.extend_from_slice(&node.signing_key.0);
            bytes.extend_from_slice(&node.tls_key.0);
        }
        bytes
    }

    /// SHA-256 of the canonical bytes: what a join token pins.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest(Sha256::digest(self.canonical_bytes()).into())
    }

    /// The bundle as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let file = BundleFile {
            format: FORMAT,
            cluster: self.cluster.to_string(),
            version: self.version.0,
            roots: self.roots.iter().map(|root| chain_to_pem(std::slice::from_ref(root))).collect(),
            nodes: self.nodes.iter().map(|(id, node)| (id.0, *node)).collect(),
        };
        // Strings, integers and maps with integer keys: there is nothing JSON can't hold.
        serde_json::to_string_pretty(&file).expect("a bundle has only what JSON can hold")
    }

    /// Reads a bundle from JSON.
    ///
    /// # Errors
    /// [`PkiError::Malformed`] saying what is wrong and where; [`PkiError::TooMany`] past the bounds.
    pub fn from_json(text: &str) -> Result<Self, PkiError> {
        let malformed = |expected: String| PkiError::malformed("trust bundle", expected);
        let file: BundleFile = serde_json::from_str(text)
            .map_err(|error| malformed(format!("a trust bundle as JSON ({error})")))?;
        if file.format != FORMAT {
            return Err(malformed(format!("format {FORMAT}, got {}", file.format)));
        }
        let cluster = file.cluster.parse().map_err(|error| malformed(format!("a cluster id ({error})")))?;
        bounded("root certificates in one trust bundle", file.roots.len(), TRUST_ROOTS_MAX)?;
        let mut roots = Vec::new();
        for pem in &file.roots {
            roots.extend(chain_from_pem(pem).map_err(|_| malformed("root certificates as PEM".into()))?);
        }
        let nodes = file.nodes.into_iter().map(|(id, node)| (NodeId(id), node)).collect();
        Self::new(cluster, Version(file.version), roots, nodes)
    }

    /// Reads a bundle from a file.
    ///
    /// # Errors
    /// As [`TrustBundle::from_json`], naming the file.
    pub fn load(path: &Path) -> Result<Self, PkiError> {
        Self::from_json(&private_file::read(path, Access::Public)?).map_err(|error| error.in_file(path))
    }

    /// Writes the bundle to a file, replacing an older one whole.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), PkiError> {
        private_file::write(path, self.to_json().as_bytes(), Access::Public)
    }

    pub(crate) fn root_store(&self) -> Result<RootCertStore, PkiError> {
        let mut store = RootCertStore::empty();
        for root in &self.roots {
            store
                .add(root.clone())
                .map_err(|_| PkiError::malformed("trust bundle", "root certificates that are X.509"))?;
        }
        if store.is_empty() {
            return Err(PkiError::malformed("trust bundle", "at least one root certificate"));
        }
        Ok(store)
    }
}

/// A bundle admits the nodes it lists, with the keys it lists, and nobody else: what a founding node goes by until its
/// own log tells it more.
impl Authority for TrustBundle {
    fn admit(&self, subject: &Subject, key_hash: &KeyHash) -> Result<(), Refusal> {
        let Subject::Node(id) = subject else { return Err(Refusal::Unregistered) };
        match self.nodes.get(id) {
            Some(node) if node.tls_key == *key_hash => Ok(()),
            Some(_) => Err(Refusal::OtherKey),
            None => Err(Refusal::Unregistered),
        }
    }
}

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleFile {
    format: u32,
    cluster: String,
    version: u64,
    roots: Vec<String>,
    nodes: BTreeMap<u64, TrustedNode>,
}

/// Ids in files are hex text, as people see them everywhere else.
mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

fn bounded(what: &'static str, got: usize, max: usize) -> Result<(), PkiError> {
    if got > max { Err(PkiError::TooMany { what, got, max }) } else { Ok(()) }
}

/// A length in canonical bytes. Files are bounded far below 4 GiB.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}
