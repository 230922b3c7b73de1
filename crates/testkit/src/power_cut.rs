//! Random schedules of work and faults on a [`FaultDisk`], checked against the model.
//!
//! A schedule is a few lives of a node. Each life opens the log and the snapshots (sometimes the fault comes while it
//! does), compares what it finds with what the life before did, works, and ends by a power cut, a killed process, a
//! failed operation, a full disk or a clean stop. [`run`] does one schedule, and the same for the same seed.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use haltline_core::LogIndex;
use haltline_storage::{
    Disk, Flusher, LogOptions, RaftLog, SegmentedLog, SnapshotFiles, SnapshotMeta, SnapshotStore,
    StorageError,
};

use crate::{
    disk::{Fault, FaultDisk},
    log_model::{Action, LogModel, Step, Workload, decode_committed, encode_committed, steps_survived},
    rng::Rng,
};

/// Bytes of a schedule's segments: small, so that they fill.
const SEGMENT_BYTES: u32 = 8 * 1_024;
/// Bytes of the largest payload: most of a segment.
const PAYLOAD_BYTES_MAX: u64 = 3_000;

/// What schedules exercised. A test that saw none of something proves nothing about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exercised {
    /// Schedules run.
    pub schedules: u64,
    /// Times a log was opened and compared.
    pub openings: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Power cuts while a log was being opened.
    pub cuts_while_opening: u64,
    /// Files of which a cut left some unsynced pieces and took others.
    pub mixed_files: u64,
    /// Creations, renames and removals that a cut undid.
    pub lost_names: u64,
    /// Torn tails that recovery cut off.
    pub torn_tails: u64,
    /// Leftover files that recovery removed.
    pub leftovers: u64,
    /// Processes killed.
    pub kills: u64,
    /// Clean stops.
    pub stops: u64,
    /// Failed writes and syncs after which the log refused everything with that same error.
    pub failures: u64,
    /// Full disks that a log waited for, and went on from when there was room again.
    pub full_disks: u64,
    /// Full disks on which the process ended while its log waited.
    pub ends_on_full_disks: u64,
    /// Records appended.
    pub appends: u64,
    /// Truncations.
    pub truncations: u64,
    /// Purges.
    pub purges: u64,
    /// Votes.
    pub votes: u64,
    /// Committed marks found again.
    pub marks_found: u64,
    /// Segments opened behind the first.
    pub rolls: u64,
    /// Snapshots finished.
    pub snapshots: u64,
    /// Steps acknowledged.
    pub acknowledged: u64,
    /// Steps that a crash took, none of them acknowledged.
    pub lost: u64,
}

impl Exercised {
    fn counts(&mut self) -> [(&'static str, &mut u64); 22] {
        [
            ("schedules", &mut self.schedules),
            ("openings", &mut self.openings),
            ("cuts", &mut self.cuts),
            ("cuts while opening", &mut self.cuts_while_opening),
            ("mixed files", &mut self.mixed_files),
            ("lost names", &mut self.lost_names),
            ("torn tails", &mut self.torn_tails),
            ("leftovers", &mut self.leftovers),
            ("kills", &mut self.kills),
            ("stops", &mut self.stops),
            ("failures", &mut self.failures),
            ("full disks", &mut self.full_disks),
            ("ends on full disks", &mut self.ends_on_full_disks),
            ("appends", &mut self.appends),
            ("truncations", &mut self.truncations),
            ("purges", &mut self.purges),
            ("votes", &mut self.votes),
            ("marks found", &mut self.marks_found),
            ("rolls", &mut self.rolls),
            ("snapshots", &mut self.snapshots),
            ("acknowledged", &mut self.acknowledged),
            ("lost", &mut self.lost),
        ]
    }

    /// Adds another schedule's counts.
    pub fn add(&mut self, mut other: Self) {
        for ((_, total), (_, more)) in self.counts().into_iter().zip(other.counts()) {
            *total += *more;
        }
    }

    /// What was never exercised.
    pub fn missing(mut self) -> Vec<&'static str> {
        self.counts().into_iter().filter(|(_, count)| **count == 0).map(|(name, _)| name).collect()
    }
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Cut,
    CutWithin,
    Kill,
    Stop,
    Failure,
    FullDisk,
}

/// A node's disk, and what must be on it.
struct Schedule {
    rng: Rng,
    disk: FaultDisk,
    before: LogModel,
    steps: Vec<Step>,
    acknowledged: usize,
    /// The last step of which an answer is due.
    last_answered: usize,
    /// Marks that may be found.
    marks: Vec<Option<LogIndex>>,
    /// The last finished snapshot, and the one that was being finished when the fault came.
    snapshot: Option<(LogIndex, Bytes)>,
    unfinished: Option<(LogIndex, Bytes)>,
    seen: Exercised,
}

/// What a life works with.
struct Life {
    log: SegmentedLog,
    snapshots: SnapshotFiles,
    acknowledged: Arc<AtomicUsize>,
    workload: Workload,
}

/// Runs the schedule of this seed.
///
/// # Errors
/// What was lost, or refused without reason.
pub fn run(seed: u64) -> Result<Exercised, String> {
    let mut rng = Rng::new(seed);
    let disk = FaultDisk::new(rng.bits());
    let mut schedule = Schedule {
        rng,
        disk,
        before: LogModel::default(),
        steps: Vec::new(),
        acknowledged: 0,
        last_answered: 0,
        marks: vec![None],
        snapshot: None,
        unfinished: None,
        seen: Exercised { schedules: 1, ..Exercised::default() },
    };
    for _ in 0..schedule.rng.between(2, 5) {
        schedule.live()?;
    }
    let life = schedule.open()?;
    schedule.seen.openings += 1;
    drop(life);
    let stats = schedule.disk.stats();
    schedule.seen.cuts = stats.cuts;
    schedule.seen.mixed_files = stats.mixed_files;
    schedule.seen.lost_names = stats.lost_names;
    Ok(schedule.seen)
}

impl Schedule {
    fn live(&mut self) -> Result<(), String> {
        if self.rng.chance(1, 4) {
            self.cut_while_opening()?;
        }
        let mut life = self.open()?;
        self.seen.openings += 1;
        let end = self.arm();
        for _ in 0..self.rng.below(40) {
            if !self.act(&mut life) || self.disk.is_off() {
                break;
            }
        }
        self.finish(life, end)
    }

    /// Opens both stores with a power cut somewhere on the way; the next opening must still find everything.
    fn cut_while_opening(&mut self) -> Result<(), String> {
        let after = self.rng.below(10);
        self.disk.arm(after, Fault::PowerCut);
        let opened = self.try_open();
        self.disk.disarm();
        let is_off = self.disk.is_off();
        if is_off {
            self.seen.cuts_while_opening += 1;
        } else {
            opened.as_ref().map_err(|error| format!("refused a legal state: {error}"))?;
            self.disk.kill_process();
        }
        drop(opened);
        self.disk.restore_power();
        Ok(())
    }

    fn try_open(&self) -> Result<(SegmentedLog, SnapshotFiles), StorageError> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let options = LogOptions {
            segment_bytes: SEGMENT_BYTES,
            cache_bytes: 2_000,
            flusher: Flusher::Manual,
            ..LogOptions::default()
        };
        let snapshots = SnapshotFiles::open(Arc::clone(&disk), Path::new("/node/snapshots"))?;
        Ok((SegmentedLog::open(disk, Path::new("/node/log"), options)?, snapshots))
    }

    fn open(&mut self) -> Result<Life, String> {
        let (log, snapshots) = self.try_open().map_err(|error| format!("refused a legal state: {error}"))?;
        let found = LogModel::read_back(&log).map_err(|error| format!("can't read back: {error}"))?;
        let survived = steps_survived(&self.before, &self.steps, self.acknowledged, &found)?;
        self.seen.acknowledged += self.acknowledged as u64;
        self.seen.lost += (self.steps.len() - survived) as u64;
        self.seen.torn_tails += u64::from(log.recovery().cut.is_some());
        self.seen.leftovers += log.recovery().leftovers as u64;
        let mark = self.check_mark(&log, &found)?;
        self.check_snapshot(&snapshots, &found)?;
        self.before = found.clone();
        self.steps.clear();
        self.acknowledged = 0;
        self.last_answered = 0;
        self.marks = vec![mark];
        let workload = Workload::new(self.rng.fork(), found, mark, PAYLOAD_BYTES_MAX);
        Ok(Life { log, snapshots, acknowledged: Arc::default(), workload })
    }

    fn check_mark(&mut self, log: &SegmentedLog, found: &LogModel) -> Result<Option<LogIndex>, String> {
        let mark = log.committed().as_deref().and_then(decode_committed);
        if !self.marks.contains(&mark) {
            return Err(format!("the committed mark {mark:?} is none of {:?}", self.marks));
        }
        if mark > found.last() {
            return Err(format!(
                "the committed mark {mark:?} is ahead of the log, which ends at {:?}",
                found.last()
            ));
        }
        self.seen.marks_found += u64::from(mark.is_some());
        Ok(mark)
    }

    fn check_snapshot(&mut self, store: &SnapshotFiles, found: &LogModel) -> Result<(), String> {
        let reader = store.open_newest().map_err(|error| format!("can't open the snapshot: {error}"))?;
        let kept = match reader {
            None => None,
            Some(mut reader) => {
                let mut content = Vec::new();
                while let Some(chunk) = reader.next_chunk().map_err(|error| error.to_string())? {
                    content.extend_from_slice(&chunk);
                }
                Some((reader.info().meta.index, Bytes::from(content)))
            }
        };
        if kept != self.snapshot && (kept.is_none() || kept != self.unfinished) {
            return Err(format!(
                "found the snapshot {:?}, not {:?}",
                kept.map(|(index, _)| index),
                self.snapshot.as_ref().map(|(index, _)| *index)
            ));
        }
        let purged = found.purged.as_ref().map(|purged| purged.index);
        if purged > kept.as_ref().map(|(index, _)| *index) {
            return Err(format!("the log is purged through {purged:?}, beyond the snapshot"));
        }
        self.snapshot = kept;
        self.unfinished = None;
        Ok(())
    }

    fn arm(&mut self) -> End {
        match self.rng.below(12) {
            0..3 => End::Cut,
            3..7 => {
                let after = self.rng.below(30);
                self.disk.arm(after, Fault::PowerCut);
                End::CutWithin
            }
            7..9 => End::Kill,
            9 => End::Stop,
            10 => {
                let after = self.rng.below(30);
                self.disk.arm(after, Fault::Failure);
                End::Failure
            }
            _ => {
                let room = self.rng.below(3 * u64::from(SEGMENT_BYTES));
                self.disk.limit_room(Some(room));
                End::FullDisk
            }
        }
    }

    /// One action; false if the node has to stop.
    fn act(&mut self, life: &mut Life) -> bool {
        let action = life.workload.next_action();
        self.steps.extend(action.steps());
        let through = self.steps.len();
        let acknowledged = Arc::clone(&life.acknowledged);
        let flushed = move |result: Result<(), StorageError>| {
            if result.is_ok() {
                acknowledged.fetch_max(through, Ordering::Relaxed);
            }
        };
        // Refusals after a fault are looked at when the life ends.
        match action {
            Action::Append(records) => {
                self.seen.appends += records.len() as u64;
                self.last_answered = through;
                life.log.append(records, Box::new(flushed));
            }
            Action::Vote(vote) => {
                self.seen.votes += 1;
                self.last_answered = through;
                life.log.save_vote(vote, Box::new(flushed));
            }
            Action::Truncate(index) => {
                self.seen.truncations += u64::from(life.log.truncate_after(index).is_ok());
            }
            Action::Purge(purged) => {
                if !self.save_snapshot(life, purged.index) {
                    // Never purged, so that step wasn't taken.
                    self.steps.pop();
                    return false;
                }
                self.seen.purges += u64::from(life.log.purge_through(purged).is_ok());
            }
            Action::Committed(index) => {
                self.marks.push(Some(index));
                drop(life.log.save_committed(encode_committed(index)));
            }
        }
        if self.rng.chance(1, 3) {
            drop(life.log.flush());
        }
        self.acknowledged = life.acknowledged.load(Ordering::Relaxed);
        true
    }

    /// Makes sure that there is a snapshot through this index, sometimes after another that is given up.
    fn save_snapshot(&mut self, life: &Life, index: LogIndex) -> bool {
        if self.snapshot.as_ref().is_some_and(|(kept, _)| *kept >= index) {
            return true;
        }
        let content = Bytes::from(vec![index.0 as u8; self.rng.below(2_000) as usize]);
        let meta = SnapshotMeta { index, meta: Bytes::from(format!("through {index}")) };
        if self.rng.chance(1, 8) {
            drop(life.snapshots.begin(meta.clone()));
        }
        let written = life.snapshots.begin(meta).and_then(|mut writer| {
            let (front, back) = content.split_at(content.len() / 2);
            writer.write(front)?;
            writer.write(back)?;
            self.unfinished = Some((index, content.clone()));
            writer.finish()
        });
        if written.is_ok() {
            self.seen.snapshots += 1;
            self.snapshot = Some((index, content));
            self.unfinished = None;
        }
        written.is_ok()
    }

    fn finish(&mut self, life: Life, end: End) -> Result<(), String> {
        match end {
            End::Cut | End::CutWithin => self.disk.cut_power(),
            End::Kill => {
                self.seen.kills += 1;
                self.disk.kill_process();
            }
            End::Stop => {
                life.log.close().map_err(|error| format!("can't close: {error}"))?;
                self.seen.stops += 1;
                self.acknowledged = self.steps.len();
                self.marks.drain(..self.marks.len() - 1);
                self.disk.cut_power();
            }
            End::Failure => self.check_refusal(&life)?,
            End::FullDisk => self.check_waiting(&life)?,
        }
        self.seen.rolls += self.rolled();
        drop(life);
        self.disk.restore_power();
        self.disk.disarm();
        self.disk.limit_room(None);
        Ok(())
    }

    /// After a failure the log says the same to everybody; then the process ends, and restarts on what reads show.
    fn check_refusal(&mut self, life: &Life) -> Result<(), String> {
        if let Err(error) = life.log.flush() {
            let again = life.log.truncate_after(None);
            if again != Err(error.clone()) {
                return Err(format!("failed with `{error}`, then answered {again:?}"));
            }
            let StorageError::Io { .. } = error else {
                return Err(format!("a failure was reported as `{error}`"));
            };
            self.seen.failures += 1;
        }
        self.acknowledged = life.acknowledged.load(Ordering::Relaxed);
        self.disk.kill_process();
        Ok(())
    }

    /// On a full disk the log refuses nothing and waits. Sometimes the process ends then; else there is room again, and
    /// everything that was given becomes durable.
    fn check_waiting(&mut self, life: &Life) -> Result<(), String> {
        match life.log.flush() {
            Ok(()) => {}
            Err(StorageError::DiskFull { .. }) if self.rng.chance(1, 3) => self.seen.ends_on_full_disks += 1,
            Err(StorageError::DiskFull { .. }) => {
                self.disk.limit_room(None);
                life.log.flush().map_err(|error| format!("there is room, and it says `{error}`"))?;
                self.seen.full_disks += 1;
                // A truncation or a purge behind the last answer is durable with the next change.
                let acknowledged = life.acknowledged.load(Ordering::Relaxed);
                if acknowledged < self.last_answered {
                    return Err(format!("{acknowledged} of {} steps were answered", self.last_answered));
                }
            }
            Err(error) => return Err(format!("a full disk was reported as `{error}`")),
        }
        self.acknowledged = life.acknowledged.load(Ordering::Relaxed);
        self.disk.kill_process();
        Ok(())
    }

    /// Segment files beyond the first.
    fn rolled(&self) -> u64 {
        let files = self.disk.files();
        let segments = files.iter().filter(|(path, _)| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("log-"))
        });
        (segments.count() as u64).saturating_sub(1)
    }
}
