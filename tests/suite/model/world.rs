//! The state of the model: a cluster, its edges and a relay, made of the real lease book, tracker and rule over the
//! cluster, with everything around them reduced to what the protocol depends on.
//!
//! The log is shared: what is committed is committed, and nodes differ only in how far they have applied it. Messages that
//! were sent may be delivered late, in any order, again, or never.

use std::sync::Arc;

use haltline_core::{
    enforcement::{Enforcement, Membership},
    ids::{LogIndex, NodeId, Nonce},
    lease::{BootNanos, Drift, Lease, LeaseBook},
    path::FleetPath,
    receipt::EnforcedRule,
    selector::Selector,
    time::Millis,
    tracker::{Acks, Enforcer, StreamId, Tracker, WatchId},
};

use super::{
    clock::{Clock, Tick, drift},
    mistake::Mistake,
    scenario::{L, Moves, Scenario},
};

/// An entry of the log that matters here. The first is the founding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Entry {
    Founded,
    Kill,
    Staleness(Millis),
    RemoveSecondNode,
    /// Edges serve the fleet that will be killed, and didn't before.
    AddPath,
}

/// Who serves a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Hub {
    Node(usize),
    Relay,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) applied: LogIndex,
    pub(super) tracker: Tracker,
    pub(super) watch: Option<WatchId>,
    /// When its watch is over at the latest.
    pub(super) clear_by: Option<Tick>,
}

/// One process of an edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Edge {
    /// Published.
    pub(super) view: LogIndex,
    pub(super) book: LeaseBook,
    /// Probes of this process that wait, by number.
    pub(super) numbered: Vec<(u8, Nonce)>,
    pub(super) probes_sent: u8,
    pub(super) stream: Option<(Hub, StreamId)>,
    /// A decision that has loaded view and lease, and hasn't read the clock.
    pub(super) deciding: Option<(LogIndex, Lease)>,
    /// Started after another of its name had died.
    pub(super) is_restarted: bool,
}

/// The relay.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Relay {
    pub(super) view: LogIndex,
    pub(super) book: LeaseBook,
    pub(super) tracker: Tracker,
    pub(super) upstream: StreamId,
    /// When leases of the process before have ended.
    pub(super) boot_ends: Tick,
    /// Downstream probes that wait for the next one upstream.
    pub(super) waiting: Vec<Asker>,
    /// Probes sent upstream, with those that they serve.
    pub(super) asked: Vec<(Nonce, Vec<Asker>)>,
}

/// A probe that reached a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Asker {
    pub(super) stream: StreamId,
    pub(super) nonce: Nonce,
    /// Which probe of its process it is.
    pub(super) number: u8,
    pub(super) arrived: Tick,
}

/// A read barrier on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Barrier {
    /// Who asks, for whom.
    pub(super) node: usize,
    pub(super) asker: Asker,
    /// Who is taken for the leader, and its commit index when it was asked.
    pub(super) leader: usize,
    pub(super) read_index: LogIndex,
    pub(super) for_relay: bool,
}

/// An answer: being prepared, or sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    pub(super) node: usize,
    pub(super) asker: Asker,
    pub(super) index: LogIndex,
    pub(super) for_relay: bool,
}

/// The kill, as the world knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kill {
    pub(super) index: LogIndex,
    /// When its batch closed.
    pub(super) stamped: Tick,
    /// When a leader first had it committed: T.
    pub(super) committed: Option<Tick>,
}

/// A leader that doesn't know that there is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Deposed {
    pub(super) node: usize,
    pub(super) committed: LogIndex,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) now: Tick,
    pub(super) log: Vec<Entry>,
    pub(super) committed: LogIndex,
    pub(super) kill: Option<Kill>,
    pub(super) leader: usize,
    pub(super) deposed: Option<Deposed>,
    pub(super) removed: Option<Tick>,
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
    pub(super) relay: Option<Relay>,
    pub(super) barriers: Vec<Barrier>,
    pub(super) prepared: Vec<Answer>,
    /// Sent, and noted too late.
    pub(super) unnoted: Vec<Answer>,
    /// Everything that was ever sent to an edge, and to the relay.
    pub(super) sent: Vec<Answer>,
    pub(super) membership: Membership,
    pub(super) enforcement: Option<Enforcement>,
    pub(super) enforced: Option<EnforcedRule>,
    pub(super) left: Moves,
    pub(super) streams_opened: u64,
    pub(super) nonces_used: u8,
}

/// A tracker that forgets what it is told of a stream: what several of the mistakes come down to.
pub(super) fn forget(tracker: &mut Tracker, stream: StreamId, now: BootNanos) {
    // What has published everything endangers nothing.
    tracker.acked(stream, LogIndex(u64::MAX)).ok();
    tracker.closed(stream, now);
}

pub(super) fn node_id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

/// What edges serve at first where the scenario is about paths, and what is added.
fn fleet(path: &str) -> Option<FleetPath> {
    Some(path.parse().expect("a plain path"))
}

impl World {
    /// The world before anything happened: everything is up for long, the edge is connected and knows the log.
    pub(super) fn new(scenario: &Scenario, mistake: Option<Mistake>) -> Self {
        let fences = fence_drift(mistake);
        let node = Node {
            applied: LogIndex(1),
            tracker: Tracker::new(BootNanos(0), fences),
            watch: None,
            clear_by: None,
        };
        let mut world = Self {
            now: 0,
            log: vec![Entry::Founded],
            committed: LogIndex(1),
            kill: None,
            leader: 0,
            deposed: None,
            removed: None,
            nodes: vec![node; scenario.nodes],
            edges: Vec::new(),
            relay: None,
            barriers: Vec::new(),
            prepared: Vec::new(),
            unnoted: Vec::new(),
            sent: Vec::new(),
            membership: Membership::default(),
            enforcement: None,
            enforced: None,
            left: scenario.moves,
            streams_opened: 0,
            nonces_used: 0,
        };
        let members = (0..scenario.nodes).map(node_id).collect();
        let observer_clock = scenario.hub_clocks[scenario.observer];
        world.membership.observe(&members, fences, observer_clock.read(0));
        if scenario.edge_at.is_none() {
            let acks = if scenario.relay_trusted { Acks::Count } else { Acks::DontCount };
            let upstream = world.open(scenario, Hub::Node(0), "relay", acks);
            world.relay = Some(Relay {
                view: LogIndex(1),
                book: LeaseBook::default(),
                tracker: Tracker::new(BootNanos(0), fences),
                upstream,
                boot_ends: 0,
                waiting: Vec::new(),
                asked: Vec::new(),
            });
        }
        world.edges.push(Edge::started(LogIndex(1)));
        let hub = scenario.edge_at.map_or(Hub::Relay, Hub::Node);
        world.attach(scenario, 0, hub);
        world
    }

    /// Opens a stream and returns its id.
    fn open(&mut self, scenario: &Scenario, hub: Hub, name: &str, acks: Acks) -> StreamId {
        self.streams_opened += 1;
        let stream = StreamId(self.streams_opened);
        let paths = match (scenario.kills_an_added_path, self.has_path(self.applied(hub))) {
            (false, _) => Arc::from([None]),
            (true, false) => Arc::from([fleet("first")]),
            (true, true) => Arc::from([fleet("first"), fleet("added")]),
        };
        let enforcer = Enforcer { name: name.parse().expect("a plain name"), paths, acks };
        let now = hub.clock(scenario).read(self.now);
        self.tracker(hub).open(stream, enforcer, now).expect("far below its bounds");
        stream
    }

    /// Connects an edge.
    pub(super) fn attach(&mut self, scenario: &Scenario, edge: usize, hub: Hub) {
        let stream = self.open(scenario, hub, "edge", Acks::Count);
        self.edges[edge].stream = Some((hub, stream));
    }

    pub(super) fn tracker(&mut self, hub: Hub) -> &mut Tracker {
        match hub {
            Hub::Node(node) => &mut self.nodes[node].tracker,
            Hub::Relay => &mut self.relay.as_mut().expect("only worlds with a relay name it").tracker,
        }
    }

    /// How far a hub has applied the log.
    pub(super) fn applied(&self, hub: Hub) -> LogIndex {
        match hub {
            Hub::Node(node) => self.nodes[node].applied,
            Hub::Relay => self.relay.as_ref().map_or(LogIndex(0), |relay| relay.view),
        }
    }

    /// A nonce that nobody used.
    pub(super) fn nonce(&mut self) -> Nonce {
        self.nonces_used += 1;
        Nonce([self.nonces_used; 32])
    }

    /// `L` in the view at an index.
    pub(super) fn staleness_at(&self, index: LogIndex) -> Millis {
        let until = self.log.iter().take(index.0 as usize);
        let changed = until.rev().find_map(|entry| match entry {
            Entry::Staleness(millis) => Some(*millis),
            _ => None,
        });
        changed.unwrap_or(L)
    }

    /// Whether the path is added in the view at an index.
    fn has_path(&self, index: LogIndex) -> bool {
        self.log.iter().take(index.0 as usize).any(|entry| *entry == Entry::AddPath)
    }

    /// What the kill stops.
    pub(super) fn selector(scenario: &Scenario) -> Selector {
        let added = scenario.kills_an_added_path.then(|| fleet("added")).flatten();
        Selector { fleet: added, ..Selector::default() }
    }

    /// Whether an edge serves what the kill stops, in this view, under this lease.
    fn serves(&self, scenario: &Scenario, mistake: Option<Mistake>, lease: Lease, view: LogIndex) -> bool {
        let lease_counts = mistake != Some(Mistake::PathAddedToLease);
        !scenario.kills_an_added_path
            || (self.has_path(view) && (!lease_counts || self.has_path(lease.index)))
    }

    /// The largest `L` that a lease may rest on which the kill stops.
    pub(super) fn staleness_of_kill(&self) -> Millis {
        let last = self.kill.map_or(self.committed, |kill| kill.index);
        (1..=last.0).map(|index| self.staleness_at(LogIndex(index))).max().unwrap_or(L)
    }

    /// Whether a process could permit now what the kill stops.
    pub(super) fn can_permit_the_killed(&self, scenario: &Scenario, mistake: Option<Mistake>) -> bool {
        let Some(kill) = self.kill else { return false };
        let now = scenario.edge_clock.read(self.now);
        self.edges.iter().any(|edge| {
            let by_decision = edge.deciding.map(|(view, lease)| (view, Some(lease)));
            let ways = [Some((edge.view, edge.book.lease())), by_decision];
            ways.into_iter().flatten().any(|(view, lease)| {
                let can = |lease| {
                    self.permits(mistake, lease, view, now) && self.serves(scenario, mistake, lease, view)
                };
                view < kill.index && lease.is_some_and(can)
            })
        })
    }

    /// Whether a lease permits under a view.
    pub(super) fn permits(
        &self,
        mistake: Option<Mistake>,
        lease: Lease,
        view: LogIndex,
        now: BootNanos,
    ) -> bool {
        let in_view = self.staleness_at(view);
        let at_index = match mistake {
            Some(Mistake::LoosenedLengthens) => in_view,
            _ => self.staleness_at(lease.index),
        };
        lease.permits(now, at_index, in_view)
    }
}

impl Edge {
    /// A process that just started, with this much of the log from its cache.
    pub(super) fn started(view: LogIndex) -> Self {
        Self {
            view,
            book: LeaseBook::default(),
            numbered: Vec::new(),
            probes_sent: 0,
            stream: None,
            deciding: None,
            is_restarted: false,
        }
    }
}

impl Hub {
    pub(super) fn clock(self, scenario: &Scenario) -> Clock {
        match self {
            Self::Node(node) => scenario.hub_clocks[node],
            Self::Relay => scenario.hub_clocks[0],
        }
    }
}

/// The drift that fences are computed with.
pub(super) fn fence_drift(mistake: Option<Mistake>) -> Drift {
    match mistake {
        Some(Mistake::NoDriftMargin) => Drift::from_ppm(0).expect("none"),
        // (1 + 95,445 ppm)² is 1 + 2ρ for ρ = 10 %, less a third of a millionth.
        Some(Mistake::DoubleDrift) => Drift::from_ppm(95_445).expect("less than ρ"),
        _ => drift(),
    }
}
