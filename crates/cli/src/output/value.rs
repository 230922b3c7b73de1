//! Results for programs: JSON and YAML of the same value, in which no character can steer a terminal.

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;
use serde_saphyr::DoubleQuoted;

use super::escape;

/// Hexadecimal, as ids stand in text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok(), "writing to a string never fails");
        text
    })
}

/// JSON over several lines.
pub(crate) fn json_pretty(value: &Value) -> String {
    escape::within_quotes(&format!("{value:#}"))
}

/// JSON on one line.
pub(crate) fn json_line(value: &Value) -> String {
    escape::within_quotes(&value.to_string())
}

/// YAML, ending in a line break.
pub(crate) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    match serde_saphyr::to_fmt_writer(&mut text, &Safe(value)) {
        Ok(()) => escape::within_quotes(&text),
        // JSON is YAML too (YAML 1.2, section 1.3).
        Err(_) => json_pretty(value) + "\n",
    }
}

/// A value whose risky strings are double-quoted, the only place where YAML has escapes.
struct Safe<'a>(&'a Value);

impl Serialize for Safe<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) if text.chars().any(escape::is_deceiving) => {
                DoubleQuoted(text).serialize(serializer)
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Safe)),
            Value::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, &Safe(value))?;
                }
                map.end()
            }
            plain => plain.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tricky() -> Value {
        json!({
            "answer": "no",
            "bidi": "a\u{202e}b",
            "empty": [],
            "escape": "\u{1b}[2J",
            "lines": "one\ntwo",
            "long": "word ".repeat(30),
            "nested": [{"id": 1, "path": "acme/finance"}],
            "number": u64::MAX,
            "text": "x: # y",
        })
    }

    #[test]
    fn yaml_is_quoted_where_it_must_be() {
        insta::assert_snapshot!(yaml(&tricky()), @r#"
        answer: "no"
        bidi: "a\u202eb"
        empty: []
        escape: "\e[2J"
        lines: "one\ntwo"
        long: >-
          word word word word word word word word word word word word word word word word
          word word word word word word word word word word word word word word 
        nested:
        - id: 1
          path: acme/finance
        number: 18446744073709551615
        text: "x: # y"
        "#);
    }

    #[test]
    fn json_is_read_back_as_it_was() {
        for text in [json_pretty(&tricky()), json_line(&tricky())] {
            assert!(!text.chars().any(|character| character != '\n' && escape::is_deceiving(character)));
            assert_eq!(serde_json::from_str::<Value>(&text).expect("valid JSON"), tricky());
        }
    }

    #[test]
    fn ids_are_hexadecimal() {
        assert_eq!(hex(&[0, 0xab, 0xff]), "00abff");
    }
}
