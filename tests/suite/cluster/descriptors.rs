//! Nodes that may open few files: too few to run is said at once, few are lived with.

use std::{net::TcpStream, path::Path, time::Duration};

use haltline_testkit::cluster::{Cluster, wait_until};

use super::{BINARY, durability::nothing_is_lost, founded, kill_fleet, load::Load};

/// The words that start a node which may open so many files.
fn launcher(files: u32) -> Vec<String> {
    let script = format!("ulimit -n {files} && exec \"$@\"");
    ["sh", "-c", &script, "sh"].map(str::to_owned).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_may_open_too_few_files_says_how_many_it_needs() {
    let mut cluster = Cluster::create(Path::new(BINARY), 1).expect("directories");
    cluster.nodes[0].launcher = launcher(200);
    cluster.start(0).expect("the binary starts");
    let status = cluster.wait_for_exit(0).await.expect("it ends by itself");
    assert!(!status.success());
    let log = cluster.nodes[0].log();
    assert!(log.contains("the process may open 200 files") && log.contains("LimitNOFILE"), "{log}");
}

/// Opens connections to every port but the plain one, without a word, until the node has no descriptor left.
fn exhaust(cluster: &Cluster, node: usize) -> Vec<TcpStream> {
    let node = &cluster.nodes[node];
    let ports = [node.api, node.raft, node.edge, node.public];
    let open = |port| TcpStream::connect_timeout(port, Duration::from_secs(5)).ok();
    (0..300).flat_map(|_| ports.iter().filter_map(open)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_what_runs_goes_on_and_who_waits_is_taken_later() {
    let mut cluster = Cluster::create(Path::new(BINARY), 3).expect("directories");
    cluster.nodes.iter_mut().for_each(|node| node.launcher = launcher(640));
    cluster.start_all().expect("the binary starts");
    let admin = founded(&cluster).await;
    let leader = cluster.wait_for_leader(&admin).await;
    assert!(cluster.nodes[leader].log().contains("may open fewer files"), "it is warned about at the start");
    let load = Load::start(&admin, 4, 3);
    load.wait_for_more(20).await;

    wait_until("the leader has no descriptor left", || async {
        let strangers = exhaust(&cluster, leader);
        let is_out = cluster.nodes[leader].log().contains("no file descriptor left");
        load.wait_for_more(5).await;
        drop(strangers);
        is_out.then_some(())
    })
    .await;
    // A new connection is taken as soon as there is room for one.
    let newcomer = cluster.admin().expect("the admin's identity");
    wait_until("a newcomer is heard", || async {
        newcomer.command(leader, kill_fleet("acme/load")).await.ok()
    })
    .await;
    let acknowledged = load.finish().await;
    nothing_is_lost(&cluster, &admin, &acknowledged).await;
    assert!((0..3).all(|node| cluster.exited(node).is_none()));
}
