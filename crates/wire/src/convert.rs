//! From messages to the types of `haltline-core` and back.
//!
//! What comes in is checked field by field; the first field that is wrong is named by its path in the message, with what
//! came and what would be right. Both directions are exact: a command that goes out and comes back is the same command,
//! byte for byte in its canonical encoding, because people sign that encoding on one side and every node verifies it on
//! the other.

mod command;
mod command_message;
mod credential;
mod enforcer;
mod outcome;
mod receipt;
mod resource;
mod trust;
mod value;

pub use command::{bare_command, request};
pub use command_message::{command_request, meta_of};
pub use enforcer::{edge, join_token};
pub use outcome::{adjusted, outcome_reply, reply};
pub use resource::{
    agent, approval, blast_radius, event, fleet, kill, lifted_kill, node, person, revocation,
};
pub use trust::{node_signing_key, node_signing_keys, trust};
pub use value::{effective_limits, pattern, person_name};

use haltline_core::{
    ids::IdError, path::PathError, receipt::ReceiptError, selector::SelectorError, text::TextError,
};

/// A field that isn't what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct ConvertError {
    /// The field's path in the message, as in `fleet.limits.max_staleness_ms` or `roles[2].path`.
    pub field: String,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Nothing there.
    #[error("is missing; expected {expected}")]
    Missing {
        /// What belongs there.
        expected: &'static str,
    },
    /// Raw bytes of the wrong length.
    #[error("is {got_bytes} bytes long; expected the {expected_bytes} bytes of {what}")]
    Length {
        /// Of what.
        what: &'static str,
        /// Bytes that came.
        got_bytes: usize,
        /// Bytes that belong there.
        expected_bytes: usize,
    },
    /// A number that stands for nothing.
    #[error("is {got}, which stands for nothing here; expected {expected}")]
    Unknown {
        /// What came.
        got: i64,
        /// What belongs there.
        expected: &'static str,
    },
    /// A field that doesn't go with another one.
    #[error("must not be set here: {because}")]
    Unexpected {
        /// Why not.
        because: &'static str,
    },
    /// A field that says something else than one that counts more.
    #[error("says something else than {than}")]
    Differs {
        /// The field that counts.
        than: &'static str,
    },
    /// A path out of form.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A text or label out of form.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A pattern or selector out of form.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// A name out of form.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A receipt that is none.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
}

impl ConvertError {
    /// The reason that programs see.
    pub const CODE: &'static str = "INVALID_FIELD";

    /// Blames a field.
    #[must_use]
    pub fn new(field: impl Into<String>, why: impl Into<Why>) -> Self {
        Self { field: field.into(), why: why.into() }
    }

    /// A field without which there is nothing to do.
    #[must_use]
    pub fn missing(field: &'static str, expected: &'static str) -> Self {
        Self::new(field, Why::Missing { expected })
    }

    fn under(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), why: self.why }
    }
}

/// Puts the name of a field on what went wrong with its value.
trait At<T> {
    fn at(self, field: &str) -> Result<T, ConvertError>;
}

impl<T, E: Into<Why>> At<T> for Result<T, E> {
    fn at(self, field: &str) -> Result<T, ConvertError> {
        self.map_err(|why| ConvertError::new(field, why))
    }
}

/// Puts the name of the message around the name of the field.
trait Within<T> {
    fn within(self, outer: &str) -> Result<T, ConvertError>;
}

impl<T> Within<T> for Result<T, ConvertError> {
    fn within(self, outer: &str) -> Result<T, ConvertError> {
        self.map_err(|error| error.under(outer))
    }
}

#[cfg(test)]
mod tests;
