//! One real node on loopback: real TLS, real disk, the generated client.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use haltline_core::{
    command::{Command, FleetCreate, KillCommand, KillMode, Request, Signature, Statement},
    ids::{ClusterId, Incarnation, PersonId, RequestId},
    policy::{Intent, Limits},
    text::Labels,
    time::{ClusterTime, Millis},
};
use haltline_node::{
    NodeConfig, NodeError, Profile, Sockets,
    init::{InitNode, InitOptions, create_cluster},
    run_on,
};
use haltline_pki::{CertificateAlone, ClientTls, Dialer, Endpoint, PersonIdentity, TlsIdentity, TrustBundle};
use haltline_wire::{
    convert,
    refusal::Refusal,
    v1::{
        self, cluster_service_client::ClusterServiceClient, command_request::Command as Message,
        edge_admin_service_client::EdgeAdminServiceClient, fleet_service_client::FleetServiceClient,
        kill_service_client::KillServiceClient, person_service_client::PersonServiceClient,
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

/// After so long a condition counts as one that never comes.
const HANG: Duration = Duration::from_secs(60);

/// A cluster of one.
pub(crate) struct Cluster {
    pub(crate) admin: PersonIdentity,
    pub(crate) config: NodeConfig,
    pub(crate) endpoint: Endpoint,
    pub(crate) http: SocketAddr,
    shutdown: CancellationToken,
    node: JoinHandle<Result<(), NodeError>>,
    home: TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(adjust: impl FnOnce(&mut NodeConfig)) -> Self {
        let sockets = sockets([SocketAddr::from(([127, 0, 0, 1], 0)); 5]);
        let address = |socket: &TcpListener| socket.local_addr().unwrap();
        let node = InitNode {
            name: "one".into(),
            api_address: address(&sockets.api).to_string(),
            raft_address: address(&sockets.raft).to_string(),
            http_address: address(&sockets.http),
            edge_address: address(&sockets.edge).to_string(),
            public_address: address(&sockets.public).to_string(),
            region: "here".into(),
        };
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("cluster");
        let options =
            InitOptions { out, nodes: vec![node], admin: "ada".parse().unwrap(), profile: Profile::Lan };
        let report = create_cluster(&options).unwrap();
        let admin = PersonIdentity::load(&report.admin_directory).unwrap();
        let mut config = NodeConfig::load(Some(&report.nodes[0].config_file)).unwrap();
        adjust(&mut config);
        let shutdown = CancellationToken::new();
        let endpoint = admin.endpoints()[0].clone();
        let http = config.listen_http;
        let node = tokio::spawn(run_on(config.clone(), sockets, shutdown.clone()));
        let cluster = Self { admin, config, endpoint, http, shutdown, node, home };
        cluster.wait_ready().await;
        cluster
    }

    pub(crate) async fn wait_ready(&self) {
        until("the node is ready", async || {
            let (code, _) = self.get("/readyz").await?;
            (code == 200).then_some(())
        })
        .await;
    }

    /// Stops the node and starts it again on the same data.
    pub(crate) async fn restart(mut self) -> Self {
        self.shutdown.cancel();
        (&mut self.node).await.unwrap().unwrap();
        let config = &self.config;
        let addresses = [
            config.listen_api,
            config.listen_raft,
            config.listen_http,
            config.listen_edge,
            config.listen_public,
        ];
        self.shutdown = CancellationToken::new();
        self.node = tokio::spawn(run_on(config.clone(), sockets(addresses), self.shutdown.clone()));
        self.wait_ready().await;
        self
    }

    /// Stops the node, which must end without an error.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.node.await.unwrap().unwrap();
        drop(self.home);
    }

    /// A page of the plain HTTP listener.
    pub(crate) async fn get(&self, path: &str) -> Option<(u16, String)> {
        page(self.http, path).await
    }

    /// The first admin at their terminal.
    pub(crate) async fn ada(&self) -> Person {
        Person::connect(self.admin.clone(), &self.endpoint).await.unwrap()
    }
}

/// A page of a plain HTTP listener: status and body.
pub(crate) async fn page(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let code = answer.split_whitespace().nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())?;
    Some((code, body))
}

pub(crate) fn sockets(addresses: [SocketAddr; 5]) -> Sockets {
    let [api, raft, http, edge, public] = addresses.map(|address| TcpListener::bind(address).unwrap());
    Sockets { api, raft, http, edge, public }
}

/// Waits until the condition gives a value.
pub(crate) async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(HANG, async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    match waited.await {
        Ok(value) => value,
        Err(_) => panic!("waited {HANG:?} in vain until {what}"),
    }
}

pub(crate) fn client_tls(identity: &TlsIdentity, bundle: &TrustBundle) -> ClientTls {
    ClientTls::new(identity, bundle, Arc::new(CertificateAlone)).unwrap()
}

/// A person with a connection.
pub(crate) struct Person {
    pub(crate) identity: PersonIdentity,
    pub(crate) channel: Channel,
}

impl Person {
    pub(crate) async fn connect(
        identity: PersonIdentity,
        endpoint: &Endpoint,
    ) -> Result<Self, haltline_pki::TlsFailure> {
        let tls = client_tls(identity.tls(), identity.bundle());
        let channel = Dialer::new(tls).connect(endpoint).await?;
        Ok(Self { identity, channel })
    }

    pub(crate) fn id(&self) -> PersonId {
        self.identity.person().clone()
    }

    pub(crate) async fn cluster(&self) -> v1::Cluster {
        let mut client = ClusterServiceClient::new(self.channel.clone());
        client.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner()
    }

    /// A signed request with a new id.
    pub(crate) async fn request(&self, command: Command) -> Request {
        let cluster = self.cluster().await;
        let mut request = Request {
            id: random_id(),
            caller: self.id().into(),
            deadline: ClusterTime(cluster.cluster_time_ms).plus(Millis(60_000)),
            signature: None,
            command,
        };
        request.signature = Some(self.sign(&cluster, &request));
        request
    }

    /// This person's signature over a request, their own or one that waits.
    pub(crate) fn sign(&self, cluster: &v1::Cluster, request: &Request) -> Signature {
        let statement = Statement {
            cluster_id: ClusterId(cluster.cluster_id[..].try_into().unwrap()),
            incarnation: Incarnation(cluster.incarnation),
            request_id: request.id,
            requester: request.caller.person().unwrap(),
            deadline: request.deadline,
            command: &request.command,
        };
        Signature(self.identity.signer().sign(&statement.to_bytes()))
    }

    /// Sends a request over the unary call that it belongs to.
    pub(crate) async fn send(&self, request: &Request) -> Result<v1::CommandReply, Refusal> {
        let channel = || self.channel.clone();
        let answer = match convert::command_request(0, request).command.unwrap() {
            Message::CreateFleet(message) => FleetServiceClient::new(channel()).create_fleet(message).await,
            Message::UpdateFleet(message) => FleetServiceClient::new(channel()).update_fleet(message).await,
            Message::DeleteFleet(message) => FleetServiceClient::new(channel()).delete_fleet(message).await,
            Message::RegisterAgent(message) => {
                FleetServiceClient::new(channel()).register_agent(message).await
            }
            Message::CreateKill(message) => KillServiceClient::new(channel()).create_kill(message).await,
            Message::Resume(message) => KillServiceClient::new(channel()).resume(message).await,
            Message::RemovePerson(message) => {
                PersonServiceClient::new(channel()).remove_person(message).await
            }
            Message::CreateJoinToken(message) => {
                EdgeAdminServiceClient::new(channel()).create_join_token(message).await
            }
            Message::DeleteJoinToken(message) => {
                EdgeAdminServiceClient::new(channel()).delete_join_token(message).await
            }
            Message::UpdateEdge(message) => EdgeAdminServiceClient::new(channel()).update_edge(message).await,
            Message::RemoveEdge(message) => EdgeAdminServiceClient::new(channel()).remove_edge(message).await,
            other => panic!("no test sends {other:?} so far"),
        };
        refused(answer)
    }

    /// Makes, signs and sends a command.
    pub(crate) async fn command(&self, command: Command) -> Result<v1::CommandReply, Refusal> {
        let request = self.request(command).await;
        self.send(&request).await
    }
}

/// The answer, or the refusal as a client reads it.
pub(crate) fn refused<T>(answer: Result<tonic::Response<T>, Status>) -> Result<T, Refusal> {
    answer.map(tonic::Response::into_inner).map_err(|status| Refusal::from_status(&status))
}

pub(crate) fn random_id() -> RequestId {
    let mut id = [0; 16];
    getrandom::fill(&mut id).unwrap();
    RequestId(id)
}

pub(crate) fn fleet(path: &str) -> Command {
    Command::FleetCreate(FleetCreate {
        path: path.parse().unwrap(),
        labels: Labels::none(),
        owner: "tests".parse().unwrap(),
        contact: "tests@example.com".parse().unwrap(),
        intent: Intent::default(),
        limits: Limits::default(),
    })
}

pub(crate) fn agent(path: &str) -> Command {
    let labels = Labels::from_pairs([("tier", if path.ends_with('0') { "gold" } else { "plain" })]).unwrap();
    Command::AgentRegister(haltline_core::command::AgentRegister { path: path.parse().unwrap(), labels })
}

pub(crate) fn kill(selector: &str) -> Command {
    Command::Kill(KillCommand {
        selector: selector.parse().unwrap(),
        mode: KillMode::Freeze,
        reason: "runaway".parse().unwrap(),
        expires_after: None,
    })
}
