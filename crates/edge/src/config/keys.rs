//! Every key there is: its name, meaning, default, and how it is shown.

use std::fmt::Display;

use super::{EdgeConfig, source::VARIABLE_PREFIX};
use crate::sidecar::DEFAULT_RULES;

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
    "hubs.relays", Some(""), "relays to go through instead of nodes, as `relay-1=HOST:PORT`; usually empty",
        |config| quoted(&config.relays);
    "hubs.connect_timeout", Some("3s"), "how long a hub may take to answer a connection, TLS included",
        |config| quoted(&humantime::format_duration(config.connect_timeout));
    "hubs.backoff_min", Some("50ms"), "the longest wait after the first failed round over all hubs; each round doubles it",
        |config| quoted(&humantime::format_duration(config.backoff_min));
    "hubs.backoff_max", Some("5s"), "the longest wait after any failed round over all hubs; a lease's length where that is less",
        |config| quoted(&humantime::format_duration(config.backoff_max));
    "log.format", Some("auto"), "auto, human or json; auto is human on a terminal",
        |config| quoted(&config.log_format);
    "log.filter", Some("info"), "which logs are written, as `info` or `haltline_edge=debug,info`",
        |config| quoted(&config.log_filter);
    "sidecar.grpc", Some("127.0.0.1:7480"), "where Envoy asks (gRPC): loopback IP:PORT, unix:/PATH, or nothing for off",
        |config| quoted(&config.sidecar.grpc);
    "sidecar.http", Some("127.0.0.1:7481"), "where programs ask (HTTP/JSON): loopback IP:PORT, unix:/PATH, or nothing for off",
        |config| quoted(&config.sidecar.http);
    "sidecar.probes", Some(""), "where else /healthz, /readyz and /metrics are served: IP:PORT, unix:/PATH, or nothing",
        |config| quoted(&config.sidecar.probes);
    "sidecar.probes_beyond_loopback", Some("false"), "whether sidecar.probes may be reached from other machines, though it has no TLS",
        |config| config.sidecar.probes_beyond_loopback.to_string();
    "sidecar.actions", Some(DEFAULT_RULES), "which action a request is, a rule a line, as `POST /tools/{tool} => tool={tool}`",
        |config| quoted(&config.sidecar.actions);
    "sidecar.token_header", Some("authorization"), "which header of a request carries the agent's token",
        |config| quoted(&config.sidecar.token_header);
    "sidecar.token_scheme", Some("Bearer"), "the word before the token in that header; nothing if there is none",
        |config| quoted(&config.sidecar.token_scheme);
    "sidecar.audiences", Some(""), "for whom else tokens may be, separated by commas; this cluster's enforcers always",
        |config| quoted(&config.sidecar.audiences);
    "sidecar.fail_open", Some("false"), "whether Envoy may go on without an answer while the view is stale; needs the record's fails_open",
        |config| config.sidecar.fail_open.to_string();
    "sidecar.drain_timeout", Some("10s"), "how long a stopping sidecar waits for the streams that it watches",
        |config| quoted(&humantime::format_duration(config.sidecar.drain_timeout));
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
