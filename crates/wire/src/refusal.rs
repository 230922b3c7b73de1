//! Refusals, as they travel: a status with `google.rpc.ErrorInfo`, `BadRequest` and `RetryInfo`, or (on the pipelined
//! stream) a `haltline.v1.Refusal`.
//!
//! One type on both ends, so that what a server says and what a client reads can't drift apart. The reason is stable and
//! for programs; the message is for people.

use std::{collections::BTreeMap, time::Duration};

use haltline_core::{
    policy::PolicyError,
    rejection::{KillDurationName, PersonList, Rejection},
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{convert::ConvertError, v1};

/// `google.rpc.ErrorInfo.domain` of every refusal.
pub const DOMAIN: &str = "haltline";
/// The reason of a status that didn't come from Haltline's own code: the transport's, or a proxy's in between.
pub const TRANSPORT: &str = "TRANSPORT";
/// The key under which metadata names the field to blame.
const FIELD: &str = "field";

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// A stable name, for programs.
    pub reason: String,
    /// For people: what was wrong, where, and what would be right.
    pub message: String,
    /// The parts of the message that programs may want. `field` is the path of the field to blame.
    pub metadata: BTreeMap<String, String>,
    /// Trying again helps, after so long.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with a message and nothing more.
    #[must_use]
    pub fn new(code: Code, reason: impl Into<String>, message: impl Into<String>) -> Self {
        let (reason, message) = (reason.into(), message.into());
        Self { code, reason, message, metadata: BTreeMap::new(), retry_after: None }
    }

    /// Blames a field of the request.
    #[must_use]
    pub fn blaming(self, field: impl Into<String>) -> Self {
        self.with(FIELD, field)
    }

    /// Says one thing more, for programs.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Says that trying again helps.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The field to blame, if it is one field's fault.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.metadata.get(FIELD).map(String::as_str)
    }

    /// As a status.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let metadata = self.metadata.iter().map(|(key, value)| (key.clone(), value.clone()));
        let mut details = ErrorDetails::with_error_info(
            &self.reason,
            DOMAIN,
            metadata.collect::<std::collections::HashMap<_, _>>(),
        );
        if let Some(field) = self.field() {
            details.add_bad_request_violation(field, &self.message);
        }
        if let Some(delay) = self.retry_after {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(self.code, &self.message, details)
    }

    /// From a status. One without Haltline's details has the reason [`TRANSPORT`].
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        let (reason, metadata) = match details.error_info() {
            Some(info) if info.domain == DOMAIN => {
                (info.reason.clone(), info.metadata.clone().into_iter().collect())
            }
            _ => (TRANSPORT.to_owned(), BTreeMap::new()),
        };
        Self { code: status.code(), reason, message: status.message().to_owned(), metadata, retry_after }
    }

    /// As a message of the pipelined stream.
    #[must_use]
    pub fn to_message(&self) -> v1::Refusal {
        v1::Refusal {
            reason: self.reason.clone(),
            message: self.message.clone(),
            metadata: self.metadata.clone(),
            retry_after_ms: self
                .retry_after
                .map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            code: self.code.into(),
        }
    }

    /// From a message of the pipelined stream.
    #[must_use]
    pub fn from_message(message: v1::Refusal) -> Self {
        Self {
            code: Code::from_i32(message.code),
            reason: message.reason,
            message: message.message,
            metadata: message.metadata,
            retry_after: message.retry_after_ms.map(Duration::from_millis),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.to_status()
    }
}

impl From<ConvertError> for Refusal {
    fn from(error: ConvertError) -> Self {
        Self::new(Code::InvalidArgument, ConvertError::CODE, error.to_string()).blaming(error.field)
    }
}

/// Full tables drain as deadlines pass; by then a good part of a burst has.
const RETRY_FULL: Duration = Duration::from_secs(2);
/// A founding node writes the genesis as soon as it leads.
const RETRY_NOT_FOUNDED: Duration = Duration::from_millis(500);

impl From<&Rejection> for Refusal {
    fn from(rejection: &Rejection) -> Self {
        let refusal = Self::new(code_of(rejection), rejection.code(), rejection.to_string());
        let refusal = match field_of(rejection) {
            Some(field) => refusal.blaming(field),
            None => refusal,
        };
        match rejection {
            Rejection::NotFounded => refusal.retry_after(RETRY_NOT_FOUNDED),
            Rejection::RequestTableFull { .. } => refusal.retry_after(RETRY_FULL),
            Rejection::Killed { kill, .. } => refusal.with("kill", kill.to_string()),
            Rejection::CredentialTtl { max, .. } | Rejection::JoinTokenTtl { max, .. } => {
                refusal.with("max_ms", max.0.to_string())
            }
            Rejection::InstanceLimit { path, live, max } => refusal
                .with("fleet", path.to_string())
                .with("live", live.to_string())
                .with("max", max.to_string()),
            Rejection::BundleVersion { expected, .. } => {
                refusal.with("expected_version", expected.to_string())
            }
            Rejection::UnknownFleet { nearest: Some(nearest), .. } => {
                refusal.with("nearest", nearest.to_string())
            }
            Rejection::UnknownAgent { nearest: Some(nearest), .. } => {
                refusal.with("nearest", nearest.to_string())
            }
            Rejection::VersionMismatch { current, .. } => {
                refusal.with("current_version", current.to_string())
            }
            Rejection::KillChanged { actual, .. } => refusal.with("actual_selector", actual.to_string()),
            Rejection::DeadlinePassed { now, .. } => refusal.with("cluster_time_ms", now.0.to_string()),
            Rejection::DeadlineTooFar { max, .. } => refusal.with("max_ms", max.0.to_string()),
            Rejection::SignatureRequired { widening, .. } => refusal.with("widening", widening.to_string()),
            _ => refusal,
        }
    }
}

const fn code_of(rejection: &Rejection) -> Code {
    match rejection {
        Rejection::NotFounded => Code::Unavailable,
        Rejection::UnknownPerson { .. } => Code::Unauthenticated,
        Rejection::PermissionDenied { .. }
        | Rejection::CallerNotAllowed { .. }
        | Rejection::BadEndorsement { .. }
        | Rejection::SelectorNeedsFleet { .. }
        | Rejection::SignatureRequired { .. }
        | Rejection::BadSignature { .. } => Code::PermissionDenied,
        Rejection::DeadlineTooFar { .. }
        | Rejection::CommandTooLarge { .. }
        | Rejection::SelectorContradiction { .. }
        | Rejection::Policy(_)
        | Rejection::BadKey { .. }
        | Rejection::BadCount { .. }
        | Rejection::KillDuration { .. }
        | Rejection::JoinTokenTtl { .. }
        | Rejection::EdgePaths { .. }
        | Rejection::RelaysOnly { .. }
        | Rejection::CredentialTtl { .. }
        | Rejection::BadReceipt { .. }
        | Rejection::BadBundle { .. }
        | Rejection::RevocationByMachineOnly
        | Rejection::PolicyOutOfRange { .. } => Code::InvalidArgument,
        Rejection::UnknownFleet { .. }
        | Rejection::UnknownAgent { .. }
        | Rejection::NothingMatches { .. }
        | Rejection::NoSuchPerson { .. }
        | Rejection::UnknownNode { .. }
        | Rejection::UnknownEdge { .. }
        | Rejection::UnknownJoinToken { .. }
        | Rejection::UnknownBundle { .. }
        | Rejection::UnknownKill { .. }
        | Rejection::UnknownApproval { .. } => Code::NotFound,
        Rejection::RequestIdReused
        | Rejection::PathTaken { .. }
        | Rejection::PersonExists { .. }
        | Rejection::KeyTaken { .. }
        | Rejection::JoinTokenExists { .. }
        | Rejection::EdgeExists { .. }
        | Rejection::CredentialIdTaken { .. }
        | Rejection::ReceiptExists { .. } => Code::AlreadyExists,
        Rejection::RequestTableFull { .. }
        | Rejection::TableFull { .. }
        | Rejection::InstanceLimit { .. } => Code::ResourceExhausted,
        Rejection::VersionMismatch { .. }
        | Rejection::KillChanged { .. }
        | Rejection::BundleVersion { .. } => Code::Aborted,
        Rejection::DeadlinePassed { .. }
        | Rejection::FleetNotEmpty { .. }
        | Rejection::LimitExceedsParent { .. }
        | Rejection::SecondPersonMustApprove { .. }
        | Rejection::TooFewApprovers { .. }
        | Rejection::LastAdmin { .. }
        | Rejection::Revoked { .. }
        | Rejection::Killed { .. }
        | Rejection::AlreadySigned { .. } => Code::FailedPrecondition,
    }
}

/// The field of the request that a rejection is about, where it is one field's fault.
fn field_of(rejection: &Rejection) -> Option<String> {
    let field = match rejection {
        Rejection::DeadlinePassed { .. } | Rejection::DeadlineTooFar { .. } => "meta.deadline_ms",
        Rejection::RequestIdReused => "meta.request_id",
        Rejection::SignatureRequired { .. } | Rejection::BadSignature { .. } => "meta.signature",
        Rejection::SelectorNeedsFleet { .. } => "selector.fleet",
        Rejection::SelectorContradiction { .. } => "selector.agent",
        Rejection::NothingMatches { .. } | Rejection::KillChanged { .. } => "selector",
        Rejection::VersionMismatch { .. } => "expected_version",
        Rejection::Policy(PolicyError::OutOfRange { limit, .. })
        | Rejection::LimitExceedsParent { limit, .. } => return Some(format!("limits.{limit}")),
        Rejection::Policy(PolicyError::TooManyPatterns { .. }) => "intent",
        Rejection::BadKey { .. } => "signing_key",
        Rejection::BadCount { what: PersonList::Roles, .. } => "roles",
        Rejection::BadCount { what: PersonList::TlsKeys, .. } => "tls_keys",
        Rejection::KillDuration { what: KillDurationName::Drain, .. } => "drain_ms",
        Rejection::KillDuration { what: KillDurationName::Expiry, .. } => "expires_after_ms",
        Rejection::RevocationByMachineOnly => "target",
        Rejection::PolicyOutOfRange { .. } => "policy",
        Rejection::JoinTokenExists { .. } | Rejection::UnknownJoinToken { .. } => "token",
        Rejection::JoinTokenTtl { .. } | Rejection::CredentialTtl { .. } => "ttl_ms",
        Rejection::EdgePaths { .. } => "paths",
        Rejection::RelaysOnly { .. } => "trusted_for_acks",
        Rejection::CredentialIdTaken { what, .. } => return Some(what.to_string()),
        Rejection::BundleVersion { .. } => "version",
        Rejection::BadBundle { .. } => "keys",
        _ => return None,
    };
    Some(field.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use haltline_core::{ids::Version, policy::LimitName};

    use super::*;

    #[test]
    fn refusals_survive_both_ways_of_travelling() {
        let full = Rejection::RequestTableFull { remembered: 7, of_caller: 3 };
        let stale = Rejection::VersionMismatch {
            path: "acme/x".parse().unwrap(),
            expected: Version(1),
            current: Version(2),
        };
        for rejection in [full, stale, Rejection::RequestIdReused] {
            let refusal = Refusal::from(&rejection);
            assert_eq!(Refusal::from_status(&refusal.to_status()), refusal);
            assert_eq!(Refusal::from_message(refusal.to_message()), refusal);
        }
    }

    #[test]
    fn a_refusal_names_reason_field_and_retry() {
        let error =
            PolicyError::OutOfRange { limit: LimitName::MaxStaleness, got: 1, min: 200, max: 300_000 };
        let status = Refusal::from(&Rejection::Policy(error)).to_status();
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("LIMIT_OUT_OF_RANGE", "haltline"));
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "limits.max_staleness_ms");
        assert!(details.retry_info().is_none());

        let full = Refusal::from(&Rejection::RequestTableFull { remembered: 7, of_caller: 3 }).to_status();
        assert_eq!(full.get_error_details().retry_info().unwrap().retry_delay, Some(RETRY_FULL));
    }

    #[test]
    fn a_foreign_status_is_the_transports() {
        let refusal = Refusal::from_status(&Status::unavailable("connection refused"));
        assert_eq!((refusal.code, refusal.reason.as_str()), (Code::Unavailable, TRANSPORT));
        assert_eq!(refusal.to_string(), "connection refused");
    }
}
