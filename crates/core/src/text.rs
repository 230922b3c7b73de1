//! Bounded texts that people write: reasons, owners, purposes. ([`Labels`] have a module of their own.)
//!
//! They are checked once, when made, and can't be out of bounds afterwards. Control and bidirectional characters are
//! refused, because these texts end up on terminals.

use std::{fmt, str::FromStr};

use crate::{
    limits::{LABEL_BYTES_MAX, LABELS_MAX, REASON_BYTES_MAX, TEXT_BYTES_MAX},
    text_encoding::encode_as_text,
};

pub use crate::labels::Labels;

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
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoundedText<const MAX: usize>(Box<str>);

encode_as_text!(BoundedText<const MAX: usize>);

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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reason(BoundedText<REASON_BYTES_MAX>);

encode_as_text!(Reason);

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
}
