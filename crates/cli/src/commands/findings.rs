//! Findings as `haltline doctor` and `haltline node check-config` show them: one line each, what would be right below it,
//! and a sum at the end.

use haltline_node::doctor::{Finding, Level};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr as _;

use crate::{
    exit::Exit,
    failure::Failure,
    output::{
        Render, Screen,
        page::{Page, counted},
        table::Tone,
    },
};

/// What was found, in the order in which it was looked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    /// Prints them. The exit says whether anything fails.
    pub(super) fn show(&self, screen: Screen) -> Result<Exit, Failure> {
        screen.print(self)?;
        Ok(if self.count(Level::Fail) > 0 { Exit::Refused } else { Exit::Done })
    }

    fn count(&self, level: Level) -> u64 {
        self.0.iter().filter(|finding| finding.level == level).count() as u64
    }

    /// All but what is as it should be, counted.
    fn sum(&self) -> String {
        let [notes, warnings, failures] =
            [Level::Note, Level::Warn, Level::Fail].map(|level| self.count(level));
        let good = format!("{} ok", self.count(Level::Ok));
        let named = |number, singular| (number > 0).then(|| counted(number, singular));
        let parts =
            [Some(good), named(notes, "note"), named(warnings, "warning"), named(failures, "failure")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl Render for Findings {
    fn page(&self, page: &mut Page) {
        let checks = self.0.iter().map(|finding| finding.check.width()).max().unwrap_or(0);
        // What matters most comes last, where a terminal ends.
        let mut findings: Vec<&Finding> = self.0.iter().collect();
        findings.sort_by_key(|finding| finding.level);
        for finding in findings {
            let Finding { level, check, subject, told, .. } = finding;
            let tone = match level {
                Level::Ok | Level::Note => Tone::Plain,
                Level::Warn => Tone::Warn,
                Level::Fail => Tone::Bad,
            };
            let padding = " ".repeat(checks - check.width());
            page.toned(format!("{:<4}  {check}{padding}  {subject}: {told}", level.name()), tone);
            if let Some(remedy) = &finding.remedy {
                page.line(format!("{}right: {remedy}", " ".repeat("fail".len() + checks + 4)));
            }
        }
        page.gap();
        let tone = if self.count(Level::Fail) > 0 { Tone::Bad } else { Tone::Good };
        page.toned(self.sum(), tone);
    }

    fn value(&self) -> Value {
        let finding = |finding: &Finding| {
            let mut value = json!({
                "level": finding.level.name(),
                "check": finding.check,
                "subject": finding.subject,
                "told": finding.told,
            });
            if let Some(remedy) = &finding.remedy {
                value["right"] = Value::from(remedy.as_str());
            }
            value
        };
        json!({
            "ok": self.count(Level::Fail) == 0,
            "warnings": self.count(Level::Warn),
            "failures": self.count(Level::Fail),
            "findings": self.0.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{args::Format, output::style::Style};

    #[test]
    fn what_would_be_right_stands_below() {
        let findings = Findings(vec![
            Finding::ok("port", "listen.api = 0.0.0.0:7400", "free"),
            Finding::warn("descriptors", "process 12", "at most 1024 open files").remedy("ulimit -n 65536"),
            Finding::fail("port", "listen.raft = 0.0.0.0:7401", "taken by process 13 (etcd)")
                .remedy("end it"),
        ]);
        let screen =
            Screen { format: Format::Table, width: 80, style: Style::plain(), error_style: Style::plain() };
        insta::assert_snapshot!(screen.rendered(&findings), @r"
        ok    port         listen.api = 0.0.0.0:7400: free
        warn  descriptors  process 12: at most 1024 open files
                           right: ulimit -n 65536
        fail  port         listen.raft = 0.0.0.0:7401: taken by process 13 (etcd)
                           right: end it

        1 ok, 1 warning, 1 failure
        ");
    }
}
