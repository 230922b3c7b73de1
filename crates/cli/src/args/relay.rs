//! Arguments of `haltline relay`, which needs no person's identity.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::sidecar::EdgeEnrolArgs;

/// Below `haltline relay`.
#[derive(Debug, Subcommand)]
pub enum RelayCommand {
    /// Run a relay: pass enforcement on to the edges that connect to it
    Run(RelayRunArgs),
    /// Join a cluster with a one-time token
    Enrol(RelayEnrolArgs),
}

/// `haltline relay run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Edges below name it in `hubs.relays`, as relay-1=HOST:PORT. They believe no word of it: what they act on carries a node's
signature. Two signals: the first ends it in order, the second at once.

Examples:
  haltline relay run --config relay.toml
  haltline relay run --config relay.toml --print-config")]
pub struct RelayRunArgs {
    /// The relay's configuration; every key is also an environment variable, which wins
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the configuration in effect, with every default, and end
    #[arg(long)]
    pub print_config: bool,
    /// Shut down when standard input closes, as when a parent process dies
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// `haltline relay enrol`.
#[derive(Debug, Args)]
#[command(after_help = "\
The token is one that `haltline edge token create --relay` made. It is read from a file or from standard input, never from the
command line, which other users of the machine can read. A key is made here and stays here.

Examples:
  haltline relay enrol --config relay.toml --token-file eu-relay.join")]
pub struct RelayEnrolArgs {
    /// The relay's configuration, which says where its identity is kept
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The join token, as `haltline edge token create` wrote it; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
}

impl From<RelayEnrolArgs> for EdgeEnrolArgs {
    fn from(args: RelayEnrolArgs) -> Self {
        Self { config: args.config, token_file: args.token_file }
    }
}
