//! Indexes that keep commands quick where the registry and the kills are many: who carries a label, and which kills can
//! stop a credential. Never encoded, and never more than a way to look at less: what they find is judged anew.

use std::ops::Bound;

use imbl::OrdSet;

use super::{State, records::Kill};
use crate::{
    ids::{GrantId, InstanceId, KillId},
    path::{AgentPath, FleetPath},
    selector::{Selector, Subject},
    text::Labels,
};

/// Fleets and agents by each label of their own, as `key=value path`: no label holds a space, and paths keep subtrees
/// together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LabelIndex(OrdSet<Box<str>>);

/// Holders of a label that are counted to find the rarest of several.
const HOLDERS_COUNTED_MAX: usize = 64;

impl LabelIndex {
    /// Takes note that what stands at a path carries other labels than before; fleets and agents share one space of names.
    pub(super) fn relabel(&mut self, path: &str, before: Option<&Labels>, after: Option<&Labels>) {
        if before == after {
            return;
        }
        for (key, value) in before.into_iter().flat_map(Labels::iter) {
            self.0.remove(entry(key, value, path).as_str());
        }
        for (key, value) in after.into_iter().flat_map(Labels::iter) {
            self.0.insert(entry(key, value, path).into());
        }
    }

    /// Those with a label of their own from which agents in a reach can have it: above it, at it and below it.
    fn holders<'a>(
        &'a self,
        key: &str,
        value: &str,
        reach: Option<&FleetPath>,
    ) -> impl Iterator<Item = &'a str> {
        let all = entry(key, value, "");
        let skipped = all.len();
        let (from, to) = match reach {
            Some(reach) => {
                let (from, to) = reach.below();
                (format!("{all}{from}"), format!("{all}{to}"))
            }
            None => (all.clone(), format!("{all}~")),
        };
        let above: Vec<&str> = reach
            .into_iter()
            .flat_map(FleetPath::self_and_ancestors)
            .filter_map(|path| self.0.get(format!("{all}{path}").as_str()))
            .map(AsRef::as_ref)
            .collect();
        let range = (Bound::Included(from.as_str()), Bound::Excluded(to.as_str()));
        let below = self.0.range::<_, str>(range).map(AsRef::as_ref);
        above.into_iter().chain(below).map(move |entry: &str| &entry[skipped..])
    }
}

fn entry(key: &str, value: &str, path: &str) -> String {
    format!("{key}={value} {path}")
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
        let holders = |(key, value): &(&str, &str)| {
            self.derived.labelled.holders(key, value, reach).take(HOLDERS_COUNTED_MAX).count()
        };
        let Some((key, value)) = selector.labels.iter().min_by_key(holders) else { return false };
        self.derived.labelled.holders(key, value, reach).any(|holder| self.touches_below(selector, holder))
    }

    /// Whether a selector stops anything of what stands at a path or below it.
    fn touches_below(&self, selector: &Selector, path: &str) -> bool {
        if let Some((agent, _)) = self.agents.get_key_value(path) {
            return selector.may_touch(agent, &self.effective_labels(agent));
        }
        let Some((holder, _)) = self.fleets.get_key_value(path) else { return false };
        // The narrower of the two.
        let within = selector.fleet.as_ref().filter(|reach| holder.contains(reach)).unwrap_or(holder);
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
