//! Two edges below a relay, which is a process of its own: what they permit, what a kill's receipt says of them, and what
//! becomes of both when the relay dies and comes back.
//!
//! The edges run in this process, so their clock (CLOCK_BOOTTIME) is the one that the test reads.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command as Program, Stdio},
    sync::Arc,
};

use haltline_core::{
    ids::KillId,
    lease::BootNanos,
    receipt::{EnforcedRule, FencedWhy, MemberClear, SignedReceipt},
};
use haltline_edge::{
    EdgeConfig, Enforcer,
    enforce::{BootClock, Clock as _, CoreOptions},
};
use haltline_pki::{CertificateAlone, ClientTls, Dialer, EdgeIdentity, Endpoint, JoinToken};
use haltline_testkit::cluster::{Cluster, Person, wait_until};
use haltline_wire::{
    refusal::Refusal,
    v1::{self, command_reply::Outcome, edge_service_client::EdgeServiceClient},
};

use super::{
    BINARY,
    enforcement::{AGENT, DECISIONS_MAX, Deciding, permitted_at, receipt_at},
    founded, kill_fleet, register_agent,
};

const RELAY: &str = "relay-1";
const LOW: &str = "relay-2";

/// A relay, which is a process while it runs.
struct Relay {
    process: Option<Child>,
    config: PathBuf,
    address: SocketAddr,
}

impl Relay {
    fn start(&mut self, log: &Path) {
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let mut program = Program::new(BINARY);
        program.env_clear().args(["relay", "run", "--config"]).arg(&self.config);
        program.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        self.process = Some(program.spawn().expect("the relay starts"));
    }

    /// Stops it in its tracks: its connections stay, and nothing comes on them.
    fn suspend(&mut self) {
        let process = self.process.as_ref().expect("a running relay");
        let pid = rustix::process::Pid::from_child(process);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("the process is ours");
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Both fail only if the process is gone already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A cluster, and relays that end with their test.
struct Rig {
    relays: BTreeMap<&'static str, Relay>,
    admin: Person,
    cluster: Cluster,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.relays.values_mut().for_each(Relay::kill);
    }
}

impl Rig {
    /// A cluster with one relay.
    async fn start(trusted_for_acks: bool) -> Self {
        let mut cluster = Cluster::create(Path::new(BINARY), 3).expect("directories");
        cluster.start_all().expect("the binary starts");
        let admin = founded(&cluster).await;
        admin.command(0, register_agent(AGENT)).await.expect("the agent is registered");
        let mut rig = Self { relays: BTreeMap::new(), admin, cluster };
        rig.add_relay(RELAY, trusted_for_acks, None);
        rig
    }

    /// Starts a relay below the nodes, or below another relay alone.
    fn add_relay(&mut self, name: &'static str, trusted_for_acks: bool, above: Option<&str>) {
        let free = TcpListener::bind((self.cluster.nodes[0].edge.ip(), 0)).expect("a free port");
        let address = free.local_addr().expect("its address");
        drop(free);
        let above = above.map(|above| format!("{above}={}", self.relays[above].address));
        let config = self.cluster.path().join(format!("{name}.toml"));
        let text = format!(
            "data_dir = \"{name}/data\"\nidentity_dir = \"{name}/identity\"\n[hubs]\nrelays = \"{}\"\n\
             [listen]\nedge = \"{address}\"\nhttp = \"\"\n",
            above.unwrap_or_default(),
        );
        fs::write(&config, text).expect("the configuration is written");
        let token = self.cluster.path().join(format!("{name}.join"));
        let token = token.to_str().expect("a path of letters");
        let mut words = vec!["edge", "token", "create", name, "--relay", "--path", "/", "--out", token];
        words.extend(trusted_for_acks.then_some("--trusted-for-acks"));
        self.haltline(&words);
        let file = config.to_str().expect("a path of letters");
        self.haltline(&["relay", "enrol", "--config", file, "--token-file", token]);
        self.relays.insert(name, Relay { process: None, config, address });
        self.start_relay(name);
    }

    fn haltline(&self, words: &[&str]) -> String {
        let mut program = Program::new(BINARY);
        program.env_clear().env("HALTLINE_IDENTITY", self.cluster.admin_directory()).args(words);
        let output = program.output().expect("the binary runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn start_relay(&mut self, name: &str) {
        let log = self.cluster.path().join(format!("{name}.log"));
        self.relays.get_mut(name).expect("a relay of this test").start(&log);
    }

    fn kill_relay(&mut self) {
        self.relays.get_mut(RELAY).expect("a relay of this test").kill();
    }

    async fn edge(&self, name: &str) -> Deciding {
        self.edge_below(RELAY, name).await
    }

    /// An edge below the relay alone, with an agent that decides in a loop.
    async fn edge_below(&self, relay: &str, name: &str) -> Deciding {
        let deciding = self.edge_of(&[relay], name).await;
        assert_eq!(deciding.hub_relay().as_deref(), Some(relay), "fresh through the relay, not by a node");
        deciding
    }

    /// An edge that may turn to any of these relays.
    async fn edge_of(&self, relays: &[&str], name: &str) -> Deciding {
        let file = self.cluster.path().join(format!("{name}.join"));
        let directory = self.cluster.path().join(name);
        let path = file.to_str().expect("a path of letters");
        self.haltline(&["edge", "token", "create", name, "--path", "/", "--out", path]);
        let token = JoinToken::load(&file).expect("the token's file");
        haltline_edge::enrol(&token, &directory.join("identity")).await.expect("the edge is enrolled");
        let mut config = EdgeConfig::at(&directory.join("identity"), &directory.join("data"));
        let relays = relays.iter().map(|relay| format!("{relay}={}", self.relays[relay].address));
        config.relays = relays.collect::<Vec<_>>().join(", ").parse().expect("relays");
        let options = |name| CoreOptions { decision_log: Some(DECISIONS_MAX), ..CoreOptions::named(name) };
        let enforcer = Enforcer::connect_with(config, options).await.expect("the edge starts");
        let token = self.haltline(&["agent", "token", AGENT]).trim().to_owned();
        let session = wait_until("the agent has a session", || async { enforcer.session(&token).ok() }).await;
        Deciding::start(enforcer, session).await
    }

    /// Asks a relay for a renewed certificate of an edge, as that edge.
    async fn renewed_by(&self, relay: &str, edge: &str, of: &str) -> Result<EdgeIdentity, tonic::Status> {
        let identity = |name: &str| {
            let directory = self.cluster.path().join(name).join("identity");
            EdgeIdentity::load(&directory).expect("the edge is enrolled")
        };
        let (me, of) = (identity(edge), identity(of));
        let tls = ClientTls::new(me.tls(), me.bundle(), Arc::new(CertificateAlone)).expect("its certificate");
        let name = relay.parse().expect("a name");
        let endpoint = Endpoint::from(self.relays[relay].address).expecting_relay(name);
        let channel = Dialer::new(tls).connect(&endpoint).await.expect("the relay answers");
        let certificate_request = of.renewal_request().expect("its key signs");
        let request = v1::RenewCertificateRequest { certificate_request };
        let answer = EdgeServiceClient::new(channel).renew_certificate(request).await?.into_inner();
        Ok(of.renewed(&answer.certificate_chain).expect("a certificate for its key and name"))
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

/// The upper relay is named, unless its node's word of it came as late as the wait of the others was over.
fn waited_out_for_want_of_trust(receipt: &SignedReceipt) {
    let receipt = &receipt.receipt;
    assert_eq!(receipt.rule, EnforcedRule::Fenced, "{receipt:?}");
    let fenced: Vec<_> = receipt.fenced.iter().map(|fenced| (fenced.name.as_str(), fenced.why)).collect();
    let was_late = receipt.members.iter().any(|(_, clear)| *clear == MemberClear::WaitedOut);
    assert!(fenced == [(RELAY, FencedWhy::Untrusted)] || (was_late && fenced.is_empty()), "{receipt:?}");
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
    waited_out_for_want_of_trust(&receipt);
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
    rig.start_relay(RELAY);
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
    rig.start_relay(RELAY);
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

/// node <- relay-1 <- relay-2 <- edge. The kill's receipt, and how the edge took it.
async fn below_two_relays(trusted_for_acks: [bool; 2]) -> SignedReceipt {
    let mut rig = Rig::start(trusted_for_acks[0]).await;
    rig.add_relay(LOW, trusted_for_acks[1], Some(RELAY));
    let deciding = rig.edge_below(LOW, "gate-1").await;
    rig.relay_acknowledges().await;
    let (kill, killed) = rig.kill().await;
    let receipt = rig.receipt(kill).await;
    let enforced = BootClock.now();
    println!("{:?} after {}: {:?}", receipt.receipt.rule, receipt.receipt.took, receipt.receipt.fenced);
    deciding.knows_of(kill).await;
    check(deciding, killed, enforced, &receipt).await;
    receipt
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_is_proven_through_two_relays_that_are_trusted() {
    let receipt = below_two_relays([true, true]).await;
    assert_eq!(receipt.receipt.rule, EnforcedRule::Acked, "{receipt:?}");
    assert_eq!(receipt.receipt.enforcers_acked, 1, "the upper relay speaks for all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upper_relay_that_is_not_trusted_is_waited_out_whatever_the_lower_one_is() {
    waited_out_for_want_of_trust(&below_two_relays([false, true]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lower_relay_that_is_not_trusted_is_waited_out_by_the_upper_one() {
    // The upper relay may speak for it once its leases have ended, which is about when the node gives up waiting; either way
    // nothing was permitted after the receipt.
    let receipt = below_two_relays([true, false]).await;
    let about: Vec<_> = receipt.receipt.fenced.iter().map(|fenced| fenced.name.as_str()).collect();
    assert!(about.is_empty() || about == [RELAY], "{receipt:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_through_relays_for_its_own_key_alone() {
    let mut rig = Rig::start(false).await;
    rig.add_relay(LOW, false, Some(RELAY));
    let deciding = [rig.edge("gate-1").await, rig.edge_below(LOW, "gate-2").await];
    for (relay, edge) in [(RELAY, "gate-1"), (LOW, "gate-2"), (RELAY, LOW)] {
        let renewed = rig.renewed_by(relay, edge, edge).await.expect("a node renews it");
        assert_eq!(renewed.name().as_str(), edge);
    }
    // Whoever is no relay asks for itself; and what is for nobody who is registered no node signs.
    let refused = rig.renewed_by(RELAY, "gate-1", "gate-2").await.expect_err("the key is another's");
    assert_eq!(Refusal::from_status(&refused).reason, "CERTIFICATE_REQUEST");
    rig.haltline(&["edge", "remove", "gate-2"]);
    let refused =
        wait_until("the relay's node knows", || async { rig.renewed_by(RELAY, LOW, "gate-2").await.err() });
    assert_eq!(Refusal::from_status(&refused.await).reason, "CERTIFICATE_REQUEST");
    for deciding in deciding {
        deciding.finish().await;
    }
}

/// An edge of two relays, one of which is lost to it in some way.
async fn turns_to_the_other(lose: impl FnOnce(&mut Relay)) {
    let mut rig = Rig::start(false).await;
    rig.add_relay(LOW, false, None);
    let deciding = rig.edge_of(&[RELAY, LOW], "gate-1").await;
    let (lost_name, other) = match deciding.hub_relay().as_deref() {
        Some(RELAY) => (RELAY, LOW),
        _ => (LOW, RELAY),
    };
    let lost = BootClock.now();
    lose(rig.relays.get_mut(lost_name).expect("a relay of this test"));
    wait_until("the edge hangs on the other relay", || async {
        (deciding.hub_relay().as_deref() == Some(other)).then_some(())
    })
    .await;
    wait_until("actions are permitted there", || async { deciding.decide().is_permit().then_some(()) }).await;
    let turned = BootClock.now().since(lost).to_millis_up();
    let denied = deciding.finish().await.iter().filter(|decided| !decided.verdict.is_permit()).count();
    println!(
        "turned to the other relay within {turned}; {denied} decisions denied, waiting for the first lease included"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_turns_to_its_next_relay_when_one_dies() {
    turns_to_the_other(Relay::kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_turns_to_its_next_relay_when_one_hangs() {
    turns_to_the_other(Relay::suspend).await;
}
