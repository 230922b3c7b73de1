//! Cluster time (design 01, Time): never back, never ahead of what has passed since the anchor, never lost under load.

use haltline_core::time::{BootTime, ClusterTime, Millis, TermClock};
use proptest::{collection::vec, prelude::*};

proptest! {
    #![proptest_config(super::cases(512))]

    #[test]
    fn stamps_never_go_back_and_never_run_ahead(
        anchor in 0..u64::MAX / 2,
        start in 0..1_000_000_u64,
        readings in vec(prop_oneof![0..2_000_000_u64, Just(0), Just(u64::MAX)], 1..200),
    ) {
        let mut clock = TermClock::anchored(ClusterTime(anchor), BootTime(start));
        let (mut last, mut latest) = (ClusterTime(anchor), start);
        for reading in readings {
            latest = latest.max(reading);
            let peeked = clock.peek(BootTime(reading));
            let stamp = clock.stamp(BootTime(reading));
            prop_assert_eq!(peeked, stamp);
            prop_assert!(stamp >= last, "{} went back to {}", last, stamp);
            // By the furthest reading so far, and exactly that when the clock behaves.
            let elapsed = Millis(latest - start);
            prop_assert_eq!(stamp, ClusterTime(anchor).plus(elapsed));
            last = stamp;
        }
    }

    /// Ten seconds of commits back to back see ten seconds, however long each one takes.
    #[test]
    fn time_under_load_advances_at_the_clocks_rate(latencies in vec(0..40_u64, 1_000)) {
        let start = BootTime(5_000);
        let mut clock = TermClock::anchored(ClusterTime(77), start);
        let mut now = start.0;
        for latency in latencies.iter().cycle() {
            now = (now + latency.max(&1)).min(start.0 + 10_000);
            clock.stamp(BootTime(now));
            if now == start.0 + 10_000 {
                break;
            }
        }
        prop_assert_eq!(clock.stamp(BootTime(now)).since(ClusterTime(77)), Millis(10_000));
    }

    /// A new leader goes on from the last stamp in its log: what passed without a leader is lost, never invented.
    #[test]
    fn a_new_term_continues_from_the_log(
        terms in vec((0..10_000_u64, 0..100_000_u64, 0..10_000_u64), 1..20),
    ) {
        let mut last = ClusterTime(0);
        let mut led = 0;
        for (silence, boot, office) in terms {
            let mut clock = TermClock::anchored(last, BootTime(boot + silence));
            let stamp = clock.stamp(BootTime(boot + silence + office));
            prop_assert!(stamp >= last);
            led += office;
            last = stamp;
        }
        prop_assert_eq!(last, ClusterTime(led));
    }
}
