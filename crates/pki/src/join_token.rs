//! Join tokens: what lets one enforcer in, once, and tells it whom to believe.
//!
//! ```text
//! hlj1.<base64url of:>
//!   cluster id        16 bytes
//!   trust bundle     32       SHA-256 of its canonical bytes: whom to believe
//!   token id         16       what the log knows the token by
//!   secret           32       random; the log holds its hash alone
//!   endpoints         1       how many; then each as a length of 2 bytes (big-endian) and host:port
//!   check             4       of all before: a text that was cut or mistyped is noticed at once
//! ```
//!
//! The token is the secret: it has no `Display`, its text is wiped, no error repeats a part of it, and it is read from a
//! file or standard input, never from a command line, which every process of a machine can see (design 04).

use std::{fmt, io::Read, path::Path};

use haltline_core::{
    command::JoinProof,
    ids::{ClusterId, Digest, JoinTokenId},
    limits::{JOIN_TOKEN_ENDPOINTS_MAX, JOIN_TOKEN_TEXT_BYTES_MAX},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    base64url,
    endpoint::Endpoint,
    error::PkiError,
    private_file::{self, Access},
    trust_bundle::TrustBundle,
};

/// What every join token begins with; the digit counts changes of the form.
pub(crate) const PREFIX: &str = "hlj1.";
/// Bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Bytes of the check at the end.
const CHECK_BYTES: usize = 4;
/// Separates the check from every other hash.
const CHECK_DOMAIN: &[u8] = b"haltline/v1/join-token-text\0";

/// Why a text is no join token. None of these repeats a part of what came. [`JoinTokenError::code`] is stable.
#[derive(Debug, thiserror::Error)]
pub enum JoinTokenError {
    /// It doesn't begin like one.
    #[error("this is no join token: one begins with `{PREFIX}`; ask an operator of the cluster for it")]
    NotAJoinToken,
    /// A length that no join token has.
    #[error("the text is longer than the {JOIN_TOKEN_TEXT_BYTES_MAX} bytes that a join token has at most")]
    TooLong,
    /// Cut, mistyped, or put together by hand.
    #[error("the join token is damaged: {reason}; copy it whole, in one line")]
    Damaged {
        /// What is wrong.
        reason: &'static str,
    },
    /// The file can't be read or written.
    #[error(transparent)]
    File(#[from] PkiError),
    /// What it was to be read from failed.
    #[error("can't read the join token: {0}")]
    Read(std::io::Error),
}

impl JoinTokenError {
    /// A stable code for scripts and help pages.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAJoinToken => "JOIN_TOKEN_NONE",
            Self::TooLong => "JOIN_TOKEN_TOO_LONG",
            Self::Damaged { .. } => "JOIN_TOKEN_DAMAGED",
            Self::File(error) => error.code(),
            Self::Read(_) => "JOIN_TOKEN_UNREADABLE",
        }
    }
}

/// The 256 random bits that prove who holds a join token. Wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinSecret(Zeroizing<[u8; SECRET_BYTES]>);

impl JoinSecret {
    fn generate() -> Result<Self, PkiError> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        getrandom::fill(bytes.as_mut_slice())
            .map_err(|error| PkiError::crypto("get random bytes", &error))?;
        Ok(Self(bytes))
    }

    /// The secret as it came in a request; `None` unless it is 32 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// What the log knows of it ([`JoinProof::stored`]). The secret is random, so a plain hash gives nothing away, and
    /// comparing hashes takes as long as it takes: whoever measures it learns about a hash.
    #[must_use]
    pub fn hash(&self) -> Digest {
        JoinProof::of_secret(&self.0).stored()
    }

    /// The bytes, for the request to a node whose chain was verified, and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(private)")
    }
}

/// A join token. `Debug` shows all but its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    cluster: ClusterId,
    bundle_hash: Digest,
    id: JoinTokenId,
    secret: JoinSecret,
    endpoints: Vec<Endpoint>,
}

impl JoinToken {
    /// Makes a token with a random id and secret. It counts once the log knows its id and [`JoinToken::secret_hash`].
    ///
    /// # Errors
    /// [`PkiError::TooMany`] past the bound, [`PkiError::Malformed`] without an endpoint, [`PkiError::Crypto`] if the
    /// system has no randomness.
    pub fn generate(bundle: &TrustBundle, endpoints: &[Endpoint]) -> Result<Self, PkiError> {
        if endpoints.is_empty() {
            return Err(PkiError::malformed("join token", "at least one public endpoint"));
        }
        if endpoints.len() > JOIN_TOKEN_ENDPOINTS_MAX {
            let what = "public endpoints in one join token";
            return Err(PkiError::TooMany { what, got: endpoints.len(), max: JOIN_TOKEN_ENDPOINTS_MAX });
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| PkiError::crypto("get random bytes", &error))?;
        Ok(Self {
            cluster: bundle.cluster(),
            bundle_hash: bundle.hash(),
            id: JoinTokenId(id),
            secret: JoinSecret::generate()?,
            // Any node may answer, so the text names no one.
            endpoints: endpoints.iter().map(Endpoint::anyone).collect(),
        })
    }

    /// The cluster to join.
    #[must_use]
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The hash of the trust bundle to believe.
    #[must_use]
    pub const fn bundle_hash(&self) -> Digest {
        self.bundle_hash
    }

    /// What the log knows the token by.
    #[must_use]
    pub const fn id(&self) -> JoinTokenId {
        self.id
    }

    /// The secret.
    #[must_use]
    pub const fn secret(&self) -> &JoinSecret {
        &self.secret
    }

    /// The hash of the secret, for the command that makes the token known.
    #[must_use]
    pub fn secret_hash(&self) -> Digest {
        self.secret.hash()
    }

    /// Public ports of nodes, to be tried in turn.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The token as text: one line. There is no `Display` on purpose, so that none is logged by the way.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(JOIN_TOKEN_TEXT_BYTES_MAX));
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(&self.bundle_hash.0);
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(self.secret.expose());
        bytes.push(u8::try_from(self.endpoints.len()).unwrap_or(u8::MAX));
        for endpoint in &self.endpoints {
            let text = endpoint.to_string();
            bytes.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        // Reserved up front: a growing text would leave unwiped copies behind.
        let mut text = Zeroizing::new(String::with_capacity(JOIN_TOKEN_TEXT_BYTES_MAX));
        text.push_str(PREFIX);
        base64url::encode_onto(&mut text, &bytes);
        text
    }

    /// Reads a token; white space around it is skipped.
    ///
    /// # Errors
    /// What is wrong, without a part of the text.
    pub fn parse(text: &str) -> Result<Self, JoinTokenError> {
        let text = text.trim();
        if text.len() > JOIN_TOKEN_TEXT_BYTES_MAX {
            return Err(JoinTokenError::TooLong);
        }
        let text = text.strip_prefix(PREFIX).ok_or(JoinTokenError::NotAJoinToken)?;
        let damaged = |reason| JoinTokenError::Damaged { reason };
        let bytes = base64url::decode(text).ok_or_else(|| damaged("it has characters that don't belong"))?;
        let (content, got) =
            bytes.split_last_chunk::<CHECK_BYTES>().ok_or_else(|| damaged("it is too short"))?;
        if check(content) != *got {
            return Err(damaged("a part is missing or mistyped"));
        }
        let mut rest = Rest(content);
        let token = Self {
            cluster: ClusterId(rest.take()?),
            bundle_hash: Digest(rest.take()?),
            id: JoinTokenId(rest.take()?),
            secret: JoinSecret(Zeroizing::new(rest.take()?)),
            endpoints: rest.endpoints()?,
        };
        if rest.0.is_empty() { Ok(token) } else { Err(damaged("something follows its end")) }
    }

    /// Reads a token from standard input or whatever else holds one.
    ///
    /// # Errors
    /// [`JoinTokenError::Read`], or as [`JoinToken::parse`].
    pub fn read(from: impl Read) -> Result<Self, JoinTokenError> {
        let max = JOIN_TOKEN_TEXT_BYTES_MAX + 2;
        let mut bytes = Zeroizing::new(Vec::with_capacity(max));
        from.take(max as u64).read_to_end(&mut bytes).map_err(JoinTokenError::Read)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| JoinTokenError::NotAJoinToken)?;
        Self::parse(text)
    }

    /// Reads a token from a file that only its owner may read.
    ///
    /// # Errors
    /// [`PkiError::Exposed`] if others can read it, or as [`JoinToken::parse`].
    pub fn load(path: &Path) -> Result<Self, JoinTokenError> {
        Self::parse(&private_file::read(path, Access::Private)?)
    }

    /// Writes a token to a new file, mode 0600.
    ///
    /// # Errors
    /// [`PkiError::Exists`] if there is a file already, [`PkiError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), PkiError> {
        private_file::refuse_existing(path)?;
        let mut text = self.to_text();
        text.push('\n');
        private_file::write(path, text.as_bytes(), Access::Private)
    }
}

/// What hasn't been read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], JoinTokenError> {
        let (taken, rest) =
            self.0.split_first_chunk().ok_or(JoinTokenError::Damaged { reason: "it is too short" })?;
        self.0 = rest;
        Ok(*taken)
    }

    fn endpoints(&mut self) -> Result<Vec<Endpoint>, JoinTokenError> {
        let damaged = |reason| JoinTokenError::Damaged { reason };
        let [count] = self.take()?;
        if !(1..=JOIN_TOKEN_ENDPOINTS_MAX).contains(&usize::from(count)) {
            return Err(damaged("it has no endpoints, or too many"));
        }
        (0..count)
            .map(|_| {
                let length = usize::from(u16::from_be_bytes(self.take()?));
                let (text, rest) =
                    self.0.split_at_checked(length).ok_or_else(|| damaged("it is too short"))?;
                self.0 = rest;
                let text = std::str::from_utf8(text).map_err(|_| damaged("an endpoint isn't HOST:PORT"))?;
                text.parse().map_err(|_| damaged("an endpoint isn't HOST:PORT"))
            })
            .collect()
    }
}

/// Not a proof of anything: whoever can write a token can write its check.
pub(crate) fn check(content: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hash = Sha256::new_with_prefix(CHECK_DOMAIN);
    hash.update(content);
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
    [a, b, c, d]
}
