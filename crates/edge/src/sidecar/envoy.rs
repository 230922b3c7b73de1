//! Envoy's messages as this crate's words, and back.

use std::collections::HashMap;

use envoy_types::pb::envoy::{
    config::core::v3::{HeaderMap, HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
    r#type::v3::HttpStatus,
};
use haltline_core::ids::{KillId, LogIndex};
use serde::Serialize;

use super::{
    action_rules::{HeaderFound, HeaderSource},
    answer::Refusal,
};

/// Headers that Envoy joined by name.
pub(super) struct Joined<'a>(pub(super) &'a HashMap<String, String>);

impl HeaderSource for Joined<'_> {
    fn header(&self, name: &str) -> HeaderFound<'_> {
        self.0.get(name).map_or(HeaderFound::Missing, |value| HeaderFound::One(value))
    }
}

/// Headers as they came, one by one.
pub(super) struct Listed<'a>(pub(super) &'a [HeaderValue]);

impl<'a> Listed<'a> {
    pub(super) fn of(map: Option<&'a HeaderMap>) -> Self {
        Self(map.map_or(&[], |map| &map.headers))
    }

    /// A pseudo header, which HTTP has once.
    pub(super) fn pseudo(&self, name: &str) -> Option<&str> {
        match self.header(name) {
            HeaderFound::One(value) => Some(value),
            HeaderFound::Missing | HeaderFound::NotOne => None,
        }
    }
}

impl HeaderSource for Listed<'_> {
    fn header(&self, name: &str) -> HeaderFound<'_> {
        let mut values = self.0.iter().filter(|header| header.key.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (None, _) => HeaderFound::Missing,
            // Envoy fills one of the two.
            (Some(header), None) if header.raw_value.is_empty() => HeaderFound::One(&header.value),
            (Some(header), None) => {
                std::str::from_utf8(&header.raw_value).map_or(HeaderFound::NotOne, HeaderFound::One)
            }
            _ => HeaderFound::NotOne,
        }
    }
}

/// Headers to set, whatever was there before: a caller can't write our words itself.
pub(super) fn overwriting<'a>(
    headers: impl IntoIterator<Item = (&'a str, String)>,
    raw: bool,
) -> Vec<HeaderValueOption> {
    let option = |(key, value): (&str, String)| {
        let (value, raw_value) = if raw { (String::new(), value.into_bytes()) } else { (value, Vec::new()) };
        HeaderValueOption {
            header: Some(HeaderValue { key: key.into(), value, raw_value }),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            ..HeaderValueOption::default()
        }
    };
    headers.into_iter().map(option).collect()
}

pub(super) fn status(code: u16) -> Option<HttpStatus> {
    Some(HttpStatus { code: code.into() })
}

/// A refusal as JSON, for the caller behind the proxy.
pub(super) fn body(refusal: &Refusal) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        error: Error<'a>,
    }
    #[derive(Serialize)]
    struct Error<'a> {
        code: &'a str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        kill: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        index: Option<u64>,
    }
    let error = Error {
        code: refusal.code,
        message: &refusal.message,
        kill: refusal.kill.as_ref().map(KillId::to_string),
        index: refusal.index.map(|LogIndex(index)| index),
    };
    serde_json::to_string(&Body { error }).expect("texts and numbers are always JSON")
}
