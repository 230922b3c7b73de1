//! Renews the node's own certificate long before it ends: at the start, and while it runs.
//!
//! A node issues its own: its authority hangs on its registered key, which stays the same.

use std::{path::Path, sync::Arc, time::Duration};

use haltline_core::limits::CERTIFICATE_CHECK_INTERVAL;
use haltline_pki::{
    Authority, Listening, NodeIdentity, PkiError, PublicListening, PublicTls, Roles, ServerTls, UnixSeconds,
    Validity,
};

use crate::{context::Context, edge_ports::edge_tls};

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

/// Looks every hour, until the node stops. A failure is tried again an hour later; a third of the certificate's life is
/// left for repairs when it begins.
pub(crate) async fn keep_renewed(
    context: Arc<Context>,
    directory: Arc<Path>,
    ports: Ports,
    registry: Arc<dyn Authority>,
) {
    let mut identity = context.identity.clone();
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(CERTIFICATE_CHECK_INTERVAL.0)) => {}
            () = context.stopping.cancelled() => return,
        }
        let rotated = renewed_if_due(&identity, &directory, UnixSeconds::now()).and_then(|renewed| {
            let Some(renewed) = renewed else { return Ok(None) };
            ports.api.rotate(api_tls(&renewed, Arc::clone(&registry))?);
            ports.edge.rotate(edge_tls(&renewed, Arc::clone(&registry))?);
            ports.public.rotate(PublicTls::new(renewed.tls())?);
            context.consensus.rotate(&renewed)?;
            context.enforcements.peers().rotate(&renewed)?;
            Ok(Some(renewed))
        });
        match rotated {
            Ok(renewed) => identity = renewed.unwrap_or(identity),
            Err(error) => {
                tracing::error!(%error, code = error.code(), "the certificate could not be renewed");
            }
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
