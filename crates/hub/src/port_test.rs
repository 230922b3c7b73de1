//! A hub behind a real port: TLS, HTTP/2, and tonic's client at the other end.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
};

use haltline_core::{
    LogIndex,
    attest::SnapshotStatement,
    command::Signature,
    event::ChainPosition,
    ids::{Digest, EventSeq, Incarnation, NodeId},
    limits::{HUB_FRAME_BYTES_MAX, HUB_SNAPSHOTS_AT_ONCE, VIEW_CHUNK_BYTES_MAX},
    time::{ClusterTime, WallTime},
    view::View,
};
use haltline_pki::{
    CertificateAlone, ClientTls, ClusterPki, Dialer, EdgeIdentity, EdgeRequest, Endpoint, NewNode,
    PendingEdge, PortLimits, Roles, ServerTls, Validity, listen,
};
use haltline_wire::{
    refusal::Refusal,
    v1::{
        self, edge_message::Message as Says, edge_service_client::EdgeServiceClient,
        hub_message::Message as Said,
    },
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Streaming, transport::Channel, transport::Server};

use crate::{
    NothingElse,
    test_hub::{CLUSTER, NODE, TestHub, admitted, kill_set, wait_for},
};

/// A hub behind a port, and the cluster's keys.
struct Port {
    test: TestHub,
    pki: ClusterPki,
    address: SocketAddr,
    _stop: DropGuard,
}

impl Port {
    async fn open() -> Self {
        let test = TestHub::start().await;
        let node = NewNode { id: NodeId(1), hosts: vec!["node-1.example.com".into()] };
        let pki = ClusterPki::create_valid(&[node], Validity::leaf()).unwrap();
        let identity = &pki.nodes()[0];
        let tls = ServerTls::new(identity.tls(), identity.bundle(), Roles::EDGES, Arc::new(CertificateAlone))
            .unwrap();
        let stop = CancellationToken::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (incoming, listening) = listen(listener, tls, PortLimits::default(), &stop);
        let server = Server::builder().add_service(test.hub.service(NothingElse));
        tokio::spawn(server.serve_with_incoming(incoming));
        Self { test, pki, address: listening.local_addr().unwrap(), _stop: stop.drop_guard() }
    }

    fn identity(&self, name: &str) -> EdgeIdentity {
        let directory = tempfile::tempdir().unwrap();
        let pending = PendingEdge::open(directory.path()).unwrap();
        let name = name.parse().unwrap();
        let request = EdgeRequest::parse(pending.request()).unwrap();
        let chain = self.pki.issuers().issue_edge(&name, &request, Validity::leaf()).unwrap();
        pending.complete(&name, &chain, self.pki.bundle().clone(), Vec::new()).unwrap()
    }

    /// A registered enforcer's client.
    async fn client(&self, name: &str) -> EdgeServiceClient<Channel> {
        self.test.source.register(admitted(name));
        self.stranger(name).await
    }

    /// A client with a certificate, of whom the registry knows nothing.
    async fn stranger(&self, name: &str) -> EdgeServiceClient<Channel> {
        let (dialer, endpoint) = self.dialer(name);
        EdgeServiceClient::new(dialer.connect(&endpoint).await.unwrap())
    }

    /// A registered enforcer's client that is sent no more than this before it reads.
    fn narrow_client(&self, name: &str, window: u32) -> EdgeServiceClient<Channel> {
        self.test.source.register(admitted(name));
        let (dialer, endpoint) = self.dialer(name);
        let channel = dialer.connect_lazy_tuned(&endpoint, |tuned| tuned.initial_stream_window_size(window));
        EdgeServiceClient::new(channel.unwrap())
    }

    fn dialer(&self, name: &str) -> (Dialer, Endpoint) {
        let identity = self.identity(name);
        let tls = ClientTls::new(identity.tls(), identity.bundle(), Arc::new(CertificateAlone)).unwrap();
        (Dialer::new(tls), Endpoint::from(self.address).expecting(NodeId(1)))
    }
}

/// A stream and where it stands.
struct Synced {
    up: mpsc::Sender<v1::EdgeMessage>,
    down: Streaming<v1::HubMessage>,
    at: ChainPosition,
}

impl Synced {
    async fn open(client: &mut EdgeServiceClient<Channel>, at: ChainPosition) -> Self {
        let (up, messages) = mpsc::channel(16);
        let down = client.sync(ReceiverStream::new(messages)).await.unwrap().into_inner();
        let synced = Self { up, down, at };
        let (event_seq, chain_head) = (at.seq.0, at.head.0.to_vec());
        let hello = v1::Hello { incarnation: 1, event_seq, chain_head, ..v1::Hello::default() };
        synced.say(Says::Hello(hello)).await;
        synced
    }

    async fn say(&self, says: Says) {
        self.up.send(v1::EdgeMessage { message: Some(says) }).await.unwrap();
    }

    async fn next(&mut self) -> Option<Said> {
        let next = tokio::time::timeout(crate::test_hub::PATIENCE, self.down.message());
        next.await.expect("something is said").unwrap().map(|message| message.message.unwrap())
    }

    async fn frame(&mut self) -> v1::Frame {
        match self.next().await {
            Some(Said::Frame(frame)) => {
                assert_eq!(frame.first_event_seq, self.at.seq.0);
                for event in &frame.events {
                    self.at = self.at.after_bytes(event);
                }
                assert_eq!(frame.chain_head.as_ref(), self.at.head.0.as_slice());
                frame
            }
            other => panic!("{other:?} instead of a frame"),
        }
    }
}

#[tokio::test]
async fn an_enforcer_follows_probes_and_acknowledges_over_tls() {
    let port = Port::open().await;
    port.test.source.commit_agents(3);
    let mut client = port.client("rack-7").await;
    let mut synced = Synced::open(&mut client, ChainPosition::default()).await;
    assert!(matches!(synced.next().await, Some(Said::Welcome(welcome)) if welcome.cluster_id == CLUSTER.0));
    assert_eq!(synced.frame().await.events.len(), 3);
    let index = port.test.source.commit(&[kill_set(1)]);
    assert!(synced.frame().await.stops);
    synced.say(Says::Probe(v1::Probe { sequence: 1, nonce: vec![5; 32] })).await;
    let Some(Said::Fresh(fresh)) = synced.next().await else { panic!("no Fresh") };
    assert_eq!((fresh.index, fresh.node, fresh.nonce), (index.0, NODE.0, vec![5; 32]));
    synced.say(Says::Applied(v1::EdgeApplied { index: index.0, event_seq: synced.at.seq.0 })).await;
    wait_for("the acknowledgement came", || {
        port.test.hub.edges().first().is_some_and(|status| status.acked == index)
    })
    .await;
    drop(synced);
    wait_for("the stream is gone", || port.test.hub.edges().is_empty()).await;
    assert_eq!(port.test.hub.departed(), 1, "its lease lives on");
}

#[tokio::test]
async fn a_snapshot_is_made_once_and_followed_from_by_many() {
    let port = Port::open().await;
    let index = port.test.source.commit_agents(20_000);
    port.test.has(index).await;
    let mut client = port.client("rack-7").await;
    let mut fetches = Vec::new();
    for _ in 0..2 * HUB_SNAPSHOTS_AT_ONCE {
        let mut client = client.clone();
        fetches.push(tokio::spawn(async move { fetch(&mut client).await }));
    }
    for fetch in fetches {
        let (header, body) = fetch.await.unwrap();
        check(&port, &header, &body);
    }
    assert_eq!(port.test.source.snapshots_made.load(Ordering::SeqCst), 1);

    let (header, body) = fetch(&mut client).await;
    let view = View::decode(&body).unwrap();
    assert_eq!((view.agents.len(), header.index), (20_000, index.0));
    port.test.source.commit(&[kill_set(1)]);
    let mut synced = Synced::open(&mut client, view.position).await;
    assert!(matches!(synced.next().await, Some(Said::Welcome(_))));
    assert!(synced.frame().await.stops);
}

async fn fetch(client: &mut EdgeServiceClient<Channel>) -> (v1::ViewHeader, Vec<u8>) {
    let mut chunks = client.fetch_snapshot(v1::FetchSnapshotRequest {}).await.unwrap().into_inner();
    let (mut header, mut body) = (None, Vec::new());
    while let Some(chunk) = chunks.message().await.unwrap() {
        assert_eq!(chunk.header.is_some(), header.is_none(), "a header in the first chunk, and only there");
        header = header.or(chunk.header);
        let piece = lz4_flex::block::decompress_size_prepended(&chunk.data).unwrap();
        assert!(piece.len() <= VIEW_CHUNK_BYTES_MAX);
        body.extend(piece);
    }
    (header.unwrap(), body)
}

fn check(port: &Port, header: &v1::ViewHeader, body: &[u8]) {
    let digest = |bytes: &[u8]| Digest(bytes.try_into().unwrap());
    let statement = SnapshotStatement {
        cluster_id: CLUSTER,
        incarnation: Incarnation(header.incarnation),
        index: LogIndex(header.index),
        event_seq: EventSeq(header.event_seq),
        chain_head: digest(&header.chain_head),
        body_sha256: digest(&header.body_sha256),
        cluster_time: ClusterTime(header.cluster_time_ms),
        wall_time: WallTime(header.wall_time_ms),
    };
    let signature = Signature(header.signature.as_slice().try_into().unwrap());
    let key = port.test.source.signer.public_key();
    statement.verify(NodeId(header.node), &signature, body, |_| Some(key)).unwrap();
    assert_eq!(header.body_bytes, body.len() as u64);
}

#[tokio::test]
async fn a_client_that_doesnt_read_is_written_no_more_than_its_window() {
    let port = Port::open().await;
    const WINDOW: u32 = 65_535;
    let mut client = port.narrow_client("slow", WINDOW);
    let mut synced = Synced::open(&mut client, ChainPosition::default()).await;
    assert!(matches!(synced.next().await, Some(Said::Welcome(_))));
    let mut written = 0;
    for _ in 0..64 {
        port.test.has(port.test.source.commit_agents(1_024)).await;
        written = port.test.hub.counters().frame_bytes_sent;
    }
    // Two frames may wait beyond the window: one that doesn't fit it whole, and one in the HTTP/2 layer's hand.
    assert!(written <= u64::from(WINDOW) + 2 * (HUB_FRAME_BYTES_MAX as u64 + 256), "{written}");
    while synced.at != port.test.source.chain() {
        synced.frame().await;
    }
    // And a probe is answered after all of it.
    synced.say(Says::Probe(v1::Probe { sequence: 1, nonce: vec![5; 32] })).await;
    assert!(matches!(synced.next().await, Some(Said::Fresh(_))));
}

#[tokio::test]
async fn strangers_and_other_calls_are_refused_by_name() {
    let port = Port::open().await;
    let mut stranger = port.stranger("stranger").await;
    let refused = stranger.fetch_snapshot(v1::FetchSnapshotRequest {}).await.unwrap_err();
    assert_eq!(Refusal::from_status(&refused).reason, "UNREGISTERED");
    let (_up, messages) = mpsc::channel::<v1::EdgeMessage>(1);
    let refused = stranger.sync(ReceiverStream::new(messages)).await.unwrap_err();
    assert_eq!(Refusal::from_status(&refused).reason, "UNREGISTERED");
    let mut client = port.client("rack-7").await;
    let refused = client.renew_certificate(v1::RenewCertificateRequest::default()).await.unwrap_err();
    assert_eq!(Refusal::from_status(&refused).reason, "NOT_SERVED_HERE");
}

#[tokio::test]
async fn a_refusal_in_mid_stream_reaches_the_client_in_the_trailers() {
    let port = Port::open().await;
    let mut client = port.client("rude").await;
    let mut synced = Synced::open(&mut client, ChainPosition::default()).await;
    assert!(matches!(synced.next().await, Some(Said::Welcome(_))));
    synced.say(Says::Probe(v1::Probe { sequence: 1, nonce: vec![5; 31] })).await;
    let refusal = Refusal::from_status(&synced.down.message().await.unwrap_err());
    assert_eq!((refusal.reason.as_str(), refusal.field()), ("INVALID_FIELD", Some("probe.nonce")));
    wait_for("the stream is gone", || port.test.hub.counters().streams == 0).await;
}
