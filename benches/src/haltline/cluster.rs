//! A cluster of three real nodes, prepared for the load: a fleet with as many agents as there are keys.

use std::{path::Path, time::Duration};

use haltline_core::{
    command::{AgentRegister, Command, FleetCreate},
    policy::{Intent, Limits},
    text::{Labels, Text},
};
use haltline_pki::{CertificateAlone, ClientTls, Dialer};
use haltline_testkit::cluster::{Cluster, Person};
use haltline_wire::v1::{self, command_request::Command as Message};
use tonic::transport::Channel;

use super::{SYSTEM, client::CommandMaker, stream::CommandStream};
use crate::{failure::Failure, workload};

const NODES: usize = 3;
/// Commands in flight while the agents are registered.
const PREPARE_WINDOW: usize = 256;
/// The same where very many are registered: a full batch.
const FILL_WINDOW: usize = 2_048;

/// A running cluster; its processes end when it is dropped.
pub(crate) struct HaltlineCluster {
    pub(crate) cluster: Cluster,
    pub(crate) admin: Person,
    dialer: Dialer,
}

impl HaltlineCluster {
    /// Starts one and waits until a node leads.
    pub(crate) async fn start(binary: &Path) -> Result<Self, Failure> {
        Self::start_with(binary, Vec::new()).await
    }

    /// As [`Self::start`], with variables for its nodes.
    pub(crate) async fn start_with(
        binary: &Path,
        environment: Vec<(String, String)>,
    ) -> Result<Self, Failure> {
        let mut cluster = Cluster::create(binary, NODES).map_err(Failure::local("create a cluster"))?;
        cluster.environment = environment;
        cluster.start_all().map_err(Failure::local(format!("start {}", binary.display())))?;
        let admin = cluster.admin().map_err(Failure::local("read the admin's identity"))?;
        let identity = admin.identity();
        let tls = ClientTls::new(identity.tls(), identity.bundle(), std::sync::Arc::new(CertificateAlone));
        let dialer = Dialer::new(tls.map_err(|error| tls_failure(&error))?);
        let this = Self { cluster, admin, dialer };
        this.cluster.wait_for_leader(&this.admin).await;
        this.wait_until_founded().await?;
        Ok(this)
    }

    /// Creates the fleet and registers its agents.
    pub(crate) async fn prepare(&self) -> Result<(), Failure> {
        let leader = self.leader().await;
        for path in ["bench", workload::FLEET] {
            self.execute(leader, fleet(path)?).await?;
        }
        let channel = self.connect(leader).await?;
        let maker = CommandMaker::new(channel.clone()).await?;
        let agents = (0..workload::KEYS as usize).map(|number| {
            Message::RegisterAgent(v1::RegisterAgentRequest {
                meta: Some(maker.meta()),
                path: workload::agent_path(number as u64),
                labels: std::collections::BTreeMap::new(),
            })
        });
        CommandStream::open(channel, PREPARE_WINDOW).await?.run_all(PREPARE_WINDOW, agents).await
    }

    /// Creates the fleet and registers so many agents.
    pub(crate) async fn fill(&self, agents: u64) -> Result<(), Failure> {
        let leader = self.leader().await;
        for path in ["bench", workload::FLEET] {
            self.execute(leader, fleet(path)?).await?;
        }
        let channel = self.connect(leader).await?;
        let maker = CommandMaker::new(channel.clone()).await?;
        let count = usize::try_from(agents).unwrap_or(usize::MAX);
        let register = (0..count).map(|number| {
            Message::RegisterAgent(v1::RegisterAgentRequest {
                meta: Some(maker.meta()),
                path: format!("{}/agent-{number:07}", workload::FLEET),
                labels: std::collections::BTreeMap::new(),
            })
        });
        CommandStream::open(channel, FILL_WINDOW).await?.run_all(FILL_WINDOW, register).await
    }

    /// Creates the fleet with a few agents, for a light writer.
    pub(crate) async fn prepare_light(&self) -> Result<(), Failure> {
        let leader = self.leader().await;
        for path in ["bench", workload::FLEET] {
            self.execute(leader, fleet(path)?).await?;
        }
        for number in 0..workload::LIGHT_KEYS {
            let path = workload::agent_path(number).parse().expect("the pattern is a path");
            let register = AgentRegister { path, labels: Labels::default() };
            self.execute(leader, Command::AgentRegister(register)).await?;
        }
        Ok(())
    }

    /// Where the leader stands among the nodes.
    pub(crate) async fn leader(&self) -> usize {
        self.cluster.wait_for_leader(&self.admin).await
    }

    /// The nodes' processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.cluster.nodes.iter().filter_map(haltline_testkit::cluster::Node::pid).collect()
    }

    /// So many new connections to the leader, or to the others in turn.
    pub(crate) async fn connections(&self, number: usize, to_leader: bool) -> Result<Vec<Channel>, Failure> {
        let leader = self.leader().await;
        let of_interest = |node: &usize| (*node == leader) == to_leader;
        let nodes: Vec<usize> = (0..self.cluster.nodes.len()).filter(of_interest).collect();
        let mut channels = Vec::new();
        for node in nodes.iter().cycle().take(number) {
            channels.push(self.connect(*node).await?);
        }
        Ok(channels)
    }

    async fn connect(&self, node: usize) -> Result<Channel, Failure> {
        self.dialer.connect(&self.cluster.nodes[node].endpoint()).await.map_err(|error| tls_failure(&error))
    }

    async fn execute(&self, node: usize, command: Command) -> Result<(), Failure> {
        let done = self.admin.command(node, command).await;
        done.map(|_| ()).map_err(|error| Failure::Call { system: SYSTEM, reason: error.to_string() })
    }

    /// A leader's first entry founds the cluster; commands before that are refused.
    async fn wait_until_founded(&self) -> Result<(), Failure> {
        let waited = Duration::from_secs(20);
        let founded = async {
            loop {
                let leader = self.leader().await;
                if let Ok(status) = self.admin.status(leader).await
                    && status.counts.is_some_and(|counts| counts.people > 0)
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(waited, founded).await.map_err(|_| Failure::NotReady {
            system: SYSTEM,
            expected: "founded",
            waited_ms: waited.as_millis(),
            logs: Some(self.cluster.path().into()),
        })
    }
}

fn fleet(path: &str) -> Result<Command, Failure> {
    let text = |text: &str| text.parse::<Text>().expect("a short text");
    Ok(Command::FleetCreate(FleetCreate {
        path: path.parse().expect("a constant that is a path"),
        labels: Labels::default(),
        owner: text("benchmarks"),
        contact: text("nobody@example.com"),
        intent: Intent::default(),
        limits: Limits::default(),
    }))
}

fn tls_failure(error: &dyn std::error::Error) -> Failure {
    Failure::Tls { system: SYSTEM, reason: error.to_string() }
}
