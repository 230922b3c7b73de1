//! Arguments of `haltline doctor`.

use std::path::PathBuf;

use clap::Args;

/// `haltline doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
With --config it looks at this machine and needs nobody's identity; without, it asks every node, as you. The exit code is 0 if
nothing fails, warnings aside, and 1 otherwise.

Examples:
  haltline doctor
  haltline doctor -o json
  sudo -u haltline haltline doctor --config /var/lib/haltline/node.toml")]
pub struct DoctorArgs {
    /// Look at this machine, for the node of this configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
