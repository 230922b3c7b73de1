//! Three etcd members as real processes on loopback, with fsync on, in directories of their own.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::process::{Child, Command};
use tonic::transport::Channel;

use super::{SYSTEM, certificates::Certificates, client};
use crate::failure::Failure;

const MEMBERS: usize = 3;
const READY_TIMEOUT: Duration = Duration::from_secs(20);
const READY_POLL: Duration = Duration::from_millis(50);

/// A running cluster; its processes end when it is dropped.
pub(crate) struct EtcdCluster {
    members: Vec<Member>,
    certificates: Option<Certificates>,
    leader: usize,
}

struct Member {
    process: Child,
    pid: u32,
    client_port: u16,
}

impl EtcdCluster {
    /// Starts one in `directory`, and waits until all members follow one leader.
    pub(crate) async fn start(directory: &Path, tls: bool) -> Result<Self, Failure> {
        let certificates = if tls { Some(Certificates::create(directory)?) } else { None };
        let ports = free_ports(2 * MEMBERS)?;
        let (client_ports, peer_ports) = ports.split_at(MEMBERS);
        let scheme = if tls { "https" } else { "http" };
        let peers: Vec<String> =
            peer_ports.iter().map(|port| format!("{scheme}://127.0.0.1:{port}")).collect();
        let mut members = Vec::new();
        for (index, client_port) in client_ports.iter().enumerate() {
            let home = directory.join(format!("etcd-{index}"));
            let client_url = format!("{scheme}://127.0.0.1:{client_port}");
            let process = spawn(index, &home, &client_url, &peers, certificates.as_ref())?;
            let pid = process.id().expect("a process that wasn't waited for has an id");
            members.push(Member { process, pid, client_port: *client_port });
        }
        let mut cluster = Self { members, certificates, leader: 0 };
        cluster.leader = cluster.wait_for_leader(directory).await?;
        Ok(cluster)
    }

    /// The members' processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.pid).collect()
    }

    /// So many new connections to the leader, or to the others in turn.
    pub(crate) async fn connections(&self, number: usize, to_leader: bool) -> Result<Vec<Channel>, Failure> {
        let of_interest = |index: &usize| (*index == self.leader) == to_leader;
        let members: Vec<usize> = (0..self.members.len()).filter(of_interest).collect();
        let mut channels = Vec::new();
        for index in members.iter().cycle().take(number) {
            channels.push(self.connect(*index).await?);
        }
        Ok(channels)
    }

    /// What dials the member whose turn it is with this number: bytes, for clients of the benchmarks' own.
    pub(crate) fn dial(&self, number: usize) -> impl Future<Output = Result<client::Wire, String>> + use<> {
        let port = self.members[number % self.members.len()].client_port;
        let tls = self.certificates.as_ref().map(|certificates| Arc::clone(&certificates.client));
        async move { client::dial_any(port, tls).await.map_err(|error| error.to_string()) }
    }

    /// Kills the members and waits until they are gone.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        for member in &mut self.members {
            member.process.kill().await.map_err(Failure::local("stop an etcd member"))?;
        }
        Ok(())
    }

    async fn connect(&self, index: usize) -> Result<Channel, Failure> {
        let tls = self.certificates.as_ref().map(|certificates| Arc::clone(&certificates.client));
        client::connect(self.members[index].client_port, tls).await
    }

    async fn wait_for_leader(&self, logs: &Path) -> Result<usize, Failure> {
        let started = Instant::now();
        loop {
            if let Some(leader) = self.agreed_leader().await {
                return Ok(leader);
            }
            if started.elapsed() > READY_TIMEOUT {
                return Err(Failure::NotReady {
                    system: SYSTEM,
                    expected: "led by one member that all follow",
                    waited_ms: started.elapsed().as_millis(),
                    logs: Some(PathBuf::from(logs)),
                });
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// The member that every member says leads.
    async fn agreed_leader(&self) -> Option<usize> {
        let (mut ids, mut leaders) = (Vec::new(), Vec::new());
        for index in 0..self.members.len() {
            let channel = self.connect(index).await.ok()?;
            let status = client::status(&channel).await.ok()?;
            ids.push(status.header?.member_id);
            leaders.push(status.leader);
        }
        let leader = *leaders.first()?;
        let agreed = leaders.iter().all(|other| *other == leader);
        agreed.then(|| ids.iter().position(|id| *id == leader))?
    }
}

/// The version of the etcd that is installed; `None` if there is none.
pub(crate) fn installed() -> Option<String> {
    let output = std::process::Command::new("etcd").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next()?.strip_prefix("etcd Version: ").map(str::to_owned)
}

fn spawn(
    index: usize,
    home: &Path,
    client_url: &str,
    peers: &[String],
    certificates: Option<&Certificates>,
) -> Result<Child, Failure> {
    let named = |(index, url): (usize, &String)| format!("member-{index}={url}");
    let initial: Vec<String> = peers.iter().enumerate().map(named).collect();
    // The kernel ends the member should this process be killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "etcd"]).kill_on_drop(true).stdin(Stdio::null());
    command.args(["--name", &format!("member-{index}"), "--log-level", "warn", "--logger", "zap"]);
    command.arg("--data-dir").arg(home);
    command.args(["--listen-client-urls", client_url, "--advertise-client-urls", client_url]);
    command.args(["--listen-peer-urls", &peers[index], "--initial-advertise-peer-urls", &peers[index]]);
    command.args(["--initial-cluster", &initial.join(","), "--initial-cluster-state", "new"]);
    if let Some(files) = certificates {
        command.args(["--client-cert-auth", "--peer-client-cert-auth"]);
        for (flag, file) in [
            ("--trusted-ca-file", &files.root),
            ("--cert-file", &files.server),
            ("--key-file", &files.server_key),
            ("--peer-trusted-ca-file", &files.root),
            ("--peer-cert-file", &files.server),
            ("--peer-key-file", &files.server_key),
        ] {
            command.arg(flag).arg(file);
        }
    }
    let log = home.with_extension("log");
    let file = File::create(&log).map_err(Failure::local(format!("create {}", log.display())))?;
    let errors = file.try_clone().map_err(Failure::local("share a log file"))?;
    command.stdout(file).stderr(errors).spawn().map_err(Failure::local("start etcd through setpriv"))
}

/// Ports of loopback that were free a moment ago. All are held until the last is found, so that they differ.
fn free_ports(number: usize) -> Result<Vec<u16>, Failure> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners: Result<Vec<TcpListener>, _> = (0..number).map(bind).collect();
    let ports = listeners.and_then(|all| all.iter().map(|one| Ok(one.local_addr()?.port())).collect());
    ports.map_err(Failure::local("find free ports"))
}
