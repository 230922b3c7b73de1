//! The registry: fleets in a tree, agents in fleets. Children inherit and can only narrow.

use super::{
    Effects, State,
    change::ChangeKind,
    records::{Agent, Fleet, Revocation},
};
use crate::{
    command::{AgentDelete, AgentRegister, AgentUpdate, FleetCreate, FleetDelete, FleetUpdate},
    event::{EnforcementEvent, FleetPolicy},
    ids::Version,
    limits::NOT_EMPTY_COUNTED_MAX,
    path::{AgentPath, FleetPath},
    policy::{EffectiveLimits, Intent, Limits},
    rejection::{Outcome, Rejection, Table},
    selector::Selector,
    text::{Labels, Text},
    view::{View, ViewKill, ViewRevocation, merge_labels},
};

/// Names that are compared to find the one that was meant: bounded, since it happens in `apply`.
const NEAREST_COMPARED_MAX: usize = 256;
/// Edits up to which a name is still taken for a typo.
const NEAREST_EDITS_MAX: usize = 3;

impl State {
    pub(super) fn create_fleet(
        &mut self,
        command: &FleetCreate,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let path = &command.path;
        self.check_name_is_free(path)?;
        if let Some(parent) = path.parent()
            && !self.fleets.contains_key(parent.as_str())
        {
            return Err(self.unknown_fleet(&parent));
        }
        if self.fleets.len() >= self.bounds.fleets {
            let advice = "delete fleets that are no longer used".into();
            return Err(Rejection::TableFull {
                table: Table::Fleets,
                max: self.bounds.fleets as u64,
                advice,
            });
        }
        self.check_policy(path, Some(&command.limits), Some(&command.intent))?;
        let fleet = Fleet {
            labels: command.labels.clone(),
            owner: command.owner.clone(),
            contact: command.contact.clone(),
            intent: command.intent.clone(),
            limits: command.limits,
            version: Version(1),
            created: effects.stamp,
            updated: effects.stamp,
        };
        self.store_fleet(path, fleet, effects);
        effects.changed(ChangeKind::FleetCreated { path: path.clone() });
        Ok(Outcome::FleetStored { path: path.clone(), version: Version(1) })
    }

    pub(super) fn update_fleet(
        &mut self,
        command: &FleetUpdate,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let path = &command.path;
        let mut fleet = self.fleet(path)?.clone();
        check_version(path, command.expected_version, fleet.version)?;
        self.check_policy(path, command.limits.as_ref(), command.intent.as_ref())?;
        let own = fleet.limits.max_staleness;
        let changes_staleness = command.limits.is_some_and(|limits| limits.max_staleness != own);
        if changes_staleness {
            self.check_room_for_old_staleness(path)?;
            self.remember_staleness(path, own);
        }
        let update = command.clone();
        fleet.labels = update.labels.unwrap_or(fleet.labels);
        fleet.owner = update.owner.unwrap_or(fleet.owner);
        fleet.contact = update.contact.unwrap_or(fleet.contact);
        fleet.intent = update.intent.unwrap_or(fleet.intent);
        fleet.limits = update.limits.unwrap_or(fleet.limits);
        fleet.version = fleet.version.next();
        fleet.updated = effects.stamp;
        let version = fleet.version;
        self.store_fleet(path, fleet, effects);
        effects.changed(ChangeKind::FleetUpdated { path: path.clone() });
        Ok(Outcome::FleetStored { path: path.clone(), version })
    }

    pub(super) fn delete_fleet(
        &mut self,
        command: &FleetDelete,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let path = &command.path;
        let fleet = self.fleet(path)?;
        let own_staleness = fleet.limits.max_staleness;
        check_version(path, command.expected_version, fleet.version)?;
        let counted = NOT_EMPTY_COUNTED_MAX as usize;
        let agents = self.agents_under(Some(path)).take(counted).count() as u64;
        let fleets = self.fleets_under(Some(path)).skip(1).take(counted).count() as u64;
        if agents + fleets > 0 {
            return Err(Rejection::FleetNotEmpty { path: path.clone(), fleets, agents });
        }
        self.check_room_for_old_staleness(path)?;
        self.remember_staleness(path, own_staleness);
        self.index_staleness(path, own_staleness, None);
        let labels = self.fleets.remove(path.as_str()).map(|fleet| fleet.labels);
        self.derived.labelled.relabel_fleet(path, labels.as_ref(), None);
        self.emit(EnforcementEvent::FleetRemoved { path: path.clone() }, effects);
        effects.changed(ChangeKind::FleetDeleted { path: path.clone() });
        Ok(Outcome::FleetDeleted { path: path.clone() })
    }

    pub(super) fn register_agent(
        &mut self,
        command: &AgentRegister,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let path = &command.path;
        self.check_name_is_free(&path.as_fleet())?;
        let fleet = path.fleet();
        if !self.fleets.contains_key(fleet.as_str()) {
            return Err(self.unknown_fleet(&fleet));
        }
        if self.agents.len() >= self.bounds.agents {
            let advice = "delete agents that no longer run".into();
            return Err(Rejection::TableFull {
                table: Table::Agents,
                max: self.bounds.agents as u64,
                advice,
            });
        }
        let agent = Agent {
            labels: command.labels.clone(),
            version: Version(1),
            registered: effects.stamp,
            updated: effects.stamp,
        };
        self.store_agent(path, agent, effects);
        effects.changed(ChangeKind::AgentRegistered { path: path.clone() });
        Ok(Outcome::AgentStored { path: path.clone(), version: Version(1) })
    }

    pub(super) fn update_agent(
        &mut self,
        command: &AgentUpdate,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let path = &command.path;
        let mut agent = self.agent(path)?.clone();
        check_version(&path.as_fleet(), command.expected_version, agent.version)?;
        agent.labels = command.labels.clone();
        agent.version = agent.version.next();
        agent.updated = effects.stamp;
        let version = agent.version;
        self.store_agent(path, agent, effects);
        effects.changed(ChangeKind::AgentUpdated { path: path.clone() });
        Ok(Outcome::AgentStored { path: path.clone(), version })
    }

    pub(super) fn delete_agent(
        &mut self,
        command: &AgentDelete,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let path = &command.path;
        check_version(&path.as_fleet(), command.expected_version, self.agent(path)?.version)?;
        let labels = self.agents.remove(path.as_str()).map(|agent| agent.labels);
        self.derived.labelled.relabel_agent(path, labels.as_ref(), None);
        self.emit(EnforcementEvent::AgentRemoved { path: path.clone() }, effects);
        effects.changed(ChangeKind::AgentDeleted { path: path.clone() });
        Ok(Outcome::AgentDeleted { path: path.clone() })
    }

    fn store_fleet(&mut self, path: &FleetPath, fleet: Fleet, effects: &mut Effects) {
        let policy = policy_of(&fleet);
        let before = self.fleets.get(path.as_str());
        let is_news = before.is_none_or(|before| policy_of(before) != policy);
        let own_staleness = before.and_then(|before| before.limits.max_staleness);
        let labels = before.map(|before| &before.labels);
        self.derived.labelled.relabel_fleet(path, labels, Some(&fleet.labels));
        self.index_staleness(path, own_staleness, fleet.limits.max_staleness);
        self.fleets.insert(path.clone(), fleet);
        if is_news {
            self.emit(EnforcementEvent::FleetSet { path: path.clone(), policy }, effects);
        }
    }

    fn store_agent(&mut self, path: &AgentPath, agent: Agent, effects: &mut Effects) {
        let labels = agent.labels.clone();
        let before = self.agents.get(path.as_str()).map(|before| &before.labels);
        self.derived.labelled.relabel_agent(path, before, Some(&labels));
        self.agents.insert(path.clone(), agent);
        self.emit(EnforcementEvent::AgentSet { path: path.clone(), labels }, effects);
    }

    fn check_name_is_free(&self, path: &FleetPath) -> Result<(), Rejection> {
        let taken = self.fleets.contains_key(path.as_str()) || self.agents.contains_key(path.as_str());
        if taken { Err(Rejection::PathTaken { path: path.clone() }) } else { Ok(()) }
    }

    /// Checks limits and intent by themselves and against the fleets above.
    fn check_policy(
        &self,
        path: &FleetPath,
        limits: Option<&Limits>,
        intent: Option<&Intent>,
    ) -> Result<(), Rejection> {
        if let Some(intent) = intent {
            intent.check()?;
        }
        let Some(limits) = limits else { return Ok(()) };
        limits.check()?;
        let above = path.parent().map_or_else(Limits::default, |parent| self.limits_set(&parent));
        match limits.first_wider_than(&above) {
            Some((limit, got, above)) => {
                Err(Rejection::LimitExceedsParent { path: path.clone(), limit, got, above })
            }
            None => Ok(()),
        }
    }

    /// The smallest of each limit that is set on a fleet or above it.
    pub(crate) fn limits_set(&self, path: &FleetPath) -> Limits {
        path.self_and_ancestors()
            .filter_map(|path| self.fleets.get(path.as_str()))
            .fold(Limits::default(), |limits, fleet| limits.narrowed_by(fleet.limits))
    }

    /// The limits that apply in a fleet, after inheritance and defaults.
    #[must_use]
    pub fn effective_limits(&self, path: &FleetPath) -> EffectiveLimits {
        self.limits_set(path).effective()
    }

    /// The labels that count for an agent: its own over those of the fleets above it, the nearest first.
    #[must_use]
    pub fn effective_labels(&self, agent: &AgentPath) -> Labels {
        let inherited = self.fleet_labels(&agent.fleet());
        match self.agents.get(agent.as_str()) {
            Some(known) => inherited.overlaid(&known.labels),
            None => inherited,
        }
    }

    /// The labels that a fleet hands down.
    pub(crate) fn fleet_labels(&self, fleet: &FleetPath) -> Labels {
        let above: Vec<_> = fleet
            .self_and_ancestors()
            .filter_map(|path| self.fleets.get(path.as_str()).map(|fleet| &fleet.labels))
            .collect();
        merge_labels(above.into_iter().rev())
    }

    /// A fleet and all below it, in order; without a path, all fleets.
    pub fn fleets_under(&self, path: Option<&FleetPath>) -> impl Iterator<Item = &FleetPath> {
        let itself = path.and_then(|path| self.fleets.get_key_value(path.as_str())).map(|(path, _)| path);
        let (from, to) = subtree(path);
        itself
            .into_iter()
            .chain(self.fleets.range::<_, str>((from.as_ref(), to.as_ref()).bounds()).map(|(path, _)| path))
    }

    /// The agents in a fleet and below it, in order; without a path, all agents.
    pub fn agents_under(&self, path: Option<&FleetPath>) -> impl Iterator<Item = &AgentPath> {
        let (from, to) = subtree(path);
        self.agents.range::<_, str>((from.as_ref(), to.as_ref()).bounds()).map(|(path, _)| path)
    }

    /// The agents of which a selector may stop something.
    pub(crate) fn agents_touched<'a>(
        &'a self,
        selector: &'a Selector,
    ) -> impl Iterator<Item = &'a AgentPath> {
        let named = selector.agent.as_ref().and_then(|agent| self.agents.get_key_value(agent.as_str()));
        let named = named.map(|(path, _)| path);
        let others = selector.agent.is_none().then(|| self.agents_under(selector.fleet.as_ref()));
        named.into_iter().chain(others.into_iter().flatten()).filter(|agent| {
            selector.labels.is_empty() || selector.may_touch(agent, &self.effective_labels(agent))
        })
    }

    fn fleet(&self, path: &FleetPath) -> Result<&Fleet, Rejection> {
        self.fleets.get(path.as_str()).ok_or_else(|| self.unknown_fleet(path))
    }

    pub(super) fn agent(&self, path: &AgentPath) -> Result<&Agent, Rejection> {
        self.agents.get(path.as_str()).ok_or_else(|| self.unknown_agent(path))
    }

    /// The refusal for a fleet that isn't there, with the name that was probably meant.
    #[must_use]
    pub fn unknown_fleet(&self, path: &FleetPath) -> Rejection {
        let above = self.nearest_fleet(path.parent());
        let names = self.fleets_under(above.as_ref()).map(FleetPath::as_str);
        let nearest = nearest(path.as_str(), names).and_then(|name| name.parse().ok());
        Rejection::UnknownFleet { path: path.clone(), nearest }
    }

    /// The refusal for an agent that isn't there, with the name that was probably meant.
    #[must_use]
    pub fn unknown_agent(&self, path: &AgentPath) -> Rejection {
        let above = self.nearest_fleet(Some(path.fleet()));
        let names = self.agents_under(above.as_ref()).map(AgentPath::as_str);
        let nearest = nearest(path.as_str(), names).and_then(|name| name.parse().ok());
        Rejection::UnknownAgent { path: path.clone(), nearest }
    }

    /// The fleet itself, or the first one above it that exists.
    fn nearest_fleet(&self, path: Option<FleetPath>) -> Option<FleetPath> {
        path?.self_and_ancestors().find(|path| self.fleets.contains_key(path.as_str()))
    }

    /// The enforcement view, projected from the state: what following every event from the first one also gives.
    #[must_use]
    pub fn view(&self) -> View {
        use crate::{command::KillMode, event::KillForce};
        let force =
            |mode| if matches!(mode, KillMode::Drain(_)) { KillForce::Draining } else { KillForce::Denying };
        View {
            position: self.chain,
            cluster: self.cluster.as_ref().map(|cluster| (cluster.id, cluster.incarnation)),
            node_keys: self.nodes.iter().map(|(id, node)| (*id, node.signing_key)).collect(),
            kills: self
                .kills
                .iter()
                .map(|(id, kill)| {
                    (*id, ViewKill { selector: kill.selector.clone(), force: force(kill.mode) })
                })
                .collect(),
            revocations: self
                .revocations
                .iter()
                .map(|(target, revocation)| {
                    let Revocation { issued_before, ends, .. } = revocation.clone();
                    (target.clone(), ViewRevocation { issued_before, ends })
                })
                .collect(),
            fleets: self.fleets.iter().map(|(path, fleet)| (path.clone(), policy_of(fleet))).collect(),
            agents: self.agents.iter().map(|(path, agent)| (path.clone(), agent.labels.clone())).collect(),
            edges: self.edges.iter().map(|(name, edge)| (name.clone(), edge.policy())).collect(),
            bundle_version: self.bundle_version,
            trust: self.trust_history.clone(),
        }
    }
}

/// The ends of a subtree's range of paths; without a path, of all paths.
fn subtree(path: Option<&FleetPath>) -> (Box<str>, Box<str>) {
    match path {
        Some(path) => {
            let (from, to) = path.below();
            (from.into(), to.into())
        }
        None => ("".into(), "~".into()),
    }
}

/// Turns a pair of ends into a half-open range over unsized text, which `..` can't build.
trait Bounds<'a> {
    fn bounds(self) -> (std::ops::Bound<&'a str>, std::ops::Bound<&'a str>);
}

impl<'a> Bounds<'a> for (&'a str, &'a str) {
    fn bounds(self) -> (std::ops::Bound<&'a str>, std::ops::Bound<&'a str>) {
        (std::ops::Bound::Included(self.0), std::ops::Bound::Excluded(self.1))
    }
}

fn policy_of(fleet: &Fleet) -> FleetPolicy {
    let intent = Intent { purpose: Text::default(), ..fleet.intent.clone() };
    FleetPolicy { labels: fleet.labels.clone(), limits: fleet.limits, intent }
}

fn check_version(path: &FleetPath, expected: Option<Version>, current: Version) -> Result<(), Rejection> {
    match expected {
        Some(expected) if expected != current => {
            Err(Rejection::VersionMismatch { path: path.clone(), expected, current })
        }
        _ => Ok(()),
    }
}

fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    names
        .take(NEAREST_COMPARED_MAX)
        // Names of so different lengths are further apart than that, and needn't be compared.
        .filter(|name| name.len().abs_diff(wanted.len()) <= NEAREST_EDITS_MAX)
        .map(|name| (strsim::levenshtein(wanted, name), name))
        .filter(|(edits, _)| *edits <= NEAREST_EDITS_MAX)
        .min()
        .map(|(_, name)| name.into())
}
