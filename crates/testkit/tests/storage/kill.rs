//! kill -9 on real files: whatever was acknowledged over a pipe is there after the kill.
//!
//! The child is this test binary, started again for [`child`]. It works by a seed, so the parent knows every step that
//! it can have taken, and compares what is left with the model.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
};

use haltline_core::LogIndex;
use haltline_storage::{Flusher, LogOptions, RaftLog, RealDisk, SegmentedLog, StorageError};
use haltline_testkit::{
    log_model::{Action, LogModel, Step, Workload, decode_committed, encode_committed, steps_survived},
    rng::Rng,
};

const DIR: &str = "HALTLINE_KILL_DIR";
const SEED: &str = "HALTLINE_KILL_SEED";
/// How many steps the child lets be on their way.
const OUTSTANDING_MAX: usize = 200;
const ROUNDS: u64 = 30;

fn open(dir: &Path) -> SegmentedLog {
    let options = LogOptions {
        segment_bytes: 64 * 1_024,
        cache_bytes: 100_000,
        flusher: Flusher::Thread,
        ..LogOptions::default()
    };
    SegmentedLog::open(Arc::new(RealDisk), dir, options).unwrap()
}

fn committed(log: &SegmentedLog) -> Option<LogIndex> {
    log.committed().as_deref().and_then(decode_committed)
}

fn workload(seed: u64, model: LogModel, committed: Option<LogIndex>) -> Workload {
    Workload::new(Rng::new(seed), model, committed, 5_000)
}

/// Works until it is killed. Only [`loses_nothing_that_was_acknowledged`] starts it.
#[test]
#[ignore = "runs as a child process only"]
fn child() {
    let (Ok(dir), Ok(seed)) = (env::var(DIR), env::var(SEED)) else { return };
    let log = open(Path::new(&dir));
    let mut work = workload(seed.parse().unwrap(), LogModel::read_back(&log).unwrap(), committed(&log));
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut through = 0;
    loop {
        let action = work.next_action();
        through += action.steps().len();
        let acknowledged_now = Arc::clone(&acknowledged);
        let flushed = move |result: Result<(), StorageError>| {
            result.unwrap();
            acknowledged_now.store(through, Ordering::Release);
            // One write each: what is killed between two of them has told nothing wrong.
            let line = format!("\nACK {through}\n");
            io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush()).unwrap();
        };
        match action {
            Action::Append(records) => log.append(records, Box::new(flushed)),
            Action::Vote(vote) => log.save_vote(vote, Box::new(flushed)),
            Action::Truncate(index) => log.truncate_after(index).unwrap(),
            Action::Purge(purged) => log.purge_through(purged).unwrap(),
            Action::Committed(index) => log.save_committed(encode_committed(index)).unwrap(),
        }
        while through > acknowledged.load(Ordering::Acquire) + OUTSTANDING_MAX {
            std::thread::yield_now();
        }
    }
}

/// Starts a child, kills it after it has acknowledged so often, and returns the last step that it acknowledged.
fn run_and_kill(dir: &Path, seed: u64, acknowledgements: u64) -> usize {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut last, mut heard) = (0, 0);
    let mut hear = |line: io::Result<String>| -> bool {
        // The last line can be cut by the kill; its number would be too small, never too large.
        if let Some(step) = line.unwrap().strip_prefix("ACK ").and_then(|step| step.parse().ok()) {
            last = last.max(step);
            heard += 1;
        }
        heard >= acknowledgements
    };
    let is_working = lines.by_ref().any(&mut hear);
    // SIGKILL: nothing of the child runs any more.
    child.kill().unwrap();
    // What it had written into the pipe before counts as acknowledged.
    for line in lines {
        hear(line);
    }
    child.wait().unwrap();
    assert!(is_working, "the child ended by itself after {heard} acknowledgements");
    last
}

#[test]
fn loses_nothing_that_was_acknowledged() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("log");
    fs::create_dir(&dir).unwrap();
    let mut rng = Rng::new(u64::from(std::process::id()));
    let (mut steps_acknowledged, mut steps_beyond, mut purges, mut truncations) = (0, 0, 0, 0);
    let mut rolls = std::collections::BTreeSet::new();
    let (mut before, mut mark) = (LogModel::default(), None);
    for round in 0..ROUNDS {
        let seed = rng.bits();
        let acknowledged = run_and_kill(&dir, seed, rng.between(1, 150));
        // The same work again, as far as the child can have come.
        let mut work = workload(seed, before.clone(), mark);
        let (mut steps, mut marks) = (Vec::new(), vec![mark]);
        while steps.len() <= acknowledged + 20 * OUTSTANDING_MAX {
            let action = work.next_action();
            if let Action::Committed(index) = action {
                marks.push(Some(index));
            }
            steps.extend(action.steps());
        }
        let log = open(&dir);
        let found = LogModel::read_back(&log).unwrap();
        let survived = steps_survived(&before, &steps, acknowledged, &found)
            .unwrap_or_else(|error| panic!("round {round}, work seed {seed}: {error}"));
        mark = committed(&log);
        assert!(marks.contains(&mark), "round {round}, work seed {seed}: mark {mark:?}");
        steps_acknowledged += acknowledged;
        steps_beyond += survived - acknowledged;
        purges += steps[..survived].iter().filter(|step| matches!(step, Step::Purge(_))).count();
        truncations += steps[..survived].iter().filter(|step| matches!(step, Step::Truncate(_))).count();
        rolls.extend(fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()));
        before = found;
        drop(log);
    }
    println!(
        "{ROUNDS} kills: {steps_acknowledged} steps acknowledged, all there; {steps_beyond} more survived; \
         {purges} purges, {truncations} truncations, {} files seen",
        rolls.len()
    );
    assert!(
        steps_acknowledged > 0 && purges > 0 && truncations > 0 && rolls.len() > 3,
        "everything was exercised"
    );
}
