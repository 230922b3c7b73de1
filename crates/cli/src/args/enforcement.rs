//! Arguments of `enforcement`.

use clap::{Args, Subcommand, ValueEnum};
use haltline_core::ids::KillId;

/// `haltline enforcement`.
#[derive(Debug, Subcommand)]
pub enum EnforcementCommand {
    /// Show, live, which enforcers a kill still waits for; ends with the receipt
    Watch(WatchArgs),
}

/// `haltline enforcement watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Which kill, as in kill-17 [default: all, until interrupted]
    pub kill: Option<KillId>,
}

/// What `haltline kill` waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// Until no enforcer can permit any more, reachable or not; prints the signed receipt
    #[default]
    Enforced,
    /// Until the kill is in the log of a majority
    Committed,
}
