//! Makes visible what would steer a terminal or deceive its reader.
//!
//! Text from the cluster was written by other people. Control characters could move the cursor and hide a line;
//! bidirectional marks and invisible characters could make one name look like another (Unicode TR 36).

/// Whether a character is shown as its code rather than as itself.
pub(crate) fn is_deceiving(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text as one safe line: line breaks and tabs become spaces.
pub(crate) fn line(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => safe.push(' '),
            '\r' => {}
            _ if is_deceiving(character) => safe.extend(character.escape_unicode()),
            _ => safe.push(character),
        }
    }
    safe
}

/// Replaces deceiving characters in JSON, or in double-quoted YAML, by escapes. Line breaks stay: in both they stand
/// outside of strings only.
pub(crate) fn within_quotes(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\n' || !is_deceiving(character) {
            safe.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays() {
        let text = "Grüße, 東京 — “quotes” 🛑";
        assert_eq!(line(text), text);
        assert_eq!(within_quotes(text), text);
    }

    #[test]
    fn nothing_steers_or_hides() {
        assert_eq!(line("a\u{7}b\u{9b}2Jc\u{200b}d\u{2066}e\nf"), "a\\u{7}b\\u{9b}2Jc\\u{200b}d\\u{2066}e f");
        assert_eq!(within_quotes("\u{202e}\u{e0041}"), "\\u202e\\udb40\\udc41");
    }
}
