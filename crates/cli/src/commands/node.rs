//! `haltline node`: one node, its logs, and the signals that end it.

use std::{
    io::{self, IsTerminal, Read},
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
        crate::output::write_out(&config.to_toml())?;
        return Ok(Exit::Done);
    }
    start_logs(&config)?;
    let ending = Ending::default();
    stop_on_signals(&ending)?;
    if args.until_stdin_closes {
        stop_with_parent(&ending)?;
    }
    tokio::select! {
        ended = haltline_node::run(config, ending.asked.clone()) => ended.map_err(|error| failure(&error))?,
        () = ending.insisted.cancelled() => return Err(Failure::local("stopped at once, in the middle of stopping in order")),
    }
    Ok(Exit::Done)
}

/// How a node is told to end.
#[derive(Debug, Clone, Default)]
struct Ending {
    /// In order.
    asked: CancellationToken,
    /// At once.
    insisted: CancellationToken,
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
fn stop_on_signals(ending: &Ending) -> Result<(), Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::local(format!("can't listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let ending = ending.clone();
    tokio::spawn(async move {
        for told in [&ending.asked, &ending.insisted] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tracing::info!("stopping; another signal stops at once");
            told.cancel();
        }
    });
    Ok(())
}

/// How long an orderly end may take once the parent is gone.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);

/// Ends the node when standard input closes, which it does however the parent dies.
fn stop_with_parent(ending: &Ending) -> Result<(), Failure> {
    let closed = CancellationToken::new();
    let told = closed.clone();
    let watch = move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = [0; 64];
        while matches!(stdin.read(&mut buffer), Ok(read) if read > 0) {}
        told.cancel();
    };
    // A thread of its own: a read of standard input can't be cancelled, and would keep the runtime from ending.
    std::thread::Builder::new()
        .name("parent-watch".to_owned())
        .spawn(watch)
        .map_err(|error| Failure::local(format!("can't watch standard input: {error}")))?;
    let ending = ending.clone();
    tokio::spawn(async move {
        closed.cancelled().await;
        tracing::info!("standard input closed: stopping");
        ending.asked.cancel();
        tokio::time::sleep(ORPHAN_GRACE).await;
        ending.insisted.cancel();
    });
    Ok(())
}
