//! The demo's voice: acts, sentences that fit the terminal, and the summary.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use unicode_width::UnicodeWidthStr;

use super::{claims::Claims, nodes::Nodes};
use crate::{
    args::Format,
    output::{Screen, escape},
};

/// Lines longer than this are hard to read, however wide the terminal is.
const LINE_MAX: usize = 100;
const INDENT: &str = "   ";
/// A breath between two acts, for people who read along.
const BREATH: Duration = Duration::from_millis(800);
/// What a letter takes to read; fast readers have seen it before.
const A_LETTER: Duration = Duration::from_millis(5);
/// No pause is longer, so that the whole stays within its minute.
const A_SENTENCE_MAX: Duration = Duration::from_millis(900);

/// Tells what happens.
#[derive(Debug)]
pub(super) struct Narrator {
    screen: Screen,
    act: u32,
    began: Instant,
    has_readers: bool,
}

impl Narrator {
    /// A voice that pauses for readers, unless there are none or they don't want it.
    pub(super) fn new(screen: Screen, fast: bool) -> Self {
        let has_readers = !fast && screen.format == Format::Table && io::stdout().is_terminal();
        Self { screen, act: 0, began: Instant::now(), has_readers }
    }

    /// What is about to happen.
    pub(super) fn opening(&mut self, directory: &Path) {
        let style = self.screen.style;
        self.write(&style.strong("Haltline: stop a fleet of AI agents, and prove that the stop landed."));
        self.paragraph(
            "",
            &format!(
                "Everything you are about to see is real: five processes, TLS between them, files on disk. It happens \
                 on this machine alone, in {}, takes under a minute, and is gone afterwards.",
                directory.display()
            ),
        );
    }

    /// A new act.
    pub(super) async fn act(&mut self, title: &str) {
        if self.has_readers && self.act > 0 {
            tokio::time::sleep(BREATH).await;
        }
        self.act += 1;
        let heading = self.screen.style.strong(&format!("{}. {title}", self.act));
        self.write("");
        self.write(&heading);
    }

    /// A sentence or a few.
    pub(super) async fn say(&mut self, text: &str) {
        self.paragraph(INDENT, text);
        self.breathe(text).await;
    }

    /// A command as one would type it.
    pub(super) fn command(&mut self, text: &str) {
        let line = format!("{INDENT}$ {}", escape::line(text));
        self.write(&self.screen.style.dim(&line));
    }

    /// What is claimed held, or not.
    pub(super) async fn checked(&mut self, held: bool, text: &str) {
        let style = self.screen.style;
        let mark = if held { style.good("✓") } else { style.bad("✗") };
        let lines = wrapped(&escape::line(text), self.line_width().saturating_sub(INDENT.len() + 2));
        for (position, line) in lines.iter().enumerate() {
            let lead = if position == 0 { mark.as_str() } else { " " };
            self.write(&format!("{INDENT}{lead} {line}"));
        }
        self.breathe(text).await;
    }

    /// The time it takes to read along.
    async fn breathe(&self, text: &str) {
        if self.has_readers {
            let letters = u32::try_from(text.len()).unwrap_or(u32::MAX);
            tokio::time::sleep(A_LETTER.saturating_mul(letters).min(A_SENTENCE_MAX)).await;
        }
    }

    /// Each claim, held or broken.
    pub(super) fn summary(&mut self, claims: &Claims) {
        let style = self.screen.style;
        self.write("");
        self.write(&style.strong("What was claimed, and what was seen"));
        let width = self.line_width().saturating_sub("  broken  ".len());
        for claim in claims.iter() {
            let word = if claim.held { style.good("held  ") } else { style.bad("broken") };
            for (position, line) in wrapped(&escape::line(&claim.text), width).iter().enumerate() {
                let lead = if position == 0 { word.as_str() } else { "      " };
                self.write(&format!("  {lead}  {line}"));
            }
            // What held was told when it was seen; what broke can't be told too often.
            let seen = if claim.held { "" } else { claim.seen.as_str() };
            for line in wrapped(&escape::line(seen), width) {
                self.write(&style.bad(&format!("          {line}")));
            }
        }
        if let Some(why) = claims.why_interrupted() {
            let line =
                format!("  {}  the demo stopped before its end: {}", style.bad("broken"), escape::line(why));
            self.write(&line);
        }
        let total = claims.iter().count();
        let seconds = self.began.elapsed().as_secs();
        self.write("");
        if claims.all_held() {
            self.write(&style.good(&format!("All {total} claims held, in {seconds} s.")));
        } else {
            let held = claims.held();
            self.write(&style.bad(&format!("{held} of {total} claims held, in {seconds} s.")));
        }
    }

    /// Nothing is left behind.
    pub(super) fn gone(&mut self) {
        self.write("The nodes are stopped and their files removed. To keep a cluster to play with: haltline demo --keep");
    }

    /// The logs stay, to see what went wrong.
    pub(super) fn kept_logs(&mut self, directory: &Path) {
        self.write(&format!(
            "The nodes are stopped. Their files stay for you to look at: {}/*/node.log",
            directory.display()
        ));
    }

    /// The cluster stays, and how to use it.
    pub(super) fn kept_cluster(&mut self, nodes: &Nodes) {
        let style = self.screen.style;
        self.write("");
        self.write(&style.strong("The cluster is still running. Try, in this order:"));
        let directory =
            nodes.identity("ada").parent().map(|path| path.display().to_string()).unwrap_or_default();
        self.write(&format!("  cd {directory} && alias haltline={}", nodes.binary().display()));
        for (command, meaning) in [
            ("--identity admin status", "who leads, and whether the nodes agree"),
            ("--identity admin fleet list", "what there is"),
            ("--identity lin kill fleet acme/sales --dry-run", "what a kill would stop"),
            (
                "--identity lin kill fleet acme/sales --reason \"my first kill\" --yes",
                "stop it: one person suffices",
            ),
            ("--identity lin kills", "what is stopped"),
            (
                "--identity admin resume kill-2 --reason \"seen enough\"",
                "start it again: waits for another person",
            ),
            ("--identity grace approve approval-3", "she reads what it is, and agrees"),
            ("--identity admin events --follow", "everything, as it happens"),
        ] {
            self.write(&style.dim(&format!("  # {meaning}")));
            self.write(&format!("  haltline {command}"));
        }
        let ids = nodes.process_ids().map(|id| id.to_string()).collect::<Vec<_>>().join(" ");
        self.write(&style.dim("  # stop the nodes and remove everything"));
        self.write(&format!("  kill {ids} && rm -r {}", nodes.directory().display()));
    }

    fn paragraph(&mut self, indent: &str, text: &str) {
        for line in wrapped(&escape::line(text), self.line_width().saturating_sub(indent.len())) {
            self.write(&format!("{indent}{line}"));
        }
    }

    fn line_width(&self) -> usize {
        self.screen.width.min(LINE_MAX)
    }

    /// To standard output, or beside it where that is for a program.
    fn write(&mut self, line: &str) {
        let written = if self.screen.format == Format::Table {
            writeln!(io::stdout(), "{line}")
        } else {
            writeln!(io::stderr(), "{line}")
        };
        // Nobody listens any more; what is checked is checked all the same.
        let _ = written;
    }
}

/// Words on lines of at most `width` columns; a longer word has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.width() + 1 + word.width() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_fit() {
        let lines = wrapped("one two three four-and-a-half five", 9);
        assert_eq!(lines, ["one two", "three", "four-and-a-half", "five"]);
        assert!(wrapped("  ", 9).is_empty());
    }
}
