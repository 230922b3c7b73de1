//! A page for people: lines, facts as `name  value`, tables, remarks. All text is made safe on its way in.

use unicode_width::UnicodeWidthStr;

use super::{
    escape,
    style::Style,
    table::{Table, Tone, cut},
};

/// Collects what a result shows.
#[derive(Debug)]
pub(crate) struct Page {
    text: String,
    width: usize,
    style: Style,
    /// Columns of the names of the latest facts, which what follows aligns to.
    names: usize,
}

impl Page {
    /// An empty page.
    pub(crate) const fn new(width: usize, style: Style) -> Self {
        Self { text: String::new(), width, style, names: 0 }
    }

    /// All of it.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// A sentence, which may be longer than the terminal is wide.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) {
        self.toned(text, Tone::Plain);
    }

    /// A sentence that stands out.
    pub(crate) fn toned(&mut self, text: impl AsRef<str>, tone: Tone) {
        let text = escape::line(text.as_ref());
        let text = match tone {
            Tone::Plain => text,
            Tone::Good => self.style.good(&text),
            Tone::Warn => self.style.warn(&text),
            Tone::Bad => self.style.bad(&text),
        };
        self.push(&text);
    }

    /// An empty line.
    pub(crate) fn gap(&mut self) {
        self.push("");
    }

    /// Facts, one a line, their values aligned; those without a value are left out.
    pub(crate) fn facts<const N: usize>(&mut self, facts: [(&str, Option<String>); N]) {
        self.fields("", facts.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
    }

    /// The same for facts whose number isn't known, set in by `indent`.
    pub(crate) fn fields<'a>(&mut self, indent: &str, fields: impl Iterator<Item = (&'a str, String)>) {
        let fields: Vec<_> = fields.filter(|(_, value)| !value.is_empty()).collect();
        self.names = fields.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
        for (name, value) in fields {
            let padding = " ".repeat(self.names - name.width());
            let line = format!("{indent}{}{padding}  {}", self.style.dim(name), escape::line(&value));
            self.push(&line);
        }
    }

    /// A table, or a sentence if it has no rows.
    pub(crate) fn table(&mut self, table: &Table, if_empty: &str) {
        if table.is_empty() {
            return self.line(if_empty);
        }
        for line in table.lines(self.width, self.style) {
            self.push(&line);
        }
    }

    /// Names in a row, as many as fit on one line.
    pub(crate) fn sample(&mut self, title: &str, names: &[String], of: u64) {
        if names.is_empty() {
            return;
        }
        let more = of.saturating_sub(names.len() as u64);
        let tail = if more > 0 { format!(" and {} more", grouped(more)) } else { String::new() };
        let names = escape::line(&names.join(", "));
        let padding = " ".repeat(self.names.saturating_sub(title.width()));
        let room = self.width.saturating_sub(title.width() + padding.len() + 2 + tail.width());
        let line = format!("{}{padding}  {}{tail}", self.style.dim(title), cut(&names, room));
        self.push(&line);
    }

    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun: `1 agent`, `2,000 agents`.
pub(crate) fn counted(number: u64, singular: &str) -> String {
    match number {
        1 => format!("1 {singular}"),
        _ if singular == "person" => format!("{} people", grouped(number)),
        _ => format!("{} {singular}s", grouped(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [(1, "agent"), (2_000, "agent"), (2, "person")].map(|(n, noun)| counted(n, noun)),
            ["1 agent", "2,000 agents", "2 people"]
        );
    }

    #[test]
    fn facts_align_and_empty_ones_vanish() {
        let mut page = Page::new(40, Style::plain());
        page.facts([
            ("path", Some("acme".into())),
            ("contact", None),
            ("owner", Some(String::new())),
            ("purpose", Some("bills".into())),
        ]);
        assert_eq!(page.into_text(), "path     acme\npurpose  bills\n");
    }

    #[test]
    fn a_sample_is_one_line() {
        let mut page = Page::new(30, Style::plain());
        let names: Vec<String> = (0..10).map(|number| format!("acme/agent-{number}")).collect();
        page.sample("agents", &names, 3_000);
        let text = page.into_text();
        assert!(text.trim_end().width() <= 30, "{text}");
        assert!(text.ends_with("… and 2,990 more\n"), "{text}");
    }
}
