//! Values that commands and resources share: ids, labels, selectors, limits, intents, roles, keys, stamps.

use std::{collections::BTreeMap, str::FromStr};

use haltline_core::{
    command::{ClusterPolicy, RevocationTarget, Role, RoleBinding},
    ids::{
        ClusterId, CredentialId, Digest, GrantId, InstanceId, JoinTokenId, KeyHash, KillId, LogIndex,
        PersonId, PublicKey, RequestId,
    },
    path::FleetPath,
    policy::{EffectiveLimits, Intent, Limits},
    selector::{Pattern, Selector, SelectorError},
    text::Labels,
    time::{ClusterTime, Millis, Stamp, WallTime},
};

use super::{At, ConvertError, Why, Within};
use crate::v1;

/// An id of raw bytes.
pub(super) trait RawId: Sized {
    /// What it is, for messages.
    const WHAT: &'static str;
    /// From bytes of the right length.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Why>;
}

macro_rules! raw_ids {
    ($($name:ident = $what:literal),+ $(,)?) => {
        $(impl RawId for $name {
            const WHAT: &'static str = $what;

            fn from_bytes(bytes: &[u8]) -> Result<Self, Why> {
                fixed(bytes, Self::WHAT).map(Self)
            }
        })+
    };
}

raw_ids! {
    ClusterId = "a cluster id",
    CredentialId = "a credential id",
    Digest = "a SHA-256 digest",
    GrantId = "a grant id",
    InstanceId = "an instance id",
    JoinTokenId = "a join token's id",
    KeyHash = "a SHA-256 key hash",
    PublicKey = "an Ed25519 public key",
    RequestId = "a request id",
}

pub(super) fn fixed<const N: usize>(bytes: &[u8], what: &'static str) -> Result<[u8; N], Why> {
    bytes.try_into().map_err(|_| Why::Length { what, got_bytes: bytes.len(), expected_bytes: N })
}

/// A raw id; empty counts as missing.
pub(super) fn id<T: RawId>(bytes: &[u8], field: &'static str) -> Result<T, ConvertError> {
    if bytes.is_empty() {
        return Err(ConvertError::missing(field, T::WHAT));
    }
    T::from_bytes(bytes).at(field)
}

/// A raw id that may be left out by leaving it empty.
pub(super) fn optional_id<T: RawId>(bytes: &[u8], field: &'static str) -> Result<Option<T>, ConvertError> {
    if bytes.is_empty() { Ok(None) } else { T::from_bytes(bytes).map(Some).at(field) }
}

/// A text that is parsed.
pub(super) fn parsed<T>(text: &str, field: &'static str) -> Result<T, ConvertError>
where
    T: FromStr<Err: Into<Why>>,
{
    text.parse().at(field)
}

/// A text that is parsed, and may be left out by leaving it empty.
pub(super) fn optional<T>(text: &str, field: &'static str) -> Result<Option<T>, ConvertError>
where
    T: FromStr<Err: Into<Why>>,
{
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).at(field) }
}

/// A message without which there is nothing to do.
pub(super) fn required<T>(
    message: Option<T>,
    field: &'static str,
    expected: &'static str,
) -> Result<T, ConvertError> {
    message.ok_or_else(|| ConvertError::missing(field, expected))
}

pub(super) fn labels(map: &BTreeMap<String, String>, field: &'static str) -> Result<Labels, ConvertError> {
    Labels::from_pairs(map).at(field)
}

/// Labels as a message has them.
impl From<&Labels> for v1::Labels {
    fn from(labels: &Labels) -> Self {
        Self { labels: label_map(labels) }
    }
}

pub(super) fn label_map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A person's name.
///
/// # Errors
/// A name out of form, blamed on `field`.
pub fn person_name(text: &str, field: &'static str) -> Result<PersonId, ConvertError> {
    parsed(text, field)
}

/// A pattern over names.
///
/// # Errors
/// A pattern out of form, blamed on `field`.
pub fn pattern(text: &str, field: &'static str) -> Result<Pattern, ConvertError> {
    parsed(text, field)
}

impl TryFrom<v1::Selector> for Selector {
    type Error = ConvertError;

    fn try_from(message: v1::Selector) -> Result<Self, ConvertError> {
        let selector = Self {
            fleet: optional(&message.fleet, "fleet")?,
            agent: optional(&message.agent, "agent")?,
            instance: optional_id(&message.instance, "instance")?,
            lineage: optional_id(&message.lineage, "lineage")?,
            labels: labels(&message.labels, "labels")?,
            tool: optional(&message.tool, "tool")?,
            model: optional(&message.model, "model")?,
            resource: optional(&message.resource, "resource")?,
        };
        Ok(selector)
    }
}

impl From<&Selector> for v1::Selector {
    fn from(selector: &Selector) -> Self {
        let text = |pattern: &Option<Pattern>| pattern.as_ref().map_or_else(String::new, Pattern::to_string);
        Self {
            fleet: selector.fleet.as_ref().map_or_else(String::new, ToString::to_string),
            agent: selector.agent.as_ref().map_or_else(String::new, ToString::to_string),
            instance: selector.instance.map_or_else(Vec::new, |id| id.0.to_vec()),
            lineage: selector.lineage.map_or_else(Vec::new, |id| id.0.to_vec()),
            labels: label_map(&selector.labels),
            tool: text(&selector.tool),
            model: text(&selector.model),
            resource: text(&selector.resource),
        }
    }
}

impl From<v1::Limits> for Limits {
    fn from(message: v1::Limits) -> Self {
        Self {
            max_staleness: message.max_staleness_ms.map(Millis),
            credential_ttl: message.credential_ttl_ms.map(Millis),
            delegation_depth: message.delegation_depth,
            instances: message.instances,
        }
    }
}

impl From<&Limits> for v1::Limits {
    fn from(limits: &Limits) -> Self {
        Self {
            max_staleness_ms: limits.max_staleness.map(|limit| limit.0),
            credential_ttl_ms: limits.credential_ttl.map(|limit| limit.0),
            delegation_depth: limits.delegation_depth,
            instances: limits.instances,
        }
    }
}

/// Limits after inheritance, where every one has a value.
#[must_use]
pub fn effective_limits(limits: &EffectiveLimits) -> v1::Limits {
    v1::Limits {
        max_staleness_ms: Some(limits.max_staleness.0),
        credential_ttl_ms: Some(limits.credential_ttl.0),
        delegation_depth: Some(limits.delegation_depth),
        instances: Some(limits.instances),
    }
}

impl TryFrom<v1::Intent> for Intent {
    type Error = ConvertError;

    fn try_from(message: v1::Intent) -> Result<Self, ConvertError> {
        Ok(Self {
            purpose: parsed(&message.purpose, "purpose")?,
            tools: patterns(message.tools, "tools")?,
            resources: patterns(message.resources, "resources")?,
            models: patterns(message.models, "models")?,
            data_classes: patterns(message.data_classes, "data_classes")?,
        })
    }
}

fn patterns(
    list: Option<v1::PatternList>,
    field: &'static str,
) -> Result<Option<Vec<Pattern>>, ConvertError> {
    let Some(list) = list else { return Ok(None) };
    let parse = |(position, text): (usize, &String)| {
        text.parse()
            .map_err(|why: SelectorError| ConvertError::new(format!("{field}.patterns[{position}]"), why))
    };
    list.patterns.iter().enumerate().map(parse).collect::<Result<_, _>>().map(Some)
}

impl From<&Intent> for v1::Intent {
    fn from(intent: &Intent) -> Self {
        let list = |patterns: &Option<Vec<Pattern>>| {
            let patterns = patterns.as_ref()?.iter().map(Pattern::to_string).collect();
            Some(v1::PatternList { patterns })
        };
        Self {
            purpose: intent.purpose.to_string(),
            tools: list(&intent.tools),
            resources: list(&intent.resources),
            models: list(&intent.models),
            data_classes: list(&intent.data_classes),
        }
    }
}

const ROLES: &str = "ROLE_VIEWER, ROLE_RESPONDER, ROLE_OPERATOR, ROLE_APPROVER, ROLE_AUDITOR or ROLE_ADMIN";

fn role(number: i32) -> Result<Role, Why> {
    match v1::Role::try_from(number) {
        Ok(v1::Role::Viewer) => Ok(Role::Viewer),
        Ok(v1::Role::Responder) => Ok(Role::Responder),
        Ok(v1::Role::Operator) => Ok(Role::Operator),
        Ok(v1::Role::Approver) => Ok(Role::Approver),
        Ok(v1::Role::Auditor) => Ok(Role::Auditor),
        Ok(v1::Role::Admin) => Ok(Role::Admin),
        Ok(v1::Role::Unspecified) => Err(Why::Missing { expected: ROLES }),
        Err(_) => Err(Why::Unknown { got: number.into(), expected: ROLES }),
    }
}

impl From<Role> for v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Responder => Self::Responder,
            Role::Operator => Self::Operator,
            Role::Approver => Self::Approver,
            Role::Auditor => Self::Auditor,
            Role::Admin => Self::Admin,
        }
    }
}

impl TryFrom<v1::RoleBinding> for RoleBinding {
    type Error = ConvertError;

    fn try_from(message: v1::RoleBinding) -> Result<Self, ConvertError> {
        let role = role(message.role).at("role")?;
        optional::<FleetPath>(&message.path, "path").map(|path| Self { role, path })
    }
}

impl From<&RoleBinding> for v1::RoleBinding {
    fn from(binding: &RoleBinding) -> Self {
        Self {
            role: v1::Role::from(binding.role).into(),
            path: binding.path.as_ref().map_or_else(String::new, ToString::to_string),
        }
    }
}

pub(super) fn role_bindings(
    list: Vec<v1::RoleBinding>,
    field: &'static str,
) -> Result<Vec<RoleBinding>, ConvertError> {
    let convert = |(position, binding): (usize, v1::RoleBinding)| {
        RoleBinding::try_from(binding).map_err(|error| error.under(&format!("{field}[{position}]")))
    };
    list.into_iter().enumerate().map(convert).collect()
}

pub(super) fn key_hashes(list: &[Vec<u8>], field: &'static str) -> Result<Vec<KeyHash>, ConvertError> {
    let convert = |(position, bytes): (usize, &Vec<u8>)| {
        KeyHash::from_bytes(bytes).map_err(|why| ConvertError::new(format!("{field}[{position}]"), why))
    };
    list.iter().enumerate().map(convert).collect()
}

impl TryFrom<v1::RevocationTarget> for RevocationTarget {
    type Error = ConvertError;

    fn try_from(message: v1::RevocationTarget) -> Result<Self, ConvertError> {
        use v1::revocation_target::Target;
        let expected = "one of credential, grant, instance, key";
        Ok(match required(message.target, "target", expected)? {
            Target::Credential(bytes) => Self::Credential(id(&bytes, "credential")?),
            Target::Grant(bytes) => Self::Grant(id(&bytes, "grant")?),
            Target::Instance(bytes) => Self::Instance(id(&bytes, "instance")?),
            Target::Key(bytes) => Self::Key(id(&bytes, "key")?),
            Target::Terminated(kill) => Self::Terminated(KillId(kill)),
        })
    }
}

impl From<&RevocationTarget> for v1::RevocationTarget {
    fn from(target: &RevocationTarget) -> Self {
        use v1::revocation_target::Target;
        let target = match target {
            RevocationTarget::Credential(id) => Target::Credential(id.0.to_vec()),
            RevocationTarget::Grant(id) => Target::Grant(id.0.to_vec()),
            RevocationTarget::Instance(id) => Target::Instance(id.0.to_vec()),
            RevocationTarget::Key(hash) => Target::Key(hash.0.to_vec()),
            RevocationTarget::Terminated(kill) => Target::Terminated(kill.0),
        };
        Self { target: Some(target) }
    }
}

impl From<v1::ClusterPolicy> for ClusterPolicy {
    fn from(message: v1::ClusterPolicy) -> Self {
        Self {
            approvals_to_resume: message.approvals_to_resume,
            approvals_to_widen: message.approvals_to_widen,
        }
    }
}

impl From<ClusterPolicy> for v1::ClusterPolicy {
    fn from(policy: ClusterPolicy) -> Self {
        Self {
            approvals_to_resume: policy.approvals_to_resume,
            approvals_to_widen: policy.approvals_to_widen,
        }
    }
}

impl From<Stamp> for v1::Stamp {
    fn from(stamp: Stamp) -> Self {
        Self { index: stamp.index.0, cluster_time_ms: stamp.cluster_time.0, wall_time_ms: stamp.wall_time.0 }
    }
}

impl From<v1::Stamp> for Stamp {
    fn from(message: v1::Stamp) -> Self {
        Self {
            index: LogIndex(message.index),
            cluster_time: ClusterTime(message.cluster_time_ms),
            wall_time: WallTime(message.wall_time_ms),
        }
    }
}

/// A message inside another one.
pub(super) fn nested<M, T>(message: M, field: &'static str) -> Result<T, ConvertError>
where
    T: TryFrom<M, Error = ConvertError>,
{
    T::try_from(message).within(field)
}
