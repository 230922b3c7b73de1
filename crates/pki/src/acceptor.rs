//! The accept loop of a port: TCP, TLS, bounds, and a stream of verified connections for `serve_with_incoming`.
//!
//! Every bound has an answer: past it the connection is closed, counted, and logged with the reason. A refused peer is
//! given a moment to read the alert that says why, because closing a socket with unread bytes would throw it away.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use haltline_core::{
    limits::{
        PUBLIC_CONNECTION_LIFETIME, PUBLIC_CONNECTIONS_MAX, PUBLIC_HANDSHAKES_MAX, TLS_ACCEPTED_QUEUE_MAX,
        TLS_CONNECTIONS_MAX, TLS_HANDSHAKE_TIMEOUT, TLS_HANDSHAKES_MAX, TLS_RECHECK_INTERVAL,
        TLS_REFUSAL_LINGER,
    },
    time::Millis,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    certificate::LeafCertificate,
    connection::{PeerIdentity, PublicCaller, Slots, TlsConnection},
    failure::TlsFailure,
    port::{Port, PortCounters, RefusedBecause, RefusedConnection},
    source_limit::{SourceLimits, Sources},
    tcp,
    tls_config::{PublicTls, ServerTls},
    verify::Verdict,
};

/// How long the loop rests after `accept` failed, as it does when file descriptors run out.
const ACCEPT_BACKOFF: Millis = Millis(50);
/// Bytes that a refused peer may still send while it reads why.
const LINGER_BYTES_MAX: usize = 64 * 1_024;

/// What to do when `accept` fails.
fn advice(error: &io::Error) -> &'static str {
    let (ours, systems) = (rustix::io::Errno::MFILE, rustix::io::Errno::NFILE);
    match error.raw_os_error() {
        Some(errno) if errno == ours.raw_os_error() => {
            ": the process has no file descriptor left; raise LimitNOFILE, or close idle connections"
        }
        Some(errno) if errno == systems.raw_os_error() => {
            ": the system has no file descriptor left (fs.file-max)"
        }
        _ => "",
    }
}

/// The bounds of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortLimits {
    /// Open connections, handshakes included.
    pub connections_max: usize,
    /// Handshakes in progress.
    pub handshakes_max: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Millis,
}

impl Default for PortLimits {
    fn default() -> Self {
        Self {
            connections_max: TLS_CONNECTIONS_MAX,
            handshakes_max: TLS_HANDSHAKES_MAX,
            handshake_timeout: TLS_HANDSHAKE_TIMEOUT,
        }
    }
}

/// The bounds of a public port: fewer of everything than on the ports that know their callers, and a share for each source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicLimits {
    /// Of the port.
    pub port: PortLimits,
    /// Of each source.
    pub sources: SourceLimits,
    /// How long a connection may live.
    pub lifetime: Millis,
}

impl Default for PublicLimits {
    fn default() -> Self {
        Self {
            port: PortLimits {
                connections_max: PUBLIC_CONNECTIONS_MAX,
                handshakes_max: PUBLIC_HANDSHAKES_MAX,
                handshake_timeout: TLS_HANDSHAKE_TIMEOUT,
            },
            sources: SourceLimits::default(),
            lifetime: PUBLIC_CONNECTION_LIFETIME,
        }
    }
}

/// Starts to accept connections, on the current tokio runtime. Ends when `shutdown` is cancelled or the [`Incoming`] is
/// dropped; connections that were handed out live on until they are dropped.
#[must_use]
pub fn listen(
    listener: TcpListener,
    tls: ServerTls,
    limits: PortLimits,
    shutdown: &CancellationToken,
) -> (Incoming, Listening) {
    let port = Port::new(tls, listener.local_addr().ok(), None);
    let caller = |leaf: Option<&LeafCertificate>, remote| match leaf {
        Some(leaf) => Ok(PeerIdentity::new(leaf, remote)),
        None => Err(TlsFailure::PeerWithoutCertificate),
    };
    let incoming = Accepting::start(listener, port.clone(), limits, None, caller, shutdown);
    (incoming, Listening(port))
}

/// Starts to accept connections from anybody, on the current tokio runtime: server TLS alone, within the bounds of each
/// source. Services behind such a port find a [`PublicCaller`], and nothing that proves who calls.
#[must_use]
pub fn listen_public(
    listener: TcpListener,
    tls: PublicTls,
    limits: PublicLimits,
    shutdown: &CancellationToken,
) -> (Incoming<PublicCaller>, PublicListening) {
    let lifetime = tcp::duration(limits.lifetime);
    let port = Port::new(tls.0, listener.local_addr().ok(), Some(lifetime));
    let sources = Some(Sources::new(limits.sources));
    let caller = |_: Option<&LeafCertificate>, remote_addr| Ok(PublicCaller { remote_addr });
    let incoming = Accepting::start(listener, port.clone(), limits.port, sources, caller, shutdown);
    (incoming, PublicListening(Listening(port)))
}

/// The connections of a port, for `tonic::transport::Server::serve_with_incoming`. Its error never happens: what fails is
/// refused, counted and logged.
#[derive(Debug)]
pub struct Incoming<C = PeerIdentity>(mpsc::Receiver<TlsConnection<C>>);

impl<C> Incoming<C> {
    /// The next connection; `None` once the port is shut down.
    pub async fn accept(&mut self) -> Option<TlsConnection<C>> {
        self.0.recv().await
    }
}

impl<C> Stream for Incoming<C> {
    type Item = io::Result<TlsConnection<C>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

/// A handle on a running port. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Listening(pub(crate) Arc<Port>);

impl Listening {
    /// Shows another certificate (or asks another registry) from the next connection on.
    pub fn rotate(&self, tls: ServerTls) {
        self.0.rotate(tls);
    }

    /// Closes every open connection whose certificate has ended or whose key is no longer registered. Call it when the
    /// registry has removed a key: removal revokes at once. It also runs by itself, every ten seconds.
    pub fn recheck(&self) {
        self.0.recheck();
    }

    /// Counts since the port opened.
    #[must_use]
    pub fn counters(&self) -> PortCounters {
        self.0.counters()
    }

    /// The last refused connections, the oldest first.
    #[must_use]
    pub fn refusals(&self) -> Vec<RefusedConnection> {
        self.0.refusals()
    }

    /// Who is connected now.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerIdentity> {
        self.0.peers()
    }

    /// The address of the port, with the number that the system chose for port 0.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.local_addr
    }
}

/// A handle on a running public port. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PublicListening(pub(crate) Listening);

impl PublicListening {
    /// Shows another certificate from the next connection on.
    pub fn rotate(&self, tls: PublicTls) {
        self.0.rotate(tls.0);
    }

    /// Counts since the port opened.
    #[must_use]
    pub fn counters(&self) -> PortCounters {
        self.0.counters()
    }

    /// The last refused connections, the oldest first.
    #[must_use]
    pub fn refusals(&self) -> Vec<RefusedConnection> {
        self.0.refusals()
    }

    /// The address of the port, with the number that the system chose for port 0.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.local_addr()
    }
}

/// Tells who calls, by what the handshake has proven.
type Identify<C> = fn(Option<&LeafCertificate>, SocketAddr) -> Result<C, TlsFailure>;

/// The accept loop.
struct Accepting<C> {
    port: Arc<Port>,
    limits: PortLimits,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    sources: Option<Sources>,
    identify: Identify<C>,
    sender: mpsc::Sender<TlsConnection<C>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl<C: Send + 'static> Accepting<C> {
    fn start(
        listener: TcpListener,
        port: Arc<Port>,
        limits: PortLimits,
        sources: Option<Sources>,
        identify: Identify<C>,
        shutdown: &CancellationToken,
    ) -> Incoming<C> {
        let (sender, receiver) = mpsc::channel(TLS_ACCEPTED_QUEUE_MAX);
        let accepting = Self {
            port,
            limits,
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            handshakes: Arc::new(Semaphore::new(limits.handshakes_max)),
            sources,
            identify,
            sender,
            stop: shutdown.child_token(),
            tasks: TaskTracker::new(),
        };
        tokio::spawn(Arc::new(accepting).run(listener));
        Incoming(receiver)
    }

    async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut recheck = interval(tcp::duration(TLS_RECHECK_INTERVAL));
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_resting = false;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.sender.closed() => break,
                _ = recheck.tick() => self.port.recheck(),
                accepted = listener.accept() => match accepted {
                    Ok((stream, remote)) => {
                        is_resting = false;
                        self.take(stream, remote);
                    }
                    Err(error) => {
                        // Once, however long it lasts: connections that wait in the system's queue are taken later.
                        if !std::mem::replace(&mut is_resting, true) {
                            let port = self.port.local_addr;
                            tracing::warn!(?port, %error, "no connection can be accepted now; they wait{}", advice(&error));
                        }
                        sleep(tcp::duration(ACCEPT_BACKOFF)).await;
                    }
                },
            }
        }
        drop(listener);
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn take(self: &Arc<Self>, stream: TcpStream, remote: SocketAddr) {
        self.port.count_accepted();
        let source = match self.sources.as_ref().map(|sources| sources.admit(remote)).transpose() {
            Ok(source) => source,
            Err(because) => return self.port.refuse(remote, because),
        };
        let Ok(slot) = self.connections.clone().try_acquire_owned() else {
            let max = self.limits.connections_max;
            return self.port.refuse(remote, RefusedBecause::ConnectionsFull { max });
        };
        let Ok(handshake) = self.handshakes.clone().try_acquire_owned() else {
            let max = self.limits.handshakes_max;
            return self.port.refuse(remote, RefusedBecause::HandshakesFull { max });
        };
        let slots = Slots { _connection: slot, _source: source };
        let this = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = this.stop.cancelled() => {}
                () = this.establish(stream, remote, slots, handshake) => {}
            }
        });
    }

    async fn establish(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        slots: Slots,
        handshake: OwnedSemaphorePermit,
    ) {
        let result = self.handshake(stream, remote, slots).await;
        drop(handshake);
        match result {
            Ok(connection) => {
                // The receiver is gone only when the port is shutting down.
                let _ = self.sender.send(connection).await;
            }
            Err(Refused { because, open }) => {
                self.port.refuse(remote, because);
                if let Some((stream, _slots)) = open {
                    linger(stream).await;
                }
            }
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        slots: Slots,
    ) -> Result<TlsConnection<C>, Refused> {
        let tls = self.port.tls();
        let verdict = Verdict::default();
        let broken = |reason: String| Refused::from(TlsFailure::Broken { reason });
        tcp::tune(&stream).map_err(|error| broken(error.to_string()))?;
        let config = tls.config_for(verdict.clone()).map_err(|error| broken(error.to_string()))?;

        let accept = TlsAcceptor::from(config).accept(stream).into_fallible();
        let stream = match timeout(tcp::duration(self.limits.handshake_timeout), accept).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                let failure = verdict.failure().unwrap_or_else(|| tls.explain(&error));
                return Err(Refused { because: failure.into(), open: Some((stream, slots)) });
            }
            Err(_) => {
                let timeout_ms = self.limits.handshake_timeout.0;
                return Err(Refused { because: RefusedBecause::HandshakeTimeout { timeout_ms }, open: None });
            }
        };
        let leaf = verdict.leaf();
        let caller = (self.identify)(leaf.as_ref(), remote)?;
        let (entry, closing) = self.port.register(leaf.as_ref(), remote)?;
        let closing = Box::pin(closing.cancelled_owned());
        Ok(TlsConnection { stream, caller, closing, _entry: entry, _slots: slots })
    }
}

/// A refusal, and the socket if the peer may still read why.
struct Refused {
    because: RefusedBecause,
    open: Option<(TcpStream, Slots)>,
}

impl From<TlsFailure> for Refused {
    fn from(failure: TlsFailure) -> Self {
        Self { because: failure.into(), open: None }
    }
}

/// Ends our side and reads on for a moment, so that the peer gets the alert instead of a reset.
async fn linger(mut stream: TcpStream) {
    let drain = async {
        let mut sink = [0; 1_024];
        let mut bytes = 0;
        // Whatever fails here, the connection is over: there is nobody left to tell.
        let _ = stream.shutdown().await;
        while bytes < LINGER_BYTES_MAX {
            match stream.read(&mut sink).await {
                Ok(0) | Err(_) => break,
                Ok(read) => bytes += read,
            }
        }
    };
    let _ = timeout(tcp::duration(TLS_REFUSAL_LINGER), drain).await;
}
