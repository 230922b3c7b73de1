//! Processes of edges: their streams, what they publish and acknowledge, and decisions that take time.

use haltline_core::{ids::LogIndex, tracker::StreamId};

use super::Step;
use crate::model::{
    mistake::Mistake,
    world::{Edge, Hub, forget},
};

impl Step<'_> {
    /// A stream breaks, at both ends.
    pub(super) fn disconnect(&mut self, edge: usize) -> Option<()> {
        let (hub, stream) = self.world.edges[edge].stream.take()?;
        let now = self.read(hub);
        let forgets = match hub {
            Hub::Node(_) => self.is(Mistake::ClosedForgotten),
            Hub::Relay => self.is(Mistake::RelayForgets),
        };
        let tracker = self.world.tracker(hub);
        if forgets {
            forget(tracker, stream, now);
        } else {
            tracker.closed(stream, now);
        }
        if let Some(relay) = &mut self.world.relay {
            relay.waiting.retain(|asker| asker.stream != stream);
        }
        Some(())
    }

    pub(super) fn restart_edge(&mut self, edge: usize) {
        self.world.left.edge_restarts -= 1;
        self.disconnect(edge);
        let mut started = Edge::started(LogIndex(1));
        started.is_restarted = true;
        if self.is(Mistake::PersistedLease) {
            started.book = self.world.edges[edge].book.clone();
        }
        self.world.edges[edge] = started;
    }

    pub(super) fn start_twin(&mut self) -> Option<()> {
        let (hub, _) = self.world.edges[0].stream?;
        self.world.left.twins -= 1;
        self.world.edges.push(Edge::started(LogIndex(1)));
        self.world.attach(self.scenario, self.world.edges.len() - 1, hub);
        Some(())
    }

    pub(super) fn publish(&mut self, edge: usize) -> Option<()> {
        let (hub, _) = self.world.edges[edge].stream?;
        let applied = self.world.applied(hub);
        if applied <= self.world.edges[edge].view {
            return None;
        }
        self.world.edges[edge].view = applied;
        self.acknowledge(edge);
        Some(())
    }

    /// Acknowledges what is published, unless a decision under an older view is still on its way.
    pub(super) fn acknowledge(&mut self, edge: usize) {
        let held = &self.world.edges[edge];
        let view = held.view;
        let has_older = held.deciding.is_some_and(|(loaded, _)| loaded < view);
        let Some((hub, stream)) = held.stream else { return };
        if has_older && !self.is(Mistake::AckBeforeDecisions) {
            return;
        }
        let for_all = self.is(Mistake::AckOfAnother);
        let tracker = self.world.tracker(hub);
        let streams: Vec<StreamId> = match for_all {
            true => tracker.streams().map(|status| status.stream).collect(),
            false => vec![stream],
        };
        for stream in streams {
            tracker.acked(stream, view).ok();
        }
    }

    pub(super) fn decide(&mut self, edge: usize) -> Option<()> {
        let held = &self.world.edges[edge];
        let lease = held.book.lease()?;
        let now = self.scenario.edge_clock.read(self.world.now);
        if !self.world.permits(self.mistake, lease, held.view, now) {
            return None;
        }
        let view = held.view;
        self.world.left.decisions -= 1;
        self.world.edges[edge].deciding = Some((view, lease));
        Some(())
    }
}
