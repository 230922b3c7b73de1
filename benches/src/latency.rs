//! Latencies of one run, in an HDR histogram of microseconds with three digits.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that is told apart from longer ones: past this a run has failed anyway.
const LATENCY_MAX: Duration = Duration::from_secs(60);
const SIGNIFICANT_DIGITS: u8 = 3;

/// How long each of many calls took.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Self {
        let max = micros(LATENCY_MAX);
        Self(Histogram::new_with_max(max, SIGNIFICANT_DIGITS).expect("the bounds are constants that fit"))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(micros(latency));
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency in ms that this share of calls stayed within; `quantile` is in 0..=1.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        Duration::from_micros(self.0.value_at_quantile(quantile)).as_secs_f64() * 1e3
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_milliseconds_to_three_digits() {
        let mut latencies = Latencies::new();
        (1..=1_000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        assert_eq!(latencies.count(), 1_000);
        assert!((latencies.quantile_ms(0.5) - 500.0).abs() < 0.5, "{}", latencies.quantile_ms(0.5));
        assert!((latencies.quantile_ms(0.99) - 990.0).abs() < 1.0, "{}", latencies.quantile_ms(0.99));
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_secs(3_600));
        assert!(latencies.quantile_ms(1.0) >= 59_000.0);
    }
}
