//! The two ends of an established connection, as byte streams.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use haltline_core::ids::KeyHash;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};
use tokio_rustls::{client, server};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use crate::{
    certificate::LeafCertificate,
    port::OpenEntry,
    source_limit::SourceSlot,
    subject::{Role, Subject},
    tls_config::ClientTls,
    unix_time::UnixSeconds,
};

/// Who is at the other end, proven by its certificate and admitted by the registry when it connected. A service finds it
/// in `request.extensions().get::<PeerIdentity>()`.
///
/// The registry may have changed since: a service checks [`PeerIdentity::key_hash`] where it decides (applied state is the
/// authority), and [`Listening::recheck`](crate::Listening::recheck) closes connections whose key was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Whom the certificate names.
    pub subject: Subject,
    /// The hash of its key, on which authority hangs.
    pub key_hash: KeyHash,
    /// The last second of its certificate.
    pub not_after: UnixSeconds,
    /// Where it calls from.
    pub remote_addr: SocketAddr,
}

impl PeerIdentity {
    pub(crate) fn new(leaf: &LeafCertificate, remote_addr: SocketAddr) -> Self {
        let (subject, not_after) = (leaf.subject.clone(), leaf.validity.not_after);
        Self { subject, key_hash: leaf.key_hash, not_after, remote_addr }
    }

    /// The role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.subject.role()
    }
}

/// Who calls a public port: nobody in particular, from an address. A service there finds it in
/// `request.extensions().get::<PublicCaller>()`, and never a [`PeerIdentity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicCaller {
    /// Where it calls from.
    pub remote_addr: SocketAddr,
}

/// The server's end of a connection, and who is at the other one: a verified peer, or on a public port a
/// [`PublicCaller`].
pub struct TlsConnection<C = PeerIdentity> {
    pub(crate) stream: server::TlsStream<TcpStream>,
    pub(crate) caller: C,
    pub(crate) closing: Pin<Box<WaitForCancellationFutureOwned>>,
    pub(crate) _entry: OpenEntry,
    pub(crate) _slots: Slots,
}

/// What a connection takes up of its port's bounds, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) _connection: OwnedSemaphorePermit,
    pub(crate) _source: Option<SourceSlot>,
}

impl TlsConnection {
    /// The client.
    #[must_use]
    pub const fn peer(&self) -> &PeerIdentity {
        &self.caller
    }
}

impl<C> TlsConnection<C> {
    /// An error once the connection has been closed from this side, as after the removal of its key.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.closing.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "closed: the certificate ended, its key is no longer registered, or its time is up",
            )),
            Poll::Pending => Ok(()),
        }
    }
}

impl<C: fmt::Debug> fmt::Debug for TlsConnection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnection").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl<C: Clone + Send + Sync + 'static> Connected for TlsConnection<C> {
    type ConnectInfo = C;

    fn connect_info(&self) -> C {
        self.caller.clone()
    }
}

impl<C: Unpin> AsyncRead for TlsConnection<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_open(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<C: Unpin> AsyncWrite for TlsConnection<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_open(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_open(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The client's end of a connection whose server has been verified. Its errors carry a
/// [`TlsFailure`](crate::TlsFailure) where TLS is the reason.
pub struct ClientConnection {
    pub(crate) stream: client::TlsStream<TcpStream>,
    pub(crate) tls: ClientTls,
}

impl fmt::Debug for ClientConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConnection").field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl ClientConnection {
    fn explained<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<rustls::Error>() => {
                io::Error::new(error.kind(), self.tls.explain(&error))
            }
            _ => error,
        })
    }
}

impl AsyncRead for ClientConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        result.map(|result| self.explained(result))
    }
}

impl AsyncWrite for ClientConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
