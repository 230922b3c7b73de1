//! Real nodes on real file systems that fill up.
//!
//! Each node gets a file system of a few hundred megabytes of its own: a tmpfs in a mount namespace of its own, which a user
//! may make too (`unshare --user`). It says "no space left" as any other does, and ends with the process, so nothing has to
//! be cleaned up. Where the system allows no such namespaces the test says so and does nothing; the same is tested in one
//! process, on the fault disk, by the consensus crate.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use haltline_testkit::cluster::{Cluster, Person, wait_until};
use haltline_wire::v1;

use super::{BINARY, durability::nothing_is_lost, founded, kill_fleet, load::Load, register_agent};

/// Room for what a node takes in good times (segments, reserves), and more than its low-water mark beside it.
const SIZE_MIB: u64 = 400;
/// Mounts a file system on the first argument and becomes the rest.
const SCRIPT: &str = "mount -t tmpfs -o size=$1,mode=700 none \"$0\" && shift && exec \"$@\"";

/// The words that put a node on a file system of its own.
fn launcher(data: &Path, size_mib: u64) -> Vec<String> {
    let words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT];
    let (data, size) = (data.display().to_string(), format!("{size_mib}m"));
    words.into_iter().map(str::to_owned).chain([data, size]).collect()
}

/// Why this system can't give a process a file system of its own, if it can't.
fn refusal(directory: &Path) -> Option<String> {
    let words = launcher(directory, 1);
    let tried = Command::new(&words[0]).args(&words[1..]).arg("true").stdin(Stdio::null()).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// A file in a node's data directory, as seen from outside of its namespace.
fn filler(cluster: &Cluster, node: usize) -> PathBuf {
    let pid = cluster.nodes[node].pid().expect("it runs");
    let data = cluster.nodes[node].data_directory();
    let inside = data.strip_prefix("/").expect("an absolute path");
    Path::new("/proc").join(pid.to_string()).join("root").join(inside).join("filler")
}

/// Writes until nothing is left.
fn fill(cluster: &Cluster, node: usize) {
    let mut file = File::options().create(true).append(true).open(filler(cluster, node)).expect("a file");
    for bytes in [1 << 20, 4_096] {
        let chunk = vec![0xff; bytes];
        while file.write_all(&chunk).is_ok() {}
    }
}

fn free(cluster: &Cluster, node: usize) {
    std::fs::remove_file(filler(cluster, node)).expect("it was filled");
}

/// A page of a node's plain HTTP port: its status line and its words.
fn page(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

async fn disk(admin: &Person, node: usize) -> Option<v1::DiskStatus> {
    admin.status(node).await.ok()?.disk
}

async fn wait_for_room(admin: &Person, node: usize, room: &str) {
    wait_until("the node says how much room it has", || async {
        disk(admin, node).await.filter(|disk| disk.room == room)
    })
    .await;
}

async fn start() -> Option<(Cluster, Person)> {
    let mut cluster = Cluster::create(Path::new(BINARY), 3).expect("directories");
    for node in &mut cluster.nodes {
        std::fs::create_dir_all(node.data_directory()).expect("a directory");
        if let Some(why) = refusal(&node.data_directory()) {
            println!("SKIPPED: no file system for a node of its own here: {why}");
            return None;
        }
        node.launcher = launcher(&node.data_directory(), SIZE_MIB);
    }
    cluster.start_all().expect("the binary starts");
    let admin = founded(&cluster).await;
    for node in 0..3 {
        wait_until("its reserve is there", || async {
            let disk = disk(&admin, node).await?;
            (disk.room == "ample" && disk.reserve_segments == disk.reserve_segments_wanted).then_some(())
        })
        .await;
    }
    Some((cluster, admin))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disks_lose_nothing_and_stop_no_kill() {
    let Some((mut cluster, admin)) = start().await else { return };
    let full = cluster.wait_for_leader(&admin).await;
    let load = Load::start(&admin, 4, 3);
    load.wait_for_more(50).await;

    fill(&cluster, full);
    wait_until("leadership moves to a node with room", || async {
        let status = admin.status((full + 1) % 3).await.ok()?;
        let leader = cluster.nodes.iter().position(|node| node.id.0 == status.leader_id)?;
        (leader != full).then_some(leader)
    })
    .await;
    wait_for_room(&admin, full, "low").await;
    load.wait_for_more(100).await;
    // It serves, says so, and is warned about.
    assert!(!super::agents_at(&admin, full).await.is_empty());
    let address = cluster.nodes[full].http;
    let ready = page(address, "/readyz").expect("it answers");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("the disk is nearly full"), "{ready}");
    let metrics = page(address, "/metrics").expect("it answers");
    assert!(metrics.contains("haltline_disk_short_of_room 1"), "{metrics}");
    assert!(metrics.contains("haltline_log_sync_seconds_bucket"), "{metrics}");

    for node in (0..3).filter(|node| *node != full) {
        fill(&cluster, node);
    }
    wait_until("nothing but kills is taken", || async {
        for node in 0..3 {
            let taken = admin.command(node, register_agent("acme/load/one-too-many")).await;
            if taken.as_ref().err().and_then(|error| error.reason()) != Some("DISK_FULL") {
                return None;
            }
        }
        Some(())
    })
    .await;
    for node in 0..3 {
        admin.command(node, kill_fleet("acme/load")).await.expect("a kill is taken");
    }

    for node in 0..3 {
        free(&cluster, node);
    }
    for node in 0..3 {
        wait_for_room(&admin, node, "ample").await;
    }
    load.wait_for_more(50).await;
    let acknowledged = load.finish().await;
    nothing_is_lost(&cluster, &admin, &acknowledged).await;
    let ended: Vec<_> = (0..3).filter_map(|node| cluster.exited(node)).collect();
    assert!(ended.is_empty(), "{ended:?}");
    println!("{} commands acknowledged, none lost", acknowledged.agents.len());
}
