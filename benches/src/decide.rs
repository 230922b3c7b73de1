//! `decide` (P1): what one warm decision costs, with everything there is to look at, while views change, on several threads.
//!
//! The median is that of batches of decisions back to back, each batch timed as a whole: to time one alone would cost as
//! much as the decision. The 99.9th percentile can't be had so; it is of decisions timed one by one, less what timing
//! nothing costs.

use std::{
    hint::black_box,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use haltline_core::{event::EnforcementEvent, text::Labels};
use haltline_edge::enforce::{BootClock, Clock as _, Session};
use hdrhistogram::Histogram;

use crate::{
    General,
    edge::{ACTION, EdgeWorld, IdRun, Sizes, agent_path, failed, revocation},
    failure::Failure,
    machine::Machine,
    report::{self, Line},
    spread::Spread,
};

/// The targets of P1, in ns.
const QUIET_NS_MAX: f64 = 60.0;
const CHANGING_NS_MAX: f64 = 150.0;
/// What P2 leaves for one decision where ten thousand agents take turns: two cores, 12.5 million a second.
const MANY_NS_MAX: f64 = 160.0;
/// Decisions that are timed together.
const BATCH: usize = 64;
/// A statement verifies what was heard after so many changes, as a probe's answer does twice a second.
const CHANGES_PER_STATEMENT: u64 = 500;
/// The longest that a histogram tells apart: a second.
const NANOS_MAX: u64 = 1_000_000_000;

/// What `decide` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct DecideArguments {
    /// Runs; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Milliseconds that are measured, in each run of each case
    #[arg(long, default_value_t = 1_000, value_name = "NUMBER")]
    measured_ms: u64,
    /// Registered agents in the large view
    #[arg(long, default_value_t = 100_000, value_name = "NUMBER")]
    agents: u64,
    /// Kills in force in the large view
    #[arg(long, default_value_t = 10_000, value_name = "NUMBER")]
    kills: u64,
    /// Revocations in force in the large view
    #[arg(long, default_value_t = 1_000_000, value_name = "NUMBER")]
    revocations: u64,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
struct Case {
    is_large: bool,
    view_changes_per_s: u64,
    threads: usize,
    /// Sessions that each thread decides for, by turns.
    sessions: usize,
}

impl Case {
    const fn median_ns_max(self) -> f64 {
        match (self.view_changes_per_s, self.sessions) {
            (0, 1) => QUIET_NS_MAX,
            (0, _) => MANY_NS_MAX,
            _ => CHANGING_NS_MAX,
        }
    }
}

const CASES: [Case; 7] = [
    Case { is_large: false, view_changes_per_s: 0, threads: 1, sessions: 1 },
    Case { is_large: true, view_changes_per_s: 0, threads: 1, sessions: 1 },
    Case { is_large: true, view_changes_per_s: 1_000, threads: 1, sessions: 1 },
    Case { is_large: true, view_changes_per_s: 0, threads: 2, sessions: 1 },
    Case { is_large: true, view_changes_per_s: 1_000, threads: 2, sessions: 1 },
    Case { is_large: true, view_changes_per_s: 0, threads: 1, sessions: 10_000 },
    Case { is_large: true, view_changes_per_s: 1_000, threads: 1, sessions: 10_000 },
];

/// What one run of one case gave.
#[derive(Debug, Clone, Copy)]
struct Figures {
    median_ns: f64,
    p999_ns: f64,
    decisions_per_s: f64,
}

/// Runs the benchmark.
pub(crate) fn run(general: &General, arguments: &DecideArguments) -> Result<(), Failure> {
    let large =
        Sizes { agents: arguments.agents, kills: arguments.kills, revocations: arguments.revocations };
    let small = Sizes { agents: 20_000, kills: 0, revocations: 0 };
    let mut worlds = [(small, EdgeWorld::new(small)?), (large, EdgeWorld::new(large)?)];
    let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); CASES.len()];
    let mut clocks = Vec::new();
    for run in 1..=arguments.runs {
        eprintln!("run {run} of {}", arguments.runs);
        clocks.push(clock_ns());
        for (case, figures) in CASES.iter().zip(&mut figures) {
            let (sizes, world) = &mut worlds[usize::from(case.is_large)];
            figures.push(measure(world, *sizes, *case, Duration::from_millis(arguments.measured_ms))?);
        }
    }
    let clock = Spread::of(clocks).expect("there is at least one run");
    general.show(&format!("{}\n", Machine::here()));
    general.show(&table(&figures, clock));
    let sizes = [small, large];
    let lines: Vec<Line> = CASES
        .iter()
        .zip(&figures)
        .map(|(case, figures)| line(*case, sizes[usize::from(case.is_large)], figures, clock))
        .collect();
    general.show_json(&lines);
    Ok(())
}

/// One read of the clock that a decision needs.
fn clock_ns() -> f64 {
    const READS: u32 = 2_000_000;
    let start = Instant::now();
    for _ in 0..READS {
        black_box(BootClock.now());
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(READS)
}

fn measure(world: &mut EdgeWorld, sizes: Sizes, case: Case, measured: Duration) -> Result<Figures, Failure> {
    // A lease lasts five minutes.
    world.lease()?;
    let sessions: Vec<Vec<Session>> = (0..case.threads)
        .map(|thread| {
            (0..case.sessions)
                .map(|number| {
                    let token = world.token((thread * case.sessions + number) as u64, sizes.agents)?;
                    world.core.session(&token).map_err(|refused| failed(&refused))
                })
                .collect()
        })
        .collect::<Result<_, Failure>>()?;
    let is_over = AtomicBool::new(false);
    // Threads that decide, and one that changes the view, start together.
    let barrier = Barrier::new(case.threads + 1);
    thread::scope(|scope| {
        let deciding: Vec<_> =
            sessions.iter().map(|sessions| scope.spawn(|| decide(sessions, &is_over, &barrier))).collect();
        barrier.wait();
        let changed = change_for(world, case.view_changes_per_s, measured);
        is_over.store(true, Ordering::Relaxed);
        let mut all = Decided::default();
        for decided in deciding {
            all.add(&decided.join().map_err(|_| failed(&"a deciding thread panicked"))??);
        }
        changed.map(|()| all.figures())
    })
}

/// Changes the view at a rate, or only waits. What changes touches none of the sessions that decide: revocations of others'
/// grants mostly, and one agent's labels.
fn change_for(world: &mut EdgeWorld, per_s: u64, measured: Duration) -> Result<(), Failure> {
    let start = Instant::now();
    if per_s == 0 {
        wait_until(start + measured);
        return Ok(());
    }
    let total = measured.as_millis() as u64 * per_s / 1_000;
    for number in 0..total {
        let due = Duration::from_nanos(number * 1_000_000_000 / per_s);
        wait_until(start + due);
        let event = if number % 10 == 9 {
            let path = agent_path(0).replace("bot-0", "bot-unused").parse().expect("a path");
            let labels = Labels::from_pairs([("turn", number.to_string())]).expect("labels");
            EnforcementEvent::AgentSet { path, labels }
        } else {
            revocation(IdRun::LaterGrant, number)
        };
        world.hear(&[event])?;
        if number % CHANGES_PER_STATEMENT == 0 {
            world.verify()?;
        }
    }
    world.verify()
}

/// On a thread of its own, which nobody unparks.
fn wait_until(moment: Instant) {
    while let Some(left) = moment.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// What deciding threads counted.
struct Decided {
    /// Tenths of ns per decision, of batches.
    batches: Histogram<u64>,
    /// ns of single decisions, less what timing costs.
    singles: Histogram<u64>,
    decisions_per_s: f64,
}

impl Default for Decided {
    fn default() -> Self {
        let histogram = || Histogram::new_with_max(NANOS_MAX, 3).expect("three digits up to a second");
        Self { batches: histogram(), singles: histogram(), decisions_per_s: 0.0 }
    }
}

impl Decided {
    fn add(&mut self, other: &Self) {
        for (mine, others) in [(&mut self.batches, &other.batches), (&mut self.singles, &other.singles)] {
            mine.add(others).expect("they have the same shape");
        }
        self.decisions_per_s += other.decisions_per_s;
    }

    fn figures(&self) -> Figures {
        Figures {
            median_ns: self.batches.value_at_quantile(0.5) as f64 / 10.0,
            p999_ns: self.singles.value_at_quantile(0.999) as f64,
            decisions_per_s: self.decisions_per_s,
        }
    }
}

/// Decides until it is over: batches, and now and then single decisions.
fn decide(sessions: &[Session], is_over: &AtomicBool, barrier: &Barrier) -> Result<Decided, Failure> {
    let mut decided = Decided::default();
    for session in sessions {
        let verdict = session.decide(&ACTION);
        verdict.denial().map_or(Ok(()), |denial| Err(failed(denial)))?;
    }
    let timing_ns = timing_ns();
    barrier.wait();
    let (mut timed, mut decisions, mut denied) = (Duration::ZERO, 0_u64, 0_u64);
    let mut turn = sessions.iter().cycle();
    let mut next = || turn.next().expect("there are sessions");
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..16 {
            let start = Instant::now();
            for _ in 0..BATCH {
                denied += u64::from(!black_box(next().decide(black_box(&ACTION))).is_permit());
            }
            let elapsed = start.elapsed();
            timed += elapsed;
            let tenths = elapsed.as_nanos() as u64 * 10 / BATCH as u64;
            decided.batches.saturating_record(tenths);
        }
        decisions += 16 * BATCH as u64;
        for _ in 0..BATCH {
            let session = next();
            let start = Instant::now();
            denied += u64::from(!black_box(session.decide(black_box(&ACTION))).is_permit());
            let nanos = start.elapsed().as_nanos() as u64;
            decided.singles.saturating_record(nanos.saturating_sub(timing_ns));
        }
    }
    if denied > 0 {
        return Err(failed(&format!("{denied} of {decisions} decisions were denials")));
    }
    // Of the time that batches took: what is timed one by one is slower for the timing.
    decided.decisions_per_s = decisions as f64 / timed.as_secs_f64().max(f64::MIN_POSITIVE);
    Ok(decided)
}

/// What timing nothing costs, at the median.
fn timing_ns() -> u64 {
    let mut histogram = Histogram::<u64>::new_with_max(NANOS_MAX, 3).expect("three digits up to a second");
    for _ in 0..100_000 {
        let start = Instant::now();
        histogram.saturating_record(start.elapsed().as_nanos() as u64);
    }
    histogram.value_at_quantile(0.5)
}

fn spread(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> Spread {
    Spread::of(figures.iter().map(of)).expect("there is at least one run")
}

fn line(case: Case, sizes: Sizes, figures: &[Figures], clock: Spread) -> Line {
    Line::new("decide")
        .param("budgets", 0)
        .param("view_changes_per_s", case.view_changes_per_s)
        .param("threads", case.threads)
        .param("sessions", case.sessions)
        .param("agents", sizes.agents)
        .param("kills", sizes.kills)
        .param("revocations", sizes.revocations)
        .metric("median_ns", spread(figures, |figures| figures.median_ns))
        .metric("p999_ns", spread(figures, |figures| figures.p999_ns))
        .metric("decisions_per_s", spread(figures, |figures| figures.decisions_per_s))
        .metric("clock_read_ns", clock)
}

fn table(figures: &[Vec<Figures>], clock: Spread) -> String {
    let heading = [
        "view",
        "changes/s",
        "threads",
        "sessions each",
        "median ns",
        "p99.9 ns",
        "decisions/s",
        "target",
        "verdict",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (case, figures) in CASES.iter().zip(figures) {
        let median = spread(figures, |figures| figures.median_ns);
        let max = case.median_ns_max();
        rows.push(vec![
            if case.is_large { "large" } else { "small" }.to_owned(),
            case.view_changes_per_s.to_string(),
            case.threads.to_string(),
            case.sessions.to_string(),
            report::spread(median),
            report::spread(spread(figures, |figures| figures.p999_ns)),
            report::spread(spread(figures, |figures| figures.decisions_per_s)),
            format!("median ≤ {max}"),
            if median.median <= max { "holds" } else { "FALLS SHORT" }.to_owned(),
        ]);
    }
    format!("one read of the clock: {} ns\n\n{}", report::spread(clock), report::table(&rows))
}
