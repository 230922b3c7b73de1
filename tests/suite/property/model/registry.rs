//! The registry of the reference: fleets, agents, what is inherited.

use std::collections::BTreeMap;

use haltline_core::{
    command::{AgentDelete, AgentRegister, AgentUpdate, FleetCreate, FleetDelete, FleetUpdate},
    ids::Version,
    limits::{
        CREDENTIAL_TTL_CEILING, CREDENTIAL_TTL_DEFAULT, DELEGATION_DEPTH_CEILING, DELEGATION_DEPTH_DEFAULT,
        INSTANCES_CEILING, MAX_STALENESS_CEILING, MAX_STALENESS_DEFAULT, MAX_STALENESS_FLOOR, PATTERNS_MAX,
    },
    path::FleetPath,
    policy::{Intent, Limits},
    rejection::Outcome,
    state::records::{Agent, Fleet},
    text::Labels,
};

use super::{Done, Model, above, is_under, way_down};

/// The four limits as plain numbers, in the order of their declaration.
pub(crate) fn as_numbers(limits: &Limits) -> [Option<u64>; 4] {
    [
        limits.max_staleness.map(|limit| limit.0),
        limits.credential_ttl.map(|limit| limit.0),
        limits.delegation_depth.map(u64::from),
        limits.instances.map(u64::from),
    ]
}

/// What applies where nobody set a limit.
pub(crate) const DEFAULTS: [u64; 4] = [
    MAX_STALENESS_DEFAULT.0,
    CREDENTIAL_TTL_DEFAULT.0,
    DELEGATION_DEPTH_DEFAULT as u64,
    INSTANCES_CEILING as u64,
];

const RANGES: [(u64, u64); 4] = [
    (MAX_STALENESS_FLOOR.0, MAX_STALENESS_CEILING.0),
    (1_000, CREDENTIAL_TTL_CEILING.0),
    (0, DELEGATION_DEPTH_CEILING as u64),
    (0, INSTANCES_CEILING as u64),
];

impl Model {
    pub(super) fn create_fleet(&mut self, command: &FleetCreate) -> Done {
        let path = &command.path;
        if self.is_taken(path.as_str()) {
            return Err("PATH_TAKEN");
        }
        if above(path.as_str()).is_some_and(|parent| !self.fleets.contains_key(&parent)) {
            return Err("UNKNOWN_FLEET");
        }
        self.check_intent_and_limits(path, Some(&command.intent), Some(&command.limits))?;
        let fleet = Fleet {
            labels: command.labels.clone(),
            owner: command.owner.clone(),
            contact: command.contact.clone(),
            intent: command.intent.clone(),
            limits: command.limits,
            version: Version(1),
            created: self.now,
            updated: self.now,
        };
        self.fleets.insert(path.clone(), fleet);
        Ok(Outcome::FleetStored { path: path.clone(), version: Version(1) })
    }

    pub(super) fn update_fleet(&mut self, command: &FleetUpdate) -> Done {
        let path = &command.path;
        let Some(fleet) = self.fleets.get(path) else { return Err("UNKNOWN_FLEET") };
        if command.expected_version.is_some_and(|expected| expected != fleet.version) {
            return Err("VERSION_MISMATCH");
        }
        self.check_intent_and_limits(path, command.intent.as_ref(), command.limits.as_ref())?;
        let now = self.now;
        let fleet = self.fleets.get_mut(path).unwrap();
        let update = command.clone();
        if let Some(labels) = update.labels {
            fleet.labels = labels;
        }
        if let Some(owner) = update.owner {
            fleet.owner = owner;
        }
        if let Some(contact) = update.contact {
            fleet.contact = contact;
        }
        if let Some(intent) = update.intent {
            fleet.intent = intent;
        }
        if let Some(limits) = update.limits {
            fleet.limits = limits;
        }
        fleet.version = Version(fleet.version.0 + 1);
        fleet.updated = now;
        Ok(Outcome::FleetStored { path: path.clone(), version: fleet.version })
    }

    pub(super) fn delete_fleet(&mut self, command: &FleetDelete) -> Done {
        let path = &command.path;
        let Some(fleet) = self.fleets.get(path) else { return Err("UNKNOWN_FLEET") };
        if command.expected_version.is_some_and(|expected| expected != fleet.version) {
            return Err("VERSION_MISMATCH");
        }
        let fleets = self.fleets.keys().filter(|other| is_under(other.as_str(), path.as_str())).count();
        let agents = self.agents.keys().filter(|agent| is_under(agent.as_str(), path.as_str())).count();
        if fleets > 1 || agents > 0 {
            return Err("FLEET_NOT_EMPTY");
        }
        self.fleets.remove(path);
        Ok(Outcome::FleetDeleted { path: path.clone() })
    }

    pub(super) fn register_agent(&mut self, command: &AgentRegister) -> Done {
        let path = &command.path;
        if self.is_taken(path.as_str()) {
            return Err("PATH_TAKEN");
        }
        if !self.fleets.contains_key(&above(path.as_str()).unwrap()) {
            return Err("UNKNOWN_FLEET");
        }
        let (registered, updated) = (self.now, self.now);
        let agent = Agent { labels: command.labels.clone(), version: Version(1), registered, updated };
        self.agents.insert(path.clone(), agent);
        Ok(Outcome::AgentStored { path: path.clone(), version: Version(1) })
    }

    pub(super) fn update_agent(&mut self, command: &AgentUpdate) -> Done {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(&command.path) else { return Err("UNKNOWN_AGENT") };
        if command.expected_version.is_some_and(|expected| expected != agent.version) {
            return Err("VERSION_MISMATCH");
        }
        agent.labels = command.labels.clone();
        agent.version = Version(agent.version.0 + 1);
        agent.updated = now;
        Ok(Outcome::AgentStored { path: command.path.clone(), version: agent.version })
    }

    pub(super) fn delete_agent(&mut self, command: &AgentDelete) -> Done {
        let Some(agent) = self.agents.get(&command.path) else { return Err("UNKNOWN_AGENT") };
        if command.expected_version.is_some_and(|expected| expected != agent.version) {
            return Err("VERSION_MISMATCH");
        }
        self.agents.remove(&command.path);
        Ok(Outcome::AgentDeleted { path: command.path.clone() })
    }

    fn is_taken(&self, path: &str) -> bool {
        self.fleets.keys().any(|fleet| fleet.as_str() == path)
            || self.agents.keys().any(|agent| agent.as_str() == path)
    }

    fn check_intent_and_limits(
        &self,
        path: &FleetPath,
        intent: Option<&Intent>,
        limits: Option<&Limits>,
    ) -> Result<(), &'static str> {
        let lists =
            intent.map(|intent| [&intent.tools, &intent.resources, &intent.models, &intent.data_classes]);
        if lists.into_iter().flatten().flatten().any(|list| list.len() > PATTERNS_MAX) {
            return Err("TOO_MANY_PATTERNS");
        }
        let Some(limits) = limits else { return Ok(()) };
        let limits = as_numbers(limits);
        let is_out = |(limit, (min, max)): (Option<u64>, (u64, u64))| {
            limit.is_some_and(|limit| limit < min || limit > max)
        };
        if limits.into_iter().zip(RANGES).any(is_out) {
            return Err("LIMIT_OUT_OF_RANGE");
        }
        let set_above = self.limits_set(above(path.as_str()).as_ref());
        let exceeds = |(own, above): (Option<u64>, Option<u64>)| match (own, above) {
            (Some(own), Some(above)) => own > above,
            _ => false,
        };
        if limits.into_iter().zip(set_above).any(exceeds) { Err("LIMIT_EXCEEDS_PARENT") } else { Ok(()) }
    }

    /// The smallest of each limit that is set on the way down to a fleet.
    pub(crate) fn limits_set(&self, path: Option<&FleetPath>) -> [Option<u64>; 4] {
        let mut smallest = [None; 4];
        for fleet in path.map_or_else(Vec::new, |path| way_down(path.as_str())) {
            let Some(fleet) = self.fleets.get(&fleet) else { continue };
            for (smallest, own) in smallest.iter_mut().zip(as_numbers(&fleet.limits)) {
                let candidates = [*smallest, own];
                *smallest = candidates.into_iter().flatten().min();
            }
        }
        smallest
    }

    /// The labels that a fleet hands down.
    pub(crate) fn fleet_labels(&self, path: Option<&FleetPath>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for fleet in path.map_or_else(Vec::new, |path| way_down(path.as_str())) {
            if let Some(fleet) = self.fleets.get(&fleet) {
                lay_over(&mut labels, &fleet.labels);
            }
        }
        labels
    }

    /// The labels that count for an agent.
    pub(crate) fn agent_labels(&self, path: &str) -> BTreeMap<String, String> {
        let mut labels = self.fleet_labels(above(path).as_ref());
        if let Some((_, agent)) = self.agents.iter().find(|(agent, _)| agent.as_str() == path) {
            lay_over(&mut labels, &agent.labels);
        }
        labels
    }
}

/// Lays labels over others, key by key.
pub(crate) fn lay_over(labels: &mut BTreeMap<String, String>, over: &Labels) {
    for (key, value) in over.iter() {
        labels.insert(key.into(), value.into());
    }
}
