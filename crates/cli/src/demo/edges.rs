//! The demo's edges: processes of this very binary, each with agents that decide in a loop.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use haltline_core::ids::EdgeName;
use parking_lot::Mutex;
use rustix::{
    io::retry_on_intr,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid},
};

use super::edge_worker::{Decided, Report};
use crate::failure::Failure;

/// One edge.
pub(super) struct DemoEdge {
    pub(super) name: EdgeName,
    process: Child,
    latest: Arc<Mutex<Report>>,
}

/// All of them. Ended when dropped.
#[derive(Default)]
pub(super) struct Edges {
    edges: Vec<DemoEdge>,
}

impl Edges {
    /// Starts an edge that is enrolled in `directory/identity`, with agents that hold these tokens (fleet, token).
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn start(
        &mut self,
        binary: &Path,
        directory: &Path,
        name: EdgeName,
        tokens: &[(String, String)],
    ) -> Result<u32, Failure> {
        let cant =
            |what: &str, error: std::io::Error| Failure::local(format!("can't {what} {name}: {error}"));
        let log = File::create(directory.join("edge.log")).map_err(|error| cant("open the log of", error))?;
        let mut command = Command::new(binary);
        command.arg("demo-edge").arg(directory.join("identity")).arg(directory.join("data"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).process_group(0);
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"HALTLINE_") {
                command.env_remove(variable);
            }
        }
        let mut process = command.spawn().map_err(|error| cant("start", error))?;
        let id = process.id();
        let mut lines = String::new();
        for (fleet, token) in tokens {
            lines.push_str(&format!("{fleet} {token}\n"));
        }
        lines.push('\n');
        // Kept open behind the tokens: should the demo be killed, the pipe closes and the edge ends by itself.
        if let Some(input) = process.stdin.as_mut() {
            input
                .write_all(lines.as_bytes())
                .and_then(|()| input.flush())
                .map_err(|error| cant("give tokens to", error))?;
        }
        let latest = Arc::new(Mutex::new(Report::default()));
        if let Some(output) = process.stdout.take() {
            let latest = Arc::clone(&latest);
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if let Ok(report) = serde_json::from_str(&line) {
                        *latest.lock() = report;
                    }
                }
            });
        }
        self.edges.push(DemoEdge { name, process, latest });
        Ok(id)
    }

    /// The edges.
    pub(super) fn iter(&self) -> impl Iterator<Item = &DemoEdge> {
        self.edges.iter()
    }

    /// Whether every edge has reported from after that instant.
    pub(super) fn have_reported_after(&self, at: u64) -> bool {
        self.edges.iter().all(|edge| edge.latest.lock().at > at)
    }

    /// What all edges together have decided for a fleet.
    pub(super) fn decided(&self, fleet: &str) -> Decided {
        self.edges.iter().map(|edge| edge.decided(fleet)).fold(Decided::default(), |sum, one| Decided {
            agents: sum.agents + one.agents,
            permits: sum.permits + one.permits,
            denials: sum.denials + one.denials,
            last_permit: sum.last_permit.max(one.last_permit),
        })
    }
}

impl DemoEdge {
    /// What it has decided for a fleet.
    pub(super) fn decided(&self, fleet: &str) -> Decided {
        self.latest.lock().fleets.get(fleet).copied().unwrap_or_default()
    }

    /// When it reported last.
    pub(super) fn reported_at(&self) -> u64 {
        self.latest.lock().at
    }

    /// Its process.
    pub(super) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// SIGSTOP: the process stays, and does nothing. Returns when all its threads have stopped: one may go on for a while
    /// after the signal was sent.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn pause(&self) -> Result<(), Failure> {
        self.signal(Signal::STOP)?;
        let stopped_or_gone = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let id = self.pid()?;
        retry_on_intr(|| waitid(WaitId::Pid(id), stopped_or_gone))
            .map_err(|error| Failure::local(format!("can't wait for {} to stop: {error}", self.name)))?;
        Ok(())
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn wake(&self) -> Result<(), Failure> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        kill_process(self.pid()?, signal)
            .map_err(|error| Failure::local(format!("can't signal {}: {error}", self.name)))
    }

    fn pid(&self) -> Result<Pid, Failure> {
        let gone = || Failure::local(format!("{} isn't running", self.name));
        i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).ok_or_else(gone)
    }
}

impl Drop for Edges {
    fn drop(&mut self) {
        for edge in &mut self.edges {
            // One that is gone already needs no killing.
            let _ = edge.process.kill();
            let _ = edge.process.wait();
        }
    }
}
