//! `haltline relay enrol` and `haltline relay run`: joining a cluster, and carrying enforcement to the edges below.

use std::path::Path;

use haltline_relay::{Relay, RelayConfig, RelayError};
use tokio_util::sync::CancellationToken;

use super::{process::Ending, sidecar};
use crate::{
    args::relay::{RelayCommand, RelayRunArgs},
    exit::Exit,
    failure::Failure,
    output::{Screen, write_out},
};

/// Carries out what stands below `haltline relay`.
pub(super) async fn execute(command: RelayCommand, screen: Screen) -> Result<Exit, Failure> {
    match command {
        RelayCommand::Run(args) => run(&args).await,
        RelayCommand::Enrol(args) => {
            let config = load(args.config.as_deref())?;
            sidecar::join("relay", &args.into(), &config.link.identity_dir, screen).await
        }
    }
}

async fn run(args: &RelayRunArgs) -> Result<Exit, Failure> {
    let config = load(args.config.as_deref())?;
    if args.print_config {
        write_out(&config.to_toml())?;
        return Ok(Exit::Done);
    }
    sidecar::start_logs_of(&config.link)?;
    let ending = Ending::listen(args.until_stdin_closes)?;
    tokio::select! {
        ended = serve(config, ending.asked.clone()) => ended.map_err(|error| failure(&error))?,
        stopped = ending.insisted() => return Err(stopped),
    }
    Ok(Exit::Done)
}

async fn serve(config: RelayConfig, shutdown: CancellationToken) -> Result<(), RelayError> {
    Relay::start(config).await?.serve(shutdown).await
}

fn load(file: Option<&Path>) -> Result<RelayConfig, Failure> {
    RelayConfig::load(file).map_err(|error| Failure::usage(error.to_string()))
}

fn failure(error: &RelayError) -> Failure {
    Failure::new(Exit::Refused, error.code(), error.to_string())
}
