//! Connecting to the nearest hub that answers, without waiting out one that doesn't.
//!
//! A hub that hangs is only known by its silence, and a lease doesn't wait. So if the nearest hasn't answered after a short
//! while, the next is dialled beside it, and whichever answers first serves (as RFC 8305 does for addresses of one host).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use haltline_core::limits::HUB_DIAL_STAGGER;
use haltline_pki::{Dialer, Endpoint, KnownHub, TlsFailure};
use tonic::transport::Channel;

/// One hub and where to dial it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) hub: KnownHub,
    pub(crate) endpoint: Endpoint,
}

/// What came of dialling one.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) hub: KnownHub,
    pub(crate) took: Duration,
    pub(crate) channel: Result<Channel, TlsFailure>,
}

/// One round over the hubs.
pub(crate) struct Dials {
    dialer: Dialer,
    waiting: VecDeque<Place>,
    /// Those under way, in the order in which they were begun.
    begun: Vec<Place>,
    under_way: FuturesUnordered<BoxFuture<'static, Dialled>>,
}

impl Dials {
    pub(crate) fn new(dialer: Dialer, places: Vec<Place>) -> Self {
        Self { dialer, waiting: places.into(), begun: Vec::new(), under_way: FuturesUnordered::new() }
    }

    /// The next hub that answered or failed; `None` once each had its turn. When one has answered, others that were dialled
    /// beside it are dropped, and have their turn again if it turns out not to serve.
    pub(crate) async fn next(&mut self) -> Option<Dialled> {
        loop {
            if self.under_way.is_empty() {
                let place = self.waiting.pop_front()?;
                self.begin(place);
            }
            tokio::select! {
                dialled = self.under_way.next() => {
                    let Some(dialled) = dialled else { continue };
                    self.begun.retain(|place| place.hub != dialled.hub);
                    if dialled.channel.is_ok() {
                        self.under_way.clear();
                        while let Some(place) = self.begun.pop() {
                            self.waiting.push_front(place);
                        }
                    }
                    return Some(dialled);
                }
                () = tokio::time::sleep(Duration::from_millis(HUB_DIAL_STAGGER.0)), if !self.waiting.is_empty() => {
                    if let Some(place) = self.waiting.pop_front() {
                        self.begin(place);
                    }
                }
            }
        }
    }

    fn begin(&mut self, place: Place) {
        let (dialer, Place { hub, endpoint }) = (self.dialer.clone(), place.clone());
        self.begun.push(place);
        self.under_way.push(Box::pin(async move {
            let started = Instant::now();
            let channel = dialer.connect(&endpoint).await;
            Dialled { hub, took: started.elapsed(), channel }
        }));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{net::Ipv4Addr, sync::Arc};

    use haltline_core::ids::NodeId;
    use haltline_pki::{CertificateAlone, ClientTls, Validity};
    use tokio::net::TcpListener;

    use super::*;
    use crate::client::test_hub::{Log, TestHub, enrolled};

    fn place(hub: KnownHub) -> Place {
        Place { endpoint: hub.endpoint.clone(), hub }
    }

    #[tokio::test]
    async fn a_hub_that_hangs_is_overtaken_and_has_its_turn_again() {
        // Takes connections, and never says a word.
        let hung = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = Endpoint::from(hung.local_addr().unwrap()).expecting(NodeId(1));
        let hung_hub = KnownHub { endpoint, region: String::new() };
        // Nobody is there any more.
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let gone = KnownHub { endpoint: closed.into(), region: String::new() };
        let hub = TestHub::start(2, &Log::founded()).await;

        let home = tempfile::tempdir().unwrap();
        let me = enrolled(home.path(), vec![], Validity::leaf());
        let dialer = Dialer::new(ClientTls::new(me.tls(), me.bundle(), Arc::new(CertificateAlone)).unwrap());
        let places = vec![place(gone.clone()), place(hung_hub.clone()), place(hub.known("eu"))];
        let mut dials = Dials::new(dialer, places);
        let first = dials.next().await.unwrap();
        assert_eq!((first.hub, first.channel.is_err()), (gone, true));
        let second = dials.next().await.unwrap();
        assert_eq!((second.hub, second.channel.is_ok()), (hub.known("eu"), true));
        drop(hung);
        let third = dials.next().await.unwrap();
        assert_eq!((third.hub, third.channel.is_err()), (hung_hub, true));
        assert!(dials.next().await.is_none());
    }
}
