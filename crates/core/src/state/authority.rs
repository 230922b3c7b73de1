//! Who may do what, where; and whose signature is whose.

use ed25519_dalek::VerifyingKey;

use super::{KeyOwner, State};
use crate::{
    command::{Command, Request, Role, RoleBinding, Signature, Statement},
    ids::{KeyHash, PersonId, PublicKey},
    path::FleetPath,
    rejection::{Action, Rejection},
    widens::stops_left,
};

/// Where something applies: a subtree, or (`None`) everywhere.
pub type Scope = Option<FleetPath>;

impl Action {
    /// The roles of which one is needed, there or above.
    #[must_use]
    pub const fn roles(self) -> &'static [Role] {
        match self {
            Self::ChangeRegistry | Self::ChangeEnforcers | Self::IssueCredentials => {
                &[Role::Operator, Role::Admin]
            }
            Self::Stop => &[Role::Responder, Role::Operator, Role::Admin],
            Self::Resume => &[Role::Operator, Role::Approver, Role::Admin],
            Self::Approve | Self::Withdraw => &[Role::Approver, Role::Admin],
            Self::ChangePeople | Self::ChangeTrust | Self::BackUp => &[Role::Admin],
        }
    }
}

impl RoleBinding {
    /// Whether the binding reaches all of a scope.
    #[must_use]
    pub fn reaches(&self, scope: Option<&FleetPath>) -> bool {
        match (&self.path, scope) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(scope)) => own.contains(scope),
        }
    }
}

impl State {
    /// Whether a person may do something in a scope.
    ///
    /// # Errors
    /// [`Rejection::UnknownPerson`], or [`Rejection::PermissionDenied`] with the roles that would suffice.
    pub fn may(&self, person: &PersonId, action: Action, scope: Option<&FleetPath>) -> Result<(), Rejection> {
        let record =
            self.people.get(person).ok_or_else(|| Rejection::UnknownPerson { person: person.clone() })?;
        let suffices =
            |binding: &RoleBinding| action.roles().contains(&binding.role) && binding.reaches(scope);
        if record.roles.iter().any(suffices) {
            return Ok(());
        }
        let roles = action.roles().to_vec();
        Err(Rejection::PermissionDenied { person: person.clone(), action, path: scope.cloned(), roles })
    }

    /// What a command does and where, as far as the caller's roles are concerned: at the root, where it names no place that
    /// is known. Kills judge their own selector.
    pub(super) fn reach(&self, command: &Command) -> (Action, Vec<Scope>) {
        let (action, mut scopes) = self.places(command);
        if scopes.is_empty() {
            scopes.push(None);
        }
        (action, scopes)
    }

    fn places(&self, command: &Command) -> (Action, Vec<Scope>) {
        let roots = |bindings: &[RoleBinding]| {
            bindings.iter().map(|binding| binding.path.clone()).collect::<Vec<_>>()
        };
        let current =
            |person: &PersonId| self.people.get(person).map_or_else(Vec::new, |known| roots(&known.roles));
        match command {
            Command::FleetCreate(create) => (Action::ChangeRegistry, vec![Some(create.path.clone())]),
            Command::FleetUpdate(update) => (Action::ChangeRegistry, vec![Some(update.path.clone())]),
            Command::FleetDelete(delete) => (Action::ChangeRegistry, vec![Some(delete.path.clone())]),
            Command::AgentRegister(register) => (Action::ChangeRegistry, vec![Some(register.path.fleet())]),
            Command::AgentUpdate(update) => (Action::ChangeRegistry, vec![Some(update.path.fleet())]),
            Command::AgentDelete(delete) => (Action::ChangeRegistry, vec![Some(delete.path.fleet())]),
            Command::PersonAdd(add) => (Action::ChangePeople, roots(&add.roles)),
            Command::PersonUpdate(update) => {
                let mut scopes = current(&update.person);
                scopes.extend(update.roles.iter().flat_map(|roles| roots(roles)));
                (Action::ChangePeople, scopes)
            }
            Command::PersonRemove(remove) => (Action::ChangePeople, current(&remove.person)),
            Command::Kill(kill) => (Action::Stop, vec![kill.selector.reach()]),
            Command::Resume(resume) => {
                let scope = self.kills.get(&resume.kill).and_then(|kill| kill.selector.reach());
                (Action::Resume, vec![scope])
            }
            Command::Approve(_) => (Action::Approve, Vec::new()),
            Command::Withdraw(_) => (Action::Withdraw, Vec::new()),
            Command::Revoke(_) => (Action::Stop, vec![None]),
            Command::PolicyUpdate(_) => (Action::ChangePeople, vec![None]),
            Command::JoinTokenCreate(create) => (Action::ChangeEnforcers, create.paths.clone()),
            Command::JoinTokenDelete(delete) => {
                let token = self.join_tokens.get(&delete.token);
                (Action::ChangeEnforcers, token.map_or_else(Vec::new, |token| token.paths.clone()))
            }
            Command::EdgeEnrol(_) => (Action::ChangeEnforcers, Vec::new()),
            Command::EdgeUpdate(update) => {
                let edge = self.edges.get(&update.edge);
                let mut scopes = edge.map_or_else(Vec::new, |edge| edge.paths.clone());
                scopes.extend(update.paths.iter().flatten().cloned());
                (Action::ChangeEnforcers, scopes)
            }
            Command::EdgeRemove(remove) => {
                let edge = self.edges.get(&remove.edge);
                (Action::ChangeEnforcers, edge.map_or_else(Vec::new, |edge| edge.paths.clone()))
            }
            Command::CredentialIssue(issue) => (Action::IssueCredentials, vec![Some(issue.agent.fleet())]),
            Command::ReceiptRecord(_) => (Action::Stop, Vec::new()),
            Command::BundlePropose(_) | Command::BundleEndorse(_) => (Action::ChangeTrust, Vec::new()),
        }
    }

    /// Whether the caller's roles reach all that the command touches. A way out of a kill takes the roles of a resume.
    pub(super) fn authorize(&self, caller: &PersonId, command: &Command) -> Result<(), Rejection> {
        let (action, scopes) = self.reach(command);
        scopes.iter().try_for_each(|scope| self.may(caller, action, scope.as_ref()))?;
        stops_left(self, command).try_for_each(|stop| self.may(caller, Action::Resume, stop.reach.as_ref()))
    }

    /// Whether a person may agree to a command as one of the people that it needs.
    pub(super) fn may_approve(&self, person: &PersonId, command: &Command) -> Result<(), Rejection> {
        let (_, scopes) = self.reach(command);
        scopes.iter().try_for_each(|scope| self.may(person, Action::Approve, scope.as_ref()))?;
        stops_left(self, command).try_for_each(|stop| self.may(person, Action::Approve, stop.reach.as_ref()))
    }

    /// Verifies that a signature is a person's, over a request, in this cluster and incarnation (RFC 8032, strict).
    pub(super) fn verify(
        &self,
        signer: &PersonId,
        signature: &Signature,
        request: &Request,
    ) -> Result<PublicKey, Rejection> {
        let cluster = self.cluster.as_ref().ok_or(Rejection::NotFounded)?;
        let person =
            self.people.get(signer).ok_or_else(|| Rejection::UnknownPerson { person: signer.clone() })?;
        let statement = Statement {
            cluster_id: cluster.id,
            incarnation: cluster.incarnation,
            request_id: request.id,
            requester: request.person()?,
            deadline: request.deadline,
            command: &request.command,
        };
        let is_valid = VerifyingKey::from_bytes(&person.signing_key.0).is_ok_and(|key| {
            let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
            key.verify_strict(&statement.to_bytes(), &signature).is_ok()
        });
        if is_valid {
            Ok(person.signing_key)
        } else {
            Err(Rejection::BadSignature { person: signer.clone() })
        }
    }

    /// Refuses keys that belong to somebody other than `person`, and signing keys that aren't keys.
    pub(super) fn check_keys(
        &self,
        person: &PersonId,
        tls_keys: &[KeyHash],
        signing_key: Option<&PublicKey>,
    ) -> Result<(), Rejection> {
        let own = KeyOwner::Person(person.clone());
        let tls_owners = tls_keys.iter().filter_map(|key| self.derived.key_owners.get(key));
        let signing_owners = signing_key.and_then(|key| self.derived.signing_key_owners.get(key));
        if let Some(owner) = tls_owners.chain(signing_owners).find(|owner| **owner != own) {
            return Err(Rejection::KeyTaken { owner: owner.to_string() });
        }
        // A key of small order would verify signatures that nobody made.
        let is_key = |key: &PublicKey| VerifyingKey::from_bytes(&key.0).is_ok_and(|key| !key.is_weak());
        match signing_key {
            Some(key) if !is_key(key) => Err(Rejection::BadKey { person: person.clone() }),
            _ => Ok(()),
        }
    }
}
