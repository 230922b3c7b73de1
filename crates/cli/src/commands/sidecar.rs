//! `haltline edge enrol` and `haltline edge run`: joining a cluster, and enforcing beside agents.

use std::{convert::Infallible, io, path::Path};

use haltline_edge::{
    ConnectError, EdgeConfig, Enforcer, EnrolError,
    config::LogFormat,
    enforce::CoreOptions,
    enrol,
    sidecar::{Gate, Sidecar, SidecarError},
};
use haltline_node::sd_notify::ServiceManager;
use haltline_pki::{EdgeIdentity, JoinToken};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::process::{Ending, LogStyle, start_logs};
use crate::{
    args::sidecar::{EdgeEnrolArgs, EdgeRunArgs},
    exit::Exit,
    failure::Failure,
    output::{Render, Screen, page::Page, write_out},
};

/// The file name that stands for standard input.
const STDIN: &str = "-";

/// Joins a cluster.
pub(super) async fn enrol_edge(args: &EdgeEnrolArgs, screen: Screen) -> Result<Exit, Failure> {
    let config = load(args.config.as_deref())?;
    join("edge", args, &config.identity_dir, screen).await
}

/// Trades a token for an identity in this directory; `kind` is what joins, as its verb is called.
pub(super) async fn join(
    kind: &'static str,
    args: &EdgeEnrolArgs,
    identity_dir: &Path,
    screen: Screen,
) -> Result<Exit, Failure> {
    let token = if args.token_file == Path::new(STDIN) {
        JoinToken::read(io::stdin().lock())
    } else {
        JoinToken::load(&args.token_file)
    };
    let token = token.map_err(|error| Failure::usage(error.to_string()))?;
    let identity = enrol(&token, identity_dir).await.map_err(|error| enrol_failure(&error))?;
    screen.print(&Enrolled {
        kind,
        name: identity.name().to_string(),
        cluster: identity.bundle().cluster().to_string(),
        directory: identity_dir.display().to_string(),
        config: args.config.as_ref().map(|file| format!(" --config {}", file.display())).unwrap_or_default(),
    })?;
    Ok(Exit::Done)
}

struct Enrolled {
    kind: &'static str,
    name: String,
    cluster: String,
    directory: String,
    /// How it is told of its configuration.
    config: String,
}

impl Render for Enrolled {
    fn page(&self, page: &mut Page) {
        page.line(format!(
            "This is {kind} {} of cluster {} now. Its identity is in {}; start it with `haltline {kind} run{}`.",
            self.name,
            self.cluster,
            self.directory,
            self.config,
            kind = self.kind,
        ));
    }

    fn value(&self) -> Value {
        json!({ self.kind: self.name, "cluster": self.cluster, "identity_dir": self.directory })
    }
}

/// Starts the logs as an edge's or a relay's configuration says.
pub(super) fn start_logs_of(config: &EdgeConfig) -> Result<(), Failure> {
    let style = match config.log_format {
        LogFormat::Auto => LogStyle::Auto,
        LogFormat::Human => LogStyle::Human,
        LogFormat::Json => LogStyle::Json,
    };
    start_logs(style, &config.log_filter).map(drop)
}

/// Runs a sidecar until it is told to stop.
pub(super) async fn run(args: &EdgeRunArgs) -> Result<Exit, Failure> {
    let config = load(args.config.as_deref())?;
    if args.print_config {
        write_out(&config.to_toml())?;
        return Ok(Exit::Done);
    }
    start_logs_of(&config)?;
    let ending = Ending::listen(args.until_stdin_closes)?;
    tokio::select! {
        ended = serve(config, ending.asked.clone()) => ended?,
        stopped = ending.insisted() => return Err(stopped),
    }
    Ok(Exit::Done)
}

/// The enforcer first: a port is open only where somebody can answer.
async fn serve(config: EdgeConfig, shutdown: CancellationToken) -> Result<(), Failure> {
    let sidecar_config = config.sidecar.clone();
    let audiences = audiences(&config)?;
    let options = |name| CoreOptions { audiences, ..CoreOptions::named(name) };
    let enforcer = Enforcer::connect_with(config, options).await.map_err(|error| connect_failure(&error))?;
    let gate = Gate::of(&enforcer);
    let served = tokio::select! {
        sidecar = Sidecar::start(gate, sidecar_config) => match sidecar {
            Ok(sidecar) => {
                let manager = ServiceManager::of_environment();
                manager.ready();
                tokio::select! {
                    served = sidecar.serve(shutdown.clone()) => served,
                    never = tell(&manager, &enforcer, &shutdown) => match never {},
                }
            }
            Err(error) => Err(error),
        },
        () = shutdown.cancelled() => Ok(()),
    };
    enforcer.shutdown().await;
    served.map_err(|error| sidecar_failure(&error))
}

/// Tells the service manager that the process isn't stuck. Whoever waits for it waits for its ports alone: while no node can be
/// reached it answers too, with a denial.
async fn tell(manager: &ServiceManager, enforcer: &Enforcer, shutdown: &CancellationToken) -> Infallible {
    let due = manager.watchdog_interval();
    let mut fresh = std::pin::pin!(enforcer.ready());
    let mut is_fresh = false;
    manager.status("waiting for a node; denies until then");
    loop {
        tokio::select! {
            () = &mut fresh, if !is_fresh => {
                is_fresh = true;
                manager.status("ready");
            }
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => manager.alive(),
            () = shutdown.cancelled() => {
                manager.stopping();
                return std::future::pending().await;
            }
        }
    }
}

/// For whom a token has to be (RFC 9068, section 4).
fn audiences(config: &EdgeConfig) -> Result<Vec<String>, Failure> {
    if !EdgeIdentity::is_in(&config.identity_dir) {
        let error = ConnectError::NotEnrolled { directory: config.identity_dir.clone() };
        return Err(connect_failure(&error));
    }
    let identity =
        EdgeIdentity::load(&config.identity_dir).map_err(|error| connect_failure(&error.into()))?;
    Ok(config.sidecar.audiences.and_of(&identity.bundle().cluster()))
}

fn load(file: Option<&Path>) -> Result<EdgeConfig, Failure> {
    EdgeConfig::load(file).map_err(|error| Failure::usage(error.to_string()))
}

fn enrol_failure(error: &EnrolError) -> Failure {
    Failure::new(Exit::Refused, error.code(), error.to_string())
}

fn connect_failure(error: &ConnectError) -> Failure {
    Failure::new(Exit::Refused, error.code(), error.to_string())
}

fn sidecar_failure(error: &SidecarError) -> Failure {
    let exit = match error {
        SidecarError::FailsClosed { .. } => Exit::Usage,
        _ => Exit::Refused,
    };
    Failure::new(exit, error.code(), error.to_string())
}
