//! The reference: the machine once more, written from the design as plainly as possible and as slowly as it may be.
//!
//! Plain maps and lists, linear scans, no index, no queue of what is due: every question is answered by looking at
//! everything. It borrows the machine's vocabulary (commands, records, outcomes) and none of its logic.

mod approvals;
mod credentials;
mod enforcers;
pub(crate) mod kills;
mod people;
pub(crate) mod registry;
mod staleness;
mod widening;

use std::collections::BTreeMap;

use haltline_core::{
    command::{Batch, Caller, ClusterPolicy, Command, NodeRecord, Request, RevocationTarget},
    ids::{ApprovalId, CredentialId, EdgeName, JoinTokenId, KillId, LogIndex, PersonId, RequestId},
    limits::{APPROVAL_LIFETIME_MAX, COMMAND_BYTES_MAX, REQUEST_LIFETIME_MAX},
    path::{AgentPath, FleetPath},
    receipt::SignedReceipt,
    rejection::Outcome,
    state::records::{
        Agent, ClusterIdentity, Credential, EdgeRecord, Fleet, JoinToken, Kill, LiftedKill, PendingApproval,
        Person, Revocation,
    },
    time::{ClusterTime, Stamp},
};

/// What a command was answered: something good, or the code of the rejection.
pub(crate) type Answer = Result<Told, &'static str>;

/// What carrying out a command by itself gave.
pub(crate) type Done = Result<Outcome, &'static str>;

/// A good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// Done, or executed by the last approval, or waiting.
    Done(Outcome),
    /// The last approval arrived, and then the command was refused after all, with this code.
    RefusedInTheEnd(ApprovalId, &'static str),
}

/// An answer that is remembered.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) caller: Caller,
    pub(crate) id: RequestId,
    pub(crate) command: Command,
    pub(crate) answer: Answer,
    pub(crate) until: ClusterTime,
}

/// The whole state, in the plainest form.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) cluster: Option<ClusterIdentity>,
    pub(crate) was_joined: bool,
    pub(crate) policy: ClusterPolicy,
    pub(crate) now: Stamp,
    pub(crate) nodes: Vec<NodeRecord>,
    pub(crate) fleets: BTreeMap<FleetPath, Fleet>,
    pub(crate) agents: BTreeMap<AgentPath, Agent>,
    pub(crate) people: BTreeMap<PersonId, Person>,
    pub(crate) kills: BTreeMap<KillId, Kill>,
    pub(crate) lifted: BTreeMap<KillId, LiftedKill>,
    pub(crate) kills_ever: u64,
    pub(crate) revocations: BTreeMap<RevocationTarget, Revocation>,
    pub(crate) approvals: BTreeMap<ApprovalId, PendingApproval>,
    pub(crate) approvals_ever: u64,
    pub(crate) answered: Vec<Answered>,
    pub(crate) tokens: BTreeMap<JoinTokenId, JoinToken>,
    pub(crate) edges: BTreeMap<EdgeName, EdgeRecord>,
    pub(crate) credentials: BTreeMap<CredentialId, Credential>,
    pub(crate) receipts: BTreeMap<KillId, SignedReceipt>,
    pub(crate) bundle_version: u64,
    pub(crate) proposed: Option<enforcers::Proposed>,
    /// What fleets set, now and as long as leases can rest on it.
    era: staleness::Era,
    eras: Vec<staleness::Era>,
    /// How many answers came from memory.
    pub(crate) repeats: usize,
}

impl Model {
    /// Applies one entry of the log.
    pub(crate) fn apply(&mut self, index: LogIndex, batch: &Batch) -> Vec<Answer> {
        let cluster_time = batch.cluster_time.max(self.now.cluster_time);
        self.now = Stamp { index, cluster_time, wall_time: batch.wall_time };
        if self.cluster.is_none()
            && let Some(genesis) = &batch.genesis
        {
            self.cluster = Some(ClusterIdentity {
                id: genesis.cluster_id,
                incarnation: genesis.incarnation,
                trust_bundle: genesis.trust_bundle,
            });
            self.nodes.clone_from(&genesis.nodes);
            self.bundle_version = 1;
            self.enrol(&genesis.first_admin);
        }
        self.see_applied(batch.applied);
        self.let_time_pass();
        let answers = batch.requests.iter().map(|request| self.answer(request)).collect();
        self.note_era();
        answers
    }

    /// Until a second person is enrolled, one person suffices.
    pub(crate) fn is_bootstrap(&self) -> bool {
        !self.was_joined
    }

    fn let_time_pass(&mut self) {
        let now = self.now.cluster_time;
        let is_due = |time: Option<ClusterTime>| time.is_some_and(|time| time <= now);
        for kill in self.kills.values_mut() {
            // A drain that ends no sooner than the kill lifts itself never froze anything.
            if is_due(kill.drain_ends) && kill.expires.is_none_or(|end| Some(end) >= kill.drain_ends) {
                kill.drain_ends = None;
                kill.denies_from = Some(self.now.index);
                kill.mode = haltline_core::command::KillMode::Freeze;
            }
        }
        self.revocations.retain(|_, revocation| revocation.ends > now);
        let expired: Vec<KillId> =
            self.kills.iter().filter(|(_, kill)| is_due(kill.expires)).map(|(id, _)| *id).collect();
        for kill in expired {
            self.lift(kill, None);
        }
        self.approvals.retain(|_, waiting| waiting.request.deadline > now);
        self.answered.retain(|answered| answered.until > now);
        self.tokens.retain(|_, token| token.expires > now);
        self.credentials.retain(|_, credential| credential.ends > now);
    }

    /// One request, once.
    fn answer(&mut self, request: &Request) -> Answer {
        if self.cluster.is_none() {
            return Err("NOT_FOUNDED");
        }
        if postcard::to_stdvec(&request.command).unwrap().len() > COMMAND_BYTES_MAX {
            return Err("COMMAND_TOO_LARGE");
        }
        let deadline_is_fine = self.check_deadline(request);
        let before =
            self.answered.iter_mut().find(|row| row.caller == request.caller && row.id == request.id);
        if let Some(before) = before {
            if before.command != request.command {
                return Err("REQUEST_ID_REUSED");
            }
            if deadline_is_fine.is_ok() {
                before.until = before.until.max(request.deadline);
            }
            self.repeats += 1;
            return before.answer.clone();
        }
        deadline_is_fine?;
        match &request.caller {
            Caller::Person(person) if !self.people.contains_key(person) => return Err("UNKNOWN_PERSON"),
            Caller::Node(node) if !self.nodes.iter().any(|known| known.id == *node) => {
                return Err("UNKNOWN_NODE");
            }
            Caller::Edge(edge) if !self.edges.contains_key(edge) => return Err("UNKNOWN_EDGE"),
            Caller::Person(_) | Caller::Node(_) | Caller::Edge(_) => {}
        }
        let answer = self.judge(request);
        self.answered.push(Answered {
            caller: request.caller.clone(),
            id: request.id,
            command: request.command.clone(),
            answer: answer.clone(),
            until: request.deadline,
        });
        answer
    }

    fn check_deadline(&self, request: &Request) -> Result<(), &'static str> {
        let now = self.now.cluster_time.0;
        let max = if request.signature.is_some() { APPROVAL_LIFETIME_MAX } else { REQUEST_LIFETIME_MAX };
        match request.deadline.0 {
            deadline if deadline <= now => Err("DEADLINE_PASSED"),
            deadline if deadline - now > max.0 => Err("DEADLINE_TOO_FAR"),
            _ => Ok(()),
        }
    }

    /// Carries a command out. A refusal leaves everything as it was.
    fn perform(&mut self, request: &Request) -> Answer {
        if let Caller::Node(node) = request.caller {
            let done = match &request.command {
                Command::EdgeEnrol(command) => self.enrol_edge(command),
                Command::ReceiptRecord(signed) => self.record_receipt(node, signed),
                Command::BundleEndorse(command) => self.endorse_bundle(node, command),
                other => panic!("{} is no node's to ask", other.name()),
            };
            return done.map(Told::Done);
        }
        let caller = asker(request);
        let done = match &request.command {
            Command::FleetCreate(command) => self.create_fleet(command),
            Command::FleetUpdate(command) => self.update_fleet(command),
            Command::FleetDelete(command) => self.delete_fleet(command),
            Command::AgentRegister(command) => self.register_agent(command),
            Command::AgentUpdate(command) => self.update_agent(command),
            Command::AgentDelete(command) => self.delete_agent(command),
            Command::PersonAdd(command) => self.add_person(command),
            Command::PersonUpdate(command) => self.update_person(command),
            Command::PersonRemove(command) => self.remove_person(&command.person),
            Command::Kill(command) => self.kill(caller, command),
            Command::Resume(command) => self.resume(caller, command),
            Command::Approve(command) => return self.approve(request, command.approval),
            Command::Withdraw(command) => self.withdraw(caller, command.approval),
            Command::Revoke(command) => self.revoke(caller, command),
            Command::PolicyUpdate(policy) => self.update_policy(*policy),
            Command::JoinTokenCreate(command) => self.create_token(caller, command),
            Command::JoinTokenDelete(command) => self.delete_token(command.token),
            Command::EdgeUpdate(command) => self.update_edge(command),
            Command::EdgeRemove(command) => self.remove_edge(&command.edge),
            Command::CredentialIssue(command) => self.issue(caller, command),
            Command::BundlePropose(command) => self.propose_bundle(command),
            Command::EdgeEnrol(_) | Command::ReceiptRecord(_) | Command::BundleEndorse(_) => {
                panic!("only a node's to ask")
            }
        };
        done.map(Told::Done)
    }
}

/// The person who asks, where it has been seen to be one.
pub(crate) fn asker(request: &Request) -> &PersonId {
    request.caller.person().unwrap()
}

/// Whether a path is another or lies below it, segment by segment.
pub(crate) fn is_under(path: &str, root: &str) -> bool {
    let (path, root): (Vec<_>, Vec<_>) = (path.split('/').collect(), root.split('/').collect());
    path.len() >= root.len() && path[..root.len()] == root[..]
}

/// The path above, if there is one.
pub(crate) fn above(path: &str) -> Option<FleetPath> {
    let segments: Vec<_> = path.split('/').collect();
    (segments.len() > 1).then(|| segments[..segments.len() - 1].join("/").parse().unwrap())
}

/// All fleets on the way from the top to a path, itself included.
pub(crate) fn way_down(path: &str) -> Vec<FleetPath> {
    let segments: Vec<_> = path.split('/').collect();
    (1..=segments.len()).map(|depth| segments[..depth].join("/").parse().unwrap()).collect()
}
