//! What a node says when it isn't alone, and when it is cut off from the others.

use haltline_node::{
    NodeConfig, NodeError, Profile, Sockets,
    init::{InitNode, InitOptions, create_cluster},
    run_on,
};
use haltline_pki::PersonIdentity;
use haltline_wire::v1::{self, fleet_service_client::FleetServiceClient};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::{Person, fleet, page, refused, sockets, until};

struct Running {
    shutdown: CancellationToken,
    node: JoinHandle<Result<(), NodeError>>,
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        self.node.await.unwrap().unwrap();
    }
}

fn start(config: &NodeConfig, sockets: Sockets) -> Running {
    let shutdown = CancellationToken::new();
    let node = tokio::spawn(run_on(config.clone(), sockets, shutdown.clone()));
    Running { shutdown, node }
}

async fn readiness(config: &NodeConfig, is_ready: impl Fn(u16, &str) -> bool, what: &str) {
    until(what, async || {
        let (code, words) = page(config.listen_http, "/readyz").await?;
        is_ready(code, &words).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_ready_only_as_long_as_a_quorum_confirms_it() {
    let home = tempfile::tempdir().unwrap();
    let mut bound: Vec<_> = (0..3).map(|_| sockets([([127, 0, 0, 1], 0).into(); 5])).collect();
    let nodes = ["a", "b", "c"].iter().zip(&bound).map(|(name, sockets)| InitNode {
        name: (*name).into(),
        api_address: sockets.api.local_addr().unwrap().to_string(),
        raft_address: sockets.raft.local_addr().unwrap().to_string(),
        http_address: sockets.http.local_addr().unwrap(),
        edge_address: sockets.edge.local_addr().unwrap().to_string(),
        public_address: sockets.public.local_addr().unwrap().to_string(),
        region: String::new(),
    });
    let options = InitOptions {
        out: home.path().join("cluster"),
        nodes: nodes.collect(),
        admin: "ada".parse().unwrap(),
        profile: Profile::Lan,
    };
    let report = create_cluster(&options).unwrap();
    let admin = PersonIdentity::load(&report.admin_directory).unwrap();
    let load = |node: usize| NodeConfig::load(Some(&report.nodes[node].config_file)).unwrap();
    let configs = [load(0), load(1)];
    let [a, b] = [0, 1].map(|_| bound.remove(0));

    // Alone it founds nothing, and nobody is known to it.
    let first = start(&configs[0], a);
    readiness(&configs[0], |code, _| code == 503, "one of three isn't ready").await;
    let refused_by = Person::connect(admin.clone(), &admin.endpoints()[0]).await.err().unwrap();
    assert_eq!(refused_by.code(), "tls_own_undecided");

    // Two are a quorum; a follower serves what the leader carried out.
    let second = start(&configs[1], b);
    for config in &configs {
        readiness(config, |code, _| code == 200, "two of three are ready").await;
    }
    let [on_first, on_second] = [&admin.endpoints()[0], &admin.endpoints()[1]];
    let on_first = Person::connect(admin.clone(), on_first).await.unwrap();
    let on_second = Person::connect(admin.clone(), on_second).await.unwrap();
    on_first.command(fleet("acme")).await.unwrap();
    let get = |path: &str| v1::GetFleetRequest { path: path.into() };
    let mut fleets = FleetServiceClient::new(on_second.channel.clone());
    assert_eq!(fleets.get_fleet(get("acme")).await.unwrap().into_inner().version, 1);
    on_second.command(fleet("acme/finance")).await.unwrap();
    let mut fleets = FleetServiceClient::new(on_first.channel.clone());
    assert_eq!(fleets.get_fleet(get("acme/finance")).await.unwrap().into_inner().version, 1);

    // Cut off again, it neither claims to be ready nor answers for the cluster.
    second.stop().await;
    readiness(&configs[0], |code, _| code == 503, "one of three isn't ready any more").await;
    let refusal = refused(fleets.get_fleet(get("acme")).await).unwrap_err();
    assert!(["NO_LEADER", "NO_QUORUM"].contains(&refusal.reason.as_str()), "{refusal:?}");
    assert!(refusal.retry_after.is_some());
    assert_eq!(page(configs[0].listen_http, "/healthz").await.unwrap().0, 200, "it is alive all the same");
    first.stop().await;
}
