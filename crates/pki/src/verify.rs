//! Whether a peer's chain holds: for this cluster, this role, this moment, this registry.
//!
//! The role a leaf claims decides which intermediate counts: only one that the root marked for that role is put before the
//! chain check, so a leaf can't reach the root by another role's intermediate. The checks of X.509 themselves are the
//! library's (webpki).

use std::{
    fmt,
    sync::{Arc, LazyLock, OnceLock},
};

use haltline_core::{
    ids::{ClusterId, EdgeName, NodeId},
    limits::CERTIFICATE_CHAIN_MAX,
};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{
    authority::{Authority, CertificateAlone},
    certificate::{self, LeafCertificate},
    error::PkiError,
    failure::TlsFailure,
    subject::{Roles, Subject},
    trust_bundle::TrustBundle,
    unix_time::UnixSeconds,
};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The one cryptography in use.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// Which end the peer is: a certificate must be made for its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usage {
    Client,
    Server,
}

/// Checks peers of one cluster.
pub(crate) struct ChainVerifier {
    cluster: ClusterId,
    roots: RootCertStore,
    clients: Arc<dyn ClientCertVerifier>,
    accepted: Roles,
    authority: Arc<dyn Authority>,
}

impl ChainVerifier {
    pub(crate) fn new(
        bundle: &TrustBundle,
        accepted: Roles,
        authority: Arc<dyn Authority>,
    ) -> Result<Self, PkiError> {
        let roots = bundle.root_store()?;
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider())
            .build()
            .map_err(|error| PkiError::crypto("set up the check of certificates", &error))?;
        Ok(Self { cluster: bundle.cluster(), roots, clients, accepted, authority })
    }

    pub(crate) const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Whether a peer that was let in may stay: its certificate's time and its registration.
    pub(crate) fn still_admits(&self, leaf: &LeafCertificate, now: UnixSeconds) -> Result<(), TlsFailure> {
        if now > leaf.validity.not_after {
            let (subject, not_after) = (leaf.subject.clone(), leaf.validity.not_after);
            return Err(TlsFailure::PeerExpired { subject, not_after });
        }
        self.check_registered(leaf)
    }

    fn check(
        &self,
        accepted: Roles,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<LeafCertificate, TlsFailure> {
        if intermediates.len() >= CERTIFICATE_CHAIN_MAX {
            let reason = format!(
                "a chain of {} certificates; at most {CERTIFICATE_CHAIN_MAX} are read",
                intermediates.len() + 1
            );
            return Err(TlsFailure::PeerMalformed { reason });
        }
        let leaf = LeafCertificate::parse(end_entity)
            .map_err(|error| TlsFailure::PeerMalformed { reason: error.to_string() })?;
        if leaf.cluster != self.cluster {
            return Err(TlsFailure::PeerForeign { expected: self.cluster, got: leaf.cluster });
        }
        let role = leaf.subject.role();
        if !accepted.contains(role) {
            return Err(TlsFailure::PeerWrongRole { accepted, got: leaf.subject });
        }
        let issuers: Vec<_> = intermediates
            .iter()
            .filter(|der| certificate::is_issuer_of(der, self.cluster, role))
            .cloned()
            .collect();
        match usage {
            Usage::Client => self.clients.verify_client_cert(end_entity, &issuers, now).map(|_| ()),
            Usage::Server => ParsedCertificate::try_from(end_entity).and_then(|certificate| {
                let algorithms = provider().signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(
                    &certificate,
                    &self.roots,
                    &issuers,
                    now,
                    algorithms,
                )
            }),
        }
        .map_err(|error| chain_failure(&error, &leaf, now))?;
        Ok(leaf)
    }

    fn check_registered(&self, leaf: &LeafCertificate) -> Result<(), TlsFailure> {
        self.authority.admit(&leaf.subject, &leaf.key_hash).map_err(|reason| TlsFailure::PeerUnregistered {
            subject: leaf.subject.clone(),
            key_hash: leaf.key_hash,
            reason,
        })
    }
}

impl fmt::Debug for ChainVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainVerifier")
            .field("cluster", &self.cluster)
            .field("accepted", &self.accepted)
            .finish_non_exhaustive()
    }
}

/// Whether a chain that was issued to us holds now, as the one who will be shown it asks.
pub(crate) fn check_issued(
    bundle: &TrustBundle,
    chain: &[CertificateDer<'_>],
    accepted: Roles,
) -> Result<(), TlsFailure> {
    let broken = |reason: String| TlsFailure::PeerMalformed { reason };
    let verifier = ChainVerifier::new(bundle, accepted, Arc::new(CertificateAlone))
        .map_err(|error| broken(error.to_string()))?;
    let (leaf, intermediates) = chain.split_first().ok_or_else(|| broken("an empty chain".into()))?;
    verifier.check(accepted, leaf, intermediates, UnixTime::now(), Usage::Client).map(|_| ())
}

/// Whether a server that showed this chain, and holds its key, is a node that the bundle lists.
pub(crate) fn check_server(
    bundle: &TrustBundle,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<LeafCertificate, TlsFailure> {
    let verifier = ChainVerifier::new(bundle, Roles::NODES, Arc::new(bundle.clone()))
        .map_err(|error| TlsFailure::PeerMalformed { reason: error.to_string() })?;
    let leaf = verifier.check(Roles::NODES, leaf, intermediates, UnixTime::now(), Usage::Server)?;
    verifier.check_registered(&leaf)?;
    Ok(leaf)
}

fn chain_failure(error: &Error, leaf: &LeafCertificate, now: UnixTime) -> TlsFailure {
    let subject = leaf.subject.clone();
    let now = UnixSeconds(now.as_secs());
    match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            if now > leaf.validity.not_after {
                TlsFailure::PeerExpired { subject, not_after: leaf.validity.not_after }
            } else {
                TlsFailure::IssuerExpired {
                    role: subject.role(),
                    not_after: UnixSeconds(not_after.as_secs()),
                }
            }
        }
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            TlsFailure::PeerNotYetValid { subject, not_before: UnixSeconds(not_before.as_secs()) }
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            TlsFailure::PeerUntrusted { subject, reason: "no chain to the root".into() }
        }
        Error::InvalidCertificate(other) => TlsFailure::PeerUntrusted { subject, reason: other.to_string() },
        other => TlsFailure::PeerUntrusted { subject, reason: other.to_string() },
    }
}

/// What one handshake found out: set by the verifier, read by whoever drove the handshake. The TLS library passes on no
/// more than an alert's worth.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict(Arc<Findings>);

#[derive(Debug, Default)]
struct Findings {
    leaf: OnceLock<LeafCertificate>,
    failure: OnceLock<TlsFailure>,
}

impl Verdict {
    /// The peer's leaf, if the peer passed.
    pub(crate) fn leaf(&self) -> Option<LeafCertificate> {
        if self.0.failure.get().is_some() { None } else { self.0.leaf.get().cloned() }
    }

    /// Why the peer was refused, if it was.
    pub(crate) fn failure(&self) -> Option<TlsFailure> {
        self.0.failure.get().cloned()
    }

    fn refuse(&self, failure: TlsFailure) -> Error {
        let error = failure.to_rustls();
        // A handshake ends at its first refusal: there is nothing to overwrite.
        let _ = self.0.failure.set(failure);
        error
    }

    /// The first half: the certificate itself.
    fn judge_certificate(&self, verdict: Result<LeafCertificate, TlsFailure>) -> Result<(), Error> {
        let leaf = verdict.map_err(|failure| self.refuse(failure))?;
        // Set already only where one configuration serves many handshakes, and nobody reads the verdict.
        let _ = self.0.leaf.set(leaf);
        Ok(())
    }

    /// The second half: the peer holds the certificate's key, and only then whether that key counts. In this order a
    /// stranger with a copied certificate can't find out who is registered.
    fn judge_key(
        &self,
        chain: &ChainVerifier,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let leaf = LeafCertificate::parse(certificate)
            .map_err(|error| self.refuse(TlsFailure::PeerMalformed { reason: error.to_string() }))?;
        let algorithms = &provider().signature_verification_algorithms;
        let valid = verify_tls13_signature(message, certificate, signature, algorithms)
            .map_err(|_| self.refuse(TlsFailure::PeerWithoutKey { subject: leaf.subject.clone() }))?;
        chain.check_registered(&leaf).map_err(|failure| self.refuse(failure))?;
        Ok(valid)
    }
}

/// Checks the client of one connection.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) chain: Arc<ChainVerifier>,
    pub(crate) verdict: Verdict,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verdict = self.chain.check(self.chain.accepted, end_entity, intermediates, now, Usage::Client);
        self.verdict.judge_certificate(verdict).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verdict.judge_key(&self.chain, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Which server must answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// This node, wherever it is.
    Node(NodeId),
    /// This relay, wherever it is.
    Relay(EdgeName),
    /// Any node whose certificate holds the host that was called.
    Host,
}

impl Expected {
    const fn roles(&self) -> Roles {
        match self {
            Self::Node(_) | Self::Host => Roles::NODES,
            Self::Relay(_) => Roles::EDGES,
        }
    }
}

/// Checks the server of one connection.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) chain: Arc<ChainVerifier>,
    pub(crate) expected: Expected,
    pub(crate) verdict: Verdict,
}

impl ServerVerifier {
    fn check_name(
        &self,
        leaf: &LeafCertificate,
        end_entity: &CertificateDer<'_>,
        host: &ServerName<'_>,
    ) -> Result<(), TlsFailure> {
        match (&self.expected, &leaf.subject) {
            (Expected::Node(expected), Subject::Node(got)) if expected == got => Ok(()),
            (Expected::Node(expected), Subject::Node(got)) => {
                Err(TlsFailure::PeerWrongNode { expected: *expected, got: *got })
            }
            (Expected::Relay(expected), Subject::Edge(got)) if expected == got => Ok(()),
            (Expected::Relay(expected), Subject::Edge(got)) => {
                Err(TlsFailure::PeerWrongRelay { expected: expected.clone(), got: got.clone() })
            }
            (Expected::Host, Subject::Node(got)) => ParsedCertificate::try_from(end_entity)
                .and_then(|certificate| verify_server_name(&certificate, host))
                .map_err(|_| TlsFailure::PeerWrongHost {
                    expected: host.to_str().into_owned(),
                    node: *got,
                    presented: certificate::hosts(end_entity),
                }),
            (expected, got) => {
                Err(TlsFailure::PeerWrongRole { accepted: expected.roles(), got: got.clone() })
            }
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let accepted = self.expected.roles();
        let verdict =
            self.chain.check(accepted, end_entity, intermediates, now, Usage::Server).and_then(|leaf| {
                self.check_name(&leaf, end_entity, host)?;
                Ok(leaf)
            });
        self.verdict.judge_certificate(verdict).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verdict.judge_key(&self.chain, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Configurations offer TLS 1.3 alone, so this is never asked for; if it were, the answer is no.
pub(crate) fn only_tls13() -> Error {
    Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired)
}
