//! Enrolling enforcers and renewing their certificates. Sync and snapshots are the hub's.
//!
//! On the public port nobody is known: a caller learns the trust bundle, which is no secret, and otherwise only whether a
//! whole join token holds. On the edge port the connection's key says who calls.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use haltline_core::{
    command::{Caller as Asker, Command, EdgeEnrol, EnforcerKind, JoinProof, Request as Asked},
    ids::{EdgeName, JoinTokenId, KeyHash, RequestId},
    limits::ENROL_DEADLINE,
    rejection::Rejection,
    state::KeyOwner,
};
use haltline_pki::{EdgeRequest, PeerIdentity, Validity};
use haltline_wire::{
    convert::ConvertError,
    v1::{self, edge_service_server::EdgeService},
};
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};

use crate::{caller::Caller, context::Context, refused::Refused};

/// The unary calls of the edge service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EdgeCalls(pub(crate) Arc<Context>);

type Nothing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl EdgeService for EdgeCalls {
    type SyncStream = Nothing<v1::HubMessage>;
    type FetchSnapshotStream = Nothing<v1::ViewChunk>;

    async fn get_trust_bundle(
        &self,
        _: Request<v1::GetTrustBundleRequest>,
    ) -> Result<Response<v1::GetTrustBundleResponse>, Status> {
        let trust_bundle = self.0.identity.bundle().to_json();
        Ok(Response::new(v1::GetTrustBundleResponse { trust_bundle }))
    }

    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let request = request.into_inner();
        let csr = EdgeRequest::parse(&request.certificate_request).map_err(Refused::CertificateRequest)?;
        let token = JoinTokenId(exactly("token_id", &request.token_id)?);
        let proof = JoinProof::of_secret(&exactly("secret", &request.secret)?);
        let key = csr.key_hash();
        // A stranger's guess must not become an entry of the log. Whose key is registered may have lost the answer.
        if self.owner(&key).is_none() {
            self.check_token(token, &proof).await?;
        }
        match self.admit(EdgeEnrol { token, proof, key }).await {
            Ok(()) => {}
            // Whoever has used the token up with this very key lost the answer: the key is theirs, and registered.
            Err(Refused::Rejected(Rejection::UnknownJoinToken { .. })) if self.owner(&key).is_some() => {}
            Err(Refused::Rejected(Rejection::UnknownJoinToken { .. })) => {
                return Err(Refused::JoinToken.into());
            }
            Err(refused) => return Err(refused.into()),
        }
        let name = self.owner(&key).ok_or(Refused::JoinToken)?;
        let published = self.0.consensus.state();
        let record = published.state.edges().get(&name).ok_or(Refused::JoinToken)?;
        let issuers = self.0.identity.issuers();
        let chain = issuers.issue_edge(&name, &csr, Validity::leaf()).map_err(Refused::Issue)?;
        tracing::info!(edge = %name, kind = ?record.kind, "enrolled");
        Ok(Response::new(v1::EnrollResponse {
            name: name.to_string(),
            certificate_chain: chain,
            trust_bundle: self.0.identity.bundle().to_json(),
            hubs: self.0.places.hubs(&published.state),
            relay: record.kind == EnforcerKind::Relay,
        }))
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        let peer = request.extensions().get::<PeerIdentity>().ok_or(Refused::NoCertificate)?;
        let caller = self.0.caller(request.extensions())?;
        let Caller::Edge(name) = caller else {
            return Err(Refused::EdgesOnly { subject: peer.subject.clone() }.into());
        };
        let key = peer.key_hash;
        let csr = EdgeRequest::parse(&request.get_ref().certificate_request);
        let csr = csr.map_err(Refused::CertificateRequest)?;
        let (name, key) = self.renewed(name, key, csr.key_hash());
        let issuers = self.0.identity.issuers();
        let chain = issuers.renew_edge(&name, &key, &csr, Validity::leaf());
        let certificate_chain = chain.map_err(Refused::CertificateRequest)?;
        Ok(Response::new(v1::RenewCertificateResponse { certificate_chain }))
    }

    async fn sync(
        &self,
        _: Request<tonic::Streaming<v1::EdgeMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        // On the edge port the hub takes this call before it comes here.
        Err(Refused::EdgePortOnly.into())
    }

    async fn fetch_snapshot(
        &self,
        _: Request<v1::FetchSnapshotRequest>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        // On the edge port the hub takes this call before it comes here.
        Err(Refused::EdgePortOnly.into())
    }
}

impl EdgeCalls {
    /// Whose certificate is renewed, for which registered key: the caller's; or, where a relay passes a request on, that of
    /// the enforcer whose key has signed it. Nobody else has a use for that certificate.
    fn renewed(&self, caller: EdgeName, connected: KeyHash, asked: KeyHash) -> (EdgeName, KeyHash) {
        let published = self.0.consensus.state();
        let record = published.state.edges().get(&caller);
        let is_relay = record.is_some_and(|record| record.kind == EnforcerKind::Relay);
        match self.owner(&asked) {
            Some(owner) if is_relay => (owner, asked),
            _ => (caller, connected),
        }
    }

    /// Whether the token waits for somebody with this proof. One that was made a moment ago may not be here yet.
    async fn check_token(&self, token: JoinTokenId, proof: &JoinProof) -> Result<(), Refused> {
        if !self.holds(token, proof) {
            self.0.consensus.read_barrier().await?;
            if !self.holds(token, proof) {
                return Err(Refused::JoinToken);
            }
        }
        Ok(())
    }

    fn holds(&self, token: JoinTokenId, proof: &JoinProof) -> bool {
        let (published, now) = (self.0.consensus.state(), self.0.consensus.cluster_now());
        let waiting = published.state.join_tokens().get(&token);
        waiting.is_some_and(|waiting| waiting.secret_hash == proof.stored() && waiting.expires > now)
    }

    /// Uses the token up for the key. Under an id that follows from both, so that a retry finds its first answer.
    async fn admit(&self, enrol: EdgeEnrol) -> Result<(), Refused> {
        let mut hash = Sha256::new();
        hash.update(b"haltline/v1/enrol\0");
        hash.update(enrol.token.0);
        hash.update(enrol.proof.0.0);
        hash.update(enrol.key.0);
        let hash: [u8; 32] = hash.finalize().into();
        let id = RequestId(*hash.first_chunk().expect("32 bytes hold 16"));
        let consensus = &self.0.consensus;
        let request = Asked {
            id,
            caller: Asker::Node(self.0.identity.id()),
            deadline: consensus.cluster_now().plus(ENROL_DEADLINE),
            signature: None,
            command: Command::EdgeEnrol(enrol),
        };
        let (stamp, _) = self.0.propose(request).await?;
        let patience = std::time::Duration::from_millis(ENROL_DEADLINE.0);
        consensus.wait_applied(stamp.index, patience).await?;
        Ok(())
    }

    /// The enforcer that a key is registered for.
    fn owner(&self, key: &KeyHash) -> Option<EdgeName> {
        match self.0.consensus.key_owners().get(key) {
            Some(KeyOwner::Edge(name)) => Some(name.clone()),
            _ => None,
        }
    }
}

fn exactly<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], Refused> {
    let wrong = || ConvertError::missing(field, "as many bytes as the join token has, neither more nor less");
    bytes.try_into().map_err(|_| Refused::from(wrong()))
}
