//! Outcomes of commands: what was done.
//!
//! Remembered under the command's id, so that a retry gets the first answer; so they hold no secret.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{
        ApprovalId, CredentialId, EdgeName, GrantId, Incarnation, InstanceId, JoinTokenId, KillId, LogIndex,
        PersonId, Version,
    },
    path::{AgentPath, FleetPath},
    rejection::Rejection,
    selector::{Pattern, Selector},
    text::Text,
    time::{ClusterTime, Stamp},
};

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// A fleet was created or changed.
    FleetStored {
        /// Which.
        path: FleetPath,
        /// Its version now.
        version: Version,
    },
    /// A fleet was deleted.
    FleetDeleted {
        /// Which.
        path: FleetPath,
    },
    /// An agent was registered or changed.
    AgentStored {
        /// Which.
        path: AgentPath,
        /// Its version now.
        version: Version,
    },
    /// An agent was deleted.
    AgentDeleted {
        /// Which.
        path: AgentPath,
    },
    /// A person was enrolled or changed.
    PersonStored {
        /// Who.
        person: PersonId,
        /// Whether this was the second person, whose enrolment ends bootstrap for good.
        ended_bootstrap: bool,
    },
    /// A person was removed.
    PersonRemoved {
        /// Who.
        person: PersonId,
    },
    /// A kill is in force in the log.
    Killed(Box<Killed>),
    /// A kill was lifted.
    Resumed {
        /// Which.
        kill: KillId,
    },
    /// The command waits for more people.
    Pending(Pending),
    /// An approval was the last that was needed: the command was carried out, or refused after all.
    Executed {
        /// Which command.
        approval: ApprovalId,
        /// Its own outcome, which is never `Executed` itself.
        #[serde(deserialize_with = "crate::executed::read")]
        outcome: Box<Result<Outcome, Rejection>>,
    },
    /// A waiting command was taken back or turned down.
    Withdrawn {
        /// Which.
        approval: ApprovalId,
    },
    /// A revocation is in force in the log.
    Revoked {
        /// Until when it is kept: by then nothing that it could hit is still valid.
        ends: ClusterTime,
    },
    /// The cluster's policy was changed.
    PolicyStored,
    /// A join token was made.
    JoinTokenStored {
        /// Which.
        token: JoinTokenId,
        /// It can't be used from then on.
        expires: ClusterTime,
    },
    /// A join token was deleted.
    JoinTokenDeleted {
        /// Which.
        token: JoinTokenId,
    },
    /// An enforcer was admitted or changed.
    EdgeStored {
        /// Which.
        edge: EdgeName,
        /// Its version now.
        version: Version,
    },
    /// An enforcer was removed.
    EdgeRemoved {
        /// Which.
        edge: EdgeName,
    },
    /// A credential was issued.
    CredentialIssued(Box<IssuedCredential>),
    /// The receipt of a kill is kept.
    ReceiptRecorded {
        /// Which kill.
        kill: KillId,
    },
    /// New keys wait for the nodes' endorsements.
    BundleProposed {
        /// The version that they will have.
        version: Version,
        /// Endorsements that it takes.
        needed: u32,
    },
    /// New keys were endorsed.
    BundleEndorsed {
        /// The version of the bundle.
        version: Version,
        /// Nodes that have endorsed it.
        endorsed: u32,
        /// Endorsements that it takes.
        needed: u32,
        /// Whether it is in force now.
        in_force: bool,
    },
}

/// See [`Outcome::Killed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// The kill.
    pub kill: KillId,
    /// The log index at which it stands.
    pub index: LogIndex,
    /// What it stops.
    pub selector: Selector,
    /// How `selector` differs from what was asked, if it does.
    pub adjusted: Option<Adjusted>,
}

/// Why a kill stops something else than what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Adjusted {
    /// Intersected with the part of the tree that the caller may stop.
    NarrowedToCallersPath,
    /// The table of kills is full: widened to the whole fleet, at once and without an expiry, rather than refused.
    WidenedAtTheBound,
    /// The table of kills is full and the same kill is in force already.
    AlreadyInForce,
}

/// See [`Outcome::Pending`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What to approve.
    pub approval: ApprovalId,
    /// Distinct people needed, the one who asked included.
    pub needed: u32,
    /// People who have signed.
    pub signed: u32,
    /// When it lapses.
    pub deadline: ClusterTime,
}

/// A credential as the log has it. The token that proves it is made of this by whichever node is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCredential {
    /// The credential (`jti`).
    pub credential: CredentialId,
    /// The running copy.
    pub instance: InstanceId,
    /// Its own grant, the last of the lineage.
    pub grant: GrantId,
    /// The agent.
    pub agent: AgentPath,
    /// Grants from the root to its own.
    pub lineage: Vec<GrantId>,
    /// Delegations between the root grant and its own.
    pub depth: u32,
    /// What it is for, in words.
    pub task: Text,
    /// Tools that it may use, within what its fleets declare; empty: all that they declare.
    pub scope: Vec<Pattern>,
    /// Whom the token is for; `None`: this cluster's enforcers.
    pub audience: Option<Text>,
    /// When and where in the log it was issued.
    pub issued: Stamp,
    /// It is void from then on.
    pub ends: ClusterTime,
    /// Of the cluster, when it was issued.
    pub incarnation: Incarnation,
}
