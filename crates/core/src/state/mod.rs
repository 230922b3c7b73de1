//! The machine: the replicated state and how one entry of the log changes it.
//!
//! `apply` is a function of state, stamp and batch. Each command is judged whole before anything changes, so nothing
//! half-applies; whatever is due by the entry's cluster time happens first, so that time itself is an input from the log.
//! The state lives in persistent maps: a clone is cheap, and a snapshot is a clone.

mod approvals;
mod authority;
mod bounds;
pub mod change;
mod credentials;
mod enforcers;
mod expiry;
mod kills;
mod lookups;
mod people;
mod receipts;
pub mod records;
mod registry;
mod requests;
pub mod restore;
mod revocations;
mod staleness;
pub(crate) mod tables;
mod trust_bundle;

pub use authority::Scope;
pub use bounds::Bounds;
pub use kills::BlastRadius;
pub use trust_bundle::ProposedBundle;

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use crate::{
    command::{Batch, Caller, ClusterPolicy, Command, Genesis, NodeRecord, Request, RevocationTarget},
    event::{ChainPosition, EnforcementEvent, FIRST_BUNDLE},
    ids::{
        ApprovalId, CredentialId, EdgeName, JoinTokenId, KeyHash, KillId, LogIndex, NodeId, PersonId,
        PublicKey, RequestId, Version,
    },
    path::{AgentPath, FleetPath},
    receipt::SignedReceipt,
    rejection::{Outcome, Rejection},
    time::{ClusterTime, Stamp},
    trust_history::TrustHistory,
};
use change::{Change, ChangeKind};
use records::{
    Agent, ClusterIdentity, Credential, EdgeRecord, Fleet, JoinToken, Kill, LiftedKill, PendingApproval,
    Person, Recorded, Restoration, Revocation,
};

/// The replicated state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    cluster: Option<ClusterIdentity>,
    bootstrap: bool,
    policy: ClusterPolicy,
    last: Stamp,
    chain: ChainPosition,
    #[serde(deserialize_with = "tables::read")]
    nodes: OrdMap<NodeId, NodeRecord>,
    #[serde(deserialize_with = "tables::read")]
    fleets: OrdMap<FleetPath, Fleet>,
    #[serde(deserialize_with = "tables::read")]
    agents: OrdMap<AgentPath, Agent>,
    #[serde(deserialize_with = "tables::read")]
    people: OrdMap<PersonId, Person>,
    #[serde(deserialize_with = "tables::read")]
    kills: OrdMap<KillId, Kill>,
    #[serde(deserialize_with = "tables::read")]
    lifted: OrdMap<KillId, LiftedKill>,
    next_kill: u64,
    #[serde(deserialize_with = "tables::read")]
    revocations: OrdMap<RevocationTarget, Revocation>,
    #[serde(deserialize_with = "tables::read")]
    approvals: OrdMap<ApprovalId, PendingApproval>,
    next_approval: u64,
    #[serde(deserialize_with = "tables::read")]
    // By id first: ids tell commands apart at the first byte, names mostly don't.
    requests: OrdMap<(RequestId, Caller), Recorded>,
    bundle_version: Version,
    proposed_bundle: Option<ProposedBundle>,
    #[serde(deserialize_with = "tables::read")]
    edges: OrdMap<EdgeName, EdgeRecord>,
    #[serde(deserialize_with = "tables::read")]
    join_tokens: OrdMap<JoinTokenId, JoinToken>,
    #[serde(deserialize_with = "tables::read")]
    credentials: OrdMap<CredentialId, Credential>,
    #[serde(deserialize_with = "tables::read")]
    receipts: OrdMap<KillId, SignedReceipt>,
    #[serde(deserialize_with = "tables::read")]
    old_staleness: staleness::OldStalenesses,
    trust_history: TrustHistory,
    restored: Option<Restoration>,
    /// What follows from the fields above; not encoded.
    #[serde(skip)]
    derived: Derived,
    #[serde(skip)]
    bounds: Bounds,
}

/// Indexes that are functions of the rest of the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Derived {
    due: OrdSet<(ClusterTime, Due)>,
    key_owners: KeyOwners,
    signing_key_owners: OrdMap<PublicKey, KeyOwner>,
    requests_of: OrdMap<Caller, usize>,
    /// How many requests are remembered, also in [`State::for_readers`].
    remembered: usize,
    live: credentials::Live,
    staleness: staleness::StalenessIndex,
    labelled: lookups::LabelIndex,
    kills: lookups::KillIndex,
}

/// What happens by itself at some cluster time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    DrainEnds(KillId),
    KillExpires(KillId),
    RevocationEnds(RevocationTarget),
    ApprovalLapses(ApprovalId),
    RequestForgotten(RequestId, Caller),
    JoinTokenExpires(JoinTokenId),
    CredentialEnds(CredentialId),
    StalenessForgotten(FleetPath),
}

/// Whose a key is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyOwner {
    /// A person's.
    Person(PersonId),
    /// A node's.
    Node(NodeId),
    /// An enforcer's.
    Edge(EdgeName),
}

/// Whose each registered TLS key is.
pub type KeyOwners = OrdMap<KeyHash, KeyOwner>;

impl std::fmt::Display for KeyOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Person(person) => write!(f, "{person}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Edge(edge) => write!(f, "edge {edge}"),
        }
    }
}

/// What applying one entry did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// One for each request of the batch, in its order.
    pub results: Vec<Result<Outcome, Rejection>>,
    /// What edges learn from it, in order.
    pub events: Vec<EnforcementEvent>,
    /// What people learn from it, in order.
    pub changes: Vec<Change>,
}

/// Who does something at which entry, and what comes of it.
struct Effects {
    stamp: Stamp,
    /// `None` while the machine acts by itself.
    caller: Option<Caller>,
    events: Vec<EnforcementEvent>,
    changes: Vec<Change>,
}

impl Effects {
    fn changed(&mut self, kind: ChangeKind) {
        self.changes.push(Change { caller: self.caller.clone(), kind });
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// The state before the first entry.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cluster: None,
            bootstrap: true,
            policy: ClusterPolicy::default(),
            last: Stamp::default(),
            chain: ChainPosition::default(),
            nodes: OrdMap::new(),
            fleets: OrdMap::new(),
            agents: OrdMap::new(),
            people: OrdMap::new(),
            kills: OrdMap::new(),
            lifted: OrdMap::new(),
            next_kill: 0,
            revocations: OrdMap::new(),
            approvals: OrdMap::new(),
            next_approval: 0,
            requests: OrdMap::new(),
            bundle_version: Version(0),
            proposed_bundle: None,
            edges: OrdMap::new(),
            join_tokens: OrdMap::new(),
            credentials: OrdMap::new(),
            receipts: OrdMap::new(),
            old_staleness: OrdMap::new(),
            trust_history: TrustHistory::default(),
            restored: None,
            derived: Derived::default(),
            bounds: Bounds::default(),
        }
    }

    /// The state before the first entry, with tables of other sizes. For tests; see [`Bounds`].
    #[must_use]
    pub fn with_bounds(bounds: Bounds) -> Self {
        Self { bounds, ..Self::new() }
    }

    /// Applies one entry of the log. Cluster time never goes back, whatever the batch says.
    pub fn apply(&mut self, index: LogIndex, batch: &Batch) -> Applied {
        let cluster_time = batch.cluster_time.max(self.last.cluster_time);
        self.last = Stamp { index, cluster_time, wall_time: batch.wall_time };
        let mut effects = Effects { stamp: self.last, caller: None, events: Vec::new(), changes: Vec::new() };
        if let Some(genesis) = &batch.genesis
            && self.cluster.is_none()
        {
            self.found(genesis, &mut effects);
        }
        self.replaced_up_to(batch.applied);
        self.let_time_pass(&mut effects);
        let results = batch.requests.iter().map(|request| self.answer(request, &mut effects)).collect();
        Applied { results, events: effects.events, changes: effects.changes }
    }

    /// Founds the cluster. A second genesis changes nothing, so that every founding node may propose it.
    fn found(&mut self, genesis: &Genesis, effects: &mut Effects) {
        let identity = ClusterIdentity {
            id: genesis.cluster_id,
            incarnation: genesis.incarnation,
            trust_bundle: genesis.trust_bundle,
        };
        self.cluster = Some(identity);
        self.bundle_version = FIRST_BUNDLE;
        let founded =
            EnforcementEvent::Founded { cluster_id: genesis.cluster_id, incarnation: genesis.incarnation };
        self.emit(founded, effects);
        for node in &genesis.nodes {
            self.nodes.insert(node.id, node.clone());
            self.emit(EnforcementEvent::NodeKeySet { node: node.id, key: node.signing_key }, effects);
        }
        let admin = &genesis.first_admin;
        self.people.insert(admin.person.clone(), Person::enrolled(admin, effects.stamp));
        self.rebuild_derived();
        effects.changed(ChangeKind::Founded { cluster: genesis.cluster_id });
    }

    /// Extends the chain by one event.
    fn emit(&mut self, event: EnforcementEvent, effects: &mut Effects) {
        self.chain = self.chain.after(&event);
        effects.events.push(event);
    }

    /// Carries out a command whose caller, signatures and approvals have been judged. Checks first, then changes.
    fn perform(&mut self, request: &Request, effects: &mut Effects) -> Result<Outcome, Rejection> {
        effects.caller = Some(request.caller.clone());
        match &request.command {
            Command::FleetCreate(command) => self.create_fleet(command, effects),
            Command::FleetUpdate(command) => self.update_fleet(command, effects),
            Command::FleetDelete(command) => self.delete_fleet(command, effects),
            Command::AgentRegister(command) => self.register_agent(command, effects),
            Command::AgentUpdate(command) => self.update_agent(command, effects),
            Command::AgentDelete(command) => self.delete_agent(command, effects),
            Command::PersonAdd(command) => self.add_person(command, effects),
            Command::PersonUpdate(command) => self.update_person(command, effects),
            Command::PersonRemove(command) => self.remove_person(command, effects),
            Command::Kill(command) => self.kill(request.person()?, command, effects),
            Command::Resume(command) => self.resume(command, effects),
            Command::Approve(command) => self.approve(request, command, effects),
            Command::Withdraw(command) => self.withdraw(request.person()?, command, effects),
            Command::Revoke(command) => self.revoke(request.person()?, command, effects),
            Command::PolicyUpdate(policy) => self.update_policy(*policy, effects),
            Command::JoinTokenCreate(command) => self.create_join_token(request.person()?, command, effects),
            Command::JoinTokenDelete(command) => self.delete_join_token(command, effects),
            Command::EdgeEnrol(command) => self.enrol_edge(command, effects),
            Command::EdgeUpdate(command) => self.update_edge(command, effects),
            Command::EdgeRemove(command) => self.remove_edge(command, effects),
            Command::CredentialIssue(command) => self.issue_credential(request.person()?, command, effects),
            Command::ReceiptRecord(signed) => self.record_receipt(request.node()?, signed, effects),
            Command::BundlePropose(command) => self.propose_bundle(command, effects),
            Command::BundleEndorse(command) => self.endorse_bundle(request.node()?, command, effects),
        }
    }

    /// Rebuilds what isn't encoded.
    pub(crate) fn rebuild_derived(&mut self) {
        let mut derived = Derived::default();
        for (id, kill) in &self.kills {
            derived.due.extend(kill.drain_ends.map(|time| (time, Due::DrainEnds(*id))));
            derived.due.extend(kill.expires.map(|time| (time, Due::KillExpires(*id))));
            derived.kills.insert(*id, kill);
        }
        for (path, fleet) in &self.fleets {
            derived.labelled.relabel_fleet(path, None, Some(&fleet.labels));
        }
        for (path, agent) in &self.agents {
            derived.labelled.relabel_agent(path, None, Some(&agent.labels));
        }
        for (target, revocation) in &self.revocations {
            derived.due.insert((revocation.ends, Due::RevocationEnds(target.clone())));
        }
        for (id, token) in &self.join_tokens {
            derived.due.insert((token.expires, Due::JoinTokenExpires(*id)));
        }
        for (id, credential) in &self.credentials {
            derived.due.insert((credential.ends, Due::CredentialEnds(*id)));
            derived.live.insert(*id, credential);
        }
        for (id, approval) in &self.approvals {
            derived.due.insert((approval.request.deadline, Due::ApprovalLapses(*id)));
        }
        for ((id, caller), recorded) in &self.requests {
            derived.due.insert((recorded.until, Due::RequestForgotten(*id, caller.clone())));
            *derived.requests_of.entry(caller.clone()).or_default() += 1;
        }
        derived.remembered = self.requests.len();
        for (id, node) in &self.nodes {
            derived.key_owners.insert(node.key_hash, KeyOwner::Node(*id));
            derived.signing_key_owners.insert(node.signing_key, KeyOwner::Node(*id));
        }
        for (name, edge) in &self.edges {
            derived.key_owners.insert(edge.key, KeyOwner::Edge(name.clone()));
        }
        self.derived = derived;
        self.rebuild_staleness();
        for (id, person) in self.people.clone() {
            self.index_keys(&id, &person);
        }
    }

    /// Whether the first entry was applied.
    #[must_use]
    pub fn is_founded(&self) -> bool {
        self.cluster.is_some()
    }

    /// Which cluster this is, once founded.
    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterIdentity> {
        self.cluster.as_ref()
    }

    /// Whether one person still suffices for everything.
    #[must_use]
    pub fn is_bootstrap(&self) -> bool {
        self.bootstrap
    }

    /// How many people it takes.
    #[must_use]
    pub fn policy(&self) -> ClusterPolicy {
        self.policy
    }

    /// Stamp of the last entry applied.
    #[must_use]
    pub fn last_stamp(&self) -> Stamp {
        self.last
    }

    /// Where the chain of enforcement events stands.
    #[must_use]
    pub fn chain(&self) -> ChainPosition {
        self.chain
    }

    /// Nodes by number.
    #[must_use]
    pub fn nodes(&self) -> &OrdMap<NodeId, NodeRecord> {
        &self.nodes
    }

    /// Fleets by path.
    #[must_use]
    pub fn fleets(&self) -> &OrdMap<FleetPath, Fleet> {
        &self.fleets
    }

    /// Agents by path.
    #[must_use]
    pub fn agents(&self) -> &OrdMap<AgentPath, Agent> {
        &self.agents
    }

    /// People by name.
    #[must_use]
    pub fn people(&self) -> &OrdMap<PersonId, Person> {
        &self.people
    }

    /// Kills in force.
    #[must_use]
    pub fn kills(&self) -> &OrdMap<KillId, Kill> {
        &self.kills
    }

    /// Kills lifted lately, at most [`crate::limits::LIFTED_KILLS_MAX`].
    #[must_use]
    pub fn lifted_kills(&self) -> &OrdMap<KillId, LiftedKill> {
        &self.lifted
    }

    /// Revocations in force.
    #[must_use]
    pub fn revocations(&self) -> &OrdMap<RevocationTarget, Revocation> {
        &self.revocations
    }

    /// Commands that wait for more people.
    #[must_use]
    pub fn approvals(&self) -> &OrdMap<ApprovalId, PendingApproval> {
        &self.approvals
    }

    /// Enforcers by name.
    #[must_use]
    pub fn edges(&self) -> &OrdMap<EdgeName, EdgeRecord> {
        &self.edges
    }

    /// Join tokens that are neither used nor expired.
    #[must_use]
    pub fn join_tokens(&self) -> &OrdMap<JoinTokenId, JoinToken> {
        &self.join_tokens
    }

    /// Credentials that have not ended, revoked ones included.
    #[must_use]
    pub fn credentials(&self) -> &OrdMap<CredentialId, Credential> {
        &self.credentials
    }

    /// The version of the bundle of keys that nodes sign statements with; 1 from the founding on.
    #[must_use]
    pub fn bundle_version(&self) -> Version {
        self.bundle_version
    }

    /// How many command ids are remembered.
    #[must_use]
    pub fn requests_len(&self) -> usize {
        self.derived.remembered
    }

    /// A copy to look at, which must not be applied to: without the table of command ids and what is due. Every command
    /// changes pages of those at random places; as long as the machine is their only owner it changes them in place,
    /// instead of copying each page that a reader might still look at.
    #[must_use]
    pub fn for_readers(&self) -> Self {
        let Self { cluster, nodes, fleets, agents, people, kills, lifted, revocations, approvals, .. } = self;
        let Self { edges, join_tokens, credentials, .. } = self;
        let derived = Derived {
            due: OrdSet::new(),
            key_owners: self.derived.key_owners.clone(),
            signing_key_owners: self.derived.signing_key_owners.clone(),
            requests_of: OrdMap::new(),
            remembered: self.derived.remembered,
            live: self.derived.live.clone(),
            staleness: self.derived.staleness.clone(),
            labelled: self.derived.labelled.clone(),
            kills: self.derived.kills.clone(),
        };
        Self {
            cluster: cluster.clone(),
            bootstrap: self.bootstrap,
            policy: self.policy,
            last: self.last,
            chain: self.chain,
            nodes: nodes.clone(),
            fleets: fleets.clone(),
            agents: agents.clone(),
            people: people.clone(),
            kills: kills.clone(),
            lifted: lifted.clone(),
            next_kill: self.next_kill,
            revocations: revocations.clone(),
            approvals: approvals.clone(),
            next_approval: self.next_approval,
            requests: OrdMap::new(),
            bundle_version: self.bundle_version,
            proposed_bundle: self.proposed_bundle.clone(),
            receipts: self.receipts.clone(),
            old_staleness: self.old_staleness.clone(),
            trust_history: self.trust_history.clone(),
            restored: self.restored,
            edges: edges.clone(),
            join_tokens: join_tokens.clone(),
            credentials: credentials.clone(),
            derived,
            bounds: self.bounds,
        }
    }

    /// Whose each TLS key is. A copy of this alone is enough to tell who calls.
    #[must_use]
    pub fn key_owners(&self) -> &KeyOwners {
        &self.derived.key_owners
    }

    /// The person that a TLS key belongs to.
    #[must_use]
    pub fn person_by_key(&self, key: &KeyHash) -> Option<&PersonId> {
        match self.derived.key_owners.get(key) {
            Some(KeyOwner::Person(person)) => Some(person),
            _ => None,
        }
    }

    /// The enforcer that a TLS key belongs to.
    #[must_use]
    pub fn edge_by_key(&self, key: &KeyHash) -> Option<&EdgeName> {
        match self.derived.key_owners.get(key) {
            Some(KeyOwner::Edge(edge)) => Some(edge),
            _ => None,
        }
    }

    /// The node that a TLS key belongs to.
    #[must_use]
    pub fn node_by_key(&self, key: &KeyHash) -> Option<NodeId> {
        match self.derived.key_owners.get(key) {
            Some(KeyOwner::Node(node)) => Some(*node),
            _ => None,
        }
    }
}
