//! An enforcer's identity, edge or relay: its directory of key and certificate.
//!
//! ```text
//! identity.json  name and the hubs to turn to              0644
//! tls.crt        chain: leaf, edge intermediate            0644
//! tls.key        ECDSA P-256, PKCS#8 PEM                   0600
//! trust.json     trust bundle                              0644
//! ```
//!
//! `identity.json` is written last: where it is missing, enrolment wasn't finished, and starts again with the key that is
//! there. Whether an enforcer is a relay stands in the log, not here.

use std::path::Path;

use haltline_core::limits::{HUBS_MAX, PATH_SEGMENT_BYTES_MAX};
use serde::{Deserialize, Serialize};

use crate::{
    certificate::chain_from_pem,
    edge_request::sign_request,
    endpoint::Endpoint,
    error::PkiError,
    node_identity::TRUST_FILE,
    private_file::{self, Access},
    subject::{EdgeName, Role, Roles, Subject},
    tls_identity::TlsIdentity,
    trust_bundle::TrustBundle,
    verify::check_issued,
};

const IDENTITY_FILE: &str = "identity.json";
const FORMAT: u32 = 1;

/// A hub that an enforcer may turn to: a node's edge port, or a relay's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownHub {
    /// Where it is, and who must answer there.
    pub endpoint: Endpoint,
    /// Where it runs, for those who prefer what is near; empty if nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
}

/// Everything that makes a process this enforcer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EdgeIdentity {
    name: EdgeName,
    tls: TlsIdentity,
    bundle: TrustBundle,
    hubs: Vec<KnownHub>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u32,
    name: String,
    hubs: Vec<KnownHub>,
}

impl EdgeIdentity {
    pub(crate) fn new(tls: TlsIdentity, bundle: TrustBundle, hubs: Vec<KnownHub>) -> Result<Self, PkiError> {
        check_hubs(&hubs)?;
        tls.check(Role::Edge, &bundle)?;
        match tls.leaf().subject.clone() {
            Subject::Edge(name) => Ok(Self { name, tls, bundle, hubs }),
            got => Err(PkiError::WrongRole { expected: Role::Edge, got }),
        }
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &EdgeName {
        &self.name
    }

    /// Certificate and TLS key.
    #[must_use]
    pub const fn tls(&self) -> &TlsIdentity {
        &self.tls
    }

    /// Whom the enforcer believes.
    #[must_use]
    pub const fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// Where hubs are, as the cluster told.
    #[must_use]
    pub fn hubs(&self) -> &[KnownHub] {
        &self.hubs
    }

    /// The same enforcer with the cluster's new list of hubs. Write it with [`EdgeIdentity::save_public`].
    ///
    /// # Errors
    /// [`PkiError::TooMany`] past the bound.
    pub fn with_hubs(self, hubs: Vec<KnownHub>) -> Result<Self, PkiError> {
        check_hubs(&hubs)?;
        Ok(Self { hubs, ..self })
    }

    /// Asks for a fresh certificate for the same key: PKCS#10 in DER.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn renewal_request(&self) -> Result<Vec<u8>, PkiError> {
        sign_request(self.tls.key())
    }

    /// The same enforcer with the chain that answers a [`EdgeIdentity::renewal_request`]. Write it with
    /// [`EdgeIdentity::save_public`], and hand it to the dialer with its `rotate`.
    ///
    /// # Errors
    /// [`PkiError::KeyMismatch`] if it was issued for another key, [`PkiError::Issued`] if the bundle's root doesn't vouch
    /// for it now, [`PkiError::Request`] if it is for another name.
    pub fn renewed(&self, chain_pem: &str) -> Result<Self, PkiError> {
        let tls = TlsIdentity::new(chain_from_pem(chain_pem)?, self.tls.key().clone())?;
        let renewed = Self::new(tls, self.bundle.clone(), self.hubs.clone())?;
        renewed.check_issued()?;
        if renewed.name == self.name {
            Ok(renewed)
        } else {
            let reason = "the certificate was issued for another name";
            Err(PkiError::Request { name: self.name.to_string(), reason })
        }
    }

    /// Whether the bundle's root vouches for the certificate now, as a hub will ask.
    pub(crate) fn check_issued(&self) -> Result<(), PkiError> {
        check_issued(&self.bundle, self.tls.chain(), Roles::EDGES).map_err(PkiError::Issued)
    }

    /// Writes the whole identity into a directory of mode 0700.
    ///
    /// # Errors
    /// [`PkiError::Exists`] if a key is there already, [`PkiError::Io`].
    pub fn save(&self, directory: &Path) -> Result<(), PkiError> {
        private_file::create_directory(directory)?;
        self.tls.save(directory)?;
        self.save_public(directory)
    }

    /// Writes what isn't secret: the certificate, the bundle, name and hubs; as after enrolment or a renewal.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn save_public(&self, directory: &Path) -> Result<(), PkiError> {
        self.tls.save_chain(directory)?;
        self.bundle.save(&directory.join(TRUST_FILE))?;
        let file = IdentityFile { format: FORMAT, name: self.name.to_string(), hubs: self.hubs.clone() };
        let json =
            serde_json::to_string_pretty(&file).map_err(|error| PkiError::crypto("write JSON", &error))?;
        private_file::write(&directory.join(IDENTITY_FILE), json.as_bytes(), Access::Public)
    }

    /// Whether a directory holds an identity. If not, enrolment is to be begun, or gone on with.
    #[must_use]
    pub fn is_in(directory: &Path) -> bool {
        directory.join(IDENTITY_FILE).exists()
    }

    /// Reads an identity, checking that its parts belong together. An expired certificate loads: what to do about it, the
    /// hub's refusal says.
    ///
    /// # Errors
    /// [`PkiError::Exposed`] if others can read the private key; the error names the file in every case.
    pub fn load(directory: &Path) -> Result<Self, PkiError> {
        let bundle = TrustBundle::load(&directory.join(TRUST_FILE))?;
        let tls = TlsIdentity::load(directory, Role::Edge, &bundle)?;
        let path = directory.join(IDENTITY_FILE);
        let malformed = |expected: String| PkiError::malformed(path.display().to_string(), expected);
        let file: IdentityFile = serde_json::from_str(&private_file::read(&path, Access::Public)?)
            .map_err(|error| malformed(format!("name and hubs as JSON ({error})")))?;
        if file.format != FORMAT {
            return Err(malformed(format!("format {FORMAT}, got {}", file.format)));
        }
        let identity = Self::new(tls, bundle, file.hubs)?;
        if identity.name.as_str() != file.name {
            return Err(malformed(format!("the name {} of the certificate beside it", identity.name)));
        }
        Ok(identity)
    }
}

fn check_hubs(hubs: &[KnownHub]) -> Result<(), PkiError> {
    if hubs.len() > HUBS_MAX {
        return Err(PkiError::TooMany { what: "hubs", got: hubs.len(), max: HUBS_MAX });
    }
    let longest = hubs.iter().map(|hub| hub.region.len()).max().unwrap_or(0);
    if longest > PATH_SEGMENT_BYTES_MAX {
        let what = "bytes of a region's name";
        return Err(PkiError::TooMany { what, got: longest, max: PATH_SEGMENT_BYTES_MAX });
    }
    Ok(())
}
