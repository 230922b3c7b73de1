//! How long an old `max_staleness` counts for the bound of a kill, step by step. The reference checks the same at random.

use haltline_core::{
    LogIndex,
    command::{Command, FleetDelete, Request},
    lease::{Drift, fence},
    limits::OLD_STALENESS_MARGIN,
    state::State,
    time::Millis,
};

use super::{
    furnish::{approval, furnishing, staleness},
    world::{batch_after, fleet, founding, index, signed},
};

/// A log in which the leader has applied all that stands before, unless it is said otherwise.
struct Log {
    state: State,
    entries: usize,
    now: u64,
}

impl Log {
    fn new() -> Self {
        let mut log = Self { state: State::new(), entries: 1, now: 1 };
        log.state.apply(index(1), &founding());
        furnishing().into_iter().for_each(|request| log.send(request));
        log
    }

    fn send(&mut self, request: Request) {
        let applied = self.entries;
        self.entry(applied, vec![request]);
    }

    fn entry(&mut self, applied: usize, requests: Vec<Request>) {
        self.entries += 1;
        let batch = batch_after(self.now, applied, requests);
        let applied = self.state.apply(index(self.entries), &batch);
        assert!(applied.results.iter().all(Result::is_ok), "{applied:#?}");
    }

    /// By ada, and by bob too where it takes two.
    fn set(&mut self, path: &str, ms: u64) {
        let asked = signed(self.entries as u64, "ada", 0, self.now + 60_000, staleness(path, ms));
        let waiting = self.state.approvals().len();
        self.send(asked.clone());
        if self.state.approvals().len() > waiting {
            let (last, number) = (self.state.approvals().keys().max().unwrap().0, self.entries as u64);
            self.send(approval(number, "bob", 1, self.now + 60_000, last, &asked));
        }
    }

    fn bound_of(&self, selector: &str) -> u64 {
        self.state.staleness_touched(&selector.parse().unwrap()).0
    }
}

/// How long a value counts, once it is replaced.
fn counts_for(ms: u64) -> u64 {
    fence(Millis(ms), Drift::MAX).0 + OLD_STALENESS_MARGIN.0
}

#[test]
fn an_old_value_counts_until_no_lease_rests_on_it() {
    let mut log = Log::new();
    log.set("a", 500);
    // Whatever the path: below, around, by label, by agent.
    for selector in ["fleet=a", "fleet=a/x/p", "agent=a/x/r", "everything", "fleet=a label=env=prod"] {
        assert_eq!(log.bound_of(selector), 2_000, "{selector}");
    }
    log.entry(log.entries, Vec::new());
    log.now += counts_for(2_000) - 1;
    log.entry(log.entries, Vec::new());
    assert_eq!(log.bound_of("fleet=a"), 2_000);
    log.now += 1;
    log.entry(log.entries, Vec::new());
    assert_eq!(
        (log.bound_of("fleet=a"), log.bound_of("agent=a/x/r"), log.bound_of("fleet=b")),
        (500, 500, 2_000)
    );
    assert_eq!(log.bound_of("everything"), 2_000, "what lies in no fleet, and b");
}

/// An entry that waited for its quorum has an old stamp: time since then proves nothing.
#[test]
fn the_time_of_an_old_value_begins_when_its_end_was_applied() {
    let mut log = Log::new();
    log.set("a", 500);
    let tightened = log.entries;
    // Entries that were stamped much later, by a leader that hadn't applied the change when it closed them.
    for _ in 0..5 {
        log.now += 60_000;
        log.entry(tightened - 1, Vec::new());
        assert_eq!(log.bound_of("fleet=a"), 2_000);
    }
    log.entry(tightened, Vec::new());
    assert_eq!(log.bound_of("fleet=a"), 2_000, "its time begins now");
    log.now += counts_for(2_000);
    log.entry(tightened, Vec::new());
    assert_eq!(log.bound_of("fleet=a"), 500);
}

#[test]
fn the_longest_lease_below_counts_and_not_only_the_fleets_own() {
    let mut log = Log::new();
    log.set("a/x", 300_000);
    log.entry(log.entries, Vec::new());
    log.now += counts_for(300_000);
    log.entry(log.entries, Vec::new());
    assert_eq!((log.bound_of("fleet=a"), log.bound_of("fleet=a/y")), (300_000, 2_000));
    // Held down from above: a lease in a/x may go on for five minutes.
    log.set("a", 1_000);
    log.entry(log.entries, Vec::new());
    log.now += counts_for(300_000) - 1;
    log.entry(log.entries, Vec::new());
    assert_eq!((log.bound_of("fleet=a"), log.bound_of("agent=a/x/r")), (300_000, 300_000));
    log.now += 1;
    log.entry(log.entries, Vec::new());
    assert_eq!((log.bound_of("fleet=a"), log.bound_of("agent=a/x/r")), (1_000, 1_000));
}

#[test]
fn a_fleet_that_is_deleted_and_made_again_is_remembered() {
    let mut log = Log::new();
    log.set("a/y", 300_000);
    let delete = Command::FleetDelete(FleetDelete { path: fleet("a/y"), expected_version: None });
    log.send(signed(900, "ada", 0, log.now + 60_000, delete));
    assert_eq!(log.bound_of("fleet=a"), 300_000, "leases of its agents");
    let create = super::furnish::plain_fleet("a/y");
    log.send(signed(901, "ada", 0, log.now + 60_000, create));
    log.set("a/y", 200);
    assert_eq!(log.bound_of("fleet=a/y"), 300_000);
    log.entry(log.entries, Vec::new());
    log.now += counts_for(300_000);
    log.entry(log.entries, Vec::new());
    assert_eq!((log.bound_of("fleet=a/y"), log.bound_of("fleet=a")), (200, 2_000));
    assert!(!log.state.remembers_staleness());
}

#[test]
fn a_stream_is_bound_by_the_loosest_of_its_paths() {
    let mut log = Log::new();
    log.set("a/x", 60_000);
    log.set("b", 300);
    log.entry(log.entries, Vec::new());
    log.now += counts_for(60_000);
    log.entry(log.entries, Vec::new());
    let of = |paths: &[Option<&str>]| {
        let paths: Vec<_> = paths.iter().map(|path| path.map(fleet)).collect();
        log.state.staleness_of_paths(&paths).0
    };
    assert_eq!(
        (of(&[Some("b")]), of(&[Some("b"), Some("a/y")]), of(&[Some("a"), Some("b")])),
        (300, 2_000, 60_000)
    );
    assert_eq!((of(&[None]), of(&[])), (60_000, 60_000));
    assert!(log.state.last_stamp().index > LogIndex(0));
}
