//! Probes, barriers and answers.

use haltline_core::{ids::Nonce, lease::fence_nanos, tracker::TrackerError};

use super::Step;
use crate::model::{
    action::LEADER_LEASE,
    mistake::Mistake,
    world::{Answer, Asker, Barrier, Hub, fence_drift, forget},
};

impl Step<'_> {
    pub(super) fn probe(&mut self, edge: usize, leader: usize) -> Option<()> {
        let (hub, stream) = self.world.edges[edge].stream?;
        if self.is_removed(hub) && !self.is(Mistake::BarrierForRemoved) {
            return None;
        }
        self.world.left.probes -= 1;
        let nonce = self.world.nonce();
        let now = self.scenario.edge_clock.read(self.world.now);
        let held = &mut self.world.edges[edge];
        let number = held.probes_sent;
        held.probes_sent += 1;
        held.book.sent(nonce, now).ok()?;
        held.numbered.push((number, nonce));
        let asker = Asker { stream, nonce, number, arrived: self.world.now };
        match hub {
            Hub::Node(node) => self.begin_barrier(node, asker, leader, false),
            Hub::Relay => self.world.relay.as_mut()?.waiting.push(asker),
        }
        Some(())
    }

    /// The leader doesn't serve barriers to a node that isn't a member.
    pub(super) fn is_removed(&self, hub: Hub) -> bool {
        hub == Hub::Node(1) && self.world.removed.is_some()
    }

    pub(super) fn begin_barrier(&mut self, node: usize, asker: Asker, leader: usize, for_relay: bool) {
        let read_index = match self.world.deposed {
            Some(deposed) if deposed.node == leader => deposed.committed,
            _ => self.world.committed,
        };
        self.world.barriers.push(Barrier { node, asker, leader, read_index, for_relay });
    }

    /// Whether the leader that was asked may answer: a quorum has heard it since, which is so only for the real one.
    pub(super) fn is_confirmed(&self, leader: usize) -> bool {
        let clock = self.scenario.hub_clocks[leader];
        let lease_ends = clock.read(0).plus(LEADER_LEASE.into());
        leader == self.world.leader
            || self.is(Mistake::BarrierFromOldAcks)
            || (self.is(Mistake::LeaseReads) && clock.read(self.world.now) < lease_ends)
    }

    pub(super) fn confirm(&mut self, barrier: usize) -> Option<()> {
        let Barrier { node, asker, leader, read_index, for_relay } = *self.world.barriers.get(barrier)?;
        let index = self.world.nodes[node].applied;
        if !self.is_confirmed(leader) || index < read_index {
            return None;
        }
        self.world.barriers.remove(barrier);
        let answer = Answer { node, asker, index, for_relay };
        match self.scenario.answer_in_two_steps {
            true => self.world.prepared.push(answer),
            false => self.send(answer),
        }
        Some(())
    }

    /// Notes a grant with the tracker of whoever gives it.
    pub(super) fn note(&mut self, hub: Hub, answer: Answer) -> Result<(), TrackerError> {
        let lasts = self.world.staleness_at(answer.index);
        let at = hub.clock(self.scenario).read(answer.asker.arrived);
        self.world.tracker(hub).granting(answer.asker.stream, answer.index, lasts, at)
    }

    pub(super) fn send(&mut self, answer: Answer) {
        let hub = Hub::Node(answer.node);
        if self.is(Mistake::EndAfterSending) {
            self.world.unnoted.push(answer);
            self.world.sent.push(answer);
            return;
        }
        if self.is(Mistake::ShorterGrantOverwrites) {
            self.overwrite_longer(hub, answer);
        }
        match self.note(hub, answer) {
            Ok(()) => self.world.sent.push(answer),
            Err(TrackerError::Superseded { .. }) if self.is(Mistake::UnsentAfterClear) => {
                self.world.sent.push(answer);
            }
            Err(_) => {}
        }
    }

    /// Forgets what the stream was granted before if that lives longer than what it is granted now.
    pub(super) fn overwrite_longer(&mut self, hub: Hub, answer: Answer) {
        let now = self.read(hub);
        let lasts = fence_nanos(self.world.staleness_at(answer.index), fence_drift(self.mistake));
        let ends = hub.clock(self.scenario).read(answer.asker.arrived).plus(lasts);
        let tracker = self.world.tracker(hub);
        let held = tracker.streams().find(|status| status.stream == answer.asker.stream);
        let longer = held.filter(|status| status.lease_ends.is_some_and(|held| held > ends));
        if let Some(enforcer) = longer.map(|status| status.enforcer.clone()) {
            forget(tracker, answer.asker.stream, now);
            tracker.open(answer.asker.stream, enforcer, now).ok();
        }
    }

    pub(super) fn deliver(&mut self, answer: usize, edge: usize) -> Option<()> {
        let answer = *self.world.sent.get(answer)?;
        let now = self.scenario.edge_clock.read(self.world.now);
        let by_number = self.is(Mistake::MatchedBySequence);
        let takes_early = self.is(Mistake::LeaseBeforeView);
        let from_receipt = self.is(Mistake::CountedFromReceipt);
        let held = &mut self.world.edges[edge];
        if answer.for_relay {
            return None;
        }
        let asked = held.numbered.iter().position(|(number, nonce)| match by_number {
            true => *number == answer.asker.number,
            false => *nonce == answer.asker.nonce,
        });
        let (_, nonce) = held.numbered[asked?];
        let published = if takes_early { held.view.max(answer.index) } else { held.view };
        held.book.accept(&nonce, answer.index, published).ok()?;
        held.numbered.remove(asked?);
        if from_receipt {
            let Nonce(mut bytes) = nonce;
            bytes[0] ^= 0x80;
            held.book.sent(Nonce(bytes), now).ok()?;
            held.book.accept(&Nonce(bytes), answer.index, published).ok()?;
        }
        Some(())
    }
}
