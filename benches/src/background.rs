//! What others write while a stop is on its way: an open loop of durable commands from connections of their own, of which
//! a tenth must reach every watcher.

use std::time::Duration;

use haltline_wire::v1::{
    self, credential_service_client::CredentialServiceClient, fleet_service_client::FleetServiceClient,
    revocation_target::Target as Revoked,
};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use crate::{
    failure::Failure,
    haltline::{SYSTEM, client::CommandMaker, cluster::HaltlineCluster},
    load::{self, Run, Target, Window},
    workload,
};

/// Connections of those who write.
pub(crate) const CONNECTIONS: usize = 8;
/// Longer than any run.
const WINDOW: Window = Window { warm_up: Duration::ZERO, measured: Duration::from_secs(600) };

/// Whether the operation of this number goes to every watcher.
pub(crate) const fn goes_to_all(number: u64) -> bool {
    number.is_multiple_of(10)
}

/// Others who write. They end when it is dropped.
pub(crate) struct Background {
    system: &'static str,
    running: JoinHandle<Result<Run, Failure>>,
}

impl Drop for Background {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Background {
    pub(crate) fn start<T: Target + Sync>(targets: &[T], per_second: u64) -> Self {
        let targets = targets.to_vec();
        let running = tokio::spawn(async move { load::open_loop(&targets, per_second, WINDOW, &[]).await });
        Self { system: T::SYSTEM, running }
    }

    /// Ends it. An error if it had ended by itself.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        if !self.running.is_finished() {
            return Ok(());
        }
        load::finished((&mut self.running).await)??;
        Err(Failure::Nothing { system: self.system })
    }
}

/// Commands over one connection: new contacts of a fleet, which no enforcer needs to hear of, and revocations of grants
/// that nobody has.
#[derive(Debug, Clone)]
pub(crate) struct Commander {
    fleets: FleetServiceClient<Channel>,
    credentials: CredentialServiceClient<Channel>,
    maker: CommandMaker,
    run: u64,
}

impl Commander {
    /// One for each of several connections to the leader.
    pub(crate) async fn several(cluster: &HaltlineCluster) -> Result<Vec<Self>, Failure> {
        let channels = cluster.connections(CONNECTIONS, true).await?;
        let maker = CommandMaker::new(channels[0].clone()).await?;
        let seed = haltline_testkit::cluster::random_id();
        let run = seed.0.first_chunk().copied().map_or(0, u64::from_be_bytes);
        let commander = |channel: Channel| Self {
            fleets: FleetServiceClient::new(channel.clone()),
            credentials: CredentialServiceClient::new(channel),
            maker: maker.clone(),
            run,
        };
        Ok(channels.into_iter().map(commander).collect())
    }
}

impl Target for Commander {
    const SYSTEM: &'static str = SYSTEM;

    async fn call(&mut self, number: u64) -> Result<(), Failure> {
        let meta = Some(self.maker.meta());
        let done = if goes_to_all(number) {
            let grant = Revoked::Grant(workload::scattered(self.run, number).into());
            let target = Some(v1::RevocationTarget { target: Some(grant) });
            let revoke = v1::RevokeRequest { meta, target, reason: "a benchmark".into() };
            self.credentials.revoke(revoke).await
        } else {
            let update = v1::UpdateFleetRequest {
                meta,
                path: workload::FLEET.into(),
                contact: Some(format!("{number:060}@example.com")),
                ..v1::UpdateFleetRequest::default()
            };
            self.fleets.update_fleet(update).await
        };
        done.map(|_| ()).map_err(|status| Failure::call(SYSTEM, &status))
    }
}
