//! Bounded texts that people write: reasons, owners, purposes; and labels.
//!
//! They are checked once, when made, and can't be out of bounds afterwards. Control and bidirectional characters are
//! refused, because these texts end up on terminals.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    ids::excerpt,
    limits::{LABEL_BYTES_MAX, LABELS_MAX, REASON_BYTES_MAX, TEXT_BYTES_MAX},
};

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Longer than its bound.
    #[error("the text is {got_bytes} bytes long; at most {max_bytes} are allowed")]
    TooLong {
        /// Bytes that came.
        got_bytes: usize,
        /// Bytes allowed.
        max_bytes: usize,
    },
    /// Empty where words are needed.
    #[error("the text is empty; say at least a few words")]
    Empty,
    /// A character that could disturb a terminal.
    #[error("the text has the character {}, which could disturb a terminal; leave it out", .character.escape_unicode())]
    Character {
        /// The character.
        character: char,
    },
    /// A label that isn't `key=value` of plain characters.
    #[error("`{got}` is no label: expected KEY=VALUE, each 1 to {LABEL_BYTES_MAX} of A-Z a-z 0-9 . _ / -")]
    Label {
        /// What came, shortened.
        got: String,
    },
    /// More labels than allowed.
    #[error("{got} labels; at most {LABELS_MAX} are allowed")]
    TooManyLabels {
        /// How many came.
        got: usize,
    },
}

fn is_disturbing(character: char) -> bool {
    let is_bidirectional = matches!(character, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (character.is_control() && character != '\n' && character != '\t') || is_bidirectional
}

/// A text of at most `MAX` bytes without control or bidirectional characters; may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BoundedText<const MAX: usize>(Box<str>);

/// An owner, a contact or a purpose.
pub type Text = BoundedText<TEXT_BYTES_MAX>;

impl<const MAX: usize> BoundedText<MAX> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> FromStr for BoundedText<MAX> {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.len() > MAX {
            return Err(TextError::TooLong { got_bytes: text.len(), max_bytes: MAX });
        }
        match text.chars().find(|character| is_disturbing(*character)) {
            Some(character) => Err(TextError::Character { character }),
            None => Ok(Self(text.into())),
        }
    }
}

impl<const MAX: usize> TryFrom<String> for BoundedText<MAX> {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl<const MAX: usize> From<BoundedText<MAX>> for String {
    fn from(text: BoundedText<MAX>) -> Self {
        text.0.into()
    }
}

impl<const MAX: usize> fmt::Display for BoundedText<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why somebody did something: mandatory, so never empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reason(BoundedText<REASON_BYTES_MAX>);

impl Reason {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Reason {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let text = text.trim();
        if text.is_empty() { Err(TextError::Empty) } else { text.parse().map(Self) }
    }
}

impl TryFrom<String> for Reason {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.0.into()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Labels: keys and values of plain characters, at most [`LABELS_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<Box<str>, Box<str>>);

impl Labels {
    /// No labels.
    #[must_use]
    pub const fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// Checks and takes pairs of key and value; a later pair with the same key wins.
    ///
    /// # Errors
    /// A key or value out of form, or too many pairs.
    pub fn from_pairs<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, TextError> {
        let mut labels = BTreeMap::new();
        for (key, value) in pairs {
            let (key, value) = (key.as_ref(), value.as_ref());
            if !is_label_part(key) || !is_label_part(value) {
                return Err(TextError::Label { got: excerpt(&format!("{key}={value}")) });
            }
            labels.insert(key.into(), value.into());
        }
        if labels.len() > LABELS_MAX {
            return Err(TextError::TooManyLabels { got: labels.len() });
        }
        Ok(Self(labels))
    }

    /// Parses `key=value`.
    ///
    /// # Errors
    /// A text that isn't of that form.
    pub fn parse_pair(text: &str) -> Result<(String, String), TextError> {
        match text.split_once('=') {
            Some((key, value)) if is_label_part(key) && is_label_part(value) => {
                Ok((key.into(), value.into()))
            }
            _ => Err(TextError::Label { got: excerpt(text) }),
        }
    }

    /// The value under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(AsRef::as_ref)
    }

    /// Keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }

    /// These labels with another set laid over them: its value wins where both have the key. The bound on one set
    /// doesn't apply to the result, which holds at most one set for each segment of a path.
    #[must_use]
    pub fn overlaid(mut self, over: &Self) -> Self {
        self.0.extend(over.0.iter().map(|(key, value)| (key.clone(), value.clone())));
        self
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_label_part(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
    (1..=LABEL_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = TextError;

    fn try_from(pairs: BTreeMap<String, String>) -> Result<Self, TextError> {
        Self::from_pairs(pairs)
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (key, value)) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { "," };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words() {
        assert_eq!("  ".parse::<Reason>(), Err(TextError::Empty));
        assert_eq!(" runaway ".parse::<Reason>().expect("words").as_str(), "runaway");
        let long = "x".repeat(REASON_BYTES_MAX + 1);
        assert_eq!(
            long.parse::<Reason>(),
            Err(TextError::TooLong { got_bytes: REASON_BYTES_MAX + 1, max_bytes: REASON_BYTES_MAX })
        );
    }

    #[test]
    fn terminals_are_safe() {
        for text in ["\u{1b}[2J", "a\u{202e}b", "\0", "\r"] {
            assert!(matches!(text.parse::<Text>(), Err(TextError::Character { .. })), "{text:?}");
        }
        assert!("two\nlines\tand ümlauts".parse::<Text>().is_ok());
    }

    #[test]
    fn labels_are_plain_and_few() {
        assert_eq!(Labels::parse_pair("env=prod"), Ok(("env".into(), "prod".into())));
        for text in ["env", "=prod", "env=", "e nv=prod", "env=prod=x"] {
            assert!(Labels::parse_pair(text).is_err(), "{text}");
        }
        let many = (0..=LABELS_MAX).map(|number| (number.to_string(), "x"));
        assert_eq!(Labels::from_pairs(many), Err(TextError::TooManyLabels { got: LABELS_MAX + 1 }));
    }
}
