//! Credentials: nothing is usable that isn't recorded here, so a kill and an issue have an order, and the numbers of live
//! instances are exact (design 04, Just-in-time credentials).
//!
//! A credential leaves when it ends in cluster time. One that is revoked stays until then: its end says how long the
//! revocation must stand.

use imbl::{OrdMap, OrdSet};

use super::{Due, Effects, State, change::ChangeKind, records::Credential};
use crate::{
    command::{CredentialIssue, RevocationTarget},
    ids::{CredentialId, GrantId, InstanceId, PersonId},
    limits::PATTERNS_MAX,
    outcome::IssuedCredential,
    path::{AgentPath, FleetPath},
    policy::{IntentList, Limits, PolicyError},
    rejection::{CredentialIdName, Outcome, Rejection, Table},
    time::{ClusterTime, Millis},
};

/// What follows from the table of credentials: never encoded, always exact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Live {
    /// The credentials of each running copy.
    of_instance: OrdSet<(InstanceId, CredentialId)>,
    /// The credentials whose lineage holds each grant.
    of_grant: OrdSet<(GrantId, CredentialId)>,
    /// How many running copies there are under each fleet and of each agent, which share one space of names.
    instances: OrdMap<FleetPath, u64>,
}

impl Live {
    pub(super) fn insert(&mut self, id: CredentialId, credential: &Credential) {
        if self.credentials_of(credential.instance).next().is_none() {
            for path in credential.agent.as_fleet().self_and_ancestors() {
                *self.instances.entry(path).or_default() += 1;
            }
        }
        self.of_instance.insert((credential.instance, id));
        self.of_grant.extend(credential.lineage.iter().map(|grant| (*grant, id)));
    }

    fn remove(&mut self, id: CredentialId, credential: &Credential) {
        self.of_instance.remove(&(credential.instance, id));
        for grant in &credential.lineage {
            self.of_grant.remove(&(*grant, id));
        }
        if self.credentials_of(credential.instance).next().is_some() {
            return;
        }
        for path in credential.agent.as_fleet().self_and_ancestors() {
            if let Some(count) = self.instances.get_mut(&path) {
                *count -= 1;
                if *count == 0 {
                    self.instances.remove(&path);
                }
            }
        }
    }

    fn credentials_of(&self, instance: InstanceId) -> impl Iterator<Item = CredentialId> {
        self.of_instance
            .range((instance, CredentialId([0; 16]))..=(instance, CredentialId([u8::MAX; 16])))
            .map(|(_, credential)| *credential)
    }

    fn credentials_under(&self, grant: GrantId) -> impl Iterator<Item = CredentialId> {
        self.of_grant
            .range((grant, CredentialId([0; 16]))..=(grant, CredentialId([u8::MAX; 16])))
            .map(|(_, credential)| *credential)
    }
}

impl State {
    pub(super) fn issue_credential(
        &mut self,
        caller: &PersonId,
        command: &CredentialIssue,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let agent = &command.agent;
        let lineage = vec![command.grant];
        self.agent(agent)?;
        if command.scope.len() > PATTERNS_MAX {
            let (list, got) = (IntentList::Tools, command.scope.len());
            return Err(PolicyError::TooManyPatterns { list, got }.into());
        }
        self.check_ids_are_new(command)?;
        self.check_not_stopped(command, &lineage)?;
        let ttl = self.lifetime(command)?;
        self.check_room(command)?;
        let credential = Credential {
            agent: agent.clone(),
            instance: command.instance,
            grant: command.grant,
            lineage,
            depth: 0,
            task: command.task.clone(),
            scope: command.scope.clone(),
            issued: effects.stamp,
            ends: effects.stamp.cluster_time.plus(ttl),
            by: caller.clone(),
        };
        let issued = self.issued(command, &credential)?;
        self.derived.due.insert((credential.ends, Due::CredentialEnds(command.credential)));
        self.derived.live.insert(command.credential, &credential);
        self.credentials.insert(command.credential, credential);
        let (credential, instance) = (command.credential, command.instance);
        effects.changed(ChangeKind::CredentialIssued { credential, instance, agent: agent.clone() });
        Ok(Outcome::CredentialIssued(Box::new(issued)))
    }

    fn issued(
        &self,
        command: &CredentialIssue,
        credential: &Credential,
    ) -> Result<IssuedCredential, Rejection> {
        Ok(IssuedCredential {
            credential: command.credential,
            instance: credential.instance,
            grant: credential.grant,
            agent: credential.agent.clone(),
            lineage: credential.lineage.clone(),
            depth: credential.depth,
            task: credential.task.clone(),
            scope: credential.scope.clone(),
            audience: command.audience.clone(),
            issued: credential.issued,
            ends: credential.ends,
            incarnation: self.cluster.as_ref().ok_or(Rejection::NotFounded)?.incarnation,
        })
    }

    /// Ids are random, so one that is in use is a mistake; only an instance that lives may get more credentials.
    fn check_ids_are_new(&self, command: &CredentialIssue) -> Result<(), Rejection> {
        let taken = |what| Err(Rejection::CredentialIdTaken { what });
        if self.credentials.contains_key(&command.credential) {
            return taken(CredentialIdName::Credential);
        }
        if self.derived.live.credentials_under(command.grant).next().is_some() {
            return taken(CredentialIdName::Grant);
        }
        let of_instance = self.derived.live.credentials_of(command.instance).next();
        let is_anothers = |id| self.credentials.get(&id).is_some_and(|live| live.agent != command.agent);
        if of_instance.is_some_and(is_anothers) { taken(CredentialIdName::Instance) } else { Ok(()) }
    }

    /// Neither revoked nor killed, drains included.
    fn check_not_stopped(&self, command: &CredentialIssue, lineage: &[GrantId]) -> Result<(), Rejection> {
        let own =
            [RevocationTarget::Credential(command.credential), RevocationTarget::Instance(command.instance)];
        let grants = lineage.iter().map(|grant| RevocationTarget::Grant(*grant));
        if let Some(target) = own.into_iter().chain(grants).find(|own| self.revocations.contains_key(own)) {
            return Err(Rejection::Revoked { target });
        }
        match self.kill_stopping_issue(&command.agent, command.instance, lineage) {
            Some(kill) => Err(Rejection::Killed { kill, agent: command.agent.clone() }),
            None => Ok(()),
        }
    }

    fn lifetime(&self, command: &CredentialIssue) -> Result<Millis, Rejection> {
        let max = self.effective_limits(&command.agent.fleet()).credential_ttl;
        match command.ttl {
            Some(got) if got == Millis(0) || got > max => {
                Err(Rejection::CredentialTtl { agent: command.agent.clone(), got, max })
            }
            ttl => Ok(ttl.unwrap_or(max)),
        }
    }

    /// Room in the table, and for one more running copy in each fleet above, unless the instance lives already.
    fn check_room(&self, command: &CredentialIssue) -> Result<(), Rejection> {
        if self.derived.live.credentials_of(command.instance).next().is_none() {
            let mut limits = Limits::default();
            let fleets: Vec<FleetPath> = command.agent.fleet().self_and_ancestors().collect();
            // From the top, so that what each fleet inherits is known when it has its turn.
            for path in fleets.into_iter().rev() {
                if let Some(fleet) = self.fleets.get(path.as_str()) {
                    limits = limits.narrowed_by(fleet.limits);
                }
                let (live, max) = (self.live_instances(&path), limits.effective().instances);
                if live >= u64::from(max) {
                    return Err(Rejection::InstanceLimit { path, live, max });
                }
            }
        }
        if self.credentials.len() >= self.bounds.credentials {
            let advice = "wait until some end, or issue shorter ones".into();
            let max = self.bounds.credentials as u64;
            return Err(Rejection::TableFull { table: Table::Credentials, max, advice });
        }
        Ok(())
    }

    /// Lets a credential go that has ended.
    pub(super) fn end_credential(&mut self, id: CredentialId) {
        if let Some(ended) = self.credentials.remove(&id) {
            self.derived.live.remove(id, &ended);
        }
    }

    /// When the last credential ends that a revocation could hit, if there is one.
    pub(super) fn last_end(&self, target: &RevocationTarget) -> Option<ClusterTime> {
        let ends = |id: CredentialId| self.credentials.get(&id).map(|credential| credential.ends);
        match target {
            RevocationTarget::Credential(id) => ends(*id),
            RevocationTarget::Grant(grant) => {
                self.derived.live.credentials_under(*grant).filter_map(ends).max()
            }
            RevocationTarget::Instance(instance) => {
                self.derived.live.credentials_of(*instance).filter_map(ends).max()
            }
            RevocationTarget::Key(_) | RevocationTarget::Terminated(_) => None,
        }
    }

    /// How many running copies live under a fleet.
    #[must_use]
    pub fn live_instances(&self, fleet: &FleetPath) -> u64 {
        self.derived.live.instances.get(fleet).copied().unwrap_or_default()
    }

    /// How many running copies of an agent live.
    #[must_use]
    pub fn live_instances_of(&self, agent: &AgentPath) -> u64 {
        self.live_instances(&agent.as_fleet())
    }
}
