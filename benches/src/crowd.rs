//! Thousands of clients in one process that weigh as little as they can, the same for every system that is measured: HTTP/2
//! itself without a client library above it, one task for each connection with all its streams, and threads of their own,
//! so that whoever measures isn't in line behind them.

use std::{
    future::Future,
    net::Ipv4Addr,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::stream::{FuturesUnordered, Stream as _};
use h2::{RecvStream, SendStream, client::SendRequest};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::TcpStream,
    runtime::{Builder, Runtime},
    sync::Semaphore,
};
use tonic::codegen::http::{Request, header::CONTENT_TYPE};

use crate::{arrivals::Arrivals, failure::Failure, floor};

/// Connections that are opened at once.
const DIALS_AT_ONCE: usize = 64;
/// How long all of them may take to be in step.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// Bytes before each message of gRPC.
const PREFIX_BYTES: usize = 5;
/// Bytes that a server may send ahead, on a stream and on a connection, as client libraries allow: with less, a hundred
/// streams with a small message each look like an attack to HTTP/2.
const STREAM_WINDOW_BYTES: u32 = 2 * 1_024 * 1_024;
const CONNECTION_WINDOW_BYTES: u32 = 5 * 1_024 * 1_024;
/// How long whoever keeps silent waits before it looks again.
const SILENCE: Duration = Duration::from_millis(10);

/// One client's side of one stream.
pub(crate) trait Talk: Send + 'static {
    /// The call.
    const PATH: &'static str;

    /// What it says first.
    fn opening(&mut self) -> Vec<Bytes>;

    /// Takes a message; what it answers at once.
    fn hear(&mut self, message: &[u8]) -> Result<Option<Bytes>, String>;

    /// When it will say something by itself.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// What it says then.
    fn say(&mut self) -> Option<Bytes> {
        None
    }

    /// It doesn't listen.
    fn is_silent(&self) -> bool {
        false
    }
}

/// Bytes to and from a server.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<W: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for W {}

/// A message as gRPC sends it.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + length);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(length).expect("what clients say is short"));
    message.encode(&mut buffer).expect("the buffer grows");
    buffer.freeze()
}

/// How the clients do.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) ready: AtomicU64,
    broken: AtomicU64,
    first_fault: OnceLock<String>,
}

impl Health {
    fn broke(&self, fault: String) {
        let _ = self.first_fault.set(fault);
        self.broken.fetch_add(1, Ordering::Relaxed);
    }
}

/// See the module. Its clients end when it is dropped.
pub(crate) struct Crowd {
    runtime: Option<Runtime>,
    dials: Arc<Semaphore>,
    system: &'static str,
    pub(crate) health: Arc<Health>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Crowd {
    pub(crate) fn new(system: &'static str) -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread().thread_name("crowd").enable_all().build();
        let runtime = Some(runtime.map_err(Failure::local("start threads"))?);
        Ok(Self { runtime, dials: Arc::new(Semaphore::new(DIALS_AT_ONCE)), system, health: Arc::default() })
    }

    /// One more connection, with so many streams.
    pub(crate) fn connect<T: Talk, W: Wire>(
        &self,
        dial: impl Future<Output = Result<W, String>> + Send + 'static,
        talks: Vec<T>,
    ) {
        let (health, dials) = (Arc::clone(&self.health), Arc::clone(&self.dials));
        let runtime = self.runtime.as_ref().expect("it is there until the crowd is dropped");
        runtime.spawn(async move {
            let dialled = async {
                let _place = dials.acquire().await.map_err(|error| error.to_string())?;
                dial.await
            };
            let ended = match dialled.await {
                Ok(wire) => hold(wire, talks).await,
                Err(fault) => Err(fault),
            };
            health.broke(ended.err().unwrap_or_else(|| "it ended".to_owned()));
        });
    }

    /// One more plain connection that only listens: each of its messages is a stop.
    pub(crate) fn listen(&self, port: u16, watcher: usize, arrivals: &Arc<Arrivals>) {
        let (health, arrivals) = (Arc::clone(&self.health), Arc::clone(arrivals));
        let dials = Arc::clone(&self.dials);
        let runtime = self.runtime.as_ref().expect("it is there until the crowd is dropped");
        runtime.spawn(async move {
            let listening = async {
                let place = dials.acquire().await.map_err(std::io::Error::other)?;
                let mut wire = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                drop(place);
                health.ready.fetch_add(1, Ordering::Relaxed);
                loop {
                    wire.read_exact(&mut [0; floor::STOP.len()]).await?;
                    arrivals.arrived(watcher);
                }
            };
            let ended: std::io::Result<()> = listening.await;
            health.broke(ended.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string()));
        });
    }

    /// Waits until something holds of the clients, none of which may break before.
    pub(crate) async fn wait_until(
        &self,
        expected: &'static str,
        mut is_so: impl FnMut(&Health) -> bool,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        while !is_so(&self.health) {
            let broken = self.health.broken.load(Ordering::Relaxed);
            if broken > 0 {
                let fault = self.health.first_fault.get().map_or("it ended", String::as_str);
                let reason = format!("{broken} connections broke, the first because: {fault}");
                return Err(Failure::Call { system: self.system, reason });
            }
            if began.elapsed() > READY_WITHIN {
                let waited_ms = began.elapsed().as_millis();
                return Err(Failure::NotReady { system: self.system, expected, waited_ms, logs: None });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// One connection and its streams, until one of them ends.
async fn hold<T: Talk>(wire: impl Wire, talks: Vec<T>) -> Result<(), String> {
    let handshake = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake(wire);
    let (sender, mut connection) = handshake.await.map_err(|error| error.to_string())?;
    let mut streams: FuturesUnordered<_> =
        talks.into_iter().map(|talk| follow(sender.clone(), talk)).collect();
    drop(sender);
    std::future::poll_fn(move |cx| {
        // What came is given to the streams, and what they say to that is written.
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(ended.map_err(|error| error.to_string()));
        }
        match Pin::new(&mut streams).poll_next(cx) {
            Poll::Ready(ended) => Poll::Ready(ended.unwrap_or(Ok(()))),
            Poll::Pending => match Pin::new(&mut connection).poll(cx) {
                Poll::Ready(ended) => Poll::Ready(ended.map_err(|error| error.to_string())),
                Poll::Pending => Poll::Pending,
            },
        }
    })
    .await
}

async fn follow<T: Talk>(sender: SendRequest<Bytes>, mut talk: T) -> Result<(), String> {
    let (mut up, mut down) = open(sender, &mut talk).await.map_err(|error| error.to_string())?;
    let mut unread = BytesMut::new();
    loop {
        while talk.is_silent() {
            tokio::time::sleep(SILENCE).await;
        }
        let piece = match talk.due() {
            None => down.data().await,
            Some(due) => tokio::select! {
                piece = down.data() => piece,
                () = tokio::time::sleep_until(due.into()) => {
                    tell(&mut up, talk.say())?;
                    continue;
                }
            },
        };
        let piece = piece.ok_or("the server ended it")?.map_err(|error| error.to_string())?;
        down.flow_control().release_capacity(piece.len()).map_err(|error| error.to_string())?;
        // Nearly always one message.
        if unread.is_empty() && whole(&piece) == Some(piece.len()) {
            tell(&mut up, talk.hear(&piece[PREFIX_BYTES..])?)?;
            continue;
        }
        unread.extend_from_slice(&piece);
        while let Some(length) = whole(&unread) {
            tell(&mut up, talk.hear(&unread[PREFIX_BYTES..length])?)?;
            unread.advance(length);
        }
    }
}

/// How long the first message is with its prefix, if it is there as a whole.
fn whole(bytes: &[u8]) -> Option<usize> {
    let [_, length @ ..] = *bytes.first_chunk::<PREFIX_BYTES>()?;
    let length = PREFIX_BYTES + u32::from_be_bytes(length) as usize;
    (bytes.len() >= length).then_some(length)
}

fn tell(up: &mut SendStream<Bytes>, message: Option<Bytes>) -> Result<(), String> {
    match message {
        Some(message) => up.send_data(message, false).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

async fn open<T: Talk>(
    sender: SendRequest<Bytes>,
    talk: &mut T,
) -> Result<(SendStream<Bytes>, RecvStream), h2::Error> {
    let request = Request::post(format!("https://127.0.0.1{}", T::PATH))
        .header(CONTENT_TYPE, "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("all parts are written here");
    let mut sender = sender.ready().await?;
    let (response, mut up) = sender.send_request(request, false)?;
    for message in talk.opening() {
        up.send_data(message, false)?;
    }
    Ok((up, response.await?.into_body()))
}
