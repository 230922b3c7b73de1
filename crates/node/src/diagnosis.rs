//! What a running node finds when it is asked to look at its own machine.
//!
//! Looking costs disk syncs and connections, so one look serves all who ask within a moment, and there is never more than
//! one at once.

use std::time::{Duration, Instant};

use haltline_core::limits::DOCTOR_FINDINGS_TTL;
use haltline_wire::v1;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Mutex;

use crate::{
    context::Context,
    doctor::{self, Finding, Neighbour},
    refused::Refused,
};

/// What was found last, and when.
#[derive(Debug, Default)]
pub(crate) struct Diagnosis(Mutex<Option<(Instant, Vec<Finding>)>>);

impl Context {
    /// Looks, or tells what was found a moment ago.
    pub(crate) async fn diagnose(&self) -> Result<v1::NodeDiagnosis, Refused> {
        let mut last = self.diagnosis.0.lock().await;
        let fresh_for = Duration::from_millis(DOCTOR_FINDINGS_TTL.0);
        let findings = match &*last {
            Some((at, findings)) if at.elapsed() < fresh_for => findings.clone(),
            _ => {
                let (config, neighbours) = (self.config.get(), self.neighbours());
                let look =
                    move || doctor::check_machine(&config, Some(std::process::id()), &neighbours, |_| ());
                let found = tokio::task::spawn_blocking(look).await.map_err(|_| Refused::Stopping)?;
                *last = Some((Instant::now(), found.clone()));
                found
            }
        };
        let findings = findings.into_iter().map(message).collect();
        Ok(v1::NodeDiagnosis { node_id: self.identity.id().0, findings })
    }

    /// The other members, where this node reaches them.
    fn neighbours(&self) -> Vec<Neighbour> {
        let own = self.identity.id();
        let config = self.config.get();
        let published = self.consensus.state();
        let others = published.members().filter(|(node, _)| *node != own);
        let neighbour = |(node, member): (_, &haltline_consensus::Member)| {
            let route = config.routes.0.get(&node).map(ToString::to_string);
            Neighbour { node, address: route.unwrap_or_else(|| member.raft_address.clone()) }
        };
        others.map(neighbour).collect()
    }
}

fn message(finding: Finding) -> v1::Finding {
    v1::Finding {
        level: finding.level.name().into(),
        check: finding.check,
        subject: finding.subject,
        told: finding.told,
        remedy: finding.remedy.unwrap_or_default(),
    }
}

/// CLOCK_BOOTTIME in microseconds.
pub(crate) fn boot_clock_us() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(now.tv_nsec / 1_000).unwrap_or(0))
}
