//! A TCP proxy on one link that can go dark: bytes on their way are lost and nobody is told, as behind a dead switch.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// One directed link. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: SocketAddr,
    dark: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Link {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (dark, watched) = watch::channel(false);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, target, watched.clone()));
            }
        });
        Self { address, dark, accepting }
    }

    pub(super) fn set_dark(&self, dark: bool) {
        self.dark.send_replace(dark);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(mut near: TcpStream, target: SocketAddr, mut dark: watch::Receiver<bool>) {
    let near_dark = async |dark: &mut watch::Receiver<bool>| dark.wait_for(|dark| *dark).await.is_ok();
    if *dark.borrow() {
        let _ = dark.wait_for(|dark| !*dark).await;
        return;
    }
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        // Held open in silence until the link is back; then both ends learn that the connection is gone.
        _ = near_dark(&mut dark) => { let _ = dark.wait_for(|dark| !*dark).await; }
    }
}
