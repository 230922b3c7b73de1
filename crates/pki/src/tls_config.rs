//! How this end shows itself and whom it accepts: server and client side.
//!
//! TLS 1.3 only. Session resumption is off on both sides: a resumed session skips the certificate check, and with it the
//! registry, so a removed key would live on in its tickets.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, ServerConfig, client::Resumption, server::NoServerSessionStorage, sign::SingleCertAndKey,
    version::TLS13,
};

use crate::{
    authority::Authority,
    certificate::LeafCertificate,
    error::PkiError,
    failure::{Own, TlsFailure},
    subject::Roles,
    tls_identity::TlsIdentity,
    trust_bundle::TrustBundle,
    unix_time::UnixSeconds,
    verify::{ChainVerifier, ClientVerifier, Expected, ServerVerifier, Verdict, provider},
};

pub(crate) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// A port's side of TLS: its certificate, the roles it accepts, the registry it asks. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    leaf: LeafCertificate,
    resolver: Arc<SingleCertAndKey>,
    /// Who checks clients; nobody on a public port, which asks for no certificate.
    clients: Option<Arc<ChainVerifier>>,
    protocols: Vec<Vec<u8>>,
}

/// The public port's side of TLS: it shows its certificate and asks for none, so whoever calls is nobody in particular.
/// A type of its own, so that no other port is opened to strangers by a slip. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PublicTls(pub(crate) ServerTls);

impl PublicTls {
    /// A public port for gRPC (HTTP/2).
    ///
    /// # Errors
    /// [`PkiError::Malformed`] if the library refuses the key.
    pub fn new(identity: &TlsIdentity) -> Result<Self, PkiError> {
        let (leaf, resolver) = (identity.leaf().clone(), identity.resolver()?);
        Ok(Self(ServerTls { leaf, resolver, clients: None, protocols: vec![HTTP2.to_vec()] }))
    }

    /// The same port for HTTP/1.1 too.
    #[must_use]
    pub fn with_http1(self) -> Self {
        Self(self.0.with_http1())
    }
}

impl ServerTls {
    /// A port for gRPC (HTTP/2). [`Roles::NODES`] for Raft, [`Roles::EVERYONE`] for the API.
    ///
    /// # Errors
    /// [`PkiError::WrongCluster`] if identity and bundle don't fit.
    pub fn new(
        identity: &TlsIdentity,
        bundle: &TrustBundle,
        accepted: Roles,
        authority: Arc<dyn Authority>,
    ) -> Result<Self, PkiError> {
        check_cluster(identity, bundle)?;
        Ok(Self {
            leaf: identity.leaf().clone(),
            resolver: identity.resolver()?,
            clients: Some(Arc::new(ChainVerifier::new(bundle, accepted, authority)?)),
            protocols: vec![HTTP2.to_vec()],
        })
    }

    /// The same port for HTTP/1.1 too.
    #[must_use]
    pub fn with_http1(mut self) -> Self {
        self.protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        self
    }

    pub(crate) fn config_for(&self, verdict: Verdict) -> Result<Arc<ServerConfig>, PkiError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| PkiError::crypto("set up TLS 1.3", &error))?;
        let builder = match self.clients.clone() {
            Some(chain) => builder.with_client_cert_verifier(Arc::new(ClientVerifier { chain, verdict })),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(self.resolver.clone());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols.clone_from(&self.protocols);
        Ok(Arc::new(config))
    }

    /// What an error of a handshake means, given who we are.
    pub(crate) fn explain(&self, error: &std::io::Error) -> TlsFailure {
        TlsFailure::from_io(error, Some(Own { leaf: &self.leaf, peer: None }))
    }

    pub(crate) fn still_admits(&self, leaf: &LeafCertificate, now: UnixSeconds) -> Result<(), TlsFailure> {
        self.clients.as_ref().map_or(Ok(()), |clients| clients.still_admits(leaf, now))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("leaf", &self.leaf)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

/// A caller's side of TLS: its certificate and which nodes it believes. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    leaf: LeafCertificate,
    resolver: Arc<SingleCertAndKey>,
    chain: Arc<ChainVerifier>,
    protocols: Vec<Vec<u8>>,
}

impl ClientTls {
    /// For gRPC (HTTP/2). Nodes pass their registry as authority, so that a removed node is nobody to them; people pass
    /// [`CertificateAlone`](crate::CertificateAlone).
    ///
    /// # Errors
    /// [`PkiError::WrongCluster`] if identity and bundle don't fit.
    pub fn new(
        identity: &TlsIdentity,
        bundle: &TrustBundle,
        authority: Arc<dyn Authority>,
    ) -> Result<Self, PkiError> {
        check_cluster(identity, bundle)?;
        Self::unchecked(identity, bundle, authority)
    }

    pub(crate) fn unchecked(
        identity: &TlsIdentity,
        bundle: &TrustBundle,
        authority: Arc<dyn Authority>,
    ) -> Result<Self, PkiError> {
        Ok(Self {
            leaf: identity.leaf().clone(),
            resolver: identity.resolver()?,
            chain: Arc::new(ChainVerifier::new(bundle, Roles::NODES, authority)?),
            protocols: vec![HTTP2.to_vec()],
        })
    }

    pub(crate) fn config_for(
        &self,
        expected: Expected,
        verdict: Verdict,
    ) -> Result<Arc<ClientConfig>, PkiError> {
        let verifier = ServerVerifier { chain: self.chain.clone(), expected, verdict };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| PkiError::crypto("set up TLS 1.3", &error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.resolver.clone());
        config.resumption = Resumption::disabled();
        config.alpn_protocols.clone_from(&self.protocols);
        Ok(Arc::new(config))
    }

    /// What an error of the stream means, given who we are and whom we called.
    pub(crate) fn explain(&self, error: &std::io::Error) -> TlsFailure {
        TlsFailure::from_io(error, Some(Own { leaf: &self.leaf, peer: Some(self.chain.cluster()) }))
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("leaf", &self.leaf)
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

fn check_cluster(identity: &TlsIdentity, bundle: &TrustBundle) -> Result<(), PkiError> {
    let (expected, got) = (bundle.cluster(), identity.leaf().cluster);
    if expected == got { Ok(()) } else { Err(PkiError::WrongCluster { expected, got }) }
}
