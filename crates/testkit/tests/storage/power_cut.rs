//! Ten thousand schedules of work and faults.

use haltline_testkit::power_cut::{Exercised, run};

/// Schedules of the fixed seeds, which every run repeats.
const SCHEDULES: u64 = 10_000;

fn run_all(seeds: std::ops::Range<u64>) -> Exercised {
    let mut total = Exercised::default();
    for seed in seeds {
        match run(seed) {
            Ok(exercised) => total.add(exercised),
            Err(error) => panic!("seed {seed}: {error}\nreplay it in `test_one_schedule`"),
        }
    }
    total
}

#[test]
fn loses_nothing_that_was_acknowledged() {
    let half = SCHEDULES / 2;
    let mut total = std::thread::scope(|scope| {
        let other = scope.spawn(|| run_all(half..SCHEDULES));
        let mut total = run_all(0..half);
        total.add(other.join().unwrap());
        total
    });
    println!("{total:?}");
    assert_eq!(total.schedules, SCHEDULES);
    assert!(total.cuts >= SCHEDULES, "more cuts than schedules");
    assert_eq!(std::mem::take(&mut total).missing(), Vec::<&str>::new(), "everything was exercised");
}

/// Put a failing seed here.
#[test]
fn test_one_schedule() {
    let exercised = run(1).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(exercised.schedules, 1);
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 0..50 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
