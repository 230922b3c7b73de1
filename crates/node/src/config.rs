//! A node's configuration: one TOML file, every key of it also an environment variable, defaults that run a real cluster.
//!
//! [`KEYS`] is the one list of what there is: the loader refuses every other key (naming the nearest), and
//! `--print-config` prints exactly these. Every duration and size has a unit.

mod keys;
mod source;
mod units;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use haltline_consensus::Timing;
use haltline_core::ids::NodeId;
use haltline_pki::Endpoint;
pub(crate) use keys::DEFAULT_FILTER;
pub use keys::{KEYS, Key};
pub use units::ByteSize;

use source::Settings;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{origin} is no TOML: {reason}")]
    Syntax {
        /// The file.
        origin: String,
        /// Where and what.
        reason: String,
    },
    /// A key that doesn't exist.
    #[error("{origin} sets `{key}`, which is no key{}", Nearest(.nearest))]
    UnknownKey {
        /// The file, or the environment.
        origin: String,
        /// The key.
        key: String,
        /// The key that looks most like it.
        nearest: Option<String>,
    },
    /// A value out of form.
    #[error("{origin}: `{key}` is `{got}`; expected {expected}")]
    Value {
        /// The file, or the environment variable.
        origin: String,
        /// The key.
        key: &'static str,
        /// What came.
        got: String,
        /// What would be right.
        expected: String,
    },
    /// A key that has no default.
    #[error("`{key}` is not set: {doc}; set it in the configuration file or as {variable}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What it is for.
        doc: &'static str,
        /// The environment variable.
        variable: String,
    },
    /// Plain HTTP where others could read it.
    #[error(
        "`listen.http` is {address}, which isn't loopback, and /metrics and health are served without TLS; use 127.0.0.1, \
         or set `http.beyond_loopback = true` where the network is yours alone"
    )]
    PlainHttp {
        /// The address.
        address: SocketAddr,
    },
}

struct Nearest<'a>(&'a Option<String>);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => write!(f, "; did you mean `{key}`?"),
            None => f.write_str("; `haltline node --print-config` lists them all"),
        }
    }
}

/// How far apart the nodes are, which decides how patient they are with one another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// In one region, a few milliseconds apart.
    #[default]
    Lan,
    /// In several regions, up to about 200 ms apart.
    Wan,
}

impl Profile {
    /// How patient nodes are with one another.
    #[must_use]
    pub const fn timing(self) -> Timing {
        match self {
            Self::Lan => Timing::LAN,
            Self::Wan => Timing::WAN,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lan => "lan",
            Self::Wan => "wan",
        })
    }
}

impl FromStr for Profile {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "lan" => Ok(Self::Lan),
            "wan" => Ok(Self::Wan),
            _ => Err(()),
        }
    }
}

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, as JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// Where this node reaches particular peers, if not at the addresses that the membership has: behind an address
/// translation, or through a proxy. Written `2=host:port, 3=host:port`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes(pub BTreeMap<NodeId, Endpoint>);

impl fmt::Display for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        self.0.iter().try_for_each(|(node, endpoint)| {
            write!(f, "{separator}{node}={endpoint}")?;
            separator = ", ";
            Ok(())
        })
    }
}

impl FromStr for Routes {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let route = |part: &str| {
            let (node, endpoint) = part.split_once('=').ok_or(())?;
            Ok((NodeId(node.trim().parse().map_err(drop)?), endpoint.trim().parse().map_err(drop)?))
        };
        text.split(',').filter(|part| !part.trim().is_empty()).map(route).collect::<Result<_, ()>>().map(Self)
    }
}

/// What a node runs with. See [`KEYS`] for what each field is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// `data_dir`
    pub data_dir: PathBuf,
    /// `identity_dir`
    pub identity_dir: PathBuf,
    /// `founding_file`
    pub founding_file: PathBuf,
    /// `listen.api`
    pub listen_api: SocketAddr,
    /// `listen.raft`
    pub listen_raft: SocketAddr,
    /// `listen.http`
    pub listen_http: SocketAddr,
    /// `listen.edge`
    pub listen_edge: SocketAddr,
    /// `listen.public`
    pub listen_public: SocketAddr,
    /// `peers.routes`
    pub routes: Routes,
    /// `http.beyond_loopback`
    pub http_beyond_loopback: bool,
    /// `timing.profile`
    pub profile: Profile,
    /// `log.format`
    pub log_format: LogFormat,
    /// `log.filter`
    pub log_filter: String,
    /// `limits.connections`
    pub connections_max: usize,
    /// `limits.streams_per_connection`
    pub streams_per_connection_max: u32,
    /// `limits.in_flight_per_stream`
    pub in_flight_per_stream_max: usize,
    /// `limits.watchers`
    pub watchers_max: usize,
    /// `snapshots.after_entries`
    pub snapshot_after_entries: u64,
    /// `snapshots.after_bytes`
    pub snapshot_after: ByteSize,
    /// `shutdown.drain_timeout`
    pub drain_timeout: Duration,
}

impl NodeConfig {
    /// Reads the file (if one is given), lays the process's `HALTLINE_…` variables over it, and checks everything.
    /// Relative paths of the file are meant from its directory, those of variables from the working directory.
    ///
    /// # Errors
    /// The first key or value that is wrong, with what would be right.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut settings = Settings::default();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.into(), source })?;
            let directory = path.parent().unwrap_or(Path::new(""));
            settings.add_toml(&text, &path.display().to_string(), directory)?;
        }
        // A variable that isn't UTF-8 can't be a key of ours, and a value that isn't is refused by its parser.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        settings.add_environment(variables)?;
        settings.into_config()
    }

    /// Reads a configuration from text. Relative paths are meant from `directory`.
    ///
    /// # Errors
    /// As [`NodeConfig::load`].
    pub fn from_toml(text: &str, directory: &Path) -> Result<Self, ConfigError> {
        let mut settings = Settings::default();
        settings.add_toml(text, "the configuration", directory)?;
        settings.into_config()
    }

    /// The whole configuration as TOML, each key with its meaning and its variable. Reads back as the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        keys::render(self)
    }
}

#[cfg(test)]
mod tests;
