//! Every key there is: its name, meaning, default, and how it is shown.

use std::fmt::Display;

use super::{EdgeConfig, source::VARIABLE_PREFIX};

/// One key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its dotted name.
    pub name: &'static str,
    /// What it is for, for people.
    pub doc: &'static str,
    /// Its value where nobody sets one; `None` if somebody must.
    pub default: Option<&'static str>,
    /// Its value in a configuration, as TOML.
    show: fn(&EdgeConfig) -> String,
}

impl Key {
    /// The environment variable of the same meaning.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

fn quoted(value: &dyn Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

macro_rules! keys {
    ($($name:literal, $default:expr, $doc:literal, $show:expr;)+) => {
        /// Every key, in the order in which they are printed: those without a table first.
        pub const KEYS: &[Key] = &[$(Key { name: $name, doc: $doc, default: $default, show: $show }),+];
    };
}

keys! {
    "data_dir", None, "where the high-water mark and the cached snapshot are kept; no two enforcers may share one",
        |config| quoted(&config.data_dir.display());
    "identity_dir", Some("identity"), "where the enforcer's key, certificate and trust bundle are",
        |config| quoted(&config.identity_dir.display());
    "region", Some(""), "where this runs, as `eu-central`; hubs of the same region are tried first",
        |config| quoted(&config.region);
    "hubs.routes", Some(""), "other ways to particular hubs, as `2=HOST:PORT, 3=HOST:PORT`; usually empty",
        |config| quoted(&config.routes);
    "hubs.connect_timeout", Some("3s"), "how long a hub may take to answer a connection, TLS included",
        |config| quoted(&humantime::format_duration(config.connect_timeout));
    "hubs.backoff_min", Some("50ms"), "the longest wait after the first failed round over all hubs; each round doubles it",
        |config| quoted(&humantime::format_duration(config.backoff_min));
    "hubs.backoff_max", Some("5s"), "the longest wait after any failed round over all hubs",
        |config| quoted(&humantime::format_duration(config.backoff_max));
}

/// The key of a name.
pub(super) fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

pub(super) fn render(config: &EdgeConfig) -> String {
    let mut text =
        String::from("# A Haltline enforcer. Every key is also an environment variable, which wins.\n");
    let mut table = "";
    for key in KEYS {
        let (own_table, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if own_table != table {
            table = own_table;
            text.push_str(&format!("\n[{table}]\n"));
        }
        let value = (key.show)(config);
        text.push_str(&format!("# {} ({})\n{name} = {value}\n", key.doc, key.variable()));
    }
    text
}
