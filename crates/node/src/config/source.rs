//! Where values come from: the file, then the environment, then the defaults; and the checks of each.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use super::{
    ConfigError, NodeConfig,
    keys::{self, KEYS},
    units,
};
use haltline_core::limits::{
    API_IN_FLIGHT_PER_STREAM_MAX, API_STREAMS_PER_CONNECTION_MAX, EVENT_WATCHERS_CEILING, TLS_CONNECTIONS_MAX,
};

/// What every variable of ours begins with.
pub(super) const VARIABLE_PREFIX: &str = "HALTLINE_";
/// Variables of the same prefix that belong to the command line, not to a node's configuration.
const OTHER_VARIABLES: [&str; 4] =
    ["HALTLINE_CONFIG", "HALTLINE_IDENTITY", "HALTLINE_ENDPOINTS", "HALTLINE_OUTPUT"];
/// What the variables of enforcers begin with, which may run on the same machine.
const ENFORCER_PREFIXES: [&str; 2] = ["HALTLINE_EDGE_", "HALTLINE_RELAY_"];
/// Names this much alike are taken for typing mistakes.
const LIKENESS_MIN: f64 = 0.75;

/// Values as texts, each with where it came from.
#[derive(Debug, Default)]
pub(super) struct Settings {
    values: BTreeMap<&'static str, Setting>,
}

#[derive(Debug)]
struct Setting {
    text: String,
    origin: String,
    /// What relative paths are meant from.
    directory: PathBuf,
}

impl Settings {
    /// Takes the values of a file.
    pub(super) fn add_toml(&mut self, text: &str, origin: &str, directory: &Path) -> Result<(), ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            origin: origin.into(),
            reason: where_and_what(text, &error),
        })?;
        self.add_table("", table, origin, directory)
    }

    fn add_table(
        &mut self,
        prefix: &str,
        table: toml::Table,
        origin: &str,
        directory: &Path,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            let key = keys::key(&name).map(|key| key.name);
            let text = match (key, value) {
                (None, toml::Value::Table(inner)) if is_table(&name) => {
                    self.add_table(&name, inner, origin, directory)?;
                    continue;
                }
                (None, _) => return Err(unknown(origin, name)),
                (Some(_), toml::Value::String(text)) => text,
                (Some(_), other) => other.to_string(),
            };
            let setting = Setting { text, origin: origin.into(), directory: directory.into() };
            self.values.extend(key.map(|key| (key, setting)));
        }
        Ok(())
    }

    /// Takes the variables of ours among those of the process.
    pub(super) fn add_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (variable, text) in variables {
            let is_ours = variable.starts_with(VARIABLE_PREFIX)
                && !ENFORCER_PREFIXES.iter().any(|theirs| variable.starts_with(theirs))
                && !OTHER_VARIABLES.contains(&variable.as_str());
            if !is_ours {
                continue;
            }
            let Some(key) = KEYS.iter().find(|key| key.variable() == variable) else {
                let nearest = most_like(&variable, KEYS.iter().map(keys::Key::variable));
                return Err(ConfigError::UnknownKey {
                    origin: "the environment".into(),
                    key: variable,
                    nearest,
                });
            };
            let setting = Setting { text, origin: variable, directory: PathBuf::new() };
            self.values.insert(key.name, setting);
        }
        Ok(())
    }

    /// Checks every value and takes defaults where there is none.
    pub(super) fn into_config(self) -> Result<NodeConfig, ConfigError> {
        let config = NodeConfig {
            data_dir: self.path("data_dir")?,
            identity_dir: self.path("identity_dir")?,
            founding_file: self.path("founding_file")?,
            listen_api: self.address("listen.api")?,
            listen_raft: self.address("listen.raft")?,
            listen_http: self.address("listen.http")?,
            listen_edge: self.address("listen.edge")?,
            listen_public: self.address("listen.public")?,
            routes: self.parsed("peers.routes", "NODE=HOST:PORT, separated by commas")?,
            http_beyond_loopback: self.parsed("http.beyond_loopback", "true or false")?,
            profile: self.parsed("timing.profile", "lan or wan")?,
            log_format: self.parsed("log.format", "auto, human or json")?,
            log_filter: self.parsed("log.filter", "a filter, as `info`")?,
            connections_max: self.between("limits.connections", 1, TLS_CONNECTIONS_MAX)?,
            streams_per_connection_max: self.between(
                "limits.streams_per_connection",
                1,
                API_STREAMS_PER_CONNECTION_MAX,
            )?,
            in_flight_per_stream_max: self.between(
                "limits.in_flight_per_stream",
                1,
                API_IN_FLIGHT_PER_STREAM_MAX,
            )?,
            watchers_max: self.between("limits.watchers", 0, EVENT_WATCHERS_CEILING)?,
            snapshot_after_entries: self.between("snapshots.after_entries", 100, u64::MAX)?,
            snapshot_after: self.parsed("snapshots.after_bytes", "a size with its unit, as 256 MiB")?,
            drain_timeout: self.duration("shutdown.drain_timeout")?,
        };
        if !config.listen_http.ip().is_loopback() && !config.http_beyond_loopback {
            return Err(ConfigError::PlainHttp { address: config.listen_http });
        }
        Ok(config)
    }

    fn text(&self, name: &'static str) -> Result<(String, String), ConfigError> {
        match (self.values.get(name), keys::default_of(name), keys::key(name)) {
            (Some(setting), _, _) => Ok((setting.text.clone(), setting.origin.clone())),
            (None, Some(default), _) => Ok((default, "the default".into())),
            (None, None, key) => {
                let doc = key.map_or("", |key| key.doc);
                let variable = key.map(keys::Key::variable).unwrap_or_default();
                Err(ConfigError::Missing { key: name, doc, variable })
            }
        }
    }

    fn parsed<T: FromStr>(&self, key: &'static str, expected: &str) -> Result<T, ConfigError> {
        let (text, origin) = self.text(key)?;
        text.parse().map_err(|_| value_error(origin, key, text, expected))
    }

    fn address(&self, key: &'static str) -> Result<SocketAddr, ConfigError> {
        self.parsed(key, "IP:PORT, as 127.0.0.1:7400 or [::]:7400")
    }

    fn duration(&self, key: &'static str) -> Result<Duration, ConfigError> {
        let (text, origin) = self.text(key)?;
        units::duration(&text)
            .map_err(|()| value_error(origin, key, text, "a duration with its unit, as 5s or 200ms"))
    }

    fn between<T>(&self, key: &'static str, min: T, max: T) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + std::fmt::Display + Copy,
    {
        let (text, origin) = self.text(key)?;
        match text.parse() {
            Ok(number) if min <= number && number <= max => Ok(number),
            _ => Err(value_error(origin, key, text, &format!("a number from {min} to {max}"))),
        }
    }

    fn path(&self, key: &'static str) -> Result<PathBuf, ConfigError> {
        let (text, origin) = self.text(key)?;
        if text.is_empty() {
            return Err(value_error(origin, key, text, "a path"));
        }
        // A default is meant from where the rest of the configuration is.
        let of_data_dir = || self.values.get("data_dir").map(|setting| setting.directory.clone());
        let directory = self.values.get(key).map(|setting| setting.directory.clone()).or_else(of_data_dir);
        Ok(directory.unwrap_or_default().join(text))
    }
}

/// A syntax error on one line, as logs want it: where in the text, and what.
fn where_and_what(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let Some(before) = before else { return error.message().to_owned() };
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let words = text.lines().nth(line - 1).unwrap_or_default().trim();
    format!("{} at line {line}, column {column}: `{words}`", error.message())
}

fn value_error(origin: String, key: &'static str, got: String, expected: &str) -> ConfigError {
    ConfigError::Value { origin, key, got, expected: expected.into() }
}

fn is_table(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

fn unknown(origin: &str, key: String) -> ConfigError {
    let nearest = most_like(&key, KEYS.iter().map(|key| key.name.to_owned()));
    ConfigError::UnknownKey { origin: origin.into(), key, nearest }
}

fn most_like(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(name, &candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate)
}
