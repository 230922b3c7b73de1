//! A relay's configuration: the keys of an enforcer's link, and where the relay listens. Each is also an environment
//! variable `HALTLINE_RELAY_…`, which wins.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use haltline_edge::{
    EdgeConfig,
    config::{ConfigError, KEYS, Key},
};
use toml::{Table, Value};

const VARIABLE_PREFIX: &str = "HALTLINE_RELAY_";
/// Keys of an edge that a relay hasn't: it decides nothing.
const NOT_OURS: &str = "sidecar.";
const LISTEN_EDGE: &str = "listen.edge";
const LISTEN_HTTP: &str = "listen.http";
const HTTP_DEFAULT: &str = "127.0.0.1:7482";

/// Why a relay's configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum RelayConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{} is no TOML: {reason}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
    /// A key that doesn't exist here.
    #[error("`{key}` is no key of a relay; `haltline relay run --print-config` lists them all")]
    UnknownKey {
        /// The key or the variable.
        key: String,
    },
    /// A value out of form.
    #[error("`{key}` is `{got}`; expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What came.
        got: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A key that somebody must set.
    #[error("`{LISTEN_EDGE}` is not set: where the edges below connect, as 0.0.0.0:7403")]
    NoEdgePort,
    /// A key that an edge has too.
    #[error(transparent)]
    Link(#[from] ConfigError),
}

/// What a relay runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayConfig {
    /// Its link to the hubs above.
    pub link: EdgeConfig,
    /// `listen.edge`: where enforcers below connect, over mutual TLS.
    pub listen_edge: SocketAddr,
    /// `listen.http`: health and metrics, on loopback; `None` is off.
    pub listen_http: Option<SocketAddr>,
}

impl RelayConfig {
    /// Reads the file (if one is given), lays the process's variables over it, and checks everything. Relative paths of the
    /// file are meant from its directory, those of variables from the working directory.
    ///
    /// # Errors
    /// The first key or value that is wrong, with what would be right.
    pub fn load(file: Option<&Path>) -> Result<Self, RelayConfigError> {
        let text = match file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| RelayConfigError::Read { path: path.into(), source })?,
            None => String::new(),
        };
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        Self::read(&text, file.unwrap_or(Path::new("")), variables)
    }

    fn read(
        text: &str,
        path: &Path,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, RelayConfigError> {
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| RelayConfigError::Syntax {
            path: path.into(),
            reason: error.to_string().trim_end().into(),
        })?;
        for (variable, value) in variables.filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)) {
            let key = own_keys().find(|key| variable_of(key) == variable);
            let key = key.ok_or(RelayConfigError::UnknownKey { key: variable })?;
            set(&mut table, key, from_here(key, value));
        }
        if table.contains_key(NOT_OURS.trim_end_matches('.')) {
            return Err(RelayConfigError::UnknownKey { key: NOT_OURS.trim_end_matches('.').into() });
        }
        let listen = match table.remove("listen") {
            None => Table::new(),
            Some(Value::Table(listen)) => listen,
            Some(other) => {
                let (got, expected) = (other.to_string(), "a table with `edge` and `http`");
                return Err(RelayConfigError::Value { key: "listen", got, expected });
            }
        };
        let directory = path.parent().unwrap_or(Path::new(""));
        let link = EdgeConfig::from_toml(&table.to_string(), directory)?;
        Self::listening(link, &listen)
    }

    fn listening(link: EdgeConfig, listen: &Table) -> Result<Self, RelayConfigError> {
        if let Some(other) = listen.keys().find(|key| !["edge", "http"].contains(&key.as_str())) {
            return Err(RelayConfigError::UnknownKey { key: format!("listen.{other}") });
        }
        let text = |name: &str| listen.get(name).map(|value| value.as_str().unwrap_or("").to_owned());
        let edge = text("edge").ok_or(RelayConfigError::NoEdgePort)?;
        let expected = "IP:PORT";
        let listen_edge =
            edge.parse().map_err(|_| RelayConfigError::Value { key: LISTEN_EDGE, got: edge, expected })?;
        let listen_http = match text("http").unwrap_or_else(|| HTTP_DEFAULT.into()) {
            off if off.is_empty() => None,
            text => match text.parse::<SocketAddr>() {
                Ok(address) if address.ip().is_loopback() => Some(address),
                _ => {
                    let expected = "a loopback IP:PORT, for it has no TLS, or nothing for off";
                    return Err(RelayConfigError::Value { key: LISTEN_HTTP, got: text, expected });
                }
            },
        };
        Ok(Self { link, listen_edge, listen_http })
    }

    /// The whole configuration as TOML, each key with its variable. Reads back as the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let whole: Table = self.link.to_toml().parse().unwrap_or_default();
        let mut table = Table::new();
        for key in own_keys() {
            if let Some(value) = get(&whole, key) {
                set(&mut table, key, value.clone());
            }
        }
        let http = self.listen_http.map(|address| address.to_string()).unwrap_or_default();
        set(&mut table, LISTEN_EDGE, Value::String(self.listen_edge.to_string()));
        set(&mut table, LISTEN_HTTP, Value::String(http));
        let mut text =
            String::from("# A Haltline relay. Every key is also an environment variable, which wins:\n");
        for key in own_keys() {
            // Writing to a string can't fail.
            let _ = writeln!(text, "#   {key}: {} ({})", doc(key), variable_of(key));
        }
        text.push('\n');
        text.push_str(&table.to_string());
        text
    }
}

fn own_keys() -> impl Iterator<Item = &'static str> {
    let link = KEYS.iter().map(|key: &Key| key.name).filter(|name| !name.starts_with(NOT_OURS));
    link.chain([LISTEN_EDGE, LISTEN_HTTP])
}

fn doc(name: &str) -> &'static str {
    match name {
        LISTEN_EDGE => "where the edges below connect, IP:PORT",
        LISTEN_HTTP => {
            "where /healthz, /readyz and /metrics are served: loopback IP:PORT, or nothing for off"
        }
        _ => KEYS.iter().find(|key| key.name == name).map_or("", |key| key.doc),
    }
}

fn variable_of(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// A variable's value; a path is meant from the working directory, wherever the file lies.
fn from_here(key: &str, value: String) -> Value {
    let is_path = ["data_dir", "identity_dir"].contains(&key);
    let absolute = is_path.then(|| std::path::absolute(&value).ok()).flatten();
    Value::String(absolute.map_or(value, |path| path.display().to_string()))
}

fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.into(), value);
        }
        Some((outer, inner)) => {
            let below = table.entry(outer).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(below) = below {
                set(below, inner, value);
            }
        }
    }
}

fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((outer, inner)) => get(table.get(outer)?.as_table()?, inner),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: &str =
        "data_dir = \"data\"\n[hubs]\nroutes = \"1=127.0.0.1:1\"\n[listen]\nedge = \"0.0.0.0:7403\"\n";

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<RelayConfig, RelayConfigError> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        RelayConfig::read(text, Path::new("/etc/relay.toml"), variables)
    }

    #[test]
    fn a_file_is_read_and_variables_win() {
        let config = read(FILE, &[]).unwrap();
        assert_eq!(config.link.data_dir, Path::new("/etc/data"));
        assert_eq!(config.listen_edge, "0.0.0.0:7403".parse().unwrap());
        assert_eq!(config.listen_http, Some(HTTP_DEFAULT.parse().unwrap()));
        let variables = [
            ("HALTLINE_RELAY_DATA_DIR", "/var/relay"),
            ("HALTLINE_RELAY_LISTEN_HTTP", ""),
            ("HALTLINE_RELAY_HUBS_CONNECT_TIMEOUT", "1s"),
            ("HALTLINE_EDGE_DATA_DIR", "/elsewhere"),
        ];
        let config = read(FILE, &variables).unwrap();
        assert_eq!((config.link.data_dir.to_str(), config.listen_http), (Some("/var/relay"), None));
        assert_eq!(config.link.connect_timeout, std::time::Duration::from_secs(1));
    }

    #[test]
    fn what_is_printed_reads_back() {
        let config = read(FILE, &[]).unwrap();
        assert_eq!(read(&config.to_toml(), &[]).unwrap(), config);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |text: &str, variables: &[(&str, &str)]| read(text, variables).unwrap_err().to_string();
        assert!(refused("data_dir = \"x\"", &[]).contains("`listen.edge` is not set"));
        assert!(refused(&format!("{FILE}http = \"0.0.0.0:1\""), &[]).contains("loopback"));
        assert!(refused(&format!("{FILE}api = \"0.0.0.0:1\""), &[]).contains("`listen.api` is no key"));
        assert!(refused(&format!("{FILE}[sidecar]\ngrpc = \"\""), &[]).contains("`sidecar` is no key"));
        assert!(refused(FILE, &[("HALTLINE_RELAY_NOPE", "1")]).contains("HALTLINE_RELAY_NOPE"));
        assert!(refused("bogus = 1\n[listen]\nedge = \"0.0.0.0:1\"", &[]).contains("bogus"));
    }
}
