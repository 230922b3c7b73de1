//! What a decision says: a permit with its end, or a denial with its reason.
//!
//! What must stay true: codes never change their meaning (scripts, metrics and help pages rely on them); messages may
//! improve. No variant needs memory of its own, so that denying allocates nothing either.

use haltline_core::{
    ids::{CredentialId, GrantId, Incarnation, InstanceId, KeyHash, KillId, LogIndex},
    lease::BootNanos,
    path::FleetPath,
    policy::IntentList,
    time::{ClusterTime, Millis},
};

/// What a decision says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an action whose verdict nobody looks at isn't enforced"]
pub enum Verdict {
    /// The action may be done, until the permit ends.
    Permit(Permit),
    /// The action must not be done.
    Deny(Denial),
}

impl Verdict {
    /// Whether the action may be done.
    #[must_use]
    pub const fn is_permit(&self) -> bool {
        matches!(self, Self::Permit(_))
    }

    /// Why not, if it may not.
    #[must_use]
    pub const fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Permit(_) => None,
            Self::Deny(denial) => Some(denial),
        }
    }
}

/// Leave to do one action, for a short time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// The instant of the permit: the clock read of its decision, which followed the load of view and lease.
    pub at: BootNanos,
    /// Its end. Whoever acts later than this has to ask again.
    pub until: BootNanos,
    /// The view that it was decided under: every denial of the log up to here counted.
    pub index: LogIndex,
}

/// A refusal of one action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("denied at index {index}: {reason}")]
pub struct Denial {
    /// Why.
    pub reason: DenyReason,
    /// When, by CLOCK_BOOTTIME.
    pub at: BootNanos,
    /// The view that it was decided under.
    pub index: LogIndex,
}

impl Denial {
    /// The reason's stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.reason.code()
    }
}

/// Why an action, or a whole session, is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DenyReason {
    /// Nothing has shown yet that this enforcer's copy is fresh.
    #[error("this enforcer hasn't heard from a quorum since it started, and permits nothing before it has")]
    NoLease,
    /// The copy may be too old.
    #[error(
        "this enforcer last knew its copy to be fresh too long ago: in {} it may be at most {max_staleness} old",
        scope_name(.scope.as_ref())
    )]
    Stale {
        /// The agent's fleet.
        scope: Option<FleetPath>,
        /// How old knowledge may be there.
        max_staleness: Millis,
        /// When the lease ended.
        ended: BootNanos,
    },
    /// A kill stops it.
    #[error("{kill} stops it, in {}, since index {since}", scope_name(.scope.as_ref()))]
    Killed {
        /// The kill.
        kill: KillId,
        /// The subtree that the kill names; `None` if it names none.
        scope: Option<FleetPath>,
        /// The log entry, as far as this enforcer knows, by which it is in force.
        since: LogIndex,
    },
    /// A terminating kill ended all credentials issued before it was lifted.
    #[error(
        "{kill} terminated it: credentials from before index {before} are void there, and this one is of {issued}"
    )]
    Terminated {
        /// The kill.
        kill: KillId,
        /// The subtree that the kill named; `None` if it named none.
        scope: Option<FleetPath>,
        /// The entry that issued the credential.
        issued: LogIndex,
        /// Only credentials from this entry on are good.
        before: LogIndex,
    },
    /// The credential is revoked.
    #[error("the credential {credential} is revoked")]
    CredentialRevoked {
        /// Which.
        credential: CredentialId,
    },
    /// A grant that the credential descends from is revoked.
    #[error("the grant {grant}, from which the credential descends, is revoked")]
    GrantRevoked {
        /// Which.
        grant: GrantId,
    },
    /// The running copy is revoked.
    #[error("the instance {instance} is revoked")]
    InstanceRevoked {
        /// Which.
        instance: InstanceId,
    },
    /// The key that signed the credential is revoked.
    #[error("the key {key}, which signed the credential, is revoked")]
    KeyRevoked {
        /// Which.
        key: KeyHash,
    },
    /// The key that signed the credential is no node's key, or no longer.
    #[error("the key {key}, which signed the credential, is none of the cluster's keys now")]
    KeyUnknown {
        /// Which.
        key: KeyHash,
    },
    /// The credential has ended.
    #[error("the credential ended at cluster time {ended}")]
    CredentialEnded {
        /// When.
        ended: ClusterTime,
    },
    /// The credential is of another incarnation of the cluster.
    #[error("the credential is of incarnation {issued}, and the cluster is in incarnation {}", number_or_none(.now.as_ref()))]
    OtherIncarnation {
        /// The credential's.
        issued: Incarnation,
        /// The cluster's, if known.
        now: Option<Incarnation>,
    },
    /// The agent isn't registered.
    #[error("the agent isn't registered in {scope}")]
    AgentUnknown {
        /// Where it would be.
        scope: FleetPath,
    },
    /// The agent isn't this enforcer's business.
    #[error("the agent lives in {scope}, outside the paths that this enforcer is bound to")]
    OutsidePaths {
        /// Where it lives.
        scope: FleetPath,
    },
    /// The enforcer itself isn't registered, or no longer.
    #[error("this enforcer isn't registered with the cluster")]
    EnforcerUnknown,
    /// The credential isn't for this tool.
    #[error("the credential's scope doesn't cover the tool")]
    OutOfScope,
    /// A fleet on the path hasn't declared it.
    #[error("the {list} that {scope} declares don't cover it")]
    NotDeclared {
        /// Which list.
        list: IntentList,
        /// Whose list.
        scope: FleetPath,
    },
    /// A name that is longer than any pattern could mean.
    #[error("a name of the action is {got_bytes} bytes long; at most {max_bytes} are looked at")]
    NameTooLong {
        /// Its length.
        got_bytes: usize,
        /// The bound.
        max_bytes: usize,
    },
    /// The view, or the policy that counts here, changes faster than it can be decided under or verified.
    #[error("what decides here changed again and again since it was last verified; ask again in a moment")]
    Unsettled,
}

fn scope_name(scope: Option<&FleetPath>) -> &str {
    scope.map_or("the whole tree", FleetPath::as_str)
}

fn number_or_none(incarnation: Option<&Incarnation>) -> String {
    incarnation.map_or_else(|| "none yet".to_owned(), ToString::to_string)
}

impl DenyReason {
    /// A stable code for scripts, metrics and help pages.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoLease => "NO_LEASE",
            Self::Stale { .. } => "STALE",
            Self::Killed { .. } => "KILLED",
            Self::Terminated { .. } => "TERMINATED",
            Self::CredentialRevoked { .. } => "CREDENTIAL_REVOKED",
            Self::GrantRevoked { .. } => "GRANT_REVOKED",
            Self::InstanceRevoked { .. } => "INSTANCE_REVOKED",
            Self::KeyRevoked { .. } => "KEY_REVOKED",
            Self::KeyUnknown { .. } => "KEY_UNKNOWN",
            Self::CredentialEnded { .. } => "CREDENTIAL_ENDED",
            Self::OtherIncarnation { .. } => "OTHER_INCARNATION",
            Self::AgentUnknown { .. } => "AGENT_UNKNOWN",
            Self::OutsidePaths { .. } => "OUTSIDE_PATHS",
            Self::EnforcerUnknown => "ENFORCER_UNKNOWN",
            Self::OutOfScope => "OUT_OF_SCOPE",
            Self::NotDeclared { .. } => "NOT_DECLARED",
            Self::NameTooLong { .. } => "NAME_TOO_LONG",
            Self::Unsettled => "UNSETTLED",
        }
    }

    /// Whether the reason lies with this enforcer's own knowledge, so that another one, or a moment, might permit.
    #[must_use]
    pub const fn is_own_ignorance(&self) -> bool {
        matches!(self, Self::NoLease | Self::Stale { .. } | Self::EnforcerUnknown | Self::Unsettled)
    }
}
