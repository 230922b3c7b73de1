//! Parts that many resources share, from messages to what is shown.

use std::collections::BTreeMap;

use haltline_core::{
    ids::{ClusterId, Incarnation, KillId},
    policy::Intent,
    selector::Selector,
    text::Labels,
    time::{Millis, WallTime},
};
use haltline_wire::v1;
use serde_json::{Map, Value, json};

use crate::{failure::Failure, output::times};

/// A selector, checked.
pub(crate) fn selector(message: Option<v1::Selector>) -> Result<Selector, Failure> {
    Selector::try_from(message.unwrap_or_default()).map_err(|error| unreadable("a selector", &error))
}

/// A selector for showing. One that can't be read is a newer node's.
pub(super) fn selector_text(message: Option<&v1::Selector>) -> String {
    selector(message.cloned()).map_or_else(|_| "(of a newer version)".to_owned(), |found| found.to_string())
}

/// What a node sent and this version can't read.
pub(super) fn unreadable(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::protocol(format!("a node sent {what} that this version can't read: {error}"))
}

/// When something happened, for people.
pub(super) fn moment(stamp: Option<&v1::Stamp>) -> String {
    stamp.map(|stamp| times::wall(WallTime(stamp.wall_time_ms))).unwrap_or_default()
}

/// When something happened, for programs.
pub(super) fn stamp_value(stamp: Option<&v1::Stamp>) -> Value {
    match stamp {
        Some(stamp) => json!({
            "index": stamp.index,
            "cluster_time_ms": stamp.cluster_time_ms,
            "wall_time": times::wall(WallTime(stamp.wall_time_ms)),
        }),
        None => Value::Null,
    }
}

/// Labels in order, as `key=value,…`.
pub(super) fn labels_text(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Labels in order, for programs.
pub(super) fn labels_value(labels: &BTreeMap<String, String>) -> Value {
    labels.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect::<Map<_, _>>().into()
}

/// Labels from the command line; a key that stands twice is a mistake.
pub(super) fn labels(pairs: Vec<(String, String)>) -> Result<Labels, Failure> {
    let mut keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(
            Failure::usage(format!("--label {}= stands there twice", twice[0])).hint("a label has one value")
        );
    }
    Labels::from_pairs(pairs).map_err(|error| Failure::usage(format!("--label: {error}")))
}

/// Ids of kills as people type them.
pub(super) fn kills_text(kills: &[u64]) -> String {
    kills.iter().map(|kill| KillId(*kill).to_string()).collect::<Vec<_>>().join(", ")
}

/// Ids of kills for programs.
pub(super) fn kills_value(kills: &[u64]) -> Value {
    kills.iter().map(|kill| KillId(*kill).to_string()).collect()
}

/// A duration that may be unset.
pub(super) fn length(millis: Option<u64>) -> Option<String> {
    millis.map(|millis| Millis(millis).to_string())
}

/// Limits as one line: those that are set.
pub(super) fn limits_text(limits: &v1::Limits) -> String {
    let parts = [
        ("max staleness", length(limits.max_staleness_ms)),
        ("credential lifetime", length(limits.credential_ttl_ms)),
        ("delegation depth", limits.delegation_depth.map(|depth| depth.to_string())),
        ("instances", limits.instances.map(|count| crate::output::page::grouped(count.into()))),
    ];
    let set = parts.into_iter().filter_map(|(name, value)| value.map(|value| format!("{name} {value}")));
    set.collect::<Vec<_>>().join(", ")
}

/// Limits for programs: those that are set.
pub(super) fn limits_value(limits: Option<&v1::Limits>) -> Value {
    let mut value = Map::new();
    if let Some(limits) = limits {
        let mut set = |name: &str, number: Option<u64>| {
            if let Some(number) = number {
                value.insert(name.to_owned(), number.into());
            }
        };
        set("max_staleness_ms", limits.max_staleness_ms);
        set("credential_ttl_ms", limits.credential_ttl_ms);
        set("delegation_depth", limits.delegation_depth.map(u64::from));
        set("instances", limits.instances.map(u64::from));
    }
    value.into()
}

/// The lists of an intent, each as one line; an absent one restricts nothing.
pub(super) fn intent_lists(intent: &Intent) -> Vec<(String, String)> {
    let lists = intent.lists().map(|(name, patterns)| {
        let text = match patterns {
            None => "any".to_owned(),
            Some([]) => "none".to_owned(),
            Some(patterns) => patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        (name.to_string(), text)
    });
    lists.collect()
}

/// An intent for programs.
pub(super) fn intent_value(intent: Option<&v1::Intent>) -> Value {
    let Some(intent) = intent else { return Value::Null };
    let list = |list: Option<&v1::PatternList>| list.map_or(Value::Null, |list| json!(list.patterns));
    json!({
        "purpose": intent.purpose,
        "tools": list(intent.tools.as_ref()),
        "resources": list(intent.resources.as_ref()),
        "models": list(intent.models.as_ref()),
        "data_classes": list(intent.data_classes.as_ref()),
    })
}

/// A cluster's id as people compare it.
pub(super) fn cluster_name(id: &[u8], incarnation: u64) -> String {
    let id = <[u8; 16]>::try_from(id).map(|id| ClusterId(id).to_string()).unwrap_or_default();
    match Incarnation(incarnation) {
        Incarnation(0) => id,
        restored => format!("{id} (incarnation {restored})"),
    }
}
