//! The arithmetic of leases at its edges, and answers in every order.

#![allow(clippy::unwrap_used)]
use super::*;

const L: Millis = Millis(2_000);
const SECOND: u64 = 1_000_000_000;

fn nonce(number: u8) -> Nonce {
    Nonce([number; 32])
}

fn drift(ppm: u32) -> Drift {
    Drift::from_ppm(ppm).unwrap()
}

#[test]
fn bounds_are_rounded_up_and_both_factors_count() {
    assert_eq!(bound(L, Drift::default()), Millis(2_002));
    assert_eq!(fence(L, Drift::default()), Millis(2_005), "2004.002 rounded up, not (1+2ρ)L = 2004");
    assert_eq!(fence_nanos(L, Drift::default()), Nanos(2_004_002_000));
    assert_eq!(fence(L, drift(0)), L);
    assert_eq!(fence(Millis(200), drift(100_000)), Millis(242));
    assert_eq!(fence(Millis(u64::MAX), drift(1)), Millis(u64::MAX));
    assert_eq!(Drift::from_ppm(100_001), Err(DriftError { got: 100_001 }));
}

#[test]
fn a_lease_counts_from_when_the_probe_was_sent() {
    let mut book = LeaseBook::default();
    book.sent(nonce(1), BootNanos(SECOND)).unwrap();
    assert!(!book.permits(BootNanos(SECOND), L, L), "no answer, no lease");
    let lease = book.accept(&nonce(1), LogIndex(7), LogIndex(7)).unwrap();
    assert_eq!(lease, Lease { fresh_from: BootNanos(SECOND), index: LogIndex(7) });
    assert!(book.permits(BootNanos(SECOND), L, L));
    assert!(book.permits(BootNanos(3 * SECOND - 1), L, L));
    assert!(!book.permits(BootNanos(3 * SECOND), L, L), "the end is outside");
    assert!(!book.permits(BootNanos(SECOND - 1), L, L), "a clock that went back");
}

#[test]
fn the_smaller_staleness_counts() {
    let lease = Lease { fresh_from: BootNanos(0), index: LogIndex(1) };
    let loose = Millis(10_000);
    assert_eq!(lease.ends(L, loose), BootNanos(2 * SECOND), "loosened since: not longer");
    assert_eq!(lease.ends(loose, L), BootNanos(2 * SECOND), "tightened since: shorter at once");
}

#[test]
fn a_nonce_is_used_once() {
    let mut book = LeaseBook::default();
    book.sent(nonce(1), BootNanos(1)).unwrap();
    assert_eq!(book.sent(nonce(1), BootNanos(2)), Err(LeaseError::NonceInUse { nonce: nonce(1) }));
    book.accept(&nonce(1), LogIndex(1), LogIndex(1)).unwrap();
    let again = book.accept(&nonce(1), LogIndex(2), LogIndex(2));
    assert_eq!(again, Err(LeaseError::UnknownNonce { nonce: nonce(1) }));
    let never = book.accept(&nonce(2), LogIndex(1), LogIndex(1));
    assert_eq!(never, Err(LeaseError::UnknownNonce { nonce: nonce(2) }));
}

#[test]
fn an_answer_waits_for_its_view() {
    let mut book = LeaseBook::default();
    book.sent(nonce(1), BootNanos(1)).unwrap();
    let early = book.accept(&nonce(1), LogIndex(9), LogIndex(8));
    assert_eq!(early, Err(LeaseError::NotPublished { index: LogIndex(9), published: LogIndex(8) }));
    assert_eq!(book.lease(), None);
    assert!(book.accept(&nonce(1), LogIndex(9), LogIndex(9)).is_ok());
}

#[test]
fn answers_out_of_order_keep_the_later_probe_and_its_own_index() {
    let mut book = LeaseBook::default();
    book.sent(nonce(1), BootNanos(10)).unwrap();
    book.sent(nonce(2), BootNanos(20)).unwrap();
    let second = book.accept(&nonce(2), LogIndex(5), LogIndex(9)).unwrap();
    let first = book.accept(&nonce(1), LogIndex(9), LogIndex(9)).unwrap();
    assert_eq!(first, second, "an earlier probe's answer neither renews nor speaks for the lease");
}

#[test]
fn probes_that_wait_are_bounded_and_the_oldest_goes() {
    let mut book = LeaseBook::default();
    for number in 0..PROBES_OUTSTANDING_MAX {
        assert_eq!(book.sent(nonce(number as u8), BootNanos(number as u64)), Ok(None));
    }
    assert_eq!(book.sent(nonce(200), BootNanos(200)), Ok(Some(nonce(0))));
    assert_eq!(book.outstanding(), PROBES_OUTSTANDING_MAX);
    assert_eq!(book.sent_at(&nonce(0)), None);
    assert_eq!(book.sent_at(&nonce(200)), Some(BootNanos(200)));
}

mod properties {
    use proptest::prelude::{prop, prop_assert, proptest};

    use super::*;

    proptest! {
        /// The exact rational arithmetic, done another way: ceil(L·(10⁶+ρ)ⁿ / 10⁶ⁿ).
        #[test]
        fn stretching_rounds_up_by_less_than_one(millis in 0_u64..=300_000, ppm in 0_u32..=100_000) {
            let unit = 1_000_000_u128;
            let rate = unit + u128::from(ppm);
            for (got, power) in [(bound(Millis(millis), drift(ppm)), 1), (fence(Millis(millis), drift(ppm)), 2)] {
                let exact = u128::from(millis) * rate.pow(power);
                let scaled = u128::from(got.0) * unit.pow(power);
                prop_assert!(scaled >= exact && scaled - exact < unit.pow(power));
            }
            let nanos = fence_nanos(Millis(millis), drift(ppm));
            prop_assert!(nanos.to_millis_up() == fence(Millis(millis), drift(ppm)));
        }

        /// Whatever the order of answers, the lease is the best that any single answer gives.
        #[test]
        fn the_lease_is_the_best_answer(
            probes in prop::collection::vec((0_u64..50, 0_u64..20), 1..12),
            order in prop::collection::vec(0_usize..12, 0..12),
        ) {
            let mut book = LeaseBook::default();
            for (number, (at, _)) in probes.iter().enumerate() {
                book.sent(nonce(number as u8), BootNanos(*at)).unwrap();
            }
            let mut answered: Vec<Lease> = Vec::new();
            for number in order {
                let Some((at, index)) = probes.get(number) else { continue };
                if book.accept(&nonce(number as u8), LogIndex(*index), LogIndex(20)).is_ok() {
                    answered.push(Lease { fresh_from: BootNanos(*at), index: LogIndex(*index) });
                }
            }
            prop_assert!(book.lease().map(|lease| lease.fresh_from) == answered.iter().map(|lease| lease.fresh_from).max());
            prop_assert!(book.lease().is_none_or(|lease| answered.contains(&lease)));
        }
    }
}
