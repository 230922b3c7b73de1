//! People: one registered identity each, with keys and roles; and the policy that says how many it takes.
//!
//! The cluster must never lock its people out: once bootstrap has ended there are always an admin at the root and as
//! many people who can approve there as the policy asks for.

use super::{Effects, KeyOwner, State, change::ChangeKind, records::Person};
use crate::{
    command::{ClusterPolicy, PersonAdd, PersonRemove, PersonUpdate, Role, RoleBinding},
    ids::PersonId,
    limits::{APPROVALS_REQUIRED_MAX, ROLES_PER_PERSON_MAX, TLS_KEYS_PER_PERSON_MAX},
    rejection::{Action, Outcome, PersonList, Rejection, Table},
};

impl State {
    pub(super) fn add_person(
        &mut self,
        command: &PersonAdd,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let id = &command.person;
        if self.people.contains_key(id) {
            return Err(Rejection::PersonExists { person: id.clone() });
        }
        if self.people.len() >= self.bounds.people {
            let advice = "remove people who have left".into();
            return Err(Rejection::TableFull {
                table: Table::People,
                max: self.bounds.people as u64,
                advice,
            });
        }
        let person = Person::enrolled(command, effects.stamp);
        check_counts(id, &person)?;
        self.check_keys(id, &person.tls_keys, Some(&person.signing_key))?;
        if self.bootstrap && !approves_at_root(&person) {
            return Err(Rejection::SecondPersonMustApprove { person: id.clone() });
        }
        let ended_bootstrap = std::mem::take(&mut self.bootstrap);
        self.index_keys(id, &person);
        self.people.insert(id.clone(), person);
        effects.changed(ChangeKind::PersonEnrolled { person: id.clone(), ended_bootstrap });
        Ok(Outcome::PersonStored { person: id.clone(), ended_bootstrap })
    }

    pub(super) fn update_person(
        &mut self,
        command: &PersonUpdate,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let id = &command.person;
        let before = self.person(id)?.clone();
        let mut after = before.clone();
        after.tls_keys = command.tls_keys.clone().unwrap_or(after.tls_keys);
        after.signing_key = command.signing_key.unwrap_or(after.signing_key);
        after.roles = command.roles.clone().unwrap_or(after.roles);
        check_counts(id, &after)?;
        self.check_keys(id, &after.tls_keys, Some(&after.signing_key))?;
        self.check_not_locked_out(id, Some(&after))?;
        self.unindex_keys(&before);
        self.index_keys(id, &after);
        self.people.insert(id.clone(), after);
        effects.changed(ChangeKind::PersonUpdated { person: id.clone() });
        Ok(Outcome::PersonStored { person: id.clone(), ended_bootstrap: false })
    }

    pub(super) fn remove_person(
        &mut self,
        command: &PersonRemove,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let id = &command.person;
        let person = self.person(id)?.clone();
        self.check_not_locked_out(id, None)?;
        self.unindex_keys(&person);
        self.people.remove(id);
        effects.changed(ChangeKind::PersonRemoved { person: id.clone() });
        Ok(Outcome::PersonRemoved { person: id.clone() })
    }

    pub(super) fn update_policy(
        &mut self,
        policy: ClusterPolicy,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let ClusterPolicy { approvals_to_resume, approvals_to_widen } = policy;
        for got in [approvals_to_resume, approvals_to_widen] {
            if !(2..=APPROVALS_REQUIRED_MAX).contains(&got) {
                return Err(Rejection::PolicyOutOfRange { got });
            }
        }
        // Two is what the second person brings; more must be there before they are asked for.
        let needed = u64::from(approvals_to_resume.max(approvals_to_widen));
        let left = self.people.values().filter(|person| approves_at_root(person)).count() as u64;
        if needed > left.max(2) {
            return Err(Rejection::TooFewApprovers { left, needed });
        }
        self.policy = policy;
        effects.changed(ChangeKind::PolicyChanged { approvals_to_resume, approvals_to_widen });
        Ok(Outcome::PolicyStored)
    }

    fn person(&self, id: &PersonId) -> Result<&Person, Rejection> {
        self.people.get(id).ok_or_else(|| Rejection::NoSuchPerson { person: id.clone() })
    }

    /// Refuses a change after which nobody could undo it: `after` is what `id` becomes, `None` if removed.
    fn check_not_locked_out(&self, id: &PersonId, after: Option<&Person>) -> Result<(), Rejection> {
        let others = self.people.iter().filter(|(other, _)| *other != id).map(|(_, person)| person);
        let remaining: Vec<&Person> = others.chain(after).collect();
        let is_admin = |person: &&Person| holds_at_root(person, &[Role::Admin]);
        if !remaining.iter().any(is_admin) {
            return Err(Rejection::LastAdmin { person: id.clone() });
        }
        let left = remaining.iter().filter(|person| approves_at_root(person)).count() as u64;
        let policy = self.policy;
        let needed = u64::from(policy.approvals_to_resume.max(policy.approvals_to_widen));
        if !self.bootstrap && left < needed {
            return Err(Rejection::TooFewApprovers { left, needed });
        }
        Ok(())
    }

    pub(super) fn index_keys(&mut self, id: &PersonId, person: &Person) {
        let owner = KeyOwner::Person(id.clone());
        for key in &person.tls_keys {
            self.derived.key_owners.insert(*key, owner.clone());
        }
        self.derived.signing_key_owners.insert(person.signing_key, owner);
    }

    fn unindex_keys(&mut self, person: &Person) {
        for key in &person.tls_keys {
            self.derived.key_owners.remove(key);
        }
        self.derived.signing_key_owners.remove(&person.signing_key);
    }
}

fn check_counts(id: &PersonId, person: &Person) -> Result<(), Rejection> {
    let lists = [
        (PersonList::Roles, person.roles.len(), ROLES_PER_PERSON_MAX),
        (PersonList::TlsKeys, person.tls_keys.len(), TLS_KEYS_PER_PERSON_MAX),
    ];
    match lists.into_iter().find(|(_, got, max)| !(1..=*max).contains(got)) {
        Some((what, got, max)) => {
            Err(Rejection::BadCount { person: id.clone(), what, got: got as u64, max: max as u64 })
        }
        None => Ok(()),
    }
}

fn holds_at_root(person: &Person, roles: &[Role]) -> bool {
    person.roles.iter().any(|RoleBinding { role, path }| path.is_none() && roles.contains(role))
}

fn approves_at_root(person: &Person) -> bool {
    holds_at_root(person, Action::Approve.roles())
}
