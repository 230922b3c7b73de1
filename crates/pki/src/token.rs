//! Access tokens: an agent's just-in-time credential, as text that outsiders can check too.
//!
//! A token is a JWS in compact form (RFC 7515) whose content is that of an OAuth access token (RFC 9068): header
//! `{"alg":"EdDSA","typ":"at+jwt","kid":…}` (RFC 8037), claims as [`Claims`] has them, signed by the node that issued it
//! with the key of its statements. No statement can be mistaken for a token or the other way round: what is signed here is
//! base64url and dots, and a statement begins with `haltline/`, which has a slash.
//!
//! # What holds here
//! - **The verifier decides how to verify** (RFC 8725, section 3.1). The header chooses among keys that were known before,
//!   by their hash; whatever else it offers (`jwk`, `jku`, `x5u`, `x5c`) isn't looked at. One algorithm, one type; `crit`
//!   is refused, and with it unencoded payloads (RFC 7797).
//! - A token has one text: strict base64url, strict Ed25519 (RFC 8032), names once in each object.
//! - Claims are read only after the signature holds. What a claim says twice must agree.
//! - Sizes are bounded before anything is decoded; no message holds a part of a token.
//! - Whether the token is *in force* isn't decided here: that takes cluster time, revocations and kills.
//!
//! Checking costs little more than the signature alone, once [`VerifyingKeys`] are at hand.

mod claims;
mod error;
mod keys;
mod strict_json;
#[cfg(test)]
mod test;

use std::borrow::Cow;

use ed25519_dalek::Signature;
use haltline_core::{
    ids::KeyHash,
    limits::{TOKEN_BYTES_MAX, TOKEN_HEADER_BYTES_MAX},
};
use serde::{Deserialize, Serialize};

pub use self::{
    claims::{Claims, check_request},
    error::{TokenError, TokenPart},
    keys::{VerifyingKeys, key_id},
};
use crate::{
    base64url,
    statement::{SIGNATURE_BYTES, StatementSigner},
};

/// The `alg` of every token (RFC 8037, section 3.1).
const ALGORITHM: &str = "EdDSA";
/// The `typ` of every token (RFC 9068, section 2.1).
const TYPE: &str = "at+jwt";

/// What a verified token says, and by which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// What it says.
    pub claims: Claims,
    /// The key that signed it: revoking the key revokes the token.
    pub key: KeyHash,
}

/// Makes a token. `claims.node` must be the node whose signer this is: verifiers compare.
///
/// # Errors
/// [`TokenError::Claim`] or [`TokenError::TooLarge`] if the claims are out of their bounds. What [`check_request`] passes, as
/// scope and audience of a credential that the machine issued, is within them.
pub fn sign(signer: &StatementSigner, claims: &Claims) -> Result<String, TokenError> {
    let kid = key_id(&signer.public_key()).to_string();
    let header = WrittenHeader { alg: ALGORITHM, typ: TYPE, kid: &kid };
    let header = serde_json::to_vec(&header)
        .map_err(|_| TokenError::Malformed { part: TokenPart::Header, expected: "what JSON can hold" })?;
    let mut token = String::with_capacity(1_024);
    base64url::encode_onto(&mut token, &header);
    token.push('.');
    base64url::encode_onto(&mut token, &claims.to_json()?);
    let signature = signer.sign(token.as_bytes());
    token.push('.');
    base64url::encode_onto(&mut token, &signature);
    if token.len() > TOKEN_BYTES_MAX { Err(TokenError::too_large(token.len())) } else { Ok(token) }
}

/// Checks a token's form and signature and reads it. Whether it is for this audience, and in force, the caller decides.
///
/// # Errors
/// Why it doesn't count.
pub fn parse_and_verify(token: &str, keys: &VerifyingKeys) -> Result<VerifiedToken, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::too_large(token.len()));
    }
    let Parts { header, claims, signature, signed } = Parts::of(token)?;
    let kid = read_header(header)?;
    let keys::TokenKey { node, key, .. } = keys.get(&kid).ok_or(TokenError::UnknownKey { key: kid })?;
    let signature = base64url::decode_exact::<SIGNATURE_BYTES>(signature).ok_or(TokenError::Malformed {
        part: TokenPart::Signature,
        expected: "64 bytes in base64url without padding",
    })?;
    key.verify_strict(signed.as_bytes(), &Signature::from_bytes(&signature))
        .map_err(|_| TokenError::BadSignature)?;
    let claims = Claims::from_json(&decode(TokenPart::Claims, claims)?)?;
    if claims.node != *node {
        return Err(TokenError::WrongNode { claimed: claims.node, signed: *node });
    }
    if !keys.vouches_until(&kid, claims.ends) {
        return Err(TokenError::RetiredKey { key: kid, ends: claims.ends });
    }
    Ok(VerifiedToken { claims, key: kid })
}

/// The three parts of a token, and what its signature is over.
struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Result<Self, TokenError> {
        let not_a_token = || TokenError::NotAToken { got_parts: token.split('.').count() };
        let (signed, signature) = token.rsplit_once('.').ok_or_else(not_a_token)?;
        let (header, claims) = signed.split_once('.').ok_or_else(not_a_token)?;
        if claims.contains('.') {
            return Err(not_a_token());
        }
        Ok(Self { header, claims, signature, signed })
    }
}

fn decode(part: TokenPart, text: &str) -> Result<zeroize::Zeroizing<Vec<u8>>, TokenError> {
    base64url::decode(text).ok_or(TokenError::Malformed { part, expected: "base64url without padding" })
}

#[derive(Serialize)]
struct WrittenHeader<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

/// What counts in a header. Members that aren't here are ignored (RFC 7515, section 4), however tempting.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default)]
    typ: Cow<'a, str>,
    #[serde(borrow, default)]
    kid: Cow<'a, str>,
    #[serde(default, deserialize_with = "strict_json::present")]
    crit: bool,
}

/// The key that the header names, if all else in it is as it must be.
fn read_header(text: &str) -> Result<KeyHash, TokenError> {
    if text.len() > TOKEN_HEADER_BYTES_MAX {
        return Err(TokenError::TooLarge { got_bytes: text.len(), max_bytes: TOKEN_HEADER_BYTES_MAX });
    }
    let part = TokenPart::Header;
    let json = decode(part, text)?;
    let header: Header<'_> = strict_json::read(part, "`alg`, `typ` and `kid` as strings", &json)?;
    if header.crit {
        return Err(TokenError::Critical);
    }
    if header.typ != TYPE {
        return Err(TokenError::WrongType);
    }
    if header.alg != ALGORITHM {
        return Err(TokenError::Algorithm);
    }
    let expected = "`kid` as 64 lower-case hexadecimal digits";
    claims::hex(&header.kid).map(KeyHash).ok_or(TokenError::Malformed { part, expected })
}
