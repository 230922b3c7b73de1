//! Read barriers: what they promise, and who must not get one.

use std::{collections::BTreeSet, time::Duration};

use haltline_core::ids::NodeId;

use super::harness::{TestCluster, create, eventually, has};
use crate::{BarrierError, Role};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_barrier_every_node_shows_what_was_committed_before() {
    let cluster = TestCluster::started(3).await;
    for number in 0..30 {
        let writer = cluster.leader().await;
        let reply = create(&writer, number).await;
        for node in cluster.running() {
            let index = node.read_barrier().await.unwrap();
            assert!(index >= reply.stamp.index);
            assert!(has(&node, number), "{} answered from before the barrier", node.node());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_share_barriers() {
    let cluster = TestCluster::started(3).await;
    let node = cluster.follower().await;
    let written = create(&node, 1).await.stamp.index;
    let readers = (0..500).map(|_| {
        let node = node.clone();
        tokio::spawn(async move { node.read_barrier().await })
    });
    for reader in readers.collect::<Vec<_>>() {
        assert!(reader.await.unwrap().unwrap() >= written);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_gives_no_barrier_while_its_successor_commits() {
    let cluster = TestCluster::started(3).await;
    let old = cluster.leader().await;
    create(&old, 1).await;
    cluster.isolate(old.node(), true);
    let others = cluster.running().into_iter().map(|node| node.node()).filter(|node| *node != old.node());
    let others = others.collect::<BTreeSet<_>>();
    let successor = cluster.leader_among(&others).await;
    create(&successor, 2).await;

    assert_eq!(old.status().role, Role::Leader, "it doesn't know yet");
    for _ in 0..3 {
        let refused = old.read_barrier().await.unwrap_err();
        assert!(matches!(refused, BarrierError::NoQuorum | BarrierError::NoLeader), "{refused}");
        assert!(!has(&old, 2));
    }
    let index = successor.read_barrier().await.unwrap();
    assert!(index >= successor.state().state.last_stamp().index.min(index));

    cluster.isolate(old.node(), false);
    eventually("it follows again", || old.status().role == Role::Follower).await;
    let mut passed = old.read_barrier().await;
    while matches!(passed, Err(BarrierError::NoQuorum | BarrierError::NoLeader)) {
        passed = old.read_barrier().await;
    }
    passed.unwrap();
    assert!(has(&old, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_cut_off_gets_no_barrier() {
    let cluster = TestCluster::started(3).await;
    let follower = cluster.follower().await;
    follower.read_barrier().await.unwrap();
    cluster.isolate(follower.node(), true);
    let refused = follower.read_barrier().await.unwrap_err();
    assert!(matches!(refused, BarrierError::NoQuorum | BarrierError::NoLeader), "{refused}");
    cluster.isolate(follower.node(), false);
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_removed_gets_no_barrier() {
    let mut cluster = TestCluster::new(3, 1).await;
    cluster.start_founders().await;
    let leader = cluster.leader().await;
    create(&leader, 1).await;
    let joined = cluster.start(NodeId(4)).await;
    leader.add_learner(NodeId(4), cluster.member(NodeId(4))).await.unwrap();
    eventually("it learns", || has(&joined, 1)).await;
    assert_eq!(joined.status().role, Role::Learner);
    joined.read_barrier().await.unwrap();

    leader.remove_learner(NodeId(4)).await.unwrap();
    // It may still believe itself a member: the leader's word counts.
    let refused = joined.read_barrier().await.unwrap_err();
    assert_eq!(refused, BarrierError::NotMember { node: NodeId(4) });
    assert!(leader.read_barrier().await.is_ok());
    tokio::time::timeout(Duration::from_secs(20), joined.shutdown()).await.unwrap();
}
