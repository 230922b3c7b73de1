//! A person's identity: the directory that `haltline` reads to act in somebody's name.
//!
//! ```text
//! identity.json  name and endpoints of the cluster             0644
//! tls.crt        chain: leaf, person intermediate              0644
//! tls.key        ECDSA P-256, PKCS#8 PEM                       0600
//! signing.key    Ed25519, PKCS#8 PEM (RFC 8410)                0600
//! trust.json     trust bundle                                  0644
//! ```

use std::{path::Path, sync::Arc};

use haltline_core::{
    ids::{KeyHash, PersonId, PublicKey},
    limits::ENDPOINTS_MAX,
};
use serde::{Deserialize, Serialize};

use crate::{
    certificate::chain_from_pem,
    endpoint::Endpoint,
    error::PkiError,
    node_identity::{SIGNING_KEY_FILE, TRUST_FILE},
    person_request::{IssuedPerson, PersonRequest},
    private_file::{self, Access},
    statement::StatementSigner,
    subject::{Role, Subject},
    tls_identity::TlsIdentity,
    trust_bundle::TrustBundle,
};

const IDENTITY_FILE: &str = "identity.json";
const FORMAT: u32 = 1;

/// Everything a person needs to call a cluster and to sign. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PersonIdentity {
    person: PersonId,
    tls: TlsIdentity,
    signer: Arc<StatementSigner>,
    bundle: TrustBundle,
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u32,
    name: PersonId,
    endpoints: Vec<Endpoint>,
}

impl PersonIdentity {
    pub(crate) fn new(
        tls: TlsIdentity,
        signer: Arc<StatementSigner>,
        bundle: TrustBundle,
        endpoints: Vec<Endpoint>,
    ) -> Result<Self, PkiError> {
        if endpoints.len() > ENDPOINTS_MAX {
            return Err(PkiError::TooMany { what: "endpoints", got: endpoints.len(), max: ENDPOINTS_MAX });
        }
        tls.check(Role::Person, &bundle)?;
        match tls.leaf().subject.clone() {
            Subject::Person(person) => Ok(Self { person, tls, signer, bundle, endpoints }),
            got => Err(PkiError::WrongRole { expected: Role::Person, got }),
        }
    }

    /// The person.
    #[must_use]
    pub const fn person(&self) -> &PersonId {
        &self.person
    }

    /// Certificate and TLS key.
    #[must_use]
    pub const fn tls(&self) -> &TlsIdentity {
        &self.tls
    }

    /// Signs commands and approvals.
    #[must_use]
    pub const fn signer(&self) -> &Arc<StatementSigner> {
        &self.signer
    }

    /// Whom the person believes.
    #[must_use]
    pub const fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// Where the cluster's API is.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The keys that the registry must know.
    #[must_use]
    pub fn keys(&self) -> (KeyHash, PublicKey) {
        (self.tls.leaf().key_hash, self.signer.public_key())
    }

    /// Asks for a fresh certificate for the same keys.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn renewal_request(&self) -> Result<PersonRequest, PkiError> {
        PersonRequest::sign(&self.person, self.tls.key(), &self.signer)
    }

    /// The same person with the certificate that answers a [`PersonIdentity::renewal_request`], and its trust bundle and
    /// endpoints. Write it with [`PersonIdentity::save_public`].
    ///
    /// # Errors
    /// [`PkiError::KeyMismatch`] if it was issued for other keys, [`PkiError::WrongCluster`] by another cluster.
    pub fn renewed(&self, issued: &IssuedPerson) -> Result<Self, PkiError> {
        let tls = TlsIdentity::new(chain_from_pem(issued.chain_pem())?, self.tls.key().clone())?;
        let (expected, got) = (self.bundle.cluster(), tls.leaf().cluster);
        if expected != got {
            return Err(PkiError::WrongCluster { expected, got });
        }
        Self::new(tls, self.signer.clone(), issued.bundle().clone(), issued.endpoints().to_vec())
    }

    /// Writes the whole identity into a directory of mode 0700.
    ///
    /// # Errors
    /// [`PkiError::Exists`] if keys are there already, [`PkiError::Io`].
    pub fn save(&self, directory: &Path) -> Result<(), PkiError> {
        private_file::create_directory(directory)?;
        self.tls.save(directory)?;
        self.signer.save(&directory.join(SIGNING_KEY_FILE))?;
        self.save_public(directory)
    }

    /// Writes what isn't secret: the certificate, the bundle, name and endpoints; as after a renewal.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn save_public(&self, directory: &Path) -> Result<(), PkiError> {
        self.tls.save_chain(directory)?;
        self.bundle.save(&directory.join(TRUST_FILE))?;
        let file =
            IdentityFile { format: FORMAT, name: self.person.clone(), endpoints: self.endpoints.clone() };
        let json =
            serde_json::to_string_pretty(&file).map_err(|error| PkiError::crypto("write JSON", &error))?;
        private_file::write(&directory.join(IDENTITY_FILE), json.as_bytes(), Access::Public)
    }

    /// Reads an identity, checking that its parts belong together.
    ///
    /// # Errors
    /// [`PkiError::Exposed`] if others can read a private key; the error names the file in every case.
    pub fn load(directory: &Path) -> Result<Self, PkiError> {
        let bundle = TrustBundle::load(&directory.join(TRUST_FILE))?;
        let tls = TlsIdentity::load(directory, Role::Person, &bundle)?;
        let signer = StatementSigner::load(&directory.join(SIGNING_KEY_FILE))?;
        let path = directory.join(IDENTITY_FILE);
        let malformed = |expected: String| PkiError::malformed(path.display().to_string(), expected);
        let file: IdentityFile = serde_json::from_str(&private_file::read(&path, Access::Public)?)
            .map_err(|error| malformed(format!("name and endpoints as JSON ({error})")))?;
        if file.format != FORMAT {
            return Err(malformed(format!("format {FORMAT}, got {}", file.format)));
        }
        let identity = Self::new(tls, Arc::new(signer), bundle, file.endpoints)?;
        if identity.person != file.name {
            return Err(malformed(format!("the name {} of the certificate beside it", identity.person)));
        }
        Ok(identity)
    }
}
