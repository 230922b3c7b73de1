//! What the link does with what a hub says: every message goes through the protocol, and this follows from it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use haltline_core::{lease::Nanos, limits::MARK_INTERVAL};
use haltline_pki::KnownHub;
use haltline_wire::v1::{self, edge_service_client::EdgeServiceClient};
use tonic::transport::Channel;

use super::{Following, Link, LinkEnd};
use crate::{
    client::{enforcement::Enforcement, fetch, messages::FromHub, protocol::Effect, renewal},
    enforce::{BootClock, Clock as _},
    persist::StoredSnapshot,
};

impl<E: Enforcement + Send + Sync + 'static> Link<E> {
    /// Takes one message in and does what follows from it.
    pub(super) fn take(&mut self, following: &mut Following, message: v1::HubMessage) -> Result<(), LinkEnd> {
        let message = FromHub::read(message)?;
        if let FromHub::Frame(frame) = &message {
            self.metrics.frame();
            if following.acknowledge.is_none() {
                let after = Duration::from_millis(frame.ack_after.0);
                following.quiet_until = Some(tokio::time::Instant::now() + after);
            }
        }
        let is_welcome = matches!(message, FromHub::Welcome(_));
        let enforcement = Arc::clone(&self.enforcement);
        let effects = self.protocol().received(message, BootClock.now(), &*enforcement)?;
        if is_welcome {
            self.metrics.connected.set(1);
            self.tell(|told| told.connected = true);
            self.enforcement.connected();
        }
        for effect in effects {
            match effect {
                Effect::Acknowledge { index, event_seq } => {
                    following.acknowledge = self.enforcement.may_acknowledge(index, event_seq);
                }
                Effect::Renewed { round_trip } => {
                    following.renewed = true;
                    self.renewed(round_trip);
                }
                Effect::KeysChanged => self.keys_changed(),
                Effect::Hubs(hubs) => self.hubs_told(hubs),
                Effect::FetchSnapshot => return Err(LinkEnd::SnapshotNeeded),
            }
        }
        Ok(())
    }

    pub(super) fn renewed(&mut self, round_trip: Nanos) {
        self.metrics.renewed(round_trip);
        self.tell(|told| {
            told.leased = true;
            told.round_trip = Some(round_trip);
        });
        let seq = self.protocol().mark().event_seq;
        let interval = Duration::from_millis(MARK_INTERVAL.0);
        let is_kept = self.kept.is_some_and(|(kept, at)| kept == seq && at.elapsed() < interval);
        if !is_kept {
            self.keep_mark();
        }
    }

    /// Has the mark written. Not at every answer: a position further on the same chain of events protects from nothing more.
    pub(super) fn keep_mark(&mut self) {
        if let Some(proof) = self.protocol().proof().cloned() {
            self.kept = Some((self.protocol().mark().event_seq, Instant::now()));
            self.wanted.send_modify(|wanted| wanted.mark = Some(Arc::new(proof)));
        }
    }

    pub(super) fn keys_changed(&mut self) {
        let trust = Arc::new(self.protocol().trust().clone());
        tracing::info!(version = %trust.version(), "the trusted keys of the cluster changed");
        self.wanted.send_modify(|wanted| wanted.trust = Some(trust));
    }

    pub(super) fn hubs_told(&mut self, hubs: Vec<KnownHub>) {
        if !self.hubs.replace(hubs.clone()) {
            return;
        }
        match self.identity.clone().with_hubs(hubs) {
            Ok(identity) => {
                self.identity = identity.clone();
                renewal::save(identity, self.config.identity_dir.clone());
            }
            Err(error) => tracing::warn!(%error, "the cluster's list of hubs can't be kept"),
        }
    }

    pub(super) async fn fetch_and_install(
        &mut self,
        client: &mut EdgeServiceClient<Channel>,
    ) -> Result<(), LinkEnd> {
        let cluster = self.protocol().trust().cluster();
        let snapshot = tokio::select! {
            () = self.stop.cancelled() => return Err(LinkEnd::Stopped),
            snapshot = fetch::snapshot(client, cluster) => Arc::new(snapshot?),
        };
        let effects = self.install(&snapshot).await?;
        self.metrics.snapshot();
        if effects.contains(&Effect::KeysChanged) {
            self.keys_changed();
        }
        tracing::info!(index = %snapshot.statement.index, "installed a snapshot");
        self.cached.seq = snapshot.statement.event_seq;
        self.cached.fetched = Some(Instant::now());
        self.wanted.send_modify(|wanted| wanted.snapshot = Some(snapshot));
        self.tell(|_| {});
        Ok(())
    }

    /// Decoding and indexing a large view takes up to a second, so it happens where blocking is allowed.
    pub(super) async fn install(&mut self, snapshot: &Arc<StoredSnapshot>) -> Result<Vec<Effect>, LinkEnd> {
        let Some(mut protocol) = self.protocol.take() else { return Err(LinkEnd::Stopped) };
        let (snapshot, enforcement) = (Arc::clone(snapshot), Arc::clone(&self.enforcement));
        let installed = tokio::task::spawn_blocking(move || {
            let result = protocol.install(&snapshot, &*enforcement);
            (protocol, result)
        });
        match installed.await {
            Ok((protocol, result)) => {
                self.protocol = Some(protocol);
                Ok(result?)
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going away, and this task with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}
