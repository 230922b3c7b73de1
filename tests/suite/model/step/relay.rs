//! The relay: it asks for those below it, passes answers on, and acknowledges what all of them have.

use haltline_core::{
    ids::LogIndex,
    lease::{BootNanos, LeaseBook, fence_nanos},
    tracker::Tracker,
};

use super::Step;
use crate::model::{
    mistake::Mistake,
    scenario::L,
    world::{Answer, Asker, Hub, fence_drift},
};

impl Step<'_> {
    pub(super) fn relay_probe(&mut self, leader: usize) -> Option<()> {
        let now = self.read(Hub::Relay);
        let nonce = self.world.nonce();
        let arrived = self.world.now;
        let relay = self.world.relay.as_mut()?;
        if relay.waiting.is_empty() {
            return None;
        }
        let served = std::mem::take(&mut relay.waiting);
        relay.book.sent(nonce, now).ok()?;
        relay.asked.push((nonce, served));
        let asker = Asker { stream: relay.upstream, nonce, number: 0, arrived };
        self.begin_barrier(0, asker, leader, true);
        Some(())
    }

    pub(super) fn deliver_to_relay(&mut self, answer: usize) -> Option<()> {
        let answer = *self.world.sent.get(answer)?;
        let serves_all = self.is(Mistake::RelayAnswersFromBefore);
        let relay = self.world.relay.as_mut()?;
        let asked = relay.asked.iter().position(|(nonce, _)| *nonce == answer.asker.nonce);
        let asked = asked.filter(|_| answer.for_relay)?;
        relay.book.accept(&answer.asker.nonce, answer.index, relay.view).ok()?;
        let (_, mut served) = relay.asked.remove(asked);
        if serves_all {
            served.append(&mut relay.waiting);
        }
        for asker in served {
            let below = Answer { asker, for_relay: false, ..answer };
            // A relay that isn't trusted sends what it likes.
            if self.note(Hub::Relay, below).is_ok() || !self.scenario.relay_trusted {
                self.world.sent.push(below);
            }
        }
        Some(())
    }

    pub(super) fn relay_publish(&mut self) -> Option<()> {
        let applied = self.world.applied(Hub::Node(0));
        let relay = self.world.relay.as_mut()?;
        if applied <= relay.view {
            return None;
        }
        relay.view = applied;
        Some(())
    }

    pub(super) fn restart_relay(&mut self) -> Option<()> {
        self.world.left.relay_restarts -= 1;
        let now = self.read(Hub::Relay);
        let drift = fence_drift(self.mistake);
        let started = if self.is(Mistake::RelayAcksAfterRestart) { BootNanos(0) } else { now };
        let boot_ends = now.plus(fence_nanos(L, drift));
        let clock = Hub::Relay.clock(self.scenario);
        let relay = self.world.relay.as_mut()?;
        relay.tracker = Tracker::new(started, drift);
        relay.boot_ends = clock.tick_at(boot_ends);
        relay.book = LeaseBook::default();
        relay.waiting.clear();
        relay.asked.clear();
        for edge in &mut self.world.edges {
            edge.stream = edge.stream.filter(|(hub, _)| *hub != Hub::Relay);
        }
        Some(())
    }

    pub(super) fn relay_acknowledges(&mut self) {
        let now = self.read(Hub::Relay);
        let Some(view) = self.world.relay.as_ref().map(|relay| relay.view) else { return };
        let lasts = self.world.staleness_at(view);
        let Some(relay) = self.world.relay.as_mut() else { return };
        let settled = match self.scenario.relay_trusted {
            true => relay.tracker.settle(view, lasts, now),
            // A relay that isn't trusted says what it likes.
            false => Some(LogIndex(u64::MAX)),
        };
        let upstream = relay.upstream;
        if let Some(settled) = settled {
            self.world.nodes[0].tracker.acked(upstream, settled).ok();
        }
    }
}
