//! Exactly once: a log in which answered requests come again, anywhere before their deadlines, ends in the same state.

use haltline_core::{
    command::{Batch, Request},
    rejection::{Outcome, Rejection},
    state::State,
};
use proptest::prelude::*;

use super::{
    machine::{Bench, run},
    schedule::{self, Schedule},
    world::index,
};

/// A request that was answered for good, and what it was answered.
#[derive(Clone)]
struct Settled {
    request: Request,
    answer: Result<Outcome, Rejection>,
    in_batch: usize,
}

/// Refusals that come before an id is looked at or remembered: a retry may fare better.
fn is_remembered(answer: &Result<Outcome, Rejection>) -> bool {
    !matches!(
        answer,
        Err(Rejection::NotFounded
            | Rejection::DeadlinePassed { .. }
            | Rejection::DeadlineTooFar { .. }
            | Rejection::CommandTooLarge { .. }
            | Rejection::RequestIdReused
            | Rejection::UnknownPerson { .. }
            | Rejection::UnknownNode { .. }
            | Rejection::UnknownEdge { .. })
    )
}

/// Replays the log with repeats in it. Returns how many there were.
fn check(bench: &Bench, picks: &[(u16, u8)]) -> usize {
    let (mut plain, mut repeating) = (State::new(), State::new());
    let mut settled: Vec<Settled> = Vec::new();
    let mut repeats = 0;
    for (at, batch) in bench.log.iter().enumerate() {
        let applied = plain.apply(index(at + 1), batch);
        // Behind the originals of this batch, since a repeat may stand in the same one.
        for (request, answer) in batch.requests.iter().zip(&applied.results) {
            if is_remembered(answer) {
                settled.push(Settled { request: request.clone(), answer: answer.clone(), in_batch: at });
            }
        }
        let again: Vec<Settled> = picks
            .iter()
            .filter(|(_, place)| at % 7 == usize::from(*place) % 7)
            .filter_map(|(which, _)| settled.get(usize::from(*which) % settled.len().max(1)))
            .filter(|settled| settled.request.deadline > plain.last_stamp().cluster_time)
            .cloned()
            .collect();
        repeats += again.len();
        let requests = batch.requests.iter().chain(again.iter().map(|settled| &settled.request));
        let with_repeats = Batch { requests: requests.cloned().collect(), ..batch.clone() };
        let repeated = repeating.apply(index(at + 1), &with_repeats);
        let (originals, repeated_answers) = repeated.results.split_at(batch.requests.len());
        assert_eq!(originals, applied.results, "repeats change no other answer");
        for (settled, answer) in again.iter().zip(repeated_answers) {
            assert_eq!(answer, &settled.answer, "first answered in batch {}", settled.in_batch);
        }
        assert_eq!(repeated.events, applied.events, "repeats have no effects");
        assert_eq!(repeated.changes, applied.changes, "repeats change nothing");
    }
    assert_eq!(plain, repeating, "with and without repeats");
    repeats
}

fn check_schedule(schedule: &Schedule, picks: &[(u16, u8)]) -> usize {
    check(&run(schedule), picks)
}

/// One schedule of a seed, with repeats everywhere.
fn one_repetition(seed: u64) -> usize {
    let picks: Vec<(u16, u8)> =
        (0..60_u64).map(|pick| ((pick.wrapping_mul(seed + 7919) % 65_521) as u16, pick as u8)).collect();
    check_schedule(&schedule::of_seed(seed, 10..50), &picks)
}

/// Paste the seed of a failed run here.
#[test]
fn test_one_repetition() {
    one_repetition(0);
}

#[test]
fn repeats_change_nothing_and_there_were_some() {
    let repeats: usize = (0..12).map(|seed| super::naming_the_seed(seed, || one_repetition(seed))).sum();
    println!("{repeats} repeats");
    assert!(repeats > 100, "only {repeats} repeats");
}

proptest! {
    #![proptest_config(super::cases(24))]

    #[test]
    fn repeats_change_nothing(
        schedule in schedule::schedules(1..40),
        picks in proptest::collection::vec(any::<(u16, u8)>(), 0..40),
    ) {
        check_schedule(&schedule, &picks);
    }
}
