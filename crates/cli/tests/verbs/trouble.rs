//! What a person sees whose configuration, files or machine are wrong: each says what, where, and what would be right.

use std::{fs, net::TcpListener, os::unix::net::UnixDatagram, time::Duration};

use haltline_core::ids::NodeId;
use haltline_pki::{NodeIdentity, UnixSeconds, Validity};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    ground::{Ground, chmod},
    transcript::steady,
};

const NODE: &str = "cluster/node-1/node.toml";
const RUN: &str = "node --config [dir]/cluster/node-1/node.toml";
const CHECK: &str = "node check-config --config [dir]/cluster/node-1/node.toml";

#[test]
fn a_configuration_that_cant_be_understood() {
    let mut ground = Ground::of(1);
    let good = fs::read_to_string(ground.path(NODE)).unwrap();
    let directory = "cluster/node-1";
    for (name, text) in [
        ("unknown-key.toml", good.replace("api = ", "appi = ")),
        ("no-unit.toml", good.replace("\"5s\"", "5")),
        ("bad-size.toml", good.replace("\"256 MiB\"", "\"256 MB\"")),
        ("not-toml.toml", good.replace("[limits]", "[limits")),
        ("no-data-dir.toml", good.replace("data_dir = \"data\"", "")),
        (
            "open-http.toml",
            good.replace("http = \"127.0.0.1", "http = \"0.0.0.0").replace("= true", "= false"),
        ),
        ("bad-filter.toml", good.replace("info,openraft=error", "info,=loud")),
        ("bad-route.toml", good.replace("routes = \"\"", "routes = \"2:7401\"")),
    ] {
        ground.write(&format!("{directory}/{name}"), &text);
        ground.run(&format!("node --config [dir]/{directory}/{name}"), &[]);
    }
    for line in [
        "node --config [dir]/none.toml",
        "node --config [dir]/cluster",
        "node check-config --config [dir]/none.toml",
        "node check-config --config [dir]/cluster/node-1/unknown-key.toml -o json",
        "node --config [dir]/a.toml --config [dir]/b.toml",
        "node check-confg",
        "node",
    ] {
        ground.run(line, &[]);
    }
    ground.run(RUN, &[("HALTLINE_LIMITS_WATCHERS", "many")]);
    ground.run(RUN, &[("HALTLINE_LISTEN_APPI", "127.0.0.1:1")]);
    ground.run(RUN, &[("HALTLINE_TIMING_PROFILE", "moon")]);
    let http = good.lines().find_map(|line| line.strip_prefix("http = \"127.0.0.1:")).unwrap();
    insta::assert_snapshot!(ground.text().replace(http.trim_end_matches('"'), "[port]"));
}

#[test]
fn files_that_dont_fit() {
    let mut ground = Ground::of(2);
    let node = |name: &str| format!("cluster/node-1/{name}");
    ground.say("all is well");
    ground.run(CHECK, &[]);

    ground.say("anybody may read a key");
    chmod(&ground.path(&node("identity/tls.key")), 0o644);
    ground.run(CHECK, &[]);
    ground.run(RUN, &[]);
    chmod(&ground.path(&node("identity/tls.key")), 0o600);

    ground.say("a key is gone");
    let key = fs::read(ground.path(&node("identity/signing.key"))).unwrap();
    fs::remove_file(ground.path(&node("identity/signing.key"))).unwrap();
    ground.run(CHECK, &[]);
    ground.run(RUN, &[]);
    fs::write(ground.path(&node("identity/signing.key")), key).unwrap();
    chmod(&ground.path(&node("identity/signing.key")), 0o600);

    ground.say("a certificate is cut short");
    let certificate = fs::read_to_string(ground.path(&node("identity/tls.crt"))).unwrap();
    ground.write(&node("identity/tls.crt"), &certificate[..200]);
    ground.run(RUN, &[]);
    ground.write(&node("identity/tls.crt"), &certificate);

    ground.say("the certificate has ended");
    let identity = NodeIdentity::load(&ground.path(&node("identity"))).unwrap();
    let past = Validity { not_before: UnixSeconds(1_600_000_000), not_after: UnixSeconds(1_607_776_000) };
    identity.renewed(past).unwrap().save_certificate(&ground.path(&node("identity"))).unwrap();
    ground.run(CHECK, &[]);
    ground.write(&node("identity/tls.crt"), &certificate);

    ground.say("the founding is another cluster's, then none at all");
    ground.init("other", 2);
    ground.run(
        CHECK,
        &[("HALTLINE_FOUNDING_FILE", &ground.path("other/node-1/founding.json").display().to_string())],
    );
    ground.run(RUN, &[("HALTLINE_FOUNDING_FILE", "other/node-1/founding.json")]);
    ground.run(RUN, &[("HALTLINE_FOUNDING_FILE", "cluster/node-1/node.toml")]);

    ground.say("others may change the configuration");
    chmod(&ground.path(NODE), 0o666);
    ground.run(CHECK, &[]);
    insta::assert_snapshot!(ground.text());
}

#[test]
fn a_machine_that_wont_have_it() {
    let mut ground = Ground::of(2);
    let cluster = NodeIdentity::load(&ground.path("cluster/node-1/identity")).unwrap();
    assert_eq!(cluster.id(), NodeId(1));
    let cluster = cluster.bundle().cluster().to_string();
    let identity = |format: u32, cluster: &str, node: u64| {
        format!("{{\"format\":{format},\"cluster\":\"{cluster}\",\"node\":{node},\"created_unix_ms\":1}}")
    };
    ground.write("theirs/IDENTITY", &identity(1, &cluster, 2));
    ground.write("foreign/IDENTITY", &identity(1, "00112233445566778899aabbccddee00", 1));
    ground.write("newer/IDENTITY", &identity(99, &cluster, 1));
    ground.write("headless/log/0000000000000001.log", "");
    ground.write("a-file", "");
    for directory in ["theirs", "foreign", "newer", "headless"] {
        chmod(&ground.path(directory), 0o700);
    }
    for directory in ["theirs", "foreign", "newer", "headless", "a-file", "a-file/below"] {
        ground.run(RUN, &[("HALTLINE_DATA_DIR", directory)]);
        ground.run_filtered(CHECK, &[("HALTLINE_DATA_DIR", directory)], |text| {
            about(text, &["data-directory"])
        });
    }
    // What isn't permitted to root either.
    ground.run(RUN, &[("HALTLINE_DATA_DIR", "/sys/haltline")]);

    ground.say("somebody else has a port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let own_name = fs::read_to_string("/proc/self/comm").unwrap();
    let port = |text: &str| about(&steady(text), &["port"]).replace(own_name.trim(), "another");
    ground.run(RUN, &[("HALTLINE_LISTEN_API", &address)]);
    ground.run_filtered(CHECK, &[("HALTLINE_LISTEN_API", &address)], port);
    ground.run_filtered(CHECK, &[("HALTLINE_LISTEN_API", "192.0.2.1:7400")], port);
    ground.run_filtered(
        CHECK,
        &[("HALTLINE_LISTEN_RAFT", "127.0.0.1:1"), ("HALTLINE_LISTEN_EDGE", "127.0.0.1:1")],
        port,
    );

    ground.say("the node runs already");
    ground.start(1, "ports are open");
    let elsewhere: Vec<(&str, &str)> = ["API", "RAFT", "HTTP", "EDGE", "PUBLIC"]
        .map(|port| match port {
            "API" => ("HALTLINE_LISTEN_API", "127.0.0.1:0"),
            "RAFT" => ("HALTLINE_LISTEN_RAFT", "127.0.0.1:0"),
            "HTTP" => ("HALTLINE_LISTEN_HTTP", "127.0.0.1:0"),
            "EDGE" => ("HALTLINE_LISTEN_EDGE", "127.0.0.1:0"),
            _ => ("HALTLINE_LISTEN_PUBLIC", "127.0.0.1:0"),
        })
        .into();
    ground.run(RUN, &elsewhere);
    ground.run_filtered(CHECK, &[], |text| about(&steady(text), &["port", "data-directory"]));
    let text = ground.text().replace(&cluster, "[id]").replace(&address, "[address]");
    // As root the system says the one, as anybody else the other.
    let text = text.replace("Operation not permitted (os error 1)", "[not permitted]");
    insta::assert_snapshot!(text.replace("Permission denied (os error 13)", "[not permitted]"));
}

#[test]
fn reloading_takes_in_what_can_be_and_names_the_rest() {
    let mut ground = Ground::of(1);
    let node = ground.start(1, "ready");
    let pid = Pid::from_raw(i32::try_from(ground.pid(node)).unwrap()).unwrap();
    let hang_up = || kill_process(pid, Signal::HUP).unwrap();
    let good = fs::read_to_string(ground.path(NODE)).unwrap();

    ground.say("a file that isn't TOML any more");
    ground.write(NODE, &good.replace("[limits]", "[limits"));
    hang_up();
    ground.tell_log(1, "not reloaded");

    ground.say("a filter that is none");
    ground.write(NODE, &good.replace("info,openraft=error", "info,=loud"));
    hang_up();
    ground.tell_log(1, "log.filter");

    ground.say("a key that reloads, and one that takes a restart");
    ground.write(NODE, &good.replace("watchers = 256", "watchers = 7").replace("\"lan\"", "\"wan\""));
    hang_up();
    ground.tell_log(1, "limits.watchers");
    ground.tell_log(1, "timing.profile");
    ground.tell_log(1, "configuration reloaded");

    ground.say("a certificate of another key");
    let other = ground.path("other");
    ground.init("other", 1);
    for name in ["tls.crt", "tls.key"] {
        fs::copy(other.join("node-1/identity").join(name), ground.path("cluster/node-1/identity").join(name))
            .unwrap();
    }
    hang_up();
    ground.tell_log(1, "trust bundle is of cluster");
    insta::assert_snapshot!(steady(ground.text()));
}

#[test]
fn what_a_doctor_finds_in_a_cluster() {
    let mut ground = Ground::of(3);
    let doctor = |text: &str| {
        let checks = [
            "certificate",
            "reachable",
            "leader",
            "quorum",
            "version",
            "bootstrap",
            "kills",
            "approvals",
            "edges",
        ];
        about(&steady(text), &checks)
            .replace("leader, at", "[role], at")
            .replace("follower, at", "[role], at")
    };
    ground.say("all nodes are down");
    ground.run_filtered("--timeout 2s doctor", &[], doctor);
    ground.say("one of three is down");
    // Patient enough for whatever disk the test runs on.
    let patient = [("HALTLINE_TIMING_PROFILE", "wan")];
    ground.start_with(1, "ports are open", &patient);
    ground.start_with(2, "ready", &patient);
    ground.wait_for_log(1, "ready");
    ground.run_filtered("doctor", &[], doctor);
    let json = ground.haltline().args(["doctor", "-o", "json"]).output().unwrap();
    assert_eq!(json.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(found["ok"], false, "{found:#}");
    let checks: Vec<&str> =
        found["findings"].as_array().unwrap().iter().filter_map(|one| one["check"].as_str()).collect();
    for check in ["sync-latency", "space", "descriptors", "clock-rate", "round-trip"] {
        assert!(checks.contains(&check), "{check} is missing in {checks:?}");
    }

    ground.say("from the machine of one");
    let own = ["configuration", "profile", "identity", "founding", "data-directory", "port", "disk"];
    ground.run_filtered("doctor --config [dir]/cluster/node-1/node.toml", &patient, |text| {
        about(&steady(text), &own)
    });
    ground.run("doctor --config [dir]/none.toml", &[]);
    let text: String = ground.text().lines().map(|line| without_leader(line) + "\n").collect();
    insta::assert_snapshot!(text);
}

#[test]
fn the_service_manager_hears_how_the_node_is() {
    let mut ground = Ground::of(1);
    let path = ground.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let hear = |wanted: &str| loop {
        let mut buffer = [0; 1_024];
        let length = manager.recv(&mut buffer).unwrap();
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if message.starts_with(wanted) {
            return message;
        }
        // Everything else is known to come in between, but nothing that would end what is waited for.
        assert!(message.starts_with("STATUS=") || message.starts_with("WATCHDOG=1"), "{message}");
    };
    let notify = path.display().to_string();
    let variables = [("NOTIFY_SOCKET", notify.as_str()), ("WATCHDOG_USEC", "500000")];
    let node = ground.start_with(1, "starting", &variables);
    let pid = Pid::from_raw(i32::try_from(ground.pid(node)).unwrap()).unwrap();
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    kill_process(pid, Signal::HUP).unwrap();
    assert!(hear("RELOADING=1").contains("MONOTONIC_USEC="));
    hear("READY=1");
    fs::write(ground.path(NODE), "nonsense").unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    hear("RELOADING=1");
    hear("READY=1");
    assert!(hear("STATUS=not reloaded").contains("is no TOML"));
    kill_process(pid, Signal::TERM).unwrap();
    hear("STOPPING=1");
}

/// Who leads, and since which term, differs from run to run.
fn without_leader(line: &str) -> String {
    let (before, leader) =
        line.split_once(" leads in term ").map_or((line, false), |(before, _)| (before, true));
    if !leader {
        return line.to_owned();
    }
    let who = before.rfind("node ").unwrap_or(before.len());
    format!("{}node [n] leads in term [n]", &before[..who])
}

/// The findings of these checks alone, with what would be right below each: the others depend on the machine.
fn about(text: &str, checks: &[&str]) -> String {
    let mut kept = String::new();
    let mut keeps = false;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["right:", ..] => {}
            ["ok" | "note" | "warn" | "fail", check, ..] => keeps = checks.contains(&check),
            _ => keeps = line.starts_with("error:") || line.starts_with("hint:"),
        }
        if keeps {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}
