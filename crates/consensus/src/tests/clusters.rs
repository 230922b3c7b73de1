//! Commits, forwarding, change of leader, restarts, and the end of a node whose disk fails.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use haltline_core::{LogIndex, ids::NodeId, path::FleetPath, rejection::Outcome};
use haltline_pki::Subject;
use haltline_storage::{Flushed, LogBounds, Purged, RaftLog, Record, StorageError};

use super::harness::{TestCluster, create, eventually, fleet, has};
use crate::{ProposeError, Role};

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_founds_itself_commits_and_comes_back() {
    let mut cluster = TestCluster::started(1).await;
    let node = cluster.leader().await;
    let reply = create(&node, 1).await;
    assert!(matches!(reply.result, Ok(Outcome::FleetStored { .. })));
    assert!(has(&node, 1), "the state holds what was answered");
    let before = node.status();
    assert_eq!((before.role, before.founded, before.members.len()), (Role::Leader, true, 1));

    cluster.stop(NodeId(1)).await;
    let node = cluster.start(NodeId(1)).await;
    assert!(has(&node, 1), "what was committed is there before anybody leads");
    create(&cluster.leader().await, 2).await;
    assert_eq!(node.state().state.chain().seq.0, before.chain.seq.0 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_of_three_nodes_takes_commands_and_all_hold_the_same() {
    let cluster = TestCluster::started(3).await;
    for (number, node) in cluster.running().iter().enumerate() {
        let number = number as u64;
        let reply = create(node, number).await;
        let published = node.wait_applied(reply.stamp.index, Duration::from_secs(10)).await.unwrap();
        assert!(published.applied >= reply.stamp.index);
        assert!(has(node, number), "a caller reads its own write at the node it asked");
    }
    cluster.converge().await;
    for node in cluster.running() {
        assert!((0..3).all(|number| has(&node, number)));
        let status = node.status();
        assert_eq!(status.members.len(), 3);
        assert!(status.members.iter().all(|member| member.voter));
        let shown = status.members.iter().all(|member| member.lag.is_some());
        assert_eq!(shown, status.role == Role::Leader, "only a leader knows how far the others are");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_carried_out_once_also_by_another_node_and_after_a_change_of_leader() {
    let mut cluster = TestCluster::started(3).await;
    let leader = cluster.leader().await;
    let request = fleet(&leader, 5);
    let first = leader.propose(&request).await.unwrap();
    let follower = cluster.follower().await;
    let second = follower.propose(&request).await.unwrap();
    assert_eq!(first.result, second.result);
    cluster.stop(leader.node()).await;
    let third = follower.propose(&request).await.unwrap();
    assert_eq!(first.result, third.result);
    assert_eq!(follower.read_barrier().await.map(|_| ()), Ok(()));
    let fleet = follower.state().state.fleets().get(&"f5".parse::<FleetPath>().unwrap()).cloned().unwrap();
    assert_eq!(fleet.version.0, 1, "one creation, no matter how often it was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_the_sudden_loss_of_leaders() {
    let cluster = TestCluster::started(3).await;
    let mut acknowledged = BTreeSet::new();
    let mut number = 0;
    for _ in 0..2 {
        let lost = cluster.leader().await.node();
        let others = cluster.running().into_iter().map(|node| node.node()).filter(|node| *node != lost);
        let others = others.collect::<BTreeSet<_>>();
        let writer = cluster.node(*others.first().unwrap());
        let writing = tokio::spawn(async move {
            let mut done = Vec::new();
            for number in number..number + 60 {
                create(&writer, number).await;
                done.push(number);
            }
            done
        });
        eventually("some of it is written", || has(&cluster.node(lost), number + 5)).await;
        cluster.isolate(lost, true);
        acknowledged.extend(writing.await.unwrap());
        let successor = cluster.leader_among(&others).await;
        assert_ne!(successor.node(), lost);
        number += 60;
        cluster.isolate(lost, false);
        eventually("the lost leader follows", || {
            cluster.node(lost).status().leader.is_some_and(|leader| leader != lost)
        })
        .await;
    }
    cluster.converge().await;
    for node in cluster.running() {
        assert!(acknowledged.iter().all(|number| has(&node, *number)), "{} lost some", node.node());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_takes_nothing_and_says_so() {
    let cluster = TestCluster::started(3).await;
    let alone = cluster.leader().await;
    cluster.isolate(alone.node(), true);
    let rest = cluster.running().into_iter().map(|node| node.node()).filter(|node| *node != alone.node());
    cluster.leader_among(&rest.collect()).await;
    let request = fleet(&alone, 1);
    let refused = alone.propose_within(&request, Duration::from_millis(1_500)).await.unwrap_err();
    assert!(
        matches!(refused, ProposeError::UnknownOutcome { .. } | ProposeError::NoLeader { .. }),
        "{refused}"
    );
    assert!(!has(&alone, 1));
    cluster.isolate(alone.node(), false);
    cluster.converge().await;
    let again = alone.propose(&request).await.unwrap();
    assert!(again.result.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_cut_off_comes_back_without_an_election() {
    let cluster = TestCluster::started(3).await;
    let leader = cluster.leader().await;
    let term = leader.status().term;
    let away = cluster.follower().await;
    cluster.isolate(away.node(), true);
    // Its election timer fires many times meanwhile; only pre-votes may come of it.
    for number in 0..150 {
        create(&leader, number).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cluster.isolate(away.node(), false);
    eventually("it has caught up", || has(&away, 149)).await;
    let status = leader.status();
    assert_eq!((status.role, status.term), (Role::Leader, term), "its return unseated the leader");
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_are_connected_before_they_need_it() {
    let cluster = TestCluster::started(3).await;
    for node in cluster.running() {
        eventually("both others hold the two connections that a failover takes", || {
            let peers = node.port().peers();
            let others =
                cluster.running().into_iter().map(|other| other.node()).filter(|id| *id != node.node());
            others
                .into_iter()
                .all(|id| peers.iter().filter(|peer| peer.subject == Subject::Node(id)).count() >= 2)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_on_request_and_on_shutdown() {
    let mut cluster = TestCluster::started(3).await;
    let old = cluster.leader().await;
    let heir = cluster.follower().await.node();
    old.transfer_leadership(heir).await.unwrap();
    assert_eq!(cluster.leader().await.node(), heir);
    let term = cluster.node(heir).status().term;
    cluster.stop(heir).await;
    let next = cluster.leader().await;
    create(&next, 1).await;
    assert!(next.status().term > term);
    let refused = cluster.follower().await.transfer_leadership(next.node()).await.unwrap_err();
    assert!(refused.to_string().contains(&format!("ask node {}", next.node())), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_stop_and_come_back_with_everything() {
    let mut cluster = TestCluster::started(3).await;
    for number in 0..20 {
        create(&cluster.follower().await, number).await;
    }
    cluster.converge().await;
    for id in 1..=3 {
        cluster.stop(NodeId(id)).await;
    }
    for id in 1..=3 {
        cluster.start(NodeId(id)).await;
    }
    create(&cluster.leader().await, 20).await;
    cluster.converge().await;
    for node in cluster.running() {
        assert!((0..=20).all(|number| has(&node, number)));
    }
}

/// A log whose disk fails when told to.
struct Failing {
    log: Arc<dyn RaftLog>,
    broken: Arc<AtomicBool>,
}

impl RaftLog for Failing {
    fn bounds(&self) -> LogBounds {
        self.log.bounds()
    }
    fn read(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<Record>, StorageError> {
        self.log.read(range, bytes_max)
    }
    fn append(&self, records: Vec<Record>, flushed: Flushed) {
        if self.broken.load(Ordering::SeqCst) {
            flushed(Err(StorageError::DiskFull { action: "append to", path: "/log/seg".into() }));
        } else {
            self.log.append(records, flushed);
        }
    }
    fn truncate_after(&self, index: Option<LogIndex>) -> Result<(), StorageError> {
        self.log.truncate_after(index)
    }
    fn purge_through(&self, purged: Purged) -> Result<(), StorageError> {
        self.log.purge_through(purged)
    }
    fn save_vote(&self, vote: Bytes, flushed: Flushed) {
        self.log.save_vote(vote, flushed);
    }
    fn vote(&self) -> Option<Bytes> {
        self.log.vote()
    }
    fn save_committed(&self, mark: Bytes) -> Result<(), StorageError> {
        self.log.save_committed(mark)
    }
    fn committed(&self) -> Option<Bytes> {
        self.log.committed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_disk_stops_the_node_with_the_reason() {
    let mut cluster = TestCluster::new(1, 0).await;
    let mut options = cluster.options(NodeId(1));
    let broken = Arc::new(AtomicBool::new(false));
    options.log = Arc::new(Failing { log: options.log, broken: broken.clone() });
    let node = crate::Consensus::start(options).await.unwrap();
    eventually("founded", || node.state().state.is_founded()).await;
    assert_eq!(*node.fatal().borrow(), None);

    broken.store(true, Ordering::SeqCst);
    let outcome = node.propose_within(&fleet(&node, 1), Duration::from_secs(5)).await;
    assert!(outcome.is_err(), "{outcome:?}");
    let mut fatal = node.fatal();
    let reason = fatal.wait_for(Option::is_some).await.unwrap().clone().unwrap().to_string();
    assert!(reason.contains("disk is full"), "{reason}");
    node.shutdown().await;
}
