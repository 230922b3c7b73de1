//! Names that people choose: of people, and of enforcers. Checked once, cheap to clone, compared by text.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{
    ids::{IdError, excerpt},
    limits::{EDGE_NAME_BYTES_MAX, PERSON_NAME_BYTES_MAX},
    text_encoding::encode_as_text,
};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:ident, $punctuation:literal, $wrong:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(Arc<str>);

        encode_as_text!($name);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Ord for $name {
            /// By text. Copies of one name, as a table's keys mostly are, need not be looked into.
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                if Arc::ptr_eq(&self.0, &other.0) {
                    std::cmp::Ordering::Equal
                } else {
                    self.0.cmp(&other.0)
                }
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let allowed =
                    |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || $punctuation.contains(&byte);
                let first_fits = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
                if first_fits && text.len() <= $max && text.bytes().all(allowed) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError::$wrong { got: excerpt(text) })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

name!(
    /// A person's registered name: one identity, however many keys.
    PersonId, PERSON_NAME_BYTES_MAX, b"._@-", NotPerson
);
name!(
    /// The registered name of an enforcer, an edge or a relay: 1 to 63 of `a-z 0-9 . -`, beginning with a letter or digit.
    EdgeName, EDGE_NAME_BYTES_MAX, b".-", NotEdge
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_have_plain_names() {
        assert!("ada@example.com".parse::<PersonId>().is_ok());
        for text in ["", "Ada", ".ada", "a b", &"a".repeat(PERSON_NAME_BYTES_MAX + 1)] {
            assert!(text.parse::<PersonId>().is_err(), "{text}");
        }
    }

    #[test]
    fn edges_have_names_that_fit_a_host_name() {
        assert!("rack-7.eu".parse::<EdgeName>().is_ok());
        for text in ["", "Rack", "-rack", "a_b", "a@b", &"a".repeat(EDGE_NAME_BYTES_MAX + 1)] {
            assert!(text.parse::<EdgeName>().is_err(), "{text}");
        }
    }
}
