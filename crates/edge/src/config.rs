//! An enforcer's configuration: one TOML file, every key of it also an environment variable `HALTLINE_EDGE_…`, defaults
//! that serve beside a real cluster.
//!
//! [`KEYS`] is the one list of what there is: the loader refuses every other key and names the nearest. Every duration
//! has a unit.

mod keys;
mod logs;
mod routes;
mod source;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use keys::{KEYS, Key};
pub use logs::LogFormat;
pub use routes::{HubRoutes, Region, Relays};

use crate::sidecar::{SidecarConfig, SidecarConfigError};
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
    /// A value out of form, of a kind that has many ways to be.
    #[error("{origin}: `{key}`: {why}")]
    Explained {
        /// The file, or the environment variable.
        origin: String,
        /// The key.
        key: &'static str,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// Keys of the sidecar that don't fit together.
    #[error(transparent)]
    Sidecar(#[from] SidecarConfigError),
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
}

struct Nearest<'a>(&'a Option<String>);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => write!(f, "; did you mean `{key}`?"),
            None => f.write_str("; `haltline edge run --print-config` lists them all"),
        }
    }
}

/// What an enforcer runs with. See [`KEYS`] for what each field is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeConfig {
    /// `data_dir`
    pub data_dir: PathBuf,
    /// `identity_dir`
    pub identity_dir: PathBuf,
    /// `region`
    pub region: Region,
    /// `hubs.routes`
    pub routes: HubRoutes,
    /// `hubs.relays`
    pub relays: Relays,
    /// `hubs.connect_timeout`
    pub connect_timeout: Duration,
    /// `hubs.backoff_min`
    pub backoff_min: Duration,
    /// `hubs.backoff_max`
    pub backoff_max: Duration,
    /// `log.format`
    pub log_format: LogFormat,
    /// `log.filter`
    pub log_filter: String,
    /// `sidecar.*`
    pub sidecar: SidecarConfig,
}

impl EdgeConfig {
    /// Reads the file (if one is given), lays the process's `HALTLINE_EDGE_…` variables over it, and checks everything.
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
    /// As [`EdgeConfig::load`].
    pub fn from_toml(text: &str, directory: &Path) -> Result<Self, ConfigError> {
        let mut settings = Settings::default();
        settings.add_toml(text, "the configuration", directory)?;
        settings.into_config()
    }

    /// Defaults beside these two directories: what a program needs that brings no file.
    #[must_use]
    pub fn at(identity_dir: &Path, data_dir: &Path) -> Self {
        let mut config = Self::from_toml("data_dir = \".\"", Path::new(""))
            .expect("every key but this one has a default that its own check accepts");
        config.identity_dir = identity_dir.into();
        config.data_dir = data_dir.into();
        config
    }

    /// The whole configuration as TOML, each key with its meaning and its variable. Reads back as the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        keys::render(self)
    }
}

#[cfg(test)]
mod tests;
