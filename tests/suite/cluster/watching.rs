//! The event watch: in order, from any node, across a change of leader.

use haltline_testkit::cluster::HANG;
use haltline_wire::v1::{WatchEventsRequest, cluster_service_client::ClusterServiceClient};

use super::{kill_fleet, register_agent, running};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_in_order_from_the_index_asked_for() {
    let (cluster, ada) = running(3).await;
    let first = ada.command(0, register_agent("acme/load/seen")).await.expect("registered");
    let from_index = first.stamp.expect("every reply has one").index;
    ada.command(1, kill_fleet("acme/load")).await.expect("one person may stop");
    for node in 0..cluster.nodes.len() {
        let mut client = ClusterServiceClient::new(ada.channel(node));
        let mut events =
            client.watch_events(WatchEventsRequest { from_index }).await.expect("a watch").into_inner();
        let mut kinds = Vec::new();
        while kinds.len() < 2 {
            let event = tokio::time::timeout(HANG, events.message()).await.expect("an event comes");
            let event = event.expect("the watch goes on").expect("the watch doesn't end");
            assert!(event.stamp.expect("stamped").index >= from_index);
            kinds.push(event.kind);
        }
        assert_eq!(kinds, ["agent_registered", "kill_placed"]);
    }
}
