//! Asking before something wide or irreversible, and refusing to guess where nobody can answer.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::failure::Failure;

/// Asks for a yes. `what` ends the sentence "Not going on: …" where nobody can be asked.
///
/// # Errors
/// Nobody to ask, or the answer wasn't yes.
pub(super) fn confirm(question: &str, what: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("{what}, and there is no terminal to ask on"))
            .hint("add --yes to go on without a question"));
    }
    let mut stderr = io::stderr().lock();
    let asked =
        write!(stderr, "{} [y/N] ", crate::output::escape::line(question)).and_then(|()| stderr.flush());
    asked.map_err(|error| Failure::local(format!("can't ask on the terminal: {error}")))?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::local(format!("can't read the answer: {error}")))?;
    if is_yes(&answer) { Ok(()) } else { Err(Failure::local("nothing was done: the answer wasn't yes")) }
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].iter().any(|yes| answer.trim().eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        for (answer, yes) in [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("yep\n", false)] {
            assert_eq!(is_yes(answer), yes, "{answer:?}");
        }
    }
}
