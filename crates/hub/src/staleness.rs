//! The largest `max_staleness` that a stream's lease may rest on, remembered for a moment: it is asked for with every
//! answer to a probe and changes with the policy of fleets, seldom.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use haltline_core::{
    lease::{BootNanos, Nanos},
    limits::{HUB_STALENESS_SETS_MAX, HUB_STALENESS_TTL},
    path::FleetPath,
    time::Millis,
};
use parking_lot::Mutex;

type Paths = Vec<Option<FleetPath>>;
type Ask = dyn Fn(&[Option<FleetPath>]) -> Millis + Send + Sync;

#[derive(Debug, Clone, Copy)]
struct Known {
    version: u64,
    at: BootNanos,
    staleness: Millis,
}

/// See the module.
pub(crate) struct StalenessBook {
    ask: Box<Ask>,
    /// Counts changes of policy: raised before the change can be rested on.
    version: AtomicU64,
    known: Mutex<BTreeMap<Paths, Known>>,
}

impl std::fmt::Debug for StalenessBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StalenessBook").field("known", &self.known).finish_non_exhaustive()
    }
}

impl StalenessBook {
    pub(crate) fn new(ask: Box<Ask>) -> Self {
        Self { ask, version: AtomicU64::new(0), known: Mutex::default() }
    }

    /// Policy changed; what is known counts no more.
    pub(crate) fn outdate(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn of(&self, paths: &Paths, now: BootNanos) -> Millis {
        // Read before asking: a change in between makes the answer outdated, never the other way round.
        let version = self.version.load(Ordering::Acquire);
        if let Some(known) = self.known.lock().get(paths)
            && known.version == version
            && now.since(known.at) < Nanos::from(HUB_STALENESS_TTL)
        {
            return known.staleness;
        }
        let staleness = (self.ask)(paths);
        let mut known = self.known.lock();
        if known.len() >= HUB_STALENESS_SETS_MAX {
            known.clear();
        }
        known.insert(paths.clone(), Known { version, at: now, staleness });
        staleness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_kept_until_policy_changes_or_it_is_old() {
        let asked = AtomicU64::new(0);
        let book = StalenessBook::new(Box::new(move |_| Millis(asked.fetch_add(1, Ordering::Relaxed))));
        let (paths, now) = (vec![None], BootNanos(5));
        assert_eq!(book.of(&paths, now), Millis(0));
        assert_eq!(book.of(&paths, now), Millis(0));
        book.outdate();
        assert_eq!(book.of(&paths, now), Millis(1));
        let later = now.plus(HUB_STALENESS_TTL.into());
        assert_eq!(book.of(&paths, later), Millis(2));
        assert_eq!(book.of(&vec![], later), Millis(3));
    }

    #[test]
    fn the_book_has_a_bound() {
        let book = StalenessBook::new(Box::new(|_| Millis(1)));
        for number in 0..=HUB_STALENESS_SETS_MAX {
            book.of(&vec![None; number % 4 + number / 4], BootNanos(0));
            assert!(book.known.lock().len() <= HUB_STALENESS_SETS_MAX);
        }
    }
}
