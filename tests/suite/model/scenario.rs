//! Small worlds, each with the moves that some mistakes need. All together they are every move of the model.

use haltline_core::time::Millis;

use super::{clock::Clock, property::Sight};

/// `L` at the beginning.
pub(super) const L: Millis = Millis(100);

/// How often each move may still be made. What isn't listed is bounded by these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Moves {
    /// Probes of edges.
    pub(super) probes: u8,
    /// Waits of one tick.
    pub(super) steps: u8,
    /// Streams that break.
    pub(super) closes: u8,
    /// Edge processes that are killed and started again, from an old snapshot.
    pub(super) edge_restarts: u8,
    /// Second processes started under an edge's name, the first still running.
    pub(super) twins: u8,
    /// Nodes killed and started again.
    pub(super) node_restarts: u8,
    /// Relays killed and started again, their stream upstream surviving.
    pub(super) relay_restarts: u8,
    /// Decisions that take time.
    pub(super) decisions: u8,
    /// Elections of another leader, the old one not knowing.
    pub(super) elections: u8,
    /// Removals of the second node.
    pub(super) removals: u8,
    /// Changes of `L` to half.
    pub(super) tightenings: u8,
    /// Changes of `L` to double.
    pub(super) loosenings: u8,
    /// Paths that are added to what edges serve.
    pub(super) paths: u8,
}

/// A world to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Scenario {
    /// For people.
    pub(super) name: &'static str,
    /// Nodes, one or two.
    pub(super) nodes: usize,
    /// Which node the edge begins at; none: at the relay.
    pub(super) edge_at: Option<usize>,
    /// Whether the relay's acknowledgements are taken, if there is one.
    pub(super) relay_trusted: bool,
    /// Clocks of the nodes; the relay's is the first's.
    pub(super) hub_clocks: [Clock; 2],
    /// Which node waits for the kill to be enforced.
    pub(super) observer: usize,
    /// Clocks of edges.
    pub(super) edge_clock: Clock,
    /// Whether the kill is proposed at one time and committed at another.
    pub(super) kill_in_two_steps: bool,
    /// Whether an answer is prepared at one time and sent at another.
    pub(super) answer_in_two_steps: bool,
    /// Whether the kill stops what edges serve only once a path is added; otherwise it stops everything.
    pub(super) kills_an_added_path: bool,
    /// Whether hubs watch, report and acknowledge as soon as they can. That makes the kill enforced soonest, but also
    /// refuses old answers soonest; so both are searched.
    pub(super) is_eager: bool,
    /// How often each move may be made.
    pub(super) moves: Moves,
    /// What the search must have come across, or it proves nothing.
    pub(super) shows: &'static [Sight],
}

const BASE: Scenario = Scenario {
    name: "",
    nodes: 1,
    edge_at: Some(0),
    relay_trusted: true,
    hub_clocks: [Clock::Fast; 2],
    observer: 0,
    edge_clock: Clock::Slow,
    kill_in_two_steps: false,
    answer_in_two_steps: false,
    kills_an_added_path: false,
    is_eager: true,
    moves: Moves {
        probes: 2,
        steps: 0,
        closes: 0,
        edge_restarts: 0,
        twins: 0,
        node_restarts: 0,
        relay_restarts: 0,
        decisions: 0,
        elections: 0,
        removals: 0,
        tightenings: 0,
        loosenings: 0,
        paths: 0,
    },
    shows: &[Sight::Acked, Sight::Fenced, Sight::PermitOfTheKilled],
};

/// Probes, answers and processes that die: the lease by itself.
pub(super) const LEASES: Scenario = Scenario {
    name: "leases",
    kill_in_two_steps: true,
    moves: Moves { edge_restarts: 1, steps: 1, ..BASE.moves },
    shows: &[
        Sight::Acked,
        Sight::Fenced,
        Sight::PermitOfTheKilled,
        Sight::PermitAfterRestart,
        Sight::AnswerAheadOfItsView,
    ],
    ..BASE
};

/// The clocks the other way round: whoever waits is slow, edges are fast.
pub(super) const LEASES_FAST_EDGES: Scenario =
    Scenario { name: "leases, fast edges", hub_clocks: [Clock::Slow; 2], edge_clock: Clock::Fast, ..LEASES };

/// A leader that was deposed and still answers.
pub(super) const LEADERS: Scenario = Scenario {
    name: "leaders",
    nodes: 2,
    hub_clocks: [Clock::Slow, Clock::Fast],
    observer: 1,
    moves: Moves { elections: 1, steps: 1, probes: 1, ..BASE.moves },
    shows: &[Sight::Acked, Sight::Fenced, Sight::PermitOfTheKilled, Sight::BarrierAtDeposed],
    ..BASE
};

/// `L` changes.
pub(super) const STALENESS: Scenario = Scenario {
    name: "staleness",
    moves: Moves { tightenings: 1, loosenings: 1, closes: 1, ..BASE.moves },
    ..BASE
};

/// Streams that break and come back, and two processes of one name.
pub(super) const STREAMS: Scenario = Scenario {
    name: "streams",
    answer_in_two_steps: true,
    moves: Moves { closes: 1, twins: 1, ..BASE.moves },
    shows: &[
        Sight::Acked,
        Sight::Fenced,
        Sight::PermitOfTheKilled,
        Sight::Superseded,
        Sight::TwoProcesses,
        Sight::LeaseWithoutStream,
    ],
    ..BASE
};

/// Nodes and edges that die and come back.
pub(super) const RESTARTS: Scenario = Scenario {
    name: "restarts",
    answer_in_two_steps: true,
    moves: Moves { node_restarts: 1, edge_restarts: 1, ..BASE.moves },
    shows: &[
        Sight::Acked,
        Sight::Fenced,
        Sight::PermitOfTheKilled,
        Sight::PermitAfterRestart,
        Sight::BootWait,
    ],
    ..BASE
};

/// Decisions that take time.
pub(super) const DECISIONS: Scenario = Scenario {
    name: "decisions",
    moves: Moves { decisions: 2, closes: 1, ..BASE.moves },
    shows: &[Sight::Acked, Sight::Fenced, Sight::PermitOfTheKilled, Sight::OldDecision],
    ..BASE
};

/// A member that is removed.
pub(super) const MEMBERS: Scenario = Scenario {
    name: "members",
    nodes: 2,
    edge_at: Some(1),
    moves: Moves { removals: 1, node_restarts: 1, probes: 1, ..BASE.moves },
    shows: &[Sight::Acked, Sight::Fenced, Sight::PermitOfTheKilled, Sight::FormerMember],
    ..BASE
};

/// A path that is added to what edges serve, and then killed.
pub(super) const PATHS: Scenario = Scenario {
    name: "paths",
    nodes: 2,
    kills_an_added_path: true,
    moves: Moves { paths: 1, ..BASE.moves },
    ..BASE
};

/// A relay whose acknowledgements are taken.
pub(super) const RELAY: Scenario = Scenario {
    name: "relay",
    edge_at: None,
    moves: Moves { closes: 1, relay_restarts: 1, ..BASE.moves },
    shows: &[
        Sight::Acked,
        Sight::Fenced,
        Sight::PermitOfTheKilled,
        Sight::PermitThroughRelay,
        Sight::LeaseWithoutStream,
    ],
    ..BASE
};

/// A relay whose acknowledgements aren't, and that says and sends what it likes.
pub(super) const RELAY_UNTRUSTED: Scenario = Scenario {
    name: "relay, untrusted",
    relay_trusted: false,
    shows: &[Sight::Fenced, Sight::PermitOfTheKilled, Sight::PermitThroughRelay],
    ..RELAY
};

/// Larger worlds, and hubs that take their time. Minutes each, so not in every run.
pub(super) const LARGE: &[Scenario] = &[
    Scenario { is_eager: false, moves: Moves { probes: 3, ..LEASES.moves }, ..LEASES },
    Scenario { moves: Moves { probes: 2, closes: 1, ..LEADERS.moves }, ..LEADERS },
    Scenario { is_eager: false, moves: Moves { edge_restarts: 1, ..STALENESS.moves }, ..STALENESS },
    Scenario { is_eager: false, moves: Moves { steps: 1, ..STREAMS.moves }, ..STREAMS },
    Scenario { is_eager: false, moves: Moves { closes: 1, steps: 1, ..RESTARTS.moves }, ..RESTARTS },
    Scenario { is_eager: false, moves: Moves { edge_restarts: 1, steps: 1, ..DECISIONS.moves }, ..DECISIONS },
    Scenario { moves: Moves { probes: 2, closes: 1, ..MEMBERS.moves }, ..MEMBERS },
    Scenario { is_eager: false, moves: Moves { closes: 1, ..PATHS.moves }, ..PATHS },
    Scenario { is_eager: false, ..RELAY },
    Scenario { is_eager: false, ..RELAY_UNTRUSTED },
];
