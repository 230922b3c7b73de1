//! People, roles and the policy of the reference.

use haltline_core::{
    command::{ClusterPolicy, PersonAdd, PersonUpdate, Role, RoleBinding},
    ids::{KeyHash, PersonId, PublicKey},
    limits::{APPROVALS_REQUIRED_MAX, ROLES_PER_PERSON_MAX, TLS_KEYS_PER_PERSON_MAX},
    path::FleetPath,
    rejection::Outcome,
    state::records::Person,
};

use super::{Done, Model, is_under};
use crate::property::world::secret_of;

/// Roles that may agree to what needs more people.
pub(crate) const APPROVERS: [Role; 2] = [Role::Approver, Role::Admin];

/// Whether a binding reaches all of a scope (`None`: everything).
pub(crate) fn reaches(binding: &RoleBinding, scope: Option<&FleetPath>) -> bool {
    match (&binding.path, scope) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(path), Some(scope)) => is_under(scope.as_str(), path.as_str()),
    }
}

fn holds_at_root(person: &Person, roles: &[Role]) -> bool {
    person.roles.iter().any(|binding| binding.path.is_none() && roles.contains(&binding.role))
}

impl Model {
    /// Whether a person holds one of some roles in a scope.
    pub(crate) fn may(&self, person: &PersonId, roles: &[Role], scope: Option<&FleetPath>) -> bool {
        self.people.get(person).is_some_and(|person| {
            person.roles.iter().any(|binding| roles.contains(&binding.role) && reaches(binding, scope))
        })
    }

    pub(super) fn enrol(&mut self, command: &PersonAdd) {
        let person = Person {
            tls_keys: command.tls_keys.clone(),
            signing_key: command.signing_key,
            roles: command.roles.clone(),
            enrolled: self.now,
        };
        self.people.insert(command.person.clone(), person);
    }

    pub(super) fn add_person(&mut self, command: &PersonAdd) -> Done {
        let id = &command.person;
        if self.people.contains_key(id) {
            return Err("PERSON_EXISTS");
        }
        check_counts(&command.roles, &command.tls_keys)?;
        self.check_keys(id, &command.tls_keys, &command.signing_key)?;
        let approves =
            command.roles.iter().any(|binding| binding.path.is_none() && APPROVERS.contains(&binding.role));
        if self.is_bootstrap() && !approves {
            return Err("SECOND_PERSON_MUST_APPROVE");
        }
        let ended_bootstrap = self.is_bootstrap();
        self.was_joined = true;
        self.enrol(command);
        Ok(Outcome::PersonStored { person: id.clone(), ended_bootstrap })
    }

    pub(super) fn update_person(&mut self, command: &PersonUpdate) -> Done {
        let id = &command.person;
        let Some(person) = self.people.get(id) else { return Err("NO_SUCH_PERSON") };
        let mut after = person.clone();
        if let Some(keys) = &command.tls_keys {
            after.tls_keys.clone_from(keys);
        }
        if let Some(key) = command.signing_key {
            after.signing_key = key;
        }
        if let Some(roles) = &command.roles {
            after.roles.clone_from(roles);
        }
        check_counts(&after.roles, &after.tls_keys)?;
        self.check_keys(id, &after.tls_keys, &after.signing_key)?;
        let mut then = self.clone();
        then.people.insert(id.clone(), after);
        then.check_that_people_suffice()?;
        *self = then;
        Ok(Outcome::PersonStored { person: id.clone(), ended_bootstrap: false })
    }

    pub(super) fn remove_person(&mut self, id: &PersonId) -> Done {
        if !self.people.contains_key(id) {
            return Err("NO_SUCH_PERSON");
        }
        let mut then = self.clone();
        then.people.remove(id);
        then.check_that_people_suffice()?;
        *self = then;
        Ok(Outcome::PersonRemoved { person: id.clone() })
    }

    pub(super) fn update_policy(&mut self, policy: ClusterPolicy) -> Done {
        let counts = [policy.approvals_to_resume, policy.approvals_to_widen];
        if counts.iter().any(|count| *count < 2 || *count > APPROVALS_REQUIRED_MAX) {
            return Err("POLICY_OUT_OF_RANGE");
        }
        // During bootstrap the default of two may be confirmed, though there is only one.
        let most = counts.into_iter().max().unwrap() as usize;
        if most > self.approvers_at_root().max(2) {
            return Err("TOO_FEW_APPROVERS");
        }
        self.policy = policy;
        Ok(Outcome::PolicyStored)
    }

    fn approvers_at_root(&self) -> usize {
        self.people.values().filter(|person| holds_at_root(person, &APPROVERS)).count()
    }

    /// There must stay an admin, and after bootstrap as many approvers as the policy asks for.
    fn check_that_people_suffice(&self) -> Result<(), &'static str> {
        if !self.people.values().any(|person| holds_at_root(person, &[Role::Admin])) {
            return Err("LAST_ADMIN");
        }
        let needed = self.policy.approvals_to_resume.max(self.policy.approvals_to_widen) as usize;
        if !self.is_bootstrap() && self.approvers_at_root() < needed {
            return Err("TOO_FEW_APPROVERS");
        }
        Ok(())
    }

    fn check_keys(
        &self,
        id: &PersonId,
        tls_keys: &[KeyHash],
        signing_key: &PublicKey,
    ) -> Result<(), &'static str> {
        let others = self.people.iter().filter(|(other, _)| *other != id).map(|(_, person)| person);
        let mut taken_tls: Vec<KeyHash> = self.nodes.iter().map(|node| node.key_hash).collect();
        taken_tls.extend(self.edges.values().map(|edge| edge.key));
        let mut taken_signing: Vec<PublicKey> = self.nodes.iter().map(|node| node.signing_key).collect();
        for person in others {
            taken_tls.extend(&person.tls_keys);
            taken_signing.push(person.signing_key);
        }
        if tls_keys.iter().any(|key| taken_tls.contains(key)) || taken_signing.contains(signing_key) {
            return Err("KEY_TAKEN");
        }
        // Every good key of this world has a known secret.
        if secret_of(signing_key).is_none() { Err("BAD_KEY") } else { Ok(()) }
    }
}

fn check_counts(roles: &[RoleBinding], tls_keys: &[KeyHash]) -> Result<(), &'static str> {
    let fits = (1..=ROLES_PER_PERSON_MAX).contains(&roles.len())
        && (1..=TLS_KEYS_PER_PERSON_MAX).contains(&tls_keys.len());
    if fits { Ok(()) } else { Err("BAD_COUNT") }
}
