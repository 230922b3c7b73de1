//! Nodes that come back with too little, with damage, or with somebody else's data.

use std::{fs, os::unix::fs::FileExt as _, path::PathBuf};

use haltline_testkit::cluster::wait_until;

use super::{load::Load, running};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_for_long_catches_up_by_a_snapshot() {
    let (mut cluster, admin) = running(3).await;
    cluster.environment.push(("HALTLINE_SNAPSHOTS_AFTER_ENTRIES".into(), "100".into()));
    let leader = cluster.wait_for_leader(&admin).await;
    let away = (leader + 1) % 3;
    for node in 0..3 {
        cluster.stop(node).expect("it runs");
    }
    fs::remove_dir_all(cluster.nodes[away].data_directory()).expect("its data directory");
    for node in (0..3).filter(|node| *node != away) {
        cluster.start(node).expect("it starts");
    }
    let load = Load::start(&admin, 4, 3);
    wait_until("the log behind a snapshot was dropped", || async {
        let statuses = cluster.statuses(&admin).await;
        let snapshots = statuses.iter().flatten().map(|status| status.snapshot_index);
        (snapshots.min()? > 100).then_some(())
    })
    .await;
    cluster.start(away).expect("it starts");
    let acknowledged = load.finish().await;
    let statuses = cluster.wait_until_equal(&admin, acknowledged.last_index).await;
    assert_eq!(statuses.len(), 3);
    assert!(cluster.nodes[away].log().contains("installed a snapshot"), "{}", cluster.nodes[away].log());
}

/// The segments of a node's log, in order.
fn segments(data: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![data.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory of the node") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-")) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_the_middle_of_the_log_stops_the_node_and_says_where() {
    let (mut cluster, admin) = running(3).await;
    let load = Load::start(&admin, 2, 3);
    load.wait_for_more(50).await;
    load.finish().await;
    let follower = (cluster.wait_for_leader(&admin).await + 1) % 3;
    cluster.stop(follower).expect("it runs");

    let segment = segments(&cluster.nodes[follower].data_directory()).remove(0);
    // Behind the segment's header, before records that were acknowledged long ago.
    let offset = 4_096 + 40;
    let file = fs::File::options().read(true).write(true).open(&segment).expect("the segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("within the segment");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("within the segment");

    cluster.start(follower).expect("the binary starts");
    let status = cluster.wait_for_exit(follower).await.expect("it runs");
    assert!(!status.success());
    let log = cluster.nodes[follower].log();
    let name = segment.file_name().expect("a file").to_string_lossy().into_owned();
    let place = format!("{name} is damaged at byte 4096");
    for part in [place.as_str(), "Nothing was changed", "add the node again with an empty data directory"] {
        assert!(log.contains(part), "the log should say `{part}`: {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clusters_data_directory_is_refused() {
    let (mut one, _) = running(1).await;
    let (mut other, _) = running(1).await;
    one.stop(0).expect("it runs");
    other.stop(0).expect("it runs");
    let (ours, foreign) = (one.nodes[0].data_directory(), other.nodes[0].data_directory());
    fs::remove_dir_all(&ours).expect("its data directory");
    fs::rename(foreign, &ours).expect("on one file system");

    one.start(0).expect("the binary starts");
    let status = one.wait_for_exit(0).await.expect("it runs");
    assert!(!status.success());
    let log = one.nodes[0].log();
    assert!(log.contains("cluster"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_data_directory_is_refused() {
    let (cluster, _) = running(1).await;
    let config = cluster.nodes[0].directory.join("node.toml");
    let second = std::process::Command::new(super::BINARY)
        .args(["node", "--config"])
        .arg(config)
        .output()
        .expect("the binary starts");
    assert!(!second.status.success());
    let told =
        String::from_utf8_lossy(&second.stderr).into_owned() + &String::from_utf8_lossy(&second.stdout);
    assert!(told.contains("another process") || told.contains("in use"), "{told}");
}
