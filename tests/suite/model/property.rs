//! What must hold in every world, and what must be seen in some.

use haltline_core::receipt::EnforcedRule;
use stateright::{Expectation, Property};

use super::{
    Search,
    clock::bound_ticks,
    world::{Edge, Hub, World},
};

/// Something that the search must come across: the schedules that the guarantees are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Sight {
    /// Enforced because all that could permit said so.
    Acked,
    /// Enforced because time passed.
    Fenced,
    /// The kill is committed, and somebody still permits: the window that the guarantees bound.
    PermitOfTheKilled,
    /// An edge that was started anew permits.
    PermitAfterRestart,
    /// A relay's edge permits.
    PermitThroughRelay,
    /// An answer is there before the view that it speaks of.
    AnswerAheadOfItsView,
    /// A node waits to send an answer below a kill that it reported clear.
    Superseded,
    /// Two processes of one name permit.
    TwoProcesses,
    /// An edge permits whose stream broke.
    LeaseWithoutStream,
    /// A deposed leader that holds its old answer is asked by a node, with nothing else amiss.
    BarrierAtDeposed,
    /// A node that restarted waits although no stream lags.
    BootWait,
    /// A decision under an older view is on its way while the newer is published.
    OldDecision,
    /// The kill waits for a member that was removed.
    FormerMember,
}

/// The guarantees of the design.
const GUARANTEES: [Property<Search>; 2] = [
    Property {
        expectation: Expectation::Always,
        name: "no permit past the bound under a view without the kill",
        condition: |search, world| {
            let killed = world.kill.and_then(|kill| kill.committed);
            let bound = killed.map(|at| at + bound_ticks(world.staleness_of_kill()));
            bound.is_none_or(|bound| world.now < bound) || !permits_the_killed(search, world)
        },
    },
    Property {
        expectation: Expectation::Always,
        name: "not enforced while somebody can permit under a view without the kill",
        condition: |search, world| world.enforced.is_none() || !permits_the_killed(search, world),
    },
];

/// The guarantees, and what the scenario must show.
pub(super) fn properties(search: &Search) -> Vec<Property<Search>> {
    GUARANTEES.into_iter().chain(search.scenario.shows.iter().map(|sight| sight.property())).collect()
}

impl Sight {
    /// Its name in reports.
    pub(super) fn name(self) -> &'static str {
        self.property().name
    }

    fn property(self) -> Property<Search> {
        let (name, condition): (_, fn(&Search, &World) -> bool) = match self {
            Self::Acked => ("enforced by acknowledgement, of a lease that was given", acked),
            Self::Fenced => ("enforced by time", |_, world| world.enforced == Some(EnforcedRule::Fenced)),
            Self::PermitOfTheKilled => ("a permit after the commit", |search, world| {
                world.kill.is_some_and(|kill| kill.committed.is_some()) && permits_the_killed(search, world)
            }),
            Self::PermitAfterRestart => ("a permit after a restart", |search, world| {
                permitting(search, world).any(|edge| edge.is_restarted)
            }),
            Self::PermitThroughRelay => ("a permit through a relay", |search, world| {
                world.relay.is_some() && permitting(search, world).next().is_some()
            }),
            Self::AnswerAheadOfItsView => ("an answer ahead of its view", answer_ahead),
            Self::Superseded => ("an unsent answer below a clear kill", superseded),
            Self::TwoProcesses => {
                ("two processes of one name permit", |search, world| permitting(search, world).count() == 2)
            }
            Self::LeaseWithoutStream => ("a permit without a stream", |search, world| {
                permitting(search, world).any(|edge| edge.stream.is_none())
            }),
            Self::BarrierAtDeposed => ("an edge still hangs on a deposed leader", at_deposed),
            Self::BootWait => ("a boot wait", boot_wait),
            Self::OldDecision => ("a decision under an older view", |_, world| {
                world.edges.iter().any(|edge| edge.deciding.is_some_and(|(view, _)| view < edge.view))
            }),
            Self::FormerMember => ("a removed member is waited for", |_, world| {
                let waits = world.enforcement.is_some() && world.enforced.is_none();
                waits && !world.membership.former().is_empty()
            }),
        };
        Property { expectation: Expectation::Sometimes, name, condition }
    }
}

fn permits_the_killed(search: &Search, world: &World) -> bool {
    world.can_permit_the_killed(&search.scenario, search.mistake)
}

/// Processes that would permit now.
fn permitting<'a>(search: &'a Search, world: &'a World) -> impl Iterator<Item = &'a Edge> {
    let now = search.scenario.edge_clock.read(world.now);
    world.edges.iter().filter(move |edge| {
        edge.book.lease().is_some_and(|lease| world.permits(search.mistake, lease, edge.view, now))
    })
}

fn acked(_: &Search, world: &World) -> bool {
    world.enforced == Some(EnforcedRule::Acked) && world.edges.iter().any(|edge| edge.book.lease().is_some())
}

fn answer_ahead(_: &Search, world: &World) -> bool {
    world.edges.iter().any(|edge| {
        let awaited = |nonce| edge.book.sent_at(nonce).is_some();
        world.sent.iter().any(|answer| awaited(&answer.asker.nonce) && answer.index > edge.view)
    })
}

fn superseded(_: &Search, world: &World) -> bool {
    world.prepared.iter().any(|answer| answer.index < world.nodes[answer.node].tracker.floor())
}

fn at_deposed(search: &Search, world: &World) -> bool {
    let deposed = world.deposed.map(|deposed| Hub::Node(deposed.node));
    let permits_there = |edge: &Edge| edge.stream.map(|(hub, _)| hub) == deposed;
    deposed.is_some() && permitting(search, world).any(permits_there)
}

fn boot_wait(_: &Search, world: &World) -> bool {
    world.nodes.iter().any(|node| node.clear_by.is_some() && node.tracker.streams().next().is_none())
}
