//! Arguments of `haltline edge run` and `haltline edge enrol`, which need no person's identity.

use std::path::PathBuf;

use clap::Args;

/// `haltline edge run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Envoy asks it over gRPC, any program of this machine over HTTP; docs/sidecar.md says how. Everything that it can't decide it
denies. Two signals: the first ends it in order, the second at once.

Examples:
  haltline edge run --config edge.toml
  haltline edge run --config edge.toml --print-config")]
pub struct EdgeRunArgs {
    /// The edge's configuration; every key is also an environment variable, which wins
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the configuration in effect, with every default, and end
    #[arg(long)]
    pub print_config: bool,
    /// Shut down when standard input closes, as when a parent process dies
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// `haltline edge enrol`.
#[derive(Debug, Args)]
#[command(after_help = "\
The token is read from a file or from standard input, never from the command line, which other users of the machine can read. A
key is made here and stays here. After a failure, try again with the same token and configuration.

Examples:
  haltline edge enrol --config edge.toml --token-file eu-gateway.join
  ssh admin-host cat eu-gateway.join | haltline edge enrol --config edge.toml --token-file -")]
pub struct EdgeEnrolArgs {
    /// The edge's configuration, which says where its identity is kept
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The join token, as `haltline edge token create` wrote it; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
}
