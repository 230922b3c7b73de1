//! The creation of a cluster: root, intermediates, node identities, trust bundle. What `haltline init` runs.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use haltline_core::{
    ids::{ClusterId, NodeId, PersonId, Version},
    limits::NODES_MAX,
};

use crate::{
    endpoint::Endpoint,
    error::PkiError,
    issuer::{CertificateAuthority, Issuers, parse_hosts},
    node_identity::NodeIdentity,
    person_identity::PersonIdentity,
    person_request::PendingPerson,
    private_file,
    statement::StatementSigner,
    subject::Subject,
    tls_identity::TlsIdentity,
    tls_key::TlsKey,
    trust_bundle::{TrustBundle, TrustedNode},
    unix_time::{INTERMEDIATE_LIFETIME, ROOT_LIFETIME, Validity},
};

/// The name that every node's certificate holds beside its own.
const LOCALHOST: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// File stem of the exported root.
pub(crate) const ROOT_STEM: &str = "root";

/// A founding node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// Its id.
    pub id: NodeId,
    /// DNS names and IP addresses by which clients reach it; localhost is added.
    pub hosts: Vec<String>,
}

/// A freshly made cluster, with the root's key in memory until [`ClusterPki::save_root`] has exported it and this is
/// dropped.
pub struct ClusterPki {
    cluster: ClusterId,
    root: CertificateAuthority,
    issuers: Arc<Issuers>,
    nodes: Vec<NodeIdentity>,
    bundle: TrustBundle,
}

impl ClusterPki {
    /// Makes a cluster with a random id. Leaves are valid for [`Validity::leaf`].
    ///
    /// # Errors
    /// [`PkiError::TooMany`], [`PkiError::Duplicate`], [`PkiError::Host`] for bad input; [`PkiError::Crypto`].
    pub fn create(nodes: &[NewNode]) -> Result<Self, PkiError> {
        Self::create_valid(nodes, Validity::leaf())
    }

    /// Makes a cluster whose node certificates have a given validity, which may be over already: for tests of expiry.
    ///
    /// # Errors
    /// As [`ClusterPki::create`].
    pub fn create_valid(nodes: &[NewNode], leaf: Validity) -> Result<Self, PkiError> {
        if nodes.len() > NODES_MAX {
            return Err(PkiError::TooMany { what: "nodes", got: nodes.len(), max: NODES_MAX });
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| PkiError::crypto("get random bytes", &error))?;
        let cluster = ClusterId(id);
        let root = CertificateAuthority::root(cluster, Validity::for_next(ROOT_LIFETIME))?;
        let issuers = Arc::new(Issuers::create(&root, cluster, Validity::for_next(INTERMEDIATE_LIFETIME))?);

        let mut made = BTreeMap::new();
        for node in nodes {
            let keys = node_keys(&issuers, node, leaf)?;
            if made.insert(node.id, keys).is_some() {
                return Err(PkiError::Duplicate(Subject::Node(node.id)));
            }
        }
        let trusted = made.iter().map(|(id, (tls, signer))| {
            (*id, TrustedNode { signing_key: signer.public_key(), tls_key: tls.leaf().key_hash })
        });
        let bundle =
            TrustBundle::new(cluster, Version(1), vec![root.certificate().clone()], trusted.collect())?;
        let nodes = made
            .into_values()
            .map(|(tls, signer)| NodeIdentity::new(tls, Arc::new(signer), bundle.clone(), issuers.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self { cluster, root, issuers, nodes, bundle })
    }

    /// The cluster's id.
    #[must_use]
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The founding nodes, in the order of their ids.
    #[must_use]
    pub fn nodes(&self) -> &[NodeIdentity] {
        &self.nodes
    }

    /// The trust bundle that every node carries.
    #[must_use]
    pub const fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// Issues certificates.
    #[must_use]
    pub const fn issuers(&self) -> &Arc<Issuers> {
        &self.issuers
    }

    /// Makes a person with keys and certificate at once: the first admin, made on the machine of `init`. Everybody else
    /// makes their keys themselves ([`PendingPerson`]).
    ///
    /// # Errors
    /// [`PkiError::Crypto`], [`PkiError::TooMany`].
    pub fn create_person(
        &self,
        name: &PersonId,
        endpoints: Vec<Endpoint>,
        validity: Validity,
    ) -> Result<PersonIdentity, PkiError> {
        let pending = PendingPerson::create(name)?;
        let issued = self.issuers.issue_person(pending.request(), validity, &self.bundle, endpoints)?;
        pending.complete(&issued)
    }

    /// Exports the root as `root.crt` and `root.key` (0600) into a directory of mode 0700, to be kept offline. It is
    /// needed only for new intermediates.
    ///
    /// # Errors
    /// [`PkiError::Exists`] if a root is there already, [`PkiError::Io`].
    pub fn save_root(&self, directory: &Path) -> Result<(), PkiError> {
        private_file::create_directory(directory)?;
        self.root.save(directory, ROOT_STEM)
    }
}

impl fmt::Debug for ClusterPki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterPki")
            .field("cluster", &self.cluster)
            .field("root", &self.root)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

/// A node's names, with those by which it calls itself.
pub(crate) fn with_localhost(hosts: &[String]) -> Vec<String> {
    let others = LOCALHOST.iter().filter(|name| !hosts.iter().any(|host| host == *name));
    hosts.iter().cloned().chain(others.map(ToString::to_string)).collect()
}

pub(crate) fn node_keys(
    issuers: &Issuers,
    node: &NewNode,
    validity: Validity,
) -> Result<(TlsIdentity, StatementSigner), PkiError> {
    let hosts = parse_hosts(&with_localhost(&node.hosts))?;
    let key = TlsKey::generate()?;
    let chain = issuers.issue(&Subject::Node(node.id), &hosts, &key.public_key_info(), validity)?;
    Ok((TlsIdentity::new(chain, Arc::new(key))?, StatementSigner::generate()?))
}
