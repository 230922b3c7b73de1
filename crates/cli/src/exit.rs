//! What the command's exit code says. Scripts depend on these numbers; they never change their meaning.

use std::process::ExitCode;

/// How a run of the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The cluster refused, or something local failed.
    Refused = 1,
    /// The command line or a file named on it is wrong.
    Usage = 2,
    /// No node answered, or there was no quorum, in time.
    Unreachable = 3,
    /// Accepted, and waits for a second person.
    Pending = 4,
    /// Not authenticated, or not permitted.
    Denied = 5,
    /// A claim doesn't hold: one of the demo's, or a receipt's or backup's.
    Broken = 6,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table at the end of `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  refused by the cluster, or failed on this machine
  2  wrong usage
  3  no node reachable, or no quorum, within --timeout
  4  accepted, and waiting for a second person to approve
  5  not authenticated, or not permitted
  6  a claim is broken: the demo found one, or a receipt or backup doesn't hold";
