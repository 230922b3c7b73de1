//! The machine beside its reference: answer by answer, and everything that can be seen after every batch. On the way, two
//! replicas are compared byte by byte, snapshots are restored, and a view follows the events.

use haltline_core::{
    attest::BundleStatement,
    command::Batch,
    event::{EnforcementEvent, event_bytes, event_from_bytes},
    ids::LogIndex,
    rejection::{Outcome, Rejection},
    snapshot,
    state::{Applied, State},
    view::View,
};
use proptest::prelude::*;

use super::{
    author::Author,
    coverage::Coverage,
    furnish::furnishing,
    model::{Answer, Model, Told},
    schedule::{self, Schedule, Start, What},
    seen,
    world::{batch, batch_after, founding, index},
};

/// The machine, its reference, a replica that restarts from snapshots, and a view that only knows the events.
pub(crate) struct Bench {
    pub(crate) state: State,
    pub(crate) model: Model,
    pub(crate) log: Vec<Batch>,
    restarting: State,
    view: View,
    pub(crate) coverage: Coverage,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            state: State::new(),
            model: Model::default(),
            log: Vec::new(),
            restarting: State::new(),
            view: View::default(),
            coverage: Coverage::default(),
        }
    }

    /// A bench on which a start has been made.
    pub(crate) fn at(start: Start) -> Self {
        let mut bench = Self::new();
        if start != Start::Nothing {
            bench.apply(founding());
        }
        if start == Start::Staffed {
            for request in furnishing() {
                let code = request.command.name();
                let applied = bench.apply(batch(1, vec![request]));
                let done = &applied.results[0];
                assert!(matches!(done, Ok(outcome) if !is_refused(outcome)), "{code}: {done:?}");
            }
        }
        bench
    }

    /// Applies a batch everywhere and compares.
    pub(crate) fn apply(&mut self, batch: Batch) -> Applied {
        let at = index(self.log.len() + 1);
        let before = self.model.repeats;
        let remembered = self.state.remembers_staleness();
        let credentials = self.state.credentials().len();
        let applied = self.state.apply(at, &batch);
        let answers = self.model.apply(at, &batch);
        let told: Vec<Answer> = applied.results.iter().map(told).collect();
        for ((request, told), answer) in batch.requests.iter().zip(&told).zip(&answers) {
            assert_eq!(
                told, answer,
                "entry {at}: {request:#?}\nthe machine answered otherwise: {applied:#?}"
            );
        }
        seen::assert_same(&self.state, &self.model);
        self.compare_replicas(at, &batch, &applied);
        if self.log.len().is_multiple_of(7) {
            seen::assert_same_previews(&self.state, &self.model);
        }
        for event in &applied.events {
            self.follow(event);
        }
        assert_eq!(self.view, self.state.view(), "the view that followed the events");
        self.coverage.note(&batch, &applied, self.model.repeats - before);
        let forgot = remembered && !self.state.remembers_staleness();
        self.coverage.count("old staleness forgotten", usize::from(forgot));
        let ended = credentials.saturating_sub(self.state.credentials().len());
        self.coverage.count("credential ended", ended);
        self.log.push(batch);
        applied
    }

    /// Takes an event up as an enforcer would: from its bytes, with new keys only on the word of the old ones.
    fn follow(&mut self, event: &EnforcementEvent) {
        let bytes = event_bytes(event);
        let event = event_from_bytes(&bytes).unwrap();
        if let EnforcementEvent::TrustBundleSet(change) = &event {
            let (cluster_id, incarnation) = self.view.cluster.unwrap();
            let (version, keys) = (change.version, change.keys.as_slice());
            let old: Vec<_> = self.view.node_keys.iter().map(|(node, key)| (*node, *key)).collect();
            let statement = BundleStatement { cluster_id, incarnation, version, keys };
            statement.verify(self.view.bundle_version, &old, &change.endorsements).unwrap();
        }
        let expected = self.view.position.after_bytes(&bytes);
        self.view.apply(&event);
        assert_eq!(self.view.position, expected);
    }

    /// A replica that restarts from its own bytes now and then does the same and ends in the same bytes.
    fn compare_replicas(&mut self, at: LogIndex, batch: &Batch, applied: &Applied) {
        // At some points only, since encoding costs more than all the rest.
        let restarts = batch.cluster_time.0.is_multiple_of(5);
        if restarts {
            let restarted = restored(&self.restarting);
            assert_eq!(restarted, self.restarting, "a snapshot, decoded, with all that follows from it");
            self.restarting = restarted;
            assert_eq!(
                View::decode(&self.view.encode()).as_ref(),
                Ok(&self.view),
                "a view, encoded and decoded"
            );
        }
        assert_eq!(&self.restarting.apply(at, batch), applied, "after a restore");
        if restarts {
            assert_eq!(encoded(&self.restarting), encoded(&self.state), "the bytes of two replicas");
        }
        assert_eq!(self.restarting, self.state, "two replicas");
        assert_eq!(self.restarting.chain(), self.state.chain(), "the chain heads of two replicas");
    }
}

fn is_refused(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Executed { outcome, .. } if outcome.is_err())
}

/// A result of the machine in the reference's terms.
fn told(result: &Result<Outcome, Rejection>) -> Answer {
    match result {
        Ok(Outcome::Executed { approval, outcome }) => match outcome.as_ref() {
            Ok(_) => result.clone().map(Told::Done).map_err(|rejection| rejection.code()),
            Err(rejection) => Ok(Told::RefusedInTheEnd(*approval, rejection.code())),
        },
        Ok(outcome) => Ok(Told::Done(outcome.clone())),
        Err(rejection) => Err(rejection.code()),
    }
}

/// The state's bytes.
pub(crate) fn encoded(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot::encode(state, &mut bytes).unwrap();
    bytes
}

/// The state, through bytes and back.
pub(crate) fn restored(state: &State) -> State {
    snapshot::decode(&mut encoded(state).as_slice()).unwrap()
}

/// Runs a schedule on a bench.
pub(crate) fn run(schedule: &Schedule) -> Bench {
    let mut bench = Bench::at(schedule.start);
    let mut author = Author::default();
    let mut now = bench.model.now.cluster_time.0;
    for step in &schedule.steps {
        now += step.passes_ms;
        let requests = step.deeds.iter().map(|deed| author.write(&bench.model, now, deed)).collect();
        let applied = bench.log.len().saturating_sub(usize::from(step.lag));
        bench.apply(batch_after(now, applied, requests));
    }
    bench
}

/// One schedule of a seed.
pub(crate) fn one_schedule(seed: u64) -> Bench {
    run(&schedule::of_seed(seed, 20..90))
}

/// Paste the seed of a failed run here.
#[test]
fn test_one_schedule() {
    one_schedule(0);
}

/// A fixed set of seeds, so that what is exercised doesn't change from run to run; each kind of thing must have happened.
#[test]
fn the_machine_is_its_reference_and_everything_was_exercised() {
    let mut coverage = Coverage::default();
    for seed in 0..SEEDS {
        let bench = super::naming_the_seed(seed, || one_schedule(seed));
        coverage.add(&bench.coverage);
    }
    println!("{coverage}");
    coverage.assert_nothing_is_missing();
}

const SEEDS: u64 = 80;

proptest! {
    #![proptest_config(super::cases(48))]

    #[test]
    fn the_machine_is_its_reference(schedule in schedule::schedules(1..60)) {
        run(&schedule);
    }

    /// Where a batch is cut, at the same stamps, changes nothing but the indices. So receipts, which name one, stay out.
    #[test]
    fn batching_does_not_matter(mut schedule in schedule::schedules(1..40)) {
        for step in &mut schedule.steps {
            step.deeds.retain(|deed| deed.what != What::ReceiptRecord);
        }
        let bench = run(&schedule);
        let (mut whole, mut single) = (State::new(), State::new());
        let mut at_single = 0;
        for (at, batch) in bench.log.iter().enumerate() {
            let together = whole.apply(index(at + 1), batch);
            let mut apart = Vec::new();
            for part in cut(batch) {
                at_single += 1;
                apart.extend(single.apply(index(at_single), &part).results);
            }
            if order_shows(batch) {
                break;
            }
            prop_assert_eq!(codes(&together.results), codes(&apart));
            prop_assert!(whole.fleets().keys().eq(single.fleets().keys()));
            prop_assert!(whole.agents().keys().eq(single.agents().keys()));
            prop_assert!(whole.kills().keys().eq(single.kills().keys()));
            prop_assert!(whole.approvals().keys().eq(single.approvals().keys()));
        }
    }
}

fn codes(results: &[Result<Outcome, Rejection>]) -> Vec<Result<(), &'static str>> {
    results.iter().map(|result| told(result).map(drop)).collect()
}

/// Of a kill and a signature in one entry nobody can say that the signer knew of the kill; in two, one can.
fn order_shows(batch: &Batch) -> bool {
    let kills = batch.requests.iter().any(|request| request.command.is_kill());
    kills && batch.requests.iter().any(|request| request.signature.is_some())
}

fn cut(batch: &Batch) -> Vec<Batch> {
    let head = Batch { requests: Vec::new(), ..batch.clone() };
    let tail = batch.requests.iter().map(|request| Batch {
        requests: vec![request.clone()],
        genesis: None,
        ..batch.clone()
    });
    std::iter::once(head).chain(tail).collect()
}
