//! What the tables of the state hold.
//!
//! These are encoded into snapshots, so a change here is a change of [`crate::snapshot::FORMAT_VERSION`].

use serde::{Deserialize, Serialize};

use crate::{
    command::{EnforcerKind, KillMode, PersonAdd, Request, RoleBinding},
    event::EdgePolicy,
    ids::{
        ClusterId, Digest, EdgeName, GrantId, Incarnation, InstanceId, KeyHash, KillId, LogIndex, PersonId,
        PublicKey, Version,
    },
    path::AgentPath,
    policy::{Intent, Limits},
    rejection::{Outcome, Rejection},
    selector::{Pattern, Selector},
    state::Scope,
    text::{Labels, Reason, Text},
    time::{ClusterTime, Stamp},
};

/// Which cluster this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// Chosen at random when the cluster was made.
    pub id: ClusterId,
    /// Counts restores from backup.
    pub incarnation: Incarnation,
    /// Hash of the trust bundle.
    pub trust_bundle: Digest,
}

/// How this incarnation of the cluster began, if it isn't the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoration {
    /// When and where in the log.
    pub at: Stamp,
    /// Up to where the log was in the backup.
    pub backup: Stamp,
    /// The freeze of everything that it began under.
    pub kill: KillId,
    /// Until then a lease of the earlier incarnation may still run somewhere, and under any value of `max_staleness`: how it
    /// was changed after the backup isn't known.
    pub leases_end: ClusterTime,
}

/// A fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// Its own labels.
    pub labels: Labels,
    /// Who answers for it.
    pub owner: Text,
    /// How to reach them.
    pub contact: Text,
    /// What it declared.
    pub intent: Intent,
    /// Its own limits.
    pub limits: Limits,
    /// Counts its changes, from 1.
    pub version: Version,
    /// When it was created.
    pub created: Stamp,
    /// When it was last changed.
    pub updated: Stamp,
}

/// An agent: what may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its own labels.
    pub labels: Labels,
    /// Counts its changes, from 1.
    pub version: Version,
    /// When it was registered.
    pub registered: Stamp,
    /// When it was last changed.
    pub updated: Stamp,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Hashes of their TLS keys.
    pub tls_keys: Vec<KeyHash>,
    /// What they sign with.
    pub signing_key: PublicKey,
    /// What they may do.
    pub roles: Vec<RoleBinding>,
    /// When they were enrolled.
    pub enrolled: Stamp,
}

impl Person {
    pub(super) fn enrolled(command: &PersonAdd, stamp: Stamp) -> Self {
        Self {
            tls_keys: command.tls_keys.clone(),
            signing_key: command.signing_key,
            roles: command.roles.clone(),
            enrolled: stamp,
        }
    }
}

/// A kill in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// What it stops.
    pub selector: Selector,
    /// How. A drain that ended is a freeze.
    pub mode: KillMode,
    /// Why.
    pub reason: Reason,
    /// Who.
    pub by: PersonId,
    /// When and where in the log.
    pub placed: Stamp,
    /// The entry from which on all that it stops is denied; `None` while it drains. A proof that it landed is about this.
    pub denies_from: Option<LogIndex>,
    /// When its drain ends, if it drains.
    pub drain_ends: Option<ClusterTime>,
    /// When it lifts itself, if it does.
    pub expires: Option<ClusterTime>,
}

/// A kill that was lifted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiftedKill {
    /// The kill as it was.
    pub kill: Kill,
    /// When it was lifted.
    pub lifted: Stamp,
    /// Who asked; `None`: it expired.
    pub by: Option<PersonId>,
    /// Why; `None`: it expired.
    pub reason: Option<Reason>,
}

/// A revocation in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Why.
    pub reason: Reason,
    /// Who.
    pub by: PersonId,
    /// When and where in the log.
    pub placed: Stamp,
    /// Nothing that it could hit is valid after this.
    pub ends: ClusterTime,
    /// Whose credentials, issued before which index, where the target alone doesn't say.
    pub issued_before: Option<(Selector, LogIndex)>,
}

/// A command that waits for more people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingApproval {
    /// The command as it was asked, with its id and deadline.
    pub request: Request,
    /// Distinct people needed, the one who asked included.
    pub needed: u32,
    /// Who has signed, with the key they signed with.
    pub signers: Vec<Signer>,
    /// When it was asked.
    pub created: Stamp,
}

impl PendingApproval {
    /// The names of those who have signed, in the order in which they did.
    pub fn signed_by(&self) -> impl Iterator<Item = &PersonId> {
        self.signers.iter().map(|signer| &signer.person)
    }
}

/// One signature on a waiting command. Counts only as long as the key is still the person's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// Who.
    pub person: PersonId,
    /// With which key.
    pub key: PublicKey,
    /// In which entry of the log. Counts only towards leaving kills that stood there before.
    pub signed: LogIndex,
}

/// A command that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The command's digest, shortened: enough to tell another command under the same id.
    pub digest: [u8; 16],
    /// What it was answered.
    pub result: Result<Outcome, Rejection>,
    /// Remembered until then.
    pub until: ClusterTime,
}

/// An enforcer that was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRecord {
    /// What it is.
    pub kind: EnforcerKind,
    /// Its TLS key.
    pub key: KeyHash,
    /// Subtrees that it is bound to, in order; `None` is the whole tree.
    pub paths: Vec<Scope>,
    /// Whether a relay's word that all below it have acknowledged counts.
    pub trusted_for_acks: bool,
    /// Whether it permits when it can't decide, so that no receipt bounds what it does.
    pub fails_open: bool,
    /// Counts its changes, from 1.
    pub version: Version,
    /// When it was admitted.
    pub enrolled: Stamp,
    /// When it was last changed.
    pub updated: Stamp,
}

impl EdgeRecord {
    /// What enforcers learn of it.
    #[must_use]
    pub fn policy(&self) -> EdgePolicy {
        EdgePolicy {
            kind: self.kind,
            key: self.key,
            paths: self.paths.clone(),
            trusted_for_acks: self.trusted_for_acks,
            fails_open: self.fails_open,
        }
    }
}

/// A join token that is neither used nor expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// [`crate::command::JoinProof::stored`] of its secret.
    pub secret_hash: Digest,
    /// The name that the enforcer will have.
    pub edge: EdgeName,
    /// What it will be.
    pub kind: EnforcerKind,
    /// Subtrees that it will be bound to, in order; `None` is the whole tree.
    pub paths: Vec<Scope>,
    /// Whether a relay's word that all below it have acknowledged will count.
    pub trusted_for_acks: bool,
    /// Who made it.
    pub by: PersonId,
    /// When it was made.
    pub created: Stamp,
    /// It can't be used from then on.
    pub expires: ClusterTime,
}

/// A credential that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The agent.
    pub agent: AgentPath,
    /// The running copy.
    pub instance: InstanceId,
    /// Its own grant, the last of the lineage.
    pub grant: GrantId,
    /// Grants from the root to its own.
    pub lineage: Vec<GrantId>,
    /// Delegations between the root grant and its own.
    pub depth: u32,
    /// What it is for, in words.
    pub task: Text,
    /// Tools that it may use, within what its fleets declare; empty: all that they declare.
    pub scope: Vec<Pattern>,
    /// When and where in the log it was issued.
    pub issued: Stamp,
    /// It is void from then on.
    pub ends: ClusterTime,
    /// Who asked for it.
    pub by: PersonId,
}
