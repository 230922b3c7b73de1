//! The bound on a kill, checked against what an enforcer itself says that it permitted: partitioned, attached to a node
//! that lost its quorum, attached to a deposed leader, and across the death of the leader that committed the kill.
//!
//! The enforcer runs in this process, so its clock (CLOCK_BOOTTIME) is the one that the test reads.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::Command as Program,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use haltline_core::{
    ids::{KillId, NodeId},
    lease::{BootNanos, Drift, bound},
    limits::MAX_STALENESS_DEFAULT,
    receipt::{EnforcedRule, MemberClear, SignedReceipt},
};
use haltline_edge::{
    Action, DenyReason, EdgeConfig, Enforcer, Verdict,
    enforce::{BootClock, Clock as _, CoreOptions, Decided, Session},
};
use haltline_pki::JoinToken;
use haltline_testkit::{
    cluster::{Cluster, Person, wait_until},
    fault_proxy::{FaultProxy, Link},
};
use haltline_wire::v1::{self, command_reply::Outcome, enforcement_service_client::EnforcementServiceClient};

use super::{BINARY, founded, kill_fleet, register_agent};

pub(super) const AGENT: &str = "acme/load/worker";
/// Room in the enforcer's decision log: some minutes of the deciding thread.
pub(super) const DECISIONS_MAX: usize = 2_000_000;
/// Between two decisions of the deciding thread.
const PACE: Duration = Duration::from_micros(200);

/// A cluster in which every link between nodes, and from the edge to each node, goes through a fault proxy.
struct Rig {
    cluster: Cluster,
    admin: Person,
    /// From one node to another.
    links: BTreeMap<(usize, usize), FaultProxy>,
    /// From the edge to each node.
    edge_links: Vec<FaultProxy>,
}

impl Rig {
    async fn start() -> Self {
        let mut cluster = Cluster::create(Path::new(BINARY), 3).expect("directories");
        let mut links = BTreeMap::new();
        for from in 0..3 {
            let mut routes = Vec::new();
            for to in (0..3).filter(|to| *to != from) {
                let proxy = proxy_to(cluster.nodes[to].raft).await;
                routes.push(format!("{}={}", cluster.nodes[to].id, proxy.address()));
                links.insert((from, to), proxy);
            }
            cluster.nodes[from].environment.push(("HALTLINE_PEERS_ROUTES".into(), routes.join(", ")));
        }
        let mut edge_links = Vec::new();
        for node in &cluster.nodes {
            edge_links.push(proxy_to(node.edge).await);
        }
        cluster.start_all().expect("the binary starts");
        let admin = founded(&cluster).await;
        admin.command(0, register_agent(AGENT)).await.expect("the agent is registered");
        Self { cluster, admin, links, edge_links }
    }

    /// Holds back everything between a node and the others.
    fn isolate(&self, node: usize) {
        let touched = self.links.iter().filter(|((from, to), _)| *from == node || *to == node);
        touched.for_each(|(_, proxy)| proxy.set(Link::Stalled));
    }

    fn heal(&self) {
        self.links.values().chain(&self.edge_links).for_each(|proxy| proxy.set(Link::OPEN));
    }

    /// Lets the edge reach this node alone.
    fn attach_edge_to(&self, node: usize) {
        for (position, proxy) in self.edge_links.iter().enumerate() {
            proxy.set(if position == node { Link::OPEN } else { Link::Cut });
        }
    }

    fn haltline(&self, words: &[&str]) -> String {
        let mut program = Program::new(BINARY);
        program.env_clear().env("HALTLINE_IDENTITY", self.cluster.admin_directory()).args(words);
        let output = program.output().expect("the binary runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// An edge of its own for the test, with an agent that decides in a loop.
    async fn edge(&self) -> Deciding {
        let (directory, file) = (self.cluster.path().join("edge"), self.cluster.path().join("edge.join"));
        let path = file.to_str().expect("a path of letters");
        self.haltline(&["edge", "token", "create", "gate", "--path", "/", "--out", path]);
        let token = JoinToken::load(&file).expect("the token's file");
        haltline_edge::enrol(&token, &directory.join("identity")).await.expect("the edge is enrolled");
        let mut config = EdgeConfig::at(&directory.join("identity"), &directory.join("data"));
        let routes = self.cluster.nodes.iter().zip(&self.edge_links).map(|(node, proxy)| {
            let endpoint = proxy.address().to_string().parse().expect("a socket address is an endpoint");
            (node.id, endpoint)
        });
        config.routes.0 = routes.collect();
        let options = |name| CoreOptions { decision_log: Some(DECISIONS_MAX), ..CoreOptions::named(name) };
        let enforcer = Enforcer::connect_with(config, options).await.expect("the edge starts");
        let token = self.haltline(&["agent", "token", AGENT]).trim().to_owned();
        let session = wait_until("the agent has a session", || async { enforcer.session(&token).ok() }).await;
        Deciding::start(enforcer, session).await
    }

    /// Places a kill of the agent's fleet at a node; the kill, and a reading of the clock from after its commit.
    async fn kill(&self, node: usize) -> (KillId, BootNanos) {
        let kill = wait_until("the kill is committed", || async {
            let reply = self.admin.command(node, kill_fleet("acme/load")).await.ok()?;
            match reply.outcome {
                Some(Outcome::Killed(killed)) => Some(KillId(killed.kill)),
                other => panic!("a kill was answered {other:?}"),
            }
        });
        let kill = kill.await;
        (kill, BootClock.now())
    }

    /// The receipt, from whichever of these nodes has it.
    async fn receipt(&self, nodes: &[usize], kill: KillId) -> SignedReceipt {
        wait_until("the kill has a receipt", || async {
            for node in nodes {
                if let Some(receipt) = receipt_at(&self.admin, *node, kill).await {
                    return Some(receipt);
                }
            }
            None
        })
        .await
    }

    /// Checks what was permitted against the receipt, by the enforcer's own log.
    async fn check(&self, deciding: Deciding, killed: BootNanos, signed: &SignedReceipt) {
        let enforced = BootClock.now();
        let receipt = &signed.receipt;
        signed.verify(|node| Some(self.signing_key(node))).expect("the receipt holds");
        assert_eq!(receipt.bound, bound(MAX_STALENESS_DEFAULT, Drift::default()));
        deciding.decide_more(200).await;
        let decisions = deciding.finish().await;
        let permits: Vec<BootNanos> = decisions.iter().filter_map(permitted_at).collect();
        let last = permits.iter().max().copied().expect("something was permitted before the kill");
        let ends = killed.plus(receipt.bound.into());
        assert!(last < ends, "permitted {} ns past the bound", last.0 - ends.0);
        assert!(last < enforced, "permitted {} ns after the receipt", last.0 - enforced.0);
        let after = decisions.iter().filter(|decided| instant(&decided.verdict) > enforced).count();
        assert!(after >= 200, "only {after} decisions after the receipt: this shows nothing");
        println!(
            "{} decisions, {} permits, the last {:?} from the kill's acknowledgement; receipt {:?} after {}",
            decisions.len(),
            permits.len(),
            Duration::from_nanos(last.since(killed).0),
            receipt.rule,
            receipt.took,
        );
    }

    fn signing_key(&self, node: NodeId) -> haltline_core::ids::PublicKey {
        self.admin.identity().bundle().nodes()[&node].signing_key
    }
}

async fn proxy_to(address: SocketAddr) -> FaultProxy {
    FaultProxy::start(SocketAddr::new(address.ip(), 0), address).await.expect("a free port")
}

/// One wait for the receipt at one node; `None` if that node can't say.
pub(super) async fn receipt_at(admin: &Person, node: usize, kill: KillId) -> Option<SignedReceipt> {
    let mut client = EnforcementServiceClient::new(admin.channel(node));
    let mut progress =
        client.wait_enforced(v1::WaitEnforcedRequest { kill: kill.0 }).await.ok()?.into_inner();
    while let Some(step) = progress.message().await.ok()? {
        if let Some(receipt) = step.receipt {
            return Some(SignedReceipt::try_from(receipt).expect("a receipt"));
        }
    }
    None
}

fn instant(verdict: &Verdict) -> BootNanos {
    match verdict {
        Verdict::Permit(permit) => permit.at,
        Verdict::Deny(denial) => denial.at,
    }
}

pub(super) fn permitted_at(decided: &Decided) -> Option<BootNanos> {
    decided.verdict.is_permit().then(|| instant(&decided.verdict))
}

/// An enforcer whose agent asks again and again.
pub(super) struct Deciding {
    enforcer: Enforcer,
    session: Session,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    decided: Arc<std::sync::atomic::AtomicU64>,
}

impl Deciding {
    #[expect(clippy::disallowed_methods, reason = "a thread of its own, which does nothing but decide")]
    pub(super) async fn start(enforcer: Enforcer, session: Session) -> Self {
        let (stop, decided) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (asked, stopped) = (session.clone(), stop.clone());
        let counter: Arc<std::sync::atomic::AtomicU64> = Arc::clone(&decided);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let _ = asked.decide(&Action::tool("ledger.post"));
                counter.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PACE);
            }
        });
        let deciding = Self { enforcer, session, stop, thread, decided };
        wait_until("actions are permitted", || async { deciding.decide().is_permit().then_some(()) }).await;
        deciding
    }

    /// The relay that it hangs on, if it is one.
    pub(super) fn hub_relay(&self) -> Option<String> {
        self.enforcer.status().hub?.endpoint.relay().map(ToString::to_string)
    }

    /// The enforcer itself.
    pub(super) const fn enforcer(&self) -> &Enforcer {
        &self.enforcer
    }

    pub(super) fn decide(&self) -> Verdict {
        self.session.decide(&Action::tool("ledger.post"))
    }

    /// Waits until the thread has decided that often more.
    pub(super) async fn decide_more(&self, times: u64) {
        let goal = self.decided.load(Ordering::Relaxed) + times + 1;
        wait_until("more was decided", || async {
            (self.decided.load(Ordering::Relaxed) >= goal).then_some(())
        })
        .await;
    }

    /// Waits until the enforcer itself knows of the kill.
    pub(super) async fn knows_of(&self, kill: KillId) {
        wait_until("the edge denies because of the kill", || async {
            let verdict = self.decide();
            let reason = &verdict.denial()?.reason;
            matches!(reason, DenyReason::Killed { kill: by, .. } if *by == kill).then_some(())
        })
        .await;
    }

    /// Everything that was decided.
    pub(super) async fn finish(self) -> Vec<Decided> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the deciding thread ends");
        let extract = self.enforcer.core().take_decisions();
        assert_eq!(extract.lost, 0, "the log must be whole to be checked");
        self.enforcer.shutdown().await;
        extract.decisions
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_answers_proves_a_kill_by_acknowledging_it() {
    let rig = Rig::start().await;
    let deciding = rig.edge().await;
    let (kill, killed) = rig.kill(0).await;
    let receipt = rig.receipt(&[0], kill).await;
    assert_eq!(receipt.receipt.rule, EnforcedRule::Acked, "{receipt:?}");
    assert_eq!(receipt.receipt.enforcers_acked, 1);
    deciding.knows_of(kill).await;
    rig.check(deciding, killed, &receipt).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partitioned_edge_permits_nothing_past_the_bound() {
    let rig = Rig::start().await;
    let deciding = rig.edge().await;
    rig.edge_links.iter().for_each(|link| link.set(Link::Stalled));
    let (kill, killed) = rig.kill(0).await;
    let receipt = rig.receipt(&[0], kill).await;
    assert_eq!(receipt.receipt.rule, EnforcedRule::Fenced);
    assert_eq!(receipt.receipt.fenced.len(), 1, "{receipt:?}");
    assert!(!deciding.decide().is_permit());
    rig.heal();
    deciding.knows_of(kill).await;
    rig.check(deciding, killed, &receipt).await;
}

/// The edge hangs on a node that loses the others; the kill is placed where a quorum is.
async fn cut_off_with_its_node(is_leader: bool) {
    let rig = Rig::start().await;
    let leader = rig.cluster.wait_for_leader(&rig.admin).await;
    let lost = if is_leader { leader } else { (leader + 1) % 3 };
    rig.attach_edge_to(lost);
    let deciding = rig.edge().await;
    rig.isolate(lost);
    let others: Vec<usize> = (0..3).filter(|node| *node != lost).collect();
    let (kill, killed) = rig.kill(others[0]).await;
    let receipt = rig.receipt(&others, kill).await;
    let lost_id = rig.cluster.nodes[lost].id;
    assert_eq!(receipt.receipt.rule, EnforcedRule::Fenced);
    assert!(receipt.receipt.members.contains(&(lost_id, MemberClear::WaitedOut)), "{receipt:?}");
    assert!(!deciding.decide().is_permit());
    rig.heal();
    deciding.knows_of(kill).await;
    rig.check(deciding, killed, &receipt).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_quorum_keeps_no_edge_permitting() {
    cut_off_with_its_node(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_that_still_answers_keeps_no_edge_permitting() {
    cut_off_with_its_node(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_between_commit_and_enforcement_takes_no_proof_with_it() {
    let mut rig = Rig::start().await;
    let leader = rig.cluster.wait_for_leader(&rig.admin).await;
    rig.attach_edge_to(leader);
    let deciding = rig.edge().await;
    // The edge hears nothing of the kill from the one node that it hangs on.
    rig.edge_links[leader].set(Link::Stalled);
    let (kill, killed) = rig.kill(leader).await;
    rig.cluster.kill(leader).expect("it runs");
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    let receipt = rig.receipt(&others, kill).await;
    assert_eq!(receipt.receipt.rule, EnforcedRule::Fenced, "{receipt:?}");
    assert_ne!(receipt.receipt.signer, rig.cluster.nodes[leader].id);
    rig.heal();
    deciding.knows_of(kill).await;
    rig.check(deciding, killed, &receipt).await;
}
