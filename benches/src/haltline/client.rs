//! Connections to nodes, and the operation that is measured: one durable `AgentUpdate`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use haltline_wire::v1::{
    self, cluster_service_client::ClusterServiceClient, fleet_service_client::FleetServiceClient,
};
use tonic::transport::Channel;

use super::SYSTEM;
use crate::{failure::Failure, load::Target, workload};

/// How long a command may be retried. Short, because the nodes remember every id until then: at 60,000 a second this is
/// 300,000 of the 524,288 that one person may have.
const COMMAND_LIFETIME: Duration = Duration::from_secs(5);

/// Makes commands: ids that don't repeat, and deadlines in the cluster's time. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct CommandMaker {
    /// The half of every id that tells this run from others.
    run: u64,
    made: Arc<AtomicU64>,
    /// When a node was asked for the time, and what it said in ms.
    asked: (Instant, u64),
}

impl CommandMaker {
    /// Asks a node for the cluster's time.
    pub(crate) async fn new(channel: Channel) -> Result<Self, Failure> {
        let asked = Instant::now();
        let cluster = ClusterServiceClient::new(channel).get_cluster(v1::GetClusterRequest {}).await;
        let cluster = cluster.map_err(|status| Failure::call(SYSTEM, &status))?.into_inner();
        let seed = haltline_testkit::cluster::random_id();
        let run = seed.0.first_chunk().copied().map_or(0, u64::from_be_bytes);
        Ok(Self { run, made: Arc::default(), asked: (asked, cluster.cluster_time_ms) })
    }

    /// What a new command carries. No signature: the commands here widen nothing.
    pub(crate) fn meta(&self) -> v1::RequestMeta {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let (asked, time_ms) = self.asked;
        let ahead = asked.elapsed() + COMMAND_LIFETIME;
        v1::RequestMeta {
            request_id: workload::scattered(self.run, number).into(),
            deadline_ms: time_ms + u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX / 2),
            signature: Vec::new(),
        }
    }

    /// The measured operation.
    pub(crate) fn update(&self, number: u64) -> v1::UpdateAgentRequest {
        v1::UpdateAgentRequest {
            meta: Some(self.meta()),
            path: workload::agent_path(number),
            labels: workload::labels(number).map(|(key, value)| (key.to_owned(), value)).into(),
            expected_version: None,
        }
    }
}

/// Updates agents over one connection, one unary call each.
#[derive(Debug, Clone)]
pub(crate) struct Updater {
    fleets: FleetServiceClient<Channel>,
    maker: CommandMaker,
}

impl Updater {
    pub(crate) fn new(channel: Channel, maker: CommandMaker) -> Self {
        Self { fleets: FleetServiceClient::new(channel), maker }
    }
}

impl Target for Updater {
    const SYSTEM: &'static str = SYSTEM;

    async fn call(&mut self, number: u64) -> Result<(), Failure> {
        let update = self.fleets.update_agent(self.maker.update(number)).await;
        update.map(|_| ()).map_err(|status| Failure::call(SYSTEM, &status))
    }
}
