//! Nodes that begin with a restored state, and such as were thought lost.

use haltline_core::ids::{Incarnation, NodeId};

use super::harness::{TestCluster, create, eventually, has};
use crate::{Consensus, Role, StartError};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// Three nodes with three fleets, stopped.
async fn stopped() -> TestCluster {
    let mut cluster = TestCluster::started(3).await;
    for number in 0..3 {
        create(&cluster.leader().await, number).await;
    }
    cluster.converge().await;
    for id in NODES {
        cluster.stop(id).await;
    }
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_goes_on_where_the_backup_ended() {
    let mut cluster = stopped().await;
    let held = cluster.read_stopped(NodeId(2));
    assert!(held.committed <= held.last);
    assert_eq!(held.members.len(), 3);
    let index = held.state.last_stamp().index;
    cluster.restore(held.state, &NODES);
    for id in NODES {
        cluster.start(id).await;
    }
    create(&cluster.leader().await, 3).await;
    assert!(cluster.converge().await > index);
    for node in cluster.running() {
        assert!((0..=3).all(|number| has(&node, number)), "node {}", node.node());
        assert_eq!(node.state().state.kills().len(), 1, "and everything is frozen");
        assert_eq!(node.state().members().count(), 3);
    }
    // A restart reads the same again.
    cluster.stop(NodeId(1)).await;
    let again = cluster.start(NodeId(1)).await;
    eventually("it has the rest too", || has(&again, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_thought_lost_is_not_let_in_with_its_old_log() {
    let mut cluster = stopped().await;
    let held = cluster.read_stopped(NodeId(1));
    cluster.restore(held.state, &NODES[..2]);
    let options = cluster.options(NodeId(3));
    let refused = Consensus::start(options).await.err();
    assert!(
        matches!(&refused, Some(StartError::BadOption { what: "incarnation", .. })),
        "with the founding file of the restore it doesn't start: {refused:?}"
    );
    for id in &NODES[..2] {
        cluster.start(*id).await;
    }
    create(&cluster.leader().await, 3).await;
    cluster.set_incarnation(Incarnation(0));
    let old = cluster.start(NodeId(3)).await;
    create(&cluster.leader_among(&NODES[..2].iter().copied().collect()).await, 4).await;
    assert!(!has(&old, 3) && old.state().state.kills().is_empty(), "nothing of the new log reaches it");
    assert_ne!(old.status().role, Role::Leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_restored_cluster_founds_nothing_when_its_data_is_gone() {
    let mut cluster = TestCluster::new(1, 0).await;
    cluster.set_incarnation(Incarnation(1));
    let options = cluster.options(NodeId(1));
    let refused = Consensus::start(options).await.err().map(|error| error.to_string());
    assert!(refused.as_ref().is_some_and(|why| why.contains("this node's data is gone")), "{refused:?}");
}
