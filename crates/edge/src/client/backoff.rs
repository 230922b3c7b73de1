//! How patient an enforcer is: how long before the next round over all hubs, and how long a hub may leave probes
//! unanswered.
//!
//! The wait between rounds is drawn evenly from zero to a ceiling that doubles with each failed round: ten thousand
//! enforcers that lost one hub at one moment must not come back at one moment. Both grow only so far that an enforcer is
//! back within about one lease's length of when a hub is: what it gains in patience it doesn't permit meanwhile.

use std::time::Duration;

use haltline_core::{
    limits::{EDGE_PROBE_INTERVAL_MAX, HUB_BACKOFF_CAP_MIN, HUB_SILENCE_DOUBLINGS_MAX, HUB_SILENCE_MIN},
    time::Millis,
};

/// Counts failed rounds. Pure: randomness is passed in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failed_rounds: u32,
    /// Rounds in a row in which a hub took the stream and answered no probe.
    silent_rounds: u32,
}

impl Backoff {
    pub(crate) const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failed_rounds: 0, silent_rounds: 0 }
    }

    /// A hub served well: the next failure is a first one.
    pub(crate) const fn succeeded(&mut self) {
        (self.failed_rounds, self.silent_rounds) = (0, 0);
    }

    /// Every hub failed once more, some of them by silence or none; how long to wait, where leases last as long as
    /// `staleness`. `random` is even over all its values.
    pub(crate) fn failed(&mut self, was_silent: bool, staleness: Millis, random: u32) -> Duration {
        self.silent_rounds = if was_silent { self.silent_rounds.saturating_add(1) } else { 0 };
        let doublings = self.failed_rounds.min(30);
        self.failed_rounds = self.failed_rounds.saturating_add(1);
        let cap = Duration::from_millis(staleness.max(HUB_BACKOFF_CAP_MIN).0);
        let ceiling = self.min.saturating_mul(1 << doublings).min(self.max).min(cap);
        drawn(ceiling, random)
    }

    /// After a hub that had served: how long to wait before the others have their turn.
    pub(crate) fn turning(&self, random: u32) -> Duration {
        drawn(self.min, random)
    }

    /// How long a hub may leave probes unanswered: two of the intervals at which they are sent, half a lease as a rule.
    /// Somewhat longer when no hub answered any last time: while there is no quorum, turning from hub to hub only costs
    /// handshakes.
    pub(crate) fn patience(&self, staleness: Millis) -> Millis {
        const TWO_INTERVALS_MAX: Millis = Millis(2 * EDGE_PROBE_INTERVAL_MAX.0);
        let half = Millis(staleness.0 / 2).clamp(HUB_SILENCE_MIN, TWO_INTERVALS_MAX);
        Millis(half.0.saturating_mul(1 << self.silent_rounds.min(HUB_SILENCE_DOUBLINGS_MAX)))
    }
}

fn drawn(ceiling: Duration, random: u32) -> Duration {
    let nanos = ceiling.as_nanos() * u128::from(random) / u128::from(u32::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const L: Millis = Millis(2_000);

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(50), Duration::from_secs(5))
    }

    #[test]
    fn the_ceiling_doubles_up_to_a_lease_and_starts_over_after_success() {
        let mut backoff = backoff();
        let mut longest = |staleness| backoff.failed(false, staleness, u32::MAX).as_millis();
        let grown: Vec<_> = (0..9).map(|_| longest(L)).collect();
        assert_eq!(grown, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]);
        assert_eq!(longest(Millis(200)), 1_000, "however short leases are");
        assert_eq!(longest(Millis(300_000)), 5_000, "however long they are");
        backoff.succeeded();
        assert_eq!(backoff.failed(false, L, u32::MAX), Duration::from_millis(50));
        assert_eq!(backoff.failed(false, L, 0), Duration::ZERO);
        (0..100).for_each(|_| assert!(backoff.failed(true, L, u32::MAX / 2) <= Duration::from_secs(1)));
        assert_eq!(backoff.turning(u32::MAX), Duration::from_millis(50));
    }

    #[test]
    fn patience_grows_by_silence_alone_and_to_two_leases_at_most() {
        let mut backoff = backoff();
        (0..20).for_each(|_| assert_eq!(backoff.failed(false, L, 0), Duration::ZERO));
        assert_eq!(backoff.patience(L), Millis(1_000), "a hub that is gone says nothing of one that is back");
        let grown: Vec<_> = (0..5)
            .map(|_| {
                backoff.failed(true, L, 0);
                backoff.patience(L).0
            })
            .collect();
        assert_eq!(grown, [2_000, 4_000, 4_000, 4_000, 4_000]);
        backoff.failed(false, L, 0);
        assert_eq!(backoff.patience(L), Millis(1_000));
        assert_eq!(backoff.patience(Millis(0)), HUB_SILENCE_MIN);
        assert_eq!(backoff.patience(Millis(300_000)), Millis(20_000), "probes go out every ten seconds then");
        backoff.failed(true, L, 0);
        backoff.succeeded();
        assert_eq!(backoff.patience(L), Millis(1_000));
    }
}
