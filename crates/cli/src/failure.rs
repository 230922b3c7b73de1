//! How a command fails: one line that says what and where, one that says what would be right, and an exit code.
//!
//! With `-o json` the same goes to standard error as one JSON object whose `reason` is stable.

use std::fmt::Write as _;

use haltline_pki::PkiError;
use haltline_wire::refusal::Refusal;
use serde_json::{Map, Value, json};
use tonic::Code;

use crate::{
    args::Format,
    exit::Exit,
    output::{escape, style::Style, value},
};

/// Why a command didn't do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What the process answers.
    pub(crate) exit: Exit,
    /// A stable name, for programs.
    pub(crate) reason: String,
    /// What was wrong, and where.
    pub(crate) message: String,
    /// What would be right.
    pub(crate) hint: Option<String>,
    /// Parts of the message that programs may want.
    pub(crate) details: Map<String, Value>,
}

impl Failure {
    /// A failure with a message and nothing more.
    pub(crate) fn new(exit: Exit, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { exit, reason: reason.into(), message: message.into(), hint: None, details: Map::new() }
    }

    /// The command line, or a file named on it, is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "USAGE", message)
    }

    /// Something on this machine failed.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, "LOCAL", message)
    }

    /// Nobody reads the output any more: no reason to complain, and none to go on.
    pub(crate) fn quiet_end() -> Self {
        Self::new(Exit::Done, "OUTPUT_CLOSED", "nobody reads the output any more")
    }

    /// A node answered what it shouldn't.
    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, "PROTOCOL", message)
            .hint("this command and the nodes may be of different versions; `haltline status` shows theirs")
    }

    /// Says what would be right.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says one thing more, for programs.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// What the cluster refused.
    pub(crate) fn refused(refusal: &Refusal) -> Self {
        let exit = match refusal.code {
            Code::Unauthenticated | Code::PermissionDenied => Exit::Denied,
            Code::Unavailable | Code::DeadlineExceeded => Exit::Unreachable,
            _ => Exit::Refused,
        };
        let mut failure = Self::new(exit, &refusal.reason, &refusal.message);
        for (key, value) in &refusal.metadata {
            failure = failure.with(key, value.as_str());
        }
        // The nearest name gets a line of its own, where it is seen.
        if let Some(nearest) = refusal.metadata.get("nearest") {
            if let Some(short) = failure.message.strip_suffix(&format!("; did you mean `{nearest}`?")) {
                failure.message = short.to_owned();
            }
            return failure.hint(format!("did you mean `{nearest}`?"));
        }
        match hint_for(&refusal.reason) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// Both lines, or one JSON object.
    pub(crate) fn render(&self, format: Format, style: Style) -> String {
        if format == Format::Json {
            let mut error = json!({
                "reason": self.reason,
                "message": self.message,
                "exit_code": self.exit.code(),
            });
            if let Some(hint) = &self.hint {
                error["hint"] = Value::from(hint.as_str());
            }
            if !self.details.is_empty() {
                error["details"] = Value::Object(self.details.clone());
            }
            return value::json_line(&json!({ "error": error }));
        }
        let mut text = format!("{} {}", style.bad("error:"), escape::line(&self.message));
        if let Some(hint) = &self.hint {
            let written = write!(text, "\n{} {}", style.strong("hint:"), escape::line(hint));
            debug_assert!(written.is_ok(), "writing to a string never fails");
        }
        text
    }
}

impl From<PkiError> for Failure {
    fn from(error: PkiError) -> Self {
        Self::new(Exit::Refused, error.code().to_ascii_uppercase(), error.to_string())
    }
}

/// What to do next, by the reason of a refusal.
fn hint_for(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "UNKNOWN_FLEET" => "`haltline fleet list` shows them all",
        "UNKNOWN_AGENT" => "`haltline agent list --under FLEET` shows them",
        "UNKNOWN_KILL" => "`haltline kills --all` shows those in force and those lifted lately",
        "UNKNOWN_APPROVAL" => "`haltline approvals` shows what waits",
        "NO_SUCH_PERSON" | "PERSON_EXISTS" => "`haltline operator list` shows who is enrolled",
        "PERMISSION_DENIED" => "`haltline operator list` shows who holds which role",
        "ALREADY_SIGNED" => "ask somebody else to run `haltline approve` with their own identity",
        "FLEET_NOT_EMPTY" => {
            "`haltline fleet list --under PATH` and `haltline agent list --under PATH` show what is left"
        }
        "VERSION_MISMATCH" => "somebody changed it just now; look at it and run the command again",
        "NOTHING_MATCHES" => "`haltline agent list` shows what there is, with labels",
        "KILLED" => "`haltline kills` shows it; lifting it takes `haltline resume`",
        "UNKNOWN_EDGE" | "EDGE_EXISTS" => "`haltline edges` lists them",
        "UNKNOWN_JOIN_TOKEN" => "`haltline edge token list` shows those that wait to be used",
        "CREDENTIAL_TTL" | "INSTANCE_LIMIT" => "`haltline fleet show PATH` shows the limits in effect",
        "UNKNOWN_PERSON" => {
            "ask an admin to run `haltline operator add`, or choose another identity with --identity"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_becomes_the_hint() {
        let refusal = Refusal::new(
            Code::NotFound,
            "UNKNOWN_FLEET",
            "there is no fleet `acme/finence`; did you mean `acme/finance`?",
        )
        .with("nearest", "acme/finance");
        let failure = Failure::refused(&refusal);
        insta::assert_snapshot!(failure.render(Format::Table, Style::plain()), @r"
        error: there is no fleet `acme/finence`
        hint: did you mean `acme/finance`?
        ");
        insta::assert_snapshot!(failure.render(Format::Json, Style::plain()), @r#"{"error":{"details":{"nearest":"acme/finance"},"exit_code":1,"hint":"did you mean `acme/finance`?","message":"there is no fleet `acme/finence`","reason":"UNKNOWN_FLEET"}}"#);
    }

    #[test]
    fn codes_become_exits() {
        for (code, exit) in [
            (Code::NotFound, Exit::Refused),
            (Code::PermissionDenied, Exit::Denied),
            (Code::Unauthenticated, Exit::Denied),
            (Code::Unavailable, Exit::Unreachable),
            (Code::InvalidArgument, Exit::Refused),
        ] {
            assert_eq!(Failure::refused(&Refusal::new(code, "X", "y")).exit, exit, "{code:?}");
        }
    }

    #[test]
    fn text_from_elsewhere_cant_steer_the_terminal() {
        let failure = Failure::local("a\u{1b}[2Jb\u{202e}c\nd");
        assert_eq!(failure.render(Format::Table, Style::plain()), "error: a\\u{1b}[2Jb\\u{202e}c d");
    }
}
