//! Why a benchmark ended without a figure.

use std::{io, path::PathBuf};

/// Why a benchmark ended without a figure. One failed call fails the run: a figure that leaves failures out flatters.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is nothing to measure.
    #[error(
        "there is no haltline binary at {}; build it with `cargo build --release -p haltline-cli`, or name one with --binary",
        .path.display()
    )]
    NoBinary {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Something on this machine.
    #[error("can't {what}: {source}")]
    Local {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A system didn't come up, or not to the state it should have.
    #[error("{system} wasn't {expected} within {waited_ms} ms{}", Logs(.logs))]
    NotReady {
        /// Which system.
        system: &'static str,
        /// What it should have been.
        expected: &'static str,
        /// How long it was waited for.
        waited_ms: u128,
        /// Where its logs are.
        logs: Option<PathBuf>,
    },
    /// A call was refused or broke.
    #[error("a call to {system} failed: {reason}")]
    Call {
        /// Which system.
        system: &'static str,
        /// What it said.
        reason: String,
    },
    /// Certificates couldn't be made or weren't believed.
    #[error("TLS to {system}: {reason}")]
    Tls {
        /// Which system.
        system: &'static str,
        /// Why.
        reason: String,
    },
    /// The load generator fell behind its own schedule.
    #[error(
        "{waiting} calls were waiting when the bound of {bound} was reached: {offered_per_s}/s is more than {system} \
         takes; offer less"
    )]
    Overrun {
        /// Which system.
        system: &'static str,
        /// Calls without an answer.
        waiting: usize,
        /// The generator's bound.
        bound: usize,
        /// The rate that was offered.
        offered_per_s: u64,
    },
    /// A window of time in which nothing was done.
    #[error("{system} answered nothing in the measured window")]
    Nothing {
        /// Which system.
        system: &'static str,
    },
}

struct Logs<'a>(&'a Option<PathBuf>);

impl std::fmt::Display for Logs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_ref().map_or(Ok(()), |logs| write!(f, "; its logs are in {}", logs.display()))
    }
}

impl Failure {
    /// A failed gRPC call.
    pub(crate) fn call(system: &'static str, status: &tonic::Status) -> Self {
        Self::Call { system, reason: format!("{}: {}", status.code(), status.message()) }
    }

    /// Something on this machine.
    pub(crate) fn local(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Local { what, source }
    }
}
