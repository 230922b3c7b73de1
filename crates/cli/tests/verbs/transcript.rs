//! What was typed and what came, with everything that differs from run to run in brackets.

use crate::lab::Lab;

pub(crate) struct Transcript<'a> {
    lab: &'a Lab,
    text: String,
}

impl<'a> Transcript<'a> {
    pub(crate) const fn new(lab: &'a Lab) -> Self {
        Self { lab, text: String::new() }
    }

    /// Types a line. `[dir]` is the cluster's directory.
    pub(crate) fn run(&mut self, line: &str) {
        let directory = self.lab.directory().display().to_string();
        let words = line.split(' ').map(|word| word.replace("[dir]", &directory));
        let output = self.lab.haltline().args(words).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        let shown = format!("{out}{err}").replace(&directory, "[dir]");
        let code = output.status.code().map_or_else(|| "killed".to_owned(), |code| code.to_string());
        let typed = line.replace(&"x".repeat(1_025), "[1,025 bytes]");
        self.text.push_str(&format!("$ haltline {typed}\n{}[exit {code}]\n\n", steady(&shown)));
    }

    pub(crate) fn text(&self) -> &str {
        self.text.trim_end()
    }
}

/// The text with what differs from run to run in brackets. Spaces that only align it become two.
pub(crate) fn steady(text: &str) -> String {
    text.lines().filter(|line| !is_progress(line)).map(|line| steady_line(line) + "\n").collect()
}

/// `placing the kill (2 s)`, which comes on a busy machine only.
fn is_progress(line: &str) -> bool {
    let seconds = line.strip_suffix(" s)").and_then(|line| line.rsplit_once(" ("));
    seconds.is_some_and(|(_, seconds)| seconds.bytes().all(|byte| byte.is_ascii_digit()))
}

fn steady_line(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let mut columns = Vec::new();
    for column in line.trim().split("  ").filter(|column| !column.trim().is_empty()) {
        let words = column.trim().split(' ').map(steady_word).collect::<Vec<_>>();
        columns.push(words.join(" "));
    }
    let mut steady = format!("{}{}", " ".repeat(indent), columns.join("  "));
    for (before, after) in [
        ("log index ", ")"),
        ("(process ", ")"),
        ("a.backup.", ".partial"),
        ("\"index\": ", ","),
        ("\"event_seq\": ", ","),
    ] {
        if after.len() == 1 || steady.contains(after) {
            steady = between(&steady, before, after);
        }
    }
    for before in [
        "_time_ms\": ",
        "uptime_ms\": ",
        "_index\": ",
        "free_bytes\": ",
        "_us\": ",
        "\"term\": ",
        "_in_ms\": ",
        "took_ms\": ",
        "index: ",
        "_time_ms: ",
    ] {
        steady = number_after(&steady, before);
    }
    for before in ["lapses in ", "cluster time  ", "log index  ", "Kept for ", "good for ", "valid for "] {
        steady = rest_after(&steady, before);
    }
    duration_columns(&steady)
}

/// Ids, hashes and times by their form.
fn steady_word(word: &str) -> String {
    let core = word.trim_matches(|character: char| "\",;:.()".contains(character));
    let is_hex = !core.is_empty() && core.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_time = matches!(core.len(), 20 | 24) && core.ends_with('Z') && core.as_bytes()[10] == b'T';
    let name = match core.len() {
        65.. if is_hex => "[bytes]",
        65.. if core.starts_with("eyJ") => "[token]",
        64 if is_hex => "[sha256]",
        32 if is_hex && core != "00112233445566778899aabbccddeeff" => "[id]",
        16 if is_hex => "[key]",
        12 if is_hex => "[head]",
        _ if is_time => "[time]",
        _ if core.starts_with("127.0.0.1:") && core != "127.0.0.1:1" => "[address]",
        _ => return word.to_owned(),
    };
    word.replace(core, name)
}

fn between(text: &str, before: &str, after: &str) -> String {
    let Some(start) = text.find(before).map(|found| found + before.len()) else { return text.to_owned() };
    let length = text[start..].find(after).unwrap_or(text.len() - start);
    format!("{}[n]{}", &text[..start], &text[start + length..])
}

fn number_after(text: &str, before: &str) -> String {
    let Some(start) = text.find(before).map(|found| found + before.len()) else { return text.to_owned() };
    let digits = text[start..].bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 { text.to_owned() } else { format!("{}[n]{}", &text[..start], &text[start + digits..]) }
}

fn rest_after(text: &str, before: &str) -> String {
    text.find(before).map_or_else(|| text.to_owned(), |found| format!("{}[…]", &text[..found + before.len()]))
}

/// Columns that are a duration, or a place in the log at the begin of an event or the end of a node's row.
fn duration_columns(text: &str) -> String {
    let is_duration = |column: &str| {
        let column = column.strip_prefix("in ").unwrap_or(column);
        let words: Vec<&str> = column.split(' ').collect();
        words.len().is_multiple_of(2)
            && words.chunks(2).all(|pair| {
                pair[0].bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
                    && ["ms", "s", "min", "h", "d"].contains(&pair[1])
            })
    };
    let is_event = text.starts_with("[time]  ");
    let is_node = text.contains("  [address]  ");
    let indent = text.len() - text.trim_start().len();
    let columns = text.trim_start().split("  ").map(|column| {
        let is_number =
            !column.is_empty() && column.bytes().all(|byte| byte.is_ascii_digit() || byte == b',');
        if is_duration(column) && !text.contains("limits in effect") {
            "[…]"
        } else if is_number && (is_event || is_node) {
            "[n]"
        } else {
            column
        }
    });
    format!("{}{}", " ".repeat(indent), columns.collect::<Vec<_>>().join("  "))
}
