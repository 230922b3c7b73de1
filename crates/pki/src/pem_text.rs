//! PEM (RFC 7468) with buffers that are wiped: private keys pass through here, so no foreign buffer may keep a copy.

use zeroize::Zeroizing;

/// Characters of base64 in one line of PEM.
const LINE: usize = 64;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";
pub(crate) const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";

/// Base64 (RFC 4648, section 4), padded.
pub(crate) fn base64_encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| chunk.get(index).copied().unwrap_or(0);
        let group = u32::from_be_bytes([0, byte(0), byte(1), byte(2)]);
        for position in 0..4 {
            if position <= chunk.len() {
                let sextet = (group >> (18 - 6 * position)) & 0x3f;
                text.push(char::from(ALPHABET[sextet as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

fn sextet(character: u8) -> Option<u32> {
    let value = match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Decodes padded base64; white space is skipped, anything else that doesn't belong gives `None`.
pub(crate) fn base64_decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3));
    let (mut group, mut sextets, mut padding) = (0_u32, 0_usize, 0_usize);
    for character in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        if character == b'=' {
            padding += 1;
            continue;
        }
        if padding > 0 {
            return None;
        }
        group = group << 6 | sextet(character)?;
        sextets += 1;
        if sextets == 4 {
            bytes.extend_from_slice(&group.to_be_bytes()[1..]);
            (group, sextets) = (0, 0);
        }
    }
    match (sextets, padding) {
        (0, 0) => {}
        (2, 2) if group & 0xf == 0 => bytes.push((group >> 4) as u8),
        (3, 1) if group & 0x3 == 0 => bytes.extend_from_slice(&((group >> 2) as u16).to_be_bytes()),
        _ => return None,
    }
    Some(bytes)
}

/// One PEM block.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = base64_encode(der);
    let mut text = Zeroizing::new(String::with_capacity(base64.len() / LINE * (LINE + 1) + 128));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// All blocks of a label; text between blocks is skipped. `None` if a block is broken, unclosed, or of another label.
pub(crate) fn decode_all(label: &str, text: &str) -> Option<Vec<Zeroizing<Vec<u8>>>> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("-----BEGIN ") {
        let (body, tail) = rest[at..].strip_prefix(begin.as_str())?.split_once(end.as_str())?;
        blocks.push(base64_decode(body)?);
        rest = tail;
    }
    Some(blocks)
}

/// The one block of a label; `None` if there isn't exactly one.
pub(crate) fn decode_one(label: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut blocks = decode_all(label, text)?;
    if blocks.len() == 1 { blocks.pop() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64_encode(plain.as_bytes()).as_str(), encoded);
            assert_eq!(base64_decode(encoded).map(|bytes| bytes.to_vec()), Some(plain.as_bytes().to_vec()));
        }
    }

    #[test]
    fn broken_base64_is_refused() {
        for text in ["Z", "Zg", "Zg=", "Zh==", "Zm9=", "Zg==Zg==", "Zm 9v!", "====", "é"] {
            assert_eq!(base64_decode(text), None, "{text}");
        }
    }

    #[test]
    fn blocks_round_trip_at_every_length() {
        for length in 0..200_u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
            let text = encode(PRIVATE_KEY, &bytes);
            assert_eq!(decode_one(PRIVATE_KEY, &text).map(|bytes| bytes.to_vec()), Some(bytes));
        }
    }

    #[test]
    fn other_labels_and_open_blocks_are_refused() {
        let key = encode(PRIVATE_KEY, b"secret");
        assert_eq!(decode_all(CERTIFICATE, &key), None);
        assert_eq!(decode_all(PRIVATE_KEY, "-----BEGIN PRIVATE KEY-----\nAAAA\n"), None);
        assert_eq!(decode_all(CERTIFICATE, "nothing here"), Some(Vec::new()));
        assert_eq!(decode_one(CERTIFICATE, ""), None);
    }
}
