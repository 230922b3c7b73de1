//! Fleets and agents as an enforcer knows them: what a verified statement covers, and what has been heard beyond it.
//!
//! A frame may be forged until a verified statement covers it, so what it permits waits and what it forbids acts at once
//! (design 02, What is signed). Here that means: an action has to be allowed by the verified policy *and* by every later
//! one that was heard, in the order in which they were. A policy that was heard and is wider changes nothing until it is
//! verified; one that is narrower counts at once, and goes on to count until a statement covers what replaced it.
//!
//! For `max_staleness` there is one policy more, that of the index at which the lease was given: a loosened one lengthens
//! no lease that was given before (design 02, Freshness lease).

use std::sync::Arc;

use haltline_core::{
    event::FleetPolicy,
    ids::EventSeq,
    limits::{MAX_STALENESS_CEILING, VERSIONS_UNVERIFIED_MAX},
    path::{AgentPath, FleetPath},
    policy::{IntentList, Limits},
    selector::Pattern,
    text::Labels,
    time::Millis,
};
use imbl::OrdMap;

use super::facts::Facts;

/// Something heard and not yet verified: what is there after the event, if anything.
#[derive(Debug, Clone)]
struct Heard<T> {
    seq: EventSeq,
    value: Option<T>,
}

/// All that was heard about one thing.
#[derive(Debug, Clone)]
struct Hearsay<T> {
    versions: Vec<Heard<T>>,
    /// The last event for which there was no room: until that is verified, nobody knows what all of them allow.
    overflow: Option<EventSeq>,
}

type HeardTable<K, T> = OrdMap<K, Arc<Hearsay<T>>>;

fn hear<K: Ord + Clone, T: Clone>(table: &mut HeardTable<K, T>, key: K, heard: Heard<T>) {
    let all = table.entry(key).or_insert_with(|| Arc::new(Hearsay { versions: Vec::new(), overflow: None }));
    let all = Arc::make_mut(all);
    if all.versions.len() < VERSIONS_UNVERIFIED_MAX {
        all.versions.push(heard);
    } else {
        all.overflow = Some(heard.seq);
    }
}

/// Drops what is verified by now.
fn settle<K: Ord + Clone, T: Clone>(table: &mut HeardTable<K, T>, key: &K, verified: EventSeq) {
    let Some(all) = table.get_mut(key) else { return };
    let all = Arc::make_mut(all);
    all.versions.retain(|heard| heard.seq > verified);
    all.overflow = all.overflow.filter(|last| *last > verified);
    if all.versions.is_empty() && all.overflow.is_none() {
        table.remove(key);
    }
}

fn versions<T>(all: Option<&Arc<Hearsay<T>>>) -> &[Heard<T>] {
    all.map_or(&[], |all| &all.versions)
}

/// Fleets and agents.
#[derive(Debug, Clone, Default)]
pub(super) struct Policies {
    /// Verified.
    fleets: OrdMap<FleetPath, Arc<FleetPolicy>>,
    /// As of the index of the lease.
    leased: OrdMap<FleetPath, Arc<FleetPolicy>>,
    /// Verified: agents with their own labels.
    agents: OrdMap<AgentPath, Labels>,
    heard_fleets: HeardTable<FleetPath, Arc<FleetPolicy>>,
    heard_agents: HeardTable<AgentPath, Labels>,
}

/// What the policies say about one session.
#[derive(Debug)]
pub(super) struct Ruling {
    /// Whether the agent is registered, and stays so by all that was heard.
    pub(super) is_registered: bool,
    /// Whether so much was heard about it that nobody knows what all of that allows.
    pub(super) is_unsettled: bool,
    /// The smallest `max_staleness` that counts.
    pub(super) max_staleness: Millis,
    /// The agent's labels under each policy that counts, each once; without labels if they weren't asked for.
    pub(super) labels: Vec<Labels>,
    /// Which lists anybody on the path declares.
    pub(super) declared: [bool; 4],
}

/// The lists of a declared intent, by their place in [`Ruling::declared`].
pub(super) const LISTS: [IntentList; 4] =
    [IntentList::Tools, IntentList::Models, IntentList::Resources, IntentList::DataClasses];

/// One list of a policy.
pub(super) fn list_of(policy: &FleetPolicy, list: IntentList) -> Option<&[Pattern]> {
    let intent = &policy.intent;
    match list {
        IntentList::Tools => intent.tools.as_deref(),
        IntentList::Models => intent.models.as_deref(),
        IntentList::Resources => intent.resources.as_deref(),
        IntentList::DataClasses => intent.data_classes.as_deref(),
    }
}

impl Policies {
    /// All verified, nothing heard beyond, no lease.
    pub(super) fn verified(
        fleets: impl IntoIterator<Item = (FleetPath, FleetPolicy)>,
        agents: OrdMap<AgentPath, Labels>,
    ) -> Self {
        let fleets: OrdMap<_, _> =
            fleets.into_iter().map(|(path, policy)| (path, Arc::new(policy))).collect();
        Self { leased: fleets.clone(), fleets, agents, ..Self::default() }
    }

    pub(super) fn hear_fleet(&mut self, path: FleetPath, policy: Option<FleetPolicy>, seq: EventSeq) {
        hear(&mut self.heard_fleets, path, Heard { seq, value: policy.map(Arc::new) });
    }

    pub(super) fn hear_agent(&mut self, path: AgentPath, labels: Option<Labels>, seq: EventSeq) {
        hear(&mut self.heard_agents, path, Heard { seq, value: labels });
    }

    pub(super) fn verify_fleet(&mut self, path: FleetPath, policy: Option<FleetPolicy>, seq: EventSeq) {
        settle(&mut self.heard_fleets, &path, seq);
        match policy {
            Some(policy) => self.fleets.insert(path, Arc::new(policy)),
            None => self.fleets.remove(path.as_str()),
        };
    }

    pub(super) fn verify_agent(&mut self, path: AgentPath, labels: Option<Labels>, seq: EventSeq) {
        settle(&mut self.heard_agents, &path, seq);
        match labels {
            Some(labels) => self.agents.insert(path, labels),
            None => self.agents.remove(path.as_str()),
        };
    }

    /// The lease that is given now rests on what is verified now.
    pub(super) fn lease_given(&mut self) {
        self.leased = self.fleets.clone();
    }

    /// What the policies say about a session.
    pub(super) fn ruling(&self, facts: &Facts, wants_labels: bool) -> Ruling {
        let is_registered = self.agents.contains_key(facts.claims.agent.as_str())
            && self.heard_of(&facts.claims.agent).iter().all(|heard| heard.value.is_some());
        let mut ruling = Ruling {
            is_registered,
            is_unsettled: self.is_unsettled(facts),
            max_staleness: MAX_STALENESS_CEILING,
            labels: Vec::new(),
            declared: [false; 4],
        };
        // Mostly nothing has changed since the lease was given, and then it says nothing new.
        if !self.leased.ptr_eq(&self.fleets) {
            let leased = facts.fleets.iter().filter_map(|path| self.leased.get(path.as_str()));
            ruling.max_staleness = max_staleness(leased.map(Arc::as_ref));
        }
        self.each_version(facts, |fleets, own_labels| {
            ruling.max_staleness = ruling.max_staleness.min(max_staleness(fleets.iter().copied().flatten()));
            for (declared, list) in ruling.declared.iter_mut().zip(LISTS) {
                *declared |= fleets.iter().flatten().any(|policy| list_of(policy, list).is_some());
            }
            let labels = if wants_labels { effective_labels(fleets, own_labels) } else { Labels::none() };
            if !ruling.labels.contains(&labels) {
                ruling.labels.push(labels);
            }
        });
        ruling
    }

    /// Every policy of a fleet on the path that counts, verified or heard, nearest fleet first.
    pub(super) fn on_path(&self, facts: &Facts) -> Vec<(FleetPath, Arc<FleetPolicy>)> {
        let mut policies = Vec::new();
        for path in &facts.fleets {
            let heard = versions(self.heard_fleets.get(path.as_str()));
            let versions = self
                .fleets
                .get(path.as_str())
                .into_iter()
                .chain(heard.iter().filter_map(|heard| heard.value.as_ref()));
            policies.extend(versions.map(|policy| (path.clone(), Arc::clone(policy))));
        }
        policies
    }

    fn is_unsettled(&self, facts: &Facts) -> bool {
        let fleets = facts.fleets.iter().filter_map(|path| self.heard_fleets.get(path.as_str()));
        let agent = self.heard_agents.get(facts.claims.agent.as_str());
        fleets.map(|all| all.overflow).chain(agent.map(|all| all.overflow)).any(|overflow| overflow.is_some())
    }

    fn heard_of(&self, agent: &AgentPath) -> &[Heard<Labels>] {
        versions(self.heard_agents.get(agent.as_str()))
    }

    /// Shows the policies on a session's path, nearest first, and the agent's labels: as verified, and after each event that
    /// was heard since.
    fn each_version(&self, facts: &Facts, mut show: impl FnMut(&[Option<&FleetPolicy>], Option<&Labels>)) {
        let mut fleets: Vec<Option<&FleetPolicy>> =
            facts.fleets.iter().map(|path| self.fleets.get(path.as_str()).map(Arc::as_ref)).collect();
        let mut labels = self.agents.get(facts.claims.agent.as_str());
        show(&fleets, labels);
        // The place of a fleet on the path, or past its end for the agent itself.
        let mut heard: Vec<(EventSeq, usize)> = Vec::new();
        for (place, path) in facts.fleets.iter().enumerate() {
            let all = versions(self.heard_fleets.get(path.as_str()));
            heard.extend(all.iter().map(|heard| (heard.seq, place)));
        }
        heard.extend(self.heard_of(&facts.claims.agent).iter().map(|heard| (heard.seq, facts.fleets.len())));
        heard.sort_unstable();
        for (seq, place) in heard {
            match facts.fleets.get(place) {
                Some(path) => fleets[place] = self.heard_fleet(path, seq),
                None => labels = self.heard_labels(&facts.claims.agent, seq),
            }
            show(&fleets, labels);
        }
    }

    fn heard_fleet(&self, path: &FleetPath, seq: EventSeq) -> Option<&FleetPolicy> {
        let heard = self.heard_fleets.get(path.as_str())?.versions.iter().find(|heard| heard.seq == seq)?;
        heard.value.as_deref()
    }

    fn heard_labels(&self, agent: &AgentPath, seq: EventSeq) -> Option<&Labels> {
        self.heard_of(agent).iter().find(|heard| heard.seq == seq)?.value.as_ref()
    }

    /// The smallest `max_staleness` that counts in any of these subtrees (`None`: the whole tree), verified or heard.
    pub(super) fn smallest_staleness(&self, subtrees: &[Option<FleetPath>]) -> Millis {
        let is_served = |path: &FleetPath| {
            subtrees.iter().any(|subtree| subtree.as_ref().is_none_or(|subtree| subtree.contains(path)))
        };
        let mut smallest = None;
        let mut consider = |staleness: Millis| {
            smallest = Some(smallest.map_or(staleness, |least: Millis| least.min(staleness)));
        };
        for table in [&self.fleets, &self.leased] {
            // Parents come before their children, so each finds what its parent inherited.
            let mut inherited: std::collections::HashMap<&str, Limits> = std::collections::HashMap::new();
            for (path, policy) in table {
                let above = path.as_str().rsplit_once('/').and_then(|(parent, _)| inherited.get(parent));
                let limits = policy.limits.narrowed_by(above.copied().unwrap_or_default());
                inherited.insert(path.as_str(), limits);
                if is_served(path) {
                    consider(limits.effective().max_staleness);
                }
            }
        }
        for (path, heard) in &self.heard_fleets {
            let on_path = |subtree: &FleetPath| subtree.contains(path) || path.contains(subtree);
            if subtrees.iter().any(|subtree| subtree.as_ref().is_none_or(on_path)) {
                for policy in heard.versions.iter().filter_map(|heard| heard.value.as_ref()) {
                    consider(policy.limits.effective().max_staleness);
                }
            }
        }
        smallest.unwrap_or_else(|| Limits::default().effective().max_staleness)
    }
}

fn max_staleness<'a>(policies: impl Iterator<Item = &'a FleetPolicy>) -> Millis {
    policies
        .fold(Limits::default(), |limits, policy| limits.narrowed_by(policy.limits))
        .effective()
        .max_staleness
}

/// Labels of the path, the nearest over those above. `fleets` has the nearest first.
fn effective_labels(fleets: &[Option<&FleetPolicy>], own: Option<&Labels>) -> Labels {
    let above = fleets.iter().rev().flatten().map(|policy| &policy.labels);
    above.chain(own).fold(Labels::none(), Labels::overlaid)
}
