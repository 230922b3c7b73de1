//! Why two ends don't talk: one enum, from either end's view, in words a person can act on.
//!
//! `Peer…` says what is wrong with the other's certificate, `Own…` what the other end said of ours. In TLS 1.3 a client
//! learns of its own refusal only after its handshake is done, by an alert (RFC 8446, section 6); the alert is turned into
//! an `Own…` with what is known on this side.

use std::sync::Arc;

use haltline_core::ids::{ClusterId, EdgeName, KeyHash, NodeId};
use rustls::{AlertDescription, CertificateError};

use crate::{
    authority::Refusal,
    certificate::LeafCertificate,
    subject::{Role, Roles, Subject},
    unix_time::UnixSeconds,
};

/// What an end knows of itself and of whom it talks to, to word an alert.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own<'a> {
    /// The certificate it showed.
    pub(crate) leaf: &'a LeafCertificate,
    /// The cluster at the other end, proven by its certificate: a client knows it, a server that is refused doesn't.
    pub(crate) peer: Option<ClusterId>,
}

/// Why a connection was refused or failed. [`TlsFailure::code`] is stable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// The other's certificate is over.
    #[error("the certificate of {subject} expired at {not_after}; renew it there, or compare both clocks")]
    PeerExpired {
        /// Whose it is.
        subject: Subject,
        /// Its last second.
        not_after: UnixSeconds,
    },
    /// The other's certificate hasn't begun.
    #[error("the certificate of {subject} is valid only from {not_before}; compare both clocks")]
    PeerNotYetValid {
        /// Whose it is.
        subject: Subject,
        /// Its first second.
        not_before: UnixSeconds,
    },
    /// The intermediate that issued the other's certificate is over.
    #[error(
        "the {role} intermediate that issued the certificate expired at {not_after}; issue a new one with the root key"
    )]
    IssuerExpired {
        /// The intermediate's role.
        role: Role,
        /// Its last second.
        not_after: UnixSeconds,
    },
    /// The other belongs to another cluster.
    #[error(
        "expected cluster {expected}, got a certificate of cluster {got}; check the address and the identity in use"
    )]
    PeerForeign {
        /// Our cluster.
        expected: ClusterId,
        /// The cluster that its certificate names.
        got: ClusterId,
    },
    /// The certificate names our cluster, but our root didn't vouch for it.
    #[error(
        "the certificate says {subject} of this cluster, but the cluster's root doesn't vouch for it: {reason}"
    )]
    PeerUntrusted {
        /// Whom it names.
        subject: Subject,
        /// What the check of the chain found.
        reason: String,
    },
    /// The other is of a role that has no business here.
    #[error("expected the certificate of a {accepted}, got the one of {got}")]
    PeerWrongRole {
        /// Roles that are accepted.
        accepted: Roles,
        /// Whose certificate came.
        got: Subject,
    },
    /// Another node answered.
    #[error("expected node {expected}, but node {got} answered; the addresses of nodes may be swapped")]
    PeerWrongNode {
        /// The node that was meant.
        expected: NodeId,
        /// The node that answered.
        got: NodeId,
    },
    /// Another relay answered.
    #[error("expected relay {expected}, but {got} answered; the addresses of relays may be swapped")]
    PeerWrongRelay {
        /// The relay that was meant.
        expected: EdgeName,
        /// The enforcer that answered.
        got: EdgeName,
    },
    /// The node's certificate doesn't hold the host that was called.
    #[error("node {node} answered at {expected}, but its certificate is for {}; call one of these, or issue it for this host", .presented.join(", "))]
    PeerWrongHost {
        /// The host that was called.
        expected: String,
        /// The node that answered.
        node: NodeId,
        /// The hosts in its certificate.
        presented: Vec<String>,
    },
    /// The registry refuses the other's key.
    #[error("{subject} with key {key_hash} is nobody here: {reason}")]
    PeerUnregistered {
        /// Whom the certificate names.
        subject: Subject,
        /// The hash of its key.
        key_hash: KeyHash,
        /// Why.
        reason: Refusal,
    },
    /// The other shows a certificate whose private key it doesn't hold.
    #[error("the other shows the certificate of {subject}, but doesn't hold its key")]
    PeerWithoutKey {
        /// Whom the certificate names.
        subject: Subject,
    },
    /// What the other sent is no certificate of this system.
    #[error("the other's certificate can't be read: {reason}")]
    PeerMalformed {
        /// What is wrong.
        reason: String,
    },
    /// The other sent no certificate.
    #[error("the other sent no certificate, and this port demands one")]
    PeerWithoutCertificate,

    /// The other says our certificate is over, or hasn't begun: TLS has one alert for both.
    #[error(
        "the certificate of {subject} was refused as out of its time: it is valid until {not_after}; renew it if that is past, else compare both clocks"
    )]
    OwnExpired {
        /// Whose certificate we showed.
        subject: Subject,
        /// Its last second.
        not_after: UnixSeconds,
    },
    /// The other doesn't know who issued our certificate.
    #[error(
        "the certificate of {subject} of cluster {got} was refused as foreign by cluster {expected}; use an identity of that cluster"
    )]
    OwnForeign {
        /// Whose certificate we showed.
        subject: Subject,
        /// The cluster that answered.
        expected: ClusterId,
        /// The cluster of our certificate.
        got: ClusterId,
    },
    /// The port isn't for our role.
    #[error(
        "this port doesn't take the certificate of {subject}; check the address: the API and Raft ports differ"
    )]
    OwnWrongRole {
        /// Whose certificate we showed.
        subject: Subject,
    },
    /// Our key isn't registered.
    #[error(
        "{subject} with key {key_hash} isn't registered (or was removed); ask an operator to register the key"
    )]
    OwnUnregistered {
        /// Whose certificate we showed.
        subject: Subject,
        /// The hash of our key.
        key_hash: KeyHash,
    },
    /// The node can't tell yet whether our key is registered.
    #[error("the node has not read the registry yet, so it knows nobody; try another node, or again")]
    OwnUndecided,
    /// The port demands a certificate, and we have shown none.
    #[error("the port demands a certificate, and none was shown")]
    OwnMissing,
    /// The other refused our certificate for a reason of its own.
    #[error("the certificate of {subject} was refused ({alert}); the other end's log says why")]
    OwnRefused {
        /// Whose certificate we showed.
        subject: Subject,
        /// The alert's name.
        alert: String,
    },

    /// Nobody listens there, or the way is cut.
    #[error("can't reach {address}: {reason}")]
    Unreachable {
        /// The address that was called.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// No answer in time.
    #[error("{address} didn't answer within {timeout_ms} ms")]
    Timeout {
        /// The address that was called.
        address: String,
        /// How long was waited, in milliseconds.
        timeout_ms: u64,
    },
    /// An end that doesn't speak TLS 1.3.
    #[error("the two ends have no TLS version in common; this one speaks TLS 1.3 only")]
    Version,
    /// No application protocol in common.
    #[error("the two ends have no application protocol in common (ALPN); expected HTTP/2")]
    NoCommonProtocol,
    /// Whatever answered doesn't speak TLS.
    #[error("the other end doesn't speak TLS; check that the port is the right one")]
    NotTls,
    /// The handshake broke off.
    #[error("the connection broke: {reason}")]
    Broken {
        /// What was seen.
        reason: String,
    },
}

impl TlsFailure {
    /// A stable code for scripts, metrics and help pages.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::PeerExpired { .. } => "tls_peer_expired",
            Self::PeerNotYetValid { .. } => "tls_peer_not_yet_valid",
            Self::IssuerExpired { .. } => "tls_issuer_expired",
            Self::PeerForeign { .. } => "tls_peer_foreign",
            Self::PeerUntrusted { .. } => "tls_peer_untrusted",
            Self::PeerWrongRole { .. } => "tls_peer_wrong_role",
            Self::PeerWrongNode { .. } => "tls_peer_wrong_node",
            Self::PeerWrongRelay { .. } => "tls_peer_wrong_relay",
            Self::PeerWrongHost { .. } => "tls_peer_wrong_host",
            Self::PeerUnregistered { .. } => "tls_peer_unregistered",
            Self::PeerWithoutKey { .. } => "tls_peer_without_key",
            Self::PeerMalformed { .. } => "tls_peer_malformed",
            Self::PeerWithoutCertificate => "tls_peer_without_certificate",
            Self::OwnExpired { .. } => "tls_own_expired",
            Self::OwnForeign { .. } => "tls_own_foreign",
            Self::OwnWrongRole { .. } => "tls_own_wrong_role",
            Self::OwnUnregistered { .. } => "tls_own_unregistered",
            Self::OwnUndecided => "tls_own_undecided",
            Self::OwnMissing => "tls_own_missing",
            Self::OwnRefused { .. } => "tls_own_refused",
            Self::Unreachable { .. } => "tls_unreachable",
            Self::Timeout { .. } => "tls_timeout",
            Self::Version => "tls_version",
            Self::NoCommonProtocol => "tls_no_common_protocol",
            Self::NotTls => "tls_not_tls",
            Self::Broken { .. } => "tls_broken",
        }
    }

    /// Whether trying the same again may help, without anybody doing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Timeout { .. }
                | Self::Broken { .. }
                | Self::OwnUndecided
                | Self::PeerUnregistered { reason: Refusal::NotReady, .. }
        )
    }

    /// Finds the failure in an error's chain of sources: of a `tonic::transport::Error`, a `tonic::Status`, an
    /// `std::io::Error` or whatever wraps them. `None` if TLS had no part in it.
    #[must_use]
    pub fn find(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(failure) = error.downcast_ref::<Self>() {
                return Some(failure.clone());
            }
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::from_rustls(tls, None));
            }
            // An io::Error's source is the source of what it wraps: what it wraps itself has to be asked for.
            let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            next = match wrapped {
                Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
                None => error.source(),
            };
        }
        None
    }

    /// What the TLS library reports, with what this side knows of itself.
    pub(crate) fn from_rustls(error: &rustls::Error, own: Option<Own<'_>>) -> Self {
        use rustls::PeerIncompatible as Incompatible;
        match error {
            rustls::Error::AlertReceived(alert) => Self::from_alert(*alert, own),
            rustls::Error::NoCertificatesPresented => Self::PeerWithoutCertificate,
            rustls::Error::NoApplicationProtocol => Self::NoCommonProtocol,
            rustls::Error::PeerIncompatible(
                Incompatible::SupportedVersionsExtensionRequired
                | Incompatible::ServerDoesNotSupportTls12Or13
                | Incompatible::ServerTlsVersionIsDisabledByOurConfig
                | Incompatible::Tls12NotOffered
                | Incompatible::Tls12NotOfferedOrEnabled,
            ) => Self::Version,
            rustls::Error::InvalidMessage(
                rustls::InvalidMessage::InvalidContentType | rustls::InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            rustls::Error::InvalidCertificate(error) => Self::PeerMalformed { reason: error.to_string() },
            other => Self::Broken { reason: other.to_string() },
        }
    }

    fn from_alert(alert: AlertDescription, own: Option<Own<'_>>) -> Self {
        match alert {
            AlertDescription::ProtocolVersion => return Self::Version,
            AlertDescription::NoApplicationProtocol => return Self::NoCommonProtocol,
            AlertDescription::CertificateRequired => return Self::OwnMissing,
            _ => {}
        }
        let Some(Own { leaf, peer }) = own else {
            return Self::Broken { reason: format!("the other end sent the alert {alert:?}") };
        };
        let subject = leaf.subject.clone();
        match (alert, peer) {
            (AlertDescription::CertificateExpired, _) => {
                Self::OwnExpired { subject, not_after: leaf.validity.not_after }
            }
            (AlertDescription::UnknownCA, Some(expected)) => {
                Self::OwnForeign { subject, expected, got: leaf.cluster }
            }
            (AlertDescription::UnsupportedCertificate, Some(_)) => Self::OwnWrongRole { subject },
            (AlertDescription::AccessDenied, Some(_)) => {
                Self::OwnUnregistered { subject, key_hash: leaf.key_hash }
            }
            (AlertDescription::CertificateUnknown, Some(_)) => Self::OwnUndecided,
            (
                AlertDescription::UnknownCA
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::AccessDenied
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRevoked
                | AlertDescription::DecryptError,
                _,
            ) => Self::OwnRefused { subject, alert: format!("{alert:?}") },
            (other, _) => Self::Broken { reason: format!("the other end sent the alert {other:?}") },
        }
    }

    /// What an I/O error of a TLS stream comes to.
    pub(crate) fn from_io(error: &std::io::Error, own: Option<Own<'_>>) -> Self {
        match error.get_ref() {
            Some(inner) => {
                if let Some(failure) = inner.downcast_ref::<Self>() {
                    return failure.clone();
                }
                if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
                    return Self::from_rustls(tls, own);
                }
                Self::Broken { reason: error.to_string() }
            }
            None => Self::Broken { reason: error.to_string() },
        }
    }

    /// What the TLS library is told, which decides the alert that the other end gets.
    pub(crate) fn to_rustls(&self) -> rustls::Error {
        let error = match self {
            Self::PeerExpired { .. } | Self::PeerNotYetValid { .. } | Self::IssuerExpired { .. } => {
                CertificateError::Expired
            }
            Self::PeerForeign { .. } | Self::PeerUntrusted { .. } => CertificateError::UnknownIssuer,
            Self::PeerWrongRole { .. } => CertificateError::InvalidPurpose,
            Self::PeerWrongNode { .. } | Self::PeerWrongRelay { .. } | Self::PeerWrongHost { .. } => {
                CertificateError::NotValidForName
            }
            // The alert certificate_unknown, which nothing else here is answered with.
            Self::PeerUnregistered { reason: Refusal::NotReady, .. } => {
                CertificateError::Other(rustls::OtherError(Arc::new(self.clone())))
            }
            Self::PeerWithoutKey { .. } => CertificateError::BadSignature,
            Self::PeerUnregistered { .. } => CertificateError::ApplicationVerificationFailure,
            _ => CertificateError::BadEncoding,
        };
        rustls::Error::InvalidCertificate(error)
    }
}
