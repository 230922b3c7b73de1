//! Rejections: the typed reason why a command was not carried out.
//!
//! Like an [`Outcome`] it is remembered under the command's id, so that a retry gets the first answer. It says what was
//! wrong, where, and what would be right; [`Rejection::code`] is stable, for programs.

use serde::{Deserialize, Serialize};

use crate::{
    command::{Caller, RevocationTarget, Role, RoleBinding},
    ids::{ApprovalId, EdgeName, JoinTokenId, KillId, NodeId, PersonId, Version},
    limits::{APPROVALS_REQUIRED_MAX, NOT_EMPTY_COUNTED_MAX, REQUEST_LIFETIME_MAX},
    path::{AgentPath, FleetPath},
    policy::{LimitName, PolicyError},
    selector::Selector,
    time::{ClusterTime, Millis},
};

pub use crate::outcome::{Adjusted, IssuedCredential, Killed, Outcome, Pending};

/// Why a command was refused. Nothing of it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// The cluster has not been founded.
    #[error("the cluster has no genesis yet; its founding nodes write it when they first elect a leader")]
    NotFounded,
    /// The deadline has passed.
    #[error(
        "the command's deadline was {deadline} of cluster time and it is {now} now; send it again with a new id"
    )]
    DeadlinePassed {
        /// The command's deadline.
        deadline: ClusterTime,
        /// Cluster time of the entry.
        now: ClusterTime,
    },
    /// The deadline lies too far ahead.
    #[error(
        "the command's deadline lies {ahead} ahead; at most {max} are allowed (signed commands may wait longer than {REQUEST_LIFETIME_MAX})"
    )]
    DeadlineTooFar {
        /// How far ahead it lies.
        ahead: Millis,
        /// How far it may.
        max: Millis,
    },
    /// The command id was used for another command.
    #[error("this request id was already used for another command; a new command needs a new id")]
    RequestIdReused,
    /// The table of command ids is full.
    #[error(
        "{remembered} recent commands are remembered, {of_caller} of them yours, which is the bound; try again in a few seconds (kills still get through)"
    )]
    RequestTableFull {
        /// How many are remembered.
        remembered: u64,
        /// How many of them are the caller's.
        of_caller: u64,
    },
    /// The command's encoding is too large.
    #[error("the command is {got_bytes} bytes long; at most {max_bytes} are allowed")]
    CommandTooLarge {
        /// Its size.
        got_bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// The caller is nobody here.
    #[error(
        "`{person}` is not enrolled in this cluster; an admin can enrol people with `haltline operator add`"
    )]
    UnknownPerson {
        /// Who.
        person: PersonId,
    },
    /// No such node.
    #[error("there is no node {node} in this cluster, or not any more")]
    UnknownNode {
        /// Which.
        node: NodeId,
    },
    /// No such enforcer.
    #[error("there is no edge or relay `{edge}`, or not any more")]
    UnknownEdge {
        /// Which.
        edge: EdgeName,
    },
    /// This kind of caller has no business with this kind of command.
    #[error(
        "{caller} can't ask for `{command}` itself; people ask for what people decide, and nodes report what they saw"
    )]
    CallerNotAllowed {
        /// Who.
        caller: Caller,
        /// The command's name.
        command: String,
    },
    /// The caller's roles don't suffice.
    #[error("{person} may not {action}{}: it takes {}", At(.path.as_ref()), Any(.roles))]
    PermissionDenied {
        /// Who.
        person: PersonId,
        /// What they tried.
        action: Action,
        /// Where.
        path: Option<FleetPath>,
        /// Roles of which one would suffice, there or above.
        roles: Vec<Role>,
    },
    /// A stop that reaches beyond several paths, or everything, by someone whose roles have paths.
    #[error("the selector reaches beyond what {person} may stop; add a fleet, one of: {}", Paths(.paths))]
    SelectorNeedsFleet {
        /// Who.
        person: PersonId,
        /// Where within it they may stop.
        paths: Vec<FleetPath>,
    },
    /// The selector can't be met.
    #[error("agent {agent} does not lie under fleet {fleet}, so the selector could match nothing")]
    SelectorContradiction {
        /// The agent named.
        agent: AgentPath,
        /// The fleet named.
        fleet: FleetPath,
    },
    /// No such fleet.
    #[error("there is no fleet `{path}`{}", Nearest(.nearest.as_ref()))]
    UnknownFleet {
        /// The path.
        path: FleetPath,
        /// The name that looks most like it.
        nearest: Option<FleetPath>,
    },
    /// No such agent.
    #[error("there is no agent `{path}`{}", Nearest(.nearest.as_ref()))]
    UnknownAgent {
        /// The path.
        path: AgentPath,
        /// The name that looks most like it.
        nearest: Option<AgentPath>,
    },
    /// A selector that names things of which none exists.
    #[error("nothing in the registry matches `{selector}`; check it with --dry-run")]
    NothingMatches {
        /// The selector.
        selector: Box<Selector>,
    },
    /// The name is taken.
    #[error("`{path}` exists already; fleets and agents share one space of names")]
    PathTaken {
        /// The path.
        path: FleetPath,
    },
    /// The fleet still holds something.
    #[error("fleet `{path}` still holds {} fleets and {} agents; delete those first", Counted(*.fleets), Counted(*.agents))]
    FleetNotEmpty {
        /// The path.
        path: FleetPath,
        /// Fleets below it, counted up to [`NOT_EMPTY_COUNTED_MAX`].
        fleets: u64,
        /// Agents below it, counted up to [`NOT_EMPTY_COUNTED_MAX`].
        agents: u64,
    },
    /// Somebody else changed it in between.
    #[error("`{path}` is at version {current}, not {expected}; read it again and decide anew")]
    VersionMismatch {
        /// The path.
        path: FleetPath,
        /// The version that the command expected.
        expected: Version,
        /// The version there is.
        current: Version,
    },
    /// Limits or intent out of bounds.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A child wider than its parent.
    #[error(
        "{limit} of `{path}` would be {got}, but a fleet above it sets {above}; children can only narrow"
    )]
    LimitExceedsParent {
        /// The fleet.
        path: FleetPath,
        /// Which limit.
        limit: LimitName,
        /// The value asked for.
        got: u64,
        /// The value above.
        above: u64,
    },
    /// A table of the registry is full.
    #[error("the table of {table} is full with {max} entries; {advice}")]
    TableFull {
        /// Which.
        table: Table,
        /// Its bound.
        max: u64,
        /// What to do.
        advice: String,
    },
    /// The person exists already.
    #[error("`{person}` is enrolled already")]
    PersonExists {
        /// Who.
        person: PersonId,
    },
    /// No such person.
    #[error("nobody is enrolled as `{person}`")]
    NoSuchPerson {
        /// Who.
        person: PersonId,
    },
    /// The key belongs to somebody.
    #[error("this key already belongs to `{owner}`; one key is one person's or one node's only")]
    KeyTaken {
        /// Whose it is.
        owner: String,
    },
    /// A key that isn't one.
    #[error("the signing key of `{person}` is no valid Ed25519 public key")]
    BadKey {
        /// Whose.
        person: PersonId,
    },
    /// Roles or keys missing or too many.
    #[error("`{person}` would have {got} {what}; it must be 1 to {max}")]
    BadCount {
        /// Who.
        person: PersonId,
        /// Of what.
        what: PersonList,
        /// How many.
        got: u64,
        /// The bound.
        max: u64,
    },
    /// The second person could approve nothing.
    #[error(
        "enrolling the second person ends bootstrap, after which widening takes two; give `{person}` the role admin or approver at the root, or nobody could approve anything"
    )]
    SecondPersonMustApprove {
        /// Who.
        person: PersonId,
    },
    /// Too few people would be left.
    #[error("then only {left} people could approve at the root, and {needed} are needed; enrol others first")]
    TooFewApprovers {
        /// How many would be left.
        left: u64,
        /// How many are needed.
        needed: u64,
    },
    /// Nobody could change people any more.
    #[error("`{person}` is the last admin at the root; give somebody else that role first")]
    LastAdmin {
        /// Who.
        person: PersonId,
    },
    /// No such kill.
    #[error("there is no {kill} in force")]
    UnknownKill {
        /// Which.
        kill: KillId,
    },
    /// The signed selector isn't the kill's.
    #[error("{kill} stops `{actual}`, not `{signed}`; look at it again before you sign")]
    KillChanged {
        /// Which.
        kill: KillId,
        /// The kill's selector.
        actual: Box<Selector>,
        /// The one in the command.
        signed: Box<Selector>,
    },
    /// A duration out of its range.
    #[error("a kill's {what} must be from 1 ms to {max}; it was {got}")]
    KillDuration {
        /// Which of them.
        what: KillDurationName,
        /// What came.
        got: Millis,
        /// The bound.
        max: Millis,
    },
    /// No such waiting command.
    #[error("there is no {approval} waiting; it may have been carried out, withdrawn, or lapsed")]
    UnknownApproval {
        /// Which.
        approval: ApprovalId,
    },
    /// The same person twice.
    #[error("{person} has signed {approval} already; it takes another person")]
    AlreadySigned {
        /// Who.
        person: PersonId,
        /// Which.
        approval: ApprovalId,
    },
    /// The command widens and isn't signed.
    #[error("this widens what is allowed ({widening}), so it needs {person}'s own signature")]
    SignatureRequired {
        /// Who must sign.
        person: PersonId,
        /// What makes it a widening.
        widening: Widening,
    },
    /// The signature is wrong.
    #[error("the signature is not {person}'s over this command in this cluster and incarnation")]
    BadSignature {
        /// Who should have signed.
        person: PersonId,
    },
    /// Revocations of this kind are made by the machine.
    #[error(
        "this kind of revocation follows a terminating kill by itself; use `haltline kill --mode terminate`"
    )]
    RevocationByMachineOnly,
    /// The id of a join token is in use.
    #[error("there is a join token {token} already; choose another random id")]
    JoinTokenExists {
        /// Which.
        token: JoinTokenId,
    },
    /// No such join token, or not its secret.
    #[error(
        "there is no such join token {token}: it was used or deleted, has expired, or its secret is another one; ask for a new token"
    )]
    UnknownJoinToken {
        /// Which.
        token: JoinTokenId,
    },
    /// A join token that would live too long, or not at all.
    #[error("a join token lives from 1 ms to {max}; it was {got}")]
    JoinTokenTtl {
        /// What came.
        got: Millis,
        /// The bound.
        max: Millis,
    },
    /// The name is taken by an enforcer.
    #[error("`{edge}` is registered already; remove it first, or choose another name")]
    EdgeExists {
        /// The name.
        edge: EdgeName,
    },
    /// Too few or too many paths for an enforcer.
    #[error("an edge or relay is bound to 1 to {max} paths; it was {got}")]
    EdgePaths {
        /// How many came.
        got: u64,
        /// The bound.
        max: u64,
    },
    /// An edge can't speak for others.
    #[error("`{edge}` is an edge: only a relay acknowledges for others, so only a relay can be trusted to")]
    RelaysOnly {
        /// Which.
        edge: EdgeName,
    },
    /// Something that the command would bring into use is revoked.
    #[error("{target} is revoked; use another one")]
    Revoked {
        /// What.
        target: RevocationTarget,
    },
    /// A kill in force stops what the credential is for.
    #[error("{kill} is in force and stops {agent}, so it gets no credentials until that is lifted")]
    Killed {
        /// The kill.
        kill: KillId,
        /// The agent.
        agent: AgentPath,
    },
    /// An id of a credential is in use.
    #[error("the id of the {what} belongs to another credential that hasn't ended; choose a random one")]
    CredentialIdTaken {
        /// Which of its ids.
        what: CredentialIdName,
    },
    /// A credential that would live too long, or not at all.
    #[error("credentials of {agent} live from 1 ms to {max}; it was {got}")]
    CredentialTtl {
        /// The agent.
        agent: AgentPath,
        /// What came.
        got: Millis,
        /// What its fleets allow.
        max: Millis,
    },
    /// Enough running copies in a fleet.
    #[error(
        "{live} instances live under `{path}`, which may have {max}; wait until some end, or raise its limit"
    )]
    InstanceLimit {
        /// The fleet.
        path: FleetPath,
        /// How many live under it.
        live: u64,
        /// Its limit.
        max: u32,
    },
    /// The kill has a receipt.
    #[error("{kill} has a receipt already; the first one counts")]
    ReceiptExists {
        /// Which.
        kill: KillId,
    },
    /// A receipt that isn't what it should be.
    #[error("this is no receipt of {kill} by the node that presents it: {fault}")]
    BadReceipt {
        /// The kill.
        kill: KillId,
        /// What is wrong.
        fault: ReceiptFault,
    },
    /// A bundle that doesn't follow the one in force.
    #[error("the next bundle of node keys has version {expected}, not {got}; read it again and decide anew")]
    BundleVersion {
        /// What came.
        got: Version,
        /// What would have been right.
        expected: Version,
    },
    /// Keys that make no bundle.
    #[error("these keys make no bundle: {fault}")]
    BadBundle {
        /// What is wrong.
        fault: BundleFault,
    },
    /// No such proposal.
    #[error("no bundle of node keys with version {version} waits for endorsements")]
    UnknownBundle {
        /// The version.
        version: Version,
    },
    /// A signature that isn't the node's over the proposed bundle.
    #[error("the signature is not node {node}'s over the proposed bundle in this cluster and incarnation")]
    BadEndorsement {
        /// The node.
        node: NodeId,
    },
    /// A policy out of range.
    #[error("a policy must ask for 2 to {APPROVALS_REQUIRED_MAX} people; it asked for {got}")]
    PolicyOutOfRange {
        /// What came.
        got: u32,
    },
}

/// What was tried, for [`Rejection::PermissionDenied`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Change the registry.
    ChangeRegistry,
    /// Stop things.
    Stop,
    /// Ask to resume or agree to it.
    Resume,
    /// Agree to what needs a second person.
    Approve,
    /// Change people, roles or policy.
    ChangePeople,
    /// Withdraw somebody else's command.
    Withdraw,
    /// Say who may enforce.
    ChangeEnforcers,
    /// Issue credentials.
    IssueCredentials,
    /// Change the keys that nodes sign with.
    ChangeTrust,
    /// Take a copy of everything.
    BackUp,
}

/// A table of the machine, for [`Rejection::TableFull`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Table {
    /// Fleets.
    Fleets,
    /// Agents.
    Agents,
    /// People.
    People,
    /// Revocations.
    Revocations,
    /// Commands that wait for approval.
    Approvals,
    /// Join tokens.
    JoinTokens,
    /// Enforcers.
    Edges,
    /// Credentials.
    Credentials,
    /// Old values of `max_staleness`.
    OldStaleness,
}

/// A list of a person, for [`Rejection::BadCount`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PersonList {
    /// Roles.
    Roles,
    /// TLS keys.
    TlsKeys,
}

/// An id of a credential, for [`Rejection::CredentialIdTaken`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialIdName {
    /// Its own.
    Credential,
    /// Its grant's.
    Grant,
    /// Its running copy's.
    Instance,
}

/// What is wrong with a receipt, for [`Rejection::BadReceipt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiptFault {
    /// Another node signed it.
    OtherSigner,
    /// It doesn't say what the log says of this kill.
    OtherKill,
    /// Its signature or its parts don't hold.
    NotSound,
}

/// What is wrong with a bundle of keys, for [`Rejection::BadBundle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BundleFault {
    /// It isn't about the nodes of the cluster.
    Nodes,
    /// It changes nothing.
    NothingNew,
    /// Something in it is no key.
    NoKey,
    /// Two nodes would share a key.
    KeyTwice,
}

/// A duration of a kill, for [`Rejection::KillDuration`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KillDurationName {
    /// How long a drain lasts.
    Drain,
    /// How long until it expires.
    Expiry,
}

/// What makes a command a widening (design 04, People).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Widening {
    /// A limit is raised, or set above its default.
    LimitRaised,
    /// A fleet may use something it could not.
    IntentExtended,
    /// A subject is taken out of a kill by name or label.
    LeavesKill,
    /// A kill is lifted.
    KillLifted,
    /// A person is enrolled.
    PersonEnrolled,
    /// A person gains a role.
    RoleGranted,
    /// A person's keys change.
    IdentityChanged,
    /// Fewer people are asked for.
    FewerApprovals,
    /// An enforcer is let in.
    EdgeAdmitted,
    /// An enforcer gets more, or others trust it more.
    EdgeExtended,
    /// An agent gets a credential. One person suffices, with their own signature.
    CredentialIssued,
    /// The keys that enforcers trust change.
    TrustChanged,
}

macro_rules! plain_words {
    ($($name:ident { $($variant:ident => $words:literal),+ $(,)? })+) => {
        $(impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $words),+ })
            }
        })+
    };
}

plain_words! {
    Action {
        ChangeRegistry => "change the registry",
        Stop => "stop things",
        Resume => "resume",
        Approve => "approve",
        ChangePeople => "change people or policy",
        Withdraw => "withdraw another person's command",
        ChangeEnforcers => "say who may enforce",
        IssueCredentials => "issue credentials",
        ChangeTrust => "change the keys that nodes sign with",
        BackUp => "back the cluster up",
    }
    Table {
        Fleets => "fleets",
        Agents => "agents",
        People => "people",
        Revocations => "revocations",
        Approvals => "waiting approvals",
        JoinTokens => "join tokens",
        Edges => "edges and relays",
        Credentials => "credentials",
        OldStaleness => "old values of max_staleness",
    }
    PersonList { Roles => "roles", TlsKeys => "TLS keys" }
    CredentialIdName { Credential => "credential", Grant => "grant", Instance => "instance" }
    ReceiptFault {
        OtherSigner => "another node signed it",
        OtherKill => "it doesn't say what the log says of the kill",
        NotSound => "its signature or its parts don't hold",
    }
    BundleFault {
        Nodes => "it must have one key for each node of the cluster, in order, and no others",
        NothingNew => "all of them are in force already",
        NoKey => "one of them is no valid Ed25519 public key",
        KeyTwice => "two nodes would share one",
    }
    KillDurationName { Drain => "drain time", Expiry => "expiry" }
    Widening {
        LimitRaised => "a limit is raised",
        IntentExtended => "the declared intent allows more",
        LeavesKill => "a subject would leave a kill in force",
        KillLifted => "a kill is lifted",
        PersonEnrolled => "a person is enrolled",
        RoleGranted => "a role is granted",
        IdentityChanged => "a person's keys change",
        FewerApprovals => "fewer people would be asked for",
        EdgeAdmitted => "an edge or relay is let in",
        EdgeExtended => "an edge or relay gets more, or is trusted more",
        CredentialIssued => "an agent gets a credential",
        TrustChanged => "the keys that enforcers trust change",
    }
    Role {
        Viewer => "viewer",
        Responder => "responder",
        Operator => "operator",
        Approver => "approver",
        Auditor => "auditor",
        Admin => "admin",
    }
}

impl std::fmt::Display for RoleBinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}@{path}", self.role),
            None => write!(f, "{}@/", self.role),
        }
    }
}

struct At<'a>(Option<&'a FleetPath>);

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(path) => write!(f, " in `{path}`"),
            None => f.write_str(" at the root"),
        }
    }
}

struct Nearest<'a, T>(Option<&'a T>);

impl<T: std::fmt::Display> std::fmt::Display for Nearest<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => Ok(()),
        }
    }
}

/// A number that is counted no further than [`NOT_EMPTY_COUNTED_MAX`].
struct Counted(u64);

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let more = if self.0 < NOT_EMPTY_COUNTED_MAX { "" } else { " or more" };
        write!(f, "{}{more}", self.0)
    }
}

struct Any<'a>(&'a [Role]);

impl std::fmt::Display for Any<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_joined(f, self.0, " or ")
    }
}

struct Paths<'a>(&'a [FleetPath]);

impl std::fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { f.write_str("(no fleet)") } else { write_joined(f, self.0, ", ") }
    }
}

fn write_joined<T: std::fmt::Display>(
    f: &mut std::fmt::Formatter<'_>,
    items: &[T],
    separator: &str,
) -> std::fmt::Result {
    items.iter().enumerate().try_for_each(|(position, item)| {
        let separator = if position == 0 { "" } else { separator };
        write!(f, "{separator}{item}")
    })
}

impl Rejection {
    /// A stable name for programs, as `google.rpc.ErrorInfo.reason` wants it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFounded => "NOT_FOUNDED",
            Self::DeadlinePassed { .. } => "DEADLINE_PASSED",
            Self::DeadlineTooFar { .. } => "DEADLINE_TOO_FAR",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::RequestTableFull { .. } => "REQUEST_TABLE_FULL",
            Self::CommandTooLarge { .. } => "COMMAND_TOO_LARGE",
            Self::UnknownPerson { .. } => "UNKNOWN_PERSON",
            Self::UnknownNode { .. } => "UNKNOWN_NODE",
            Self::UnknownEdge { .. } => "UNKNOWN_EDGE",
            Self::CallerNotAllowed { .. } => "CALLER_NOT_ALLOWED",
            Self::PermissionDenied { .. } => "PERMISSION_DENIED",
            Self::SelectorNeedsFleet { .. } => "SELECTOR_NEEDS_FLEET",
            Self::SelectorContradiction { .. } => "SELECTOR_CONTRADICTION",
            Self::UnknownFleet { .. } => "UNKNOWN_FLEET",
            Self::UnknownAgent { .. } => "UNKNOWN_AGENT",
            Self::NothingMatches { .. } => "NOTHING_MATCHES",
            Self::PathTaken { .. } => "PATH_TAKEN",
            Self::FleetNotEmpty { .. } => "FLEET_NOT_EMPTY",
            Self::VersionMismatch { .. } => "VERSION_MISMATCH",
            Self::Policy(PolicyError::OutOfRange { .. }) => "LIMIT_OUT_OF_RANGE",
            Self::Policy(PolicyError::TooManyPatterns { .. }) => "TOO_MANY_PATTERNS",
            Self::LimitExceedsParent { .. } => "LIMIT_EXCEEDS_PARENT",
            Self::TableFull { .. } => "TABLE_FULL",
            Self::PersonExists { .. } => "PERSON_EXISTS",
            Self::NoSuchPerson { .. } => "NO_SUCH_PERSON",
            Self::KeyTaken { .. } => "KEY_TAKEN",
            Self::BadKey { .. } => "BAD_KEY",
            Self::BadCount { .. } => "BAD_COUNT",
            Self::SecondPersonMustApprove { .. } => "SECOND_PERSON_MUST_APPROVE",
            Self::TooFewApprovers { .. } => "TOO_FEW_APPROVERS",
            Self::LastAdmin { .. } => "LAST_ADMIN",
            Self::UnknownKill { .. } => "UNKNOWN_KILL",
            Self::KillChanged { .. } => "KILL_CHANGED",
            Self::KillDuration { .. } => "KILL_DURATION",
            Self::UnknownApproval { .. } => "UNKNOWN_APPROVAL",
            Self::AlreadySigned { .. } => "ALREADY_SIGNED",
            Self::SignatureRequired { .. } => "SIGNATURE_REQUIRED",
            Self::BadSignature { .. } => "BAD_SIGNATURE",
            Self::RevocationByMachineOnly => "REVOCATION_BY_MACHINE_ONLY",
            Self::JoinTokenExists { .. } => "JOIN_TOKEN_EXISTS",
            Self::UnknownJoinToken { .. } => "UNKNOWN_JOIN_TOKEN",
            Self::JoinTokenTtl { .. } => "JOIN_TOKEN_TTL",
            Self::EdgeExists { .. } => "EDGE_EXISTS",
            Self::EdgePaths { .. } => "EDGE_PATHS",
            Self::RelaysOnly { .. } => "RELAYS_ONLY",
            Self::Revoked { .. } => "REVOKED",
            Self::Killed { .. } => "KILLED",
            Self::CredentialIdTaken { .. } => "CREDENTIAL_ID_TAKEN",
            Self::CredentialTtl { .. } => "CREDENTIAL_TTL",
            Self::InstanceLimit { .. } => "INSTANCE_LIMIT",
            Self::ReceiptExists { .. } => "RECEIPT_EXISTS",
            Self::BadReceipt { .. } => "BAD_RECEIPT",
            Self::BundleVersion { .. } => "BUNDLE_VERSION",
            Self::BadBundle { .. } => "BAD_BUNDLE",
            Self::UnknownBundle { .. } => "UNKNOWN_BUNDLE",
            Self::BadEndorsement { .. } => "BAD_ENDORSEMENT",
            Self::PolicyOutOfRange { .. } => "POLICY_OUT_OF_RANGE",
        }
    }
}
