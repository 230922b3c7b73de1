//! Fleets, agents, kills and events: what goes in comes out again.

use haltline_core::{
    command::{Command, Resume},
    ids::KillId,
};
use haltline_wire::v1::{
    self, cluster_service_client::ClusterServiceClient, command_reply::Outcome,
    credential_service_client::CredentialServiceClient, fleet_service_client::FleetServiceClient,
    kill_service_client::KillServiceClient,
};

use crate::harness::{Cluster, agent, fleet, kill, refused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_killed_and_resumed_and_the_events_tell_it() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    let mut clusters = ClusterServiceClient::new(ada.channel.clone());
    let events = v1::WatchEventsRequest { from_index: 1 };
    let mut events = clusters.watch_events(events).await.unwrap().into_inner();

    for path in ["acme", "acme/finance", "acme/finance/invoice"] {
        let reply = ada.command(fleet(path)).await.unwrap();
        assert!(reply.stamp.unwrap().index > 0);
    }
    ada.command(agent("acme/finance/invoice/reconciler")).await.unwrap();

    let mut kills = KillServiceClient::new(ada.channel.clone());
    let selector = Some(v1::Selector { fleet: "acme/finance".into(), ..v1::Selector::default() });
    let radius = kills.preview_kill(v1::PreviewKillRequest { selector }).await.unwrap().into_inner();
    assert_eq!((radius.fleets, radius.agents, radius.agents_registered), (2, 1, 1));
    assert_eq!(radius.agent_sample, ["acme/finance/invoice/reconciler"]);
    assert!(
        refused(kills.get_kill(v1::GetKillRequest { kill: 1 }).await).is_err(),
        "a preview changes nothing"
    );

    let reply = ada.command(kill("fleet=acme/finance")).await.unwrap();
    let Some(Outcome::Killed(killed)) = reply.outcome else { panic!("{reply:?}") };
    assert_eq!(killed.index, reply.stamp.unwrap().index);
    let mut fleets = FleetServiceClient::new(ada.channel.clone());
    let agent = v1::GetAgentRequest { path: "acme/finance/invoice/reconciler".into() };
    assert_eq!(fleets.get_agent(agent).await.unwrap().into_inner().stopped_by, [killed.kill]);

    let resume = Resume {
        kill: KillId(killed.kill),
        selector: "fleet=acme/finance".parse().unwrap(),
        reason: "fixed".parse().unwrap(),
    };
    let reply = ada.command(Command::Resume(resume)).await.unwrap();
    assert!(matches!(reply.outcome, Some(Outcome::Resumed(_))), "{reply:?}");
    let lifted = kills.get_kill(v1::GetKillRequest { kill: killed.kill }).await.unwrap().into_inner();
    assert_eq!((lifted.lifted_by.as_str(), lifted.lift_reason.as_str()), ("ada", "fixed"));
    let list = |include_lifted| v1::ListKillsRequest { include_lifted, ..v1::ListKillsRequest::default() };
    assert!(kills.list_kills(list(false)).await.unwrap().into_inner().kills.is_empty());
    assert_eq!(kills.list_kills(list(true)).await.unwrap().into_inner().kills, [lifted]);

    let mut told = Vec::new();
    while told.last().is_none_or(|kind| kind != "kill_lifted") {
        let event = events.message().await.unwrap().unwrap();
        assert!(!event.summary.is_empty());
        told.push(event.kind);
    }
    let expected = [
        "founded",
        "fleet_created",
        "fleet_created",
        "fleet_created",
        "agent_registered",
        "kill_placed",
        "kill_lifted",
    ];
    assert_eq!(told, expected);
    drop(events);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_and_filter() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    for path in ["acme", "acme/a", "acme/b", "acme-b"] {
        ada.command(fleet(path)).await.unwrap();
    }
    for number in 0..25 {
        ada.command(agent(&format!("acme/a/agent-{number:02}"))).await.unwrap();
    }
    let mut fleets = FleetServiceClient::new(ada.channel.clone());
    let list = v1::ListFleetsRequest { under: "acme".into(), ..v1::ListFleetsRequest::default() };
    let listed = fleets.list_fleets(list).await.unwrap().into_inner().fleets;
    let paths: Vec<_> = listed.iter().map(|fleet| (fleet.path.as_str(), fleet.agents)).collect();
    assert_eq!(paths, [("acme", 25), ("acme/a", 25), ("acme/b", 0)]);
    assert_eq!(listed[0].effective_limits.unwrap().max_staleness_ms, Some(2_000));

    let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let list = v1::ListAgentsRequest {
            under: "acme".into(),
            page_size: 10,
            page_token: token,
            ..v1::ListAgentsRequest::default()
        };
        let page = fleets.list_agents(list).await.unwrap().into_inner();
        seen.extend(page.agents.into_iter().map(|agent| agent.path));
        (token, pages) = (page.next_page_token, pages + 1);
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((seen.len(), pages), (25, 3));
    assert!(seen.is_sorted());

    let labels = [("tier".to_owned(), "gold".to_owned())].into();
    let list = v1::ListAgentsRequest { labels, ..v1::ListAgentsRequest::default() };
    let gold = fleets.list_agents(list).await.unwrap().into_inner().agents;
    assert_eq!(gold.len(), 3, "00, 10 and 20");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_nothing_and_a_retry_gets_the_first_answer() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    let request = ada.request(fleet("acme")).await;
    let first = ada.send(&request).await.unwrap();
    assert_eq!(ada.send(&request).await.unwrap().outcome, first.outcome);
    let cluster = cluster.restart().await;
    let ada = cluster.ada().await;
    assert_eq!(ada.send(&request).await.unwrap().outcome, first.outcome);
    let mut clusters = ClusterServiceClient::new(ada.channel.clone());
    let status = clusters.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.role.as_str(), status.node_name.as_str()), ("leader", "one"));
    assert_eq!(status.counts.unwrap().fleets, 1);
    assert!(status.cluster.unwrap().bootstrap);
    let revocations = CredentialServiceClient::new(ada.channel.clone())
        .list_revocations(v1::ListRevocationsRequest::default())
        .await
        .unwrap();
    assert!(revocations.into_inner().revocations.is_empty());
    cluster.stop().await;
}
