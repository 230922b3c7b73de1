//! How an enforcer gets its certificate: a key that never leaves its machine, a request, a chain for it.
//!
//! 1. [`PendingEdge::open`] makes the key, or finds the one of an attempt that was cut short: a join token is used up for
//!    one key, so trying again must mean trying with the same.
//! 2. A node checks the request ([`EdgeRequest::parse`]), registers its key under the name that the token fixes, and only
//!    then issues ([`Issuers::issue_edge`]). A request proves that its sender holds the key; names in it count for nothing.
//! 3. [`PendingEdge::complete`] joins the answer to the key.
//!
//! Renewal is the same over the edge port, for the key that is registered ([`Issuers::renew_edge`]).

use std::{fmt, path::Path, sync::Arc};

use haltline_core::{ids::KeyHash, limits::EDGE_REQUEST_BYTES_MAX};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, PKCS_ECDSA_P256_SHA256,
    PublicKeyData,
};
use rustls::pki_types::CertificateSigningRequestDer;

use crate::{
    certificate::{chain_from_pem, chain_to_pem, spki_hash},
    edge_identity::{EdgeIdentity, KnownHub},
    error::PkiError,
    issuer::Issuers,
    private_file,
    subject::{EdgeName, Subject},
    tls_identity::{KEY_FILE, TlsIdentity},
    tls_key::TlsKey,
    trust_bundle::TrustBundle,
    unix_time::Validity,
};

/// Whose request it is, before anybody knows.
const SOMEBODY: &str = "an enforcer";

/// A request whose sender holds the key that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeRequest {
    public_key_info: Vec<u8>,
}

impl EdgeRequest {
    /// Reads a PKCS#10 request (RFC 2986, DER) and checks its proof.
    ///
    /// # Errors
    /// [`PkiError::TooMany`] past the bound, [`PkiError::Request`] if it is damaged, isn't signed with its own key, or the
    /// key isn't ECDSA P-256.
    pub fn parse(der: &[u8]) -> Result<Self, PkiError> {
        if der.len() > EDGE_REQUEST_BYTES_MAX {
            let what = "bytes of a certificate request";
            return Err(PkiError::TooMany { what, got: der.len(), max: EDGE_REQUEST_BYTES_MAX });
        }
        let refused = |reason| PkiError::Request { name: SOMEBODY.into(), reason };
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map_err(|_| refused("it is damaged or isn't signed with its own key"))?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(refused("its key isn't ECDSA P-256"));
        }
        Ok(Self { public_key_info: request.public_key.subject_public_key_info() })
    }

    /// The hash of the key, for the registry.
    #[must_use]
    pub fn key_hash(&self) -> KeyHash {
        spki_hash(&self.public_key_info)
    }
}

impl Issuers {
    /// Issues an enforcer's certificate, as PEM, leaf first. The caller has registered the request's key under this name.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn issue_edge(
        &self,
        name: &EdgeName,
        request: &EdgeRequest,
        validity: Validity,
    ) -> Result<String, PkiError> {
        let chain = self.issue(&Subject::Edge(name.clone()), &[], &request.public_key_info, validity)?;
        Ok(chain_to_pem(&chain))
    }

    /// Issues a fresh certificate to the key that the caller's connection has proven.
    ///
    /// # Errors
    /// [`PkiError::Request`] if the request is for another key: a new key needs a new join token; [`PkiError::Crypto`].
    pub fn renew_edge(
        &self,
        name: &EdgeName,
        connected_key: &KeyHash,
        request: &EdgeRequest,
        validity: Validity,
    ) -> Result<String, PkiError> {
        if request.key_hash() != *connected_key {
            let reason = "it is for another key than the registered one; enrol the new key with a join token";
            return Err(PkiError::Request { name: name.to_string(), reason });
        }
        self.issue_edge(name, request, validity)
    }
}

/// An enforcer that has a key and waits for its certificate.
pub struct PendingEdge {
    key: Arc<TlsKey>,
    request: Vec<u8>,
}

impl PendingEdge {
    /// Makes a key, in memory.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn create() -> Result<Self, PkiError> {
        Self::of(TlsKey::generate()?)
    }

    /// The key in a directory of mode 0700; made and saved if there is none yet.
    ///
    /// # Errors
    /// [`PkiError::Exposed`] if others can read the key, [`PkiError::Io`], [`PkiError::Crypto`].
    pub fn open(directory: &Path) -> Result<Self, PkiError> {
        private_file::create_directory(directory)?;
        let path = directory.join(KEY_FILE);
        match private_file::refuse_existing(&path) {
            Ok(()) => {
                let key = TlsKey::generate()?;
                key.save(&path)?;
                Self::of(key)
            }
            Err(PkiError::Exists { .. }) => Self::of(TlsKey::load(&path)?),
            Err(error) => Err(error),
        }
    }

    fn of(key: TlsKey) -> Result<Self, PkiError> {
        let request = sign_request(&key)?;
        Ok(Self { key: Arc::new(key), request })
    }

    /// The request to send: PKCS#10 in DER.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// The hash of the key, which the registry will know.
    #[must_use]
    pub fn key_hash(&self) -> KeyHash {
        spki_hash(&self.key.public_key_info())
    }

    /// Joins the issued chain to the key. Write the result with [`EdgeIdentity::save_public`] where the key is saved
    /// already, or [`EdgeIdentity::save`] elsewhere.
    ///
    /// # Errors
    /// [`PkiError::KeyMismatch`] if it was issued for another key, [`PkiError::Issued`] if the bundle's root doesn't vouch
    /// for it now, [`PkiError::Request`] if it is for another name.
    pub fn complete(
        self,
        name: &EdgeName,
        chain_pem: &str,
        bundle: TrustBundle,
        hubs: Vec<KnownHub>,
    ) -> Result<EdgeIdentity, PkiError> {
        let tls = TlsIdentity::new(chain_from_pem(chain_pem)?, self.key)?;
        let identity = EdgeIdentity::new(tls, bundle, hubs)?;
        identity.check_issued()?;
        if identity.name() == name {
            Ok(identity)
        } else {
            let reason = "the certificate was issued for another name";
            Err(PkiError::Request { name: name.to_string(), reason })
        }
    }
}

impl fmt::Debug for PendingEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingEdge").field("key_hash", &self.key_hash()).finish_non_exhaustive()
    }
}

/// A request for a key, signed with it.
pub(crate) fn sign_request(key: &TlsKey) -> Result<Vec<u8>, PkiError> {
    let failed = |error: rcgen::Error| PkiError::crypto("make a certificate request", &error);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, SOMEBODY);
    Ok(params.serialize_request(key.pair()).map_err(failed)?.der().to_vec())
}
