//! How checked texts are encoded: as their text, without a copy on the way out and with one on the way in.
//!
//! Every command passes through this several times on every node (log, digest, chain, snapshot), so what serde's
//! `into = "String"` allocates here would be felt.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::de::{Error, Visitor};

/// Parses the text that comes, for `Deserialize`.
pub(crate) struct Parsed<T>(pub(crate) PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Implements `Serialize` and `Deserialize` for a type with `as_str` and `FromStr`.
macro_rules! encode_as_text {
    ($name:ident $(<const $parameter:ident: usize>)?) => {
        impl $(<const $parameter: usize>)? serde::Serialize for $name $(<$parameter>)? {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de $(, const $parameter: usize)?> serde::Deserialize<'de> for $name $(<$parameter>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::text_encoding::Parsed(std::marker::PhantomData))
            }
        }
    };
}

pub(crate) use encode_as_text;
