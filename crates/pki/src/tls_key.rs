//! The private key of a certificate: ECDSA P-256, PKCS#8, wiped when dropped, never shown.

use std::{fmt, path::Path, sync::Arc};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::SigningKey,
};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    error::PkiError,
    pem_text::{self, PRIVATE_KEY},
    private_file::{self, Access},
};

/// An ECDSA P-256 private key. `Debug` shows that there is one, and nothing of it.
pub(crate) struct TlsKey(KeyPair);

impl TlsKey {
    /// Makes a new key.
    pub(crate) fn generate() -> Result<Self, PkiError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|error| PkiError::crypto("make a private key", &error))
    }

    fn from_pem(text: &str) -> Result<Self, PkiError> {
        let malformed = || PkiError::malformed("private key", "one ECDSA P-256 key as PKCS#8 PEM");
        let der = pem_text::decode_one(PRIVATE_KEY, text).ok_or_else(malformed)?;
        // The library's error is dropped on purpose: it might quote what it read.
        KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(der.as_slice()),
            &PKCS_ECDSA_P256_SHA256,
        )
        .map(Self)
        .map_err(|_| malformed())
    }

    /// Loads a private file, refusing one that others can read.
    pub(crate) fn load(path: &Path) -> Result<Self, PkiError> {
        let text = private_file::read(path, Access::Private)?;
        Self::from_pem(&text).map_err(|error| error.in_file(path))
    }

    /// Writes a private file.
    pub(crate) fn save(&self, path: &Path) -> Result<(), PkiError> {
        private_file::write(path, self.pem().as_bytes(), Access::Private)
    }

    fn pem(&self) -> Zeroizing<String> {
        pem_text::encode(PRIVATE_KEY, self.0.serialized_der())
    }

    /// For the library that issues certificates.
    pub(crate) const fn pair(&self) -> &KeyPair {
        &self.0
    }

    /// The public half as SubjectPublicKeyInfo (RFC 5280).
    pub(crate) fn public_key_info(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// For the TLS library.
    pub(crate) fn for_rustls(&self) -> Result<Arc<dyn SigningKey>, PkiError> {
        any_supported_type(&PrivateKeyDer::Pkcs8(self.0.serialized_der().into()))
            .map_err(|_| PkiError::malformed("private key", "one ECDSA P-256 key"))
    }
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsKey(private)")
    }
}

impl Drop for TlsKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_round_trip_through_files() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("tls.key");
        let key = TlsKey::generate().unwrap();
        key.save(&path).unwrap();
        assert_eq!(TlsKey::load(&path).unwrap().public_key_info(), key.public_key_info());
    }

    #[test]
    fn garbage_is_no_key_and_is_not_quoted() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("tls.key");
        let text = pem_text::encode(PRIVATE_KEY, b"correct horse battery staple");
        private_file::write(&path, text.as_bytes(), Access::Private).unwrap();
        let error = TlsKey::load(&path).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("tls.key") && shown.contains("PKCS#8"), "{shown}");
        assert!(!shown.contains("horse"), "{shown}");
    }
}
