//! What every long-running verb does around its work: logs to standard error, and the signals that end it.

use std::{
    io::{self, IsTerminal, Read},
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

use crate::failure::Failure;

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogStyle {
    /// For people on a terminal, as JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Changes which logs are written, while they are.
pub(super) type SetFilter = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Starts the logs. `filter` is the key `log.filter` of a configuration; the answer puts another one in force.
pub(super) fn start_logs(style: LogStyle, filter: &str) -> Result<SetFilter, Failure> {
    let bad = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("`log.filter` is `{filter}`: {error}"))
            .hint("as in `info` or `haltline_node=debug,info`")
    };
    let filter = EnvFilter::try_new(filter).map_err(|error| bad(&error))?;
    let on_terminal = io::stderr().is_terminal();
    let human = match style {
        LogStyle::Auto => on_terminal,
        LogStyle::Human => true,
        LogStyle::Json => false,
    };
    let (filter, handle) = reload::Layer::new(filter);
    let logs = tracing_subscriber::registry().with(filter);
    let started = if human {
        let colours = crate::output::style::Style::detect(on_terminal).is_coloured();
        logs.with(fmt::layer().with_writer(io::stderr).with_ansi(colours)).try_init()
    } else {
        logs.with(fmt::layer().with_writer(io::stderr).json().flatten_event(true)).try_init()
    };
    started.map_err(|error| Failure::local(format!("can't start the log: {error}")))?;
    Ok(Box::new(move |text| {
        let filter = EnvFilter::try_new(text).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    }))
}

/// A message whenever the process is told to reload (SIGHUP), from now on. Wishes that come while one is being fulfilled are
/// one.
pub(super) fn wishes_to_reload() -> Result<mpsc::Receiver<()>, Failure> {
    let mut hangup = signal(SignalKind::hangup())
        .map_err(|error| Failure::local(format!("can't listen for signals: {error}")))?;
    let (wish, wished) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if let Err(mpsc::error::TrySendError::Closed(())) = wish.try_send(()) {
                return;
            }
        }
    });
    Ok(wished)
}

/// How a process is told to end.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    /// In order.
    pub(super) asked: CancellationToken,
    /// At once.
    insisted: CancellationToken,
}

impl Ending {
    /// Listens for signals from now on, and for the end of standard input if that is asked for.
    pub(super) fn listen(until_stdin_closes: bool) -> Result<Self, Failure> {
        let ending = Self::default();
        stop_on_signals(&ending)?;
        if until_stdin_closes {
            stop_with_parent(&ending)?;
        }
        Ok(ending)
    }

    /// Resolves when there is no more patience for an orderly end.
    pub(super) async fn insisted(&self) -> Failure {
        self.insisted.cancelled().await;
        Failure::local("stopped at once, in the middle of stopping in order")
    }
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

/// Ends the process when standard input closes, which it does however the parent dies.
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
