//! The enforcer as the sidecar sees it.

use haltline_core::ids::{EdgeName, LogIndex};
use prometheus_client::registry::Registry;

use super::answer::Refusal;
use crate::{
    Enforcer,
    enforce::{Clock, EnforcerCore, Session, SessionRefused},
};

/// The enforcer that a sidecar asks.
#[derive(Debug)]
pub struct Gate {
    core: EnforcerCore,
    name: EdgeName,
    link_metrics: Registry,
}

impl Gate {
    /// An enforcer that keeps itself fresh. It has to be kept running beside the sidecar.
    #[must_use]
    pub fn of(enforcer: &Enforcer) -> Self {
        let mut link_metrics = Registry::default();
        enforcer.register_metrics(&mut link_metrics);
        Self { core: enforcer.core().clone(), name: enforcer.name().clone(), link_metrics }
    }

    /// An enforcer without a link of its own: whoever holds it feeds it.
    #[must_use]
    pub fn fed(core: EnforcerCore, name: EdgeName) -> Self {
        Self { core, name, link_metrics: Registry::default() }
    }

    /// What the link counts.
    pub(super) const fn link_metrics(&self) -> &Registry {
        &self.link_metrics
    }

    /// The session of a token.
    pub(super) fn session(&self, token: &str) -> Result<Session, Refusal> {
        self.core.session(token).map_err(|refused| match (refused, self.unready()) {
            // Who hasn't heard from the cluster knows no keys, or old ones: that isn't the token's fault.
            (SessionRefused::Token(_), Some(why)) => Refusal::not_ready(&why),
            (refused, _) => Refusal::from(&refused),
        })
    }

    /// Why nothing is permitted now, if so.
    pub(super) fn unready(&self) -> Option<String> {
        let Some(lease) = self.core.lease() else {
            return Some("nothing has shown yet that this enforcer's view is fresh".into());
        };
        let staleness = self.core.smallest_staleness();
        let live = lease.permits(self.core.clock().now(), staleness, staleness);
        (!live).then(|| format!("the view may be older than {staleness}: no hub has vouched for it since"))
    }

    /// Whether the cluster's record of this enforcer, as far as it is verified here, lets it fail open.
    pub(super) fn fails_open(&self) -> bool {
        self.core.own_record().is_some_and(|record| record.fails_open)
    }

    /// This enforcer's name.
    pub(super) const fn name(&self) -> &EdgeName {
        &self.name
    }

    /// The entry of the log that decisions are made under.
    pub(super) fn index(&self) -> LogIndex {
        self.core.positions().applied.0
    }
}
