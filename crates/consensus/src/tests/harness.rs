//! A cluster with a link of its own between every two nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use haltline_core::{
    LogIndex,
    command::{Genesis, NodeRecord, PersonAdd, Request, Role as PersonRole, RoleBinding},
    ids::{Incarnation, NodeId, PublicKey},
    path::FleetPath,
    restore::{Restore, restore},
    state::State,
    time::{Millis, WallTime},
};
use haltline_pki::{ClusterPki, NewNode};
use haltline_storage::{Disk, LogOptions, MemoryDisk, SegmentedLog, SnapshotFiles};
use haltline_testkit::disk::FaultDisk;

use super::proxy::Link;
use crate::{
    Clock, Compaction, Consensus, Member, Options, Reply, Role, StoppedNode, SystemClock, Timing,
    read_stopped, testing, write_restored,
};

/// Generous, because many clusters run at once in a debug build.
pub(super) const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(60),
    election_min: Duration::from_millis(150),
    election_max: Duration::from_millis(300),
    append: Duration::from_millis(1_500),
    connect: Duration::from_millis(1_000),
};

/// How long a condition may take to come true before the test gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct TestCluster {
    pki: ClusterPki,
    genesis: Genesis,
    founders: Vec<(NodeId, Member)>,
    sites: BTreeMap<NodeId, Site>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    pub(super) compaction: Compaction,
    /// Bytes that each node keeps for a snapshot on a full disk.
    pub(super) snapshot_reserve: u64,
    pub(super) clock: Arc<dyn Clock>,
}

/// Where a node lives, also while it is down.
struct Site {
    address: SocketAddr,
    /// Kept so that nobody else gets the port before the node's first start.
    reserved: Option<TcpListener>,
    disk: Arc<dyn Disk>,
    /// Bytes of the log's segments.
    segment_bytes: u32,
    log: Option<Arc<SegmentedLog>>,
    running: Option<Consensus>,
}

impl TestCluster {
    /// Founds a cluster of `founders` nodes; `others` more have certificates, and can join.
    pub(super) async fn new(founders: u64, others: u64) -> Self {
        // `RUST_LOG=openraft=info,haltline=debug` shows what happens; the first test to come sets it up for all.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let ids = (1..=founders + others).map(NodeId).collect::<Vec<_>>();
        let new = ids.iter().map(|id| NewNode { id: *id, hosts: vec![] }).collect::<Vec<_>>();
        let pki = ClusterPki::create(&new).unwrap();
        let sites = ids.iter().map(|id| (*id, Site::new())).collect::<BTreeMap<_, _>>();
        let mut links = BTreeMap::new();
        for from in &ids {
            for to in ids.iter().filter(|to| *to != from) {
                links.insert((*from, *to), Link::to(sites[to].address).await);
            }
        }
        let founders = ids[..usize::try_from(founders).unwrap()]
            .iter()
            .map(|id| (*id, member(*id, sites[id].address)))
            .collect();
        Self {
            genesis: genesis(&pki),
            pki,
            founders,
            sites,
            links,
            compaction: Compaction::default(),
            snapshot_reserve: 0,
            clock: Arc::new(SystemClock),
        }
    }

    /// Founds a cluster and waits until it is there.
    pub(super) async fn started(founders: u64) -> Self {
        let mut cluster = Self::new(founders, 0).await;
        cluster.start_founders().await;
        cluster
    }

    /// Gives every node a disk with faults, and segments of this size, before it is started.
    pub(super) fn put_on_fault_disks(&mut self, segment_bytes: u32) -> BTreeMap<NodeId, FaultDisk> {
        let disks = self.sites.keys().map(|id| (*id, FaultDisk::new(id.0))).collect::<BTreeMap<_, _>>();
        for (id, site) in &mut self.sites {
            site.disk = Arc::new(disks[id].clone());
            site.segment_bytes = segment_bytes;
        }
        disks
    }

    pub(super) async fn start_founders(&mut self) {
        for (id, _) in self.founders.clone() {
            self.start(id).await;
        }
        self.leader().await;
        for node in self.running() {
            eventually("the founding entry is applied", || node.state().state.is_founded()).await;
        }
    }

    pub(super) async fn start(&mut self, id: NodeId) -> Consensus {
        let options = self.options(id);
        let node = Consensus::start(options).await.unwrap();
        self.sites.get_mut(&id).unwrap().running = Some(node.clone());
        node
    }

    pub(super) fn options(&mut self, id: NodeId) -> Options {
        let founder = self.founders.iter().any(|(founder, _)| *founder == id);
        let routes = self.links.iter().filter(|((from, _), _)| *from == id);
        let routes = routes.map(|((_, to), link)| (*to, link.address.to_string())).collect();
        let site = self.sites.get_mut(&id).unwrap();
        let listener = site.reserved.take().unwrap_or_else(|| TcpListener::bind(site.address).unwrap());
        let log = Arc::new(site.open_log());
        site.log = Some(log.clone());
        let identity = self.pki.nodes().iter().find(|node| node.id() == id).unwrap().clone();
        Options {
            identity,
            listener,
            founders: if founder { self.founders.clone() } else { Vec::new() },
            genesis: founder.then(|| self.genesis.clone()),
            routes,
            timing: TIMING,
            compaction: self.compaction,
            log,
            snapshots: Arc::new(
                SnapshotFiles::open_with_reserve(
                    site.disk.clone(),
                    Path::new("/snapshots"),
                    self.snapshot_reserve,
                )
                .unwrap(),
            ),
            clock: self.clock.clone(),
        }
    }

    /// Stops a node in order; its disk stays.
    pub(super) async fn stop(&mut self, id: NodeId) {
        let site = self.sites.get_mut(&id).unwrap();
        site.running.take().unwrap().shutdown().await;
        site.log.take().unwrap().close().unwrap();
    }

    /// What a node holds that was stopped.
    pub(super) fn read_stopped(&self, id: NodeId) -> StoppedNode {
        let site = &self.sites[&id];
        let snapshots = Arc::new(SnapshotFiles::open(site.disk.clone(), Path::new("/snapshots")).unwrap());
        read_stopped(&site.open_log(), snapshots).unwrap()
    }

    /// Restores a state of this cluster, with the nodes that it has: these get new disks, the others keep theirs.
    pub(super) fn restore(&mut self, backup: State, ids: &[NodeId]) {
        let incarnation = self.genesis.incarnation.next();
        let asked = Restore {
            index: backup.last_stamp().index.next(),
            wall_time: WallTime(1),
            incarnation,
            by: testing::admin(),
            reason: "restored".parse().unwrap(),
            nodes: self.genesis.nodes.clone(),
            trust_bundle: self.genesis.trust_bundle,
            endorsements: Vec::new(),
        };
        let restored = restore(backup, &asked).unwrap().state;
        for id in ids {
            let site = self.sites.get_mut(id).unwrap();
            site.disk = Arc::new(MemoryDisk::new());
            let snapshots = SnapshotFiles::open(site.disk.clone(), Path::new("/snapshots")).unwrap();
            let log = site.open_log();
            write_restored(&log, &snapshots, &restored, &self.founders).unwrap();
            assert!(
                write_restored(&log, &snapshots, &restored, &self.founders).is_err(),
                "only into a new one"
            );
            log.close().unwrap();
        }
        self.genesis.incarnation = incarnation;
    }

    /// As if this node's founding file were of another incarnation.
    pub(super) fn set_incarnation(&mut self, incarnation: Incarnation) {
        self.genesis.incarnation = incarnation;
    }

    pub(super) fn node(&self, id: NodeId) -> Consensus {
        self.sites[&id].running.clone().unwrap()
    }

    pub(super) fn running(&self) -> Vec<Consensus> {
        self.sites.values().filter_map(|site| site.running.clone()).collect()
    }

    pub(super) fn member(&self, id: NodeId) -> Member {
        member(id, self.sites[&id].address)
    }

    /// The node that leads and is followed by a majority of those that run.
    pub(super) async fn leader(&self) -> Consensus {
        self.leader_among(&self.running().iter().map(Consensus::node).collect()).await
    }

    pub(super) async fn leader_among(&self, ids: &BTreeSet<NodeId>) -> Consensus {
        let nodes = self.running().into_iter().filter(|node| ids.contains(&node.node())).collect::<Vec<_>>();
        let mut found = None;
        eventually("somebody leads", || {
            found = nodes.iter().find(|node| {
                let followed = nodes.iter().filter(|other| other.status().leader == Some(node.node()));
                node.status().role == Role::Leader && followed.count() * 2 > nodes.len()
            });
            found.is_some()
        })
        .await;
        found.unwrap().clone()
    }

    /// A running node that doesn't lead.
    pub(super) async fn follower(&self) -> Consensus {
        let leader = self.leader().await.node();
        self.running().into_iter().find(|node| node.node() != leader).unwrap()
    }

    /// Cuts every link from and to this node, or mends them.
    pub(super) fn isolate(&self, id: NodeId, dark: bool) {
        for ((from, to), link) in &self.links {
            if *from == id || *to == id {
                link.set_dark(dark);
            }
        }
    }

    /// Waits until all running nodes have applied the same, and checks that it is the same.
    pub(super) async fn converge(&self) -> LogIndex {
        let nodes = self.running();
        let target = self.leader().await.read_barrier().await.unwrap();
        for node in &nodes {
            eventually("every node has applied what was committed", || node.state().applied >= target).await;
        }
        let mut chains = BTreeMap::new();
        eventually("all chains are equal", || {
            chains = nodes.iter().map(|node| (node.node(), node.state().state.chain().head)).collect();
            chains.values().collect::<BTreeSet<_>>().len() == 1
        })
        .await;
        target
    }
}

impl Site {
    fn new() -> Self {
        // Not 127.0.0.1, from where connections go out: one of those could have the port when a node comes back to it.
        let reserved = TcpListener::bind("127.0.0.2:0").unwrap();
        Self {
            address: reserved.local_addr().unwrap(),
            reserved: Some(reserved),
            disk: Arc::new(MemoryDisk::new()),
            segment_bytes: 4 << 20,
            log: None,
            running: None,
        }
    }

    fn open_log(&self) -> SegmentedLog {
        let options = LogOptions { segment_bytes: self.segment_bytes, ..LogOptions::default() };
        SegmentedLog::open(self.disk.clone(), Path::new("/log"), options).unwrap()
    }
}

fn member(id: NodeId, address: SocketAddr) -> Member {
    Member { name: format!("node-{id}"), raft_address: address.to_string(), api_address: String::new() }
}

fn genesis(pki: &ClusterPki) -> Genesis {
    let nodes = pki.nodes().iter().map(|node| NodeRecord {
        id: node.id(),
        name: format!("node-{}", node.id()).parse().unwrap(),
        key_hash: node.trusted().tls_key,
        signing_key: node.trusted().signing_key,
    });
    Genesis {
        cluster_id: pki.cluster(),
        incarnation: Incarnation(0),
        trust_bundle: pki.bundle().hash(),
        nodes: nodes.collect(),
        first_admin: PersonAdd {
            person: testing::admin(),
            tls_keys: vec![],
            signing_key: PublicKey([7; 32]),
            roles: vec![RoleBinding { role: PersonRole::Admin, path: None }],
        },
    }
}

/// A fleet to create, due in a minute of cluster time.
pub(super) fn fleet(node: &Consensus, number: u64) -> Request {
    due(node, testing::fleet(number))
}

/// A kill of `f1`, due in a minute of cluster time.
pub(super) fn kill(node: &Consensus, number: u64) -> Request {
    due(node, testing::kill(number))
}

fn due(node: &Consensus, request: Request) -> Request {
    Request { deadline: node.cluster_now().plus(Millis(60_000)), ..request }
}

/// Commits a fleet through this node.
pub(super) async fn create(node: &Consensus, number: u64) -> Reply {
    let reply = node.propose(&fleet(node, number)).await.unwrap();
    reply.result.as_ref().unwrap();
    reply
}

/// Whether the node's state holds the fleet.
pub(super) fn has(node: &Consensus, number: u64) -> bool {
    let path: FleetPath = format!("f{number}").parse().unwrap();
    node.state().state.fleets().contains_key(&path)
}

/// Waits for a condition.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
