//! Changes: what people learn from an entry, as `haltline events` shows it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    command::{Caller, EnforcerKind, KillMode, RevocationTarget},
    ids::{
        ApprovalId, ClusterId, CredentialId, EdgeName, InstanceId, JoinTokenId, KillId, NodeId, PersonId,
        Version,
    },
    path::{AgentPath, FleetPath},
    receipt::EnforcedRule,
    selector::Selector,
    text::Reason,
};

/// One change and who made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `None`: the machine, because time passed.
    pub caller: Option<Caller>,
    /// What changed.
    pub kind: ChangeKind,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is its sentence in `Display` below")]
pub enum ChangeKind {
    Founded { cluster: ClusterId },
    FleetCreated { path: FleetPath },
    FleetUpdated { path: FleetPath },
    FleetDeleted { path: FleetPath },
    AgentRegistered { path: AgentPath },
    AgentUpdated { path: AgentPath },
    AgentDeleted { path: AgentPath },
    PersonEnrolled { person: PersonId, ended_bootstrap: bool },
    PersonUpdated { person: PersonId },
    PersonRemoved { person: PersonId },
    KillPlaced { kill: KillId, selector: Selector, mode: KillMode, reason: Reason },
    DrainEnded { kill: KillId },
    KillLifted { kill: KillId, reason: Option<Reason> },
    ApprovalRequested { approval: ApprovalId, command: String, needed: u32 },
    ApprovalSigned { approval: ApprovalId, signed: u32, needed: u32 },
    ApprovalExecuted { approval: ApprovalId },
    ApprovalRefused { approval: ApprovalId, code: String },
    ApprovalWithdrawn { approval: ApprovalId },
    ApprovalLapsed { approval: ApprovalId },
    Revoked { target: RevocationTarget, reason: Reason },
    RevocationEnded { target: RevocationTarget },
    PolicyChanged { approvals_to_resume: u32, approvals_to_widen: u32 },
    JoinTokenCreated { token: JoinTokenId, edge: EdgeName },
    JoinTokenDeleted { token: JoinTokenId, edge: EdgeName },
    JoinTokenExpired { token: JoinTokenId, edge: EdgeName },
    EdgeEnrolled { edge: EdgeName, kind: EnforcerKind },
    EdgeUpdated { edge: EdgeName },
    EdgeRemoved { edge: EdgeName },
    CredentialIssued { credential: CredentialId, instance: InstanceId, agent: AgentPath },
    ReceiptRecorded { kill: KillId, rule: EnforcedRule },
    BundleProposed { version: Version, needed: u32 },
    BundleEndorsed { version: Version, node: NodeId, endorsed: u32, needed: u32 },
    BundleSet { version: Version },
}

impl ChangeKind {
    /// A stable name for programs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Founded { .. } => "founded",
            Self::FleetCreated { .. } => "fleet_created",
            Self::FleetUpdated { .. } => "fleet_updated",
            Self::FleetDeleted { .. } => "fleet_deleted",
            Self::AgentRegistered { .. } => "agent_registered",
            Self::AgentUpdated { .. } => "agent_updated",
            Self::AgentDeleted { .. } => "agent_deleted",
            Self::PersonEnrolled { .. } => "person_enrolled",
            Self::PersonUpdated { .. } => "person_updated",
            Self::PersonRemoved { .. } => "person_removed",
            Self::KillPlaced { .. } => "kill_placed",
            Self::DrainEnded { .. } => "drain_ended",
            Self::KillLifted { .. } => "kill_lifted",
            Self::ApprovalRequested { .. } => "approval_requested",
            Self::ApprovalSigned { .. } => "approval_signed",
            Self::ApprovalExecuted { .. } => "approval_executed",
            Self::ApprovalRefused { .. } => "approval_refused",
            Self::ApprovalWithdrawn { .. } => "approval_withdrawn",
            Self::ApprovalLapsed { .. } => "approval_lapsed",
            Self::Revoked { .. } => "revoked",
            Self::RevocationEnded { .. } => "revocation_ended",
            Self::PolicyChanged { .. } => "policy_changed",
            Self::JoinTokenCreated { .. } => "join_token_created",
            Self::JoinTokenDeleted { .. } => "join_token_deleted",
            Self::JoinTokenExpired { .. } => "join_token_expired",
            Self::EdgeEnrolled { .. } => "edge_enrolled",
            Self::EdgeUpdated { .. } => "edge_updated",
            Self::EdgeRemoved { .. } => "edge_removed",
            Self::CredentialIssued { .. } => "credential_issued",
            Self::ReceiptRecorded { .. } => "receipt_recorded",
            Self::BundleProposed { .. } => "bundle_proposed",
            Self::BundleEndorsed { .. } => "bundle_endorsed",
            Self::BundleSet { .. } => "bundle_set",
        }
    }

    /// What it is about: a path, a kill, a person.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Founded { cluster } => cluster.to_string(),
            Self::FleetCreated { path } | Self::FleetUpdated { path } | Self::FleetDeleted { path } => {
                path.to_string()
            }
            Self::AgentRegistered { path } | Self::AgentUpdated { path } | Self::AgentDeleted { path } => {
                path.to_string()
            }
            Self::PersonEnrolled { person, .. }
            | Self::PersonUpdated { person }
            | Self::PersonRemoved { person } => person.to_string(),
            Self::KillPlaced { kill, .. } | Self::DrainEnded { kill } | Self::KillLifted { kill, .. } => {
                kill.to_string()
            }
            Self::ApprovalRequested { approval, .. }
            | Self::ApprovalSigned { approval, .. }
            | Self::ApprovalExecuted { approval }
            | Self::ApprovalRefused { approval, .. }
            | Self::ApprovalWithdrawn { approval }
            | Self::ApprovalLapsed { approval } => approval.to_string(),
            Self::Revoked { target, .. } | Self::RevocationEnded { target } => target.to_string(),
            Self::PolicyChanged { .. } => "policy".into(),
            Self::JoinTokenCreated { edge, .. }
            | Self::JoinTokenDeleted { edge, .. }
            | Self::JoinTokenExpired { edge, .. }
            | Self::EdgeEnrolled { edge, .. }
            | Self::EdgeUpdated { edge }
            | Self::EdgeRemoved { edge } => edge.to_string(),
            Self::CredentialIssued { agent, .. } => agent.to_string(),
            Self::ReceiptRecorded { kill, .. } => kill.to_string(),
            Self::BundleProposed { version, .. }
            | Self::BundleEndorsed { version, .. }
            | Self::BundleSet { version } => format!("trust bundle {version}"),
        }
    }
}

impl fmt::Display for RevocationTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(id) => write!(f, "credential {id}"),
            Self::Grant(id) => write!(f, "grant {id}"),
            Self::Instance(id) => write!(f, "instance {id}"),
            Self::Key(hash) => write!(f, "key {hash}"),
            Self::Terminated(kill) => write!(f, "credentials ended by {kill}"),
        }
    }
}

impl fmt::Display for EnforcerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edge => "edge",
            Self::Relay => "relay",
        })
    }
}

impl fmt::Display for KillMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain(time) => write!(f, "drain for {time}"),
            Self::Freeze => f.write_str("freeze"),
            Self::Terminate => f.write_str("terminate"),
        }
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Founded { cluster } => write!(f, "cluster {cluster} founded"),
            Self::FleetCreated { path } => write!(f, "fleet {path} created"),
            Self::FleetUpdated { path } => write!(f, "fleet {path} changed"),
            Self::FleetDeleted { path } => write!(f, "fleet {path} deleted"),
            Self::AgentRegistered { path } => write!(f, "agent {path} registered"),
            Self::AgentUpdated { path } => write!(f, "agent {path} changed"),
            Self::AgentDeleted { path } => write!(f, "agent {path} deleted"),
            Self::PersonEnrolled { person, ended_bootstrap: false } => write!(f, "{person} enrolled"),
            Self::PersonEnrolled { person, ended_bootstrap: true } => {
                write!(
                    f,
                    "{person} enrolled as the second person: bootstrap has ended, widening takes two from now on"
                )
            }
            Self::PersonUpdated { person } => write!(f, "{person} changed"),
            Self::PersonRemoved { person } => write!(f, "{person} removed"),
            Self::KillPlaced { kill, selector, mode, reason } => {
                write!(f, "{kill} stops {selector} ({mode}): {reason}")
            }
            Self::DrainEnded { kill } => write!(f, "{kill} has drained and freezes now"),
            Self::KillLifted { kill, reason: Some(reason) } => write!(f, "{kill} lifted: {reason}"),
            Self::KillLifted { kill, reason: None } => {
                write!(f, "{kill} expired, as fixed when it was placed")
            }
            Self::ApprovalRequested { approval, command, needed } => {
                write!(f, "{approval} ({command}) waits until {needed} people have signed")
            }
            Self::ApprovalSigned { approval, signed, needed } => {
                write!(f, "{approval} signed, {signed} of {needed}")
            }
            Self::ApprovalExecuted { approval } => write!(f, "{approval} approved and carried out"),
            Self::ApprovalRefused { approval, code } => write!(f, "{approval} approved but refused: {code}"),
            Self::ApprovalWithdrawn { approval } => write!(f, "{approval} withdrawn"),
            Self::ApprovalLapsed { approval } => write!(f, "{approval} lapsed at its deadline"),
            Self::Revoked { target, reason } => write!(f, "{target} revoked: {reason}"),
            Self::RevocationEnded { target } => {
                write!(f, "revocation of {target} has outlived what it could hit")
            }
            Self::PolicyChanged { approvals_to_resume, approvals_to_widen } => {
                write!(f, "resuming takes {approvals_to_resume} people now, widening {approvals_to_widen}")
            }
            Self::JoinTokenCreated { token, edge } => write!(f, "join token {token} can admit {edge}"),
            Self::JoinTokenDeleted { token, edge } => write!(f, "join token {token} for {edge} deleted"),
            Self::JoinTokenExpired { token, edge } => {
                write!(f, "join token {token} for {edge} expired unused")
            }
            Self::EdgeEnrolled { edge, kind } => write!(f, "{kind} {edge} enrolled"),
            Self::EdgeUpdated { edge } => write!(f, "{edge} changed"),
            Self::EdgeRemoved { edge } => write!(f, "{edge} removed; its key is nobody's now"),
            Self::CredentialIssued { credential, instance, agent } => {
                write!(f, "credential {credential} issued to instance {instance} of {agent}")
            }
            Self::ReceiptRecorded { kill, rule: EnforcedRule::Acked } => {
                write!(f, "{kill} is enforced: every enforcer acknowledged it")
            }
            Self::ReceiptRecorded { kill, rule: EnforcedRule::Fenced } => {
                write!(f, "{kill} is enforced: who didn't acknowledge it was waited out")
            }
            Self::BundleProposed { version, needed } => {
                write!(f, "trust bundle {version} waits until {needed} nodes have endorsed it")
            }
            Self::BundleEndorsed { version, node, endorsed, needed } => {
                write!(f, "node {node} endorsed trust bundle {version}, {endorsed} of {needed}")
            }
            Self::BundleSet { version } => write!(f, "trust bundle {version} is in force"),
        }
    }
}
