//! One stream to one hub: when it was welcomed, when probes are due, and what was acknowledged on it.

use haltline_core::{
    ids::{EventSeq, LogIndex, NodeId, Nonce},
    lease::{BootNanos, LeaseBook, Nanos},
    limits::{EDGE_PROBE_INTERVAL_MAX, EDGE_PROBE_INTERVAL_MIN, HUB_SILENCE_MIN},
    time::Millis,
};
use haltline_wire::v1;

use super::{messages::Welcome, refusal::SyncRefusal};

/// Randomness for one probe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    /// Never used before.
    pub(crate) nonce: Nonce,
    /// Spreads the probes of many enforcers; even over all its values.
    pub(crate) jitter: u32,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    node: Option<NodeId>,
    opened: BootNanos,
    welcomed: bool,
    interval_min: Millis,
    /// Probes sent on this stream.
    sequence: u64,
    next_probe: BootNanos,
    /// When the last Fresh was taken, or the first probe sent.
    answered: Option<BootNanos>,
    acknowledged: Option<(LogIndex, EventSeq)>,
}

impl Stream {
    /// The first probe is due at once: the hub may answer it right after its Welcome.
    pub(crate) const fn opened(node: Option<NodeId>, now: BootNanos) -> Self {
        Self {
            node,
            opened: now,
            welcomed: false,
            interval_min: EDGE_PROBE_INTERVAL_MIN,
            sequence: 0,
            next_probe: now,
            answered: None,
            acknowledged: None,
        }
    }

    pub(crate) const fn is_welcomed(&self) -> bool {
        self.welcomed
    }

    pub(crate) const fn next_probe(&self) -> BootNanos {
        self.next_probe
    }

    pub(crate) fn welcome(&mut self, welcome: &Welcome) -> Result<(), SyncRefusal> {
        if let Some(expected) = self.node.filter(|node| *node != welcome.node) {
            return Err(SyncRefusal::WrongNode { expected, got: welcome.node });
        }
        self.welcomed = true;
        // However slowly a hub wants to be asked: beyond a bound the enforcer's health would be unknown.
        self.interval_min =
            welcome.probe_interval_min.clamp(EDGE_PROBE_INTERVAL_MIN, EDGE_PROBE_INTERVAL_MAX);
        Ok(())
    }

    /// The probe that is due, noted as sent at `now`. The next one follows after a quarter of the staleness, less up to
    /// an eighth of that, so that ten thousand enforcers don't ask in step.
    pub(crate) fn probe(
        &mut self,
        now: BootNanos,
        random: impl FnOnce() -> Probe,
        staleness: Millis,
        leases: &mut LeaseBook,
    ) -> Option<v1::Probe> {
        if now < self.next_probe {
            return None;
        }
        let Probe { nonce, jitter } = random();
        let interval = self.interval(staleness).0;
        let early = u128::from(interval / 8) * u128::from(jitter) / u128::from(u32::MAX);
        self.next_probe = now.plus(Nanos(interval - u64::try_from(early).unwrap_or(0)));
        self.ask(nonce, now, leases)
    }

    /// A probe out of turn, whose nonce somebody else made. The next one of its own accord follows a quarter of the staleness
    /// later: a hub answers the newest of those that wait.
    pub(crate) fn probe_for(
        &mut self,
        nonce: Nonce,
        now: BootNanos,
        staleness: Millis,
        leases: &mut LeaseBook,
    ) -> Option<v1::Probe> {
        self.next_probe = now.plus(self.interval(staleness));
        self.ask(nonce, now, leases)
    }

    fn interval(&self, staleness: Millis) -> Nanos {
        Nanos::from(Millis(staleness.0 / 4).min(EDGE_PROBE_INTERVAL_MAX).max(self.interval_min))
    }

    fn ask(&mut self, nonce: Nonce, now: BootNanos, leases: &mut LeaseBook) -> Option<v1::Probe> {
        // A nonce that waits already would be a fault of the randomness: don't ask with it, the next probe is near.
        leases.sent(nonce, now).ok()?;
        self.answered.get_or_insert(now);
        self.sequence += 1;
        Some(v1::Probe { sequence: self.sequence, nonce: nonce.0.to_vec() })
    }

    pub(crate) const fn answered(&mut self, now: BootNanos) {
        self.answered = Some(now);
    }

    /// When the hub will have been silent for too long: since its last answer, or since the stream was opened.
    pub(crate) fn silent_from(&self, patience: Millis) -> BootNanos {
        self.answered.unwrap_or(self.opened).plus(patience.max(HUB_SILENCE_MIN).into())
    }

    /// Whether it is.
    pub(crate) fn check_silence(&self, now: BootNanos, patience: Millis) -> Result<(), SyncRefusal> {
        if now < self.silent_from(patience) {
            return Ok(());
        }
        let waited = now.since(self.answered.unwrap_or(self.opened));
        Err(SyncRefusal::Silent { waited_ms: waited.to_millis_up().0 })
    }

    /// The acknowledgement, unless nothing is new in it.
    pub(crate) fn applied(&mut self, index: LogIndex, event_seq: EventSeq) -> Option<v1::EdgeApplied> {
        if !self.welcomed || self.acknowledged.is_some_and(|last| last >= (index, event_seq)) {
            return None;
        }
        self.acknowledged = Some((index, event_seq));
        Some(v1::EdgeApplied { index: index.0, event_seq: event_seq.0 })
    }
}

pub(crate) const fn out_of_turn(expected: &'static str, got: &'static str) -> SyncRefusal {
    SyncRefusal::OutOfTurn { expected, got }
}
