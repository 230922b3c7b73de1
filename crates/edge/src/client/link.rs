//! The task that keeps an enforcer connected: turns to one hub after another, follows the one that serves, and does what
//! the protocol says.
//!
//! It runs on the runtime that the enforcer was connected on, as one task; fetching for the cache, renewal of the
//! certificate and everything that writes to disk or takes long run beside it. Decisions never wait for it, nor it for
//! them.

mod taking;
mod upkeep;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use haltline_core::{
    event::ChainPosition,
    ids::{EventSeq, LogIndex, Nonce},
    limits::{SYNC_CLOSE_TIMEOUT, SYNC_MESSAGE_BYTES_MAX, SYNC_OUTGOING_MAX},
    time::Millis,
};
use haltline_pki::{CertificateAlone, ClientTls, Dialer, EdgeIdentity, KnownHub, PkiError, TlsFailure};
use haltline_wire::{
    refusal::Refusal,
    v1::{self, edge_message::Message, edge_service_client::EdgeServiceClient},
};
use tokio::{sync::mpsc, sync::watch, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, transport::Channel};

use super::{
    backoff::Backoff,
    dial::{Dialled, Dials, Place},
    enforcement::{Enforcement, Wish, Wishes},
    fetch::FetchError,
    hubs::HubList,
    keeper::Wanted,
    metrics::LinkMetrics,
    protocol::{Probe, Protocol},
    refusal::SyncRefusal,
    renewal::{self, Renewal, RenewalError},
    status::Board,
};
use crate::{
    config::EdgeConfig,
    enforce::{BootClock, Clock as _},
    persist::StoredSnapshot,
};

/// What an enforcer tells of its version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How often one connection is tried again with a fresh snapshot before the next hub has its turn.
const SNAPSHOTS_PER_CONNECTION: usize = 3;

/// Why a hub doesn't serve any more.
#[derive(Debug, thiserror::Error)]
enum LinkEnd {
    /// Told to stop.
    #[error("stopped")]
    Stopped,
    #[error(transparent)]
    Connect(#[from] TlsFailure),
    #[error(transparent)]
    Fetch(FetchError),
    #[error("{}", .0.message())]
    Stream(#[from] Status),
    #[error(transparent)]
    Refused(#[from] SyncRefusal),
    /// The hub ended the stream in order, as when it stops.
    #[error("the hub ended the stream")]
    Ended,
    /// The hub can't go on from here.
    #[error("the hub needs this enforcer to fetch snapshots again and again")]
    SnapshotNeeded,
}

impl From<FetchError> for LinkEnd {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Refused(refusal) => Self::Refused(refusal),
            other => Self::Fetch(other),
        }
    }
}

impl LinkEnd {
    fn code(&self) -> String {
        match self {
            Self::Stopped => "STOPPED".into(),
            Self::Connect(failure) => failure.code().into(),
            Self::Fetch(FetchError::Status(status)) | Self::Stream(status) => {
                Refusal::from_status(status).reason
            }
            Self::Fetch(_) => "SNAPSHOT_TIMEOUT".into(),
            Self::Refused(refusal) => refusal.code().into(),
            Self::Ended => "ENDED".into(),
            Self::SnapshotNeeded => "SNAPSHOT_NEEDED".into(),
        }
    }

    const fn refusal(&self) -> Option<&SyncRefusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// Everything that a link works with.
pub(crate) struct Parts<E> {
    pub(crate) config: EdgeConfig,
    pub(crate) identity: EdgeIdentity,
    pub(crate) protocol: Protocol,
    pub(crate) enforcement: Arc<E>,
    pub(crate) wanted: watch::Sender<Wanted>,
    pub(crate) board: Arc<Board>,
    pub(crate) metrics: LinkMetrics,
    pub(crate) stop: CancellationToken,
    pub(crate) wishes: Option<Wishes>,
}

/// See the module.
pub(crate) struct Link<E> {
    config: EdgeConfig,
    identity: EdgeIdentity,
    dialer: Dialer,
    /// Away only while a snapshot is being installed.
    protocol: Option<Box<Protocol>>,
    enforcement: Arc<E>,
    hubs: HubList,
    backoff: Backoff,
    wanted: watch::Sender<Wanted>,
    board: Arc<Board>,
    metrics: LinkMetrics,
    stop: CancellationToken,
    /// Of what hangs below, on a relay.
    wishes: Option<Wishes>,
    cached: Cached,
    renewal: Option<Renewal>,
    /// The mark that is being kept: after which event, and since when.
    kept: Option<(EventSeq, Instant)>,
}

/// The snapshot for the cache: where the last one stands, and the one that is being fetched.
struct Cached {
    seq: EventSeq,
    fetched: Option<Instant>,
    fetching: Option<JoinHandle<Result<StoredSnapshot, FetchError>>>,
}

/// A stream that is open.
struct Following {
    outgoing: mpsc::Sender<v1::EdgeMessage>,
    incoming: Streaming<v1::HubMessage>,
    /// Not sent yet; a later one takes its place.
    acknowledge: Option<(LogIndex, EventSeq)>,
    /// Before which it isn't to be sent: the hub still brings the frame to others.
    quiet_until: Option<tokio::time::Instant>,
    renewed: bool,
}

/// What came of turning to each hub.
#[derive(Debug, Clone, Copy)]
enum Round {
    /// One made this enforcer fresh, and went away later.
    Served,
    /// None did; whether one took the stream and then answered no probe.
    Failed { was_silent: bool },
}

/// What a stream was woken by.
enum Happened {
    Stop,
    Message(Result<Option<v1::HubMessage>, Status>),
    /// An acknowledgement can be sent.
    Room,
    Wish(Wish),
    Tick,
}

impl<E: Enforcement + Send + Sync + 'static> Link<E> {
    /// # Errors
    /// An identity that can't be shown in a handshake.
    pub(crate) fn new(parts: Parts<E>) -> Result<Self, PkiError> {
        let Parts { config, identity, protocol, enforcement, wanted, board, metrics, stop, wishes } = parts;
        let tls = client_tls(&identity)?;
        let patience = Millis(u64::try_from(config.connect_timeout.as_millis()).unwrap_or(u64::MAX));
        let told = identity.hubs().to_vec();
        let link = Self {
            dialer: Dialer::new(tls).with_timeout(patience),
            hubs: HubList::new(config.region.clone(), config.routes.clone(), &config.relays, told),
            backoff: Backoff::new(config.backoff_min, config.backoff_max),
            cached: Cached { seq: protocol.held().position.seq, fetched: None, fetching: None },
            protocol: Some(Box::new(protocol)),
            renewal: None,
            kept: None,
            config,
            identity,
            enforcement,
            wanted,
            board,
            metrics,
            stop,
            wishes,
        };
        link.tell(|_| {});
        Ok(link)
    }

    fn protocol(&mut self) -> &mut Protocol {
        self.protocol.as_mut().expect("the protocol is away only while `install` waits for it")
    }

    fn held(&self) -> (LogIndex, ChainPosition) {
        self.protocol.as_ref().map_or_else(Default::default, |protocol| {
            let held = protocol.held();
            (held.index, held.position)
        })
    }

    /// Keeps the enforcer connected until it is stopped.
    pub(crate) async fn run(mut self) {
        while !self.stop.is_cancelled() {
            let wait = match self.round().await {
                Round::Served => {
                    self.backoff.succeeded();
                    self.backoff.turning(random_u32())
                }
                Round::Failed { was_silent } => {
                    let staleness = self.enforcement.smallest_staleness();
                    self.backoff.failed(was_silent, staleness, random_u32())
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.keep_mark();
    }

    /// Turns to each hub in turn until one has served.
    async fn round(&mut self) -> Round {
        let round = self.hubs.round(random_u32);
        if round.is_empty() {
            let remedy = "no hub is known; enrol this enforcer anew or configure `hubs.relays`";
            self.note("NO_HUBS", remedy, None);
        }
        let (mut all_behind, mut any_behind, mut was_silent) = (!round.is_empty(), false, false);
        let places = round.into_iter().map(|hub| Place { endpoint: self.hubs.route(&hub), hub }).collect();
        let mut dials = Dials::new(self.dialer.clone(), places);
        loop {
            let dialled = tokio::select! {
                () = self.stop.cancelled() => return Round::Failed { was_silent },
                dialled = dials.next() => dialled,
            };
            let Some(Dialled { hub, took, channel }) = dialled else { break };
            let (served, end) = match channel {
                Ok(channel) => {
                    self.hubs.measured(&hub, took);
                    self.turn_to(&hub, channel).await
                }
                Err(failure) => (false, failure.into()),
            };
            if self.stop.is_cancelled() {
                return Round::Failed { was_silent };
            }
            self.failed(&hub, &end);
            if served {
                self.hubs.failed(&hub);
                return Round::Served;
            }
            let is_behind = matches!(end, LinkEnd::Refused(SyncRefusal::HubBehind { .. }));
            (all_behind, any_behind) = (all_behind && is_behind, any_behind || is_behind);
            was_silent |= matches!(end, LinkEnd::Refused(SyncRefusal::Silent { .. }));
        }
        // One that made events up may be among the hubs, and never say that it is behind.
        if all_behind || (any_behind && self.protocol().holds_unproven()) {
            self.protocol().start_over();
        }
        Round::Failed { was_silent }
    }

    /// Follows a hub that has answered to the end, with snapshots where it takes them.
    async fn turn_to(&mut self, hub: &KnownHub, channel: Channel) -> (bool, LinkEnd) {
        self.metrics.connection();
        self.board.write(|told| told.hub = Some(hub.clone()));
        let mut client = EdgeServiceClient::new(channel).max_decoding_message_size(SYNC_MESSAGE_BYTES_MAX);
        let mut served = false;
        let end = self.serve_by(hub, &mut client, &mut served).await;
        self.protocol().closed(end.refusal());
        self.enforcement.disconnected();
        self.board.write(|told| (told.connected, told.hub) = (false, None));
        self.metrics.connected.set(0);
        (served, end)
    }

    async fn serve_by(
        &mut self,
        hub: &KnownHub,
        client: &mut EdgeServiceClient<Channel>,
        served: &mut bool,
    ) -> LinkEnd {
        for _ in 0..=SNAPSHOTS_PER_CONNECTION {
            if self.protocol().must_start_over()
                && let Err(end) = self.fetch_and_install(client).await
            {
                return end;
            }
            let end = match self.open(hub, client).await {
                Ok(mut following) => {
                    let end = self.follow(&mut following, client).await;
                    *served |= following.renewed;
                    end
                }
                Err(end) => end,
            };
            if !matches!(end, LinkEnd::SnapshotNeeded) {
                return end;
            }
            self.protocol().closed(None);
            self.enforcement.disconnected();
            if let Err(end) = self.fetch_and_install(client).await {
                return end;
            }
        }
        LinkEnd::SnapshotNeeded
    }

    /// Opens the stream: Hello, and the first probe right behind it.
    async fn open(
        &mut self,
        hub: &KnownHub,
        client: &mut EdgeServiceClient<Channel>,
    ) -> Result<Following, LinkEnd> {
        let (outgoing, queue) = mpsc::channel(SYNC_OUTGOING_MAX);
        let region = self.config.region.to_string();
        let hello = self.protocol().opened(hub.endpoint.node(), BootClock.now(), VERSION, &region);
        send(&outgoing, Message::Hello(hello));
        self.probe(&outgoing);
        let patience = Duration::from_millis(self.patience().0);
        let call = tokio::time::timeout(patience, client.sync(ReceiverStream::new(queue)));
        let incoming = tokio::select! {
            () = self.stop.cancelled() => return Err(LinkEnd::Stopped),
            response = call => match response {
                Ok(response) => response?.into_inner(),
                Err(_) => {
                    let waited_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
                    return Err(SyncRefusal::Silent { waited_ms }.into());
                }
            },
        };
        Ok(Following { outgoing, incoming, acknowledge: None, quiet_until: None, renewed: false })
    }

    /// Follows an open stream to its end.
    async fn follow(&mut self, following: &mut Following, client: &EdgeServiceClient<Channel>) -> LinkEnd {
        loop {
            let wake = self.until_due();
            let happened = tokio::select! {
                () = self.stop.cancelled() => Happened::Stop,
                message = following.incoming.message() => Happened::Message(message),
                // Nobody else sends, so the room stays until something is put there.
                room = room(&following.outgoing, following.quiet_until), if following.acknowledge.is_some() => {
                    if room.is_ok() { Happened::Room } else { Happened::Message(Ok(None)) }
                }
                wish = next_wish(&mut self.wishes) => Happened::Wish(wish),
                () = tokio::time::sleep(wake) => Happened::Tick,
            };
            let result = match happened {
                Happened::Stop => {
                    take_leave(following).await;
                    Err(LinkEnd::Stopped)
                }
                Happened::Message(Ok(Some(message))) => self.take(following, message),
                Happened::Message(Ok(None)) => Err(LinkEnd::Ended),
                Happened::Message(Err(status)) => Err(status.into()),
                Happened::Room => {
                    self.acknowledge(following);
                    Ok(())
                }
                Happened::Wish(wish) => {
                    self.grant(wish, following, client);
                    Ok(())
                }
                Happened::Tick => self.tick(following, client).await,
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    fn acknowledge(&mut self, following: &mut Following) {
        let due = following.acknowledge.take();
        following.quiet_until = None;
        if let Some(applied) = due.and_then(|(index, seq)| self.protocol().applied(index, seq)) {
            send(&following.outgoing, Message::Applied(applied));
        }
    }

    /// Does what something below wishes for, as far as this hub serves.
    fn grant(&mut self, wish: Wish, following: &mut Following, client: &EdgeServiceClient<Channel>) {
        match wish {
            // As for its own probes: while the hub reads nothing none is made.
            Wish::Probe(nonce) if following.outgoing.capacity() > 0 => {
                let staleness = self.enforcement.smallest_staleness();
                if let Some(probe) = self.protocol().probe_for(nonce, BootClock.now(), staleness) {
                    send(&following.outgoing, Message::Probe(probe));
                }
            }
            Wish::Probe(_) => {}
            Wish::Snapshot(wished) => {
                let fetching = self.fetch_verified(client);
                tokio::spawn(async move {
                    match fetching.await {
                        // Whoever gave up asks again.
                        Ok(snapshot) => drop(wished.send(snapshot)),
                        Err(error) => tracing::info!(%error, "no snapshot for those below"),
                    }
                });
            }
            Wish::Acknowledge => {
                let (index, position) = self.held();
                following.acknowledge = self.enforcement.may_acknowledge(index, position.seq);
            }
            Wish::Renew { request, renewed } => {
                let asking = renewal::ask(client.clone(), request);
                tokio::spawn(async move {
                    match asking.await {
                        // Whoever gave up asks again.
                        Ok(chain) => drop(renewed.send(Ok(chain))),
                        Err(RenewalError::Status(status)) => drop(renewed.send(Err(status))),
                        Err(error) => tracing::info!(%error, "no renewed certificate for somebody below"),
                    }
                });
            }
        }
    }

    /// What comes due by time: a probe, a look at the hub's silence, the certificate and the cache.
    async fn tick(
        &mut self,
        following: &Following,
        client: &EdgeServiceClient<Channel>,
    ) -> Result<(), LinkEnd> {
        let patience = self.patience();
        self.protocol().check_silence(BootClock.now(), patience)?;
        self.probe(&following.outgoing);
        self.look_at_certificate(client).await;
        if following.renewed {
            self.look_at_cache(client).await;
        }
        Ok(())
    }

    /// Sends the probe that is due. While the hub reads nothing none is made: its nonce would only be forgotten.
    fn probe(&mut self, outgoing: &mpsc::Sender<v1::EdgeMessage>) {
        if outgoing.capacity() == 0 {
            return;
        }
        let staleness = self.enforcement.smallest_staleness();
        let Some(nonce) = random_nonce() else { return };
        let random = || Probe { nonce, jitter: random_u32() };
        if let Some(probe) = self.protocol().probe(BootClock.now(), random, staleness) {
            send(outgoing, Message::Probe(probe));
        }
    }

    /// How long until a probe is due, or the hub has been silent for too long.
    fn until_due(&self) -> Duration {
        let due = self.protocol.as_ref().and_then(|protocol| protocol.next_due(self.patience()));
        Duration::from_nanos(due.unwrap_or_default().since(BootClock.now()).0)
    }

    /// How long a hub may leave probes unanswered.
    fn patience(&self) -> Millis {
        self.backoff.patience(self.enforcement.smallest_staleness())
    }
}

/// Room for an acknowledgement, once the hub wants to hear it. Cancel safe.
async fn room(
    outgoing: &mpsc::Sender<v1::EdgeMessage>,
    quiet_until: Option<tokio::time::Instant>,
) -> Result<mpsc::Permit<'_, v1::EdgeMessage>, mpsc::error::SendError<()>> {
    if let Some(until) = quiet_until {
        tokio::time::sleep_until(until).await;
    }
    outgoing.reserve().await
}

/// The next wish; never, where nothing hangs below.
async fn next_wish(wishes: &mut Option<Wishes>) -> Wish {
    match wishes {
        Some(wishes) => match wishes.recv().await {
            Some(wish) => wish,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Ends the stream in order, so that the hub hears it now and not from a timeout.
async fn take_leave(following: &mut Following) {
    let (closed, _) = mpsc::channel(1);
    following.outgoing = closed;
    let drain = async { while let Ok(Some(_)) = following.incoming.message().await {} };
    // Whoever doesn't answer is left without a word.
    let _ = tokio::time::timeout(Duration::from_millis(SYNC_CLOSE_TIMEOUT.0), drain).await;
}

fn client_tls(identity: &EdgeIdentity) -> Result<ClientTls, PkiError> {
    ClientTls::new(identity.tls(), identity.bundle(), Arc::new(CertificateAlone))
}

/// Room was looked for before; a stream that is over loses it, as it would on its way.
fn send(outgoing: &mpsc::Sender<v1::EdgeMessage>, message: Message) {
    let _ = outgoing.try_send(v1::EdgeMessage { message: Some(message) });
}

fn random_u32() -> u32 {
    let mut bytes = [0; 4];
    // Only for spreading load: without randomness everybody comes at the end of the wait.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = [255; 4];
    }
    u32::from_ne_bytes(bytes)
}

/// 256 random bits. Without them no probe may go out: its answer could be one that was given before.
fn random_nonce() -> Option<Nonce> {
    let mut nonce = [0; 32];
    match getrandom::fill(&mut nonce) {
        Ok(()) => Some(Nonce(nonce)),
        Err(error) => {
            tracing::error!(%error, "no randomness for probes; nothing is permitted once the lease ends");
            None
        }
    }
}
