//! `haltline node`: one node, its logs, and the signals that end it.

use haltline_node::{LogFormat, NodeConfig};

use super::{
    init::failure,
    process::{Ending, LogStyle, start_logs},
};
use crate::{args::NodeArgs, exit::Exit, failure::Failure};

/// Runs a node until it is told to stop or can't go on.
pub(super) async fn run(args: &NodeArgs) -> Result<Exit, Failure> {
    let config = NodeConfig::load(args.config.as_deref()).map_err(|error| failure(&error.into()))?;
    if args.print_config {
        crate::output::write_out(&config.to_toml())?;
        return Ok(Exit::Done);
    }
    let style = match config.log_format {
        LogFormat::Auto => LogStyle::Auto,
        LogFormat::Human => LogStyle::Human,
        LogFormat::Json => LogStyle::Json,
    };
    start_logs(style, &config.log_filter)?;
    let ending = Ending::listen(args.until_stdin_closes)?;
    tokio::select! {
        ended = haltline_node::run(config, ending.asked.clone()) => ended.map_err(|error| failure(&error))?,
        stopped = ending.insisted() => return Err(stopped),
    }
    Ok(Exit::Done)
}
