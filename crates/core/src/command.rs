//! Commands: everything that people and nodes may ask of the machine, as it stands in the log.
//!
//! The encoding of a command in the log, and under a person's signature, is postcard's (a frozen, specified format). So
//! these types only ever grow at the end: new variants after the last, never a changed field. A golden test pins them.

mod credentials;
mod enforcers;

pub use credentials::CredentialIssue;
pub use enforcers::{
    BundleEndorse, BundlePropose, EdgeEnrol, EdgeRemove, EdgeUpdate, EnforcerKind, JoinProof,
    JoinTokenCreate, JoinTokenDelete,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    ids::{
        ApprovalId, ClusterId, CredentialId, Digest, GrantId, Incarnation, InstanceId, KeyHash, KillId,
        LogIndex, NodeId, PersonId, PublicKey, RequestId, Version,
    },
    path::{AgentPath, FleetPath},
    policy::{Intent, Limits},
    receipt::SignedReceipt,
    rejection::Rejection,
    selector::Selector,
    text::{Labels, Reason, Text},
    time::{ClusterTime, Millis, WallTime},
};

pub use crate::caller::Caller;

/// One command with all that the machine needs to judge it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The client's name for it; a retry carries the same one.
    pub id: RequestId,
    /// Who asks.
    pub caller: Caller,
    /// When the command lapses, in cluster time: unexecuted, or still waiting for approval.
    pub deadline: ClusterTime,
    /// The person's own signature over the [`Statement`]; needed where the command widens.
    pub signature: Option<Signature>,
    /// What is asked.
    pub command: Command,
}

impl Request {
    /// The person who asks.
    ///
    /// # Errors
    /// [`Rejection::CallerNotAllowed`] if it isn't a person.
    pub fn person(&self) -> Result<&PersonId, Rejection> {
        self.caller.person().ok_or_else(|| self.caller_not_allowed())
    }

    /// The node that asks.
    pub(crate) fn node(&self) -> Result<NodeId, Rejection> {
        match self.caller {
            Caller::Node(node) => Ok(node),
            Caller::Person(_) | Caller::Edge(_) => Err(self.caller_not_allowed()),
        }
    }

    pub(crate) fn caller_not_allowed(&self) -> Rejection {
        Rejection::CallerNotAllowed { caller: self.caller.clone(), command: self.command.name().into() }
    }
}

/// One entry of the log: commands that arrived together, stamped when the batch closed. No commands: a tick.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Cluster time when the batch closed.
    pub cluster_time: ClusterTime,
    /// The leader's wall clock then.
    pub wall_time: WallTime,
    /// The commands, in order.
    pub requests: Vec<Request>,
    /// The founding of the cluster; only the very first batch carries it.
    pub genesis: Option<Box<Genesis>>,
    /// How far the leader had applied the log when the batch closed. What stands there was in force before the batch's
    /// stamp was issued; an entry's own stamp may be much older than its commit.
    pub applied: LogIndex,
}

/// An Ed25519 signature (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature(#[serde(with = "signature_bytes")] pub [u8; 64]);

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

mod signature_bytes {
    //! serde stops at arrays of 32, so a signature is stored as two halves.
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 64], serializer: S) -> Result<S::Ok, S::Error> {
        let (low, high) = bytes.split_at(32);
        let half = |slice: &[u8]| -> [u8; 32] { slice.try_into().expect("half of 64 bytes") };
        (half(low), half(high)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 64], D::Error> {
        let (low, high) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&low);
        bytes[32..].copy_from_slice(&high);
        Ok(bytes)
    }
}

/// What can be asked of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Creates a fleet.
    FleetCreate(FleetCreate),
    /// Changes a fleet.
    FleetUpdate(FleetUpdate),
    /// Deletes a fleet that holds no agents and no fleets.
    FleetDelete(FleetDelete),
    /// Registers an agent: what may run.
    AgentRegister(AgentRegister),
    /// Changes an agent's labels.
    AgentUpdate(AgentUpdate),
    /// Deletes an agent.
    AgentDelete(AgentDelete),
    /// Enrols a person.
    PersonAdd(PersonAdd),
    /// Changes what a person may do.
    PersonUpdate(PersonUpdate),
    /// Removes a person, and with it all of their keys.
    PersonRemove(PersonRemove),
    /// Stops what a selector names.
    Kill(KillCommand),
    /// Lifts a kill.
    Resume(Resume),
    /// Agrees to a command that waits for a second person.
    Approve(Approve),
    /// Takes back, or turns down, a command that waits for a second person.
    Withdraw(Withdraw),
    /// Ends a credential, grant, instance or key for good.
    Revoke(Revoke),
    /// Changes how many people resuming and widening need.
    PolicyUpdate(ClusterPolicy),
    /// Makes a one-time token that admits one enforcer.
    JoinTokenCreate(JoinTokenCreate),
    /// Deletes a token that wasn't used.
    JoinTokenDelete(JoinTokenDelete),
    /// Admits an enforcer with its key, by a token. Asked by the node that the enforcer turned to.
    EdgeEnrol(EdgeEnrol),
    /// Changes where an enforcer enforces, and how far it is trusted.
    EdgeUpdate(EdgeUpdate),
    /// Removes an enforcer, and with it its key.
    EdgeRemove(EdgeRemove),
    /// Issues a credential to a running copy of an agent.
    CredentialIssue(CredentialIssue),
    /// Keeps the receipt of a kill. Asked by the node that signed it.
    ReceiptRecord(Box<SignedReceipt>),
    /// Proposes new keys that nodes sign statements with.
    BundlePropose(BundlePropose),
    /// Endorses proposed keys. Asked by the node that does.
    BundleEndorse(BundleEndorse),
}

/// Founds the cluster: who is a node, and who the first person is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// The cluster's id, chosen at random.
    pub cluster_id: ClusterId,
    /// 0 for a new cluster.
    pub incarnation: Incarnation,
    /// Hash of the trust bundle that was made with the cluster.
    pub trust_bundle: Digest,
    /// The founding nodes.
    pub nodes: Vec<NodeRecord>,
    /// The first person, an admin of everything.
    pub first_admin: PersonAdd,
}

/// A node as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its number in the cluster.
    pub id: NodeId,
    /// Its name, for people.
    pub name: Text,
    /// Hash of its TLS key: what its authority hangs on.
    pub key_hash: KeyHash,
    /// What it signs statements with.
    pub signing_key: PublicKey,
}

/// See [`Command::FleetCreate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetCreate {
    /// Where. Its parent must exist, unless it is at the top.
    pub path: FleetPath,
    /// Labels, inherited by all below.
    pub labels: Labels,
    /// Who answers for it.
    pub owner: Text,
    /// How to reach them.
    pub contact: Text,
    /// What it is for.
    pub intent: Intent,
    /// What it is limited to.
    pub limits: Limits,
}

/// See [`Command::FleetUpdate`]. A field that is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetUpdate {
    /// Which fleet.
    pub path: FleetPath,
    /// Refused unless the fleet is at this version.
    pub expected_version: Option<Version>,
    /// New labels, all of them.
    pub labels: Option<Labels>,
    /// New owner.
    pub owner: Option<Text>,
    /// New contact.
    pub contact: Option<Text>,
    /// New intent, whole.
    pub intent: Option<Intent>,
    /// New limits, whole.
    pub limits: Option<Limits>,
}

/// See [`Command::FleetDelete`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetDelete {
    /// Which fleet.
    pub path: FleetPath,
    /// Refused unless the fleet is at this version.
    pub expected_version: Option<Version>,
}

/// See [`Command::AgentRegister`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRegister {
    /// Where. Its fleet must exist.
    pub path: AgentPath,
    /// Labels of its own.
    pub labels: Labels,
}

/// See [`Command::AgentUpdate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentUpdate {
    /// Which agent.
    pub path: AgentPath,
    /// New labels, all of them.
    pub labels: Labels,
    /// Refused unless the agent is at this version.
    pub expected_version: Option<Version>,
}

/// See [`Command::AgentDelete`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentDelete {
    /// Which agent.
    pub path: AgentPath,
    /// Refused unless the agent is at this version.
    pub expected_version: Option<Version>,
}

/// What a person may do, in a subtree or (without a path) everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoleBinding {
    /// The role.
    pub role: Role,
    /// The subtree; `None` is the root.
    pub path: Option<FleetPath>,
}

/// Roles of people (design 04, People).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Sees.
    Viewer,
    /// May stop anything in its subtree, may start nothing.
    Responder,
    /// Registry and budgets; may stop, may ask to resume.
    Operator,
    /// May agree to what needs a second person.
    Approver,
    /// Decision log with reasoning.
    Auditor,
    /// All of the above but [`Role::Auditor`]'s reasoning, and people.
    Admin,
}

/// See [`Command::PersonAdd`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonAdd {
    /// Their name.
    pub person: PersonId,
    /// Hashes of their TLS keys.
    pub tls_keys: Vec<KeyHash>,
    /// What they sign with.
    pub signing_key: PublicKey,
    /// What they may do.
    pub roles: Vec<RoleBinding>,
}

/// See [`Command::PersonUpdate`]. A field that is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonUpdate {
    /// Who.
    pub person: PersonId,
    /// New TLS keys, all of them.
    pub tls_keys: Option<Vec<KeyHash>>,
    /// New signing key.
    pub signing_key: Option<PublicKey>,
    /// New roles, all of them.
    pub roles: Option<Vec<RoleBinding>>,
}

/// See [`Command::PersonRemove`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonRemove {
    /// Who.
    pub person: PersonId,
}

/// How a kill stops (design 02, What a kill does).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KillMode {
    /// No new credentials or sessions; what runs may go on for so long, then it is frozen.
    Drain(Millis),
    /// Denied; resumable.
    Freeze,
    /// Denied, and every outstanding credential of the target is revoked for good.
    Terminate,
}

/// See [`Command::Kill`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillCommand {
    /// What to stop.
    pub selector: Selector,
    /// How.
    pub mode: KillMode,
    /// Why. Mandatory.
    pub reason: Reason,
    /// Lifts itself after so long, fixed now.
    pub expires_after: Option<Millis>,
}

/// See [`Command::Resume`]. The signature over it binds this kill and this selector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Which kill.
    pub kill: KillId,
    /// Its selector, as the person saw it when signing.
    pub selector: Selector,
    /// Why.
    pub reason: Reason,
}

/// See [`Command::Approve`]. The request's signature is over the *waiting* command's [`Statement`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approve {
    /// What is agreed to.
    pub approval: ApprovalId,
}

/// See [`Command::Withdraw`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdraw {
    /// What is turned down.
    pub approval: ApprovalId,
}

/// What a revocation ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RevocationTarget {
    /// One credential.
    Credential(CredentialId),
    /// A grant and everything that descends from it.
    Grant(GrantId),
    /// One running copy.
    Instance(InstanceId),
    /// A key: whatever it signed or is bound to.
    Key(KeyHash),
    /// Credentials of what a terminating kill named, issued before it was lifted. Made by the machine only.
    Terminated(KillId),
}

/// See [`Command::Revoke`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// What to end.
    pub target: RevocationTarget,
    /// Why. Mandatory.
    pub reason: Reason,
}

/// How many people it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPolicy {
    /// Distinct people who must sign before a kill is lifted; the one who asks counts.
    pub approvals_to_resume: u32,
    /// Distinct people who must sign before anything else widens; the one who asks counts.
    pub approvals_to_widen: u32,
}

impl Default for ClusterPolicy {
    fn default() -> Self {
        Self { approvals_to_resume: 2, approvals_to_widen: 2 }
    }
}

impl Command {
    /// The command's name, as logs, metrics and errors show it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::FleetCreate(_) => "fleet_create",
            Self::FleetUpdate(_) => "fleet_update",
            Self::FleetDelete(_) => "fleet_delete",
            Self::AgentRegister(_) => "agent_register",
            Self::AgentUpdate(_) => "agent_update",
            Self::AgentDelete(_) => "agent_delete",
            Self::PersonAdd(_) => "person_add",
            Self::PersonUpdate(_) => "person_update",
            Self::PersonRemove(_) => "person_remove",
            Self::Kill(_) => "kill",
            Self::Resume(_) => "resume",
            Self::Approve(_) => "approve",
            Self::Withdraw(_) => "withdraw",
            Self::Revoke(_) => "revoke",
            Self::PolicyUpdate(_) => "policy_update",
            Self::JoinTokenCreate(_) => "join_token_create",
            Self::JoinTokenDelete(_) => "join_token_delete",
            Self::EdgeEnrol(_) => "edge_enrol",
            Self::EdgeUpdate(_) => "edge_update",
            Self::EdgeRemove(_) => "edge_remove",
            Self::CredentialIssue(_) => "credential_issue",
            Self::ReceiptRecord(_) => "receipt_record",
            Self::BundlePropose(_) => "bundle_propose",
            Self::BundleEndorse(_) => "bundle_endorse",
        }
    }

    /// Whether only nodes ask for it, by themselves.
    #[must_use]
    pub const fn is_by_node(&self) -> bool {
        match self {
            Self::FleetCreate(_)
            | Self::FleetUpdate(_)
            | Self::FleetDelete(_)
            | Self::AgentRegister(_)
            | Self::AgentUpdate(_)
            | Self::AgentDelete(_)
            | Self::PersonAdd(_)
            | Self::PersonUpdate(_)
            | Self::PersonRemove(_)
            | Self::Kill(_)
            | Self::Resume(_)
            | Self::Approve(_)
            | Self::Withdraw(_)
            | Self::Revoke(_)
            | Self::PolicyUpdate(_)
            | Self::JoinTokenCreate(_)
            | Self::JoinTokenDelete(_)
            | Self::EdgeUpdate(_)
            | Self::EdgeRemove(_)
            | Self::CredentialIssue(_)
            | Self::BundlePropose(_) => false,
            Self::EdgeEnrol(_) | Self::ReceiptRecord(_) | Self::BundleEndorse(_) => true,
        }
    }

    /// Whether the proposer gives it the fast lane, and full tables don't refuse it.
    #[must_use]
    pub const fn is_kill(&self) -> bool {
        matches!(self, Self::Kill(_))
    }

    /// SHA-256 of the canonical encoding.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(canonical(self)).into())
    }
}

/// Room for most commands and events, so that encoding them doesn't grow a buffer step by step.
const TYPICAL_BYTES: usize = 256;

/// The canonical encoding of any value of this crate: postcard's.
pub(crate) fn canonical<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, Vec::with_capacity(TYPICAL_BYTES))
        .expect("values of this crate are plain data, which postcard always encodes")
}

/// What a person signs to make a command widen: bound to cluster, incarnation, request and deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The request's id.
    pub request_id: RequestId,
    /// Who asks; approvers sign the same statement.
    pub requester: &'a PersonId,
    /// When it lapses, in cluster time.
    pub deadline: ClusterTime,
    /// The command.
    pub command: &'a Command,
}

impl Statement<'_> {
    /// The bytes to sign: a domain, then fixed-size fields, then the name with its length, then the command's digest.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let name = self.requester.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(128 + name.len());
        bytes.extend_from_slice(b"haltline/v1/command\0");
        bytes.extend_from_slice(&self.cluster_id.0);
        bytes.extend_from_slice(&self.incarnation.0.to_be_bytes());
        bytes.extend_from_slice(&self.request_id.0);
        bytes.extend_from_slice(&self.deadline.0.to_be_bytes());
        bytes.extend_from_slice(&(name.len() as u64).to_be_bytes());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&self.command.digest().0);
        bytes
    }
}
