//! What every protocol of the sidecar asks: one place where tokens and actions become answers.

use std::{sync::Arc, time::Duration};

use haltline_core::limits::{SIDECAR_HALT_WATCHERS_MAX, SIDECAR_RECHECK_INTERVAL, SIDECAR_WATCHED_MAX};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    action_rules::{ActionNames, Call},
    answer::{self, Kind, Refusal},
    config::SidecarConfig,
    gate::Gate,
    metrics::{Metrics, Reading, Surface},
    token_header,
};
use crate::enforce::{Permit, Session};

/// What the protocols share.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) gate: Gate,
    pub(crate) config: SidecarConfig,
    pub(crate) metrics: Metrics,
    /// Cancelled when the sidecar is told to stop: it isn't ready any more, and whoever waits to hear of a halt is sent away.
    pub(crate) draining: CancellationToken,
    /// Cancelled when waiting for what is in flight is over.
    pub(crate) closing: CancellationToken,
    watched: Arc<Semaphore>,
    halt_watchers: Arc<Semaphore>,
}

impl Desk {
    pub(crate) fn new(gate: Gate, config: SidecarConfig) -> Arc<Self> {
        Arc::new(Self {
            gate,
            config,
            metrics: Metrics::default(),
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            watched: Arc::new(Semaphore::new(SIDECAR_WATCHED_MAX)),
            halt_watchers: Arc::new(Semaphore::new(SIDECAR_HALT_WATCHERS_MAX)),
        })
    }

    /// Decides about a request as a proxy sees it.
    pub(crate) fn judge(&self, surface: Surface, call: &Call<'_>) -> Result<(Watched, Permit), Refusal> {
        let answer = self.watched(call).and_then(|watched| Ok((watched.decide()?, watched)));
        self.metrics.answered(surface, answer.as_ref().err());
        answer.map(|(permit, watched)| (watched, permit))
    }

    fn watched(&self, call: &Call<'_>) -> Result<Watched, Refusal> {
        let token = token_header::token(call.headers, &self.config)?;
        let session = self.session(token)?;
        let names = self.config.actions.names(call)?;
        Ok(Watched { session, names })
    }

    /// The session of a token.
    pub(crate) fn session(&self, token: &str) -> Result<Session, Refusal> {
        self.gate.session(token)
    }

    /// Whether Envoy may be told to go its own way: only out of ignorance, only where this is configured, and only while
    /// the log says that this enforcer fails open, so that receipts name it.
    pub(crate) fn opens_for(&self, refusal: &Refusal) -> bool {
        self.config.fail_open && refusal.kind == Kind::Ignorant && self.gate.fails_open()
    }

    /// Room for one more stream that is watched.
    pub(crate) fn slot_to_watch(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.watched).try_acquire_owned().map_err(|_| Refusal::full())
    }

    /// Room for one more caller that waits to hear of a halt.
    pub(crate) fn slot_to_hear(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.halt_watchers).try_acquire_owned().map_err(|_| Refusal::full())
    }

    /// Streams that are watched now.
    pub(crate) fn watched_now(&self) -> usize {
        SIDECAR_WATCHED_MAX - self.watched.available_permits()
    }

    /// Callers that wait now.
    pub(crate) fn hearing_now(&self) -> usize {
        SIDECAR_HALT_WATCHERS_MAX - self.halt_watchers.available_permits()
    }

    /// The page of metrics, with the numbers of this moment.
    pub(crate) fn metrics_page(&self) -> String {
        self.metrics.page(
            self.gate.link_metrics(),
            Reading {
                ready: self.unready().is_none(),
                watched: self.watched_now(),
                hearing: self.hearing_now(),
                index: self.gate.index().0,
            },
        )
    }

    /// Why nobody should be sent here now, if so.
    pub(crate) fn unready(&self) -> Option<String> {
        if self.draining.is_cancelled() {
            return Some("stopping".into());
        }
        self.gate.unready()
    }
}

/// An action that goes on, and the session that does it.
#[derive(Debug)]
pub(crate) struct Watched {
    session: Session,
    names: ActionNames,
}

impl Watched {
    /// Decides once more.
    pub(crate) fn decide(&self) -> Result<Permit, Refusal> {
        answer::of_verdict(self.session.decide(&self.names.action()))
    }

    /// Resolves when the action is no longer permitted, and says why. Until then each permit is followed by the next
    /// before it ends; what a suspended machine slept through is noticed within the interval.
    pub(crate) async fn until_refused(&self, desk: &Desk) -> Refusal {
        let interval = Duration::from_millis(SIDECAR_RECHECK_INTERVAL.0);
        loop {
            let wait = match self.decide() {
                Ok(permit) => Duration::from_nanos(permit.until.0.saturating_sub(permit.at.0)).min(interval),
                Err(refusal) if desk.opens_for(&refusal) => interval,
                Err(refusal) => return refusal,
            };
            tokio::select! {
                denial = self.session.halted() => return Refusal::from(&denial),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}
