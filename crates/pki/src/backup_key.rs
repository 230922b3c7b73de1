//! Keys that backups are made for, and the encryption of one: HPKE (RFC 9180) with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256
//! and AES-256-GCM, by the provider of cryptography that everything else uses.
//!
//! ```text
//! recipient   hlr1.<base64url of: public key 32, check 4>                 not secret; goes into scripts and tickets
//! key file    hlk1.<base64url of: private key 32, public key 32, check 4>  mode 0600; lines that begin with # are remarks
//! ```
//!
//! Each backup has a key pair of its own: the content is sealed to that, and its private half to each recipient. So the
//! content is sealed once, whoever may read it. A context numbers its messages, so parts can't be left out, repeated or
//! moved; that the last one is the last is for the format to say, in what is authenticated with each.

use std::{fmt, path::Path, str::FromStr};

use haltline_core::limits::BACKUP_RECIPIENTS_MAX;
use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256,
    hpke::{EncapsulatedSecret, Hpke, HpkeOpener, HpkePrivateKey, HpkePublicKey, HpkeSealer},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    base64url,
    error::PkiError,
    private_file::{self, Access},
};

const RECIPIENT_PREFIX: &str = "hlr1.";
const KEY_PREFIX: &str = "hlk1.";
const KEY_BYTES: usize = 32;
const CHECK_BYTES: usize = 4;
const CHECK_DOMAIN: &[u8] = b"haltline/v1/backup-key-text\0";
const KEY_INFO: &[u8] = b"haltline/v1/backup-key\0";
const BODY_INFO: &[u8] = b"haltline/v1/backup-body\0";

fn suite() -> &'static dyn Hpke {
    DH_KEM_X25519_HKDF_SHA256_AES_256
}

/// Why a backup can't be sealed or opened. None of these repeats a part of a key. [`BackupKeyError::code`] is stable.
#[derive(Debug, thiserror::Error)]
pub enum BackupKeyError {
    /// Something else than a recipient.
    #[error(
        "this is no recipient of backups: {reason}; expected `{RECIPIENT_PREFIX}…`, as `haltline backup keygen` prints it"
    )]
    BadRecipient {
        /// What is wrong.
        reason: &'static str,
    },
    /// Something else than a key.
    #[error("{file} is no backup key: {reason}; `haltline backup keygen` makes one")]
    BadKey {
        /// The file.
        file: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Nobody to make it for, or too many.
    #[error("a backup is made for 1 to {BACKUP_RECIPIENTS_MAX} recipients, got {got}")]
    RecipientCount {
        /// How many came.
        got: usize,
    },
    /// Another key.
    #[error("the backup wasn't made for this key ({key}); it was made for {}", .recipients.join(", "))]
    OtherKey {
        /// The key's recipient.
        key: String,
        /// The backup's recipients.
        recipients: Vec<String>,
    },
    /// The content or its keys don't open.
    #[error("the backup doesn't open with its key: it was damaged or put together by somebody else")]
    Unsealing,
    /// A file can't be read or written.
    #[error(transparent)]
    File(#[from] PkiError),
}

impl BackupKeyError {
    /// A stable code for scripts and help pages.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BadRecipient { .. } => "backup_bad_recipient",
            Self::BadKey { .. } => "backup_bad_key",
            Self::RecipientCount { .. } => "backup_recipient_count",
            Self::OtherKey { .. } => "backup_other_key",
            Self::Unsealing => "backup_unsealing",
            Self::File(error) => error.code(),
        }
    }
}

fn check_of(prefix: &str, bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hash = Sha256::new();
    hash.update(CHECK_DOMAIN);
    hash.update(prefix);
    hash.update(bytes);
    let digest: [u8; 32] = hash.finalize().into();
    *digest.first_chunk().expect("32 bytes hold 4")
}

fn text_of(prefix: &str, bytes: &[u8]) -> Zeroizing<String> {
    let checked = Zeroizing::new([bytes, &check_of(prefix, bytes)].concat());
    let mut text = Zeroizing::new(prefix.to_owned());
    base64url::encode_onto(&mut text, &checked);
    text
}

/// The bytes of a text, or what is wrong with it.
fn bytes_of<const N: usize>(prefix: &str, text: &str) -> Result<Zeroizing<[u8; N]>, &'static str> {
    let coded = text.strip_prefix(prefix).ok_or("it doesn't begin like one")?;
    let checked = base64url::decode(coded).ok_or("it was cut or mistyped")?;
    let (bytes, check) = checked.split_last_chunk::<CHECK_BYTES>().ok_or("it was cut")?;
    let bytes: [u8; N] = bytes.try_into().map_err(|_| "it was cut or has too much")?;
    let bytes = Zeroizing::new(bytes);
    if *check == check_of(prefix, &*bytes) { Ok(bytes) } else { Err("it was cut or mistyped") }
}

/// Whom a backup is made for: the public half of a [`BackupKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackupRecipient([u8; KEY_BYTES]);

impl BackupRecipient {
    fn public(&self) -> HpkePublicKey {
        HpkePublicKey(self.0.to_vec())
    }
}

impl fmt::Display for BackupRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text_of(RECIPIENT_PREFIX, &self.0))
    }
}

impl FromStr for BackupRecipient {
    type Err = BackupKeyError;

    fn from_str(text: &str) -> Result<Self, BackupKeyError> {
        if text.starts_with(KEY_PREFIX) {
            let reason = "it is a key, which must stay secret: take another one, and don't type it again";
            return Err(BackupKeyError::BadRecipient { reason });
        }
        let bytes = bytes_of::<KEY_BYTES>(RECIPIENT_PREFIX, text.trim());
        bytes.map(|bytes| Self(*bytes)).map_err(|reason| BackupKeyError::BadRecipient { reason })
    }
}

/// Opens backups. Wiped when dropped, and in no log or error.
pub struct BackupKey {
    private: HpkePrivateKey,
    recipient: BackupRecipient,
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupKey").field("recipient", &self.recipient).finish_non_exhaustive()
    }
}

impl BackupKey {
    /// Makes a key.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn generate() -> Result<Self, BackupKeyError> {
        let made = suite().generate_key_pair();
        let (public, private) = made.map_err(|error| PkiError::crypto("make a backup key", &error))?;
        let recipient = public.0.try_into().map(BackupRecipient).map_err(|_| unexpected())?;
        if private.secret_bytes().len() == KEY_BYTES {
            Ok(Self { private, recipient })
        } else {
            Err(unexpected())
        }
    }

    /// Whom backups are made for that it opens.
    #[must_use]
    pub const fn recipient(&self) -> BackupRecipient {
        self.recipient
    }

    /// Writes it to a new file of mode 0600.
    ///
    /// # Errors
    /// [`PkiError::Exists`], [`PkiError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), BackupKeyError> {
        private_file::refuse_existing(path)?;
        let bytes = Zeroizing::new([self.private.secret_bytes(), &self.recipient.0].concat());
        let text = text_of(KEY_PREFIX, &bytes);
        let recipient = self.recipient;
        let file = Zeroizing::new(format!(
            "# A key to Haltline's backups. Whoever has it can read every backup that was made for\n# {recipient}\n{}\n",
            *text
        ));
        Ok(private_file::write(path, file.as_bytes(), Access::Private)?)
    }

    /// Reads a key, and tries it.
    ///
    /// # Errors
    /// [`PkiError::Exposed`] if others can read the file, [`BackupKeyError::BadKey`] for anything but a whole key.
    pub fn load(path: &Path) -> Result<Self, BackupKeyError> {
        let text = private_file::read(path, Access::Private)?;
        let bad = |reason| BackupKeyError::BadKey { file: path.display().to_string(), reason };
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(bad("expected one line with a key"));
        };
        if line.starts_with(RECIPIENT_PREFIX) {
            return Err(bad("it holds a recipient, which only encrypts"));
        }
        let bytes = bytes_of::<{ 2 * KEY_BYTES }>(KEY_PREFIX, line).map_err(bad)?;
        let (private, public) = bytes.split_at(KEY_BYTES);
        let private = HpkePrivateKey::from(private.to_vec());
        let recipient = public.try_into().map(BackupRecipient).map_err(|_| unexpected())?;
        let key = Self { private, recipient };
        if key.fits() { Ok(key) } else { Err(bad("its two halves don't belong together")) }
    }

    fn fits(&self) -> bool {
        let sealed = suite().seal(KEY_INFO, b"", b"fits", &self.recipient.public());
        let opened =
            sealed.and_then(|(secret, sealed)| suite().open(&secret, KEY_INFO, b"", &sealed, &self.private));
        opened.is_ok_and(|opened| opened == b"fits")
    }
}

fn unexpected() -> BackupKeyError {
    PkiError::crypto("make a backup key", &"the provider's keys have another length").into()
}

/// The private half of a backup's own key, sealed to one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedKey {
    /// To whom.
    pub recipient: String,
    /// HPKE's encapsulated secret, base64url.
    pub secret: String,
    /// The key, base64url.
    pub key: String,
}

/// What stands in clear beside an encrypted backup, so that its recipients can open it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupEnvelope {
    /// The public half of its own key, base64url.
    pub public_key: String,
    /// HPKE's encapsulated secret of the content, base64url.
    pub secret: String,
    /// For each recipient.
    pub keys: Vec<SealedKey>,
}

fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    base64url::encode_onto(&mut text, bytes);
    text
}

fn decoded(text: &str) -> Result<Zeroizing<Vec<u8>>, BackupKeyError> {
    base64url::decode(text).ok_or(BackupKeyError::Unsealing)
}

/// Encrypts one backup.
#[derive(Debug)]
pub struct BackupSealer(Box<dyn HpkeSealer>);

impl BackupSealer {
    /// Begins a backup for these recipients.
    ///
    /// # Errors
    /// [`BackupKeyError::RecipientCount`], [`PkiError::Crypto`].
    pub fn new(recipients: &[BackupRecipient]) -> Result<(Self, BackupEnvelope), BackupKeyError> {
        if recipients.is_empty() || recipients.len() > BACKUP_RECIPIENTS_MAX {
            return Err(BackupKeyError::RecipientCount { got: recipients.len() });
        }
        let failed = |error| PkiError::crypto("encrypt a backup", &error);
        let own = BackupKey::generate()?;
        let mut keys = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            let sealed =
                suite().seal(KEY_INFO, &own.recipient.0, own.private.secret_bytes(), &recipient.public());
            let (secret, key) = sealed.map_err(failed)?;
            keys.push(SealedKey {
                recipient: recipient.to_string(),
                secret: encoded(&secret.0),
                key: encoded(&key),
            });
        }
        let (secret, sealer) = suite().setup_sealer(BODY_INFO, &own.recipient.public()).map_err(failed)?;
        let (public_key, secret) = (encoded(&own.recipient.0), encoded(&secret.0));
        Ok((Self(sealer), BackupEnvelope { public_key, secret, keys }))
    }

    /// Encrypts the next part; `aad` is authenticated with it.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn seal(&mut self, aad: &[u8], part: &[u8]) -> Result<Vec<u8>, BackupKeyError> {
        let sealed = self.0.seal(aad, part);
        Ok(sealed.map_err(|error| PkiError::crypto("encrypt a backup", &error))?)
    }
}

/// Decrypts one backup.
#[derive(Debug)]
pub struct BackupOpener(Box<dyn HpkeOpener>);

impl BackupOpener {
    /// Begins to open a backup.
    ///
    /// # Errors
    /// [`BackupKeyError::OtherKey`], [`BackupKeyError::Unsealing`].
    pub fn new(envelope: &BackupEnvelope, key: &BackupKey) -> Result<Self, BackupKeyError> {
        let name = key.recipient.to_string();
        let Some(sealed) = envelope.keys.iter().find(|sealed| sealed.recipient == name) else {
            let recipients = envelope.keys.iter().map(|sealed| sealed.recipient.clone()).collect();
            return Err(BackupKeyError::OtherKey { key: name, recipients });
        };
        let failed = |_| BackupKeyError::Unsealing;
        let secret = EncapsulatedSecret(decoded(&sealed.secret)?.to_vec());
        let public = decoded(&envelope.public_key)?;
        let own =
            suite().open(&secret, KEY_INFO, &public, &decoded(&sealed.key)?, &key.private).map_err(failed)?;
        let own = HpkePrivateKey::from(own);
        let secret = EncapsulatedSecret(decoded(&envelope.secret)?.to_vec());
        Ok(Self(suite().setup_opener(&secret, BODY_INFO, &own).map_err(failed)?))
    }

    /// Decrypts the next part.
    ///
    /// # Errors
    /// [`BackupKeyError::Unsealing`]: it, what is authenticated with it, or its place isn't what was sealed.
    pub fn open(&mut self, aad: &[u8], part: &[u8]) -> Result<Vec<u8>, BackupKeyError> {
        self.0.open(aad, part).map_err(|_| BackupKeyError::Unsealing)
    }
}

#[cfg(test)]
#[path = "backup_key_test.rs"]
mod tests;
