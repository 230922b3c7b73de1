//! Base64 for texts that travel in headers and on command lines: the URL-safe alphabet, no padding, one spelling only
//! (RFC 4648, section 5; RFC 7515, section 2).
//!
//! Strict both ways: padding, white space, a stray character or set bits after the last byte are refused. So a token has
//! one text, and no second one passes for it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// Appends bytes as text.
pub(crate) fn encode_onto(text: &mut String, bytes: &[u8]) {
    URL_SAFE_NO_PAD.encode_string(bytes, text);
}

/// The bytes of a text; `None` if it isn't the one spelling of them. Wiped when dropped: secrets pass through here.
pub(crate) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; text.len().div_ceil(4) * 3]);
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

/// Exactly `N` bytes of a text.
pub(crate) fn decode_exact<const N: usize>(text: &str) -> Option<[u8; N]> {
    // The library asks for room in steps of three bytes; what is longer than `N` isn't `N` bytes anyway.
    decode(text).and_then(|bytes| bytes.as_slice().try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip_at_every_length() {
        for length in 0..100_u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(91)).collect();
            let mut text = String::new();
            encode_onto(&mut text, &bytes);
            assert_eq!(decode(&text).map(|bytes| bytes.to_vec()), Some(bytes));
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for text in ["Zg==", "Zg=", "Zh", "Zm9=", "Z", "Zm9 v", "Zm9v\n", "+/+/", "é", "Zm9v=", "Zm-8", "Zm9"]
        {
            let strict = matches!(text, "Zm-8");
            assert_eq!(decode(text).is_some(), strict, "{text}");
        }
        assert_eq!(decode_exact::<3>("Zm9v"), Some(*b"foo"));
        assert_eq!(decode_exact::<2>("Zm9v"), None);
    }
}
