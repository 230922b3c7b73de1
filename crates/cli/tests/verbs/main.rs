//! The built `haltline` against a real node: what a person types, sees, and gets as exit code.
//!
//! Transcripts are kept as snapshots. What differs from run to run (ids, times, places in the log, paths) stands in them
//! in brackets.
#![allow(clippy::unwrap_used, clippy::panic)]

mod lab;
mod transcript;

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
        "kill --tool payments.* --reason drill --mode drain --drain 10min --yes",
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
