//! The relay as the link sees it: in the place of the decision engine stands everything that hangs below.

use std::sync::{Arc, OnceLock};

use haltline_core::{
    attest::Fresh,
    event::EnforcementEvent,
    ids::{EdgeName, EventSeq, LogIndex},
    time::Millis,
};
use haltline_edge::{
    client::Enforcement,
    enforce::{FeedError, FreshLease, ViewBody},
};
use haltline_hub::Hub;
use haltline_pki::{EdgeIdentity, Listening, PkiError, RegisteredEdges, Roles, ServerTls};
use parking_lot::Mutex;

use crate::{kept::Kept, upstream::RelayUpstream, view::RelayView};

/// See the module.
#[derive(Debug)]
pub(crate) struct Below {
    view: Arc<RelayView>,
    hub: Hub<RelayUpstream>,
    kept: Mutex<Kept>,
    listening: OnceLock<Listening>,
}

impl Below {
    pub(crate) fn new(view: Arc<RelayView>, hub: Hub<RelayUpstream>, kept: Kept) -> Self {
        Self { view, hub, kept: Mutex::new(kept), listening: OnceLock::new() }
    }

    /// The port that shows the relay's certificate.
    pub(crate) fn set_listening(&self, listening: Listening) {
        // The port is opened once.
        let _ = self.listening.set(listening);
    }

    /// Up to where everything below is surely in force.
    pub(crate) fn settled(&self) -> Option<LogIndex> {
        self.hub.settled_within(&self.view.own_paths(), self.view.may_settle())
    }

    /// Before anything can be passed on under a longer lease, it is on disk that one may be.
    pub(crate) fn keep_longest(&self) {
        // Looked up under the lock, so that no older word takes a newer one's place.
        let mut kept = self.kept.lock();
        if let Err(error) = kept.keep(self.view.staleness(&self.view.own_paths())) {
            tracing::error!(%error, "how long leases below may last can't be written");
        }
    }

    /// Who was removed has no connection any more.
    fn recheck_connections(&self, events: &[EnforcementEvent]) {
        let concerns = |event: &EnforcementEvent| {
            matches!(event, EnforcementEvent::EdgeSet { .. } | EnforcementEvent::EdgeRemoved { .. })
        };
        if let Some(listening) = self.listening.get()
            && events.iter().any(concerns)
        {
            listening.recheck();
        }
    }
}

/// The port for those below, with the relay's own certificate and the keys that are proven to it.
pub(crate) fn edge_tls(identity: &EdgeIdentity, view: &Arc<RelayView>) -> Result<ServerTls, PkiError> {
    let view = Arc::clone(view);
    let edges = RegisteredEdges::new(move |name: &EdgeName| view.key(name));
    ServerTls::new(identity.tls(), identity.bundle(), Roles::EDGES, Arc::new(edges))
}

impl Enforcement for Below {
    fn apply_provisional(&self, events: &[EnforcementEvent], index: LogIndex) -> Result<(), FeedError> {
        self.view.hear(events, index, || self.keep_longest())?;
        self.recheck_connections(events);
        Ok(())
    }

    fn confirm(&self, index: LogIndex, event_seq: EventSeq) -> Result<(), FeedError> {
        self.view.confirm(index, event_seq)
    }

    fn publish_lease(&self, lease: FreshLease) -> Result<(), FeedError> {
        self.view.leased(lease);
        Ok(())
    }

    fn install(&self, body: ViewBody, index: LogIndex) {
        self.view.install(&body, index);
        self.keep_longest();
        if let Some(listening) = self.listening.get() {
            listening.recheck();
        }
    }

    fn smallest_staleness(&self) -> Millis {
        self.view.smallest_staleness()
    }

    /// Only what is in force at everything below, open streams and closed ones whose leases live; nothing before the boot
    /// wait has passed.
    fn may_acknowledge(&self, index: LogIndex, _: EventSeq) -> Option<(LogIndex, EventSeq)> {
        let settled = self.settled()?.min(index);
        Some((settled, self.view.events_at(settled)))
    }

    fn connected(&self) {
        self.view.connected();
    }

    fn disconnected(&self) {
        self.view.disconnected();
    }

    fn attested(&self, fresh: &Fresh) {
        self.view.attested(fresh);
    }

    fn identity_renewed(&self, identity: &EdgeIdentity) {
        let Some(listening) = self.listening.get() else { return };
        match edge_tls(identity, &self.view) {
            Ok(tls) => listening.rotate(tls),
            Err(error) => tracing::error!(%error, "the renewed certificate can't be shown to those below"),
        }
    }
}
