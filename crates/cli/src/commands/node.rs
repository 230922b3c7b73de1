//! `haltline node`: one node, its logs, and the signals that end it.

use std::{
    io::{self, IsTerminal, Read, Write},
    time::Duration,
};

use haltline_node::{LogFormat, NodeConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::init::failure;
use crate::{args::NodeArgs, exit::Exit, failure::Failure};

/// Runs a node until it is told to stop or can't go on.
pub(super) async fn run(args: &NodeArgs) -> Result<Exit, Failure> {
    let config = NodeConfig::load(args.config.as_deref()).map_err(|error| failure(&error.into()))?;
    if args.print_config {
        return print(&config);
    }
    start_logs(&config)?;
    let shutdown = CancellationToken::new();
    stop_on_signals(&shutdown)?;
    if args.until_stdin_closes {
        stop_with_parent(&shutdown)?;
    }
    haltline_node::run(config, shutdown).await.map_err(|error| failure(&error))?;
    Ok(Exit::Done)
}

fn print(config: &NodeConfig) -> Result<Exit, Failure> {
    io::stdout()
        .write_all(config.to_toml().as_bytes())
        .map_err(|error| Failure::local(format!("can't write to standard output: {error}")))?;
    Ok(Exit::Done)
}

/// Logs go to standard error: for people on a terminal, as JSON elsewhere.
fn start_logs(config: &NodeConfig) -> Result<(), Failure> {
    let bad = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("`log.filter` is `{}`: {error}", config.log_filter))
            .hint("as in `info` or `haltline_node=debug,info`")
    };
    let filter = EnvFilter::try_new(&config.log_filter).map_err(|error| bad(&error))?;
    let on_terminal = io::stderr().is_terminal();
    let human = match config.log_format {
        LogFormat::Auto => on_terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = if human {
        let colours = crate::output::style::Style::detect(on_terminal).is_coloured();
        logs.with_ansi(colours).try_init()
    } else {
        logs.json().flatten_event(true).try_init()
    };
    started.map_err(|error| Failure::local(format!("can't start the log: {error}")))
}

/// The first signal asks for an orderly end, the second one insists.
fn stop_on_signals(shutdown: &CancellationToken) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::local(format!("can't listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        for is_first in [true, false] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if is_first {
                tracing::info!("stopping; another signal stops at once");
                shutdown.cancel();
            } else {
                std::process::exit(i32::from(Exit::Refused.code()));
            }
        }
    });
    Ok(())
}

/// How long an orderly end may take once the parent is gone.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);

/// Ends the node when standard input closes, which it does however the parent dies.
fn stop_with_parent(shutdown: &CancellationToken) -> Result<(), Failure> {
    let shutdown = shutdown.clone();
    let watch = move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = [0; 64];
        while matches!(stdin.read(&mut buffer), Ok(read) if read > 0) {}
        shutdown.cancel();
        std::thread::sleep(ORPHAN_GRACE);
        std::process::exit(i32::from(Exit::Refused.code()));
    };
    std::thread::Builder::new()
        .name("parent-watch".to_owned())
        .spawn(watch)
        .map(drop)
        .map_err(|error| Failure::local(format!("can't watch standard input: {error}")))
}
