//! Cluster time: as fast as the leader's clock, never back, whoever leads.

use std::sync::Arc;

use haltline_core::{
    ids::NodeId,
    time::{BootTime, ClusterTime, Millis, WallTime},
};

use super::harness::{TestCluster, create, eventually};
use crate::ManualClock;

#[tokio::test(flavor = "multi_thread")]
async fn ten_seconds_of_back_to_back_commits_are_ten_seconds_of_cluster_time() {
    let clock = ManualClock::at(BootTime(1_000_000), WallTime(0));
    let mut cluster = TestCluster::new(1, 0).await;
    cluster.clock = Arc::new(clock.clone());
    cluster.start_founders().await;
    let node = cluster.leader().await;
    let first = create(&node, 0).await.stamp.cluster_time;
    let step = Millis(5);
    for number in 1..=2_000 {
        clock.advance(step);
        let stamp = create(&node, number).await.stamp.cluster_time;
        assert_eq!(stamp.since(first), Millis(step.0 * number), "no latency of a commit is lost");
    }
    assert_eq!(node.cluster_now().since(first), Millis(10_000));
    assert!(first < ClusterTime(10_000), "a new cluster begins near zero, whatever its machines' uptime");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_goes_on_and_never_back_across_leaders_and_wall_clock_steps() {
    let clock = ManualClock::at(BootTime(500), WallTime(1_700_000_000_000));
    let mut cluster = TestCluster::new(3, 0).await;
    cluster.clock = Arc::new(clock.clone());
    cluster.start_founders().await;
    let mut last = create(&cluster.leader().await, 0).await.stamp.cluster_time;
    for round in 1..=3 {
        // Whoever hasn't received the last entry yet counts from when it does, which would lose the step below.
        cluster.converge().await;
        clock.advance(Millis(700));
        clock.set_wall(WallTime(1_600_000_000_000 / round));
        let old = cluster.leader().await;
        let heir = cluster.follower().await.node();
        old.transfer_leadership(heir).await.unwrap();
        let stamp = create(&cluster.leader().await, round).await.stamp;
        assert!(stamp.cluster_time > last, "{stamp:?} after {last}");
        let passed = stamp.cluster_time.since(last);
        assert!(passed <= Millis(700), "{passed} of cluster time in 700 ms of the clock");
        last = stamp.cluster_time;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_leader_ticks_and_a_cluster_that_is_down_stands_still() {
    let clock = ManualClock::at(BootTime(500), WallTime(0));
    let mut cluster = TestCluster::new(1, 0).await;
    cluster.clock = Arc::new(clock.clone());
    cluster.start_founders().await;
    let node = cluster.leader().await;
    let before = node.state().state.last_stamp();
    clock.advance(Millis(40_000));
    eventually("a tick brings the time", || {
        let now = node.state().state.last_stamp();
        now.cluster_time.since(before.cluster_time) >= Millis(40_000)
    })
    .await;
    let stopped_at = node.state().state.last_stamp().cluster_time;
    drop(node);
    cluster.stop(NodeId(1)).await;
    clock.advance(Millis(3_600_000));
    cluster.start(NodeId(1)).await;
    let after = create(&cluster.leader().await, 1).await.stamp.cluster_time;
    assert!(after >= stopped_at);
    assert!(after.since(stopped_at) < Millis(60_000), "an hour without a leader is no time");
}
