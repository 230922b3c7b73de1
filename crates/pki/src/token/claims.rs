//! What an access token says, and how it is written as JSON (RFC 7519, RFC 9068).
//!
//! [`Claims`] holds each fact once. Where the standards want one said twice (`sub`, `client_id` and the private `path` and
//! `instance`), it is written from the one fact and must agree when read.

use std::borrow::Cow;

use haltline_core::{
    ids::{ClusterId, CredentialId, GrantId, Incarnation, InstanceId, LogIndex, NodeId},
    limits::{PATTERNS_MAX, TOKEN_LINEAGE_MAX, TOKEN_SCOPE_BYTES_MAX},
    path::AgentPath,
    selector::Pattern,
    text::Text,
    time::ClusterTime,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};

use super::{
    error::{TokenError, TokenPart},
    strict_json::{self, Object, present},
};
use crate::unix_time::UnixSeconds;

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `iss`: who issues tokens, as the cluster calls itself to the outside.
    pub issuer: Text,
    /// `aud`: who should accept it.
    pub audience: Text,
    /// The cluster, trust domain of `sub`.
    pub cluster: ClusterId,
    /// `jti`: the credential.
    pub credential: CredentialId,
    /// `client_id`, `haltline.path` and the path of `sub`: what runs.
    pub agent: AgentPath,
    /// `haltline.instance` and the end of `sub`: which running copy.
    pub instance: InstanceId,
    /// `haltline.lineage`: the grants from the root to this credential's own, which is the last; 1 to
    /// [`TOKEN_LINEAGE_MAX`].
    pub lineage: Vec<GrantId>,
    /// `haltline.task`: what for, as it was asked.
    pub task: Text,
    /// `scope`: patterns of the tools it may use; empty means all that the fleet's intent allows, and is left out.
    pub scope: Vec<Pattern>,
    /// `iat`, by wall clock: for verifiers that aren't ours.
    pub issued_at: UnixSeconds,
    /// `exp`, by wall clock: for verifiers that aren't ours.
    pub expires_at: UnixSeconds,
    /// `haltline.ends`: the end in cluster time, by which enforcers go.
    pub ends: ClusterTime,
    /// `haltline.index`: the entry of the log that issued it.
    pub index: LogIndex,
    /// `haltline.incarnation`: void in any other.
    pub incarnation: Incarnation,
    /// `haltline.node`: the node that signed.
    pub node: NodeId,
}

impl Claims {
    /// How many hires lie between the root grant and this credential.
    #[must_use]
    pub fn depth(&self) -> u32 {
        u32::try_from(self.lineage.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// `sub`: the instance as a SPIFFE ID (design 04, Registry).
    #[must_use]
    pub fn subject(&self) -> String {
        format!("spiffe://{}/{}/{}", self.cluster, self.agent, self.instance)
    }

    /// Refuses a token that is for somebody else (RFC 9068, section 4).
    ///
    /// # Errors
    /// [`TokenError::WrongAudience`] unless `aud` is one of `names`.
    pub fn check_audience(&self, names: &[&str]) -> Result<(), TokenError> {
        if names.contains(&self.audience.as_str()) {
            return Ok(());
        }
        let expected = names.iter().map(|name| (*name).to_owned()).collect();
        Err(TokenError::WrongAudience { got: self.audience.to_string(), expected })
    }

    /// Refuses what must not be signed, whoever asks.
    fn check(&self) -> Result<(), TokenError> {
        check_lineage(self.lineage.len())?;
        check_named("iss", &self.issuer)?;
        check_request(&self.scope, &self.audience)
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, TokenError> {
        self.check()?;
        let scope: Vec<_> = self.scope.iter().map(Pattern::as_str).collect();
        let written = Written {
            iss: self.issuer.as_str().into(),
            aud: self.audience.as_str().into(),
            sub: self.subject().into(),
            client_id: self.agent.as_str().into(),
            iat: self.issued_at.0,
            exp: self.expires_at.0,
            jti: Hex(self.credential.0),
            scope: scope.join(" ").into(),
            cnf: false,
            haltline: Object(Private {
                path: self.agent.as_str().into(),
                instance: Hex(self.instance.0),
                lineage: self.lineage.iter().map(|grant| Hex(grant.0)).collect(),
                depth: self.depth(),
                task: self.task.as_str().into(),
                index: self.index.0,
                ends: self.ends.0,
                incarnation: self.incarnation.0,
                node: self.node.0,
            }),
        };
        let expected = "what JSON can hold";
        serde_json::to_vec(&written).map_err(|_| TokenError::Malformed { part: TokenPart::Claims, expected })
    }

    /// Reads the claims of a token whose signature holds.
    pub(super) fn from_json(json: &[u8]) -> Result<Self, TokenError> {
        const EXPECTED: &str = "the claims of an access token of this system";
        let written: Written<'_> = strict_json::read(TokenPart::Claims, EXPECTED, json)?;
        if written.cnf {
            return Err(TokenError::Bound);
        }
        let Object(private) = written.haltline;
        check_lineage(private.lineage.len())?;
        let claims = Self {
            cluster: cluster_of(&written.sub)?,
            issuer: parse("iss", "a short text", &written.iss)?,
            audience: parse("aud", "a short text", &written.aud)?,
            credential: CredentialId(written.jti.0),
            agent: parse("haltline.path", "an agent's path", &private.path)?,
            instance: InstanceId(private.instance.0),
            lineage: private.lineage.into_iter().map(|grant| GrantId(grant.0)).collect(),
            task: parse("haltline.task", "a short text", &private.task)?,
            scope: parse_scope(&written.scope)?,
            issued_at: UnixSeconds(written.iat),
            expires_at: UnixSeconds(written.exp),
            ends: ClusterTime(private.ends),
            index: LogIndex(private.index),
            incarnation: Incarnation(private.incarnation),
            node: NodeId(private.node),
        };
        claims.check()?;
        claims.check_agreement(&written.sub, &written.client_id, private.depth)?;
        Ok(claims)
    }

    /// What is said twice must agree: different verifiers read different ones.
    fn check_agreement(&self, sub: &str, client_id: &str, depth: u32) -> Result<(), TokenError> {
        let disagrees = |claim, expected| Err(TokenError::Claim { claim, expected });
        if sub != self.subject() {
            return disagrees("sub", "spiffe://<cluster>/<haltline.path>/<haltline.instance>");
        }
        if client_id != self.agent.as_str() {
            return disagrees("client_id", "the same as `haltline.path`");
        }
        if depth != self.depth() {
            return disagrees("haltline.depth", "one less than the length of `haltline.lineage`");
        }
        Ok(())
    }
}

/// Refuses what a caller asks for and no token can hold. A service asks before it proposes the credential: afterwards the
/// log has an entry for which there is no token.
///
/// # Errors
/// [`TokenError::Claim`] for an audience without a name, and for more tools than a token may list.
pub fn check_request(scope: &[Pattern], audience: &Text) -> Result<(), TokenError> {
    let bytes: usize = scope.iter().map(|pattern| pattern.as_str().len() + 1).sum();
    check_scope(scope.len(), bytes)?;
    check_named("aud", audience)
}

fn check_named(claim: &'static str, text: &Text) -> Result<(), TokenError> {
    if text.as_str().is_empty() { Err(TokenError::Claim { claim, expected: "a name" }) } else { Ok(()) }
}

fn check_lineage(grants: usize) -> Result<(), TokenError> {
    if (1..=TOKEN_LINEAGE_MAX).contains(&grants) {
        Ok(())
    } else {
        Err(TokenError::Claim { claim: "haltline.lineage", expected: "1 to 9 grants, the own one last" })
    }
}

fn check_scope(patterns: usize, bytes: usize) -> Result<(), TokenError> {
    if patterns <= PATTERNS_MAX && bytes <= TOKEN_SCOPE_BYTES_MAX + 1 {
        Ok(())
    } else {
        Err(TokenError::Claim { claim: "scope", expected: "at most 64 patterns and 2048 bytes in all" })
    }
}

fn parse_scope(text: &str) -> Result<Vec<Pattern>, TokenError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let patterns = text.split(' ');
    check_scope(patterns.clone().take(PATTERNS_MAX + 1).count(), text.len() + 1)?;
    patterns
        .map(|pattern| parse("scope", "patterns of tools, a single space between them", pattern))
        .collect()
}

fn cluster_of(sub: &str) -> Result<ClusterId, TokenError> {
    let cluster = sub.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
    parse("sub", "a SPIFFE ID of this cluster", cluster.map_or("", |(cluster, _)| cluster))
}

fn parse<T: std::str::FromStr>(
    claim: &'static str,
    expected: &'static str,
    text: &str,
) -> Result<T, TokenError> {
    text.parse().map_err(|_| TokenError::Claim { claim, expected })
}

/// The claims as they stand in the token.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    aud: Cow<'a, str>,
    #[serde(borrow)]
    sub: Cow<'a, str>,
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    iat: u64,
    exp: u64,
    jti: Hex,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    scope: Cow<'a, str>,
    /// Reserved (RFC 7800): a token that is bound to a key isn't taken for one that isn't.
    #[serde(default, deserialize_with = "present", skip_serializing)]
    cnf: bool,
    #[serde(borrow)]
    haltline: Object<Private<'a>>,
}

/// The private claim `haltline`.
#[derive(Serialize, Deserialize)]
struct Private<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    instance: Hex,
    lineage: Vec<Hex>,
    depth: u32,
    #[serde(borrow)]
    task: Cow<'a, str>,
    index: u64,
    ends: u64,
    incarnation: u64,
    node: u64,
}

impl<T: Serialize> Serialize for Object<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// 128 bits as 32 lower-case hexadecimal digits, the one spelling that a token may have.
struct Hex([u8; 16]);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&CredentialId(self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Hex;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("32 lower-case hexadecimal digits")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Hex, E> {
                hex(text).map(Hex).ok_or_else(|| E::custom("not 32 lower-case hexadecimal digits"))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

/// Bytes of exactly as many lower-case hexadecimal digits as they have.
pub(super) fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}
