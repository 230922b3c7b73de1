//! The keys that nodes sign with are replaced while everything goes on: edges keep permitting, kills land, receipts by old and
//! new keys hold, and an edge that was away proves its way. And who isn't let in: a made-up join token, a revoked key.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command as Program, Output},
};

use haltline_core::{
    ids::{KillId, NodeId},
    lease::{Drift, bound},
    limits::MAX_STALENESS_DEFAULT,
    receipt::SignedReceipt,
};
use haltline_edge::{
    EdgeConfig, Enforcer, EnrolError,
    enforce::{CoreOptions, Session},
};
use haltline_pki::{EdgeIdentity, JoinToken, StatementSigner};
use haltline_testkit::cluster::{Cluster, Person, wait_until};
use haltline_wire::v1::command_reply::Outcome;
use serde_json::Value;

use super::{
    BINARY, create_fleet,
    enforcement::{AGENT, DECISIONS_MAX, Deciding, permitted_at, receipt_at},
    kill_fleet, register_agent, running,
};

struct Rig {
    cluster: Cluster,
    admin: Person,
}

impl Rig {
    async fn start() -> Self {
        let (cluster, admin) = running(3).await;
        admin.command(0, register_agent(AGENT)).await.expect("the agent is registered");
        Self { cluster, admin }
    }

    fn output(&self, words: &[&str]) -> Output {
        let mut program = Program::new(BINARY);
        program.env_clear().env("HALTLINE_IDENTITY", self.cluster.admin_directory()).args(words);
        program.output().expect("the binary runs")
    }

    fn haltline(&self, words: &[&str]) -> String {
        let output = self.output(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["-o", "json"]).collect();
        serde_json::from_str(&self.haltline(&words)).expect("JSON")
    }

    fn place(&self, name: &str) -> PathBuf {
        self.cluster.path().join(name)
    }

    /// Lets an edge in; what it would be started with.
    async fn enrol(&self, name: &str) -> EdgeConfig {
        let file = self.place(&format!("{name}.join"));
        self.haltline(&["edge", "token", "create", name, "--path", "/", "--out", text(&file)]);
        let token = JoinToken::load(&file).expect("the token's file");
        let directory = self.place(name);
        haltline_edge::enrol(&token, &directory.join("identity")).await.expect("the edge is enrolled");
        EdgeConfig::at(&directory.join("identity"), &directory.join("data"))
    }

    async fn session(&self, enforcer: &Enforcer) -> Session {
        let token = self.haltline(&["agent", "token", AGENT]).trim().to_owned();
        wait_until("the agent has a session", || async { enforcer.session(&token).ok() }).await
    }

    /// Replaces the keys of these nodes, and waits until each of them signs with its new one.
    async fn replace_keys(&self, nodes: &[usize]) {
        let version = self.json(&["trust", "show"])["version"].as_u64().expect("a version");
        let mut words: Vec<String> = ["trust", "propose"].map(String::from).into();
        for node in nodes {
            let config = self.cluster.nodes[*node].directory.join("node.toml");
            self.haltline(&["node", "key", "next", "--config", text(&config)]);
            words.extend(["--replace".into(), self.cluster.nodes[*node].id.to_string()]);
        }
        self.haltline(&words.iter().map(String::as_str).collect::<Vec<_>>());
        wait_until("every node has its new key", || async {
            let shown = self.json(&["trust", "show"]);
            let keys = shown["keys"].as_array()?;
            let all_adopted = keys.len() == 3 && keys.iter().all(|key| key["prepared"].is_null());
            (shown["version"] == version + 1 && shown["proven"] == true && all_adopted).then_some(())
        })
        .await;
    }

    async fn kill(&self, path: &str) -> SignedReceipt {
        let reply = self.admin.command(0, kill_fleet(path)).await.expect("the kill is committed");
        let Some(Outcome::Killed(killed)) = reply.outcome else { panic!("{reply:?}") };
        let kill = KillId(killed.kill);
        wait_until("the kill has a receipt", || async { receipt_at(&self.admin, 0, kill).await }).await
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of letters")
}

async fn start(config: &EdgeConfig) -> Enforcer {
    let options = |name| CoreOptions { decision_log: Some(DECISIONS_MAX), ..CoreOptions::named(name) };
    Enforcer::connect_with(config.clone(), options).await.expect("the edge starts")
}

/// The node's key, as its directory has it.
fn key_on_disk(cluster: &Cluster, node: usize) -> String {
    let identity = fs::canonicalize(cluster.nodes[node].directory.join("identity")).expect("its identity");
    StatementSigner::load(&identity.join("signing.key")).expect("its key").public_key().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_replaced_while_an_edge_permits_and_kills_land() {
    let rig = Rig::start().await;
    rig.admin.command(0, create_fleet("acme/idle")).await.expect("a fleet");
    let enforcer = start(&rig.enrol("gate").await).await;
    let session = rig.session(&enforcer).await;
    let signed_by = session.claims().node;
    let deciding = Deciding::start(enforcer, session).await;
    let before = rig.kill("acme/idle").await;
    let before_file = rig.place("before.json");
    rig.haltline(&["receipt", "show", "kill-1", "--out", text(&before_file)]);

    // Those who sign now: the agent's token, and receipts.
    let leader = rig.cluster.wait_for_leader(&rig.admin).await;
    let position = |id: NodeId| rig.cluster.nodes.iter().position(|node| node.id == id).expect("a node");
    let mut replaced = vec![leader, position(signed_by), position(before.receipt.signer)];
    replaced.sort_unstable();
    replaced.dedup();
    let old: Vec<String> = replaced.iter().map(|node| key_on_disk(&rig.cluster, *node)).collect();
    rig.replace_keys(&replaced).await;
    for (node, old) in replaced.iter().zip(&old) {
        assert_ne!(&key_on_disk(&rig.cluster, *node), old, "the new key is in the old one's place");
    }
    deciding.decide_more(2_000).await;
    assert!(deciding.decide().is_permit(), "a token of an old key is good until it ends");

    let after = rig.kill("acme/load").await;
    let new_key = key_on_disk(&rig.cluster, position(after.receipt.signer)).parse().expect("a key");
    after.verify(|_| Some(new_key)).expect("the key in force signs");
    let after_file = rig.place("after.json");
    rig.haltline(&["receipt", "show", "kill-2", "--out", text(&after_file)]);
    check_offline(&rig, &before_file, &after_file);

    deciding.knows_of(KillId(2)).await;
    let decisions = deciding.finish().await;
    let permits: Vec<_> = decisions.iter().filter_map(permitted_at).collect();
    let lease = bound(MAX_STALENESS_DEFAULT, Drift::default());
    let gap = permits.windows(2).map(|pair| pair[1].since(pair[0])).max().expect("permits");
    assert!(gap.to_millis_up() <= lease, "nothing was permitted for {gap:?}");
    println!("{} permits, the largest gap {gap:?}", permits.len());
}

/// What somebody finds who has the files, an identity of before the change, and no node.
fn check_offline(rig: &Rig, before: &Path, after: &Path) {
    let refused = rig.output(&["receipt", "verify", text(after)]);
    assert_eq!(refused.status.code(), Some(6), "the old bundle doesn't know the new key");
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("--changes"), "{told}");
    let changes = rig.place("keys.json");
    rig.haltline(&["trust", "export", text(&changes)]);
    for receipt in [before, after] {
        rig.haltline(&["receipt", "verify", text(receipt), "--changes", text(&changes)]);
    }
    // Somebody who makes up changes of their own finds nobody to endorse them.
    let mut forged: Value =
        serde_json::from_str(&fs::read_to_string(&changes).expect("a file")).expect("JSON");
    forged["changes"][0]["keys"]["1"] = "11".repeat(32).into();
    let forged_file = rig.place("forged.json");
    fs::write(&forged_file, forged.to_string()).expect("a file");
    let refused = rig.output(&["receipt", "verify", text(after), "--changes", text(&forged_file)]);
    assert_eq!(refused.status.code(), Some(6));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("a majority of 2 is needed"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_was_away_while_every_key_was_replaced_twice_proves_its_way() {
    let mut rig = Rig::start().await;
    // One will be led on by the events, one by a snapshot.
    let (by_events, by_snapshot) = (rig.enrol("by-events").await, rig.enrol("by-snapshot").await);
    for config in [&by_events, &by_snapshot] {
        let enforcer = start(config).await;
        enforcer.ready().await;
        enforcer.shutdown().await;
    }
    fs::remove_file(rig.place("by-snapshot").join("data/snapshot")).expect("a snapshot was kept");
    rig.replace_keys(&[0, 1, 2]).await;
    // A node comes back with its new key.
    rig.cluster.stop(1).expect("it ran");
    rig.cluster.start(1).expect("the binary starts");
    rig.cluster.wait_for_leader(&rig.admin).await;
    rig.replace_keys(&[0, 1, 2]).await;

    let newcomer = rig.enrol("newcomer").await;
    for config in [by_events, by_snapshot, newcomer] {
        let enforcer = start(&config).await;
        enforcer.ready().await;
        assert_eq!(enforcer.status().bundle_version.0, 3, "{:?}", enforcer.status());
        let session = rig.session(&enforcer).await;
        Deciding::start(enforcer, session).await.finish().await;
        // What was proven is kept: the next start needs none of it again.
        let enforcer = start(&config).await;
        enforcer.ready().await;
        enforcer.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_made_up_join_token_costs_no_entry_of_the_log() {
    let rig = Rig::start().await;
    let file = rig.place("gate.join");
    rig.haltline(&["edge", "token", "create", "gate", "--path", "/", "--out", text(&file)]);
    let good = JoinToken::load(&file).expect("the token's file");
    let made_up = JoinToken::generate(rig.admin.identity().bundle(), good.endpoints()).expect("a token");
    let before = rig.admin.status(0).await.expect("a status").last_log_index;
    for attempt in 0..3 {
        let refused = haltline_edge::enrol(&made_up, &rig.place(&format!("stranger-{attempt}"))).await;
        let Err(EnrolError::Refused(refusal)) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal.reason, "JOIN_TOKEN_REFUSED");
    }
    assert_eq!(rig.admin.status(0).await.expect("a status").last_log_index, before);
    haltline_edge::enrol(&good, &rig.place("gate")).await.expect("the true one holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_whose_key_is_revoked_is_out_and_stays_out() {
    let rig = Rig::start().await;
    let config = rig.enrol("gate").await;
    let enforcer = start(&config).await;
    let session = rig.session(&enforcer).await;
    let deciding = Deciding::start(enforcer, session).await;
    let key = EdgeIdentity::load(&config.identity_dir).expect("an identity").tls().leaf().key_hash;
    rig.haltline(&["revoke", "key", &key.to_string(), "--reason", "stolen"]);
    wait_until("no node has a stream of it", || async {
        let edges = rig.json(&["edges"]);
        let edge = edges["edges"].as_array()?.iter().find(|edge| edge["name"] == "gate")?.clone();
        (edge["state"] == "away").then_some(())
    })
    .await;
    wait_until("it permits nothing", || async { (!deciding.decide().is_permit()).then_some(()) }).await;
    let receipt = rig.kill("acme/load").await;
    assert_eq!(receipt.receipt.enforcers_acked, 0, "{receipt:?}");
    deciding.finish().await;
}
