//! The process that holds a data directory, and what the system lets it have. From `/proc`, where there is one: looking
//! takes no lock and so can't be in a starting node's way.

use std::{
    fs,
    os::{linux::fs::MetadataExt as _, unix::ffi::OsStrExt as _},
    path::Path,
};

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::{
    config::NodeConfig,
    descriptors::{LEAST, wanted},
};

/// File whose lock a running node holds.
const LOCK_FILE: &str = "LOCK";

/// The process that holds the directory's lock, if one does.
pub(super) fn holder(data_dir: &Path) -> Option<u32> {
    let path = data_dir.join(LOCK_FILE);
    let inode = fs::metadata(&path).ok()?.st_ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // `7: FLOCK  ADVISORY  WRITE 4242 fe:00:1234567 0 EOF`; the device numbers there aren't those of `stat` on every
    // file system, so the process in the file has to agree instead.
    let named: u32 = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
    let is_held = locks.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = words[..] else { return false };
        let same_file = file.rsplit(':').next().and_then(|inode| inode.parse().ok()) == Some(inode);
        same_file && pid.parse() == Ok(named)
    });
    is_held.then_some(named)
}

/// The name of a process.
pub(super) fn name(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned())
}

/// The processes that have a socket open, by its inode; those that this user may look into.
pub(super) fn owners_of_socket(inode: u64) -> Option<u32> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_it = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
            .any(|target| target.as_os_str().as_bytes() == wanted.as_bytes())
    };
    pids.into_iter().find(has_it)
}

/// How many files and sockets the node may have open. A starting one takes as many as it may.
pub(super) fn descriptors(config: &NodeConfig, running: Option<u32>) -> Finding {
    let wanted = wanted(config.connections_max);
    let (subject, limit) = match running.and_then(|pid| Some((pid, limit_of(pid)?))) {
        Some((pid, limit)) => (format!("process {pid}"), limit),
        None => ("a node started from here".to_owned(), getrlimit(Resource::Nofile).maximum),
    };
    judge_descriptors(subject, limit, wanted)
}

fn judge_descriptors(subject: String, limit: Option<u64>, wanted: u64) -> Finding {
    let Some(limit) = limit else { return Finding::ok("descriptors", subject, "no limit") };
    let told = format!("at most {limit} open files and connections");
    let finding = match limit {
        _ if limit < LEAST => Finding::fail("descriptors", subject, told),
        _ if limit < wanted => Finding::warn("descriptors", subject, told),
        _ => return Finding::ok("descriptors", subject, told),
    };
    finding.remedy(format!(
        "at least {LEAST} to start, {wanted} for every connection that the limits allow: LimitNOFILE=65536 as in \
         deploy/systemd/haltline-node.service, or `ulimit -n 65536`"
    ))
}

/// The soft limit of a running process; `Some(None)`: it has none.
fn limit_of(pid: u32) -> Option<Option<u64>> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    Some(soft.parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn whoever_holds_the_lock_is_found_and_only_then() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(holder(home.path()), None, "no lock file");
        let disk = haltline_storage::RealDisk;
        let lock = haltline_storage::Disk::lock_dir(&disk, home.path()).unwrap();
        assert_eq!(holder(home.path()), Some(std::process::id()));
        drop(lock);
        assert_eq!(holder(home.path()), None, "the file is still there, the lock isn't");
    }

    #[test]
    fn descriptors_are_enough_or_not() {
        let level = |limit| judge_descriptors("x".into(), limit, 25_000).level;
        assert_eq!(
            [level(None), level(Some(65_536)), level(Some(1_024))],
            [Level::Ok, Level::Ok, Level::Warn]
        );
        assert!(limit_of(std::process::id()).is_some());
    }
}
