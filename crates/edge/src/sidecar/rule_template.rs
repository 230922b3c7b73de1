//! What a part of an action is made of: text with `{name}` of the path, `{method}`, `{host}`, `{path}`, `{header:x-tool}`
//! in it; with `?` inside of the braces the part is left out where the request lacks the source.

use haltline_core::limits::SIDECAR_TEMPLATE_PARTS_MAX;

use super::action_rules::{Call, Captures, HeaderFound, NoAction};

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Braces that don't pair, or nothing at all.
    #[error("`{got}` is no template: expected text with sources in braces, as `files.{{method}}`")]
    Form {
        /// What came.
        got: String,
    },
    /// A source that doesn't exist.
    #[error(
        "`{{{got}}}` is no source: expected a name of the rule's path, method, host, path, or header:NAME, with a `?` at the end \
         where it may be missing"
    )]
    Source {
        /// What came.
        got: String,
    },
}

/// Text and sources, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Source { source: Source, optional: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Captured(String),
    Method,
    Host,
    Path,
    Header(String),
}

/// Whether a text can name a piece of a path.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

impl Template {
    /// `names` are those that the rule's path gives.
    pub(super) fn parse(text: &str, names: &[&str]) -> Result<Self, TemplateError> {
        let malformed = || TemplateError::Form { got: text.into() };
        let mut pieces = Vec::new();
        let mut left = text;
        while !left.is_empty() {
            let (plain, behind) =
                left.split_once('{').map_or((left, None), |(plain, rest)| (plain, Some(rest)));
            if plain.contains('}') || pieces.len() >= SIDECAR_TEMPLATE_PARTS_MAX {
                return Err(malformed());
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(plain.into()));
            }
            let Some(behind) = behind else { break };
            let (source, rest) = behind.split_once('}').ok_or_else(malformed)?;
            pieces.push(Piece::parse(source, names)?);
            left = rest;
        }
        if pieces.is_empty() { Err(malformed()) } else { Ok(Self(pieces)) }
    }

    /// The text for one request; `None` if an optional source is missing.
    pub(super) fn fill(
        &self,
        part: &'static str,
        call: &Call<'_>,
        segments: &[String],
        captures: &Captures<'_>,
    ) -> Result<Option<String>, NoAction> {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Source { source, optional } => match source.value(call, segments, captures) {
                    Ok(Some(value)) => filled.push_str(&value),
                    Ok(None) if *optional => return Ok(None),
                    Ok(None) => return Err(NoAction::Missing { part, source_name: source.name() }),
                    Err(NotOne) => return Err(NoAction::NotOne { part, source_name: source.name() }),
                },
            }
        }
        Ok(Some(filled))
    }
}

impl Piece {
    fn parse(text: &str, names: &[&str]) -> Result<Self, TemplateError> {
        let (name, optional) = text.strip_suffix('?').map_or((text, false), |name| (name, true));
        let header = |name: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            !name.is_empty() && name.bytes().all(allowed)
        };
        let source = match (name, name.strip_prefix("header:")) {
            ("method", _) => Source::Method,
            ("host", _) => Source::Host,
            ("path", _) => Source::Path,
            (_, Some(name)) if header(name) => Source::Header(name.to_ascii_lowercase()),
            (name, _) if names.contains(&name) => Source::Captured(name.into()),
            _ => return Err(TemplateError::Source { got: text.into() }),
        };
        Ok(Self::Source { source, optional })
    }
}

/// A header that came several times, or isn't text.
struct NotOne;

impl Source {
    fn name(&self) -> String {
        match self {
            Self::Captured(name) => format!("`{{{name}}}` of the path"),
            Self::Method => "the method".into(),
            Self::Host => "the host".into(),
            Self::Path => "the path".into(),
            Self::Header(name) => format!("the header `{name}`"),
        }
    }

    fn value(
        &self,
        call: &Call<'_>,
        segments: &[String],
        captures: &Captures<'_>,
    ) -> Result<Option<String>, NotOne> {
        let value = match self {
            Self::Captured(name) => {
                captures.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            }
            Self::Method => Some(call.method.to_ascii_lowercase()),
            Self::Host => Some(call.host.to_ascii_lowercase()),
            Self::Path => Some(format!("/{}", segments.join("/"))),
            Self::Header(name) => match call.headers.header(name) {
                HeaderFound::Missing => None,
                // Several headers of one name may have been joined by commas before they came here.
                HeaderFound::One(value) if value.contains(',') => return Err(NotOne),
                HeaderFound::One(value) => Some(value.trim().to_owned()),
                HeaderFound::NotOne => return Err(NotOne),
            },
        };
        Ok(value.filter(|value| !value.is_empty()))
    }
}
