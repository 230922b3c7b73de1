//! A node's identity: its directory of keys and certificates.
//!
//! ```text
//! tls.crt      chain: leaf, node intermediate        0644
//! tls.key      ECDSA P-256, PKCS#8 PEM               0600
//! signing.key  Ed25519, PKCS#8 PEM (RFC 8410)        0600
//! next-signing.key  the key that will follow signing.key, if one was prepared   0600
//! trust.json   trust bundle                          0644
//! ca/          node, edge and person intermediates: <role>.crt 0644, <role>.key 0600
//! ```
//!
//! The root's key is never here. A stolen node can issue certificates, but registers nobody: authority hangs on keys in
//! the log.

use std::{path::Path, sync::Arc};

use haltline_core::ids::{NodeId, PublicKey};

use crate::{
    error::PkiError,
    issuer::Issuers,
    private_file,
    statement::StatementSigner,
    subject::{Role, Subject},
    tls_identity::TlsIdentity,
    trust_bundle::{TrustBundle, TrustedNode},
    unix_time::Validity,
};

pub(crate) const SIGNING_KEY_FILE: &str = "signing.key";
pub(crate) const TRUST_FILE: &str = "trust.json";
/// A key that was prepared and is not in force yet.
const NEXT_SIGNING_KEY_FILE: &str = "next-signing.key";
const ISSUERS_DIRECTORY: &str = "ca";

/// Makes the key that a node will sign with once the trust bundle names it, beside the one that it signs with now. One that
/// was prepared already stays: people may have agreed on it.
///
/// # Errors
/// [`PkiError::Io`], [`PkiError::Crypto`]; [`PkiError::Exposed`] if others can read the one that is there.
pub fn prepare_signing_key(directory: &Path) -> Result<PublicKey, PkiError> {
    // Only beside a key of its own: a typed path mustn't make a directory of strange keys.
    StatementSigner::load(&directory.join(SIGNING_KEY_FILE))?;
    if let Some(prepared) = prepared_signing_key(directory)? {
        return Ok(prepared.public_key());
    }
    let signer = StatementSigner::generate()?;
    signer.save(&directory.join(NEXT_SIGNING_KEY_FILE))?;
    Ok(signer.public_key())
}

/// The key that was prepared, if any.
///
/// # Errors
/// [`PkiError::Exposed`] if others can read it, [`PkiError::Malformed`], [`PkiError::Io`].
pub fn prepared_signing_key(directory: &Path) -> Result<Option<StatementSigner>, PkiError> {
    let path = directory.join(NEXT_SIGNING_KEY_FILE);
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => StatementSigner::load(&path).map(Some),
    }
}

/// Puts the prepared key in the place of the one before, which is gone then. Whole or not at all.
///
/// # Errors
/// [`PkiError::Io`].
pub fn adopt_signing_key(directory: &Path) -> Result<(), PkiError> {
    private_file::replace(&directory.join(NEXT_SIGNING_KEY_FILE), &directory.join(SIGNING_KEY_FILE))
}

/// Everything that makes a process this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    id: NodeId,
    tls: TlsIdentity,
    signer: Arc<StatementSigner>,
    bundle: TrustBundle,
    issuers: Arc<Issuers>,
}

impl NodeIdentity {
    pub(crate) fn new(
        tls: TlsIdentity,
        signer: Arc<StatementSigner>,
        bundle: TrustBundle,
        issuers: Arc<Issuers>,
    ) -> Result<Self, PkiError> {
        tls.check(Role::Node, &bundle)?;
        match tls.leaf().subject {
            Subject::Node(id) => Ok(Self { id, tls, signer, bundle, issuers }),
            ref other => Err(PkiError::WrongRole { expected: Role::Node, got: other.clone() }),
        }
    }

    /// The node.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Its certificate and TLS key.
    #[must_use]
    pub const fn tls(&self) -> &TlsIdentity {
        &self.tls
    }

    /// Signs its statements.
    #[must_use]
    pub const fn signer(&self) -> &Arc<StatementSigner> {
        &self.signer
    }

    /// Whom it believes.
    #[must_use]
    pub const fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// Issues certificates.
    #[must_use]
    pub const fn issuers(&self) -> &Arc<Issuers> {
        &self.issuers
    }

    /// Its public keys, as the registry and a bundle name them.
    #[must_use]
    pub fn trusted(&self) -> TrustedNode {
        TrustedNode { signing_key: self.signer.public_key(), tls_key: self.tls.leaf().key_hash }
    }

    /// Writes the whole identity into a directory of mode 0700.
    ///
    /// # Errors
    /// [`PkiError::Exists`] if keys are there already, [`PkiError::Io`].
    pub fn save(&self, directory: &Path) -> Result<(), PkiError> {
        private_file::create_directory(directory)?;
        self.tls.save(directory)?;
        self.signer.save(&directory.join(SIGNING_KEY_FILE))?;
        self.issuers.save(&directory.join(ISSUERS_DIRECTORY))?;
        self.bundle.save(&directory.join(TRUST_FILE))
    }

    /// Reads an identity, checking that its parts belong together. An expired certificate loads: it can be renewed.
    ///
    /// # Errors
    /// [`PkiError::Exposed`] if others can read a private key; the error names the file in every case.
    pub fn load(directory: &Path) -> Result<Self, PkiError> {
        let bundle = TrustBundle::load(&directory.join(TRUST_FILE))?;
        let tls = TlsIdentity::load(directory, Role::Node, &bundle)?;
        let signer = StatementSigner::load(&directory.join(SIGNING_KEY_FILE))?;
        let issuers = Issuers::load(&directory.join(ISSUERS_DIRECTORY), bundle.cluster())?;
        Self::new(tls, Arc::new(signer), bundle, Arc::new(issuers))
    }

    /// The same node with a fresh certificate for the same key and names. Write it with
    /// [`NodeIdentity::save_certificate`], and hand it to the running listener and clients with their `rotate`.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn renewed(&self, validity: Validity) -> Result<Self, PkiError> {
        let chain = self.issuers.reissue(&self.tls.chain()[0], validity)?;
        let tls = TlsIdentity::new(chain, self.tls.key().clone())?;
        Ok(Self { tls, ..self.clone() })
    }

    /// Replaces the certificate on disk.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn save_certificate(&self, directory: &Path) -> Result<(), PkiError> {
        self.tls.save_chain(directory)
    }
}
