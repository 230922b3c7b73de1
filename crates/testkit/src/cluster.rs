//! A real cluster for tests, benchmarks and chaos: processes of the real binary, real TLS, real disks, on loopback.
//!
//! Every cluster has a loopback address of its own, so that clusters of several tests can't take each other's ports, and a
//! temporary directory of its own, which is kept when the test that holds it panics. Nothing here asserts on time:
//! [`wait_until`] polls a condition, and its limit only turns a hang into a failure with a message.

mod person;

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use haltline_core::ids::NodeId;
use haltline_node::Profile;
use haltline_node::init::{InitNode, InitOptions, create_cluster};
use haltline_pki::{Endpoint, PersonIdentity};
use haltline_wire::v1;
use rustix::{
    io::retry_on_intr,
    process::{Pid, Signal, WaitId, WaitIdOptions, waitid},
};

pub use person::{CallError, Person, random_id};

/// How long a condition may take before a wait counts as a hang. Generous: two busy cores, debug builds.
pub const HANG: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

/// Polls until the condition gives a value.
///
/// # Panics
/// When [`HANG`] has passed, naming what was waited for.
#[expect(clippy::panic, reason = "a test that has waited in vain has failed")]
pub async fn wait_until<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let waited = tokio::time::timeout(HANG, async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(POLL).await;
        }
    });
    match waited.await {
        Ok(value) => value,
        Err(_) => panic!("waited {HANG:?} in vain until {what}"),
    }
}

/// One node: its files, its addresses, and its process while it runs.
#[derive(Debug)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Its name: `a`, `b`, …
    pub name: String,
    /// Its directory: configuration, identity, data, log.
    pub directory: PathBuf,
    /// Where clients reach it.
    pub api: SocketAddr,
    /// Where the other nodes reach it.
    pub raft: SocketAddr,
    /// Where it serves health and metrics.
    pub http: SocketAddr,
    /// Where edges and relays reach it.
    pub edge: SocketAddr,
    /// Where an edge that isn't enrolled yet reaches it.
    pub public: SocketAddr,
    /// Variables that this node alone gets, beside those of the cluster.
    pub environment: Vec<(String, String)>,
    /// Words that are put before the binary and its arguments, such as `nice`. What they start must become the node itself
    /// (`exec`), because its process is the one that is signalled.
    pub launcher: Vec<String>,
    process: Option<Child>,
}

impl Node {
    /// Its endpoint, with a check that it is this node that answers.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        let endpoint: Endpoint = self.api.to_string().parse().expect("a socket address is an endpoint");
        endpoint.expecting(self.id)
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Where the log and the snapshots are.
    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("node.log")
    }
}

/// A cluster and the binary that its nodes run.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    directory: Option<tempfile::TempDir>,
    /// Its nodes, in the order of their numbers.
    pub nodes: Vec<Node>,
    /// Variables that its nodes get, as `HALTLINE_SNAPSHOTS_AFTER_ENTRIES`.
    pub environment: Vec<(String, String)>,
    admin: PathBuf,
}

impl Cluster {
    /// Makes the directories of a new cluster; starts nothing.
    ///
    /// # Errors
    /// Whatever the file system or the making of keys fails with.
    pub fn create(binary: &Path, nodes: usize) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("haltline-").tempdir()?;
        let host = own_loopback_address();
        let specs: Vec<InitNode> = (0..nodes).map(|position| spec(host, position)).collect();
        let options = InitOptions {
            out: directory.path().join("cluster"),
            nodes: specs.clone(),
            admin: "ada".parse().map_err(io::Error::other)?,
            profile: Profile::Lan,
        };
        let report = create_cluster(&options).map_err(io::Error::other)?;
        let nodes = report.nodes.into_iter().zip(specs).map(|(made, spec)| Node {
            id: made.id,
            name: made.name,
            directory: made.directory,
            api: spec.api_address.parse().expect("made from a socket address"),
            raft: spec.raft_address.parse().expect("made from a socket address"),
            http: spec.http_address,
            edge: spec.edge_address.parse().expect("made from a socket address"),
            public: spec.public_address.parse().expect("made from a socket address"),
            environment: Vec::new(),
            launcher: Vec::new(),
            process: None,
        });
        Ok(Self {
            binary: binary.into(),
            nodes: nodes.collect(),
            directory: Some(directory),
            environment: Vec::new(),
            admin: report.admin_directory,
        })
    }

    /// Where everything of this cluster lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.as_ref().expect("only taken in drop").path()
    }

    /// Leaves all files where they are when this is dropped, and says where that is.
    pub fn keep(&mut self) -> PathBuf {
        if let Some(directory) = &mut self.directory {
            directory.disable_cleanup(true);
        }
        self.path().into()
    }

    /// The directory of the first admin's identity.
    #[must_use]
    pub fn admin_directory(&self) -> &Path {
        &self.admin
    }

    /// The first admin.
    ///
    /// # Errors
    /// If the identity can't be read.
    pub fn admin(&self) -> io::Result<Person> {
        let identity = PersonIdentity::load(&self.admin).map_err(io::Error::other)?;
        Person::new(identity, self.endpoints())
    }

    /// All nodes' endpoints.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.nodes.iter().map(Node::endpoint).collect()
    }

    /// Starts one node; its output goes to `node.log` in its directory.
    ///
    /// # Errors
    /// If the binary can't be started.
    pub fn start(&mut self, position: usize) -> io::Result<()> {
        let node = &mut self.nodes[position];
        let log = File::options().create(true).append(true).open(node.log_path())?;
        let mut command = match node.launcher.split_first() {
            None => Command::new(&self.binary),
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(&self.binary);
                command
            }
        };
        command.args(["node", "--config"]).arg(node.directory.join("node.toml"));
        // What steers a test (a seed, say) is no key of a node's configuration, and a node refuses such.
        let ours = |(name, _): &(std::ffi::OsString, _)| name.as_encoded_bytes().starts_with(b"HALTLINE_");
        for (name, _) in std::env::vars_os().filter(ours) {
            command.env_remove(name);
        }
        let variables = self.environment.iter().chain(&node.environment);
        command.envs(variables.map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        node.process = Some(command.spawn()?);
        Ok(())
    }

    /// Starts every node that isn't running.
    ///
    /// # Errors
    /// If the binary can't be started.
    pub fn start_all(&mut self) -> io::Result<()> {
        (0..self.nodes.len())
            .filter(|position| self.nodes[*position].process.is_none())
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|position| self.start(position))
    }

    /// SIGKILL, and waits until the process is gone.
    ///
    /// # Errors
    /// If it wasn't running.
    pub fn kill(&mut self, position: usize) -> io::Result<()> {
        let mut process = self.take_process(position)?;
        process.kill()?;
        process.wait().map(drop)
    }

    /// SIGTERM, and waits until the process has ended by itself.
    ///
    /// # Errors
    /// If it wasn't running.
    pub fn stop(&mut self, position: usize) -> io::Result<ExitStatus> {
        let mut process = self.take_process(position)?;
        signal(&process, Signal::TERM)?;
        process.wait()
    }

    /// SIGSTOP: the process stays, and does nothing. Returns when all its threads have stopped: on a busy machine one may go
    /// on for a while after the signal was sent.
    ///
    /// # Errors
    /// If it isn't running.
    pub fn pause(&self, position: usize) -> io::Result<()> {
        let process = self.process(position)?;
        signal(process, Signal::STOP)?;
        let stopped_or_gone = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        retry_on_intr(|| waitid(WaitId::Pid(pid_of(process)), stopped_or_gone))?;
        Ok(())
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// If it isn't running.
    pub fn unpause(&self, position: usize) -> io::Result<()> {
        signal(self.process(position)?, Signal::CONT)
    }

    /// Waits until a node has ended by itself, as one does that refuses its data directory.
    ///
    /// # Errors
    /// If it wasn't running.
    pub async fn wait_for_exit(&mut self, position: usize) -> io::Result<ExitStatus> {
        let mut process = self.take_process(position)?;
        let what = format!("node {} ends by itself", self.nodes[position].name);
        for _ in 0..HANG.as_millis() / POLL.as_millis() {
            if let Some(status) = process.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
        process.kill()?;
        Err(io::Error::other(format!("waited in vain until {what}")))
    }

    /// Whether the process has ended without being asked to, and how.
    pub fn exited(&mut self, position: usize) -> Option<ExitStatus> {
        self.nodes[position].process.as_mut().and_then(|process| process.try_wait().ok().flatten())
    }

    /// Waits until a running node leads, and the others that run follow it; its position.
    pub async fn wait_for_leader(&self, person: &Person) -> usize {
        wait_until("the running nodes agree on a leader", || async {
            let statuses = self.statuses(person).await;
            let leader = statuses.iter().flatten().next()?.leader_id;
            let agreed = statuses.iter().flatten().all(|status| status.leader_id == leader);
            let position = self.nodes.iter().position(|node| node.id.0 == leader)?;
            let leads = statuses[position].as_ref().is_some_and(|status| status.role == "leader");
            (agreed && leads).then_some(position)
        })
        .await
    }

    /// Each running node's status; `None` for one that isn't running or doesn't answer.
    pub async fn statuses(&self, person: &Person) -> Vec<Option<v1::Status>> {
        let mut statuses = Vec::with_capacity(self.nodes.len());
        for (position, node) in self.nodes.iter().enumerate() {
            statuses.push(match node.process {
                Some(_) => person.status(position).await.ok(),
                None => None,
            });
        }
        statuses
    }

    /// Waits until all running nodes have applied the same index, at least `index`, and returns their statuses.
    ///
    /// # Panics
    /// If they hold different chain heads at the same index: they have diverged.
    pub async fn wait_until_equal(&self, person: &Person, index: u64) -> Vec<v1::Status> {
        let running = self.nodes.iter().filter(|node| node.process.is_some()).count();
        let statuses = wait_until("the running nodes have applied the same index", || async {
            let statuses: Vec<_> = self.statuses(person).await.into_iter().flatten().collect();
            let first = statuses.first()?.applied_index;
            let equal = statuses.len() == running
                && first >= index
                && statuses.iter().all(|status| status.applied_index == first);
            equal.then_some(statuses)
        })
        .await;
        let heads: Vec<_> = statuses.iter().map(|status| (status.event_seq, &status.chain_head)).collect();
        assert!(heads.windows(2).all(|pair| pair[0] == pair[1]), "nodes have diverged: {statuses:#?}");
        statuses
    }

    fn process(&self, position: usize) -> io::Result<&Child> {
        self.nodes[position].process.as_ref().ok_or_else(|| io::Error::other("the node isn't running"))
    }

    fn take_process(&mut self, position: usize) -> io::Result<Child> {
        self.nodes[position].process.take().ok_or_else(|| io::Error::other("the node isn't running"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                // Both fail only if the process is gone already.
                let _ = process.kill();
                let _ = process.wait();
            }
        }
        if std::thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            eprintln!("the cluster's files and logs are kept in {}", directory.keep().display());
        }
    }
}

fn signal(process: &Child, signal: Signal) -> io::Result<()> {
    rustix::process::kill_process(pid_of(process), signal).map_err(Into::into)
}

fn pid_of(process: &Child) -> Pid {
    i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("a child has a positive id")
}

/// Whether a status is that of a process killed by SIGKILL.
#[must_use]
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}

/// A loopback address that no other cluster of this process, and hardly one of another process, has.
fn own_loopback_address() -> Ipv4Addr {
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // The second octet keeps clear of 127.0, where everything else on the machine listens.
    let cluster = (CLUSTERS.fetch_add(1, Ordering::Relaxed) % 254 + 1) as u8;
    Ipv4Addr::new(127, cluster, high, low.clamp(1, 254))
}

fn spec(host: Ipv4Addr, position: usize) -> InitNode {
    // Below the ports that the kernel gives to outgoing connections.
    let port = |offset: usize| SocketAddr::from((host, (7_400 + 10 * position + offset) as u16));
    InitNode {
        name: char::from(b'a' + position as u8).to_string(),
        api_address: port(0).to_string(),
        raft_address: port(1).to_string(),
        http_address: port(2),
        edge_address: port(3).to_string(),
        public_address: port(4).to_string(),
        region: String::new(),
    }
}
