//! A cluster is backed up, goes on, is lost with every disk, and comes back from the backup: what was stopped meanwhile stays
//! stopped, at nodes and edges, until two people say otherwise.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command as Program, Output},
};

use haltline_core::lease::BootNanos;
use haltline_edge::{
    Action, DenyReason, EdgeConfig, Enforcer, Verdict,
    enforce::{BootClock, Clock as _, CoreOptions, Session},
};
use haltline_pki::JoinToken;
use haltline_testkit::cluster::{Cluster, Person, wait_until};
use serde_json::Value;

use super::{
    BINARY, create_fleet,
    enforcement::{AGENT, DECISIONS_MAX, Deciding, permitted_at},
    kill_fleet, register_agent, running,
};

/// The first number that a restored cluster gives a kill.
const FREEZE: &str = "kill-1000000";

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

    fn place(&self, name: &str) -> PathBuf {
        self.cluster.path().join(name)
    }

    /// The command line as somebody with this identity types it.
    fn output_as(&self, identity: &Path, words: &[&str]) -> Output {
        let mut program = Program::new(BINARY);
        program.env_clear().env("HALTLINE_IDENTITY", identity).args(words);
        program.output().expect("the binary runs")
    }

    fn output(&self, words: &[&str]) -> Output {
        self.output_as(self.cluster.admin_directory(), words)
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

    /// A key, and a backup for it.
    fn back_up(&self) -> (PathBuf, PathBuf) {
        let (key, file) = (self.place("backup.key"), self.place("cluster.backup"));
        let made = self.json(&["backup", "keygen", "--out", text(&key)]);
        let recipient = made["recipient"].as_str().expect("a recipient");
        self.haltline(&["backup", "--out", text(&file), "--recipient", recipient]);
        (key, file)
    }

    /// The nodes are killed, and all that they had is gone, but for what is saved of their identities.
    fn lose_everything(&mut self, save: bool) -> Vec<PathBuf> {
        let mut saved = Vec::new();
        for position in 0..self.cluster.nodes.len() {
            self.cluster.kill(position).expect("it ran");
            let directory = self.cluster.nodes[position].directory.clone();
            if save {
                let to = self.place(&format!("saved-{position}"));
                fs::rename(directory.join("identity"), &to).expect("its identity");
                saved.push(to);
            }
            fs::remove_dir_all(&directory).expect("its directory");
        }
        saved
    }

    /// Restores, with further words, and starts the nodes that come of it where the old ones were.
    async fn restore(&mut self, key: &Path, file: &Path, words: &[String]) -> Value {
        let out = self.place("restored");
        let nodes = self.cluster.nodes.len();
        let host = self.cluster.nodes[0].api.ip().to_string();
        let mut all = vec!["restore", text(file), "--key", text(key), "--dir", text(&out), "--by", "ada"];
        (0..nodes).for_each(|_| all.extend(["--node", &host]));
        all.extend(words.iter().map(String::as_str));
        let made = self.json(&all);
        assert_eq!(made["freeze"], FREEZE);
        for (position, node) in self.cluster.nodes.iter_mut().enumerate() {
            node.directory = out.join(format!("node-{}", position + 1));
            // On the cluster's own address, or clusters of two tests would meet.
            node.environment.push(("HALTLINE_LISTEN_HTTP".into(), node.http.to_string()));
        }
        self.cluster.start_all().expect("the binary starts");
        self.cluster.wait_for_leader(&self.admin).await;
        made
    }

    async fn enrol(&self, name: &str) -> EdgeConfig {
        let file = self.place(&format!("{name}.join"));
        self.haltline(&["edge", "token", "create", name, "--path", "/", "--out", text(&file)]);
        let token = JoinToken::load(&file).expect("the token's file");
        let directory = self.place(name);
        haltline_edge::enrol(&token, &directory.join("identity")).await.expect("the edge is enrolled");
        EdgeConfig::at(&directory.join("identity"), &directory.join("data"))
    }

    fn token(&self) -> String {
        self.haltline(&["agent", "token", AGENT]).trim().to_owned()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of letters")
}

async fn start(config: &EdgeConfig) -> Enforcer {
    let options = |name| CoreOptions { decision_log: Some(DECISIONS_MAX), ..CoreOptions::named(name) };
    Enforcer::connect_with(config.clone(), options).await.expect("the edge starts")
}

async fn session(enforcer: &Enforcer, token: &str) -> Session {
    wait_until("the agent has a session", || async { enforcer.session(token).ok() }).await
}

fn decide(session: &Session) -> Verdict {
    session.decide(&Action::tool("ledger.post"))
}

/// Why it is denied; `None` where it is permitted.
fn denied(session: &Session) -> Option<DenyReason> {
    decide(session).denial().map(|denial| denial.reason.clone())
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_after_the_backup_is_in_force_after_the_restore_until_two_people_resume() {
    let mut rig = Rig::start().await;
    let bob = rig.place("bob");
    rig.haltline(&["operator", "add", "bob", "--role", "approver", "--identity-out", text(&bob)]);
    // Two people are enrolled, so bob has to agree to the edge.
    let file = rig.place("gate.join");
    rig.output(&["edge", "token", "create", "gate", "--path", "/", "--out", text(&file)]);
    let agreed = rig.output_as(&bob, &["approve", "approval-1", "--yes"]);
    assert!(agreed.status.success(), "{}", told(&agreed));
    let token = JoinToken::load(&file).expect("the token's file");
    let directory = rig.place("gate");
    haltline_edge::enrol(&token, &directory.join("identity")).await.expect("the edge is enrolled");
    let config = EdgeConfig::at(&directory.join("identity"), &directory.join("data"));
    let enforcer = start(&config).await;
    let old_token = rig.token();
    let old_session = session(&enforcer, &old_token).await;
    let deciding = Deciding::start(enforcer, old_session.clone()).await;

    let (key, backup) = rig.back_up();
    let verified = rig.json(&["backup", "verify", text(&backup), "--key", text(&key)]);
    assert_eq!(
        (verified["content"]["agents"].as_u64(), verified["content"]["kills"].as_u64()),
        (Some(1), Some(0))
    );
    rig.admin.command(0, kill_fleet("acme/load")).await.expect("the kill is committed");
    wait_until("the edge denies", || async { denied(&old_session) }).await;
    let killed_at = BootClock.now();

    let saved = rig.lose_everything(true);
    let keep = saved.iter().zip(1..).flat_map(|(path, id)| ["--keep".into(), format!("{id}={}", text(path))]);
    let made = rig.restore(&key, &backup, &keep.collect::<Vec<_>>()).await;
    assert_eq!((made["keys"].as_str(), made["incarnation"].as_u64()), (Some("kept"), Some(1)));

    // The nodes don't know the kill any more, and stop everything.
    let kills = rig.json(&["kills"]);
    let ids: Vec<_> = kills.as_array().expect("kills").iter().map(|kill| kill["id"].clone()).collect();
    assert_eq!(ids, [FREEZE], "{kills}");
    let refused = rig.output(&["agent", "token", AGENT]);
    assert!(told(&refused).contains("kill-1000000"), "{}", told(&refused));
    wait_until("the edge has come over to the new incarnation", || async {
        (deciding.enforcer().status().incarnation.0 == 1).then_some(())
    })
    .await;
    assert!(denied(&old_session).is_some());

    // One person isn't enough.
    let asked = rig.output(&["resume", FREEZE, "--reason", "looked at everything"]);
    assert_eq!(asked.status.code(), Some(4), "{}", told(&asked));
    let again = rig.output(&["approve", "approval-1000000", "--yes"]);
    assert!(!again.status.success(), "the same person again");
    assert_eq!(rig.json(&["kills"]).as_array().map(Vec::len), Some(1));
    assert!(denied(&old_session).is_some());

    let agreed = rig.output_as(&bob, &["approve", "approval-1000000", "--yes"]);
    assert!(agreed.status.success(), "{}", told(&agreed));
    let new_token = rig.token();
    let new_session = session(deciding.enforcer(), &new_token).await;
    wait_until("a new credential is good", || async { decide(&new_session).is_permit().then_some(()) }).await;
    let reason = denied(&old_session);
    assert!(matches!(reason, Some(DenyReason::OtherIncarnation { .. })), "{reason:?}");
    let refused = deciding.enforcer().session(&old_token).expect_err("no session for an old token");
    assert!(refused.to_string().contains("incarnation"), "{refused}");

    check_log(deciding, &old_session, killed_at).await;
}

/// With the credential of before nothing was permitted since the edge heard of the kill, nor will be.
async fn check_log(deciding: Deciding, old_session: &Session, killed_at: BootNanos) {
    let decisions = deciding.finish().await;
    let credential = old_session.claims().credential;
    let old: Vec<_> = decisions.iter().filter(|decided| decided.credential == credential).collect();
    let permits = old.iter().filter_map(|decided| permitted_at(decided)).filter(|at| *at > killed_at).count();
    assert_eq!(permits, 0, "of {}", old.len());
    println!("{} decisions with a credential of before the restore", old.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_new_keys_only_an_edge_permits_nothing_until_it_is_enrolled_anew() {
    let mut rig = Rig::start().await;
    let config = rig.enrol("gate").await;
    let enforcer = start(&config).await;
    let old = session(&enforcer, &rig.token()).await;
    wait_until("actions are permitted", || async { decide(&old).is_permit().then_some(()) }).await;
    let (key, backup) = rig.back_up();
    let root = rig.cluster.admin_directory().parent().expect("the cluster's directory").join("root");
    rig.lose_everything(false);
    let made = rig.restore(&key, &backup, &["--root".into(), text(&root).into()]).await;
    assert_eq!(made["keys"], "unproven");
    // One person is enrolled, who suffices.
    rig.haltline(&["resume", FREEZE, "--reason", "looked at everything"]);
    let token = rig.token();
    wait_until("the edge says why it doesn't follow", || async {
        enforcer.status().last_error.filter(|error| error.code == "BUNDLE_GAP")
    })
    .await;
    wait_until("its lease is over", || async { denied(&old) }).await;
    assert_eq!(enforcer.status().incarnation.0, 0);
    enforcer.shutdown().await;

    // Whom to believe comes to people by hand, and from them with the join token.
    fs::copy(rig.place("restored").join("trust.json"), rig.cluster.admin_directory().join("trust.json"))
        .expect("the new trust bundle");
    rig.haltline(&["edge", "remove", "gate"]);
    fs::remove_dir_all(rig.place("gate")).expect("its directory");
    fs::remove_file(rig.place("gate.join")).expect("its token");
    let enforcer = start(&rig.enrol("gate").await).await;
    let new = session(&enforcer, &token).await;
    wait_until("and permits again", || async { decide(&new).is_permit().then_some(()) }).await;
    enforcer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_goes_on_from_the_disk_of_its_last_node() {
    let mut rig = Rig::start().await;
    for number in 0..20 {
        rig.admin.command(0, create_fleet(&format!("acme/load/f{number}"))).await.expect("a fleet");
    }
    let statuses = rig.cluster.wait_until_equal(&rig.admin, 1).await;
    let key = rig.place("backup.key");
    let made = rig.json(&["backup", "keygen", "--out", text(&key)]);
    let recipient = made["recipient"].as_str().expect("a recipient").to_owned();
    let survivor = rig.cluster.nodes[0].directory.clone();
    let (config, file) = (survivor.join("node.toml"), rig.place("survivor.backup"));
    let words = ["backup", "--stopped-node", text(&config), "--out", text(&file), "--recipient", &recipient];
    let running = rig.output(&words);
    assert!(told(&running).contains("LOCK") || told(&running).contains("in use"), "{}", told(&running));
    for position in 0..3 {
        rig.cluster.kill(position).expect("it ran");
    }
    let taken = rig.output(&words);
    assert!(taken.status.success(), "{}", told(&taken));
    assert!(told(&taken).contains("its log ends at entry"), "{}", told(&taken));

    let keep = format!("1={}", text(&survivor.join("identity")));
    let host = rig.cluster.nodes[0].api.ip().to_string();
    let out = rig.place("restored");
    let mut words = vec![
        "restore",
        text(&file),
        "--key",
        text(&key),
        "--dir",
        text(&out),
        "--by",
        "ada",
        "--node",
        &host,
        "--keep",
        &keep,
    ];
    let refused = rig.output(&words);
    assert_eq!(refused.status.code(), Some(2));
    assert!(told(&refused).contains("--i-understand-what-may-be-lost"), "{}", told(&refused));
    words.push("--i-understand-what-may-be-lost");
    rig.haltline(&words);
    rig.cluster.nodes.truncate(1);
    rig.cluster.nodes[0].directory = out.join("node-1");
    let http = rig.cluster.nodes[0].http.to_string();
    rig.cluster.nodes[0].environment.push(("HALTLINE_LISTEN_HTTP".into(), http));
    rig.cluster.start(0).expect("the binary starts");
    rig.cluster.wait_for_leader(&rig.admin).await;
    let fleets = rig.json(&["fleet", "list"]);
    assert_eq!(fleets.as_array().map(Vec::len), Some(22), "{fleets}");
    let status = rig.admin.status(0).await.expect("it answers");
    assert!(status.applied_index > statuses[0].applied_index);
    assert_eq!(status.cluster.expect("it says which").incarnation, 1);
}
