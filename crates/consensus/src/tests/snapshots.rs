//! Nodes that catch up by snapshot, and logs that stay short.

use haltline_core::{LogIndex, ids::NodeId};

use super::harness::{TestCluster, create, eventually, has};
use crate::{Compaction, FeedError, Role};

const SHORT: Compaction = Compaction { entries: 40, bytes: 1 << 30, keep_entries: 5, keep_bytes: 1 << 30 };

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_for_long_catches_up_by_snapshot() {
    let mut cluster = TestCluster::new(3, 0).await;
    cluster.compaction = SHORT;
    cluster.start_founders().await;
    create(&cluster.leader().await, 0).await;
    cluster.converge().await;
    let away = cluster.follower().await.node();
    let was_at = cluster.node(away).state().applied;
    cluster.stop(away).await;
    let leader = cluster.leader().await;
    for number in 1..=150 {
        create(&leader, number).await;
    }
    eventually("the log behind was purged", || {
        cluster.running().iter().all(|node| node.status().purged > was_at.next())
    })
    .await;

    let back = cluster.start(away).await;
    cluster.converge().await;
    assert!((0..=150).all(|number| has(&back, number)));
    assert!(back.status().snapshot > was_at, "it was brought up by a snapshot");
    let behind = back.entries_after(was_at).try_next();
    assert!(matches!(behind, Err(FeedError::FellBehind { .. })), "{behind:?}");

    cluster.stop(away).await;
    let again = cluster.start(away).await;
    assert!((0..=100).all(|number| has(&again, number)), "the snapshot survives a restart");
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_node_joins_by_snapshot_and_becomes_a_voter() {
    let mut cluster = TestCluster::new(3, 1).await;
    cluster.compaction = SHORT;
    cluster.start_founders().await;
    let leader = cluster.leader().await;
    for number in 0..120 {
        create(&leader, number).await;
    }
    eventually("the leader's log no longer begins at the beginning", || {
        leader.status().purged > LogIndex(10)
    })
    .await;
    let joined = cluster.start(NodeId(4)).await;
    leader.add_learner(NodeId(4), cluster.member(NodeId(4))).await.unwrap();
    cluster.converge().await;
    assert!((0..120).all(|number| has(&joined, number)));
    assert_eq!(joined.status().role, Role::Learner);

    let voters = (1..=4).map(NodeId).collect();
    leader.change_membership(voters, false).await.unwrap();
    eventually("it votes", || joined.status().role == Role::Follower).await;
    assert_eq!(leader.status().members.iter().filter(|member| member.voter).count(), 4);
    create(&joined, 200).await;
    cluster.converge().await;
}
