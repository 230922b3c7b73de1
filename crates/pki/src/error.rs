//! Why something about keys, certificates or their files failed. No variant ever holds private key material.

use std::{
    io,
    path::{Path, PathBuf},
};

use haltline_core::ids::ClusterId;

use crate::{
    failure::TlsFailure,
    subject::{Role, Subject},
};

/// Why an identity couldn't be made, issued, saved or loaded. [`PkiError::code`] is stable.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The file system refused.
    #[error("can't {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A private file that others can read or write.
    #[error(
        "{0} holds a private key, but its mode {mode:04o} lets others at it; run `chmod 600 {0}`, and replace the key if \
         anyone could have copied it",
        .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file that is larger than anything this crate writes.
    #[error("{} is {got_bytes} bytes long; at most {max_bytes} are read", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        got_bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// An identity is there already, and keys are never overwritten.
    #[error("{} exists already and isn't overwritten; choose an empty directory", .path.display())]
    Exists {
        /// The file that is there.
        path: PathBuf,
    },
    /// A text or file that isn't what it should be.
    #[error("{what} is damaged or not what it should be: expected {expected}")]
    Malformed {
        /// The file or value.
        what: String,
        /// What would be right.
        expected: String,
    },
    /// A certificate and a private key that don't belong together.
    #[error(
        "the certificate of {subject} and the private key beside it don't belong together; restore both from one backup"
    )]
    KeyMismatch {
        /// The certificate's subject.
        subject: Subject,
    },
    /// A certificate of another role than the place it lies in.
    #[error("expected the certificate of a {expected}, got the one of {got}")]
    WrongRole {
        /// The role that belongs there.
        expected: Role,
        /// The certificate's subject.
        got: Subject,
    },
    /// A certificate and a trust bundle of two clusters.
    #[error("the trust bundle is of cluster {expected}, but the certificate is of cluster {got}")]
    WrongCluster {
        /// The bundle's cluster.
        expected: ClusterId,
        /// The certificate's cluster.
        got: ClusterId,
    },
    /// A host name or address that can't stand in a certificate.
    #[error("`{got}` is neither a DNS name nor an IP address")]
    Host {
        /// What came.
        got: String,
    },
    /// An endpoint that isn't `host:port`.
    #[error("`{got}` is no endpoint: expected HOST:PORT or [IPV6]:PORT")]
    Endpoint {
        /// What came.
        got: String,
    },
    /// More of something than its bound.
    #[error("{got} {what}; at most {max} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many came.
        got: usize,
        /// The bound.
        max: usize,
    },
    /// Two nodes with one id.
    #[error("{0} is named twice; every node needs an id of its own")]
    Duplicate(Subject),
    /// A request for a certificate whose proofs don't hold.
    #[error("the request for {name} is refused: {reason}")]
    Request {
        /// The name it claims.
        name: String,
        /// Which proof failed.
        reason: &'static str,
    },
    /// A certificate that was just issued and doesn't hold.
    #[error("the certificate that was issued doesn't hold: {0}")]
    Issued(TlsFailure),
    /// The library that makes certificates failed.
    #[error("can't {action}: {reason}")]
    Crypto {
        /// What was tried.
        action: &'static str,
        /// What the library said.
        reason: String,
    },
}

impl PkiError {
    /// A stable code for scripts and help pages.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "pki_io",
            Self::Exposed { .. } => "pki_key_exposed",
            Self::TooLarge { .. } => "pki_file_too_large",
            Self::Exists { .. } => "pki_identity_exists",
            Self::Malformed { .. } => "pki_malformed",
            Self::KeyMismatch { .. } => "pki_key_mismatch",
            Self::WrongRole { .. } => "pki_wrong_role",
            Self::WrongCluster { .. } => "pki_wrong_cluster",
            Self::Host { .. } => "pki_bad_host",
            Self::Endpoint { .. } => "pki_bad_endpoint",
            Self::TooMany { .. } => "pki_too_many",
            Self::Duplicate(_) => "pki_duplicate_node",
            Self::Request { .. } => "pki_request_refused",
            Self::Issued(_) => "pki_issued_invalid",
            Self::Crypto { .. } => "pki_crypto",
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }

    pub(crate) fn malformed(what: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Malformed { what: what.into(), expected: expected.into() }
    }

    pub(crate) fn crypto(action: &'static str, reason: &dyn std::fmt::Display) -> Self {
        Self::Crypto { action, reason: reason.to_string() }
    }

    /// Names the file in which something malformed stood.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Malformed { expected, .. } => Self::malformed(path.display().to_string(), expected),
            other => other,
        }
    }
}
