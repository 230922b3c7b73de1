//! Indexes that keep commands quick where the registry and the kills are many: who carries a label, and which kills can
//! stop a credential. Never encoded, and never more than a way to look at less: what they find is judged anew.

use std::ops::Bound;

use imbl::{OrdMap, OrdSet};

use super::{State, records::Kill};
use crate::{
    ids::{GrantId, InstanceId, KillId},
    path::{AgentPath, FleetPath},
    selector::{Selector, Subject},
    text::Labels,
};

/// Who carries each label: by `key=value fleet`, so that a fleet's agents share one row and registering them stays quick.
/// No label holds a space, and paths keep subtrees together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LabelIndex(OrdMap<Box<str>, Holders>);

/// Who carries a label of its own at one fleet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Holders {
    /// Agents that live right in the fleet.
    agents: u64,
    /// Whether the fleet does, and so hands it down.
    itself: bool,
}

/// Rows that are counted to find the rarest of several labels.
const HOLDERS_COUNTED_MAX: usize = 64;

impl LabelIndex {
    /// Takes note that an agent carries other labels of its own than before.
    pub(super) fn relabel_agent(
        &mut self,
        agent: &AgentPath,
        before: Option<&Labels>,
        after: Option<&Labels>,
    ) {
        if before == after {
            return;
        }
        let path = agent.as_str();
        let fleet = path.rsplit_once('/').map_or(path, |(fleet, _)| fleet);
        self.change(fleet, before, |holders| holders.agents = holders.agents.saturating_sub(1));
        self.change(fleet, after, |holders| holders.agents += 1);
    }

    /// Takes note that a fleet carries other labels of its own than before.
    pub(super) fn relabel_fleet(
        &mut self,
        fleet: &FleetPath,
        before: Option<&Labels>,
        after: Option<&Labels>,
    ) {
        if before == after {
            return;
        }
        self.change(fleet.as_str(), before, |holders| holders.itself = false);
        self.change(fleet.as_str(), after, |holders| holders.itself = true);
    }

    fn change(&mut self, fleet: &str, labels: Option<&Labels>, change: impl Fn(&mut Holders)) {
        for (key, value) in labels.into_iter().flat_map(Labels::iter) {
            let row = row(key, value, fleet);
            let mut holders = self.0.get(row.as_str()).copied().unwrap_or_default();
            change(&mut holders);
            if holders == Holders::default() {
                self.0.remove(row.as_str());
            } else if let Some(known) = self.0.get_mut(row.as_str()) {
                *known = holders;
            } else {
                self.0.insert(row.into(), holders);
            }
        }
    }

    /// The fleets from which agents in a reach can have a label: above it, at it and below it.
    fn holders<'a>(
        &'a self,
        (key, value): (&str, &str),
        reach: Option<&FleetPath>,
    ) -> impl Iterator<Item = (&'a str, Holders)> {
        let all = row(key, value, "");
        let skipped = all.len();
        let (from, to) = match reach {
            Some(reach) => {
                let (from, to) = reach.below();
                (format!("{all}{from}"), format!("{all}{to}"))
            }
            None => (all.clone(), format!("{all}~")),
        };
        let above: Vec<_> = reach
            .into_iter()
            .flat_map(FleetPath::self_and_ancestors)
            .filter_map(|path| self.0.get_key_value(format!("{all}{path}").as_str()))
            .collect();
        let range = (Bound::Included(from.as_str()), Bound::Excluded(to.as_str()));
        let rows = above.into_iter().chain(self.0.range::<_, str>(range));
        rows.map(move |(row, holders)| (&row[skipped..], *holders))
    }
}

fn row(key: &str, value: &str, fleet: &str) -> String {
    format!("{key}={value} {fleet}")
}

/// The condition of a kill's selector by which it is looked up: the one that tells most apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Anchor {
    Everything,
    Fleet(FleetPath),
    Label(Box<str>, Box<str>),
    Agent(AgentPath),
    Lineage(GrantId),
    Instance(InstanceId),
}

impl Anchor {
    fn of(selector: &Selector) -> Self {
        if let Some(instance) = selector.instance {
            return Self::Instance(instance);
        }
        if let Some(grant) = selector.lineage {
            return Self::Lineage(grant);
        }
        if let Some(agent) = &selector.agent {
            return Self::Agent(agent.clone());
        }
        if let Some((key, value)) = selector.labels.iter().next() {
            return Self::Label(key.into(), value.into());
        }
        selector.fleet.clone().map_or(Self::Everything, Self::Fleet)
    }
}

/// Kills that can stop a credential, by one of their conditions each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KillIndex(OrdSet<(Anchor, KillId)>);

impl KillIndex {
    pub(super) fn insert(&mut self, id: KillId, kill: &Kill) {
        // One that only stops some actions stops no credential.
        let Selector { tool: None, model: None, resource: None, .. } = kill.selector else { return };
        self.0.insert((Anchor::of(&kill.selector), id));
    }

    pub(super) fn remove(&mut self, id: KillId, kill: &Kill) {
        self.0.remove(&(Anchor::of(&kill.selector), id));
    }

    fn at(&self, anchor: &Anchor) -> impl Iterator<Item = KillId> {
        let (first, last) = ((anchor.clone(), KillId(0)), (anchor.clone(), KillId(u64::MAX)));
        self.0.range(first..=last).map(|(_, id)| *id)
    }
}

impl State {
    /// Whether a selector with labels stops anything of any agent.
    pub(super) fn touches_any(&self, selector: &Selector) -> bool {
        if selector.agent.is_some() || selector.labels.is_empty() {
            return self.agents_touched(selector).next().is_some();
        }
        let reach = selector.fleet.as_ref();
        let rows = |label: &(&str, &str)| {
            self.derived.labelled.holders(*label, reach).take(HOLDERS_COUNTED_MAX).count()
        };
        let Some(rarest) = selector.labels.iter().min_by_key(rows) else { return false };
        let is_only = selector.labels.len() == 1;
        self.derived.labelled.holders(rarest, reach).any(|(path, holders)| {
            let Some((fleet, _)) = self.fleets.get_key_value(path) else { return false };
            let is_inside = reach.is_none_or(|reach| reach.contains(fleet));
            // An agent's own label is the one that counts.
            (is_only && is_inside && holders.agents > 0) || self.touches_below(selector, fleet)
        })
    }

    /// Whether a selector stops anything of any agent in a fleet or below it.
    fn touches_below(&self, selector: &Selector, fleet: &FleetPath) -> bool {
        // The narrower of the two.
        let within = selector.fleet.as_ref().filter(|reach| fleet.contains(reach)).unwrap_or(fleet);
        self.agents_under(Some(within)).any(|agent| selector.may_touch(agent, &self.effective_labels(agent)))
    }

    /// The first kill in force that stops new credentials of an instance. One that only stops some actions doesn't.
    pub(super) fn kill_stopping_issue(
        &self,
        agent: &AgentPath,
        instance: InstanceId,
        lineage: &[GrantId],
    ) -> Option<KillId> {
        if self.kills.is_empty() {
            return None;
        }
        let labels = self.effective_labels(agent);
        let subject = Subject {
            agent,
            instance: Some(instance),
            lineage,
            labels: &labels,
            tool: None,
            model: None,
            resource: None,
        };
        let own = [Anchor::Everything, Anchor::Agent(agent.clone()), Anchor::Instance(instance)];
        let fleets = agent.fleet();
        let anchors = own
            .into_iter()
            .chain(fleets.self_and_ancestors().map(Anchor::Fleet))
            .chain(lineage.iter().map(|grant| Anchor::Lineage(*grant)))
            .chain(labels.iter().map(|(key, value)| Anchor::Label(key.into(), value.into())));
        let stops = |id: &KillId| self.kills.get(id).is_some_and(|kill| kill.selector.matches(&subject));
        anchors.filter_map(|anchor| self.derived.kills.at(&anchor).find(stops)).min()
    }
}
