//! Connections between nodes that are there before they are needed.
//!
//! A follower talks to nobody but the leader. When the leader dies it must ask the others for their votes, and then send
//! them entries, at once: two TLS handshakes in a row on both sides, in the very moment when everybody waits. So each
//! node makes an empty call to each member now and then, over both connections that a failover takes.

use std::time::Duration;

use futures::future::join_all;
use haltline_core::{ids::NodeId, limits::WARM_INTERVAL};
use haltline_wire::raft::v1::ForwardRequest;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    fitness::Conditions,
    network::{Lane, Peers, within},
    options::Member,
    types::Raft,
};

/// Keeps connections open until told to stop.
pub(crate) async fn run(raft: Raft, peers: Peers, conditions: Conditions, stop: CancellationToken) {
    let metrics = raft.server_metrics();
    let mut interval = tokio::time::interval(Duration::from_millis(WARM_INTERVAL.0));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        let membership = metrics.borrow_watched().membership_config.clone();
        let others = membership.membership().nodes().filter(|(id, _)| **id != peers.me().0);
        let calls = others.flat_map(|(id, member)| {
            [Lane::Control, Lane::Bulk].map(|lane| touch(&peers, NodeId(*id), member, lane, &conditions))
        });
        tokio::select! {
            () = stop.cancelled() => return,
            _ = join_all(calls) => {}
        }
    }
}

/// An empty call: it forwards no commands, which every node does gladly, and is told how the other fares. Its failure says
/// nothing that whoever really needs the connection won't find out.
async fn touch(peers: &Peers, id: NodeId, member: &Member, lane: Lane, conditions: &Conditions) {
    if let Ok(mut client) = peers.client(id, member, lane) {
        let empty = ForwardRequest { kills: false, timeout_ms: 0, requests: Vec::new() };
        let answer = within(peers.timing().connect, client.forward(empty)).await;
        if let Some(condition) = answer.ok().and_then(|answer| answer.into_inner().condition) {
            conditions.heard(id, condition);
        }
    }
}
