//! The log, its leader, and the nodes.

use haltline_core::{enforcement::Membership, ids::LogIndex, lease::BootNanos, tracker::Tracker};

use super::Step;
use crate::model::{
    action::election_tick,
    mistake::Mistake,
    scenario::L,
    world::{Deposed, Entry, Hub, Kill, fence_drift, node_id},
};

impl Step<'_> {
    pub(super) fn pass_one_tick(&mut self) {
        self.world.left.steps -= 1;
        self.world.now += 1;
    }

    pub(super) fn propose_kill(&mut self) {
        self.world.log.push(Entry::Kill);
        let index = LogIndex(self.world.log.len() as u64);
        self.world.kill = Some(Kill { index, stamped: self.world.now, committed: None });
        if !self.scenario.kill_in_two_steps {
            self.commit_kill();
        }
    }

    pub(super) fn commit_kill(&mut self) {
        if let Some(kill) = &mut self.world.kill {
            kill.committed = Some(self.world.now);
            self.world.committed = kill.index;
        }
    }

    pub(super) fn commit_other(&mut self, entry: Entry) -> Option<()> {
        let left = &mut self.world.left;
        match entry {
            Entry::Staleness(millis) if millis > L => left.loosenings -= 1,
            Entry::Staleness(_) => left.tightenings -= 1,
            Entry::RemoveSecondNode => {
                left.removals -= 1;
                self.world.removed = Some(self.world.now);
            }
            Entry::AddPath => left.paths -= 1,
            Entry::Founded | Entry::Kill => return None,
        }
        self.world.log.push(entry);
        self.world.committed = LogIndex(self.world.log.len() as u64);
        Some(())
    }

    pub(super) fn elect(&mut self) -> Option<()> {
        if self.world.now < election_tick(self.scenario) {
            return None;
        }
        self.world.left.elections -= 1;
        let node = std::mem::replace(&mut self.world.leader, 1);
        self.world.deposed = Some(Deposed { node, committed: self.world.committed });
        Some(())
    }

    pub(super) fn apply(&mut self, node: usize) -> Option<()> {
        let removal = self.world.log.iter().position(|entry| *entry == Entry::RemoveSecondNode);
        let until = match removal {
            Some(at) if node == 1 => LogIndex(at as u64 + 1),
            _ => self.world.committed,
        };
        let held = &mut self.world.nodes[node];
        if until <= held.applied {
            return None;
        }
        let before = std::mem::replace(&mut held.applied, until);
        let sees = |what| {
            let at = self.world.log.iter().position(|entry| *entry == what);
            at.is_some_and(|at| (before.0..until.0).contains(&(at as u64)))
        };
        let (sees_removal, sees_path) = (sees(Entry::RemoveSecondNode), sees(Entry::AddPath));
        if sees_removal && node == self.scenario.observer {
            let now = self.read(Hub::Node(node));
            let members = [node_id(0)].into_iter().collect();
            if self.is(Mistake::FormerMemberForgotten) {
                self.world.membership = Membership::default();
            }
            self.world.membership.observe(&members, fence_drift(self.mistake), now);
        }
        if sees_path {
            // What it serves changed: the hub ends the stream, and the edge comes back under the new record.
            for edge in 0..self.world.edges.len() {
                if matches!(self.world.edges[edge].stream, Some((Hub::Node(at), _)) if at == node) {
                    self.disconnect(edge);
                }
            }
        }
        Some(())
    }

    pub(super) fn restart_node(&mut self, node: usize) {
        self.world.left.node_restarts -= 1;
        let started = if self.is(Mistake::NoBootWait) { BootNanos(0) } else { self.read(Hub::Node(node)) };
        let held = &mut self.world.nodes[node];
        held.tracker = Tracker::new(started, fence_drift(self.mistake));
        held.watch = None;
        held.clear_by = None;
        self.world.prepared.retain(|answer| answer.node != node);
        self.world.unnoted.retain(|answer| answer.node != node);
        self.world.barriers.retain(|barrier| barrier.node != node);
        for edge in &mut self.world.edges {
            edge.stream = edge.stream.filter(|(hub, _)| *hub != Hub::Node(node));
        }
        if node == self.scenario.observer {
            self.restart_observer();
        }
    }

    /// The observer's process forgets what it waited for and who was a member before; a receipt it gave stays given.
    pub(super) fn restart_observer(&mut self) {
        let now = self.read(Hub::Node(self.scenario.observer));
        let observer = &self.world.nodes[self.scenario.observer];
        let removal = self.world.log.iter().position(|entry| *entry == Entry::RemoveSecondNode);
        let knows_removal = removal.is_some_and(|at| at < observer.applied.0 as usize);
        let members = if knows_removal { 1 } else { self.world.nodes.len() };
        self.world.enforcement = None;
        self.world.membership = Membership::default();
        let members = (0..members).map(node_id).collect();
        self.world.membership.observe(&members, fence_drift(self.mistake), now);
    }
}
