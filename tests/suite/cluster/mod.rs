//! Tests against real processes with real TLS and real disks.
//!
//! They wait for conditions, never for time, and say what they exercised.

mod bad_bytes;
mod descriptors;
mod disk;
mod durability;
mod enforcement;
mod load;
mod people;
mod recovery;
mod refusals;
mod relay;
mod restore;
mod trust;
mod watching;

use std::path::Path;

use haltline_core::{
    command::{AgentRegister, Command, FleetCreate, KillCommand, KillMode},
    path::FleetPath,
    policy::{Intent, Limits},
    selector::Selector,
    text::{Labels, Text},
};
use haltline_testkit::cluster::{Cluster, Person, wait_until};
use haltline_wire::v1::{self, fleet_service_client::FleetServiceClient};

/// The binary under test: the same code as `haltline`, built with this package.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_haltline-under-test");

/// A cluster with a leader and the fleet `acme/load`.
async fn running(nodes: usize) -> (Cluster, Person) {
    let mut cluster = Cluster::create(Path::new(BINARY), nodes).expect("directories");
    cluster.start_all().expect("the binary starts");
    let admin = founded(&cluster).await;
    (cluster, admin)
}

/// Waits for a leader and creates the fleets that the tests use.
async fn founded(cluster: &Cluster) -> Person {
    let admin = cluster.admin().expect("the admin's identity");
    cluster.wait_for_leader(&admin).await;
    wait_until("the cluster is founded", || async {
        let told = admin.cluster(0).await.ok()?;
        (told.you == admin.id().as_str()).then_some(())
    })
    .await;
    for path in ["acme", "acme/load"] {
        admin.command(0, create_fleet(path)).await.expect("the fleet is created");
    }
    admin
}

fn create_fleet(path: &str) -> Command {
    Command::FleetCreate(FleetCreate {
        path: path.parse().expect(path),
        labels: Labels::none(),
        owner: Text::default(),
        contact: Text::default(),
        intent: Intent::default(),
        limits: Limits::default(),
    })
}

fn register_agent(path: &str) -> Command {
    Command::AgentRegister(AgentRegister { path: path.parse().expect(path), labels: Labels::none() })
}

fn kill_fleet(path: &str) -> Command {
    let path: FleetPath = path.parse().expect(path);
    Command::Kill(KillCommand {
        selector: Selector::fleet(path),
        mode: KillMode::Freeze,
        reason: "a test says so".parse().expect("words"),
        expires_after: None,
    })
}

/// All agents that a node lists, by linearizable reads.
async fn agents_at(person: &Person, node: usize) -> std::collections::BTreeSet<String> {
    let mut client = FleetServiceClient::new(person.channel(node));
    let mut agents = std::collections::BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListAgentsRequest { page_size: 1_000, page_token, ..Default::default() };
        let page = client.list_agents(request).await.expect("the node lists its agents").into_inner();
        agents.extend(page.agents.into_iter().map(|agent| agent.path));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return agents;
        }
    }
}
