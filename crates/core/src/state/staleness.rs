//! How old the knowledge of an enforcer may be when it permits, and how long an old answer to that goes on to matter.
//!
//! The bound of a kill is the largest `max_staleness` in force for any scope that it touches, **at any index that an
//! unexpired lease may still rest on** (design 02, When L itself changes). So when a fleet's own value is replaced, or the
//! fleet goes, the machine remembers the value until no lease can rest on it any more: the longest lease under that fleet,
//! stretched by the clocks' drift, from when an entry shows that the change was applied. Not from the change's own stamp:
//! an entry may be committed long after its stamp was issued.
//!
//! What a scope's value can have been is then computed from what each fleet on its path can have set. That may count a
//! combination that never was in force, so the answer may be too large while something is remembered; never too small.

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use super::{Due, Scope, State};
use crate::{
    ids::LogIndex,
    lease::{Drift, fence},
    limits::{
        MAX_STALENESS_CEILING, MAX_STALENESS_DEFAULT, OLD_STALENESS_MARGIN, OLD_STALENESS_PER_FLEET_MAX,
    },
    path::FleetPath,
    rejection::{Rejection, Table},
    selector::Selector,
    time::{ClusterTime, Millis},
};

/// A value of `max_staleness` that a fleet had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OldStaleness {
    /// The fleet's own; `None`: it inherited.
    own: Option<Millis>,
    /// The entry that replaced it.
    replaced: LogIndex,
    /// How long a lease may rest on it, once it is replaced everywhere.
    wait: Millis,
    /// When it doesn't matter any more; `None` until an entry shows that the change was applied.
    until: Option<ClusterTime>,
}

/// Old values by fleet, those that are gone included.
pub(super) type OldStalenesses = OrdMap<FleetPath, Vec<OldStaleness>>;

/// What follows from fleets and old values: never encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StalenessIndex {
    /// Fleets that set a value of their own, by that value.
    by_value: OrdSet<(Millis, FleetPath)>,
    /// The same, by path.
    set: OrdSet<FleetPath>,
    /// Old values whose time hasn't begun.
    waiting: OrdSet<(LogIndex, FleetPath)>,
}

/// What a fleet can have set for itself, now or for leases that still run.
#[derive(Clone, Copy, Default)]
struct Options {
    /// The largest value; `None`: never one.
    largest: Option<Millis>,
    /// Whether it can have inherited.
    inherits: bool,
}

/// What a way down the tree does to the value at its end.
#[derive(Clone, Copy, Default)]
struct Way {
    /// The smallest of what fleets on it set in any case.
    ceiling: Option<Millis>,
    /// The largest of what fleets on it can have set.
    loosest: Option<Millis>,
}

impl Way {
    fn past(self, options: Options) -> Self {
        match (options.inherits, options.largest) {
            (false, Some(own)) => {
                Self { ceiling: Some(self.ceiling.map_or(own, |above| above.min(own))), ..self }
            }
            (_, own) => Self { loosest: self.loosest.max(own), ..self },
        }
    }

    /// What the value at its end can have been at most.
    fn most(self) -> Millis {
        self.ceiling.unwrap_or_else(|| self.loosest.unwrap_or_default().max(MAX_STALENESS_DEFAULT))
    }
}

impl State {
    /// The largest `max_staleness` of anything that a selector touches, at any index that a lease may still rest on: the
    /// bound of a kill that is placed now (design 02).
    #[must_use]
    pub fn staleness_touched(&self, selector: &Selector) -> Millis {
        if self.old_incarnation_may_lease() {
            return MAX_STALENESS_CEILING;
        }
        match &selector.agent {
            Some(agent) => self.way_to(&agent.fleet()).most(),
            // Labels, instances and lineages can be anywhere in the selector's reach.
            None => self.most_under(selector.fleet.as_ref()),
        }
    }

    /// The largest `max_staleness` of anything in these scopes, at any index that a lease may still rest on: how long a
    /// lease given to an enforcer with these paths can last.
    #[must_use]
    pub fn staleness_of_paths(&self, paths: &[Scope]) -> Millis {
        if self.old_incarnation_may_lease() {
            return MAX_STALENESS_CEILING;
        }
        let most = paths.iter().map(|path| self.most_under(path.as_ref())).max();
        most.unwrap_or_else(|| self.most_under(None))
    }

    /// Whether a lease from before a restore may still run. What was in force when it was given may be lost.
    fn old_incarnation_may_lease(&self) -> bool {
        self.restored.is_some_and(|restored| self.last.cluster_time < restored.leases_end)
    }

    fn options(&self, path: &str) -> Options {
        let old = self.old_staleness.get(path).into_iter().flatten().map(|old| old.own);
        let current = self.fleets.get(path).map(|fleet| fleet.limits.max_staleness);
        let mut options = Options { largest: None, inherits: false };
        let mut is_known = false;
        for own in old.chain(current) {
            is_known = true;
            options.inherits |= own.is_none();
            options.largest = options.largest.max(own);
        }
        options.inherits |= !is_known;
        options
    }

    fn way_to(&self, path: &FleetPath) -> Way {
        path.self_and_ancestors().map(|path| self.options(path.as_str())).fold(Way::default(), Way::past)
    }

    /// The largest value in a subtree; without a path, anywhere.
    fn most_under(&self, reach: Option<&FleetPath>) -> Millis {
        let way = reach.map_or_else(Way::default, |reach| self.way_to(reach));
        // What is set at or above the reach holds down all below it.
        if way.ceiling.is_some() {
            return way.most();
        }
        let below = match reach {
            None => self.most_set_anywhere().max(self.most_remembered(None)),
            Some(reach) => self.most_set_below(reach).max(self.most_remembered(Some(reach))),
        };
        way.most().max(below.unwrap_or_default())
    }

    /// The largest value that is set and not held down: the first from the top that isn't.
    fn most_set_anywhere(&self) -> Option<Millis> {
        let is_free = |path: &FleetPath| self.held_down_by(path, None).is_none();
        self.derived.staleness.by_value.iter().rev().find(|(_, path)| is_free(path)).map(|(value, _)| *value)
    }

    /// The same below a fleet, in the order of the paths, leaving out whatever lies under a fleet that holds it down.
    fn most_set_below(&self, reach: &FleetPath) -> Option<Millis> {
        let (mut from, to) = reach.below();
        let mut most = None;
        loop {
            let found = self.derived.staleness.set.range::<_, str>(between(&from, &to)).next();
            let Some(path) = found else { return most };
            match self.held_down_by(path, Some(reach)) {
                Some(above) => from = above.below().1,
                None => {
                    most = most.max(self.options(path.as_str()).largest);
                    if most >= Some(MAX_STALENESS_CEILING) {
                        return most;
                    }
                    from = format!("{path}\0");
                }
            }
        }
    }

    fn most_remembered(&self, reach: Option<&FleetPath>) -> Option<Millis> {
        let lies_below = |path: &FleetPath| reach.is_none_or(|reach| reach.contains(path));
        let is_free = |path: &FleetPath| self.held_down_by(path, reach).is_none();
        let paths = self.old_staleness.keys().filter(|path| lies_below(path) && is_free(path));
        paths.filter_map(|path| self.options(path.as_str()).largest).max()
    }

    /// The nearest fleet above a path, but below `reach`, that sets a value in any case.
    fn held_down_by(&self, path: &FleetPath, reach: Option<&FleetPath>) -> Option<FleetPath> {
        path.self_and_ancestors().skip(1).take_while(|above| Some(above) != reach).find(|above| {
            let options = self.options(above.as_str());
            !options.inherits && options.largest.is_some()
        })
    }

    /// Whether there is room to remember a fleet's value; asked before it is replaced.
    pub(super) fn check_room_for_old_staleness(&self, path: &FleetPath) -> Result<(), Rejection> {
        let of_fleet = self.old_staleness.get(path.as_str()).map(Vec::len);
        let fleets = self.old_staleness.len();
        let (got, max) = match of_fleet {
            Some(of_fleet) => (of_fleet, OLD_STALENESS_PER_FLEET_MAX),
            None => (fleets, self.bounds.old_staleness),
        };
        if got < max {
            return Ok(());
        }
        let advice =
            "leases may still rest on them; wait until those have ended, at most a few minutes".into();
        Err(Rejection::TableFull { table: Table::OldStaleness, max: max as u64, advice })
    }

    /// Remembers a fleet's own value that this entry replaces. Called before it is replaced.
    pub(super) fn remember_staleness(&mut self, path: &FleetPath, own: Option<Millis>) {
        let wait = Millis(fence(self.most_under(Some(path)), Drift::MAX).0 + OLD_STALENESS_MARGIN.0);
        let mut old = OldStaleness { own, replaced: self.last.index, wait, until: None };
        let mut olds = self.take_old_staleness(path);
        if let Some(at) = olds.iter().position(|earlier| earlier.own == own) {
            old.wait = old.wait.max(olds.remove(at).wait);
        }
        olds.push(old);
        self.put_old_staleness(path, olds);
    }

    /// Old values begin to lapse: what stands up to `applied` was in force before now.
    pub(super) fn replaced_up_to(&mut self, applied: LogIndex) {
        let now = self.last.cluster_time;
        while let Some((replaced, path)) = self.derived.staleness.waiting.get_min().cloned()
            && replaced <= applied
        {
            let mut olds = self.take_old_staleness(&path);
            for old in olds.iter_mut().filter(|old| old.until.is_none() && old.replaced <= applied) {
                old.until = Some(now.plus(old.wait));
            }
            self.put_old_staleness(&path, olds);
        }
    }

    /// Forgets the values of a fleet that no lease rests on any more.
    pub(super) fn forget_staleness(&mut self, path: &FleetPath) {
        let now = self.last.cluster_time;
        let mut olds = self.take_old_staleness(path);
        olds.retain(|old| old.until.is_none_or(|until| until > now));
        self.put_old_staleness(path, olds);
    }

    /// Takes a fleet's old values out, with all that is scheduled for them.
    fn take_old_staleness(&mut self, path: &FleetPath) -> Vec<OldStaleness> {
        let olds = self.old_staleness.remove(path.as_str()).unwrap_or_default();
        for old in &olds {
            match old.until {
                Some(until) => {
                    self.derived.due.remove(&(until, Due::StalenessForgotten(path.clone()))).is_some()
                }
                None => self.derived.staleness.waiting.remove(&(old.replaced, path.clone())).is_some(),
            };
        }
        olds
    }

    /// Puts a fleet's old values back, and schedules what is to come of them.
    fn put_old_staleness(&mut self, path: &FleetPath, olds: Vec<OldStaleness>) {
        for old in &olds {
            match old.until {
                Some(until) => {
                    self.derived.due.insert((until, Due::StalenessForgotten(path.clone()))).is_some()
                }
                None => self.derived.staleness.waiting.insert((old.replaced, path.clone())).is_some(),
            };
        }
        if !olds.is_empty() {
            self.old_staleness.insert(path.clone(), olds);
        }
    }

    /// Keeps the index when a fleet's own value changes; `None` outside: there is no such fleet.
    pub(super) fn index_staleness(
        &mut self,
        path: &FleetPath,
        before: Option<Millis>,
        after: Option<Millis>,
    ) {
        let index = &mut self.derived.staleness;
        if let Some(value) = before {
            index.by_value.remove(&(value, path.clone()));
            index.set.remove(path);
        }
        if let Some(value) = after {
            index.by_value.insert((value, path.clone()));
            index.set.insert(path.clone());
        }
    }

    /// Rebuilds what isn't encoded.
    pub(super) fn rebuild_staleness(&mut self) {
        let set: Vec<_> = self
            .fleets
            .iter()
            .filter_map(|(path, fleet)| Some((path.clone(), fleet.limits.max_staleness?)))
            .collect();
        for (path, value) in set {
            self.index_staleness(&path, None, Some(value));
        }
        for (path, olds) in self.old_staleness.clone() {
            self.put_old_staleness(&path, olds);
        }
    }

    /// Whether old values are remembered, so that answers may be larger than what is in force.
    #[must_use]
    pub fn remembers_staleness(&self) -> bool {
        !self.old_staleness.is_empty() || self.old_incarnation_may_lease()
    }
}

fn between<'a>(from: &'a str, to: &'a str) -> (std::ops::Bound<&'a str>, std::ops::Bound<&'a str>) {
    (std::ops::Bound::Included(from), std::ops::Bound::Excluded(to))
}
