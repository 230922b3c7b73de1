//! One kill that somebody waits for: which holders of grants are still to come, kept up to date step by step.

use std::collections::{BTreeMap, BTreeSet};

use super::{Holder, grants::Grants, reaches};
use crate::{
    ids::{EdgeName, LogIndex},
    lease::{BootNanos, Nanos},
    path::FleetPath,
    receipt::{Fenced, FencedWhy},
    selector::Selector,
    time::Millis,
};

/// Somebody's wait for one kill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(u64);

impl WatchId {
    pub(super) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WatchedKill {
    /// The entry that must be in force.
    pub index: LogIndex,
    /// What it stops: enforcers that serve none of it aren't waited for.
    pub selector: Selector,
    /// The largest `L` of any scope that it touches, at any index that a lease may still rest on.
    pub max_staleness: Millis,
}

/// Whether a kill is in force at everything that hangs on this hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clear {
    /// It is, for good.
    Cleared(Cleared),
    /// Not surely.
    Waiting {
        /// How many streams, open or closed, are still to come. None during the boot wait.
        lagging: u64,
        /// How many acknowledged.
        acked: u64,
        /// When it will be in force at the latest. Acknowledgements make it earlier.
        until: BootNanos,
    },
}

/// How a kill came to be clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleared {
    /// Streams that acknowledged.
    pub acked: u64,
    /// Enforcers that were waited out, by name, each once.
    pub fenced: Vec<Fenced>,
}

/// See [`WatchedKill`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Watch {
    kill: WatchedKill,
    /// The longest that a lease which the kill stops can live, on this clock.
    window: Nanos,
    /// Leases of an earlier process have ended by then.
    boot_ends: BootNanos,
    /// All leases below the kill have ended by then, known or not.
    deadline: BootNanos,
    lagging: BTreeMap<Holder, BootNanos>,
    by_end: BTreeSet<(BootNanos, Holder)>,
    acked: u64,
    fenced: BTreeMap<EdgeName, FencedWhy>,
    /// It was clear once, and so it is for good.
    is_clear: bool,
}

impl Watch {
    pub(super) fn new(kill: WatchedKill, window: Nanos, started: BootNanos, now: BootNanos) -> Self {
        Self {
            kill,
            window,
            boot_ends: started.plus(window),
            deadline: now.plus(window),
            lagging: BTreeMap::new(),
            by_end: BTreeSet::new(),
            acked: 0,
            fenced: BTreeMap::new(),
            is_clear: false,
        }
    }

    pub(super) fn index(&self) -> LogIndex {
        self.kill.index
    }

    pub(super) fn touches(&self, paths: &[Option<FleetPath>]) -> bool {
        reaches(&self.kill.selector, paths)
    }

    pub(super) fn count_ack(&mut self) {
        self.acked += 1;
    }

    /// Waits for a holder if its grants endanger the kill.
    pub(super) fn follow(
        &mut self,
        holder: Holder,
        paths: &[Option<FleetPath>],
        grants: &Grants,
        now: BootNanos,
    ) {
        let until = grants.endanger_until(self.kill.index, self.window).map(|until| until.min(self.deadline));
        if let Some(until) = until.filter(|until| *until > now)
            && !self.is_clear
            && self.touches(paths)
        {
            self.wait_for(holder, until);
        }
    }

    fn wait_for(&mut self, holder: Holder, until: BootNanos) {
        if let Some(earlier) = self.lagging.insert(holder.clone(), until) {
            self.by_end.remove(&(earlier, holder.clone()));
        }
        self.by_end.insert((until, holder));
    }

    fn drop_from_lagging(&mut self, holder: &Holder) -> bool {
        let Some(until) = self.lagging.remove(holder) else { return false };
        self.by_end.remove(&(until, holder.clone()));
        true
    }

    /// A holder has published the kill.
    pub(super) fn acked(&mut self, holder: &Holder) {
        if self.drop_from_lagging(holder) {
            self.acked += 1;
        }
    }

    /// A holder's grants have all ended.
    pub(super) fn outlived(&mut self, holder: &Holder, name: &EdgeName, why: FencedWhy) {
        if self.drop_from_lagging(holder) {
            self.fenced.insert(name.clone(), why);
        }
    }

    /// A stream closed, and left its grants behind.
    pub(super) fn moved(&mut self, from: &Holder, to: Holder, grants: &Grants) {
        if self.drop_from_lagging(from)
            && let Some(until) = grants.endanger_until(self.kill.index, self.window)
        {
            self.wait_for(to, until.min(self.deadline));
        }
    }

    /// Whom it waits for, and until when at most.
    pub(super) fn lagging(&self) -> impl Iterator<Item = (&Holder, BootNanos)> {
        self.lagging.iter().map(|(holder, until)| (holder, *until))
    }

    /// Whether it is clear by now.
    pub(super) fn look(
        &mut self,
        now: BootNanos,
        name_of: impl Fn(&Holder) -> Option<(EdgeName, FencedWhy)>,
    ) -> Clear {
        while let Some((until, holder)) = self.by_end.first().cloned() {
            if until > now {
                break;
            }
            self.drop_from_lagging(&holder);
            if let Some((name, why)) = name_of(&holder) {
                self.fenced.insert(name, why);
            }
        }
        self.is_clear |= self.lagging.is_empty() && now >= self.boot_ends;
        if self.is_clear {
            let fenced = self.fenced.iter().map(|(name, why)| Fenced { name: name.clone(), why: *why });
            return Clear::Cleared(Cleared { acked: self.acked, fenced: fenced.collect() });
        }
        let last = self.by_end.last().map_or(self.boot_ends, |(until, _)| *until);
        Clear::Waiting {
            lagging: self.lagging.len() as u64,
            acked: self.acked,
            until: last.max(self.boot_ends),
        }
    }
}
