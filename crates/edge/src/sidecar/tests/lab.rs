//! A sidecar before an enforcer whose view, lease and kills the test sets.

use std::{collections::HashMap, path::Path, time::Duration};

use envoy_types::pb::envoy::{
    config::core::v3::{HeaderMap, HeaderValue, HeaderValueOption},
    service::{
        auth::v3::{
            AttributeContext, CheckRequest, CheckResponse,
            attribute_context::{self, HttpRequest},
            authorization_client::AuthorizationClient,
        },
        ext_proc::v3::{
            HttpHeaders, ProcessingRequest, ProcessingResponse,
            external_processor_client::ExternalProcessorClient, processing_request::Request as Asked,
        },
    },
};
use haltline_core::{
    command::EnforcerKind,
    event::{EdgePolicy, EnforcementEvent, FleetPolicy, KillForce},
    ids::{
        ClusterId, CredentialId, EdgeName, GrantId, Incarnation, InstanceId, KeyHash, KillId, LogIndex,
        NodeId,
    },
    limits::MAX_STALENESS_CEILING,
    policy::Limits,
    text::Labels,
    time::ClusterTime,
    view::View,
};
use haltline_pki::{
    StatementSigner, UnixSeconds,
    token::{Claims, sign},
};
use parking_lot::Mutex;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, transport::Channel};

use crate::{
    config::EdgeConfig,
    enforce::{Clock, CoreOptions, EnforcerCore, FreshLease, ViewBody},
    sidecar::{Gate, Listen, Places, Sidecar, SidecarConfig, SidecarError},
};

const CLUSTER: ClusterId = ClusterId([1; 16]);
const NODE: NodeId = NodeId(1);
const BEGIN: LogIndex = LogIndex(100);
const CLUSTER_TIME: ClusterTime = ClusterTime(1_000_000);

/// An enforcer, fed by hand.
pub(super) struct Feeder {
    pub(super) core: EnforcerCore,
    signer: StatementSigner,
    index: Mutex<LogIndex>,
}

pub(super) fn edge_name() -> EdgeName {
    "edge-1".parse().unwrap()
}

fn record(fails_open: bool) -> EdgePolicy {
    EdgePolicy {
        kind: EnforcerKind::Edge,
        key: KeyHash([3; 32]),
        paths: vec![None],
        trusted_for_acks: false,
        fails_open,
    }
}

impl Feeder {
    /// One fleet with one agent, at an enforcer that has no lease yet. Knowledge may be five minutes old there, so no lease
    /// ends before its test.
    pub(super) fn new(fails_open: bool) -> Self {
        let signer = StatementSigner::generate().unwrap();
        let mut view = View::default();
        let limits = Limits { max_staleness: Some(MAX_STALENESS_CEILING), ..Limits::default() };
        for event in [
            EnforcementEvent::Founded { cluster_id: CLUSTER, incarnation: Incarnation(1) },
            EnforcementEvent::NodeKeySet { node: NODE, key: signer.public_key() },
            EnforcementEvent::FleetSet {
                path: "acme".parse().unwrap(),
                policy: FleetPolicy { limits, ..FleetPolicy::default() },
            },
            EnforcementEvent::AgentSet { path: "acme/worker".parse().unwrap(), labels: Labels::none() },
            EnforcementEvent::EdgeSet { edge: edge_name(), record: record(fails_open) },
        ] {
            view.apply(&event);
        }
        let core = EnforcerCore::new(CoreOptions::named(edge_name()));
        core.restore(ViewBody::decode(&view.encode()).unwrap(), BEGIN);
        Self { core, signer, index: Mutex::new(BEGIN) }
    }

    /// Applies an event, verified at once.
    pub(super) fn apply(&self, event: EnforcementEvent) -> LogIndex {
        let mut index = self.index.lock();
        *index = LogIndex(index.0 + 1);
        self.core.apply_provisional(&[event], *index).unwrap();
        self.core.confirm(*index, self.core.positions().applied.1).unwrap();
        *index
    }

    pub(super) fn kill(&self, number: u64, selector: &str) -> LogIndex {
        let (kill, selector) = (KillId(number), selector.parse().unwrap());
        self.apply(EnforcementEvent::KillSet { kill, selector, force: KillForce::Denying })
    }

    pub(super) fn set_fails_open(&self, fails_open: bool) {
        self.apply(EnforcementEvent::EdgeSet { edge: edge_name(), record: record(fails_open) });
    }

    /// A lease from now on.
    pub(super) fn give_lease(&self) {
        let fresh_from = self.core.clock().now();
        let index = *self.index.lock();
        self.core.publish_lease(FreshLease { fresh_from, index, cluster_time: CLUSTER_TIME }).unwrap();
    }

    /// A good token of `acme/worker`.
    pub(super) fn token(&self) -> String {
        let claims = Claims {
            issuer: "https://cluster.example".parse().unwrap(),
            audience: "haltline".parse().unwrap(),
            cluster: CLUSTER,
            credential: CredentialId([7; 16]),
            agent: "acme/worker".parse().unwrap(),
            instance: InstanceId([9; 16]),
            lineage: vec![GrantId([4; 16])],
            task: "work".parse().unwrap(),
            scope: Vec::new(),
            issued_at: UnixSeconds(1_795_461_480),
            expires_at: UnixSeconds(1_795_461_780),
            ends: ClusterTime(CLUSTER_TIME.0 + 3_600_000),
            index: LogIndex(50),
            incarnation: Incarnation(1),
            node: NODE,
        };
        sign(&self.signer, &claims).unwrap()
    }
}

/// A sidecar that serves.
pub(super) struct Lab {
    pub(super) feeder: Feeder,
    pub(super) places: Places,
    pub(super) shutdown: CancellationToken,
    pub(super) served: JoinHandle<Result<(), SidecarError>>,
    _halts: tokio_util::sync::DropGuard,
}

pub(super) fn config(keys: &str) -> SidecarConfig {
    let text = format!(
        "data_dir = \"d\"\n[sidecar]\ngrpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n\
         actions = \"POST /tools/{{tool}} => tool={{tool}}\"\n{keys}"
    );
    EdgeConfig::from_toml(&text, Path::new("")).unwrap().sidecar
}

impl Lab {
    /// A sidecar with a lease, and these keys of its configuration beside ours.
    pub(super) async fn start(keys: &str) -> Self {
        let feeder = Feeder::new(false);
        feeder.give_lease();
        Self::around(feeder, config(keys)).await.unwrap()
    }

    pub(super) async fn around(feeder: Feeder, config: SidecarConfig) -> Result<Self, SidecarError> {
        let halts = CancellationToken::new();
        tokio::spawn(feeder.core.watch_halts(halts.clone()));
        let sidecar = Sidecar::start(Gate::fed(feeder.core.clone(), edge_name()), config).await?;
        let (places, shutdown) = (sidecar.places().clone(), CancellationToken::new());
        let served = tokio::spawn(sidecar.serve(shutdown.clone()));
        Ok(Self { feeder, places, shutdown, served, _halts: halts.drop_guard() })
    }

    async fn channel(&self) -> Channel {
        let Listen::Tcp(address) = self.places.grpc else { panic!("the lab's port is TCP") };
        Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
    }

    /// What `ext_authz` is told about a request.
    pub(super) async fn check(&self, target: &str, headers: &[(&str, &str)]) -> CheckResponse {
        let headers: HashMap<_, _> =
            headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let http = HttpRequest {
            method: "POST".into(),
            path: target.into(),
            host: "tools".into(),
            headers,
            ..HttpRequest::default()
        };
        self.check_http(http).await
    }

    pub(super) async fn check_http(&self, http: HttpRequest) -> CheckResponse {
        let request = attribute_context::Request { http: Some(http), ..Default::default() };
        let attributes = AttributeContext { request: Some(request), ..Default::default() };
        let mut client = AuthorizationClient::new(self.channel().await);
        client.check(CheckRequest { attributes: Some(attributes) }).await.unwrap().into_inner()
    }

    /// A stream of `ext_proc`.
    pub(super) async fn process(&self) -> Beside {
        let (asked, stream) = mpsc::channel(4);
        let mut client = ExternalProcessorClient::new(self.channel().await);
        let answered = client.process(ReceiverStream::new(stream)).await.unwrap().into_inner();
        Beside { asked, answered }
    }

    /// A raw HTTP exchange: the whole response of a request that closes its connection.
    pub(super) async fn http(&self, request: &str, headers: &[(&str, &str)], body: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let Listen::Tcp(address) = self.places.http else { panic!("the lab's port is TCP") };
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut text = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        String::from_utf8(response).unwrap()
    }
}

/// The proxy's end of a stream of `ext_proc`.
pub(super) struct Beside {
    pub(super) asked: mpsc::Sender<ProcessingRequest>,
    pub(super) answered: Streaming<ProcessingResponse>,
}

impl Beside {
    pub(super) async fn ask(&mut self, asked: Asked) -> ProcessingResponse {
        self.asked.send(ProcessingRequest { request: Some(asked), ..Default::default() }).await.unwrap();
        self.answered.message().await.unwrap().unwrap()
    }
}

/// The headers of a request with this token, as `ext_proc` sends them.
pub(super) fn request_headers(target: &str, token: &str) -> HttpHeaders {
    let header = |(key, value): (&str, String)| HeaderValue {
        key: key.into(),
        raw_value: value.into_bytes(),
        ..HeaderValue::default()
    };
    let headers = [
        (":method", "POST".to_owned()),
        (":path", target.to_owned()),
        (":authority", "tools".to_owned()),
        ("authorization", format!("Bearer {token}")),
    ];
    let headers = Some(HeaderMap { headers: headers.into_iter().map(header).collect() });
    HttpHeaders { headers, ..HttpHeaders::default() }
}

/// A header that is set, as text, whichever of the two fields carries it.
pub(super) fn header(headers: &[HeaderValueOption], name: &str) -> Option<String> {
    let header =
        headers.iter().filter_map(|option| option.header.as_ref()).find(|header| header.key == name)?;
    let raw = String::from_utf8(header.raw_value.clone()).unwrap();
    Some(if raw.is_empty() { header.value.clone() } else { raw })
}

/// Waits until something is so.
pub(super) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    for _ in 0..3_000 {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}
