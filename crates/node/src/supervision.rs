//! What the service manager is told of a node: ready once it serves, stopping, and in between that it isn't stuck.
//!
//! Ready means that a quorum confirms the node and it has caught up, so whoever restarts nodes one after another may wait
//! for it. A node that isn't ready any more is no reason to restart it: most often the others are gone.

use std::{sync::Arc, time::Duration};

use haltline_core::limits::READINESS_INTERVAL;
use tokio::time::Instant;

use crate::{context::Context, health::Health, sd_notify::ServiceManager};

/// Tells until the node stops. Runs on the threads that serve, so a runtime that is stuck falls silent.
pub(crate) async fn supervise(context: Arc<Context>, health: Arc<Health>, manager: ServiceManager) {
    let look = Duration::from_millis(READINESS_INTERVAL.0);
    let interval = manager.watchdog_interval().map_or(look, |due| due.min(look));
    let mut alive_due = Instant::now();
    let mut was_ready = false;
    let mut told: Option<String> = None;
    loop {
        let unready = health.unready();
        match &unready {
            None if !was_ready => manager.ready(),
            None if told.is_some() => manager.status("ready"),
            Some(reason) if told.as_ref() != Some(reason) => manager.status(reason),
            _ => {}
        }
        was_ready |= unready.is_none();
        told = unready;
        if let Some(due) = manager.watchdog_interval()
            && Instant::now() >= alive_due
            && health.fatal().is_none()
        {
            manager.alive();
            alive_due = Instant::now() + due;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = context.stopping.cancelled() => break,
        }
    }
    manager.stopping();
}
