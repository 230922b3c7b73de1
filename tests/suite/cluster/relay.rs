//! Two edges below a relay, which is a process of its own: what they permit, what a kill's receipt says of them, and what
//! becomes of both when the relay dies and comes back.
//!
//! The edges run in this process, so their clock (CLOCK_BOOTTIME) is the one that the test reads.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command as Program, Stdio},
};

use haltline_core::{
    ids::KillId,
    lease::BootNanos,
    receipt::{EnforcedRule, FencedWhy, SignedReceipt},
};
use haltline_edge::{
    EdgeConfig, Enforcer,
    enforce::{BootClock, Clock as _, CoreOptions},
};
use haltline_pki::JoinToken;
use haltline_testkit::cluster::{Cluster, Person, wait_until};
use haltline_wire::v1::command_reply::Outcome;

use super::{
    BINARY,
    enforcement::{AGENT, DECISIONS_MAX, Deciding, permitted_at, receipt_at},
    founded, kill_fleet, register_agent,
};

const RELAY: &str = "relay-1";

/// A cluster, and a relay that ends with its test.
struct Rig {
    relay: Option<Child>,
    config: PathBuf,
    address: SocketAddr,
    admin: Person,
    cluster: Cluster,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kill_relay();
    }
}

impl Rig {
    async fn start(trusted_for_acks: bool) -> Self {
        let mut cluster = Cluster::create(Path::new(BINARY), 3).expect("directories");
        cluster.start_all().expect("the binary starts");
        let admin = founded(&cluster).await;
        admin.command(0, register_agent(AGENT)).await.expect("the agent is registered");
        let free = TcpListener::bind((cluster.nodes[0].edge.ip(), 0)).expect("a free port");
        let address = free.local_addr().expect("its address");
        drop(free);
        let config = cluster.path().join("relay.toml");
        let text = format!(
            "data_dir = \"relay/data\"\nidentity_dir = \"relay/identity\"\n[listen]\nedge = \"{address}\"\nhttp = \"\"\n"
        );
        fs::write(&config, text).expect("the configuration is written");
        let mut rig = Self { relay: None, config, address, admin, cluster };
        let token = rig.cluster.path().join("relay.join");
        let token = token.to_str().expect("a path of letters");
        let mut words = vec!["edge", "token", "create", RELAY, "--relay", "--path", "/", "--out", token];
        words.extend(trusted_for_acks.then_some("--trusted-for-acks"));
        rig.haltline(&words);
        let config = rig.config.to_str().expect("a path of letters").to_owned();
        rig.haltline(&["relay", "enrol", "--config", &config, "--token-file", token]);
        rig.start_relay();
        rig
    }

    fn haltline(&self, words: &[&str]) -> String {
        let mut program = Program::new(BINARY);
        program.env_clear().env("HALTLINE_IDENTITY", self.cluster.admin_directory()).args(words);
        let output = program.output().expect("the binary runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn start_relay(&mut self) {
        let path = self.cluster.path().join("relay.log");
        let log = File::options().create(true).append(true).open(path).expect("a log");
        let mut program = Program::new(BINARY);
        program.env_clear().args(["relay", "run", "--config"]).arg(&self.config);
        program.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        self.relay = Some(program.spawn().expect("the relay starts"));
    }

    fn kill_relay(&mut self) {
        if let Some(mut relay) = self.relay.take() {
            // Both fail only if the process is gone already.
            let _ = relay.kill();
            let _ = relay.wait();
        }
    }

    /// An edge below the relay alone, with an agent that decides in a loop.
    async fn edge(&self, name: &str) -> Deciding {
        let file = self.cluster.path().join(format!("{name}.join"));
        let directory = self.cluster.path().join(name);
        let path = file.to_str().expect("a path of letters");
        self.haltline(&["edge", "token", "create", name, "--path", "/", "--out", path]);
        let token = JoinToken::load(&file).expect("the token's file");
        haltline_edge::enrol(&token, &directory.join("identity")).await.expect("the edge is enrolled");
        let mut config = EdgeConfig::at(&directory.join("identity"), &directory.join("data"));
        config.relays = format!("{RELAY}={}", self.address).parse().expect("a relay");
        let options = |name| CoreOptions { decision_log: Some(DECISIONS_MAX), ..CoreOptions::named(name) };
        let enforcer = Enforcer::connect_with(config, options).await.expect("the edge starts");
        let token = self.haltline(&["agent", "token", AGENT]).trim().to_owned();
        let session = wait_until("the agent has a session", || async { enforcer.session(&token).ok() }).await;
        let deciding = Deciding::start(enforcer, session).await;
        assert_eq!(deciding.hub_relay().as_deref(), Some(RELAY), "fresh through the relay, not by a node");
        deciding
    }

    /// Waits until the relay has acknowledged what came after a kill or its own start, as it does past the boot wait.
    async fn relay_acknowledges(&self) {
        wait_until("the relay acknowledges", || async {
            let listed = self.haltline(&["edges", "-o", "json"]);
            let listed: serde_json::Value = serde_json::from_str(&listed).ok()?;
            let relay = listed["edges"].as_array()?.iter().find(|edge| edge["name"] == RELAY)?.clone();
            (relay["live"]["acked_index"].as_u64()? > 0).then_some(())
        })
        .await;
    }

    async fn kill(&self) -> (KillId, BootNanos) {
        let kill = wait_until("the kill is committed", || async {
            let reply = self.admin.command(0, kill_fleet("acme/load")).await.ok()?;
            match reply.outcome {
                Some(Outcome::Killed(killed)) => Some(KillId(killed.kill)),
                other => panic!("a kill was answered {other:?}"),
            }
        });
        (kill.await, BootClock.now())
    }

    async fn receipt(&self, kill: KillId) -> SignedReceipt {
        wait_until("the kill has a receipt", || receipt_at(&self.admin, 0, kill)).await
    }
}

/// Checks an edge's own log of what it permitted.
async fn check(deciding: Deciding, killed: BootNanos, enforced: BootNanos, receipt: &SignedReceipt) {
    deciding.decide_more(50).await;
    let permits: Vec<_> = deciding.finish().await.iter().filter_map(permitted_at).collect();
    let last = permits.into_iter().max().expect("something was permitted before the kill");
    let ends = killed.plus(receipt.receipt.bound.into());
    assert!(last < ends, "permitted {} ns past the bound", last.0 - ends.0);
    assert!(last < enforced, "permitted {} ns after the receipt", last.0 - enforced.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_relay_proves_a_kill_for_all_below_it() {
    let rig = Rig::start(true).await;
    let (one, other) = (rig.edge("gate-1").await, rig.edge("gate-2").await);
    rig.relay_acknowledges().await;
    let (kill, killed) = rig.kill().await;
    let receipt = rig.receipt(kill).await;
    let enforced = BootClock.now();
    assert_eq!(receipt.receipt.rule, EnforcedRule::Acked, "{receipt:?}");
    assert_eq!(receipt.receipt.enforcers_acked, 1, "the relay speaks for both");
    for deciding in [one, other] {
        assert!(!deciding.decide().is_permit());
        deciding.knows_of(kill).await;
        check(deciding, killed, enforced, &receipt).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_not_trusted_is_waited_out_by_name() {
    let rig = Rig::start(false).await;
    let (one, other) = (rig.edge("gate-1").await, rig.edge("gate-2").await);
    rig.relay_acknowledges().await;
    let (kill, killed) = rig.kill().await;
    let receipt = rig.receipt(kill).await;
    let enforced = BootClock.now();
    assert_eq!(receipt.receipt.rule, EnforcedRule::Fenced, "{receipt:?}");
    let fenced: Vec<_> =
        receipt.receipt.fenced.iter().map(|fenced| (fenced.name.as_str(), fenced.why)).collect();
    assert_eq!(fenced, [(RELAY, FencedWhy::Untrusted)]);
    for deciding in [one, other] {
        deciding.knows_of(kill).await;
        check(deciding, killed, enforced, &receipt).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_whose_relay_died_permit_nothing_past_the_bound() {
    let mut rig = Rig::start(true).await;
    let (one, other) = (rig.edge("gate-1").await, rig.edge("gate-2").await);
    rig.kill_relay();
    let (kill, killed) = rig.kill().await;
    let receipt = rig.receipt(kill).await;
    let enforced = BootClock.now();
    // Nobody spoke for those below; on a slow machine their leases may have ended before the kill was there.
    assert_eq!(receipt.receipt.enforcers_acked, 0, "{receipt:?}");
    assert!(receipt.receipt.fenced.iter().all(|fenced| fenced.name.as_str() == RELAY), "{receipt:?}");
    println!("{:?} after {}: {:?}", receipt.receipt.rule, receipt.receipt.took, receipt.receipt.members);
    assert!(!one.decide().is_permit() && !other.decide().is_permit());
    // The relay comes back, and with it the word of the kill.
    rig.start_relay();
    for deciding in [one, other] {
        deciding.knows_of(kill).await;
        check(deciding, killed, enforced, &receipt).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_came_back_speaks_for_nobody_before_its_boot_wait() {
    let mut rig = Rig::start(true).await;
    let deciding = rig.edge("gate-1").await;
    rig.relay_acknowledges().await;
    rig.kill_relay();
    let restarted = BootClock.now();
    rig.start_relay();
    let (kill, killed) = rig.kill().await;
    let receipt = rig.receipt(kill).await;
    let enforced = BootClock.now();
    let waited = enforced.since(restarted);
    let boot_wait = haltline_core::lease::fence_nanos(
        receipt.receipt.max_staleness,
        haltline_core::lease::Drift::default(),
    );
    assert!(
        receipt.receipt.rule == EnforcedRule::Fenced || waited >= boot_wait,
        "acknowledged {waited:?} after it came back: {receipt:?}"
    );
    deciding.knows_of(kill).await;
    check(deciding, killed, enforced, &receipt).await;
}
