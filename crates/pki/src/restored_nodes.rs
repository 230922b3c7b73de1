//! Identities of the nodes of a restored cluster: new ones, and such as were saved.
//!
//! They hang on the same root as before, so that people's and enforcers' certificates go on to be good. New intermediates
//! come from the exported root; without it, from the intermediates that every saved identity holds.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use haltline_core::{
    ids::{ClusterId, NodeId, Version},
    limits::NODES_MAX,
};
use rustls::pki_types::CertificateDer;

use crate::{
    certificate,
    cluster::{NewNode, ROOT_STEM, node_keys, with_localhost},
    error::PkiError,
    issuer::{CertificateAuthority, Issuers, parse_hosts},
    node_identity::NodeIdentity,
    statement::StatementSigner,
    subject::Subject,
    tls_identity::TlsIdentity,
    trust_bundle::{TrustBundle, TrustedNode},
    unix_time::{INTERMEDIATE_LIFETIME, Validity},
};

/// A node of a restored cluster.
#[derive(Debug, Clone)]
pub struct RestoredNode {
    /// Its number, and where it can be reached.
    pub node: NewNode,
    /// What it was before, where that was saved; its keys stay then.
    pub identity: Option<NodeIdentity>,
}

/// Keys and certificates of all nodes, before the trust bundle is known that they make.
pub struct RestoredNodes {
    cluster: ClusterId,
    roots: Vec<CertificateDer<'static>>,
    issuers: Arc<Issuers>,
    keys: BTreeMap<NodeId, (TlsIdentity, Arc<StatementSigner>)>,
}

impl std::fmt::Debug for RestoredNodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RestoredNodes").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl RestoredNodes {
    /// Makes what is missing. `before` is the bundle of the cluster as it was; its roots stay.
    ///
    /// # Errors
    /// [`PkiError::Malformed`] if the root isn't one of the cluster's, or there is neither a root nor a saved identity;
    /// [`PkiError::WrongCluster`] for an identity of another one; as [`crate::ClusterPki::create`].
    pub fn make(
        before: &TrustBundle,
        root: Option<&Path>,
        nodes: Vec<RestoredNode>,
    ) -> Result<Self, PkiError> {
        if nodes.len() > NODES_MAX {
            return Err(PkiError::TooMany { what: "nodes", got: nodes.len(), max: NODES_MAX });
        }
        let issuers = issuers(before, root, &nodes)?;
        let mut keys = BTreeMap::new();
        for RestoredNode { node, identity } in nodes {
            let made = match identity {
                Some(identity) => kept(&issuers, &node, &identity)?,
                None => {
                    let (tls, signer) = node_keys(&issuers, &node, Validity::leaf())?;
                    (tls, Arc::new(signer))
                }
            };
            if keys.insert(node.id, made).is_some() {
                return Err(PkiError::Duplicate(Subject::Node(node.id)));
            }
        }
        Ok(Self { cluster: before.cluster(), roots: before.roots().to_vec(), issuers, keys })
    }

    /// Their public keys.
    #[must_use]
    pub fn trusted(&self) -> BTreeMap<NodeId, TrustedNode> {
        let trusted = |(tls, signer): &(TlsIdentity, Arc<StatementSigner>)| TrustedNode {
            signing_key: signer.public_key(),
            tls_key: tls.leaf().key_hash,
        };
        self.keys.iter().map(|(id, keys)| (*id, trusted(keys))).collect()
    }

    /// The bundle of this version that their keys make.
    ///
    /// # Errors
    /// As [`TrustBundle::new`].
    pub fn bundle(&self, version: Version) -> Result<TrustBundle, PkiError> {
        TrustBundle::new(self.cluster, version, self.roots.clone(), self.trusted())
    }

    /// The identities, in the order of their numbers.
    ///
    /// # Errors
    /// [`PkiError`] if the parts don't fit together.
    pub fn identities(self, bundle: &TrustBundle) -> Result<Vec<NodeIdentity>, PkiError> {
        let whole = |(tls, signer)| NodeIdentity::new(tls, signer, bundle.clone(), self.issuers.clone());
        self.keys.into_values().map(whole).collect()
    }
}

fn issuers(
    before: &TrustBundle,
    root: Option<&Path>,
    nodes: &[RestoredNode],
) -> Result<Arc<Issuers>, PkiError> {
    let cluster = before.cluster();
    let saved: Vec<_> = nodes.iter().filter_map(|node| node.identity.as_ref()).collect();
    if let Some(other) = saved.iter().find(|identity| identity.bundle().cluster() != cluster) {
        return Err(PkiError::WrongCluster { expected: cluster, got: other.bundle().cluster() });
    }
    if let Some(directory) = root {
        let root = CertificateAuthority::load(directory, ROOT_STEM)?;
        if !before.roots().contains(root.certificate()) {
            let expected = format!("the root of cluster {cluster}");
            return Err(PkiError::malformed(directory.display().to_string(), expected));
        }
        let validity = Validity::for_next(INTERMEDIATE_LIFETIME);
        return Ok(Arc::new(Issuers::create(&root, cluster, validity)?));
    }
    saved.first().map(|identity| identity.issuers().clone()).ok_or_else(|| {
        PkiError::malformed(
            "what to issue certificates with",
            "the cluster's root, or a node's saved identity",
        )
    })
}

/// The same keys under a certificate that names the node's hosts of today.
fn kept(
    issuers: &Issuers,
    node: &NewNode,
    identity: &NodeIdentity,
) -> Result<(TlsIdentity, Arc<StatementSigner>), PkiError> {
    if identity.id() != node.id {
        let expected = format!("the identity of node {}, not of node {}", node.id, identity.id());
        return Err(PkiError::malformed("a saved identity", expected));
    }
    let hosts = parse_hosts(&with_localhost(&node.hosts))?;
    let key = certificate::public_key_info(&identity.tls().chain()[0])?;
    let chain = issuers.issue(&Subject::Node(node.id), &hosts, &key, Validity::leaf())?;
    Ok((TlsIdentity::new(chain, identity.tls().key().clone())?, identity.signer().clone()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ClusterPki;

    fn new(id: u64) -> NewNode {
        NewNode { id: NodeId(id), hosts: vec![format!("host-{id}.example.com")] }
    }

    fn node(id: u64, identity: Option<&NodeIdentity>) -> RestoredNode {
        RestoredNode { node: new(id), identity: identity.cloned() }
    }

    #[test]
    fn new_and_saved_identities_fit_together_under_the_old_root() {
        let home = tempfile::tempdir().unwrap();
        let old = ClusterPki::create(&[new(1), new(2)]).unwrap();
        old.save_root(home.path()).unwrap();
        let made = RestoredNodes::make(
            old.bundle(),
            Some(home.path()),
            vec![node(1, Some(&old.nodes()[0])), node(2, None), node(3, None)],
        )
        .unwrap();
        let bundle = made.bundle(Version(2)).unwrap();
        assert_eq!(bundle.roots(), old.bundle().roots());
        let identities = made.identities(&bundle).unwrap();
        assert_eq!(identities[0].trusted(), old.nodes()[0].trusted(), "its keys stay");
        assert_ne!(identities[1].trusted(), old.nodes()[1].trusted());
        let saved = home.path().join("node-3");
        identities[2].save(&saved).unwrap();
        assert_eq!(NodeIdentity::load(&saved).unwrap().id(), NodeId(3));
    }

    #[test]
    fn a_saved_identity_does_without_the_root() {
        let old = ClusterPki::create(&[new(1)]).unwrap();
        let made =
            RestoredNodes::make(old.bundle(), None, vec![node(1, Some(&old.nodes()[0])), node(2, None)])
                .unwrap();
        assert_eq!(made.trusted().len(), 2);
    }

    #[test]
    fn what_doesnt_belong_to_the_cluster_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let (old, other) = (ClusterPki::create(&[new(1)]).unwrap(), ClusterPki::create(&[new(1)]).unwrap());
        other.save_root(home.path()).unwrap();
        let make = |root, nodes| RestoredNodes::make(old.bundle(), root, nodes).unwrap_err().to_string();
        assert!(make(Some(home.path()), vec![node(1, None)]).contains("expected the root of cluster"));
        assert!(
            make(None, vec![node(1, Some(&other.nodes()[0]))]).contains("but the certificate is of cluster")
        );
        assert!(make(None, vec![node(1, None)]).contains("the cluster's root, or a node's saved identity"));
        assert!(make(None, vec![node(2, Some(&old.nodes()[0]))]).contains("not of node 1"));
    }
}
