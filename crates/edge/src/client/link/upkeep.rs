//! What comes due by time, and what is told of the link: the certificate, the cached snapshot, the board, the log.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use haltline_core::limits::{SNAPSHOT_CACHE_EVENTS, SNAPSHOT_CACHE_INTERVAL};
use haltline_pki::{EdgeIdentity, KnownHub};
use haltline_wire::v1::edge_service_client::EdgeServiceClient;
use tonic::transport::Channel;

use super::{Link, LinkEnd, client_tls};
use crate::{
    client::{
        enforcement::Enforcement,
        fetch::{self, FetchError},
        refusal::SyncRefusal,
        renewal::Renewal,
        status::{LastError, Told},
    },
    enforce::{BootClock, Clock as _},
    persist::StoredSnapshot,
};

impl<E: Enforcement + Send + Sync + 'static> Link<E> {
    /// Fetches a snapshot for the next start, if much has happened since the last one.
    pub(super) async fn look_at_cache(&mut self, client: &EdgeServiceClient<Channel>) {
        if let Some(fetching) = self.cached.fetching.take_if(|fetching| fetching.is_finished()) {
            match fetching.await {
                Ok(Ok(snapshot)) => {
                    self.cached.seq = snapshot.statement.event_seq;
                    self.wanted.send_modify(|wanted| wanted.snapshot = Some(Arc::new(snapshot)));
                }
                Ok(Err(error)) => tracing::info!(%error, "no snapshot for the next start"),
                Err(error) => tracing::error!(%error, "fetching a snapshot was cut short"),
            }
        }
        let is_old = self.held().1.seq.0.saturating_sub(self.cached.seq.0) >= SNAPSHOT_CACHE_EVENTS;
        let interval = Duration::from_millis(SNAPSHOT_CACHE_INTERVAL.0);
        let is_recent = self.cached.fetched.is_some_and(|fetched| fetched.elapsed() < interval);
        if is_old && !is_recent && self.cached.fetching.is_none() {
            self.cached.fetched = Some(Instant::now());
            // Judged again when it is loaded; here so that a bad one doesn't take a good one's place.
            self.cached.fetching = Some(tokio::spawn(self.fetch_verified(client)));
        }
    }

    /// Fetches a snapshot that a trusted key has signed.
    pub(super) fn fetch_verified(
        &mut self,
        client: &EdgeServiceClient<Channel>,
    ) -> impl Future<Output = Result<StoredSnapshot, FetchError>> + Send + 'static + use<E> {
        let (mut client, trust) = (client.clone(), self.protocol().trust().clone());
        async move {
            let snapshot = fetch::snapshot(&mut client, trust.cluster()).await?;
            snapshot.verify(&trust).map_err(SyncRefusal::from)?;
            Ok(snapshot)
        }
    }

    /// Renews the certificate when two thirds of its life have passed.
    pub(super) async fn look_at_certificate(&mut self, client: &EdgeServiceClient<Channel>) {
        match &mut self.renewal {
            None => self.renewal = Renewal::if_due(&self.identity, &self.config.identity_dir, client),
            Some(renewal) => {
                let Some(result) = renewal.finished().await else { return };
                match result {
                    Ok(Some(identity)) => self.rotate(identity),
                    Ok(None) => {}
                    Err(error) => {
                        self.note(error.code(), &error.to_string(), None);
                        tracing::error!(%error, "the certificate could not be renewed");
                    }
                }
            }
        }
        self.renewal.take_if(|renewal| renewal.is_over());
    }

    pub(super) fn rotate(&mut self, identity: EdgeIdentity) {
        match client_tls(&identity) {
            Ok(tls) => {
                self.dialer.rotate(tls);
                tracing::info!(not_after = %identity.tls().leaf().validity.not_after, "certificate renewed");
                self.enforcement.identity_renewed(&identity);
                self.identity = identity;
                self.tell(|_| {});
            }
            Err(error) => tracing::error!(%error, "the renewed certificate can't be used"),
        }
    }

    pub(super) fn failed(&self, hub: &KnownHub, end: &LinkEnd) {
        let code = end.code();
        let is_suspicious = end.refusal().is_some_and(SyncRefusal::is_suspicious);
        match end.refusal() {
            Some(refusal) => self.metrics.refused(refusal.code()),
            None => self.metrics.failed(&code),
        }
        let is_new = self.board.read().last_error.is_none_or(|last| last.code != code);
        let address = &hub.endpoint;
        if is_suspicious {
            tracing::warn!(hub = %address, code, "refused what a hub said: {end}");
        } else if is_new {
            tracing::info!(hub = %address, code, "turning away from a hub: {end}");
        } else {
            tracing::debug!(hub = %address, code, "turning away from a hub: {end}");
        }
        self.note(&code, &end.to_string(), Some(hub));
    }

    pub(super) fn note(&self, code: &str, message: &str, hub: Option<&KnownHub>) {
        let (code, message, hub, at) = (code.into(), message.into(), hub.cloned(), BootClock.now());
        self.board.write(|told| told.last_error = Some(LastError { code, message, hub, at }));
    }

    /// Writes where things stand on the board.
    pub(super) fn tell(&self, change: impl FnOnce(&mut Told)) {
        let Some(protocol) = &self.protocol else { return };
        let (held, mark) = (protocol.held(), protocol.mark());
        self.metrics.index.set(held.index.0);
        self.board.write(|told| {
            told.incarnation = held.incarnation;
            told.index = held.index;
            told.event_seq = held.position.seq;
            told.proven = mark.index;
            told.bundle_version = protocol.trust().version();
            told.certificate_ends = self.identity.tls().leaf().validity.not_after;
            change(told);
        });
    }
}
