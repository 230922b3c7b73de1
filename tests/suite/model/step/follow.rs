//! What follows from every move at once: reports, and the rule over the cluster.

use haltline_core::{
    enforcement::{Decision, Enforcement},
    ids::Nonce,
    tracker::{Clear, WatchedKill},
};

use super::Step;
use crate::model::{
    mistake::Mistake,
    world::{Hub, World, fence_drift, node_id},
};

impl Step<'_> {
    /// Whatever only makes the kill enforced sooner happens as soon as it can, unless the scenario wants it as moves.
    pub(super) fn follow(&mut self) {
        if self.scenario.is_eager {
            self.relay_acknowledges();
        }
        self.observer_sees_the_kill();
        for node in 0..self.world.nodes.len() {
            if self.scenario.is_eager || self.world.nodes[node].watch.is_some() {
                self.node_reports(node);
            }
        }
        self.observer_decides();
        self.forget_the_useless();
    }

    pub(super) fn observer_sees_the_kill(&mut self) {
        let observer = self.scenario.observer;
        let Some(kill) = self.world.kill.filter(|kill| kill.committed.is_some()) else { return };
        if self.world.enforcement.is_none() && self.world.nodes[observer].applied >= kill.index {
            let seen = if self.is(Mistake::FenceFromStamp) { kill.stamped } else { self.world.now };
            let observed = self.scenario.hub_clocks[observer].read(seen);
            let (staleness, drift) = (self.world.staleness_of_kill(), fence_drift(self.mistake));
            self.world.enforcement =
                Some(Enforcement::new(node_id(observer), kill.index, staleness, drift, observed));
        }
    }

    /// A node that has applied the kill watches it, and reports it clear when it is.
    pub(super) fn node_reports(&mut self, number: usize) {
        let Some(kill) = self.world.kill.filter(|kill| kill.committed.is_some()) else { return };
        let (max_staleness, selector) = (self.world.staleness_of_kill(), World::selector(self.scenario));
        let now = self.read(Hub::Node(number));
        let node = &mut self.world.nodes[number];
        if node.watch.is_none() && node.applied >= kill.index {
            let watched = WatchedKill { index: kill.index, selector, max_staleness };
            node.watch = node.tracker.watch(watched, node.applied, now).ok();
        }
        let Some(watch) = node.watch else { return };
        let clock = self.scenario.hub_clocks[number];
        match node.tracker.clear(watch, now) {
            Ok(Clear::Cleared(cleared)) => {
                node.clear_by = None;
                if let Some(enforcement) = &mut self.world.enforcement {
                    enforcement.report(node_id(number), cleared);
                }
            }
            Ok(Clear::Waiting { until, .. }) => node.clear_by = Some(clock.tick_at(until)),
            Err(_) => node.clear_by = None,
        }
    }

    pub(super) fn observer_decides(&mut self) {
        let now = self.read(Hub::Node(self.scenario.observer));
        let Some(enforcement) = &self.world.enforcement else { return };
        if let Decision::Enforced(enforced) = enforcement.decide(&self.world.membership, now) {
            self.world.enforced.get_or_insert(enforced.rule);
        }
    }

    /// Drops messages that nobody can take any more, so that worlds that differ in nothing else are one.
    pub(super) fn forget_the_useless(&mut self) {
        if self.mistake != Some(Mistake::FenceFromStamp)
            && let Some(kill) = &mut self.world.kill
        {
            kill.stamped = 0;
        }
        let by_number = self.is(Mistake::MatchedBySequence);
        let is_believed = |leader: &usize| self.is_confirmed(*leader);
        let world = &self.world;
        let waits_for = |nonce: &Nonce| {
            by_number
                || world.edges.iter().any(|edge| edge.book.sent_at(nonce).is_some())
                || world.relay.as_ref().is_some_and(|relay| relay.book.sent_at(nonce).is_some())
        };
        let sent = world.sent.iter().filter(|answer| waits_for(&answer.asker.nonce)).copied().collect();
        let barriers = world.barriers.iter();
        let barriers =
            barriers.filter(|barrier| is_believed(&barrier.leader) && waits_for(&barrier.asker.nonce));
        let barriers = barriers.copied().collect();
        self.world.sent = sent;
        self.world.barriers = barriers;
    }
}
