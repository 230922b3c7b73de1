//! The example of `deploy/envoy` on one loopback address of its own: cluster, edge, Envoy, tools, and a caller.

mod processes;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use haltline_testkit::cluster::{Cluster, HANG, wait_until};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::cluster::BINARY;
use processes::{Process, envoy};

/// Where the example lies.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/envoy");
/// Envoy's port in it, and the sidecar's for programs.
const AGENTS_PORT: u16 = 10_000;
const SIDECAR_PORT: u16 = 7_481;

/// The running example.
pub(super) struct Rig {
    pub(super) edge: Process,
    cluster: Cluster,
    host: IpAddr,
    others: Vec<Process>,
}

/// What came back for a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Rig {
    /// Everything, with fleets `acme/tools` and `acme/other` of one agent each.
    pub(super) async fn with_envoy() -> Self {
        let envoy = envoy();
        let mut rig = Self::without_envoy().await;
        let mut tools = Command::new("python3");
        tools.arg(Path::new(EXAMPLE).join("toy_tools.py")).arg(rig.host.to_string());
        let mut proxy = Command::new(envoy);
        proxy.arg("-c").arg(moved(&rig.cluster, rig.host, "envoy.yaml"));
        proxy.args(["--use-dynamic-base-id", "--concurrency", "2", "--log-level", "warning"]);
        rig.others.push(Process::start(tools, &rig.cluster, "tools"));
        rig.others.push(Process::start(proxy, &rig.cluster, "envoy"));
        wait_until("Envoy answers", || rig.request(AGENTS_PORT, "POST /tools/x", "", "")).await;
        rig
    }

    /// Cluster and edge alone.
    pub(super) async fn without_envoy() -> Self {
        let mut cluster = Cluster::create(Path::new(BINARY), 3).unwrap();
        cluster.start_all().unwrap();
        let admin = cluster.admin().unwrap();
        cluster.wait_for_leader(&admin).await;
        for words in [
            &["fleet", "create", "acme"][..],
            &["fleet", "create", "acme/tools"],
            &["fleet", "create", "acme/other"],
            &["agent", "register", "acme/tools/worker"],
            &["agent", "register", "acme/other/worker"],
        ] {
            haltline(&cluster, words);
        }
        let host = cluster.nodes[0].api.ip();
        let edge = start_edge(&cluster, host);
        let rig = Self { edge, cluster, host, others: Vec::new() };
        wait_until("the edge has a lease", || async {
            let answer = rig.request(SIDECAR_PORT, "GET /readyz", "", "").await?;
            (answer.status == 200).then_some(())
        })
        .await;
        rig
    }

    /// Runs a command as the first admin; what it says.
    pub(super) fn haltline(&self, words: &[&str]) -> String {
        haltline(&self.cluster, words)
    }

    /// A token for a new running copy of an agent.
    pub(super) fn agent_token(&self, agent: &str) -> String {
        self.haltline(&["agent", "token", agent, "--task", "a test"]).trim().to_owned()
    }

    /// Pauses every node: connections stay open, and nobody says anything.
    pub(super) fn silence_cluster(&self) {
        (0..self.cluster.nodes.len()).for_each(|position| self.cluster.pause(position).unwrap());
    }

    /// Calls a tool through Envoy.
    pub(super) async fn call(&self, token: &str) -> Answer {
        let answer = self.request(AGENTS_PORT, "POST /tools/pay", token, "").await;
        answer.expect("Envoy answers")
    }

    /// Asks the sidecar itself.
    pub(super) async fn ask(&self, line: &str, token: &str, body: &str) -> Answer {
        self.request(SIDECAR_PORT, line, token, body).await.expect("the sidecar answers")
    }

    /// The first permitted call: a token counts when the edge has heard of the agent.
    pub(super) async fn wait_until_permitted(&self, token: &str) -> Answer {
        wait_until("the call is permitted", || async {
            let answer = self.call(token).await;
            (answer.status == 200).then_some(answer)
        })
        .await
    }

    /// One request and its whole answer; `None` if nobody is there yet.
    async fn request(&self, port: u16, line: &str, token: &str, body: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(SocketAddr::new(self.host, port)).await.ok()?;
        let length = body.len();
        let headers =
            format!("connection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
        send(&mut stream, line, token, &headers, body).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.into(), value.into()));
        Some(Answer { status, headers: lines.filter_map(header).collect(), body: body.into() })
    }

    /// A call whose answer goes on until somebody ends it.
    pub(super) async fn stream(&self, token: &str) -> Stream {
        self.open(AGENTS_PORT, "GET /stream/feed", token).await
    }

    /// The stream by which the sidecar tells of a halt.
    pub(super) async fn halted(&self, token: &str) -> Stream {
        self.open(SIDECAR_PORT, "GET /v1/halted", token).await
    }

    async fn open(&self, port: u16, line: &str, token: &str) -> Stream {
        let mut stream = TcpStream::connect(SocketAddr::new(self.host, port)).await.unwrap();
        send(&mut stream, line, token, "", "").await.unwrap();
        let mut stream = Stream(BufReader::new(stream));
        let mut head = Vec::new();
        while head.last().is_none_or(|line: &String| !line.is_empty()) {
            head.push(stream.line().await.expect("an answer begins"));
        }
        assert!(head[0].contains(" 200 "), "{head:?}");
        stream
    }
}

async fn send(stream: &mut TcpStream, line: &str, token: &str, more: &str, body: &str) -> Option<()> {
    let authorization =
        if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
    let request = format!("{line} HTTP/1.1\r\nhost: tools\r\n{authorization}{more}\r\n{body}");
    stream.write_all(request.as_bytes()).await.ok()
}

/// An answer in chunks that goes on.
pub(super) struct Stream(BufReader<TcpStream>);

impl Stream {
    /// A line without its end; `None` where the connection ended.
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line).await {
            Ok(read) if read > 0 => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }

    /// The next chunk's text: each is one line between its length and an empty line.
    pub(super) async fn next_chunk(&mut self) -> Option<String> {
        let length = self.line().await?;
        assert_ne!(length, "0", "the answer was ended in order, as if nothing had happened");
        let text = self.line().await?;
        self.line().await?;
        Some(text)
    }

    /// The next server-sent event's name and data, comments left out.
    pub(super) async fn next_event(&mut self) -> Option<(String, String)> {
        loop {
            let line = self.line().await?;
            if let Some(name) = line.strip_prefix("event: ") {
                let name = name.to_owned();
                let data = self.line().await?;
                return Some((name, data.strip_prefix("data: ")?.to_owned()));
            }
        }
    }

    /// Reads until the connection is cut in the middle of the answer.
    pub(super) async fn read_to_cut(mut self) {
        let cut = async { while self.next_chunk().await.is_some() {} };
        tokio::time::timeout(HANG, cut).await.expect("the stream is cut");
    }
}

/// Runs `haltline` as the first admin.
fn haltline(cluster: &Cluster, words: &[&str]) -> String {
    let output = Command::new(BINARY)
        .env_clear()
        .env("HALTLINE_IDENTITY", cluster.admin_directory())
        .args(words)
        .output()
        .unwrap();
    let (told, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "haltline {words:?}: {told}{complaint}");
    told.into_owned()
}

/// Enrols an edge by a join token and starts it with the example's configuration.
fn start_edge(cluster: &Cluster, host: IpAddr) -> Process {
    let config = moved(cluster, host, "edge.toml");
    let config = config.to_str().unwrap();
    let token = cluster.path().join("gateway.join");
    let token = token.to_str().unwrap();
    haltline(cluster, &["edge", "token", "create", "gateway", "--path", "/", "--out", token]);
    haltline(cluster, &["edge", "enrol", "--config", config, "--token-file", token]);
    let mut run = Command::new(BINARY);
    run.args(["edge", "run", "--config", config]);
    Process::start(run, cluster, "edge")
}

/// A file of the example in the cluster's directory, with its addresses on the cluster's own loopback address.
fn moved(cluster: &Cluster, host: IpAddr, file: &str) -> PathBuf {
    let text = fs::read_to_string(Path::new(EXAMPLE).join(file)).unwrap();
    let path = cluster.path().join(file);
    fs::write(&path, text.replace("127.0.0.1", &host.to_string())).unwrap();
    path
}
