//! Labels of fleets and agents: keys and values of plain characters.
//!
//! Kept as one shared text, `key=value,key=value` with keys in order and each once (neither `=` nor `,` can be in a key or
//! a value). Labels are copied on every change of a table's page and into every event, so a copy must cost nothing.
//! Encoded they are a map, as if they were one.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
    ser::SerializeMap as _,
};

use crate::{
    ids::excerpt,
    limits::{LABEL_BYTES_MAX, LABELS_MAX},
    text::TextError,
};

const BETWEEN: char = ',';
const ASSIGNS: char = '=';

/// Labels: keys and values of plain characters, at most [`LABELS_MAX`]. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Option<Arc<str>>);

impl Labels {
    /// No labels.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Checks and takes pairs of key and value; a later pair with the same key wins.
    ///
    /// # Errors
    /// A key or value out of form, or too many pairs.
    pub fn from_pairs<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, TextError> {
        let pairs: Vec<(K, V)> = pairs.into_iter().collect();
        let texts = || pairs.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
        if let Some((key, value)) = texts().find(|(key, value)| !is_label_part(key) || !is_label_part(value))
        {
            return Err(TextError::Label { got: excerpt(&format!("{key}={value}")) });
        }
        let sorted: BTreeMap<&str, &str> = texts().collect();
        if sorted.len() > LABELS_MAX {
            return Err(TextError::TooManyLabels { got: sorted.len() });
        }
        Ok(Self::joined(&sorted))
    }

    /// Checked pairs as labels.
    fn joined(sorted: &BTreeMap<&str, &str>) -> Self {
        let mut text =
            String::with_capacity(sorted.iter().map(|(key, value)| key.len() + value.len() + 2).sum());
        for (key, value) in sorted {
            begin_pair(&mut text);
            text.push_str(key);
            text.push(ASSIGNS);
            text.push_str(value);
        }
        Self::of_text(&text)
    }

    fn of_text(text: &str) -> Self {
        Self((!text.is_empty()).then(|| text.into()))
    }

    fn text(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Parses `key=value`.
    ///
    /// # Errors
    /// A text that isn't of that form.
    pub fn parse_pair(text: &str) -> Result<(String, String), TextError> {
        match text.split_once(ASSIGNS) {
            Some((key, value)) if is_label_part(key) && is_label_part(value) => {
                Ok((key.into(), value.into()))
            }
            _ => Err(TextError::Label { got: excerpt(text) }),
        }
    }

    /// The value under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find_map(|(own, value)| (own == key).then_some(value))
    }

    /// Keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs_in(self.text())
    }

    /// These labels with another set laid over them: its value wins where both have the key. The bound on one set
    /// doesn't apply to the result, which holds at most one set for each segment of a path.
    #[must_use]
    pub fn overlaid(self, over: &Self) -> Self {
        match (&self.0, &over.0) {
            (_, None) => self,
            (None, Some(_)) => over.clone(),
            (Some(_), Some(_)) => Self::joined(&self.iter().chain(over.iter()).collect()),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// The pairs of a text in the form of the module.
fn pairs_in(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(BETWEEN).filter_map(|pair| pair.split_once(ASSIGNS))
}

fn begin_pair(text: &mut String) {
    if !text.is_empty() {
        text.push(BETWEEN);
    }
}

fn is_label_part(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
    (1..=LABEL_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Labels;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels as a map of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
        let mut text = String::new();
        let mut count = 0;
        loop {
            let end = text.len();
            begin_pair(&mut text);
            if map.next_key_seed(Part(&mut text))?.is_none() {
                text.truncate(end);
                break;
            }
            text.push(ASSIGNS);
            map.next_value_seed(Part(&mut text))?;
            count += 1;
            if count > LABELS_MAX {
                return Err(A::Error::custom(TextError::TooManyLabels { got: count }));
            }
        }
        let is_ordered = pairs_in(&text).is_sorted_by(|(before, _), (after, _)| before < after);
        if is_ordered {
            return Ok(Labels::of_text(&text));
        }
        Labels::from_pairs(pairs_in(&text)).map_err(A::Error::custom)
    }
}

/// Checks one key or value and adds it to a text.
struct Part<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Part<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if !is_label_part(text) {
            return Err(E::custom(TextError::Label { got: excerpt(text) }));
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).expect("plain pairs")
    }

    #[test]
    fn labels_are_plain_and_few() {
        assert_eq!(Labels::parse_pair("env=prod"), Ok(("env".into(), "prod".into())));
        for text in ["env", "=prod", "env=", "e nv=prod", "env=prod=x", "env=a,b"] {
            assert!(Labels::parse_pair(text).is_err(), "{text}");
        }
        let many = (0..=LABELS_MAX).map(|number| (number.to_string(), "x"));
        assert_eq!(Labels::from_pairs(many), Err(TextError::TooManyLabels { got: LABELS_MAX + 1 }));
    }

    #[test]
    fn order_and_repetition_dont_matter_and_the_later_value_wins() {
        let given = labels(&[("b", "2"), ("a", "0"), ("a", "1")]);
        assert_eq!(given, labels(&[("a", "1"), ("b", "2")]));
        assert_eq!(given.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
        assert_eq!(
            (given.get("a"), given.get("b"), given.get("c"), given.len()),
            (Some("1"), Some("2"), None, 2)
        );
        assert_eq!(given.to_string(), "a=1,b=2");
        assert_eq!((labels(&[]), Labels::none().len()), (Labels::none(), 0));
    }

    #[test]
    fn the_upper_set_wins() {
        let lower = labels(&[("a", "1"), ("b", "2")]);
        assert_eq!(
            lower.clone().overlaid(&labels(&[("b", "3"), ("c", "4")])),
            labels(&[("a", "1"), ("b", "3"), ("c", "4")])
        );
        assert_eq!(lower.clone().overlaid(&Labels::none()), lower);
        assert_eq!(Labels::none().overlaid(&lower), lower);
    }

    #[test]
    fn encoded_they_are_a_map() {
        for pairs in [&[][..], &[("env", "prod")], &[("a", "1"), ("b.c/d", "2_-")]] {
            let map: BTreeMap<&str, &str> = pairs.iter().copied().collect();
            let bytes = postcard::to_stdvec(&map).expect("plain data");
            assert_eq!(postcard::to_stdvec(&labels(pairs)).expect("plain data"), bytes);
            assert_eq!(postcard::from_bytes::<Labels>(&bytes).expect("written above"), labels(pairs));
        }
    }

    #[test]
    fn bytes_from_elsewhere_are_checked() {
        let decode = |pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, String)> =
                pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            // A list of pairs has the bytes of a map, in any order and with repetitions.
            postcard::from_bytes::<Labels>(&postcard::to_stdvec(&pairs).expect("plain data"))
        };
        assert_eq!(decode(&[("b", "2"), ("a", "0"), ("a", "1")]), Ok(labels(&[("a", "1"), ("b", "2")])));
        for (key, value) in [("", "x"), ("a", ""), ("a=b", "c"), ("a", "b,c=d"), ("ü", "x")] {
            assert!(decode(&[(key, value)]).is_err(), "{key}={value}");
        }
        let names: Vec<String> = (0..=LABELS_MAX).map(|number| number.to_string()).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
        assert!(decode(&many).is_err());
    }
}
