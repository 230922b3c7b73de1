//! What may happen next.

use haltline_core::lease::fence_nanos;
use haltline_core::time::Millis;

use super::{
    clock::{Tick, bound_ticks},
    mistake::Mistake,
    scenario::{L, Scenario},
    world::{Entry, Hub, World, fence_drift},
};

/// One move. Numbers are places in the world's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// Time passes to the next instant at which something ends.
    PassToNextEnd,
    /// Time passes by one tick.
    PassOneTick,
    /// The kill's batch closes.
    ProposeKill,
    /// What was proposed is committed; this is T.
    CommitKill,
    /// Another entry is committed.
    CommitOther(Entry),
    /// The other node is elected, and the leader doesn't notice.
    Elect,
    /// A node applies all that is committed.
    Apply(usize),
    /// An edge's stream breaks.
    Close(usize),
    /// An edge connects.
    Attach(usize, Hub),
    /// An edge's process dies and another takes its place.
    RestartEdge(usize),
    /// A second process of the first edge starts.
    StartTwin,
    RestartNode(usize),
    RestartRelay,
    /// An edge sends a probe; a node takes this one for the leader.
    Probe(usize, usize),
    /// The relay sends one for all that wait.
    RelayProbe(usize),
    /// A barrier is confirmed, the node has applied enough, and its answer is made.
    Confirm(usize),
    /// A prepared answer is sent.
    Send(usize),
    /// A grant is noted after the fact.
    Note(usize),
    /// An answer reaches an edge.
    Deliver(usize, usize),
    /// An answer reaches the relay.
    DeliverToRelay(usize),
    /// An edge publishes what its hub has, and acknowledges when it may.
    Publish(usize),
    RelayPublish,
    /// The relay acknowledges upstream what is settled below it, where that isn't done at once.
    RelayAcknowledge,
    /// A node begins to watch the kill, where that isn't done at once.
    Report(usize),
    /// A decision begins: view and lease are loaded.
    Decide(usize),
    /// It has read the clock and returned.
    Return(usize),
}

/// How long a leader believes, by its clock, that nobody else can have been elected.
pub(super) const LEADER_LEASE: Millis = Millis(10);

/// All moves that the scenario still allows. Some may turn out to change nothing.
pub(super) fn actions(world: &World, scenario: &Scenario, mistake: Option<Mistake>, to: &mut Vec<Action>) {
    time(world, scenario, mistake, to);
    cluster(world, scenario, to);
    edges(world, scenario, to);
    if world.relay.is_some() {
        to.push(Action::RelayPublish);
        if !scenario.is_eager {
            to.push(Action::RelayAcknowledge);
        }
        leaders(world).for_each(|leader| to.push(Action::RelayProbe(leader)));
        (0..world.sent.len()).for_each(|answer| to.push(Action::DeliverToRelay(answer)));
        if world.left.relay_restarts > 0 {
            to.push(Action::RestartRelay);
        }
    }
    (0..world.barriers.len()).for_each(|barrier| to.push(Action::Confirm(barrier)));
    (0..world.prepared.len()).for_each(|answer| to.push(Action::Send(answer)));
    (0..world.unnoted.len()).for_each(|answer| to.push(Action::Note(answer)));
}

fn time(world: &World, scenario: &Scenario, mistake: Option<Mistake>, to: &mut Vec<Action>) {
    if next_end(world, scenario, mistake).is_some() {
        to.push(Action::PassToNextEnd);
    }
    if world.left.steps > 0 {
        to.push(Action::PassOneTick);
    }
}

fn cluster(world: &World, scenario: &Scenario, to: &mut Vec<Action>) {
    match world.kill {
        None => to.push(Action::ProposeKill),
        Some(kill) if kill.committed.is_none() => to.push(Action::CommitKill),
        Some(_) => {}
    }
    let is_quiet = world.kill.is_none();
    if is_quiet && world.left.tightenings > 0 {
        to.push(Action::CommitOther(Entry::Staleness(Millis(L.0 / 2))));
    }
    if is_quiet && world.left.loosenings > 0 {
        to.push(Action::CommitOther(Entry::Staleness(Millis(L.0 * 2))));
    }
    if is_quiet && world.left.removals > 0 {
        to.push(Action::CommitOther(Entry::RemoveSecondNode));
    }
    if is_quiet && world.left.paths > 0 {
        to.push(Action::CommitOther(Entry::AddPath));
    }
    if world.left.elections > 0 {
        to.push(Action::Elect);
    }
    for node in 0..world.nodes.len() {
        to.push(Action::Apply(node));
        if !scenario.is_eager && world.nodes[node].watch.is_none() {
            to.push(Action::Report(node));
        }
        if world.left.node_restarts > 0 {
            to.push(Action::RestartNode(node));
        }
    }
}

fn edges(world: &World, scenario: &Scenario, to: &mut Vec<Action>) {
    for (number, edge) in world.edges.iter().enumerate() {
        match edge.stream {
            Some(_) => {
                to.push(Action::Publish(number));
                if world.left.closes > 0 {
                    to.push(Action::Close(number));
                }
                if world.left.probes > 0 {
                    leaders(world).for_each(|leader| to.push(Action::Probe(number, leader)));
                }
            }
            None => hubs(world, scenario).for_each(|hub| to.push(Action::Attach(number, hub))),
        }
        if world.left.edge_restarts > 0 {
            to.push(Action::RestartEdge(number));
        }
        match edge.deciding {
            Some(_) => to.push(Action::Return(number)),
            None if world.left.decisions > 0 => to.push(Action::Decide(number)),
            None => {}
        }
        (0..world.sent.len()).for_each(|answer| to.push(Action::Deliver(answer, number)));
    }
    if world.left.twins > 0 {
        to.push(Action::StartTwin);
    }
}

/// Whom nodes take for the leader.
fn leaders(world: &World) -> impl Iterator<Item = usize> {
    [Some(world.leader), world.deposed.map(|deposed| deposed.node)].into_iter().flatten()
}

fn hubs(world: &World, scenario: &Scenario) -> impl Iterator<Item = Hub> {
    let is_removed = world.removed.is_some();
    let nodes = (0..world.nodes.len()).filter(move |node| !(is_removed && *node == 1)).map(Hub::Node);
    let by_relay = scenario.edge_at.is_none();
    nodes.filter(move |_| !by_relay).chain(by_relay.then_some(Hub::Relay))
}

/// The next instant at which something ends that the protocol counts on.
pub(super) fn next_end(world: &World, scenario: &Scenario, mistake: Option<Mistake>) -> Option<Tick> {
    let observer = scenario.hub_clocks[scenario.observer];
    let killed = world.kill.and_then(|kill| kill.committed);
    let bound = killed.map(|at| at + bound_ticks(world.staleness_of_kill()));
    let enforced = world.enforcement.as_ref().map(|wait| observer.tick_at(wait.until()));
    let window = fence_nanos(world.staleness_of_kill(), fence_drift(mistake));
    let former = world.membership.former().values().map(|removed| observer.tick_at(removed.plus(window)));
    let election = (world.left.elections > 0).then(|| election_tick(scenario));
    let clears = world.nodes.iter().filter_map(|node| node.clear_by);
    let relay = world.relay.as_ref().map(|relay| relay.boot_ends);
    let ends = [bound, enforced, election, relay].into_iter().flatten().chain(former).chain(clears);
    ends.filter(|end| *end > world.now).min()
}

/// From when the second node may be elected: it heard the leader at the beginning, and waits by its own clock.
pub(super) fn election_tick(scenario: &Scenario) -> Tick {
    let clock = scenario.hub_clocks[1];
    clock.tick_at(clock.read(0).plus(LEADER_LEASE.into()))
}
