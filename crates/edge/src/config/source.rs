//! Where values come from: the file, then the environment, then the defaults; and the checks of each.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use haltline_core::limits::{HUB_BACKOFF_CEILING, HUB_CONNECT_TIMEOUT_CEILING, SIDECAR_DRAIN_CEILING};

use super::{
    ConfigError, EdgeConfig,
    keys::{self, KEYS},
};
use crate::sidecar::SidecarConfig;

/// What every variable of ours begins with.
pub(super) const VARIABLE_PREFIX: &str = "HALTLINE_EDGE_";
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
            reason: error.to_string().trim_end().into(),
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
            match (keys::key(&name), value) {
                (None, toml::Value::Table(inner)) if is_table(&name) => {
                    self.add_table(&name, inner, origin, directory)?;
                }
                (None, _) => return Err(unknown(origin, name)),
                (Some(key), toml::Value::String(text)) => self.set(key.name, text, origin, directory),
                (Some(key), other) => self.set(key.name, other.to_string(), origin, directory),
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &'static str, text: String, origin: &str, directory: &Path) {
        self.values.insert(key, Setting { text, origin: origin.into(), directory: directory.into() });
    }

    /// Takes the variables of ours among those of the process.
    pub(super) fn add_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (variable, text) in variables.filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)) {
            let Some(key) = KEYS.iter().find(|key| key.variable() == variable) else {
                let nearest = most_like(&variable, KEYS.iter().map(keys::Key::variable));
                let origin = "the environment".into();
                return Err(ConfigError::UnknownKey { origin, key: variable, nearest });
            };
            self.set(key.name, text, &variable, Path::new(""));
        }
        Ok(())
    }

    /// Checks every value and takes defaults where there is none.
    pub(super) fn into_config(self) -> Result<EdgeConfig, ConfigError> {
        let backoff_max = self.duration("hubs.backoff_max", HUB_BACKOFF_CEILING.0)?;
        let most = u64::try_from(backoff_max.as_millis()).unwrap_or(u64::MAX);
        Ok(EdgeConfig {
            data_dir: self.path("data_dir")?,
            identity_dir: self.path("identity_dir")?,
            region: self.parsed("region", "up to 63 letters, digits, `.`, `_` and `-`")?,
            routes: self.parsed("hubs.routes", "NODE=HOST:PORT, separated by commas")?,
            relays: self.parsed("hubs.relays", "NAME=HOST:PORT, separated by commas")?,
            connect_timeout: self.duration("hubs.connect_timeout", HUB_CONNECT_TIMEOUT_CEILING.0)?,
            backoff_min: self.duration("hubs.backoff_min", most)?,
            backoff_max,
            log_format: self.parsed("log.format", "auto, human or json")?,
            log_filter: self.text("log.filter")?.0,
            sidecar: self.sidecar()?,
        })
    }

    fn sidecar(&self) -> Result<SidecarConfig, ConfigError> {
        const LISTEN: &str = "IP:PORT, unix:/PATH, or nothing";
        let sidecar = SidecarConfig {
            grpc: self.parsed("sidecar.grpc", LISTEN)?,
            http: self.parsed("sidecar.http", LISTEN)?,
            probes: self.parsed("sidecar.probes", LISTEN)?,
            probes_beyond_loopback: self.parsed("sidecar.probes_beyond_loopback", "true or false")?,
            actions: self.told("sidecar.actions")?,
            token_header: self.parsed("sidecar.token_header", "the name of a header")?,
            token_scheme: self.parsed("sidecar.token_scheme", "a word, or nothing")?,
            audiences: self.parsed("sidecar.audiences", "names separated by commas, or nothing")?,
            fail_open: self.parsed("sidecar.fail_open", "true or false")?,
            drain_timeout: self.duration("sidecar.drain_timeout", SIDECAR_DRAIN_CEILING.0)?,
        };
        sidecar.check()?;
        Ok(sidecar)
    }

    fn text(&self, name: &'static str) -> Result<(String, String), ConfigError> {
        let key = keys::key(name);
        match (self.values.get(name), key.and_then(|key| key.default)) {
            (Some(setting), _) => Ok((setting.text.clone(), setting.origin.clone())),
            (None, Some(default)) => Ok((default.into(), "the default".into())),
            (None, None) => {
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

    /// A value whose own error says best what is wrong with it.
    fn told<T: FromStr<Err: Display>>(&self, key: &'static str) -> Result<T, ConfigError> {
        let (text, origin) = self.text(key)?;
        text.parse().map_err(|error: T::Err| ConfigError::Explained { origin, key, why: error.to_string() })
    }

    /// A duration with its unit, from a millisecond to `max_ms`.
    fn duration(&self, key: &'static str, max_ms: u64) -> Result<Duration, ConfigError> {
        let (text, origin) = self.text(key)?;
        let has_unit = text.bytes().any(|byte| byte.is_ascii_alphabetic());
        match humantime::parse_duration(&text) {
            Ok(duration) if has_unit && (1..=u128::from(max_ms)).contains(&duration.as_millis()) => {
                Ok(duration)
            }
            _ => {
                let max = humantime::format_duration(Duration::from_millis(max_ms));
                let expected = format!("a duration with its unit, as 5s or 200ms, from 1ms to {max}");
                Err(value_error(origin, key, text, expected))
            }
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

fn value_error(origin: String, key: &'static str, got: String, expected: impl Display) -> ConfigError {
    ConfigError::Value { origin, key, got, expected: expected.to_string() }
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
