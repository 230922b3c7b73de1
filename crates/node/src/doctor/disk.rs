//! The disk under the data directory: how fast it makes things durable, whether it does at all, and how much room it has.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use haltline_consensus::Timing;
use haltline_core::limits::{DOCTOR_SYNC_PROBE_BUDGET, DOCTOR_SYNC_PROBES, SNAPSHOT_WRITERS_MAX};
use haltline_storage::{RealDisk, StorageError, measure_sync_latency};
use rustix::fs::{statfs, statvfs};

use super::Finding;
use crate::config::{ByteSize, NodeConfig};

/// Syncs in one go, between which the budget is looked at.
const PROBES_AT_ONCE: usize = 10;
/// `f_type` of file systems whose contents end with the machine's power (statfs(2)).
const TMPFS: i128 = 0x0102_1994;
const RAMFS: i128 = 0x8584_58f6;
/// And of one whose syncs depend on another machine.
const NFS: i128 = 0x6969;
/// Below this a node may not even finish what it is writing.
const ROOM_MIN: u64 = 256 << 20;

/// The nearest directory that exists: the data directory is made when the node starts.
fn existing(directory: &Path) -> &Path {
    let found = directory.ancestors().find(|one| one.is_dir());
    found.filter(|one| !one.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where to probe the disk of a data directory: there, unless nobody owns it yet. What a probe that is killed leaves behind would
/// then look like data without an owner, so the directory above does, if it is on the same disk.
fn probed_instead_of(data_dir: &Path) -> &Path {
    let directory = existing(data_dir);
    let device = |path: &Path| fs::metadata(path).ok().map(|about| about.dev());
    let is_owned = directory.join("IDENTITY").exists() || directory != data_dir;
    let above = directory.parent().filter(|above| !above.as_os_str().is_empty());
    above.filter(|above| !is_owned && device(above) == device(directory)).unwrap_or(directory)
}

/// How long syncs take, judged by what the timing allows.
pub(super) fn sync_latency(data_dir: &Path, timing: Timing) -> Vec<Finding> {
    let directory = probed_instead_of(data_dir);
    let subject = directory.display().to_string();
    let mut findings = vec![kind(directory, &subject)];
    findings.push(match probed(directory) {
        Ok(latency) => judge(subject, latency, timing),
        Err(error) => Finding::fail("sync-latency", subject, error.to_string())
            .remedy("a disk with room, on which the user that the node runs as may write"),
    });
    findings
}

/// A directory of this process for its probe, gone when this is dropped: the node and whoever sits at its machine may look at
/// the same time.
struct OwnDirectory(PathBuf);

impl OwnDirectory {
    fn below(directory: &Path) -> Self {
        let path = directory.join(format!(".doctor-{}", std::process::id()));
        // Where it can't be made, the probe says so, and why.
        let _ = fs::create_dir(&path);
        Self(path)
    }
}

impl Drop for OwnDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
struct SyncLatency {
    tried: usize,
    median: Duration,
    max: Duration,
}

/// As many probes as fit into the time that somebody waits for.
fn probed(directory: &Path) -> Result<SyncLatency, StorageError> {
    let until = Instant::now() + Duration::from_millis(DOCTOR_SYNC_PROBE_BUDGET.0);
    let own = OwnDirectory::below(directory);
    let mut took = measure_sync_latency(&RealDisk, &own.0, PROBES_AT_ONCE)?;
    while took.len() < DOCTOR_SYNC_PROBES && Instant::now() < until {
        took.extend(measure_sync_latency(&RealDisk, &own.0, PROBES_AT_ONCE)?);
    }
    took.sort_unstable();
    let at = |position: usize| took.get(position).copied().unwrap_or_default();
    Ok(SyncLatency { tried: took.len(), median: at(took.len() / 2), max: at(took.len().saturating_sub(1)) })
}

/// A follower acknowledges when its disk has, so the slow syncs have to be small beside a heartbeat, and must never reach
/// the time after which the others hold another election.
fn judge(subject: String, latency: SyncLatency, timing: Timing) -> Finding {
    let told = format!(
        "a sync takes {} (median), {} at worst ({} tried)",
        shown(latency.median),
        shown(latency.max),
        latency.tried
    );
    let good = timing.heartbeat / 2;
    let finding = if latency.median >= timing.election_min {
        Finding::fail("sync-latency", subject, told)
    } else if latency.median >= good || latency.max >= timing.election_min {
        Finding::warn("sync-latency", subject, told)
    } else {
        return Finding::ok("sync-latency", subject, told);
    };
    finding.remedy(format!(
        "below {} usually and below {} always, as this timing profile waits: a local SSD that nothing else keeps busy",
        shown(good),
        shown(timing.election_min)
    ))
}

/// What kind of file system it is, as far as that matters.
fn kind(directory: &Path, subject: &str) -> Finding {
    match statfs(directory).map(|about| i128::from(about.f_type)) {
        Ok(TMPFS | RAMFS) => Finding::warn("disk", subject, "is in memory: all is lost with the power")
            .remedy("a real disk, unless this cluster is only for trying things"),
        Ok(NFS) => Finding::warn("disk", subject, "is on another machine (NFS)")
            .remedy("a local disk: an acknowledgement must not hang on a network"),
        Ok(_) => Finding::ok("disk", subject, "is on a disk"),
        Err(error) => Finding::warn("disk", subject, format!("can't be looked at: {error}")),
    }
}

/// Room for what the configuration lets grow: the snapshots that may exist at once, and the log behind them.
pub(super) fn space(config: &NodeConfig) -> Vec<Finding> {
    let directory = existing(&config.data_dir);
    let subject = directory.display().to_string();
    let about = match statvfs(directory) {
        Ok(about) => about,
        Err(error) => return vec![Finding::warn("space", subject, format!("can't be looked at: {error}"))],
    };
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    // A snapshot is about as large as the log between two of them at most; the log keeps half of that behind one.
    let wanted = config.snapshot_after.0.saturating_mul(SNAPSHOT_WRITERS_MAX as u64 + 2) + ROOM_MIN;
    let mut findings = vec![judge_space(subject.clone(), free, wanted)];
    if about.f_files > 0 && about.f_favail < 1_000 {
        let told = format!("{} more files fit", about.f_favail);
        findings.push(Finding::fail("space", subject, told).remedy("a file system with inodes to spare"));
    }
    findings
}

fn judge_space(subject: String, free: u64, wanted: u64) -> Finding {
    let told = format!("{} free", mebibytes(free));
    let finding = match free {
        _ if free < ROOM_MIN => Finding::fail("space", subject, told),
        _ if free < wanted => Finding::warn("space", subject, told),
        _ => return Finding::ok("space", subject, told),
    };
    finding.remedy(format!(
        "at least {} for the log and its snapshots, as `snapshots.after_bytes` lets them grow",
        mebibytes(wanted)
    ))
}

fn mebibytes(bytes: u64) -> String {
    match bytes >> 20 {
        small if small < 10 * 1_024 => ByteSize(small << 20).to_string(),
        large => format!("{} GiB", large >> 10),
    }
}

/// A duration as one reads it, rounded down.
pub(super) fn shown(duration: Duration) -> String {
    match duration.as_micros() {
        micros if micros < 1_000 => format!("{micros} µs"),
        micros if micros < 10_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        micros => format!("{} ms", micros / 1_000),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_disk_is_judged_by_what_the_profile_waits_for() {
        let level = |median_ms, max_ms, timing| {
            let [median, max] = [median_ms, max_ms].map(Duration::from_millis);
            judge("d".into(), SyncLatency { tried: 100, median, max }, timing).level
        };
        assert_eq!(level(1, 10, Timing::LAN), Level::Ok);
        assert_eq!(level(1, 80, Timing::LAN), Level::Warn, "one sync that could cost an election");
        assert_eq!(level(30, 40, Timing::LAN), Level::Warn);
        assert_eq!(level(30, 40, Timing::WAN), Level::Ok);
        assert_eq!(level(70, 90, Timing::LAN), Level::Fail);
    }

    #[test]
    fn a_real_directory_can_be_looked_at_also_before_it_is_there() {
        let home = tempfile::tempdir().unwrap();
        let findings = sync_latency(&home.path().join("data/not/yet"), Timing::WAN);
        assert!(findings.iter().all(|finding| finding.level < Level::Fail), "{findings:?}");
        assert!(findings[1].told.contains("tried"), "{findings:?}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn room_is_judged_by_what_may_grow() {
        let level = |free| judge_space("d".into(), free, 1 << 30).level;
        assert_eq!([level(2 << 30), level(1 << 29), level(1 << 20)], [Level::Ok, Level::Warn, Level::Fail]);
        assert_eq!(mebibytes(20 << 30), "20 GiB");
        assert_eq!(mebibytes((1 << 30) + (1 << 20)), "1025 MiB");
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(
            [50, 1_250, 12_345].map(|micros| shown(Duration::from_micros(micros))),
            ["50 µs", "1.2 ms", "12 ms"]
        );
    }
}
