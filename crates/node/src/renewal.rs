//! Which certificate the node shows: its own, renewed long before it ends, at the start and while it runs; or one that was
//! put into its directory.
//!
//! A node issues its own: its authority hangs on its registered key, which stays the same.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use haltline_core::limits::CERTIFICATE_CHECK_INTERVAL;
use haltline_pki::{
    Authority, Listening, NodeIdentity, PkiError, PublicListening, PublicTls, Roles, ServerTls, UnixSeconds,
    Validity,
};

use parking_lot::Mutex;

use crate::{context::Context, edge_ports::edge_tls, error::NodeError};

/// The ports that show the node's certificate, beside the one between nodes.
pub(crate) struct Ports {
    pub(crate) api: Listening,
    pub(crate) edge: Listening,
    pub(crate) public: PublicListening,
}

/// The node with a fresh certificate, which is on disk then; `None` if the one it has isn't due.
pub(crate) fn renewed_if_due(
    identity: &NodeIdentity,
    directory: &Path,
    now: UnixSeconds,
) -> Result<Option<NodeIdentity>, PkiError> {
    if !identity.tls().leaf().validity.is_due(now) {
        return Ok(None);
    }
    let renewed = identity.renewed(Validity::leaf())?;
    renewed.save_certificate(directory)?;
    tracing::info!(not_after = %renewed.tls().leaf().validity.not_after, "certificate renewed");
    Ok(Some(renewed))
}

/// The API port with this identity and registry.
pub(crate) fn api_tls(identity: &NodeIdentity, registry: Arc<dyn Authority>) -> Result<ServerTls, PkiError> {
    ServerTls::new(identity.tls(), identity.bundle(), Roles::EVERYONE, registry)
}

/// The certificate that the node shows, on every port and to every peer.
pub(crate) struct Certificates {
    context: Arc<Context>,
    directory: Arc<Path>,
    ports: Ports,
    registry: Arc<dyn Authority>,
    shown: Mutex<NodeIdentity>,
}

impl Certificates {
    pub(crate) fn new(
        context: &Arc<Context>,
        directory: &Path,
        ports: Ports,
        registry: Arc<dyn Authority>,
    ) -> Arc<Self> {
        let shown = Mutex::new(context.identity.clone());
        Arc::new(Self { context: Arc::clone(context), directory: directory.into(), ports, registry, shown })
    }

    /// Shows this one from the next connection on.
    pub(crate) fn show(&self, identity: NodeIdentity) -> Result<(), PkiError> {
        let Self { context, ports, registry, .. } = self;
        // All that can fail comes first.
        let api = api_tls(&identity, Arc::clone(registry))?;
        let edge = edge_tls(&identity, Arc::clone(registry))?;
        let public = PublicTls::new(identity.tls())?;
        context.consensus.rotate(&identity)?;
        context.enforcements.peers().rotate(&identity)?;
        ports.api.rotate(api);
        ports.edge.rotate(edge);
        ports.public.rotate(public);
        let end = identity.tls().leaf().validity.not_after;
        context.certificate_ends.store(end.0, Ordering::Relaxed);
        tracing::info!(not_after = %end, "a new certificate is shown");
        *self.shown.lock() = identity;
        Ok(())
    }

    /// The identity on disk, if it has another certificate than the one that is shown.
    ///
    /// # Errors
    /// It can't be read, has ended, or isn't this node's.
    pub(crate) fn on_disk(&self) -> Result<Option<NodeIdentity>, NodeError> {
        let found = NodeIdentity::load(&self.directory)?;
        let shown = self.shown.lock().clone();
        let (leaf, expected) = (found.tls().leaf(), shown.tls().leaf());
        if leaf == expected {
            return Ok(None);
        }
        let wrong = |reason: String| NodeError::Identity { directory: self.directory.to_path_buf(), reason };
        if (leaf.cluster, &leaf.subject) != (expected.cluster, &expected.subject) {
            return Err(wrong(format!("it is of {}, this is {}", leaf.subject, expected.subject)));
        }
        if leaf.key_hash != expected.key_hash {
            return Err(wrong("its TLS key isn't the one that is registered for this node".into()));
        }
        if !leaf.validity.contains(UnixSeconds::now()) {
            let Validity { not_before, not_after } = leaf.validity;
            return Err(wrong(format!("its certificate is valid from {not_before} to {not_after}, not now")));
        }
        Ok(Some(found))
    }

    fn renew_if_due(&self) -> Result<(), PkiError> {
        let shown = self.shown.lock().clone();
        match renewed_if_due(&shown, &self.directory, UnixSeconds::now())? {
            Some(renewed) => self.show(renewed),
            None => Ok(()),
        }
    }
}

/// Looks every hour, until the node stops. A failure is tried again an hour later; a third of the certificate's life is
/// left for repairs when it begins.
pub(crate) async fn keep_renewed(certificates: Arc<Certificates>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(CERTIFICATE_CHECK_INTERVAL.0)) => {}
            () = certificates.context.stopping.cancelled() => return,
        }
        if let Err(error) = certificates.renew_if_due() {
            tracing::error!(%error, code = error.code(), "the certificate could not be renewed");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use haltline_core::ids::NodeId;
    use haltline_pki::{ClusterPki, LEAF_LIFETIME, NewNode};

    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_have_passed_and_not_before() {
        let home = tempfile::tempdir().unwrap();
        let pki = ClusterPki::create(&[NewNode { id: NodeId(1), hosts: vec![] }]).unwrap();
        let (identity, now) = (&pki.nodes()[0], UnixSeconds::now());
        identity.save(home.path()).unwrap();
        assert!(renewed_if_due(identity, home.path(), now).unwrap().is_none());

        let due = now.plus(LEAF_LIFETIME / 4 * 3);
        let renewed = renewed_if_due(identity, home.path(), due).unwrap().unwrap();
        let on_disk = NodeIdentity::load(home.path()).unwrap();
        assert_eq!(on_disk.tls().leaf(), renewed.tls().leaf());
        assert_eq!(on_disk.trusted().tls_key, identity.trusted().tls_key, "authority hangs on the key");
    }
}
