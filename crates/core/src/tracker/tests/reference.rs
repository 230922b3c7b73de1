//! The tracker against a slow one that forgets nothing and looks at everything.

use proptest::prelude::{Just, ProptestConfig, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::{collection::vec, test_runner::TestCaseError};

use super::*;

const STREAMS: u64 = 4;
const WINDOWS: [u64; 2] = [40, 100];

#[derive(Debug, Clone, Copy)]
enum Step {
    Open { name: u8, trusted: bool, served: u8 },
    Grant { stream: u64, behind: u64, lasts: usize, late: u64 },
    Ack { stream: u64, behind: u64 },
    Close { stream: u64 },
    Apply,
    Watch { behind: u64, fleet: u8, lasts: usize },
    Look { watch: usize },
    Settle,
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0_u8..3, proptest::bool::weighted(0.8), 0_u8..3)
            .prop_map(|(name, trusted, served)| Step::Open { name, trusted, served }),
        6 => (0..STREAMS, 0_u64..3, 0_usize..2, 0_u64..20)
            .prop_map(|(stream, behind, lasts, late)| Step::Grant { stream, behind, lasts, late }),
        4 => (0..STREAMS, 0_u64..3).prop_map(|(stream, behind)| Step::Ack { stream, behind }),
        1 => (0..STREAMS).prop_map(|stream| Step::Close { stream }),
        3 => Just(Step::Apply),
        2 => (0_u64..3, 0_u8..3, 0_usize..2)
            .prop_map(|(behind, fleet, lasts)| Step::Watch { behind, fleet, lasts }),
        4 => (0_usize..8).prop_map(|watch| Step::Look { watch }),
        1 => Just(Step::Settle),
        4 => (0_u64..30).prop_map(|millis| Step::Pass { millis }),
    ]
}

/// A grant as it happened.
struct Given {
    stream: u64,
    index: u64,
    ends: u64,
    at: u64,
}

#[derive(Default)]
struct Told {
    acked: u64,
    served: u8,
    trusted: bool,
}

struct Watched {
    id: WatchId,
    index: u64,
    fleet: u8,
    window: u64,
    began: u64,
    was_clear: bool,
}

/// What happened, whole.
struct History {
    tracker: Tracker,
    now: u64,
    applied: u64,
    /// The stream in each slot.
    slots: [Option<u64>; STREAMS as usize],
    streams: Vec<Told>,
    given: Vec<Given>,
    watched: Vec<Watched>,
    settled: u64,
}

/// 0 stands for everything.
fn paths(served: u8) -> [Option<FleetPath>; 1] {
    [(served > 0).then(|| format!("fleet-{served}").parse().unwrap())]
}

fn overlap(served: u8, fleet: u8) -> bool {
    served == 0 || fleet == 0 || served == fleet
}

impl History {
    fn new() -> Self {
        Self {
            tracker: Tracker::new(at(0), drift()),
            now: 0,
            applied: 1,
            slots: [None; STREAMS as usize],
            streams: Vec::new(),
            given: Vec::new(),
            watched: Vec::new(),
            settled: 0,
        }
    }

    /// Whether somebody may still permit under a view from before `index`.
    fn is_endangered(&self, index: u64, touched: impl Fn(u8) -> bool, cut: impl Fn(&Given) -> u64) -> bool {
        self.given.iter().any(|given| {
            let told = &self.streams[given.stream as usize];
            given.index < index && told.acked < index && touched(told.served) && self.now < cut(given)
        })
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Open { name, trusted, served } => self.open(name, trusted, served),
            Step::Grant { stream, behind, lasts, late } => self.grant(stream, behind, lasts, late)?,
            Step::Ack { stream, behind } => self.ack(stream, behind),
            Step::Close { stream } => {
                if let Some(id) = self.slots[stream as usize].take() {
                    self.tracker.closed(StreamId(id), at(self.now));
                }
            }
            Step::Apply => self.applied += 1,
            Step::Watch { behind, fleet, lasts } => self.watch(behind, fleet, lasts),
            Step::Look { watch } if watch < self.watched.len() => self.look(watch)?,
            Step::Look { .. } => {}
            Step::Settle => self.settle()?,
            Step::Pass { millis } => self.now += millis,
        }
        Ok(())
    }

    fn open(&mut self, name: u8, trusted: bool, served: u8) {
        let Some(slot) = self.slots.iter().position(Option::is_none) else { return };
        let id = self.streams.len() as u64;
        let acks = if trusted { Acks::Count } else { Acks::DontCount };
        let name = format!("edge-{name}").parse().unwrap();
        let enforcer = Enforcer { name, paths: Arc::from(paths(served)), acks };
        self.tracker.open(StreamId(id), enforcer, at(self.now)).unwrap();
        self.streams.push(Told { acked: 0, served, trusted });
        self.slots[slot] = Some(id);
    }

    fn grant(&mut self, stream: u64, behind: u64, lasts: usize, late: u64) -> Result<(), TestCaseError> {
        let Some(id) = self.slots[stream as usize] else { return Ok(()) };
        let index = self.applied.saturating_sub(behind);
        let given_at = self.now.saturating_sub(late);
        let floor = self.tracker.floor().0;
        match self.tracker.granting(StreamId(id), LogIndex(index), Millis(WINDOWS[lasts]), at(given_at)) {
            Ok(()) => {
                self.given.push(Given { stream: id, index, ends: given_at + WINDOWS[lasts], at: given_at });
                prop_assert!(index >= floor);
            }
            Err(error) => {
                prop_assert_eq!(
                    error,
                    TrackerError::Superseded { index: LogIndex(index), floor: LogIndex(floor) }
                );
            }
        }
        Ok(())
    }

    fn ack(&mut self, stream: u64, behind: u64) {
        let Some(id) = self.slots[stream as usize] else { return };
        let index = self.applied.saturating_sub(behind);
        self.tracker.acked(StreamId(id), LogIndex(index)).unwrap();
        let told = &mut self.streams[id as usize];
        if told.trusted {
            told.acked = told.acked.max(index);
        }
    }

    fn watch(&mut self, behind: u64, fleet: u8, lasts: usize) {
        let index = self.applied.saturating_sub(behind);
        let [fleet_path] = paths(fleet);
        let selector = Selector { fleet: fleet_path, ..Selector::default() };
        let window = WINDOWS[lasts];
        let kill = WatchedKill { index: LogIndex(index), selector, max_staleness: Millis(window) };
        let id = self.tracker.watch(kill, LogIndex(self.applied), at(self.now)).unwrap();
        self.watched.push(Watched { id, index, fleet, window, began: self.now, was_clear: false });
    }

    fn look(&mut self, which: usize) -> Result<(), TestCaseError> {
        let Watched { id, index, fleet, window, began, was_clear } = self.watched[which];
        let is_clear = matches!(self.tracker.clear(id, at(self.now)).unwrap(), Clear::Cleared(_));
        let deadline = began + window;
        let endangered = self.is_endangered(
            index,
            |served| overlap(served, fleet),
            |given| given.ends.min(given.at + window).min(deadline),
        );
        if is_clear && !was_clear {
            prop_assert!(!endangered && self.now >= window.min(deadline), "clear too early at {}", self.now);
        }
        prop_assert!(is_clear || !was_clear, "clear once, clear for good");
        prop_assert!(is_clear || self.now < deadline, "not clear at its deadline");
        // Merging makes a wait longer by a quarter of a lease at most.
        let slack = |given: &Given| (given.ends + 50).min(deadline);
        let may_wait = self.is_endangered(index, |_| true, slack) || self.now < window;
        prop_assert!(is_clear || may_wait, "not clear although nobody can permit");
        self.watched[which].was_clear = is_clear;
        Ok(())
    }

    fn settle(&mut self) -> Result<(), TestCaseError> {
        let settled = self.tracker.settle(LogIndex(self.applied), Millis(100), at(self.now));
        let Some(LogIndex(settled)) = settled else {
            prop_assert!(self.now < 100);
            return Ok(());
        };
        prop_assert!(settled <= self.applied);
        prop_assert!(settled <= self.settled || !self.is_endangered(settled, |_| true, |given| given.ends));
        let all_done = !self.is_endangered(self.applied, |_| true, |given| given.ends + 50);
        prop_assert!(settled == self.applied || !all_done);
        self.settled = self.settled.max(settled);
        Ok(())
    }
}

fn one_history(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut history = History::new();
    steps.into_iter().try_for_each(|step| history.take(step))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_tracker_agrees_with_one_that_forgets_nothing(steps in vec(step(), 1..120)) {
        one_history(steps)?;
    }
}
