//! What leases can rest on, by the reference: it keeps the whole past and looks at all of it.

use std::collections::BTreeMap;

use haltline_core::{
    ids::LogIndex,
    lease::{Drift, fence},
    limits::{MAX_STALENESS_CEILING, MAX_STALENESS_DEFAULT},
    path::FleetPath,
    selector::Selector,
    time::{ClusterTime, Millis},
};

use super::{Model, is_under, way_down};

/// What fleets set for themselves, as it was from one entry until another replaced it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Era {
    own: BTreeMap<FleetPath, Option<Millis>>,
    /// The entry that replaced it.
    replaced: Option<LogIndex>,
    /// Cluster time when that entry had surely been applied.
    over: Option<ClusterTime>,
}

impl Era {
    fn staleness(&self, scope: &str) -> Millis {
        let set = way_down(scope).into_iter().filter_map(|path| self.own.get(&path).copied().flatten()).min();
        set.unwrap_or(MAX_STALENESS_DEFAULT)
    }

    /// Whether a lease of a scope can still rest on it; where there was no fleet, nothing was permitted.
    fn counts(&self, scope: &str, now: ClusterTime) -> bool {
        let was_there = self.own.keys().any(|path| path.as_str() == scope);
        let lasts = fence(self.staleness(scope), Drift::MAX);
        was_there && self.over.is_none_or(|over| now < over.plus(lasts))
    }

    /// The largest value of the scopes that count among those that a selector touches.
    fn touched(&self, selector: &Selector, counts: impl Fn(&str) -> bool) -> Option<Millis> {
        let mut scopes: Vec<String> = match (&selector.agent, &selector.fleet) {
            (Some(agent), _) => vec![agent.fleet().to_string()],
            (None, Some(fleet)) => vec![fleet.to_string()],
            (None, None) => Vec::new(),
        };
        if selector.agent.is_none() {
            let is_inside =
                |path: &&FleetPath| scopes.iter().all(|reach| is_under(path.as_str(), reach.as_str()));
            scopes.extend(self.own.keys().filter(is_inside).map(ToString::to_string).collect::<Vec<_>>());
        }
        let most = scopes.iter().filter(|scope| counts(scope)).map(|scope| self.staleness(scope)).max();
        // What lies in no fleet has the default.
        let is_everywhere = selector.agent.is_none() && selector.fleet.is_none();
        if is_everywhere { most.max(Some(MAX_STALENESS_DEFAULT)) } else { most }
    }
}

impl Model {
    /// Before an entry is applied: what its leader had applied is in force.
    pub(super) fn see_applied(&mut self, applied: LogIndex) {
        let now = self.now.cluster_time;
        for era in &mut self.eras {
            if era.over.is_none() && era.replaced.is_some_and(|replaced| replaced <= applied) {
                era.over = Some(now);
            }
        }
        let longest = fence(MAX_STALENESS_CEILING, Drift::MAX);
        self.eras.retain(|era| era.over.is_none_or(|over| now < over.plus(longest)));
    }

    /// After an entry was applied.
    pub(super) fn note_era(&mut self) {
        let own: BTreeMap<_, _> =
            self.fleets.iter().map(|(path, fleet)| (path.clone(), fleet.limits.max_staleness)).collect();
        if self.era.own != own {
            let old = std::mem::replace(&mut self.era, Era { own, ..Era::default() });
            self.eras.push(Era { replaced: Some(self.now.index), ..old });
        }
    }

    /// The largest value in force now for what a selector touches.
    pub(crate) fn staleness_now(&self, selector: &Selector) -> Millis {
        self.era.touched(selector, |_| true).unwrap_or_default()
    }

    /// The largest value that a lease may rest on for what a selector touches.
    pub(crate) fn staleness_ever(&self, selector: &Selector) -> Millis {
        let now = self.now.cluster_time;
        let eras = self.eras.iter().chain([&self.era]);
        eras.filter_map(|era| era.touched(selector, |scope| era.counts(scope, now))).max().unwrap_or_default()
    }
}
