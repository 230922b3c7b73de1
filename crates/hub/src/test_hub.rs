//! A hub with a source that a test plays, and enforcers that a test speaks for.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use haltline_core::{
    LogIndex,
    attest::{FreshStatement, SnapshotStatement},
    command::EnforcerKind,
    event::{ChainPosition, EnforcementEvent, FleetPolicy, KillForce},
    ids::{ClusterId, Digest, EdgeName, EventSeq, Incarnation, KeyHash, KillId, NodeId, Nonce},
    lease::{BootNanos, Drift, Nanos},
    path::{AgentPath, FleetPath},
    selector::Selector,
    text::Labels,
    time::{ClusterTime, Millis, WallTime},
    view::View,
};
use haltline_pki::{PeerIdentity, StatementSigner, Subject, UnixSeconds};
use haltline_wire::{
    refusal::Refusal,
    v1::{self, edge_message::Message as Says, hub_message::Message as Said},
};
use http_body::Body as _;
use parking_lot::Mutex;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, watch};
use tonic::Status;

use crate::{
    Admitted, BootClock, Entry, Feed, FeedEnd, Hub, HubOptions, Origin, SignedView, Start, Statement,
    Upstream, UpstreamError,
    core::Patience,
    framing::{self, PREFIX_BYTES},
    stream::SyncStream,
    test_body::{TestBody, TestBodySender},
};

pub(crate) const CLUSTER: ClusterId = ClusterId([7; 16]);
pub(crate) const NODE: NodeId = NodeId(3);
/// What the tests' streams may rest on.
pub(crate) const STALENESS: Millis = Millis(2_000);

/// A clock that a test moves.
#[derive(Debug, Default)]
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn advance(&self, by: Millis) {
        self.0.fetch_add(Nanos::from(by).0, Ordering::SeqCst);
    }
}

impl BootClock for TestClock {
    fn now(&self) -> BootNanos {
        BootNanos(self.0.load(Ordering::SeqCst))
    }
}

#[derive(Debug)]
struct Log {
    incarnation: Incarnation,
    index: LogIndex,
    view: View,
    /// All entries, from the first on.
    entries: Vec<Entry>,
    /// Feeds begun before this are told that they jumped.
    epoch: u64,
}

/// The source.
#[derive(Debug)]
pub(crate) struct FakeSource {
    log: Mutex<Log>,
    newest: watch::Sender<u64>,
    registered: Mutex<BTreeMap<EdgeName, Admitted>>,
    pub(crate) signer: StatementSigner,
    /// One permit for each barrier that may pass.
    pub(crate) barriers: Arc<Semaphore>,
    pub(crate) barriers_begun: AtomicU64,
    pub(crate) snapshots_made: AtomicU64,
    staleness: AtomicU64,
    lie: Mutex<Option<ChainPosition>>,
}

impl FakeSource {
    pub(crate) fn new() -> Arc<Self> {
        let log = Log {
            incarnation: Incarnation(1),
            index: LogIndex(0),
            view: View::default(),
            entries: Vec::new(),
            epoch: 0,
        };
        Arc::new(Self {
            log: Mutex::new(log),
            newest: watch::Sender::new(0),
            registered: Mutex::default(),
            signer: StatementSigner::generate().unwrap(),
            barriers: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            barriers_begun: AtomicU64::new(0),
            snapshots_made: AtomicU64::new(0),
            staleness: AtomicU64::new(STALENESS.0),
            lie: Mutex::default(),
        })
    }

    /// One more entry, with these events.
    pub(crate) fn commit(&self, events: &[EnforcementEvent]) -> LogIndex {
        let mut log = self.log.lock();
        log.index = log.index.next();
        events.iter().for_each(|event| log.view.apply(event));
        let entry = Entry::new(log.index, events, log.view.position);
        log.entries.push(entry);
        let index = log.index;
        drop(log);
        self.newest.send_modify(|newest| *newest += 1);
        index
    }

    pub(crate) fn commit_agents(&self, count: usize) -> LogIndex {
        let events: Vec<_> = (0..count).map(agent_set).collect();
        self.commit(&events)
    }

    /// Entries vanish from the feed, as when a node takes up a snapshot.
    pub(crate) fn jump(&self) {
        self.log.lock().epoch += 1;
        self.newest.send_modify(|newest| *newest += 1);
    }

    /// Another history altogether.
    pub(crate) fn restore(&self, incarnation: u64) {
        let mut log = self.log.lock();
        log.incarnation = Incarnation(incarnation);
        log.view = View::default();
        log.entries.clear();
        log.epoch += 1;
        drop(log);
        self.newest.send_modify(|newest| *newest += 1);
    }

    pub(crate) fn register(&self, admitted: Admitted) {
        self.registered.lock().insert(admitted.name.clone(), admitted);
    }

    pub(crate) fn set_staleness(&self, staleness: Millis) {
        self.staleness.store(staleness.0, Ordering::SeqCst);
    }

    /// Statements name this position instead of the true one.
    pub(crate) fn lie_about(&self, chain: ChainPosition) {
        *self.lie.lock() = Some(chain);
    }

    pub(crate) fn chain(&self) -> ChainPosition {
        self.log.lock().view.position
    }
}

/// A cursor into the source.
pub(crate) struct FakeFeed {
    source: Arc<FakeSource>,
    newest: watch::Receiver<u64>,
    epoch: u64,
    next: usize,
}

impl Feed for FakeFeed {
    async fn next(&mut self) -> Result<Entry, FeedEnd> {
        loop {
            if let Some(entry) = self.try_next()? {
                return Ok(entry);
            }
            self.newest.changed().await.map_err(|_| FeedEnd::Stopping)?;
        }
    }

    fn try_next(&mut self) -> Result<Option<Entry>, FeedEnd> {
        self.newest.mark_unchanged();
        let log = self.source.log.lock();
        if log.epoch != self.epoch {
            return Err(FeedEnd::Jumped);
        }
        let entry = log.entries.get(self.next).cloned();
        self.next += usize::from(entry.is_some());
        Ok(entry)
    }
}

/// The source as a hub sees it.
#[derive(Debug)]
pub(crate) struct FakeUpstream(pub(crate) Arc<FakeSource>);

impl Upstream for FakeUpstream {
    type Feed = FakeFeed;

    fn origin(&self) -> Origin {
        Origin { cluster: CLUSTER, node: NODE }
    }

    async fn follow(&self) -> Result<Start<FakeFeed>, UpstreamError> {
        let log = self.0.log.lock();
        let newest = self.0.newest.subscribe();
        let feed = FakeFeed { source: self.0.clone(), newest, epoch: log.epoch, next: log.entries.len() };
        Ok(Start { incarnation: log.incarnation, index: log.index, chain: log.view.position, feed })
    }

    async fn fresh(&self, root: Nonce) -> Result<Statement, UpstreamError> {
        self.0.barriers_begun.fetch_add(1, Ordering::SeqCst);
        let passed = self.0.barriers.acquire().await.map_err(|_| UpstreamError::Stopping)?;
        passed.forget();
        let log = self.0.log.lock();
        let chain = self.0.lie.lock().unwrap_or(log.view.position);
        let index = log.index;
        let statement = FreshStatement {
            cluster_id: CLUSTER,
            incarnation: log.incarnation,
            index,
            event_seq: chain.seq,
            chain_head: chain.head,
            cluster_time: ClusterTime(index.0),
            root: Digest(root.0),
        };
        let signature = self.0.signer.sign(&statement.to_bytes());
        let cluster_time = statement.cluster_time;
        Ok(Statement { node: NODE, index, chain, cluster_time, signature, layers: vec![] })
    }

    async fn snapshot(&self) -> Result<SignedView, UpstreamError> {
        self.0.snapshots_made.fetch_add(1, Ordering::SeqCst);
        let log = self.0.log.lock();
        let body = Bytes::from(log.view.encode());
        let (chain, index) = (log.view.position, log.index);
        let statement = SnapshotStatement {
            cluster_id: CLUSTER,
            incarnation: log.incarnation,
            index,
            event_seq: chain.seq,
            chain_head: chain.head,
            body_sha256: Digest(Sha256::digest(&body).into()),
            cluster_time: ClusterTime(index.0),
            wall_time: WallTime(0),
        };
        let header = v1::ViewHeader {
            incarnation: log.incarnation.0,
            index: index.0,
            event_seq: chain.seq.0,
            chain_head: chain.head.0.to_vec(),
            cluster_time_ms: index.0,
            wall_time_ms: 0,
            body_sha256: statement.body_sha256.0.to_vec(),
            body_bytes: body.len() as u64,
            node: NODE.0,
            signature: self.0.signer.sign(&statement.to_bytes()).to_vec(),
        };
        Ok(SignedView { header, body })
    }

    fn admit(&self, peer: &PeerIdentity) -> Result<Admitted, Refusal> {
        let refused = || Refusal::new(tonic::Code::PermissionDenied, "UNREGISTERED", "nobody knows this key");
        let Subject::Edge(name) = &peer.subject else { return Err(refused()) };
        self.0.registered.lock().get(name).cloned().ok_or_else(refused)
    }

    fn staleness(&self, _: &[Option<FleetPath>]) -> Millis {
        Millis(self.0.staleness.load(Ordering::SeqCst))
    }
}

pub(crate) fn admitted(name: &str) -> Admitted {
    Admitted {
        name: name.parse().unwrap(),
        kind: EnforcerKind::Edge,
        trusted_for_acks: false,
        paths: vec![None],
    }
}

pub(crate) fn peer(name: &str) -> PeerIdentity {
    PeerIdentity {
        subject: Subject::Edge(name.parse().unwrap()),
        key_hash: KeyHash([0; 32]),
        not_after: UnixSeconds::now(),
        remote_addr: "127.0.0.1:7".parse().unwrap(),
    }
}

pub(crate) fn agent_set(number: usize) -> EnforcementEvent {
    let path: AgentPath = format!("acme/fleet/agent-{number}").parse().unwrap();
    EnforcementEvent::AgentSet { path, labels: Labels::none() }
}

pub(crate) fn kill_set(number: u64) -> EnforcementEvent {
    let (kill, force) = (KillId(number), KillForce::Denying);
    EnforcementEvent::KillSet { kill, selector: Selector::default(), force }
}

pub(crate) fn fleet_set() -> EnforcementEvent {
    EnforcementEvent::FleetSet { path: "acme".parse().unwrap(), policy: FleetPolicy::default() }
}

/// A hub under test.
pub(crate) struct TestHub {
    pub(crate) source: Arc<FakeSource>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) hub: Hub<FakeUpstream>,
}

impl TestHub {
    /// A hub that is ready, with an hour of running behind it.
    pub(crate) async fn start() -> Self {
        Self::start_over(FakeSource::new()).await
    }

    pub(crate) async fn start_over(source: Arc<FakeSource>) -> Self {
        let hub = Self::start_young(source).await;
        hub.clock.advance(Millis(3_600_000));
        hub
    }

    /// A hub that has just started.
    pub(crate) async fn start_young(source: Arc<FakeSource>) -> Self {
        Self::start_patient(source, Patience::default()).await
    }

    /// A hub that gives up at once.
    pub(crate) async fn start_impatient() -> Self {
        let patience = Duration::from_millis(1);
        Self::start_patient(
            FakeSource::new(),
            Patience { hello: patience, lag: patience, catch_up: patience },
        )
        .await
    }

    async fn start_patient(source: Arc<FakeSource>, patience: Patience) -> Self {
        let clock = Arc::new(TestClock::default());
        let options = HubOptions { clock: clock.clone(), drift: Drift::default() };
        let hub = Hub::start_patient(Arc::new(FakeUpstream(source.clone())), options, patience);
        wait_for("the hub is ready", || hub.is_ready()).await;
        Self { source, clock, hub }
    }

    /// An enforcer's stream, before its Hello.
    pub(crate) fn connect(&self, name: &str) -> TestEdge {
        self.source.register(admitted(name));
        self.try_connect(name).unwrap()
    }

    pub(crate) fn try_connect(&self, name: &str) -> Result<TestEdge, Refusal> {
        let (body, sender) = TestBody::new();
        let stream = self.hub.sync(&peer(name), tonic::body::Body::new(body))?;
        Ok(TestEdge::new(stream, sender))
    }

    /// An enforcer in step from the beginning of the chain, or from where the source stands.
    pub(crate) async fn follow(&self, name: &str) -> TestEdge {
        let mut edge = self.connect(name);
        edge.hello(Incarnation(1), self.source.chain());
        edge.welcome().await;
        edge
    }

    /// Waits until the hub has all entries.
    pub(crate) async fn has(&self, index: LogIndex) {
        let reached = tokio::time::timeout(PATIENCE, self.hub.reached(index)).await;
        reached.expect("the hub has the entry");
    }
}

/// What a stream says next.
#[derive(Debug)]
pub(crate) enum Next {
    Message(Said),
    /// The trailers.
    End(Refusal),
}

/// An enforcer's end of a stream, without a network between.
pub(crate) struct TestEdge {
    stream: Pin<Box<SyncStream>>,
    sender: TestBodySender,
    sequence: u64,
    /// Where it stands by what it was sent.
    pub(crate) at: ChainPosition,
    pub(crate) index: LogIndex,
    read: VecDeque<Said>,
}

impl TestEdge {
    fn new(stream: SyncStream, sender: TestBodySender) -> Self {
        let (at, index) = Default::default();
        Self { stream: Box::pin(stream), sender, sequence: 0, at, index, read: VecDeque::new() }
    }

    pub(crate) fn say(&self, says: Says) {
        self.sender.send(framing::message(&v1::EdgeMessage { message: Some(says) }));
    }

    pub(crate) fn say_bytes(&self, bytes: Bytes) {
        self.sender.send(bytes);
    }

    pub(crate) fn hello(&mut self, incarnation: Incarnation, at: ChainPosition) {
        self.at = at;
        self.say(Says::Hello(v1::Hello {
            incarnation: incarnation.0,
            index: 0,
            event_seq: at.seq.0,
            chain_head: at.head.0.to_vec(),
            version: "1.2.3".into(),
            region: "eu".into(),
        }));
    }

    pub(crate) fn probe(&mut self, nonce: u8) {
        self.sequence += 1;
        self.say(Says::Probe(v1::Probe { sequence: self.sequence, nonce: vec![nonce; 32] }));
    }

    pub(crate) fn ack(&self) {
        self.ack_events(self.at.seq, self.index);
    }

    /// Says that these events are in force, and names an index that may be anything.
    pub(crate) fn ack_events(&self, seq: EventSeq, index: LogIndex) {
        self.say(Says::Applied(v1::EdgeApplied { index: index.0, event_seq: seq.0 }));
    }

    /// Lets the stream handle what was said; what it writes is kept.
    pub(crate) fn turn(&mut self) {
        let waker = futures::task::noop_waker();
        let mut cx = Context::from_waker(&waker);
        while let Poll::Ready(Some(Ok(frame))) = self.stream.as_mut().poll_frame(&mut cx) {
            if let Ok(data) = frame.into_data() {
                self.read.push_back(read(&data));
            } else {
                panic!("the stream ended");
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Next {
        if let Some(read) = self.read.pop_front() {
            return Next::Message(read);
        }
        let polled = std::future::poll_fn(|cx| self.stream.as_mut().poll_frame(cx));
        let frame = tokio::time::timeout(PATIENCE, polled).await;
        let frame = frame.expect("the stream says something").expect("the stream is open").unwrap();
        match frame.into_data() {
            Ok(data) => Next::Message(read(&data)),
            Err(trailers) => {
                let trailers = trailers.into_trailers().unwrap_or_else(|_| panic!("trailers"));
                Next::End(Refusal::from_status(&Status::from_header_map(&trailers).unwrap()))
            }
        }
    }

    pub(crate) async fn message(&mut self) -> Said {
        match self.next().await {
            Next::Message(said) => said,
            Next::End(refusal) => panic!("the stream ended: {refusal:?}"),
        }
    }

    pub(crate) async fn ended(&mut self) -> Refusal {
        match self.next().await {
            Next::End(refusal) => refusal,
            Next::Message(said) => panic!("{said:?} instead of the end"),
        }
    }

    pub(crate) async fn welcome(&mut self) -> v1::Welcome {
        match self.message().await {
            Said::Welcome(welcome) => welcome,
            other => panic!("{other:?} instead of Welcome"),
        }
    }

    /// The next frame, checked against the chain.
    pub(crate) async fn frame(&mut self) -> v1::Frame {
        match self.message().await {
            Said::Frame(frame) => self.take(frame),
            other => panic!("{other:?} instead of a frame"),
        }
    }

    fn take(&mut self, frame: v1::Frame) -> v1::Frame {
        assert_eq!(frame.first_event_seq, self.at.seq.0);
        for event in &frame.events {
            self.at = self.at.after_bytes(event);
        }
        assert_eq!(frame.chain_head.as_ref(), self.at.head.0.as_slice());
        self.index = LogIndex(frame.index);
        frame
    }

    pub(crate) async fn fresh(&mut self) -> v1::Fresh {
        loop {
            match self.message().await {
                Said::Fresh(fresh) => return fresh,
                Said::Frame(frame) => {
                    self.take(frame);
                }
                other => panic!("{other:?} instead of Fresh"),
            }
        }
    }

    pub(crate) async fn snapshot_needed(&mut self) -> v1::snapshot_needed::Reason {
        match self.message().await {
            Said::SnapshotNeeded(needed) => needed.reason(),
            other => panic!("{other:?} instead of SnapshotNeeded"),
        }
    }

    /// Whether the stream has nothing to say now.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.turn();
        self.read.is_empty()
    }

    /// Whether something would be said, without keeping quiet about it.
    pub(crate) fn waiting(&mut self) -> &VecDeque<Said> {
        self.turn();
        &self.read
    }
}

fn read(data: &[u8]) -> Said {
    let mut data = BytesMut::from(data);
    data.advance(PREFIX_BYTES);
    v1::HubMessage::decode(data).unwrap().message.unwrap()
}

/// A time that no working machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition.
pub(crate) async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let polling = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, polling).await.is_err() {
        panic!("never saw that {what}");
    }
}
