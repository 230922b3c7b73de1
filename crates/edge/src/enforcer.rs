//! An enforcer that keeps itself fresh: the decision engine with its link to the cluster.
//!
//! # Threads
//! ```text
//!  your threads ── session.decide() ──► published view and lease      (no lock, no wait, any thread)
//!                                              ▲
//!  link: one task ── frames, statements, leases ┘   on the runtime that `connect` was called on
//!        beside it: keeper (disk), halts (wakes waiting sessions), now and then a fetch or a renewal
//! ```
//! Decisions never wait for the link, and a link that is late permits nothing more than it did: when it doesn't run, leases
//! end. But a kill acts as soon as the link has read it, so give it a runtime that isn't blocked by long work; where the
//! program's own may be, connect on one of its own with a single thread.
//!
//! [`Enforcer::shutdown`] ends the link in order and writes what is to survive. Dropping the enforcer stops it too, without
//! waiting.

use haltline_core::ids::EdgeName;
use haltline_wire::token_names;
use prometheus_client::registry::Registry;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    client::{
        ConnectError, Status,
        running::{self, Running},
    },
    config::EdgeConfig,
    enforce::{CoreOptions, EnforcerCore, Session, SessionRefused},
};

/// An enforcer, connected or on its way.
#[derive(Debug)]
pub struct Enforcer {
    core: EnforcerCore,
    running: Running,
    halts: DropGuard,
}

impl Enforcer {
    /// Loads identity and data, and starts keeping the enforcer fresh on the current runtime. It doesn't wait for a hub:
    /// until the first answer everything is denied ([`Enforcer::ready`]). Tokens have to be for the enforcers of the
    /// identity's cluster.
    ///
    /// # Errors
    /// [`ConnectError`]: no identity, or data that can't be used. That no hub answers is no error; [`Enforcer::status`]
    /// tells.
    pub async fn connect(config: EdgeConfig) -> Result<Self, ConnectError> {
        Self::connect_with(config, CoreOptions::named).await
    }

    /// As [`Enforcer::connect`], with a say in how the engine is set up. Options that name no audience mean the enforcers of
    /// the identity's cluster: a token that was asked for on behalf of some other service gives no session here unless
    /// that is named (RFC 9068, section 4).
    ///
    /// # Errors
    /// As [`Enforcer::connect`].
    pub async fn connect_with(
        config: EdgeConfig,
        options: impl FnOnce(EdgeName) -> CoreOptions + Send + 'static,
    ) -> Result<Self, ConnectError> {
        let runtime = tokio::runtime::Handle::current();
        // Reading, verifying and indexing what is cached may take a second.
        let starting = tokio::task::spawn_blocking(move || {
            let loaded = running::load(config)?;
            let mut options = options(loaded.identity.name().clone());
            if options.audiences.is_empty() {
                options.audiences.push(token_names::enforcers(&loaded.identity.bundle().cluster()));
            }
            let core = EnforcerCore::new(options);
            let running = Running::start(loaded, &std::sync::Arc::new(core.clone()), None, &runtime)?;
            let halts = CancellationToken::new();
            runtime.spawn(core.watch_halts(halts.clone()));
            Ok(Self { core, running, halts: halts.drop_guard() })
        });
        starting.await.map_err(|error| ConnectError::CutShort(error.to_string()))?
    }

    /// The enforcer's registered name.
    #[must_use]
    pub const fn name(&self) -> &EdgeName {
        self.running.identity().name()
    }

    /// The decision engine. Copies of it are the same engine, and go on deciding under the lease they have when this
    /// enforcer stops.
    #[must_use]
    pub const fn core(&self) -> &EnforcerCore {
        &self.core
    }

    /// The session of an access token.
    ///
    /// # Errors
    /// Why there is none.
    pub fn session(&self, token: &str) -> Result<Session, SessionRefused> {
        self.core.session(token)
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.running.status(self.core.lease(), self.core.smallest_staleness())
    }

    /// Waits until a node has vouched for the view for the first time, without which nothing is permitted.
    pub async fn ready(&self) {
        self.running.ready().await;
    }

    /// Makes the link's counters part of a page of metrics.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.running.register_metrics(registry);
    }

    /// Takes leave of the hub and writes what is to survive. Sessions go on until the lease ends, which nothing renews.
    pub async fn shutdown(self) {
        self.running.shutdown().await;
        drop(self.halts);
    }
}
