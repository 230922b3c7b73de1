//! The demo's processes: started from this very binary, ended by their ids, never anybody else's.

use std::{
    collections::BTreeSet,
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use haltline_core::ids::NodeId;
use haltline_node::{
    Profile,
    init::{InitNode, InitOptions, InitReport, create_cluster},
};
use haltline_pki::{Endpoint, PersonIdentity};
use tempfile::TempDir;

use crate::failure::Failure;

/// Nodes of the demo: the fewest that survive a loss.
const NODES: u16 = 3;
/// API, Raft, health and metrics, edges, enrolment.
const PORTS_EACH: usize = 5;
/// Ports are taken from here, below those that systems give to outgoing connections (a node that was killed must find
/// its own free when it comes back).
const PORT_FIRST: u16 = 21_000;
const PORTS: u16 = 9_000;
/// How many ports are tried before giving up.
const PORT_TRIES: usize = 2_000;

/// One node.
#[derive(Debug)]
struct DemoNode {
    id: NodeId,
    config: PathBuf,
    log: PathBuf,
    endpoint: Endpoint,
    /// Where enforcers enrol.
    public: Endpoint,
    process: Option<Child>,
    started: Option<Instant>,
}

/// All of them, and the directory they live in.
#[derive(Debug)]
pub(super) struct Nodes {
    directory: Option<TempDir>,
    path: PathBuf,
    binary: PathBuf,
    keep: bool,
    nodes: Vec<DemoNode>,
}

impl Nodes {
    /// An empty directory, and nothing running.
    ///
    /// # Errors
    /// No directory, or this binary can't be found.
    pub(super) fn create(keep: bool) -> Result<Self, Failure> {
        let binary = std::env::current_exe().map_err(|error| {
            Failure::local(format!("can't find this very binary to run it again: {error}"))
        })?;
        let directory = tempfile::Builder::new()
            .prefix("haltline-demo-")
            .tempdir()
            .map_err(|error| Failure::local(format!("can't make a temporary directory: {error}")))?;
        let path = directory.path().to_owned();
        Ok(Self { directory: Some(directory), path, binary, keep, nodes: Vec::new() })
    }

    /// Makes keys, certificates and configurations, with the first admin's identity.
    ///
    /// # Errors
    /// No free ports, or `init` fails.
    pub(super) fn init(&mut self) -> Result<(InitReport, PersonIdentity), Failure> {
        let ports = free_ports(usize::from(NODES) * PORTS_EACH)?;
        let address = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let nodes = ports.chunks(PORTS_EACH).zip(1..).map(|(ports, number)| InitNode {
            name: format!("node-{number}"),
            api_address: address(ports[0]).to_string(),
            raft_address: address(ports[1]).to_string(),
            http_address: address(ports[2]),
            edge_address: address(ports[3]).to_string(),
            public_address: address(ports[4]).to_string(),
            region: String::new(),
        });
        let nodes: Vec<InitNode> = nodes.collect();
        let endpoints: Vec<(Endpoint, Endpoint)> = ports
            .chunks(PORTS_EACH)
            .map(|ports| (address(ports[0]).into(), address(ports[4]).into()))
            .collect();
        let admin =
            "ada".parse().map_err(|error| Failure::local(format!("the first admin's name: {error}")))?;
        let options = InitOptions { out: self.path.join("cluster"), nodes, admin, profile: Profile::Lan };
        let report = create_cluster(&options).map_err(|error| crate::commands::init::failure(&error))?;
        self.nodes = report
            .nodes
            .iter()
            .zip(endpoints)
            .map(|(made, (endpoint, public))| DemoNode {
                id: made.id,
                config: made.config_file.clone(),
                log: made.directory.join("node.log"),
                endpoint: endpoint.expecting(made.id),
                public,
                process: None,
                started: None,
            })
            .collect();
        let identity = PersonIdentity::load(&report.admin_directory)?;
        Ok((report, identity))
    }

    /// Starts a node.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn start(&mut self, id: NodeId) -> Result<u32, Failure> {
        let (binary, keep) = (self.binary.clone(), self.keep);
        let node = self.node_mut(id)?;
        let cant = |what: &str, error: std::io::Error| Failure::local(format!("can't {what}: {error}"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&node.log)
            .map_err(|error| cant("open the node's log", error))?;
        let mut command = Command::new(&binary);
        command.arg("node").arg("--config").arg(&node.config).stdout(Stdio::null()).stderr(log);
        // A group of its own, so that a Ctrl-C in the terminal reaches the demo alone, which then ends the nodes.
        command.process_group(0);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HALTLINE_"))
        {
            command.env_remove(name);
        }
        if keep {
            command.stdin(Stdio::null());
        } else {
            // Should the demo be killed, the pipe closes and the node ends by itself.
            command.arg("--until-stdin-closes").stdin(Stdio::piped());
        }
        let child = command.spawn().map_err(|error| cant("start a node", error))?;
        let process_id = child.id();
        node.process = Some(child);
        node.started = Some(Instant::now());
        Ok(process_id)
    }

    /// How long all of them have been up.
    pub(super) fn up_for(&self) -> Duration {
        let youngest = self.nodes.iter().filter_map(|node| node.started).max();
        youngest.map_or(Duration::ZERO, |started| started.elapsed())
    }

    /// Kills a node as `kill -9` does, and waits until it is gone. Says which process it was.
    ///
    /// # Errors
    /// It isn't running.
    pub(super) fn kill_dead(&mut self, id: NodeId) -> Result<u32, Failure> {
        let node = self.node_mut(id)?;
        let gone = || Failure::local(format!("node {id} isn't running"));
        let mut child = node.process.take().ok_or_else(gone)?;
        let process_id = child.id();
        child
            .kill()
            .and_then(|()| child.wait())
            .map_err(|error| Failure::local(format!("can't kill process {process_id}: {error}")))?;
        Ok(process_id)
    }

    /// The first node that has ended although nobody ended it, with the end of its log.
    pub(super) fn first_lost(&mut self) -> Option<(NodeId, String)> {
        self.nodes.iter_mut().find_map(|node| {
            let ended = node.process.as_mut()?.try_wait().ok()??;
            Some((node.id, format!("ended ({ended}): {}", last_line(&node.log))))
        })
    }

    /// Where each node is called.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (NodeId, &Endpoint)> {
        self.nodes.iter().map(|node| (node.id, &node.endpoint))
    }

    /// Where enforcers enrol.
    pub(super) fn public_endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.nodes.iter().map(|node| &node.public)
    }

    /// Where the nodes that run are called.
    pub(super) fn running(&self) -> Vec<(NodeId, Endpoint)> {
        let running = self.nodes.iter().filter(|node| node.process.is_some());
        running.map(|node| (node.id, node.endpoint.clone())).collect()
    }

    /// The processes that run.
    pub(super) fn process_ids(&self) -> impl Iterator<Item = u32> {
        self.nodes.iter().filter_map(|node| Some(node.process.as_ref()?.id()))
    }

    /// Where everything is.
    pub(super) fn directory(&self) -> &Path {
        &self.path
    }

    /// The binary that the nodes run.
    pub(super) fn binary(&self) -> &Path {
        &self.binary
    }

    /// Where a person's identity is.
    pub(super) fn identity(&self, name: &str) -> PathBuf {
        let directory = if name == "ada" { haltline_node::init::ADMIN_DIRECTORY } else { name };
        self.path.join("cluster").join(directory)
    }

    /// Ends every node.
    pub(super) fn stop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.process.as_mut()) {
            // One that is gone already needs no killing.
            let _ = child.kill();
        }
        for mut child in self.nodes.iter_mut().filter_map(|node| node.process.take()) {
            // Waited for, so that its files are free before they are removed.
            let _ = child.wait();
        }
    }

    /// Leaves nodes and files as they are, whatever happens to the demo.
    pub(super) fn release(&mut self) {
        self.keep_directory();
        self.keep = true;
    }

    /// Leaves the files.
    pub(super) fn keep_directory(&mut self) -> PathBuf {
        if let Some(directory) = self.directory.take() {
            self.path = directory.keep();
        }
        self.path.clone()
    }

    fn node_mut(&mut self, id: NodeId) -> Result<&mut DemoNode, Failure> {
        let known = self.nodes.iter_mut().find(|node| node.id == id);
        known.ok_or_else(|| Failure::local(format!("there is no node {id} in the demo")))
    }

    fn is_released(&self) -> bool {
        self.keep && self.directory.is_none()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if !self.is_released() {
            self.stop();
        }
    }
}

fn last_line(log: &Path) -> String {
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("its log is empty").to_owned()
}

/// Ports that nobody listens on, beginning at a place that two demos at once hardly share.
fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    let mut seed = [0; 2];
    getrandom::fill(&mut seed)
        .map_err(|error| Failure::local(format!("the system has no randomness: {error}")))?;
    let start = u16::from_be_bytes(seed) % PORTS;
    let mut free = BTreeSet::new();
    for offset in 0..PORT_TRIES {
        let offset = u16::try_from(offset).unwrap_or(u16::MAX);
        let port = PORT_FIRST + (start + offset) % PORTS;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            free.insert(port);
        }
        if free.len() == count {
            return Ok(free.into_iter().collect());
        }
    }
    Err(Failure::local(format!("found {} free ports on 127.0.0.1; the demo needs {count}", free.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_distinct_and_out_of_the_way() {
        let ports = free_ports(9).expect("nine ports");
        assert_eq!(ports.len(), 9);
        assert!(ports.iter().all(|port| (PORT_FIRST..PORT_FIRST + PORTS).contains(port)));
        assert!(ports.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn the_directory_goes_with_the_demo_unless_it_is_kept() {
        let nodes = Nodes::create(false).expect("a directory");
        let path = nodes.directory().to_owned();
        assert!(path.is_dir());
        drop(nodes);
        assert!(!path.exists());
        let mut nodes = Nodes::create(false).expect("a directory");
        let path = nodes.keep_directory();
        drop(nodes);
        assert!(path.is_dir());
        std::fs::remove_dir_all(path).expect("removed");
    }
}
