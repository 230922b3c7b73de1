//! What a relay itself needs of the view: who may come, and how long the leases that it passes on can last.
//!
//! Frames are provisional until a verified statement covers them, so everything is kept twice: as it is proven, and as it
//! was heard. Whoever is admitted stands in both alike, so that neither a forged record lets anybody in nor a true removal
//! waits for its proof.
//!
//! `max_staleness` is only ever estimated from above: every value that a lease below may still rest on counts, also those
//! that were replaced lately (design 02, When L itself changes), and a value further down counts as if nothing above held
//! it down, unless something above the scope does in any case.

use std::collections::{BTreeMap, VecDeque};

use haltline_core::{
    event::{EdgePolicy, EnforcementEvent, FleetPolicy},
    ids::{EdgeName, EventSeq},
    lease::{BootNanos, Drift, fence_nanos},
    limits::{MAX_STALENESS_DEFAULT, OLD_STALENESS_MARGIN},
    path::FleetPath,
    time::Millis,
};

/// The parts of a view at one position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) edges: BTreeMap<EdgeName, EdgePolicy>,
    /// Fleets that set a `max_staleness` of their own.
    pub(crate) staleness: BTreeMap<FleetPath, Millis>,
}

impl Records {
    /// Those of a whole view.
    pub(crate) fn of<'a>(
        edges: impl Iterator<Item = (&'a EdgeName, &'a EdgePolicy)>,
        fleets: impl Iterator<Item = (&'a FleetPath, &'a FleetPolicy)>,
    ) -> Self {
        let set =
            |(path, policy): (&FleetPath, &FleetPolicy)| Some((path.clone(), policy.limits.max_staleness?));
        Self {
            edges: edges.map(|(name, record)| (name.clone(), record.clone())).collect(),
            staleness: fleets.filter_map(set).collect(),
        }
    }

    fn apply(&mut self, event: &EnforcementEvent) {
        match event {
            EnforcementEvent::EdgeSet { edge, record } => {
                self.edges.insert(edge.clone(), record.clone());
            }
            EnforcementEvent::EdgeRemoved { edge } => {
                self.edges.remove(edge);
            }
            _ => {
                if let Some((path, own)) = fleet_change(event) {
                    match own {
                        Some(own) => self.staleness.insert(path.clone(), own),
                        None => self.staleness.remove(path),
                    };
                }
            }
        }
    }
}

/// What an event says of a fleet's own `max_staleness`.
fn fleet_change(event: &EnforcementEvent) -> Option<(&FleetPath, Option<Millis>)> {
    match event {
        EnforcementEvent::FleetSet { path, policy } => Some((path, policy.limits.max_staleness)),
        EnforcementEvent::FleetRemoved { path } => Some((path, None)),
        _ => None,
    }
}

/// What a fleet can have set for itself, for leases that still run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Options {
    /// The largest value; `None`: never one.
    largest: Option<Millis>,
    /// Whether it can have inherited.
    inherits: bool,
}

impl Options {
    fn or(self, own: Option<Millis>) -> Self {
        Self { largest: self.largest.max(own), inherits: self.inherits || own.is_none() }
    }
}

/// Values that a fleet had, until no lease can rest on them any more.
#[derive(Debug, Clone, Copy)]
struct Replaced {
    had: Options,
    until: BootNanos,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RecordBook {
    confirmed: Records,
    heard: Records,
    /// Heard and not confirmed, where it concerns these records.
    pending: VecDeque<(EventSeq, EnforcementEvent)>,
    /// At most one for each fleet that changed lately.
    replaced: BTreeMap<FleetPath, Replaced>,
    /// What an earlier life of this relay may have passed on, and until when that matters.
    earlier: Option<(Millis, BootNanos)>,
}

impl RecordBook {
    /// For a relay whose earlier life passed on leases up to this long, which nobody has waited out yet.
    pub(crate) fn after(earlier: Option<Millis>, now: BootNanos) -> Self {
        let earlier = earlier.map(|lasts| (lasts, outlived(lasts, now)));
        Self { earlier, ..Self::default() }
    }

    /// An enforcer's record, where what is proven and what was heard agree.
    pub(crate) fn edge(&self, name: &EdgeName) -> Option<&EdgePolicy> {
        let (confirmed, heard) = (self.confirmed.edges.get(name)?, self.heard.edges.get(name)?);
        (confirmed == heard).then_some(confirmed)
    }

    /// Everybody who stands in either.
    pub(crate) fn edges(&self) -> impl Iterator<Item = &EdgeName> {
        self.heard.edges.keys().chain(self.confirmed.edges.keys())
    }

    /// How many events wait for their proof.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// An event that no statement covers yet.
    pub(crate) fn hear(&mut self, event: &EnforcementEvent, seq: EventSeq, now: BootNanos) {
        let concerns =
            matches!(event, EnforcementEvent::EdgeSet { .. } | EnforcementEvent::EdgeRemoved { .. });
        let change = fleet_change(event);
        if let Some((path, own)) = change {
            let had = self.heard.staleness.get(path).copied();
            self.remember(path, had, own, now);
        }
        if concerns || change.is_some() {
            self.heard.apply(event);
            self.pending.push_back((seq, event.clone()));
        }
    }

    /// A statement covers the chain up to there.
    pub(crate) fn confirm(&mut self, seq: EventSeq, now: BootNanos) {
        while let Some((_, event)) = self.pending.pop_front_if(|(at, _)| *at <= seq) {
            if let Some((path, own)) = fleet_change(&event) {
                let had = self.confirmed.staleness.get(path).copied();
                self.remember(path, had, own, now);
            }
            self.confirmed.apply(&event);
        }
        self.replaced.retain(|_, replaced| replaced.until > now);
    }

    /// A verified view takes the place of everything.
    pub(crate) fn install(&mut self, records: Records, now: BootNanos) {
        let old = [&self.confirmed, &self.heard].into_iter().flat_map(|old| &old.staleness);
        let gone: Vec<_> = old.map(|(path, own)| (path.clone(), *own)).collect();
        for (path, own) in gone {
            let new = records.staleness.get(&path).copied();
            self.remember(&path, Some(own), new, now);
        }
        // A fleet that inherited and sets a value now may have been looser before.
        let is_new = |path: &&FleetPath| {
            !self.heard.staleness.contains_key(*path) || !self.confirmed.staleness.contains_key(*path)
        };
        let begun: Vec<_> = records.staleness.keys().filter(is_new).cloned().collect();
        for path in begun {
            let new = records.staleness.get(&path).copied();
            self.remember(&path, None, new, now);
        }
        self.pending.clear();
        self.confirmed = records.clone();
        self.heard = records;
    }

    /// A fleet's own value was replaced. What it had can matter as long as a lease under it lasts.
    fn remember(&mut self, path: &FleetPath, had: Option<Millis>, new: Option<Millis>, now: BootNanos) {
        if had == new {
            return;
        }
        let until = outlived(self.staleness(&[Some(path.clone())], now), now);
        let before = self.replaced.get(path).filter(|replaced| replaced.until > now).copied();
        let had = before.map_or_else(Options::default, |replaced| replaced.had).or(had);
        let until = before.map_or(until, |replaced| replaced.until.max(until));
        self.replaced.insert(path.clone(), Replaced { had, until });
    }

    /// The largest `max_staleness` that a lease over these paths may rest on (`None`: the whole tree).
    pub(crate) fn staleness(&self, paths: &[Option<FleetPath>], now: BootNanos) -> Millis {
        let most = paths.iter().map(|path| self.most_under(path.as_ref(), now)).max();
        let most = most.unwrap_or_else(|| self.most_under(None, now));
        match self.earlier {
            Some((lasts, until)) if now < until => most.max(lasts),
            _ => most,
        }
    }

    /// The smallest anywhere: how often a relay asks by itself.
    pub(crate) fn smallest(&self) -> Millis {
        let set = self.confirmed.staleness.values().chain(self.heard.staleness.values());
        set.copied().min().unwrap_or(MAX_STALENESS_DEFAULT).min(MAX_STALENESS_DEFAULT)
    }

    fn options(&self, path: &FleetPath, now: BootNanos) -> Options {
        let replaced = self.replaced.get(path).filter(|replaced| replaced.until > now);
        let options = replaced.map_or_else(Options::default, |replaced| replaced.had);
        options.or(self.confirmed.staleness.get(path).copied()).or(self.heard.staleness.get(path).copied())
    }

    fn most_under(&self, reach: Option<&FleetPath>, now: BootNanos) -> Millis {
        let way = reach.into_iter().flat_map(FleetPath::self_and_ancestors);
        let (mut ceiling, mut most) = (None::<Millis>, MAX_STALENESS_DEFAULT);
        for options in way.map(|path| self.options(&path, now)) {
            match options {
                Options { inherits: false, largest: Some(own) } => {
                    ceiling = Some(ceiling.map_or(own, |above| above.min(own)));
                }
                Options { largest, .. } => most = most.max(largest.unwrap_or_default()),
            }
        }
        // What is set at or above the reach holds down all below it.
        ceiling.unwrap_or_else(|| most.max(self.largest_below(reach, now)))
    }

    fn largest_below(&self, reach: Option<&FleetPath>, now: BootNanos) -> Millis {
        let lies_below = |path: &FleetPath| reach.is_none_or(|reach| reach.contains(path));
        let current = self.confirmed.staleness.iter().chain(&self.heard.staleness);
        let current = current.filter(|(path, _)| lies_below(path)).map(|(_, own)| *own);
        let replaced = self.replaced.iter().filter(|(path, old)| old.until > now && lies_below(path));
        current.chain(replaced.filter_map(|(_, old)| old.had.largest)).max().unwrap_or_default()
    }
}

/// When a lease that began before `now` surely has ended.
pub(crate) fn outlived(lasts: Millis, now: BootNanos) -> BootNanos {
    now.plus(fence_nanos(lasts, Drift::MAX)).plus(OLD_STALENESS_MARGIN.into())
}

#[cfg(test)]
#[path = "records_test.rs"]
mod tests;
