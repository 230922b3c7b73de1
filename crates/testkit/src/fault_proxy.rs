//! A TCP link that fails on purpose: it carries bytes, holds them back, or is cut, as a test says.
//!
//! A link that is [`Link::Stalled`] is what a partition looks like from both ends: connections stay open and nothing
//! arrives. What was under way when it stalled arrives when it opens again, in order.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bytes that one direction carries at once.
const CHUNK_BYTES: usize = 16 * 1_024;

/// What a link does with bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Carries them, each chunk late by this much.
    Open {
        /// Added to every chunk, in each direction.
        delay: Duration,
    },
    /// Holds them back; connections stay, and new ones are taken and hold too.
    Stalled,
    /// Closes every connection, and each new one at once.
    Cut,
}

impl Link {
    /// Carries everything at once.
    pub const OPEN: Self = Self::Open { delay: Duration::ZERO };
}

/// A listening address, and where its connections lead. Ends when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
    _stop: DropGuard,
}

impl FaultProxy {
    /// Listens on `listen` (port 0: any) and carries to `to`.
    ///
    /// # Errors
    /// If the address can't be bound.
    pub async fn start(listen: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (link, stop) = (watch::Sender::new(Link::OPEN), CancellationToken::new());
        let (watched, stopped) = (link.subscribe(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = accept(&listener, to, &watched, &stopped) => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self { address, link, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does from now on.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

async fn accept(
    listener: &TcpListener,
    to: SocketAddr,
    link: &watch::Receiver<Link>,
    stop: &CancellationToken,
) {
    while let Ok((caller, _)) = listener.accept().await {
        if *link.borrow() == Link::Cut {
            continue;
        }
        let (mut link, stop) = (link.clone(), stop.clone());
        tokio::spawn(async move {
            let mut cut = link.clone();
            tokio::select! {
                _ = carry(caller, to, &mut link) => {}
                _ = cut.wait_for(|link| *link == Link::Cut) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn carry(caller: TcpStream, to: SocketAddr, link: &mut watch::Receiver<Link>) -> io::Result<()> {
    open(link).await;
    let callee = TcpStream::connect(to).await?;
    caller.set_nodelay(true)?;
    callee.set_nodelay(true)?;
    let (caller, callee) = (caller.into_split(), callee.into_split());
    let link = Arc::new(link.clone());
    let (there, back) = (pump(caller.0, callee.1, &link), pump(callee.0, caller.1, &link));
    tokio::try_join!(there, back).map(drop)
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    link: &watch::Receiver<Link>,
) -> io::Result<()> {
    let mut link = link.clone();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await?;
        let delay = open(&mut link).await;
        if read == 0 {
            return to.shutdown().await;
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        to.write_all(&chunk[..read]).await?;
    }
}

/// Waits until the link carries; its delay.
async fn open(link: &mut watch::Receiver<Link>) -> Duration {
    match link.wait_for(|link| matches!(link, Link::Open { .. })).await.map(|link| *link) {
        Ok(Link::Open { delay }) => delay,
        // The proxy is gone: whoever waits here is ended from outside.
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;

    /// A server that sends back what it gets, behind a proxy.
    async fn echo() -> (FaultProxy, TcpStream) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(any).await.unwrap();
        let to = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        let proxy = FaultProxy::start(any, to).await.unwrap();
        let stream = TcpStream::connect(proxy.address()).await.unwrap();
        (proxy, stream)
    }

    async fn round_trip(stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut [0; 4]).await.map(drop)
    }

    #[tokio::test]
    async fn what_is_held_back_arrives_when_the_link_opens() {
        let (proxy, mut stream) = echo().await;
        round_trip(&mut stream).await.unwrap();
        proxy.set(Link::Stalled);
        stream.write_all(b"held").await.unwrap();
        let mut held = [0; 4];
        assert!(tokio::time::timeout(Duration::from_millis(50), stream.read_exact(&mut held)).await.is_err());
        proxy.set(Link::Open { delay: Duration::from_millis(1) });
        stream.read_exact(&mut held).await.unwrap();
        assert_eq!(&held, b"held");
    }

    #[tokio::test]
    async fn a_cut_ends_what_is_open_and_what_comes() {
        let (proxy, mut stream) = echo().await;
        round_trip(&mut stream).await.unwrap();
        proxy.set(Link::Cut);
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(round_trip(&mut again).await.is_err());
        proxy.set(Link::OPEN);
        let mut anew = TcpStream::connect(proxy.address()).await.unwrap();
        round_trip(&mut anew).await.unwrap();
    }
}
