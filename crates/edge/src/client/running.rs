//! A link that was started, and how to look at it and to stop it.

use std::{path::PathBuf, sync::Arc};

use haltline_core::{lease::Lease, time::Millis};
use haltline_pki::{EdgeIdentity, PkiError};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    enforcement::{Enforcement, Wishes},
    keeper::{Keeper, Wanted},
    link::{Link, Parts},
    metrics::LinkMetrics,
    protocol::Protocol,
    status::{Board, LastError, Status},
};
use crate::{
    config::EdgeConfig,
    enforce::{BootClock, Clock as _},
    persist::{EdgeDir, PersistError, Remembered},
};

/// Why an enforcer couldn't be started. [`ConnectError::code`] is stable. That no hub can be reached is none of the
/// reasons: an enforcer waits for its hubs, and denies meanwhile.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no identity yet.
    #[error("{} holds no identity; enrol this enforcer first: `haltline edge enrol`", .directory.display())]
    NotEnrolled {
        /// Where one was looked for.
        directory: PathBuf,
    },
    /// The identity can't be used.
    #[error(transparent)]
    Identity(#[from] PkiError),
    /// What an earlier life left can't be used.
    #[error(transparent)]
    Data(#[from] PersistError),
    /// Something went wrong in between.
    #[error("starting was cut short: {0}")]
    CutShort(String),
}

impl ConnectError {
    /// A stable word for the reason.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotEnrolled { .. } => "NOT_ENROLLED",
            Self::Identity(error) => error.code(),
            Self::Data(error) => error.code(),
            Self::CutShort(_) => "CUT_SHORT",
        }
    }
}

/// What is loaded before anything runs.
#[derive(Debug)]
pub struct Loaded {
    config: EdgeConfig,
    pub(crate) identity: EdgeIdentity,
    dir: EdgeDir,
    remembered: Remembered,
}

impl Loaded {
    /// Who is started.
    #[must_use]
    pub const fn identity(&self) -> &EdgeIdentity {
        &self.identity
    }
}

/// Reads identity and data. Blocks on the disk, and on verifying a cached snapshot.
///
/// # Errors
/// [`ConnectError`]: no identity, or data that can't be used.
pub fn load(config: EdgeConfig) -> Result<Loaded, ConnectError> {
    if !EdgeIdentity::is_in(&config.identity_dir) {
        return Err(ConnectError::NotEnrolled { directory: config.identity_dir });
    }
    let identity = EdgeIdentity::load(&config.identity_dir)?;
    let dir = EdgeDir::open(&config.data_dir)?;
    let remembered = dir.load(identity.bundle())?;
    for error in &remembered.ignored {
        tracing::warn!(%error, code = error.code(), "left aside what an earlier life kept");
    }
    Ok(Loaded { config, identity, dir, remembered })
}

/// The link's tasks, from outside.
#[derive(Debug)]
pub struct Running {
    identity: EdgeIdentity,
    board: Arc<Board>,
    metrics: LinkMetrics,
    stop: CancellationToken,
    keeper_stop: CancellationToken,
    link: TaskTracker,
    keeper: TaskTracker,
}

impl Running {
    /// Installs what is cached and starts the tasks on the current runtime. Blocks while a large snapshot is decoded. A
    /// relay's link hears wishes.
    ///
    /// # Errors
    /// [`ConnectError`]: an identity that can't be used.
    pub fn start<E>(
        loaded: Loaded,
        enforcement: &Arc<E>,
        wishes: Option<Wishes>,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, ConnectError>
    where
        E: Enforcement + Send + Sync + 'static,
    {
        let Loaded { config, identity, dir, remembered } = loaded;
        let (protocol, aside) = Protocol::new(identity.name().clone(), remembered, &**enforcement);
        if let Some(refusal) = aside {
            tracing::warn!(%refusal, code = refusal.code(), "left the cached snapshot aside");
        }
        let board = Arc::new(Board::new(identity.tls().leaf().validity.not_after));
        let wanted = watch::Sender::new(Wanted::default());
        let (stop, keeper_stop) = (CancellationToken::new(), CancellationToken::new());
        let keeper = Keeper::new(dir, wanted.clone(), keeper_stop.clone(), on_disk_error(&board));
        let metrics = LinkMetrics::default();
        let link = Link::new(Parts {
            config,
            identity: identity.clone(),
            protocol,
            enforcement: Arc::clone(enforcement),
            wanted,
            board: Arc::clone(&board),
            metrics: metrics.clone(),
            stop: stop.clone(),
            wishes,
        })?;
        let running = Self {
            identity,
            board,
            metrics,
            stop,
            keeper_stop,
            link: TaskTracker::new(),
            keeper: TaskTracker::new(),
        };
        running.link.spawn_on(link.run(), runtime);
        running.keeper.spawn_on(keeper.run(), runtime);
        running.link.close();
        running.keeper.close();
        Ok(running)
    }

    /// Whose link it is.
    #[must_use]
    pub const fn identity(&self) -> &EdgeIdentity {
        &self.identity
    }

    /// How the link does, with what the engine says of its lease.
    #[must_use]
    pub fn status(&self, lease: Option<Lease>, smallest_staleness: Millis) -> Status {
        let told = self.board.read();
        let now = BootClock.now();
        Status {
            name: self.identity.name().clone(),
            cluster: self.identity.bundle().cluster(),
            incarnation: told.incarnation,
            index: told.index,
            event_seq: told.event_seq,
            proven: told.proven,
            bundle_version: told.bundle_version,
            hub: told.hub,
            connected: told.connected,
            lag: lease.map(|lease| now.since(lease.fresh_from)),
            lease_ends: lease.map(|lease| lease.ends(smallest_staleness, smallest_staleness)),
            smallest_staleness,
            round_trip: told.round_trip,
            last_error: told.last_error,
            certificate_ends: told.certificate_ends,
        }
    }

    /// Waits for the first lease.
    pub async fn ready(&self) {
        self.board.ready().await;
    }

    /// Makes the link's counters part of a page of metrics.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Ends the link in order, then writes what is to be kept.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.link.wait().await;
        self.keeper_stop.cancel();
        self.keeper.wait().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        self.keeper_stop.cancel();
    }
}

fn on_disk_error(board: &Arc<Board>) -> Box<dyn Fn(&PersistError) + Send> {
    let board = Arc::clone(board);
    Box::new(move |error| {
        tracing::error!(%error, code = error.code(), "what is to survive a restart can't be written");
        let (code, message, at) = (error.code().to_owned(), error.to_string(), BootClock.now());
        board.write(|told| told.last_error = Some(LastError { code, message, hub: None, at }));
    })
}
