//! How a person gets a certificate without a private key ever leaving their machine.
//!
//! 1. [`PendingPerson::create`] makes both keys and saves them; [`PersonRequest`] is the file to hand over.
//! 2. Whoever enrols the person checks it over a channel they trust, registers its keys, and a node issues
//!    ([`Issuers::issue_person`](crate::Issuers::issue_person)) an [`IssuedPerson`].
//! 3. [`PendingPerson::complete`] joins that to the keys.
//!
//! A request proves both keys, each over the other: the CSR is signed with the TLS key and names the signing key; the
//! proof is signed with the signing key over name and CSR. So nobody can pair somebody's certificate with their own
//! signing key.

use std::{path::Path, sync::Arc};

use haltline_core::ids::{KeyHash, PersonId, PublicKey};
use rcgen::{CertificateParams, CertificateSigningRequestParams, DnType, PublicKeyData, SanType};
use rustls::pki_types::CertificateSigningRequestDer;
use serde::{Deserialize, Serialize};

use crate::{
    certificate::{chain_from_pem, chain_to_pem, spki_hash},
    endpoint::Endpoint,
    error::PkiError,
    issuer::Issuers,
    node_identity::SIGNING_KEY_FILE,
    pem_text::{self, CERTIFICATE_REQUEST},
    person_identity::PersonIdentity,
    private_file::{self, Access},
    statement::{SIGNATURE_BYTES, StatementSigner, verify_statement},
    subject::Subject,
    tls_identity::{KEY_FILE, TlsIdentity},
    tls_key::TlsKey,
    trust_bundle::TrustBundle,
    unix_time::Validity,
};

const DOMAIN: &[u8] = b"haltline/v1/person-request";
const SIGNING_KEY_URN: &str = "urn:haltline:signing-key:";
const REQUEST_FILE: &str = "request.json";
const FORMAT: u32 = 1;

/// A request for a person's certificate: public parts alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonRequest {
    name: PersonId,
    csr: Vec<u8>,
    signing_key: PublicKey,
    proof: [u8; SIGNATURE_BYTES],
}

/// What a request comes to once its proofs have been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRequest {
    /// The name that was asked for.
    pub name: PersonId,
    /// The hash of the TLS key, for the registry.
    pub tls_key: KeyHash,
    /// The signing key, for the registry.
    pub signing_key: PublicKey,
    public_key_info: Vec<u8>,
}

impl PersonRequest {
    pub(crate) fn sign(name: &PersonId, key: &TlsKey, signer: &StatementSigner) -> Result<Self, PkiError> {
        let signing_key = signer.public_key();
        let failed = |error: rcgen::Error| PkiError::crypto("make a certificate request", &error);
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        let urn = format!("{SIGNING_KEY_URN}{signing_key}");
        params.subject_alt_names = vec![SanType::URI(urn.try_into().map_err(failed)?)];
        let csr = params.serialize_request(key.pair()).map_err(failed)?.der().to_vec();
        let proof = signer.sign(&statement(name, &csr));
        Ok(Self { name: name.clone(), csr, signing_key, proof })
    }

    /// Somebody else's CSR under one's own signing key and a proof that holds.
    #[cfg(test)]
    pub(crate) fn resigned(own: &Self, other: &Self, signer: &StatementSigner) -> Self {
        Self { csr: other.csr.clone(), proof: signer.sign(&statement(&own.name, &other.csr)), ..own.clone() }
    }

    /// A CSR whose own signature is broken, under a proof that holds.
    #[cfg(test)]
    pub(crate) fn with_broken_csr(own: &Self, signer: &StatementSigner) -> Self {
        let mut csr = own.csr.clone();
        if let Some(last) = csr.last_mut() {
            *last ^= 1;
        }
        let proof = signer.sign(&statement(&own.name, &csr));
        Self { name: own.name.clone(), signing_key: signer.public_key(), csr, proof }
    }

    /// The name that is asked for.
    #[must_use]
    pub const fn name(&self) -> &PersonId {
        &self.name
    }

    /// Checks both proofs.
    ///
    /// # Errors
    /// [`PkiError::Request`] saying which one fails.
    pub fn verify(&self) -> Result<VerifiedRequest, PkiError> {
        let refused = |reason| PkiError::Request { name: self.name.to_string(), reason };
        if !verify_statement(&self.signing_key, &statement(&self.name, &self.csr), &self.proof) {
            return Err(refused("it isn't signed with the signing key it names; make a new request"));
        }
        let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(
            self.csr.as_slice(),
        ))
        .map_err(|_| refused("its certificate request is damaged or isn't signed with its own key"))?;
        let urn = format!("{SIGNING_KEY_URN}{}", self.signing_key);
        let names_signing_key =
            matches!(&csr.params.subject_alt_names[..], [SanType::URI(uri)] if uri.as_str() == urn);
        if !names_signing_key {
            return Err(refused("its certificate request names another signing key"));
        }
        let public_key_info = csr.public_key.subject_public_key_info();
        Ok(VerifiedRequest {
            name: self.name.clone(),
            tls_key: spki_hash(&public_key_info),
            signing_key: self.signing_key,
            public_key_info,
        })
    }

    /// The request as JSON, for a file or a message.
    #[must_use]
    pub fn to_json(&self) -> String {
        let file = RequestFile {
            format: FORMAT,
            name: self.name.clone(),
            csr: pem_text::encode(CERTIFICATE_REQUEST, &self.csr).to_string(),
            signing_key: self.signing_key.to_string(),
            proof: pem_text::base64_encode(&self.proof).to_string(),
        };
        serde_json::to_string_pretty(&file)
            .expect("a request is strings and a number, all of which JSON can hold")
    }

    /// Reads a request; [`PersonRequest::verify`] checks it.
    ///
    /// # Errors
    /// [`PkiError::Malformed`] saying what is wrong.
    pub fn from_json(text: &str) -> Result<Self, PkiError> {
        let malformed = |expected: &str| PkiError::malformed("certificate request", expected);
        let file: RequestFile = serde_json::from_str(text)
            .map_err(|error| malformed(&format!("a person's request as JSON ({error})")))?;
        if file.format != FORMAT {
            return Err(malformed(&format!("format {FORMAT}, got {}", file.format)));
        }
        let csr =
            pem_text::decode_one(CERTIFICATE_REQUEST, &file.csr).ok_or_else(|| malformed("`csr` as PEM"))?;
        let signing_key =
            file.signing_key.parse().map_err(|_| malformed("`signing_key` as 64 hex digits"))?;
        let proof = pem_text::base64_decode(&file.proof)
            .and_then(|proof| proof.as_slice().try_into().ok())
            .ok_or_else(|| malformed("`proof` as base64 of 64 bytes"))?;
        Ok(Self { name: file.name, csr: csr.to_vec(), signing_key, proof })
    }

    /// Reads a request file.
    ///
    /// # Errors
    /// As [`PersonRequest::from_json`], naming the file.
    pub fn load(path: &Path) -> Result<Self, PkiError> {
        Self::from_json(&private_file::read(path, Access::Public)?).map_err(|error| error.in_file(path))
    }

    /// Writes a request file.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), PkiError> {
        private_file::write(path, self.to_json().as_bytes(), Access::Public)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestFile {
    format: u32,
    name: PersonId,
    csr: String,
    signing_key: String,
    proof: String,
}

/// What the proof signs: domain, name and CSR, each with its length.
fn statement(name: &PersonId, csr: &[u8]) -> Vec<u8> {
    let mut bytes = DOMAIN.to_vec();
    for part in [name.as_str().as_bytes(), csr] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

impl Issuers {
    /// Issues a person's certificate. The caller has decided that the request's keys belong to that person.
    ///
    /// # Errors
    /// [`PkiError::Request`] if a proof fails, [`PkiError::Crypto`].
    pub fn issue_person(
        &self,
        request: &PersonRequest,
        validity: Validity,
        bundle: &TrustBundle,
        endpoints: Vec<Endpoint>,
    ) -> Result<IssuedPerson, PkiError> {
        let verified = request.verify()?;
        let subject = Subject::Person(verified.name);
        let chain = self.issue(&subject, &[], &verified.public_key_info, validity)?;
        Ok(IssuedPerson { chain_pem: chain_to_pem(&chain), bundle: bundle.clone(), endpoints })
    }
}

/// The answer to a request: certificate, trust bundle, endpoints. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedPerson {
    chain_pem: String,
    bundle: TrustBundle,
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuedFile {
    format: u32,
    certificate: String,
    trust: serde_json::Value,
    endpoints: Vec<Endpoint>,
}

impl IssuedPerson {
    /// The certificate chain as PEM, leaf first.
    #[must_use]
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The trust bundle; compare its hash over a channel you trust.
    #[must_use]
    pub const fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// Where the cluster's API is.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Puts an answer together from its parts, as they come over the API.
    ///
    /// # Errors
    /// [`PkiError::Malformed`] if the chain is no PEM.
    pub fn new(chain_pem: String, bundle: TrustBundle, endpoints: Vec<Endpoint>) -> Result<Self, PkiError> {
        chain_from_pem(&chain_pem)?;
        Ok(Self { chain_pem, bundle, endpoints })
    }

    /// The answer as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let trust = serde_json::from_str(&self.bundle.to_json()).expect("a bundle writes itself as JSON");
        let file = IssuedFile {
            format: FORMAT,
            certificate: self.chain_pem.clone(),
            trust,
            endpoints: self.endpoints.clone(),
        };
        serde_json::to_string_pretty(&file).expect("an answer has only what JSON can hold")
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`PkiError::Malformed`] saying what is wrong.
    pub fn from_json(text: &str) -> Result<Self, PkiError> {
        let malformed = |expected: String| PkiError::malformed("issued certificate", expected);
        let file: IssuedFile = serde_json::from_str(text)
            .map_err(|error| malformed(format!("an issued certificate as JSON ({error})")))?;
        if file.format != FORMAT {
            return Err(malformed(format!("format {FORMAT}, got {}", file.format)));
        }
        Self::new(file.certificate, TrustBundle::from_json(&file.trust.to_string())?, file.endpoints)
    }

    /// Reads an answer from a file.
    ///
    /// # Errors
    /// As [`IssuedPerson::from_json`], naming the file.
    pub fn load(path: &Path) -> Result<Self, PkiError> {
        Self::from_json(&private_file::read(path, Access::Public)?).map_err(|error| error.in_file(path))
    }

    /// Writes the answer to a file.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), PkiError> {
        private_file::write(path, self.to_json().as_bytes(), Access::Public)
    }
}

/// A person who has made keys and waits for a certificate.
#[derive(Debug)]
pub struct PendingPerson {
    request: PersonRequest,
    key: Arc<TlsKey>,
    signer: Arc<StatementSigner>,
}

impl PendingPerson {
    /// Makes both keys, in memory.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn create(name: &PersonId) -> Result<Self, PkiError> {
        let (key, signer) = (TlsKey::generate()?, StatementSigner::generate()?);
        let request = PersonRequest::sign(name, &key, &signer)?;
        Ok(Self { request, key: Arc::new(key), signer: Arc::new(signer) })
    }

    /// The request to hand over.
    #[must_use]
    pub const fn request(&self) -> &PersonRequest {
        &self.request
    }

    /// Saves keys and request into a directory of mode 0700.
    ///
    /// # Errors
    /// [`PkiError::Exists`] if keys are there already, [`PkiError::Io`].
    pub fn save(&self, directory: &Path) -> Result<(), PkiError> {
        private_file::create_directory(directory)?;
        let path = directory.join(KEY_FILE);
        private_file::refuse_existing(&path)?;
        self.key.save(&path)?;
        self.signer.save(&directory.join(SIGNING_KEY_FILE))?;
        self.request.save(&directory.join(REQUEST_FILE))
    }

    /// Reads what [`PendingPerson::save`] wrote.
    ///
    /// # Errors
    /// [`PkiError::Exposed`] if others can read a private key; the error names the file in every case.
    pub fn load(directory: &Path) -> Result<Self, PkiError> {
        let request = PersonRequest::load(&directory.join(REQUEST_FILE))?;
        let key = TlsKey::load(&directory.join(KEY_FILE))?;
        let signer = StatementSigner::load(&directory.join(SIGNING_KEY_FILE))?;
        Ok(Self { request, key: Arc::new(key), signer: Arc::new(signer) })
    }

    /// Joins the issued certificate to the keys. Write the result with [`PersonIdentity::save_public`] where the keys
    /// are saved already, or [`PersonIdentity::save`] elsewhere.
    ///
    /// # Errors
    /// [`PkiError::KeyMismatch`] if it was issued for other keys, [`PkiError::Request`] if for another name.
    pub fn complete(self, issued: &IssuedPerson) -> Result<PersonIdentity, PkiError> {
        let tls = TlsIdentity::new(chain_from_pem(&issued.chain_pem)?, self.key)?;
        let identity =
            PersonIdentity::new(tls, self.signer, issued.bundle.clone(), issued.endpoints.clone())?;
        if identity.person() == self.request.name() {
            Ok(identity)
        } else {
            let name = self.request.name.to_string();
            Err(PkiError::Request { name, reason: "the certificate was issued for another name" })
        }
    }
}
