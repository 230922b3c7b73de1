//! Taking in a changed configuration and changed certificates without a restart, on SIGHUP.
//!
//! Everything is read and checked before anything is changed: a file that can't be understood changes nothing. What only a
//! restart can change is named with both values, so that nobody believes it in force.

use std::{fmt, path::PathBuf, sync::Arc};

use parking_lot::RwLock;
use tokio::sync::mpsc;

use crate::{
    config::{ConfigError, KEYS, NodeConfig},
    context::Context,
    error::NodeError,
    renewal::Certificates,
    sd_notify::ServiceManager,
};

/// Changes which logs are written; an error says why the filter can't be.
pub type SetLogFilter = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// How a running node hears that it should reload, and from where.
pub struct Reloads {
    /// The file that it was started with.
    pub file: Option<PathBuf>,
    /// A message for each wish to reload.
    pub wanted: mpsc::Receiver<()>,
    /// Puts `log.filter` in force.
    pub set_log_filter: SetLogFilter,
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloads").field("file", &self.file).finish_non_exhaustive()
    }
}

/// The configuration in force. What can be reloaded is read from here whenever it counts.
#[derive(Debug)]
pub(crate) struct InForce(RwLock<Arc<NodeConfig>>);

impl InForce {
    pub(crate) fn new(config: &NodeConfig) -> Self {
        Self(RwLock::new(Arc::new(config.clone())))
    }

    pub(crate) fn get(&self) -> Arc<NodeConfig> {
        Arc::clone(&self.0.read())
    }

    fn put(&self, config: NodeConfig) {
        *self.0.write() = Arc::new(config);
    }
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
enum NotReloaded {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("`log.filter` is `{filter}`: {reason}")]
    Filter { filter: String, reason: String },
    #[error(transparent)]
    Identity(#[from] NodeError),
}

/// A key whose value is another one now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Changed {
    key: &'static str,
    old: String,
    new: String,
    reloads: bool,
}

/// Reloads whenever somebody wants it, until the node stops.
pub(crate) async fn run(
    context: Arc<Context>,
    certificates: Arc<Certificates>,
    mut reloads: Reloads,
    manager: ServiceManager,
) {
    loop {
        tokio::select! {
            wanted = reloads.wanted.recv() => if wanted.is_none() { return },
            () = context.stopping.cancelled() => return,
        }
        manager.reloading();
        match reload(&context, &certificates, &reloads).await {
            Ok(()) => manager.reloaded(),
            Err(error) => {
                tracing::error!(%error, "not reloaded: everything stays as it was");
                manager.reloaded();
                manager.status(&format!("not reloaded: {error}"));
            }
        }
    }
}

/// Reads all of it, then changes what can be.
async fn reload(
    context: &Context,
    certificates: &Arc<Certificates>,
    reloads: &Reloads,
) -> Result<(), NotReloaded> {
    let old = context.config.get();
    let new = NodeConfig::load(reloads.file.as_deref())?;
    let shown = Arc::clone(certificates);
    let identity = tokio::task::spawn_blocking(move || shown.on_disk()).await;
    let identity = identity.map_err(|_| NodeError::Interrupted)??;
    let changed = changes(&old, &new);
    if new.log_filter != old.log_filter {
        (reloads.set_log_filter)(&new.log_filter)
            .map_err(|reason| NotReloaded::Filter { filter: new.log_filter.clone(), reason })?;
    }
    if let Some(identity) = identity
        && let Err(error) = certificates.show(identity)
    {
        // It was in force a moment ago, so it can be again.
        let _ = (reloads.set_log_filter)(&old.log_filter);
        return Err(NodeError::from(error).into());
    }
    for Changed { key, old, new, reloads } in &changed {
        if *reloads {
            tracing::info!(key, %old, %new, "reloaded");
        } else {
            tracing::warn!(key, in_force = %old, in_the_file = %new, "takes a restart to change");
        }
    }
    context.watches.allow(new.watchers_max);
    context.config.put(merged(&old, new));
    tracing::info!(
        changed = changed.iter().filter(|changed| changed.reloads).count(),
        "configuration reloaded"
    );
    Ok(())
}

fn changes(old: &NodeConfig, new: &NodeConfig) -> Vec<Changed> {
    let changed = KEYS.iter().filter_map(|key| {
        let (old, new) = (key.value(old), key.value(new));
        (old != new).then_some(Changed { key: key.name, old, new, reloads: key.reloads })
    });
    changed.collect()
}

/// What is in force after a reload: the new values of what can be reloaded, the old ones of the rest.
fn merged(old: &NodeConfig, new: NodeConfig) -> NodeConfig {
    NodeConfig {
        log_filter: new.log_filter,
        in_flight_per_stream_max: new.in_flight_per_stream_max,
        watchers_max: new.watchers_max,
        drain_timeout: new.drain_timeout,
        ..old.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> NodeConfig {
        NodeConfig::from_toml(&format!("data_dir = \"d\"\n{text}"), Path::new("/etc/haltline")).unwrap()
    }

    #[test]
    fn what_changed_is_named_with_both_values() {
        let (old, new) = (config(""), config("[listen]\napi = \"127.0.0.1:1\"\n[limits]\nwatchers = 3"));
        let told: Vec<_> =
            changes(&old, &new).into_iter().map(|one| (one.key, one.new, one.reloads)).collect();
        assert_eq!(
            told,
            [("listen.api", "\"127.0.0.1:1\"".to_owned(), false), ("limits.watchers", "3".to_owned(), true)]
        );
        assert!(changes(&old, &old.clone()).is_empty());
    }

    #[test]
    fn exactly_the_keys_that_reload_are_taken_over() {
        let old = config("");
        let new = config(
            "identity_dir = \"i\"\nfounding_file = \"f\"\n[listen]\napi = \"127.0.0.1:1\"\nraft = \"127.0.0.1:2\"\n\
             http = \"127.0.0.1:3\"\nedge = \"127.0.0.1:4\"\npublic = \"127.0.0.1:5\"\n[peers]\nroutes = \"2=h:1\"\n\
             [http]\nbeyond_loopback = true\n[timing]\nprofile = \"wan\"\n[log]\nformat = \"json\"\nfilter = \"debug\"\n\
             [limits]\nconnections = 1\nstreams_per_connection = 1\nin_flight_per_stream = 1\nwatchers = 1\n\
             [snapshots]\nafter_entries = 1000\nafter_bytes = \"1 GiB\"\n[shutdown]\ndrain_timeout = \"1s\"",
        );
        let all = changes(&old, &new);
        assert_eq!(all.len(), KEYS.len() - 1, "every key but data_dir is another one");
        let left = changes(&merged(&old, new.clone()), &new);
        assert!(left.iter().all(|changed| !changed.reloads), "{left:?}");
        assert_eq!(left.len(), all.iter().filter(|changed| !changed.reloads).count());
    }
}
