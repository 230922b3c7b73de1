//! Where the sidecar listens: loopback addresses and Unix sockets that only this user may open.
//!
//! What must stay true: a socket file has mode 0600 from its first moment, not some time after.

use std::{
    io,
    net::TcpListener as StdTcpListener,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use haltline_core::limits::SIDECAR_CONNECTIONS_MAX;
use rustix::fs::{Mode, fchmod};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tonic::transport::server::Connected;

use super::config::Listen;

/// Connections that wait in the system's queue.
const BACKLOG: u32 = 1_024;
/// How long the loop rests after `accept` failed, as it does when file descriptors run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Why the sidecar can't listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The system refuses.
    #[error("can't listen on {listen}: {source}")]
    Bind {
        /// Where.
        listen: Listen,
        /// What the system said.
        source: io::Error,
    },
    /// Another process listens there.
    #[error("can't listen on unix:{}: another process does; stop it, or choose another path", .path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something that isn't a socket has that name.
    #[error("can't listen on unix:{}: a file that is no socket has this name, and is left alone", .path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
}

/// An open listener. A socket's file goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    inner: Inner,
    slots: Arc<Semaphore>,
}

#[derive(Debug)]
enum Inner {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds; `None` if this is off. Must be called within a runtime.
    pub(crate) fn bind(listen: &Listen) -> Result<Option<Self>, ListenError> {
        let refused = |source| ListenError::Bind { listen: listen.clone(), source };
        let inner = match listen {
            Listen::Off => return Ok(None),
            Listen::Tcp(address) => {
                let listener = StdTcpListener::bind(address).map_err(refused)?;
                listener.set_nonblocking(true).map_err(refused)?;
                Inner::Tcp(TcpListener::from_std(listener).map_err(refused)?)
            }
            Listen::Unix(path) => {
                remove_leftover(path, &refused)?;
                Inner::Unix(bind_private(path).map_err(refused)?, SocketFile(path.clone()))
            }
        };
        Ok(Some(Self { inner, slots: Arc::new(Semaphore::new(SIDECAR_CONNECTIONS_MAX)) }))
    }

    /// Where it listens, with the port that the system chose where none was named.
    pub(crate) fn place(&self) -> Listen {
        match &self.inner {
            Inner::Tcp(listener) => listener.local_addr().map_or(Listen::Off, Listen::Tcp),
            Inner::Unix(_, file) => Listen::Unix(file.0.clone()),
        }
    }

    /// The next connection, once there is room for one.
    pub(crate) async fn accept(&self) -> Connection {
        let slots = Arc::clone(&self.slots);
        let slot = slots.acquire_owned().await.expect("the semaphore is never closed");
        loop {
            let accepted = match &self.inner {
                Inner::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    // Small answers must not wait for an acknowledgement; where that fails they merely may.
                    let _ = stream.set_nodelay(true);
                    Stream::Tcp(stream)
                }),
                Inner::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            };
            match accepted {
                Ok(stream) => return Connection { stream, _slot: slot },
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    /// All connections, for tonic.
    pub(crate) fn into_incoming(self) -> impl futures::Stream<Item = io::Result<Connection>> {
        futures::stream::unfold(self, |listener| async move {
            let connection = listener.accept().await;
            Some((Ok(connection), listener))
        })
    }
}

/// A socket file that nobody listens on is what a killed process left behind.
fn remove_leftover(path: &Path, refused: &dyn Fn(io::Error) -> ListenError) -> Result<(), ListenError> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NoSocket { path: path.into() });
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(refused)
        }
        Err(error) => Err(refused(error)),
        Ok(_) => Err(ListenError::Taken { path: path.into() }),
    }
}

/// Linux makes the file with the mode that the unbound socket has, so nobody else can open it in between.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(path)?;
    socket.listen(BACKLOG)
}

/// One connection, which keeps its slot until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    _slot: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn unix(directory: &tempfile::TempDir, name: &str) -> (PathBuf, Listen) {
        let path = directory.path().join(name);
        (path.clone(), Listen::Unix(path))
    }

    #[tokio::test]
    async fn a_socket_is_private_and_goes_with_its_listener() {
        let directory = tempfile::tempdir().unwrap();
        let (path, listen) = unix(&directory, "edge.sock");
        let listener = Listener::bind(&listen).unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (connected, _) = tokio::join!(UnixStream::connect(&path), listener.accept());
        connected.unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn only_a_leftover_of_the_dead_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (path, listen) = unix(&directory, "edge.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = Listener::bind(&listen).unwrap().unwrap();
        assert!(matches!(Listener::bind(&listen), Err(ListenError::Taken { .. })));
        drop(listener);
        std::fs::write(&path, "words").unwrap();
        assert!(matches!(Listener::bind(&listen), Err(ListenError::NoSocket { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"words");
    }

    #[tokio::test]
    async fn off_is_off_and_a_taken_port_is_named() {
        assert!(Listener::bind(&Listen::Off).unwrap().is_none());
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap().unwrap();
        let error = Listener::bind(&listener.place()).unwrap_err().to_string();
        assert!(error.contains(&listener.place().to_string()), "{error}");
    }
}
