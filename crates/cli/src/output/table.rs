//! Tables that fit: the widest columns give way first, and what is cut ends in `…`.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{escape, style::Style};

const GAP: &str = "  ";
/// Columns of text below which a column doesn't shrink while another one still can.
const COLUMN_MIN: usize = 6;

/// What a cell means, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// Running, well.
    Good,
    /// To be noticed.
    Warn,
    /// Stopped, failed.
    Bad,
}

/// One cell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: escape::line(text.as_ref()), tone: Tone::Plain }
    }
}

impl Cell {
    /// A cell that stands out.
    pub(crate) fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { tone, ..Self::from(text) }
    }
}

#[derive(Debug, Clone, Copy)]
struct Column {
    title: &'static str,
    is_number: bool,
    gives_way: bool,
}

/// Rows under titles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A column of text, which may be cut where space is short.
    pub(crate) fn text(self, title: &'static str) -> Self {
        self.column(Column { title, is_number: false, gives_way: true })
    }

    /// A column of short words or ids, which is never cut unless nothing else is left to cut.
    pub(crate) fn word(self, title: &'static str) -> Self {
        self.column(Column { title, is_number: false, gives_way: false })
    }

    /// A column of numbers, aligned to the right.
    pub(crate) fn number(self, title: &'static str) -> Self {
        self.column(Column { title, is_number: true, gives_way: false })
    }

    fn column(mut self, column: Column) -> Self {
        self.columns.push(column);
        self
    }

    /// Adds a row; it has a cell for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.columns.len(), "a cell for each column");
        self.rows.push(cells.into());
    }

    /// Whether it has no rows.
    pub(crate) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines.
    pub(crate) fn lines(&self, width: usize, style: Style) -> Vec<String> {
        let widths = self.widths(width);
        let title = self.columns.iter().map(|column| Cell::from(column.title)).collect::<Vec<_>>();
        let mut lines = vec![style.dim(&self.line(&title, &widths, Style::plain()))];
        lines.extend(self.rows.iter().map(|row| self.line(row, &widths, style)));
        lines
    }

    fn line(&self, cells: &[Cell], widths: &[usize], style: Style) -> String {
        let mut line = String::new();
        for (position, ((cell, width), column)) in cells.iter().zip(widths).zip(&self.columns).enumerate() {
            if position > 0 {
                line.push_str(GAP);
            }
            let text = cut(&cell.text, *width);
            let padding = " ".repeat(width.saturating_sub(text.width()));
            let shown = match cell.tone {
                Tone::Plain => text,
                Tone::Good => style.good(&text),
                Tone::Warn => style.warn(&text),
                Tone::Bad => style.bad(&text),
            };
            if column.is_number {
                line.push_str(&padding);
                line.push_str(&shown);
            } else {
                line.push_str(&shown);
                line.push_str(&padding);
            }
        }
        line.truncate(line.trim_end().len());
        line
    }

    /// The widths that fit: natural where they do, else the widest column that may be cut loses first.
    fn widths(&self, width: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|column| column.title.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        let gaps = GAP.len() * self.columns.len().saturating_sub(1);
        let room = width.saturating_sub(gaps);
        while widths.iter().sum::<usize>() > room {
            let by_choice = self.widest(&widths, |column, width| column.gives_way && width > COLUMN_MIN);
            let chosen = by_choice.or_else(|| self.widest(&widths, |_, width| width > 1));
            match chosen {
                Some(position) => widths[position] -= 1,
                None => break,
            }
        }
        widths
    }

    fn widest(&self, widths: &[usize], may: impl Fn(&Column, usize) -> bool) -> Option<usize> {
        let eligible = (0..widths.len()).filter(|position| may(&self.columns[*position], widths[*position]));
        eligible.max_by_key(|position| widths[*position])
    }
}

/// Text cut to a width in columns, ending in `…` if something is missing.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for character in text.chars() {
        let columns = character.width().unwrap_or(0);
        if used + columns + 1 > width {
            break;
        }
        used += columns;
        kept.push(character);
    }
    if width > 0 {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::default().word("ID").text("SELECTOR").text("REASON").number("AGENTS");
        table.row([
            "kill-1".into(),
            "fleet=acme/finance/invoice".into(),
            "runaway refunds since the release of Tuesday".into(),
            "1200".into(),
        ]);
        table.row(["kill-12".into(), "everything".into(), "drill 東京".into(), "7".into()]);
        table
    }

    #[test]
    fn a_table_with_room_is_natural() {
        insta::assert_snapshot!(table().lines(120, Style::plain()).join("\n"), @r"
        ID       SELECTOR                    REASON                                        AGENTS
        kill-1   fleet=acme/finance/invoice  runaway refunds since the release of Tuesday    1200
        kill-12  everything                  drill 東京                                         7
        ");
    }

    #[test]
    fn a_table_without_room_cuts_its_widest_text() {
        insta::assert_snapshot!(table().lines(50, Style::plain()).join("\n"), @r"
        ID       SELECTOR          REASON           AGENTS
        kill-1   fleet=acme/fina…  runaway refund…    1200
        kill-12  everything        drill 東京            7
        ");
    }

    #[test]
    fn no_line_is_ever_wider_than_the_terminal() {
        for width in 20..130 {
            for line in table().lines(width, Style::plain()) {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn wide_characters_are_cut_whole() {
        assert_eq!(cut("東京都", 4), "東…");
        assert_eq!(cut("東京都", 5), "東京…");
        assert_eq!(cut("東京都", 6), "東京都");
        assert_eq!(cut("ab", 0), "");
    }

    #[test]
    fn cells_cant_break_out() {
        let mut table = Table::default().text("NAME");
        table.row(["a\u{1b}[31m\nb".into()]);
        assert_eq!(table.lines(80, Style::plain())[1], "a\\u{1b}[31m b");
    }
}
