//! Fresh certificates for those below, who may reach no node themselves: a relay passes their request on.
//!
//! Nobody takes its word for anything. A request is signed with the key that it is for, and a node issues for a registered key
//! alone, under the name that this key is registered for; so all that a request gets whoever passes it on, or keeps it for
//! later, is a certificate that is of no use without the key. The relay itself asks for nobody but whoever is connected
//! to it, and on behalf of a relay for those below that.

use std::{sync::Arc, time::Duration};

use haltline_core::{
    command::EnforcerKind,
    limits::{ENROL_CALL_TIMEOUT, RELAY_RENEWALS_MAX},
};
use haltline_edge::client::Wish;
use haltline_pki::{EdgeRequest, PeerIdentity};
use haltline_wire::{
    refusal::Refusal,
    v1::{self, edge_service_server::EdgeService},
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tonic::{Request, Response, Status, codegen::BoxStream};

use crate::{refused::RelayRefused, view::RelayView};

/// The calls of a relay's edge port that aren't its hub's. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Renewals {
    view: Arc<RelayView>,
    wishes: mpsc::Sender<Wish>,
    places: Arc<Semaphore>,
}

impl Renewals {
    pub(crate) fn new(view: Arc<RelayView>, wishes: mpsc::Sender<Wish>) -> Self {
        Self { view, wishes, places: Arc::new(Semaphore::new(RELAY_RENEWALS_MAX)) }
    }

    /// Whether this caller may ask with this request.
    fn check(&self, peer: &PeerIdentity, request: &[u8]) -> Result<(), RelayRefused> {
        let kind = self.view.admit(peer)?.kind;
        let request = EdgeRequest::parse(request).map_err(RelayRefused::CertificateRequest)?;
        if kind == EnforcerKind::Edge && request.key_hash() != peer.key_hash {
            return Err(RelayRefused::OtherKey { subject: peer.subject.clone() });
        }
        Ok(())
    }

    async fn pass_on(&self, request: Vec<u8>) -> Result<String, Refusal> {
        let _place = self.places.try_acquire().map_err(|_| RelayRefused::RenewalsBusy)?;
        let (renewed, answer) = oneshot::channel();
        let wish = Wish::Renew { request, renewed };
        self.wishes.try_send(wish).map_err(|_| RelayRefused::RenewalsBusy)?;
        match tokio::time::timeout(Duration::from_millis(ENROL_CALL_TIMEOUT.0), answer).await {
            Ok(Ok(answer)) => answer.map_err(|status| Refusal::from_status(&status)),
            Ok(Err(_)) | Err(_) => Err(RelayRefused::NoHubAbove.into()),
        }
    }
}

fn not_served<T>(call: &'static str) -> Result<T, Status> {
    Err(Refusal::from(RelayRefused::NotServed { call }).to_status())
}

#[tonic::async_trait]
impl EdgeService for Renewals {
    type SyncStream = BoxStream<v1::HubMessage>;
    type FetchSnapshotStream = BoxStream<v1::ViewChunk>;

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        let refused = |refused: RelayRefused| Refusal::from(refused).to_status();
        let peer = request.extensions().get::<PeerIdentity>().cloned();
        let peer = peer.ok_or_else(|| refused(RelayRefused::NoIdentity))?;
        let asked = request.into_inner().certificate_request;
        self.check(&peer, &asked).map_err(refused)?;
        let certificate_chain = self.pass_on(asked).await.map_err(|refusal| refusal.to_status())?;
        tracing::info!(subject = %peer.subject, "passed a renewed certificate on");
        Ok(Response::new(v1::RenewCertificateResponse { certificate_chain }))
    }

    async fn get_trust_bundle(
        &self,
        _: Request<v1::GetTrustBundleRequest>,
    ) -> Result<Response<v1::GetTrustBundleResponse>, Status> {
        not_served("GetTrustBundle")
    }

    async fn enroll(&self, _: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollResponse>, Status> {
        not_served("Enroll")
    }

    /// The hub takes this call before it comes here.
    async fn sync(
        &self,
        _: Request<tonic::Streaming<v1::EdgeMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        not_served("Sync")
    }

    /// The hub takes this call before it comes here.
    async fn fetch_snapshot(
        &self,
        _: Request<v1::FetchSnapshotRequest>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        not_served("FetchSnapshot")
    }
}

#[cfg(test)]
#[path = "renewal_test.rs"]
mod tests;
