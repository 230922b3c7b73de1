//! Reading certificates: whom one names, until when it holds, and the hash of its key.
//!
//! Nothing here trusts what it reads. A [`LeafCertificate`] is a claim until [`crate::verify`] has checked the chain.

use std::path::Path;

use haltline_core::ids::{ClusterId, KeyHash};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::{
    error::PkiError,
    pem_text::{self, CERTIFICATE},
    private_file::{self, Access},
    subject::{Role, SpiffeId, Subject, issuer_uri},
    unix_time::{UnixSeconds, Validity},
};

/// SHA-256 of a SubjectPublicKeyInfo in DER (RFC 5280, section 4.1).
#[must_use]
pub fn spki_hash(public_key_info: &[u8]) -> KeyHash {
    KeyHash(Sha256::digest(public_key_info).into())
}

/// The hash of a certificate's public key, on which authority hangs: it stays the same when a certificate is renewed.
///
/// # Errors
/// [`PkiError::Malformed`] if the bytes are no X.509 certificate.
pub fn spki_hash_of_cert(der: &[u8]) -> Result<KeyHash, PkiError> {
    parse(der).map(|certificate| spki_hash(certificate.public_key().raw))
}

/// From when until when a certificate is valid, be it a leaf's, an intermediate's or a root's.
///
/// # Errors
/// [`PkiError::Malformed`] if the bytes are no X.509 certificate.
pub fn validity_of(der: &[u8]) -> Result<Validity, PkiError> {
    parse(der).map(|certificate| validity(&certificate))
}

/// The same of every certificate in a PEM file, in its order.
///
/// # Errors
/// [`PkiError::Io`], [`PkiError::TooLarge`], or [`PkiError::Malformed`] naming the file.
pub fn validities_in(path: &Path) -> Result<Vec<Validity>, PkiError> {
    let text = private_file::read(path, Access::Public)?;
    let chain = chain_from_pem(&text).map_err(|error| error.in_file(path))?;
    chain.iter().map(|der| validity_of(der).map_err(|error| error.in_file(path))).collect()
}

fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let validity = certificate.validity();
    Validity {
        not_before: UnixSeconds::from_timestamp(validity.not_before.timestamp()),
        not_after: UnixSeconds::from_timestamp(validity.not_after.timestamp()),
    }
}

/// What a leaf says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafCertificate {
    /// The cluster it claims to belong to.
    pub cluster: ClusterId,
    /// Whom it names.
    pub subject: Subject,
    /// The hash of its key.
    pub key_hash: KeyHash,
    /// From when until when it is valid.
    pub validity: Validity,
}

impl LeafCertificate {
    /// Reads a leaf.
    ///
    /// # Errors
    /// [`PkiError::Malformed`] if it is no X.509 certificate or doesn't carry exactly one SPIFFE ID of a subject.
    pub fn parse(der: &[u8]) -> Result<Self, PkiError> {
        let certificate = parse(der)?;
        let malformed = || {
            PkiError::malformed("certificate", "one URI spiffe://<cluster id>/<node, edge or person>/<name>")
        };
        let [uri] = uris(&certificate)[..] else { return Err(malformed()) };
        let id: SpiffeId = uri.parse().map_err(|_| malformed())?;
        Ok(Self {
            cluster: id.cluster,
            subject: id.subject,
            key_hash: spki_hash(certificate.public_key().raw),
            validity: validity(&certificate),
        })
    }
}

/// Whether a certificate calls itself the intermediate of a role in a cluster.
pub(crate) fn is_issuer_of(der: &[u8], cluster: ClusterId, role: Role) -> bool {
    parse(der).is_ok_and(|certificate| uris(&certificate)[..] == [issuer_uri(cluster, role).as_str()])
}

/// The DNS names and IP addresses in a certificate, as text for messages.
pub(crate) fn hosts(der: &[u8]) -> Vec<String> {
    let Ok(certificate) = parse(der) else { return Vec::new() };
    general_names(&certificate).iter().filter_map(host_text).collect()
}

fn host_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|octets| std::net::Ipv6Addr::from(octets).to_string()),
        },
        _ => None,
    }
}

/// The SubjectPublicKeyInfo of a certificate, for issuing another one to the same key.
pub(crate) fn public_key_info(der: &[u8]) -> Result<Vec<u8>, PkiError> {
    parse(der).map(|certificate| certificate.public_key().raw.to_vec())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PkiError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(PkiError::malformed("certificate", "one X.509 certificate in DER")),
    }
}

fn general_names<'a>(certificate: &'a X509Certificate<'_>) -> &'a [GeneralName<'a>] {
    match certificate.subject_alternative_name() {
        Ok(Some(extension)) => &extension.value.general_names,
        _ => &[],
    }
}

fn uris<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a str> {
    general_names(certificate)
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect()
}

/// A chain as PEM, leaf first.
pub(crate) fn chain_to_pem(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|der| pem_text::encode(CERTIFICATE, der).to_string()).collect()
}

/// Reads a chain from PEM.
pub(crate) fn chain_from_pem(text: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    match pem_text::decode_all(CERTIFICATE, text) {
        Some(blocks) if !blocks.is_empty() => {
            Ok(blocks.into_iter().map(|block| CertificateDer::from(block.to_vec())).collect())
        }
        _ => Err(PkiError::malformed("certificate chain", "PEM blocks of CERTIFICATE, the leaf first")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for bytes in [&b""[..], b"hello", &[0x30, 0x82, 0xff, 0xff]] {
            assert!(matches!(LeafCertificate::parse(bytes), Err(PkiError::Malformed { .. })));
            assert!(matches!(spki_hash_of_cert(bytes), Err(PkiError::Malformed { .. })));
        }
        assert!(matches!(chain_from_pem(""), Err(PkiError::Malformed { .. })));
    }
}
