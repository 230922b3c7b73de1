//! Cluster time: as fast as the leader's clock, never back, whoever leads.

use std::sync::Arc;

use futures::future::join_all;
use haltline_core::{
    command::{Command, Request},
    ids::NodeId,
    rejection::{Outcome, Rejection},
    time::{BootTime, ClusterTime, Millis, WallTime},
};

use super::harness::{TestCluster, create, eventually, fleet, kill};
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

/// What NTP, an operator or a broken battery may do to a wall clock.
const STEPS: [u64; 10] = [
    1_700_000_000_000,
    1_700_000_000_000 + 5 * HOUR,
    1_700_000_000_000 - 11 * HOUR,
    1_700_000_000_001,
    0,
    9_000_000_000_000,
    1_700_000_000_000,
    1_699_999_999_999,
    1_700_000_000_000 + 1_000 * HOUR,
    1,
];
const HOUR: u64 = 60 * 60 * 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_steps_by_hours_under_load_moves_only_what_people_read() {
    let clock = ManualClock::at(BootTime(1_000_000), WallTime(STEPS[0]));
    let mut cluster = TestCluster::new(1, 0).await;
    cluster.clock = Arc::new(clock.clone());
    cluster.start_founders().await;
    let node = cluster.leader().await;
    let began = create(&node, 1).await.stamp.cluster_time;
    let step = Millis(500);

    let mut expiring = kill(&node, 2);
    let Command::Kill(command) = &mut expiring.command else { panic!("it is a kill") };
    command.expires_after = Some(Millis(step.0 * STEPS.len() as u64));
    let killed = node.propose(&expiring).await.unwrap().result.unwrap();
    let Outcome::Killed(killed) = killed else { panic!("{killed:?}") };
    let short = |number| Request { deadline: began.plus(Millis(2_001)), ..fleet(&node, number) };
    let (in_time, too_late) = (short(90), short(91));

    for (passed, wall) in (1..).zip(STEPS) {
        clock.advance(step);
        clock.set_wall(WallTime(wall));
        let requests = (0..40).map(|number| fleet(&node, 100 * passed + number)).collect::<Vec<_>>();
        for reply in join_all(requests.iter().map(|request| node.propose(request))).await {
            let reply = reply.unwrap();
            assert!(reply.result.is_ok(), "{reply:?}");
            assert_eq!(reply.stamp.cluster_time.since(began), Millis(step.0 * passed), "at wall time {wall}");
            assert_eq!(
                reply.stamp.wall_time,
                WallTime(wall),
                "people read what the clock says, right or wrong"
            );
        }
        if passed == 4 {
            assert!(node.propose(&in_time).await.unwrap().result.is_ok(), "its last millisecond");
        }
        if passed == 5 {
            let late = node.propose(&too_late).await.unwrap().result;
            assert!(matches!(late, Err(Rejection::DeadlinePassed { .. })), "{late:?}");
        }
        let in_force = node.state().state.kills().contains_key(&killed.kill);
        assert_eq!(in_force, passed < STEPS.len() as u64, "after {passed} steps");
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
