//! The path of an HTTP request as names: decoded once, and refused where a proxy and a server could read it differently.
//!
//! A kill of the tool `pay.*` must not be escaped by `/tools/p%61y.out`, so segments are decoded before they become names.
//! What decodes to something that another reader would take apart again (an encoded slash, `..`, an empty segment, an
//! escape inside of an escape) has no one reading, and a request without one reading is denied.

use haltline_core::limits::{SIDECAR_PATH_BYTES_MAX, SIDECAR_PATH_SEGMENTS_MAX};

/// Why a path gives no names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathRefused {
    /// Not of the form `/a/b`.
    #[error("the path must begin with a slash")]
    NoSlash,
    /// Past a bound.
    #[error(
        "the path is longer than {SIDECAR_PATH_BYTES_MAX} bytes or has more than {SIDECAR_PATH_SEGMENTS_MAX} segments"
    )]
    TooLong,
    /// A `%` without two hexadecimal digits, or bytes that are no UTF-8.
    #[error("segment {segment} of the path has an escape that can't be decoded")]
    BadEscape {
        /// Which, from 1.
        segment: usize,
    },
    /// A segment that two readers could read differently.
    #[error(
        "segment {segment} of the path is ambiguous: it is empty, `.` or `..`, or decodes to a slash, a backslash, a control \
         character or another escape"
    )]
    Ambiguous {
        /// Which, from 1.
        segment: usize,
    },
}

/// The decoded segments of a request target, without its query. One slash at the end means nothing.
pub(crate) fn segments(target: &str) -> Result<Vec<String>, PathRefused> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if path.len() > SIDECAR_PATH_BYTES_MAX {
        return Err(PathRefused::TooLong);
    }
    let path = path.strip_prefix('/').ok_or(PathRefused::NoSlash)?;
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.split('/').count() > SIDECAR_PATH_SEGMENTS_MAX {
        return Err(PathRefused::TooLong);
    }
    path.split('/').enumerate().map(|(position, text)| segment(text, position + 1)).collect()
}

fn segment(text: &str, segment: usize) -> Result<String, PathRefused> {
    let decoded = decode(text).ok_or(PathRefused::BadEscape { segment })?;
    let clear = !matches!(decoded.as_str(), "" | "." | "..")
        && !decoded.contains(['/', '\\'])
        && !decoded.chars().any(char::is_control)
        && !has_escape(&decoded);
    if clear { Ok(decoded) } else { Err(PathRefused::Ambiguous { segment }) }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn has_escape(text: &str) -> bool {
    text.as_bytes()
        .windows(3)
        .any(|window| window[0] == b'%' && hex(window[1]).is_some() && hex(window[2]).is_some())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_once_and_the_query_is_none_of_them() {
        let names = |target: &str| segments(target).unwrap().join("|");
        assert_eq!(names("/tools/p%61y.out/?dry=%2F"), "tools|pay.out");
        assert_eq!(names("/a/b%20c/d%C3%A9"), "a|b c|dé");
        assert_eq!(names("/"), "");
        assert_eq!(names("/50%25/x#y"), "50%|x");
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for (target, at) in [
            ("/tools/%2e%2E/admin", 2),
            ("/tools/../admin", 2),
            ("/tools//pay", 2),
            ("/tools/a%2Fb", 2),
            ("/tools/a%5Cb", 2),
            ("/tools/%2570ay", 2),
            ("/tools/pay%00", 2),
            ("//", 1),
        ] {
            assert_eq!(segments(target), Err(PathRefused::Ambiguous { segment: at }), "{target}");
        }
        for target in ["/a/%", "/a/%4", "/a/%zz", "/a/%ff", "/a/%+1"] {
            assert_eq!(segments(target), Err(PathRefused::BadEscape { segment: 2 }), "{target}");
        }
    }

    #[test]
    fn paths_have_a_form_and_a_bound() {
        assert_eq!(segments("*"), Err(PathRefused::NoSlash));
        assert_eq!(segments(""), Err(PathRefused::NoSlash));
        let long = format!("/{}", "a".repeat(SIDECAR_PATH_BYTES_MAX));
        assert_eq!(segments(&long), Err(PathRefused::TooLong));
        assert_eq!(segments(&"/a".repeat(SIDECAR_PATH_SEGMENTS_MAX + 1)), Err(PathRefused::TooLong));
        assert_eq!(
            segments(&"/a".repeat(SIDECAR_PATH_SEGMENTS_MAX)).unwrap().len(),
            SIDECAR_PATH_SEGMENTS_MAX
        );
    }
}
