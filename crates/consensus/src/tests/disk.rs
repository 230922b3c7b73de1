//! Full and slow disks: who leads then, what is taken, and that nothing acknowledged is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use haltline_core::{command::Command, ids::NodeId, limits::TEXT_BYTES_MAX, text::Text};
use haltline_storage::Room;
use haltline_testkit::disk::FaultDisk;
use tokio::task::JoinHandle;

use super::harness::{PATIENCE, TestCluster, create, eventually, fleet, has, kill};
use crate::{Compaction, Consensus, ProposeError, Role};

/// Small, so that a log goes through many.
const SMALL: u32 = 64 << 10;
/// Large enough that nothing but ticks and kills goes into a reserve in the time of a test.
const LARGE: u32 = 1 << 20;

async fn on_fault_disks(
    segment_bytes: u32,
    snapshot_reserve: u64,
) -> (TestCluster, BTreeMap<NodeId, FaultDisk>) {
    let mut cluster = TestCluster::new(3, 0).await;
    cluster.snapshot_reserve = snapshot_reserve;
    // Only a full disk makes these logs be compacted.
    cluster.compaction = Compaction { keep_entries: 100, ..Compaction::default() };
    let disks = cluster.put_on_fault_disks(segment_bytes);
    cluster.start_founders().await;
    for node in cluster.running() {
        eventually("its reserve is there", || {
            let log = node.status().disk.log;
            log.reserve_segments == log.reserve_segments_wanted
        })
        .await;
    }
    (cluster, disks)
}

fn room(node: &Consensus) -> Room {
    node.status().disk.log.room
}

/// Writers that create fleets, each named once, until stopped; what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Vec<u64>>>,
}

impl Load {
    fn on(nodes: &[Consensus]) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writers = (0..8).map(|writer| {
            let (nodes, stop, done) = (nodes.to_vec(), stop.clone(), done.clone());
            tokio::spawn(write(nodes, writer, stop, done))
        });
        let writers = writers.collect();
        Self { stop, done, writers }
    }

    async fn more(&self, more: u64) {
        let wanted = self.done.load(Ordering::SeqCst) + more;
        eventually("more is acknowledged", || self.done.load(Ordering::SeqCst) >= wanted).await;
    }

    async fn finish(self) -> BTreeSet<u64> {
        self.stop.store(true, Ordering::SeqCst);
        let mut acknowledged = BTreeSet::new();
        for writer in self.writers {
            acknowledged.extend(writer.await.unwrap());
        }
        acknowledged
    }
}

fn words() -> Text {
    "x".repeat(TEXT_BYTES_MAX).parse().unwrap()
}

async fn write(nodes: Vec<Consensus>, writer: u64, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let number = 1_000 + writer * 100_000 + number;
        let mut at = writer as usize;
        let mut request = fleet(&nodes[at % nodes.len()], number);
        if let Command::FleetCreate(create) = &mut request.command {
            // Large, so that logs fill.
            (create.owner, create.contact) = (words(), words());
        }
        loop {
            if stop.load(Ordering::SeqCst) {
                return acknowledged;
            }
            match nodes[at % nodes.len()].propose_within(&request, Duration::from_secs(2)).await {
                Ok(reply) => {
                    assert!(reply.result.is_ok(), "{reply:?}");
                    break;
                }
                Err(_) => at += 1,
            }
        }
        acknowledged.push(number);
        done.fetch_add(1, Ordering::SeqCst);
    }
    acknowledged
}

fn nothing_is_lost(cluster: &TestCluster, acknowledged: &BTreeSet<u64>) {
    for node in cluster.running() {
        assert_eq!(*node.fatal().borrow(), None);
        let lost = acknowledged.iter().filter(|number| !has(&node, **number)).count();
        assert_eq!(lost, 0, "{} of {} at node {}", lost, acknowledged.len(), node.node());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_fills_hands_over_under_load_and_comes_back() {
    let (cluster, disks) = on_fault_disks(LARGE, 1 << 20).await;
    let full = cluster.leader().await;
    create(&full, 1).await;
    let load = Load::on(&cluster.running());
    load.more(50).await;
    disks[&full.node()].fill();
    eventually("somebody else leads", || {
        cluster.running().iter().any(|node| node.status().role == Role::Leader && node.node() != full.node())
    })
    .await;
    load.more(50).await;
    assert_eq!(room(&full), Room::Low);
    assert!(!full.status().disk.takes_kills_only, "others have room, so commands are taken");
    full.read_barrier().await.unwrap();
    let killed = full.propose(&kill(&full, 2)).await.unwrap();
    killed.result.unwrap();
    disks[&full.node()].limit_room(None);
    eventually("it has room", || room(&full) == Room::Ample).await;
    load.more(50).await;
    let acknowledged = load.finish().await;
    cluster.converge().await;
    nothing_is_lost(&cluster, &acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_disks_full_kills_and_elections_go_through_and_nothing_else() {
    let (mut cluster, disks) = on_fault_disks(LARGE, 1 << 20).await;
    create(&cluster.leader().await, 1).await;
    disks.values().for_each(FaultDisk::fill);
    let nodes = cluster.running();
    eventually("the leader says so", || nodes.iter().any(|node| node.status().disk.takes_kills_only)).await;
    for (number, node) in (10..).zip(&nodes) {
        let refused = node.propose(&fleet(node, number)).await;
        assert_eq!(refused, Err(ProposeError::DiskFull));
        node.propose(&kill(node, number)).await.unwrap().result.unwrap();
        node.read_barrier().await.unwrap();
    }
    let old = cluster.leader().await.node();
    cluster.stop(old).await;
    // The votes and the first entry of the next leader are written into the reserve.
    let next = cluster.leader().await;
    let nodes = cluster.running();
    eventually("the next leader says so too", || {
        nodes.iter().any(|node| node.status().disk.takes_kills_only)
    })
    .await;
    next.propose(&kill(&next, 20)).await.unwrap().result.unwrap();
    assert_eq!(next.propose(&fleet(&next, 21)).await, Err(ProposeError::DiskFull));
    cluster.start(old).await;
    cluster.converge().await;

    disks.values().for_each(|disk| disk.limit_room(None));
    for node in cluster.running() {
        eventually("it has room", || room(&node) == Room::Ample).await;
    }
    let leader = cluster.leader().await;
    eventually("commands are taken", || !leader.status().disk.takes_kills_only).await;
    create(&cluster.follower().await, 30).await;
    cluster.converge().await;
    for node in cluster.running() {
        assert!(has(&node, 1) && has(&node, 30) && !has(&node, 10) && !has(&node, 21));
        assert_eq!(*node.fatal().borrow(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_any_room_waits_and_catches_up() {
    let (cluster, disks) = on_fault_disks(SMALL, 0).await;
    let full = cluster.follower().await;
    let others = cluster.running().into_iter().filter(|node| node.node() != full.node()).collect::<Vec<_>>();
    disks[&full.node()].fill();
    let load = Load::on(&others);
    eventually("its log waits", || room(&full) == Room::Nothing).await;
    load.more(100).await;
    assert_eq!(*full.fatal().borrow(), None);
    disks[&full.node()].limit_room(None);
    eventually("it has room", || room(&full) == Room::Ample).await;
    let acknowledged = load.finish().await;
    cluster.converge().await;
    nothing_is_lost(&cluster, &acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_on_a_slow_disk_hands_over_once_and_not_when_all_are_slow() {
    let (cluster, disks) = on_fault_disks(LARGE, 0).await;
    let slow = cluster.leader().await;
    disks[&slow.node()].slow_down(Duration::from_millis(400));
    let load = Load::on(&cluster.running());
    eventually("somebody else leads", || {
        cluster.running().iter().any(|node| node.status().role == Role::Leader && node.node() != slow.node())
    })
    .await;
    load.more(50).await;
    let term = cluster.leader().await.status().term;
    disks.values().for_each(|disk| disk.slow_down(Duration::from_millis(400)));
    for node in cluster.running() {
        eventually("it is slow", || node.status().disk.log.syncs.recent >= Duration::from_millis(400)).await;
    }
    load.more(100).await;
    assert_eq!(cluster.leader().await.status().term, term, "leadership stays where it is");
    disks.values().for_each(|disk| disk.slow_down(Duration::ZERO));
    let acknowledged = tokio::time::timeout(PATIENCE, load.finish()).await.unwrap();
    cluster.converge().await;
    nothing_is_lost(&cluster, &acknowledged);
}
