//! JSON read strictly: one object, no name twice however it is spelled, nested no deeper than its bound.
//!
//! RFC 8259 leaves it open what a repeated name means, and readers differ: whoever checks and whoever acts could then
//! read two different tokens out of one (RFC 8725, section 2). The grammar itself is serde_json's; here a first pass looks
//! at the shape, borrowing all it can, and a second one takes the values out.

use std::{borrow::Cow, cell::Cell, fmt, marker::PhantomData};

use haltline_core::limits::{TOKEN_JSON_DEPTH_MAX, TOKEN_JSON_MEMBERS_MAX};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::error::{TokenError, TokenPart};

/// Reads one object of a token.
pub(super) fn read<'a, T: Deserialize<'a>>(
    part: TokenPart,
    expected: &'static str,
    bytes: &'a [u8],
) -> Result<T, TokenError> {
    let fault = Cell::new(None);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let shape = Shape { depth: 0, fault: &fault }.deserialize(&mut json).and_then(|()| json.end());
    if shape.is_err() {
        return Err(match fault.get() {
            Some(fault) => TokenError::Unsound { part, fault },
            None => TokenError::Malformed { part, expected: "JSON" },
        });
    }
    // What the library says of a wrong value may quote it, so it isn't handed on.
    let Object(value) =
        serde_json::from_slice(bytes).map_err(|_| TokenError::Malformed { part, expected })?;
    Ok(value)
}

/// Any value, looked at for its shape alone.
#[derive(Clone, Copy)]
struct Shape<'f> {
    depth: usize,
    fault: &'f Cell<Option<&'static str>>,
}

impl Shape<'_> {
    fn refuse<E: Error>(self, fault: &'static str) -> E {
        self.fault.set(Some(fault));
        E::custom(fault)
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == TOKEN_JSON_DEPTH_MAX {
            Err(self.refuse("values nested too deeply"))
        } else {
            Ok(Self { depth: self.depth + 1, ..self })
        }
    }
}

impl<'de> DeserializeSeed<'de> for Shape<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let element = self.deeper()?;
        while list.next_element_seed(element)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let value = self.deeper()?;
        let mut names: Vec<Cow<'de, str>> = Vec::with_capacity(16);
        while let Some(Name(name)) = object.next_key()? {
            if names.contains(&name) {
                return Err(self.refuse("one name twice in one object"));
            }
            if names.len() == TOKEN_JSON_MEMBERS_MAX {
                return Err(self.refuse("too many members in one object"));
            }
            names.push(name);
            object.next_value_seed(value)?;
        }
        Ok(())
    }
}

/// A member's name with its escapes undone, borrowed where there are none.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

/// A value that must be written as an object. Left to itself, serde takes a list of the fields for one too.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(object)).map(Object)
            }
        }
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

/// Whether a member is there, whatever its value.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
