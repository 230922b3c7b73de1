//! Model check of leases and enforcement: every schedule of small worlds, over the real code.
//!
//! The lease book, the tracker and the rule over the cluster are the ones that ship; around them stand a log, leaders,
//! barriers, messages, processes that die, and clocks that are off by as much as is allowed. Time passes from one instant
//! that matters to the next. A search proves something only if it finds the mistakes that somebody could make, so each of
//! them is put in, and must be found.

mod action;
mod clock;
mod mistake;
mod property;
mod scenario;
mod step;
mod world;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use action::Action;
use mistake::Mistake;
use scenario::Scenario;
use step::Step;
use world::World;

/// What is searched: a small world, and what is done wrong in it.
#[derive(Debug, Clone, Copy)]
struct Search {
    scenario: Scenario,
    mistake: Option<Mistake>,
}

impl Model for Search {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.scenario, self.mistake)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        action::actions(world, &self.scenario, self.mistake, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Step { world: world.clone(), scenario: &self.scenario, mistake: self.mistake }.take(action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        property::properties(self)
    }
}

/// What a search came to.
struct Found {
    worlds: usize,
    depth: usize,
    /// Guarantees that broke, each with a schedule that breaks it, one of the shortest.
    broken: Vec<(&'static str, Vec<Action>)>,
    /// What else was seen.
    seen: Vec<&'static str>,
}

/// Searches breadth first, until a guarantee breaks or every schedule was seen.
fn search(scenario: Scenario, mistake: Option<Mistake>) -> Found {
    let search = Search { scenario, mistake };
    let always: Vec<&str> = search
        .properties()
        .iter()
        .filter(|property| property.expectation == Expectation::Always)
        .map(|property| property.name)
        .collect();
    let checker = search.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.discoveries().into_iter();
    let (broken, seen): (Vec<_>, Vec<_>) = found.partition(|(name, _)| always.contains(name));
    Found {
        worlds: checker.unique_state_count(),
        depth: checker.max_depth(),
        broken: broken.into_iter().map(|(name, path)| (name, path.into_actions())).collect(),
        seen: seen.into_iter().map(|(name, _)| name).collect(),
    }
}

/// Every schedule of a scenario keeps the guarantees, and the schedules that they are about are among them.
fn keeps_the_guarantees(scenario: Scenario) {
    let found = search(scenario, None);
    println!("{}: {} worlds, {} moves deep; saw {:?}", scenario.name, found.worlds, found.depth, found.seen);
    assert!(found.broken.is_empty(), "{}: {:#?}", scenario.name, found.broken);
    for sight in scenario.shows {
        assert!(found.seen.contains(&sight.name()), "{}: never saw {}", scenario.name, sight.name());
    }
}

#[test]
fn leases_keep_the_guarantees() {
    keeps_the_guarantees(scenario::LEASES);
    keeps_the_guarantees(scenario::LEASES_FAST_EDGES);
}

#[test]
fn deposed_leaders_keep_the_guarantees() {
    keeps_the_guarantees(scenario::LEADERS);
}

#[test]
fn changes_of_staleness_keep_the_guarantees() {
    keeps_the_guarantees(scenario::STALENESS);
}

#[test]
fn streams_that_come_and_go_keep_the_guarantees() {
    keeps_the_guarantees(scenario::STREAMS);
}

#[test]
fn restarts_keep_the_guarantees() {
    keeps_the_guarantees(scenario::RESTARTS);
}

#[test]
fn slow_decisions_keep_the_guarantees() {
    keeps_the_guarantees(scenario::DECISIONS);
}

#[test]
fn removed_members_keep_the_guarantees() {
    keeps_the_guarantees(scenario::MEMBERS);
}

#[test]
fn paths_that_are_added_keep_the_guarantees() {
    keeps_the_guarantees(scenario::PATHS);
}

#[test]
fn relays_keep_the_guarantees() {
    keeps_the_guarantees(scenario::RELAY);
}

#[test]
fn relays_that_nobody_trusts_keep_the_guarantees() {
    keeps_the_guarantees(scenario::RELAY_UNTRUSTED);
}

#[test]
#[ignore = "takes minutes; run it when the protocol changes"]
fn larger_worlds_keep_the_guarantees() {
    scenario::LARGE.iter().copied().for_each(keeps_the_guarantees);
}

#[test]
fn every_seeded_mistake_is_found() {
    for (mistake, scenario) in mistake::ALL {
        let found = search(*scenario, Some(*mistake));
        let Some((guarantee, schedule)) = found.broken.first() else {
            panic!("{mistake:?} isn't found in {}, {} worlds", scenario.name, found.worlds);
        };
        println!("{mistake:?}, {} worlds: {guarantee}\n    {schedule:?}", found.worlds);
    }
}
