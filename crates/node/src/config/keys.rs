//! Every key there is: its name, meaning, default, and how it is shown.

use std::fmt::Display;

use haltline_core::limits::{
    API_IN_FLIGHT_PER_STREAM, API_STREAMS_PER_CONNECTION, EVENT_WATCHERS_MAX, TLS_CONNECTIONS_MAX,
};

use super::{NodeConfig, source::VARIABLE_PREFIX};

/// What is logged unless somebody says otherwise. openraft tells of every attempt to reach a dead peer, many a second;
/// what matters of it this crate and `haltline-consensus` say once.
pub(crate) const DEFAULT_FILTER: &str = "info,openraft=error";

/// One key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its dotted name.
    pub name: &'static str,
    /// What it is for, for people.
    pub doc: &'static str,
    /// Whether a running node takes a new value in on SIGHUP; else it takes a restart.
    pub reloads: bool,
    /// Its value in a configuration, as TOML.
    show: fn(&NodeConfig) -> String,
}

impl Key {
    /// Its value in a configuration, as TOML.
    #[must_use]
    pub fn value(&self, config: &NodeConfig) -> String {
        (self.show)(config)
    }

    /// The environment variable of the same meaning.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

fn quoted(value: &dyn Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

/// A running node takes a new value in.
const RELOADS: bool = true;
/// A new value takes a restart.
const AT_START: bool = false;

macro_rules! keys {
    ($($name:literal, $doc:literal, $when:ident, $show:expr;)+) => {
        /// Every key, in the order in which they are printed: those without a table first.
        pub const KEYS: &[Key] = &[$(Key { name: $name, doc: $doc, reloads: $when, show: $show }),+];
    };
}

keys! {
    "data_dir", "where the log and the snapshots are kept; no two nodes may share one", AT_START,
        |config| quoted(&config.data_dir.display());
    "identity_dir", "where the node's keys, certificates and trust bundle are", AT_START,
        |config| quoted(&config.identity_dir.display());
    "founding_file", "who founds the cluster; the same on every founding node", AT_START,
        |config| quoted(&config.founding_file.display());
    "listen.api", "IP:PORT for people and automation (gRPC over mutual TLS)", AT_START,
        |config| quoted(&config.listen_api);
    "listen.raft", "IP:PORT for the other nodes (gRPC over mutual TLS)", AT_START,
        |config| quoted(&config.listen_raft);
    "listen.http", "IP:PORT for /healthz, /readyz and /metrics (plain HTTP)", AT_START,
        |config| quoted(&config.listen_http);
    "listen.edge", "IP:PORT for edges and relays (gRPC over mutual TLS)", AT_START,
        |config| quoted(&config.listen_edge);
    "listen.public", "IP:PORT where an edge shows its join token (gRPC over TLS, no client certificate)", AT_START,
        |config| quoted(&config.listen_public);
    "peers.routes", "other ways to particular nodes, as `2=HOST:PORT, 3=HOST:PORT`; usually empty", AT_START,
        |config| quoted(&config.routes);
    "http.beyond_loopback", "whether listen.http may be reached from other machines, though it has no TLS", AT_START,
        |config| config.http_beyond_loopback.to_string();
    "timing.profile", "lan: nodes a few ms apart; wan: up to about 200 ms", AT_START,
        |config| quoted(&config.profile);
    "log.format", "auto, human or json; auto is human on a terminal", AT_START,
        |config| quoted(&config.log_format);
    "log.filter", "which logs are written, as `info` or `haltline_node=debug,info`", RELOADS,
        |config| quoted(&config.log_filter);
    "limits.connections", "open connections of the API port", AT_START,
        |config| config.connections_max.to_string();
    "limits.streams_per_connection", "calls at once on one connection", AT_START,
        |config| config.streams_per_connection_max.to_string();
    "limits.in_flight_per_stream", "commands of one pipelined stream that wait for their outcome", RELOADS,
        |config| config.in_flight_per_stream_max.to_string();
    "limits.watchers", "event watches at once", RELOADS,
        |config| config.watchers_max.to_string();
    "snapshots.after_entries", "a snapshot is taken after so many entries of the log", AT_START,
        |config| config.snapshot_after_entries.to_string();
    "snapshots.after_bytes", "or after so many bytes of them", AT_START,
        |config| quoted(&config.snapshot_after);
    "shutdown.drain_timeout", "how long a stopping node waits for calls in progress", RELOADS,
        |config| quoted(&humantime::format_duration(config.drain_timeout));
}

/// Defaults of the keys that have one, by name.
pub(super) fn default_of(name: &str) -> Option<String> {
    Some(match name {
        "identity_dir" => "identity".into(),
        "founding_file" => "founding.json".into(),
        "listen.api" => "0.0.0.0:7400".into(),
        "listen.raft" => "0.0.0.0:7401".into(),
        "listen.http" => "127.0.0.1:7402".into(),
        "listen.edge" => "0.0.0.0:7403".into(),
        "listen.public" => "0.0.0.0:7404".into(),
        "peers.routes" => String::new(),
        "http.beyond_loopback" => "false".into(),
        "timing.profile" => "lan".into(),
        "log.format" => "auto".into(),
        "log.filter" => DEFAULT_FILTER.into(),
        "limits.connections" => TLS_CONNECTIONS_MAX.to_string(),
        "limits.streams_per_connection" => API_STREAMS_PER_CONNECTION.to_string(),
        "limits.in_flight_per_stream" => API_IN_FLIGHT_PER_STREAM.to_string(),
        "limits.watchers" => EVENT_WATCHERS_MAX.to_string(),
        "snapshots.after_entries" => "100000".into(),
        "snapshots.after_bytes" => "256 MiB".into(),
        "shutdown.drain_timeout" => "5s".into(),
        _ => return None,
    })
}

/// The key of a name.
pub(super) fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

pub(super) fn render(config: &NodeConfig) -> String {
    let mut text = String::from(
        "# A Haltline node. Every key is also an environment variable, which wins. Keys that reload are taken in on SIGHUP, as\n# are new certificates; the others take a restart.\n",
    );
    let mut table = "";
    for key in KEYS {
        let (own_table, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if own_table != table {
            table = own_table;
            text.push_str(&format!("\n[{table}]\n"));
        }
        let (value, reloads) = (key.value(config), if key.reloads { "; reloads" } else { "" });
        text.push_str(&format!("# {} ({}{reloads})\n{name} = {value}\n", key.doc, key.variable()));
    }
    text
}
