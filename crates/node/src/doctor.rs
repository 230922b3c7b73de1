//! What may be wrong with a node before, or while, it runs: looked at without touching anything, told with what would be
//! right.
//!
//! ```text
//!  haltline node check-config ──► check_config: files, identity, certificates, data directory, ports
//!  haltline doctor --config   ──► the same, and check_machine: disk, space, descriptors, clocks, distance to the others
//!  haltline doctor            ──► each running node is asked for its own check_machine (DiagnoseNode)
//! ```
//!
//! What must stay true: a check changes nothing but a probe file that it removes, takes no lock that a starting node
//! would wait for, and never ends the others: what can't be found out is a finding too.

mod certificates;
mod clock;
mod data;
mod disk;
mod distance;
mod files;
mod ports;
mod process;

use std::{fmt, path::Path};

pub use distance::Neighbour;
use haltline_pki::UnixSeconds;

use crate::config::NodeConfig;

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Good to know; nothing to do.
    Note,
    /// It works, and will or may not one day.
    Warn,
    /// It doesn't work, or not safely.
    Fail,
}

impl Level {
    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    /// The level of a name; what a newer node may say beyond these counts as a warning.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "ok" => Self::Ok,
            "note" => Self::Note,
            "fail" => Self::Fail,
            _ => Self::Warn,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it is to be taken.
    pub level: Level,
    /// What was looked for, as a stable name: `port`, `sync-latency`.
    pub check: String,
    /// On what: a key with its value, a file, a node.
    pub subject: String,
    /// What was found.
    pub told: String,
    /// What would be right.
    pub remedy: Option<String>,
}

impl Finding {
    /// A finding without a remedy.
    pub fn new(
        level: Level,
        check: impl Into<String>,
        subject: impl Into<String>,
        told: impl Into<String>,
    ) -> Self {
        Self { level, check: check.into(), subject: subject.into(), told: told.into(), remedy: None }
    }

    /// As it should be.
    pub fn ok(check: &'static str, subject: impl Into<String>, told: impl Into<String>) -> Self {
        Self::new(Level::Ok, check, subject, told)
    }

    /// Good to know.
    pub fn note(check: &'static str, subject: impl Into<String>, told: impl Into<String>) -> Self {
        Self::new(Level::Note, check, subject, told)
    }

    /// It may not work one day.
    pub fn warn(check: &'static str, subject: impl Into<String>, told: impl Into<String>) -> Self {
        Self::new(Level::Warn, check, subject, told)
    }

    /// It doesn't work.
    pub fn fail(check: &'static str, subject: impl Into<String>, told: impl Into<String>) -> Self {
        Self::new(Level::Fail, check, subject, told)
    }

    /// Says what would be right.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Looks at everything that a configuration names: files and their modes, identity, founding, certificates, the data
/// directory and the ports. Whether the node runs makes a difference: its own ports may be taken by itself.
#[must_use]
pub fn check_config(file: Option<&Path>, config: &NodeConfig) -> Vec<Finding> {
    let running = running(config);
    let mut findings = vec![files::configuration(file), distance::profile(config.profile)];
    let identity = files::identity(config, &mut findings);
    if let Some(identity) = &identity {
        certificates::check(identity, &config.identity_dir, running, UnixSeconds::now(), &mut findings);
    }
    let founding = files::founding(config, identity.as_ref(), &mut findings);
    data::check(config, identity.as_ref(), running, &mut findings);
    ports::check(config, running, &mut findings);
    if let (Some(identity), Some(founding)) = (&identity, &founding) {
        ports::check_against_founding(config, identity.id(), founding, &mut findings);
    }
    findings
}

/// Looks at the machine: how long its disk takes to make data durable, room, descriptors, clocks, and how far the other
/// nodes are. `running` is the node's process, if it runs. Takes a few seconds, and blocks; `tell` hears what is being done.
#[must_use]
pub fn check_machine(
    config: &NodeConfig,
    running: Option<u32>,
    neighbours: &[Neighbour],
    mut tell: impl FnMut(&str),
) -> Vec<Finding> {
    let timing = config.profile.timing();
    let mut findings = Vec::new();
    tell("measuring how long the disk takes to make data durable");
    findings.extend(disk::sync_latency(&config.data_dir, timing));
    findings.extend(disk::space(config));
    findings.push(process::descriptors(config, running));
    tell("comparing the clocks");
    findings.extend(clock::check());
    tell("measuring the way to the other nodes");
    findings.extend(distance::check(neighbours, config.profile));
    findings
}

/// The process that runs the node of this configuration, if one does and this machine's `/proc` tells.
#[must_use]
pub fn running(config: &NodeConfig) -> Option<u32> {
    process::holder(&config.data_dir)
}

/// The other founding nodes, as this one's configuration reaches them.
#[must_use]
pub fn neighbours(config: &NodeConfig) -> Vec<Neighbour> {
    distance::of_founding(config).unwrap_or_default()
}
