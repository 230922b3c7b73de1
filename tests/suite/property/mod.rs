//! Property tests of the machine.
//!
//! Abstract, weighted steps become concrete commands in a small world, so that a failure shrinks to a few of them. Every
//! random test has a `one_…(seed)` beside it: paste the seed of a failure there.

mod allowed;
mod author;
mod bounds;
mod coverage;
mod exactly_once;
mod full_tables;
mod furnish;
mod golden;
mod machine;
mod model;
mod relabelling;
mod reports;
mod schedule;
mod seen;
mod selectors;
mod snapshots;
mod staleness;
mod term_clock;
mod widening;
mod world;

use proptest::test_runner::Config;

/// So many cases, unless PROPTEST_CASES asks for others. Failures print the smallest case instead of leaving files about.
fn cases(cases: u32) -> Config {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    Config { cases: asked.unwrap_or(cases), failure_persistence: None, ..Config::default() }
}

/// Runs something for a seed, and says which seed it was if it fails.
fn naming_the_seed<T>(seed: u64, run: impl FnOnce() -> T) -> T {
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with seed {}; paste it into the test's `one_…` beside it", self.0);
            }
        }
    }
    let _seed = Seed(seed);
    run()
}
