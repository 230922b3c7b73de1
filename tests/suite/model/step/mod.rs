//! What each move does. `None`: nothing, so that the search need not look.

mod cluster;
mod edge;
mod follow;
mod freshness;
mod relay;

use haltline_core::lease::BootNanos;

use super::{
    action::{Action, next_end},
    mistake::Mistake,
    scenario::Scenario,
    world::{Hub, World},
};

/// A world, and by which rules it goes on.
pub(super) struct Step<'a> {
    pub(super) world: World,
    pub(super) scenario: &'a Scenario,
    pub(super) mistake: Option<Mistake>,
}

impl Step<'_> {
    /// Makes one move, and whatever follows from it at once.
    pub(super) fn take(mut self, action: Action) -> Option<World> {
        match action {
            Action::PassToNextEnd => self.world.now = next_end(&self.world, self.scenario, self.mistake)?,
            Action::PassOneTick => self.pass_one_tick(),
            Action::ProposeKill => self.propose_kill(),
            Action::CommitKill => self.commit_kill(),
            Action::CommitOther(entry) => self.commit_other(entry)?,
            Action::Elect => self.elect()?,
            Action::Apply(node) => self.apply(node)?,
            Action::Close(edge) => {
                self.world.left.closes -= 1;
                self.disconnect(edge)?;
            }
            Action::Attach(edge, hub) => {
                self.world.attach(self.scenario, edge, hub);
                self.acknowledge(edge);
            }
            Action::RestartEdge(edge) => self.restart_edge(edge),
            Action::StartTwin => self.start_twin()?,
            Action::RestartNode(node) => self.restart_node(node),
            Action::RestartRelay => self.restart_relay()?,
            Action::Probe(edge, leader) => self.probe(edge, leader)?,
            Action::RelayProbe(leader) => self.relay_probe(leader)?,
            Action::Confirm(barrier) => self.confirm(barrier)?,
            Action::Send(answer) => {
                let answer = self.world.prepared.remove(answer);
                self.send(answer);
            }
            Action::Note(answer) => {
                let answer = self.world.unnoted.remove(answer);
                self.note(Hub::Node(answer.node), answer).ok();
            }
            Action::Deliver(answer, edge) => self.deliver(answer, edge)?,
            Action::DeliverToRelay(answer) => self.deliver_to_relay(answer)?,
            Action::Publish(edge) => self.publish(edge)?,
            Action::RelayPublish => self.relay_publish()?,
            Action::RelayAcknowledge => self.relay_acknowledges(),
            Action::Report(node) => self.node_reports(node),
            Action::Decide(edge) => self.decide(edge)?,
            Action::Return(edge) => {
                self.world.edges[edge].deciding.take()?;
                self.acknowledge(edge);
            }
        }
        self.follow();
        Some(self.world)
    }

    fn is(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn read(&self, hub: Hub) -> BootNanos {
        hub.clock(self.scenario).read(self.world.now)
    }
}
