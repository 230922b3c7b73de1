//! Ids and indices as newtypes, so that no bare integer crosses a function that another module calls.
//!
//! Random ids are 128 bits, made outside this crate (which knows no randomness) and shown as 32 hex digits. Ids that
//! people type (kills, approvals) are small numbers given out by the machine.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::limits::{EDGE_NAME_BYTES_MAX, PERSON_NAME_BYTES_MAX};
pub use crate::names::{EdgeName, PersonId};

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A 128-bit id that isn't 32 hex digits.
    #[error("`{got}` is no {what}: expected {digits} hexadecimal digits, dashes allowed")]
    NotHex {
        /// What was expected.
        what: &'static str,
        /// How many hex digits.
        digits: usize,
        /// What came, shortened.
        got: String,
    },
    /// A numbered id in the wrong form.
    #[error("`{got}` is no {what}: expected `{prefix}-` and a number, as in `{prefix}-17`")]
    NotNumbered {
        /// What was expected.
        what: &'static str,
        /// The prefix of this kind of id.
        prefix: &'static str,
        /// What came, shortened.
        got: String,
    },
    /// An enforcer's name in the wrong form.
    #[error(
        "`{got}` is no name of an edge: expected 1 to {EDGE_NAME_BYTES_MAX} of a-z 0-9 . -, beginning with a letter or digit"
    )]
    NotEdge {
        /// What came, shortened.
        got: String,
    },
    /// A person's name in the wrong form.
    #[error(
        "`{got}` is no person's name: expected 1 to {PERSON_NAME_BYTES_MAX} of a-z 0-9 . _ @ -, beginning with a letter or digit"
    )]
    NotPerson {
        /// What came, shortened.
        got: String,
    },
}

/// The first characters of a text, for error messages.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN {
        shown.push('…');
    }
    shown
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn read_hex<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], IdError> {
    let error = || IdError::NotHex { what, digits: 2 * N, got: excerpt(text) };
    let mut bytes = [0; N];
    let mut digits = text.bytes().filter(|byte| *byte != b'-');
    for byte in &mut bytes {
        let mut digit = || {
            let digit = digits.next()?;
            char::from(digit).to_digit(16).map(|value| value as u8)
        };
        *byte = match (digit(), digit()) {
            (Some(high), Some(low)) => high << 4 | low,
            _ => return Err(error()),
        };
    }
    if digits.next().is_some() { Err(error()) } else { Ok(bytes) }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                read_hex($what, text).map(Self)
            }
        }
    };
}

hex_id!(
    /// One cluster, for its whole life, chosen at random when it is created.
    ClusterId, 16, "cluster id"
);
hex_id!(
    /// A client's name for one command, chosen at random; a retry carries the same one.
    RequestId, 16, "request id"
);
hex_id!(
    /// A credential (`jti`).
    CredentialId, 16, "credential id"
);
hex_id!(
    /// A grant: one link of a delegation lineage.
    GrantId, 16, "grant id"
);
hex_id!(
    /// One running copy of an agent.
    InstanceId, 16, "instance id"
);
hex_id!(
    /// A join token: lets one enforcer in, once.
    JoinTokenId, 16, "join token id"
);
hex_id!(
    /// 256 random bits that were never used before, by which an answer proves that it is newer than its question.
    Nonce, 32, "nonce"
);
hex_id!(
    /// SHA-256 of a public key (the SubjectPublicKeyInfo of a certificate, RFC 5280): what authority hangs on.
    KeyHash, 32, "key hash"
);
hex_id!(
    /// An Ed25519 public key (RFC 8032).
    PublicKey, 32, "Ed25519 public key"
);
hex_id!(
    /// SHA-256 of something encoded.
    Digest, 32, "SHA-256 digest"
);

macro_rules! numbered_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "-{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "-"))
                    .unwrap_or(text)
                    .parse()
                    .map(Self)
                    .map_err(|_| IdError::NotNumbered { what: $what, prefix: $prefix, got: excerpt(text) })
            }
        }
    };
}

numbered_id!(
    /// A kill, numbered in the order of the log: `kill-17`.
    KillId, "kill", "kill"
);
numbered_id!(
    /// A command that waits for a second person: `approval-3`.
    ApprovalId, "approval", "approval"
);

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub u64);

        impl $name {
            /// The one that follows. Saturates, which at one a nanosecond takes five centuries.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// The index of an entry in the replicated log.
    LogIndex
);
counter!(
    /// How many enforcement events the chain holds.
    EventSeq
);
counter!(
    /// A node of the cluster.
    NodeId
);
counter!(
    /// Counts restores from backup: statements of an earlier incarnation permit nothing in a later one (design 02).
    Incarnation
);
counter!(
    /// How often a resource was changed; an update may name the version that it expects.
    Version
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_ids_round_trip_and_take_dashes() {
        let id: RequestId = "00112233-4455-6677-8899-aabbccddeeff".parse().expect("with dashes");
        assert_eq!(id.to_string(), "00112233445566778899aabbccddeeff");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn wrong_ids_say_what_was_expected() {
        for text in ["", "0", "zz112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff00", "é"]
        {
            let error = text.parse::<RequestId>().expect_err(text);
            assert!(error.to_string().contains("32 hexadecimal digits"), "{error}");
        }
        assert_eq!(
            "fleet".parse::<KillId>().expect_err("no number").to_string(),
            "`fleet` is no kill: expected `kill-` and a number, as in `kill-17`"
        );
    }

    #[test]
    fn kills_parse_with_and_without_prefix() {
        assert_eq!("kill-17".parse(), Ok(KillId(17)));
        assert_eq!("17".parse(), Ok(KillId(17)));
    }
}
