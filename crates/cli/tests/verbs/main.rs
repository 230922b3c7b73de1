//! The built `haltline` against a real node: what a person types, sees, and gets as exit code.
//!
//! Transcripts are kept as snapshots. What differs from run to run (ids, times, places in the log, paths) stands in them
//! in brackets.
#![allow(clippy::unwrap_used, clippy::panic)]

mod backup;
mod ground;
mod lab;
mod transcript;
mod trouble;

use std::process::Command;

use lab::Lab;
use transcript::Transcript;

const BINARY: &str = env!("CARGO_BIN_EXE_haltline");

#[test]
fn a_day_with_one_person() {
    let lab = Lab::start();
    let mut day = Transcript::new(&lab);
    for line in [
        "status",
        "fleet list",
        "fleet create acme --owner Ada --contact #agents",
        "fleet create acme/finance --label env=prod",
        "fleet create acme/finance/invoice --purpose invoices --tool payments.*",
        "agent register acme/finance/invoice/reconciler --label tier=1",
        "fleet list",
        "fleet show acme/finance/invoice",
        "fleet update acme/finance --owner Grace --label region=eu",
        "fleet update acme/finance --owner Grace",
        "agent show acme/finance/invoice/reconciler",
        "agent list --label env=prod -o yaml",
        "kill fleet acme/finance/invoice --dry-run",
        "kill fleet acme/finance/invoice --reason runaway",
        "kills",
        "kills show kill-1",
        "agent list",
        "kill everything --reason drill",
        "kill everything --reason drill --expires 2h --yes -o json",
        "kill --tool payments.* --reason drill --mode drain --drain 10min --yes --wait committed",
        "kills",
        "resume kill-1 --reason fixed",
        "kills --all -o json",
        "revoke grant 00112233-4455-6677-8899-aabbccddeeff --reason leaked",
        "revocations",
        "agent update acme/finance/invoice/reconciler --label tier=2",
        "agent delete acme/finance/invoice/reconciler",
        "fleet delete acme/finance/invoice",
        "events --from 1",
        "operator list",
    ] {
        day.run(line);
    }
    insta::assert_snapshot!(day.text());
}

#[test]
fn two_people() {
    let lab = Lab::start();
    let mut day = Transcript::new(&lab);
    for line in [
        "fleet create acme",
        "operator add grace --role approver --identity-out [dir]/grace",
        "operator add grace --role approver --identity-out [dir]/again",
        "status -o json",
        "kill fleet acme --reason drill",
        "resume kill-1 --reason over",
        "approvals",
        "approve approval-1",
        "approve approval-1 --yes",
        "--identity [dir]/grace approve approval-1",
        "--identity [dir]/grace approve approval-1 --yes",
        "kills",
        "--identity [dir]/lin operator request lin",
        "--identity [dir]/lin status",
        "operator add --request [dir]/lin/request.json --role responder@acme --out [dir]/lin.json",
        "--identity [dir]/grace approve approval-2 --yes",
        "operator certify --request [dir]/lin/request.json --out [dir]/lin.json",
        "--identity [dir]/lin operator accept [dir]/lin.json",
        "--identity [dir]/lin kill everything --reason drill --yes",
        "--identity [dir]/lin kill fleet acme --reason drill --yes",
        "--identity [dir]/lin resume kill-2 --reason over",
        "resume kill-2 --reason over",
        "withdraw approval-3",
        "approvals",
        "operator remove lin",
        "--identity [dir]/lin kills",
        "operator list -o yaml",
    ] {
        day.run(line);
    }
    insta::assert_snapshot!(day.text());
}

#[test]
fn letting_edges_in_and_agents_run() {
    let lab = Lab::start();
    let mut day = Transcript::new(&lab);
    for line in [
        "fleet create acme",
        "fleet create acme/finance --tool ledger.*",
        "agent register acme/finance/reconciler",
        "fleet create acme/hr",
        "agent register acme/hr/screener",
        "edges",
        "edge token create eu-gate --path acme/finance --out [dir]/eu-gate.join",
        "edge token create eu-gate --path acme/finance --out [dir]/eu-gate.join",
        "edge token create eu-relay --relay --trusted-for-acks --path / --ttl 10min --out [dir]/relay.join -o json",
        "edge token create eu-gate --path /",
        "edge token create eu-gate --path / --trusted-for-acks",
        "edge token create eu-gate --path / --ttl 2h",
        "edge token list",
        "edge token delete 00112233445566778899aabbccddeeff",
        "edge update eu-gate --fails-open true",
        "edge update eu-gate",
        "edge remove eu-gate",
        "edges -o json",
        "agent token acme/finance/reconciler --task October --tool ledger.read --ttl 1min",
        "agent token acme/finance/reconciler --ttl 1min -o json",
        "agent token acme/finance/reconciler --ttl 2d",
        "agent token acme/finance/reconsiler",
        "fleet update acme/finance --max-staleness 5min",
        "fleet update acme/finance --max-staleness 500ms",
        "fleet show acme/finance",
        "receipt show kill-1",
        "kill agent acme/hr/screener --reason drill --yes",
        "agent token acme/hr/screener",
        "receipt show kill-1 --out [dir]/kill-1.json",
        "receipt show kill-1 --out [dir]/kill-1.json",
        "receipt verify [dir]/kill-1.json",
        "receipt verify [dir]/kill-1.json --trust-bundle [dir]/none.json",
        "receipt verify [dir]/eu-gate.join",
        "receipt verify [dir]/none.json",
    ] {
        day.run(line);
    }
    // A word of the receipt is changed, and its file says so.
    let file = lab.directory().join("kill-1.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"reason\": \"drill\"", "\"reason\": \"incident\"")).unwrap();
    day.run("receipt verify [dir]/kill-1.json");
    day.run("receipt verify [dir]/kill-1.json -o json");
    insta::assert_snapshot!(day.text());
}

#[test]
fn replacing_a_nodes_key() {
    let lab = Lab::start();
    let mut day = Transcript::new(&lab);
    for line in [
        "trust show",
        "trust propose",
        "trust propose --replace one",
        "trust propose --replace 1",
        "trust propose --replace 7 --unasked",
        "trust propose --replace 1=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "trust propose --replace 7=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff --unasked",
        "node key show --config [dir]/node-1/node.toml",
        "node key next --config [dir]/node-1/node.toml",
        "node key next --config [dir]/node-1/node.toml -o json",
        "trust show",
        "trust propose --replace 1",
    ] {
        day.run(line);
    }
    lab.wait_for("the new key in force", || {
        let shown = lab.haltline().args(["trust", "show", "-o", "json"]).output().unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        shown["version"] == 2 && shown["keys"][0]["prepared"].is_null()
    });
    for line in [
        "trust show",
        "trust show -o json",
        "trust export [dir]/keys.json",
        "trust export [dir]/keys.json",
        "fleet create acme",
        "kill fleet acme --reason drill --yes",
        "receipt show kill-1 --out [dir]/kill-1.json",
        "receipt verify [dir]/kill-1.json",
        "receipt verify [dir]/kill-1.json --changes [dir]/none.json",
        "receipt verify [dir]/kill-1.json --changes [dir]/kill-1.json",
        "receipt verify [dir]/kill-1.json --changes [dir]/keys.json",
    ] {
        day.run(line);
    }
    insta::assert_snapshot!(day.text());
}

#[test]
fn a_join_token_goes_to_standard_output_only_when_asked() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::start();
    let create = ["edge", "token", "create", "eu-gate", "--path", "/", "--out"];
    let file = lab.directory().join("eu-gate.join");
    let quiet = lab.haltline().args(create).arg(&file).output().unwrap();
    assert!(quiet.status.success());
    let token = std::fs::read_to_string(&file).unwrap();
    assert!(token.starts_with("hlj1."), "{token}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for text in [&quiet.stdout, &quiet.stderr] {
        assert!(!String::from_utf8_lossy(text).contains(token.trim()), "the secret is in its file alone");
    }
    let asked = lab.haltline().args(create).arg("-").output().unwrap();
    assert!(asked.status.success());
    let printed = String::from_utf8(asked.stdout).unwrap();
    assert!(printed.starts_with("hlj1.") && printed.lines().count() == 1, "{printed}");
    assert!(!String::from_utf8_lossy(&asked.stderr).contains("hlj1."));

    // What is refused leaves no file behind.
    let refused = lab.directory().join("refused.join");
    let nobody = lab
        .haltline()
        .args(["edge", "token", "create", "x", "--path", "nowhere/at/all", "--out"])
        .arg(&refused)
        .output()
        .unwrap();
    assert_eq!(nobody.status.success(), refused.exists(), "{}", String::from_utf8_lossy(&nobody.stderr));
}

#[test]
fn an_access_token_is_all_that_goes_to_standard_output() {
    let lab = Lab::start();
    for line in [["fleet", "create", "acme"], ["agent", "register", "acme/bot"]] {
        assert!(lab.haltline().args(line).status().unwrap().success());
    }
    let issued = lab.haltline().args(["agent", "token", "acme/bot"]).output().unwrap();
    assert!(issued.status.success());
    let token = String::from_utf8(issued.stdout).unwrap();
    assert_eq!((token.lines().count(), token.trim().split('.').count()), (1, 3), "{token}");
    let told = String::from_utf8_lossy(&issued.stderr);
    assert!(told.contains("haltline revoke credential") && !told.contains(token.trim()), "{told}");
}

#[test]
fn what_people_get_wrong() {
    let lab = Lab::start();
    let mut day = Transcript::new(&lab);
    let reason = format!("kill fleet acme --yes --reason {}", "x".repeat(1_025));
    let lines = [
        "fleet create acme",
        "fleet create acme/finance",
        "fleet create acme",
        "fleet create Acme",
        "fleet create acme//x",
        "fleet create nowhere/x",
        "fleet show acme/finanse",
        "fleet show acme/finanse -o json",
        "fleet create acme/hr --max-staleness 10min",
        "fleet delete acme",
        "agent register acme",
        "agent show acme/finance/nobody",
        "kill",
        "kill fleet",
        "kill fleet acme",
        "kill acme/finance --reason x",
        "kill everything acme --reason x",
        "kill agent acme/finance/nobody --reason x --yes",
        "kill --label env=nowhere --reason x --yes",
        "kill fleet acme --agent x",
        "kill fleet acme --reason x --mode drain",
        "kill fleet acme --reason x --drain 10min",
        "kill fleet acme --reason x --expires 10",
        reason.as_str(),
        "resume kill-9 --reason x",
        "resume nine --reason x",
        "approve 7 --yes",
        "withdraw 7",
        "revoke key abc --reason x",
        "operator add bob --role admn --identity-out [dir]/bob",
        "operator add bob --role viewer --identity-out [dir]/bob",
        "operator remove nobody",
        "operator remove ada",
        "operator certify --request [dir]/none.json",
        "--identity [dir]/none status",
        "--timeout 500ms --endpoint 127.0.0.1:1 status",
        "--approval-window 25h fleet create acme/sales",
        "node --config [dir]/none.toml",
        "kils",
        "kills -o xml",
    ];
    for line in lines {
        day.run(line);
    }
    insta::assert_snapshot!(day.text());
}

#[test]
fn help_and_completions_are_answers() {
    let lab_free = |arguments: &[&str]| Command::new(BINARY).args(arguments).output().unwrap();
    let help = lab_free(&["--help"]);
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    for part in ["Exit codes:", "demo", "waiting for a second person", "--identity"] {
        assert!(help.contains(part), "{part} is missing in:\n{help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = lab_free(&["completions", shell]);
        assert!(script.status.success() && String::from_utf8_lossy(&script.stdout).contains("haltline"));
    }
    let nothing = lab_free(&[]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("Usage:"));
}

#[test]
fn the_demo_holds_every_claim_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let demo = Command::new(BINARY)
        .args(["demo", "--agents", "300", "-o", "json"])
        .env("TMPDIR", home.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&demo.stderr);
    assert_eq!(demo.status.code(), Some(0), "{told}");
    let report: serde_json::Value = serde_json::from_slice(&demo.stdout).unwrap();
    assert_eq!(report["held"], true, "{told}");
    assert!(report["claims"].as_array().unwrap().len() >= 12, "{told}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "the demo's directory is gone");
}
