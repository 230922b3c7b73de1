//! A writer that waits for each answer: it registers agents, and now and then kills one of them.
//!
//! What fails is tried again under the same id, at another node, until it is settled; a few commands are given up on, as
//! by a client that dies.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use haltline_core::{
    command::{AgentRegister, Command, KillCommand, KillMode, Request},
    path::AgentPath,
    selector::Selector,
    text::{Labels, Reason},
};
use haltline_testkit::{cluster::Person, rng::Rng};
use haltline_wire::v1;
use parking_lot::Mutex;

use crate::{
    call::{self, Failed, PAUSE, attempt},
    ledger::{Ledger, Promise},
};

/// Commands between two looks at the cluster's time, which deadlines are made from.
const COMMANDS_PER_LOOK: u32 = 100;
/// One command in so many is a kill.
const KILL_ONE_IN: u64 = 40;
/// One doubtful command in so many is given up on.
const GIVE_UP_ONE_IN: u64 = 8;

/// What writers share.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Who writes.
    pub(crate) person: Person,
    /// How many nodes there are to call.
    pub(crate) nodes: usize,
    /// What was promised.
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    /// Set when no new commands should be begun.
    pub(crate) stop: Arc<AtomicBool>,
}

impl Load {
    /// Whether no new commands should be begun.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The cluster as the given node, or the first after it that answers, tells it; and which node that was.
    pub(crate) async fn look(&self, mut node: usize) -> (v1::Cluster, usize) {
        loop {
            if let Ok(cluster) = attempt(self.person.cluster(node)).await {
                return (cluster, node);
            }
            node = (node + 1) % self.nodes;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// One such writer.
pub(crate) struct UnaryWriter {
    load: Load,
    rng: Rng,
    /// Before the numbers of its agents.
    prefix: String,
    reason: Reason,
    node: usize,
}

impl UnaryWriter {
    /// A writer whose agents' paths begin with this prefix.
    pub(crate) fn new(load: Load, mut rng: Rng, prefix: String, reason: Reason) -> Self {
        let node = usize::try_from(rng.below(load.nodes as u64)).unwrap_or_default();
        Self { load, rng, prefix, reason, node }
    }

    /// Writes until it is told to stop and its last command is settled.
    pub(crate) async fn run(mut self) {
        let mut number = 0_u64;
        let mut registered: Option<AgentPath> = None;
        while !self.load.is_stopping() {
            let (cluster, node) = self.load.look(self.node).await;
            self.node = node;
            for _ in 0..COMMANDS_PER_LOOK {
                if self.load.is_stopping() {
                    break;
                }
                let killed = registered.take_if(|_| self.rng.chance(1, KILL_ONE_IN));
                let (promise, command) = match killed {
                    Some(agent) => self.kill(agent),
                    None => {
                        number += 1;
                        let Ok(path) = format!("{}{number}", self.prefix).parse() else { return };
                        register(path)
                    }
                };
                let request = call::request(&self.load.person, &cluster, command);
                if self.settle(&promise, &request).await
                    && let Promise::Agent(path) = promise
                {
                    registered = Some(path);
                }
            }
        }
    }

    fn kill(&self, agent: AgentPath) -> (Promise, Command) {
        let command = Command::Kill(KillCommand {
            selector: Selector { agent: Some(agent.clone()), ..Selector::default() },
            mode: KillMode::Freeze,
            reason: self.reason.clone(),
            expires_after: None,
        });
        (Promise::Kill(agent), command)
    }

    /// Sends until the command is settled or given up on; whether it was acknowledged.
    async fn settle(&mut self, promise: &Promise, request: &Request) -> bool {
        let mut doubtful = false;
        loop {
            let answer = attempt(self.load.person.send(self.node, request)).await;
            let failed: Failed = match answer {
                Ok(reply) => {
                    self.load.ledger.lock().answered(promise, reply, doubtful);
                    return true;
                }
                Err(error) => error.into(),
            };
            if !self.load.ledger.lock().failed(promise, &failed, doubtful) {
                return false;
            }
            if matches!(failed, Failed::Unknown) {
                doubtful = true;
                if self.rng.chance(1, GIVE_UP_ONE_IN) {
                    self.load.ledger.lock().gave_up(promise);
                    return false;
                }
            }
            self.node = (self.node + 1) % self.load.nodes;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn register(path: AgentPath) -> (Promise, Command) {
    let command = Command::AgentRegister(AgentRegister { path: path.clone(), labels: Labels::default() });
    (Promise::Agent(path), command)
}
