//! A certificate chain with its private key, ready to be shown in a handshake.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    pki_types::CertificateDer,
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::{
    certificate::{self, LeafCertificate, chain_from_pem, chain_to_pem},
    error::PkiError,
    private_file::{self, Access},
    subject::Role,
    tls_key::TlsKey,
    trust_bundle::TrustBundle,
};

/// File of the certificate chain, leaf first.
pub(crate) const CHAIN_FILE: &str = "tls.crt";
/// File of the private key.
pub(crate) const KEY_FILE: &str = "tls.key";

/// A chain, what its leaf says, and its key. Cheap to clone; `Debug` shows the leaf alone.
#[derive(Clone)]
pub struct TlsIdentity {
    leaf: LeafCertificate,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<TlsKey>,
}

impl TlsIdentity {
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>, key: Arc<TlsKey>) -> Result<Self, PkiError> {
        let first =
            chain.first().ok_or_else(|| PkiError::malformed("certificate chain", "at least a leaf"))?;
        let leaf = LeafCertificate::parse(first)?;
        if certificate::public_key_info(first)? != key.public_key_info() {
            return Err(PkiError::KeyMismatch { subject: leaf.subject });
        }
        Ok(Self { leaf, chain, key })
    }

    /// What the leaf says: cluster, subject, key hash, validity.
    #[must_use]
    pub const fn leaf(&self) -> &LeafCertificate {
        &self.leaf
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) const fn key(&self) -> &Arc<TlsKey> {
        &self.key
    }

    pub(crate) fn resolver(&self) -> Result<Arc<SingleCertAndKey>, PkiError> {
        let certified = CertifiedKey::new(self.chain.clone(), self.key.for_rustls()?);
        Ok(Arc::new(SingleCertAndKey::from(certified)))
    }

    pub(crate) fn save(&self, directory: &Path) -> Result<(), PkiError> {
        let path = directory.join(KEY_FILE);
        private_file::refuse_existing(&path)?;
        self.key.save(&path)?;
        self.save_chain(directory)
    }

    /// Replaces the chain on disk, as after a renewal; the key stays.
    pub(crate) fn save_chain(&self, directory: &Path) -> Result<(), PkiError> {
        private_file::write(&directory.join(CHAIN_FILE), chain_to_pem(&self.chain).as_bytes(), Access::Public)
    }

    pub(crate) fn load(directory: &Path, role: Role, bundle: &TrustBundle) -> Result<Self, PkiError> {
        let path = directory.join(CHAIN_FILE);
        let chain = chain_from_pem(&private_file::read(&path, Access::Public)?)
            .map_err(|error| error.in_file(&path))?;
        let key = TlsKey::load(&directory.join(KEY_FILE))?;
        let identity = Self::new(chain, Arc::new(key)).map_err(|error| error.in_file(&path))?;
        identity.check(role, bundle)?;
        Ok(identity)
    }

    pub(crate) fn check(&self, role: Role, bundle: &TrustBundle) -> Result<(), PkiError> {
        if self.leaf.subject.role() != role {
            return Err(PkiError::WrongRole { expected: role, got: self.leaf.subject.clone() });
        }
        if self.leaf.cluster != bundle.cluster() {
            return Err(PkiError::WrongCluster { expected: bundle.cluster(), got: self.leaf.cluster });
        }
        Ok(())
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("leaf", &self.leaf)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
