//! Ed25519 keys that sign statements: a node's word, and a person's.
//!
//! They are apart from the TLS keys, because a statement is checked long after and far from the connection it came on
//! (RFC 8032; `verify_strict` refuses keys and signatures that several keys could share). A key file is PKCS#8 PEM as
//! RFC 8410 writes it, 48 bytes of DER, so that other tools can read it.

use std::{fmt, path::Path};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use haltline_core::ids::PublicKey;
use zeroize::Zeroizing;

use crate::{
    error::PkiError,
    pem_text::{self, PRIVATE_KEY},
    private_file::{self, Access},
};

/// PKCS#8 v1 of an Ed25519 key up to its 32 secret bytes (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Bytes of a secret key.
const SECRET_BYTES: usize = 32;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Signs statements with an Ed25519 key that is wiped when dropped and never shown.
pub struct StatementSigner(SigningKey);

impl StatementSigner {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`PkiError::Crypto`] if the system has no randomness.
    pub fn generate() -> Result<Self, PkiError> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        getrandom::fill(secret.as_mut_slice())
            .map_err(|error| PkiError::crypto("get random bytes", &error))?;
        Ok(Self(SigningKey::from_bytes(&secret)))
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a statement. The caller separates domains and encodes canonically.
    #[must_use]
    pub fn sign(&self, statement: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(statement).to_bytes()
    }

    /// Loads a private key file.
    ///
    /// # Errors
    /// [`PkiError::Exposed`] if others can read it, [`PkiError::Malformed`] if it holds no Ed25519 key.
    pub fn load(path: &Path) -> Result<Self, PkiError> {
        let text = private_file::read(path, Access::Private)?;
        Self::from_pem(&text).map_err(|error| error.in_file(path))
    }

    /// Writes a private key file, mode 0600.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), PkiError> {
        let mut der = Zeroizing::new([0; PKCS8_PREFIX.len() + SECRET_BYTES]);
        der[..PKCS8_PREFIX.len()].copy_from_slice(&PKCS8_PREFIX);
        der[PKCS8_PREFIX.len()..].copy_from_slice(self.0.as_bytes());
        private_file::write(path, pem_text::encode(PRIVATE_KEY, der.as_slice()).as_bytes(), Access::Private)
    }

    fn from_pem(text: &str) -> Result<Self, PkiError> {
        pem_text::decode_one(PRIVATE_KEY, text)
            .and_then(|der| {
                let secret: Zeroizing<[u8; SECRET_BYTES]> =
                    Zeroizing::new(der.strip_prefix(&PKCS8_PREFIX)?.try_into().ok()?);
                Some(Self(SigningKey::from_bytes(&secret)))
            })
            .ok_or_else(|| PkiError::malformed("signing key", "one Ed25519 key as PKCS#8 PEM"))
    }
}

impl fmt::Debug for StatementSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatementSigner({})", self.public_key())
    }
}

/// Whether `signature` is `key`'s over `statement`, strictly. A key that is no curve point signs nothing.
#[must_use]
pub fn verify_statement(key: &PublicKey, statement: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    VerifyingKey::from_bytes(&key.0)
        .is_ok_and(|key| key.verify_strict(statement, &Signature::from_bytes(signature)).is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn signatures_hold_for_their_statement_and_key_alone() {
        let (ada, bob) = (StatementSigner::generate().unwrap(), StatementSigner::generate().unwrap());
        let mut signature = ada.sign(b"stop");
        assert!(verify_statement(&ada.public_key(), b"stop", &signature));
        assert!(!verify_statement(&ada.public_key(), b"start", &signature));
        assert!(!verify_statement(&bob.public_key(), b"stop", &signature));
        signature[0] ^= 1;
        assert!(!verify_statement(&ada.public_key(), b"stop", &signature));
        assert!(!verify_statement(&PublicKey([0; 32]), b"stop", &[0; 64]), "a weak key signs nothing");
    }

    #[test]
    fn keys_round_trip_through_files_and_are_the_rfcs_form() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("signing.key");
        let signer = StatementSigner::generate().unwrap();
        signer.save(&path).unwrap();
        assert_eq!(StatementSigner::load(&path).unwrap().public_key(), signer.public_key());
        // The example key of RFC 8410, section 10.3, with the public key of section 10.1.
        let example = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        private_file::write(&path, example.as_bytes(), Access::Private).unwrap();
        let public = StatementSigner::load(&path).unwrap().public_key().to_string();
        assert_eq!(public, "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1");
    }

    #[test]
    fn a_tls_key_is_no_signing_key() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("signing.key");
        crate::tls_key::TlsKey::generate().unwrap().save(&path).unwrap();
        let error = StatementSigner::load(&path).unwrap_err();
        assert!(error.to_string().contains("Ed25519"), "{error}");
    }
}
