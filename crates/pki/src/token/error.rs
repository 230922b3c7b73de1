//! Why a token is refused. No message holds a part of the token: it is what opens doors, and logs are read by many.

use haltline_core::{
    ids::{KeyHash, NodeId},
    limits::{TOKEN_BYTES_MAX, TOKEN_JSON_DEPTH_MAX, TOKEN_JSON_MEMBERS_MAX},
    time::ClusterTime,
};

/// A part of a token (RFC 7515, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenPart {
    /// Which algorithm and key.
    Header,
    /// Who may do what until when.
    Claims,
    /// The proof.
    Signature,
}

impl std::fmt::Display for TokenPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Signature => "signature",
        })
    }
}

/// Why a token doesn't count, or can't be made. [`TokenError::code`] is stable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts joined by dots.
    #[error("this is no access token: expected three parts joined by dots, got {got_parts}")]
    NotAToken {
        /// How many parts came.
        got_parts: usize,
    },
    /// A part that isn't what it must be.
    #[error("the token's {part} isn't what it should be: expected {expected}")]
    Malformed {
        /// Which part.
        part: TokenPart,
        /// What would be right.
        expected: &'static str,
    },
    /// JSON that no honest issuer writes: nested without end, or with one name twice.
    #[error(
        "the token's {part} has {fault}; allowed are {TOKEN_JSON_DEPTH_MAX} levels and {TOKEN_JSON_MEMBERS_MAX} members \
         of one object, each name once"
    )]
    Unsound {
        /// Which part.
        part: TokenPart,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// Longer than anything that is looked at.
    #[error("the token is {got_bytes} bytes long; at most {max_bytes} are read")]
    TooLarge {
        /// Bytes that came.
        got_bytes: usize,
        /// The bound: of the whole token, or of its header.
        max_bytes: usize,
    },
    /// Not an access token, whoever signed it.
    #[error("the token isn't of type `at+jwt`: only access tokens count here")]
    WrongType,
    /// Another algorithm than the one that is in use.
    #[error("the token isn't signed with EdDSA, the only algorithm in use here")]
    Algorithm,
    /// The header names extensions that must be understood, and there are none.
    #[error("the token's header names critical extensions; none are understood here")]
    Critical,
    /// Nobody known has this key.
    #[error(
        "the token is signed with key {key}, which is none of this cluster's now; get a new token, or bring this enforcer \
         up to date"
    )]
    UnknownKey {
        /// The key's hash.
        key: KeyHash,
    },
    /// A key that was replaced signed it, and it ends later than anything that the key could rightly have signed.
    #[error(
        "the token is signed with key {key}, which its node has replaced, and ends at {ends}, later than tokens of that \
         key count; get a new token"
    )]
    RetiredKey {
        /// The key's hash.
        key: KeyHash,
        /// The token's end.
        ends: ClusterTime,
    },
    /// The signature doesn't belong to the content.
    #[error("the token's signature doesn't hold: it was changed, or somebody else signed it")]
    BadSignature,
    /// A claim that contradicts another, or is out of its bound.
    #[error("the claim `{claim}` of the token can't be: expected {expected}")]
    Claim {
        /// Which claim.
        claim: &'static str,
        /// What would be right.
        expected: &'static str,
    },
    /// The token says that one node issued it, and another's key signed it.
    #[error("the token says that node {claimed} issued it, but node {signed} signed it")]
    WrongNode {
        /// The node that it names.
        claimed: NodeId,
        /// The node that signed.
        signed: NodeId,
    },
    /// The token is bound to its holder's key, which this version can't check.
    #[error(
        "the token is bound to a key of its holder (`cnf`), which this version can't check; update this enforcer"
    )]
    Bound,
    /// The token is for somebody else.
    #[error("the token is for `{got}`, and this is {}; ask for one with the right audience", quoted(.expected))]
    WrongAudience {
        /// Whom it is for.
        got: String,
        /// Names by which the one who checks goes.
        expected: Vec<String>,
    },
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

impl TokenError {
    /// A stable code for scripts, metrics and help pages.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAToken { .. } | Self::Malformed { .. } | Self::Unsound { .. } => "TOKEN_MALFORMED",
            Self::TooLarge { .. } => "TOKEN_TOO_LARGE",
            Self::WrongType => "TOKEN_WRONG_TYPE",
            Self::Algorithm => "TOKEN_ALGORITHM",
            Self::Critical => "TOKEN_CRITICAL",
            Self::UnknownKey { .. } => "TOKEN_UNKNOWN_KEY",
            Self::RetiredKey { .. } => "TOKEN_RETIRED_KEY",
            Self::BadSignature => "TOKEN_BAD_SIGNATURE",
            Self::Claim { .. } => "TOKEN_CLAIM",
            Self::WrongNode { .. } => "TOKEN_WRONG_NODE",
            Self::Bound => "TOKEN_BOUND",
            Self::WrongAudience { .. } => "TOKEN_WRONG_AUDIENCE",
        }
    }

    pub(super) const fn too_large(got_bytes: usize) -> Self {
        Self::TooLarge { got_bytes, max_bytes: TOKEN_BYTES_MAX }
    }
}
