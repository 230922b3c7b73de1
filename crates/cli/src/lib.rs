//! The `haltline` command: operator verbs, `haltline node`, and the demo.
//!
//! Verbs talk to nodes through `haltline-wire` only; `init`, `node` and `demo` start the real things. A verb returns a
//! result that renders itself as table, JSON or YAML, or a failure that says what would be right; how the process ends is
//! in [`exit`].

pub mod args;
pub mod exit;

mod client;
mod commands;
mod demo;
mod failure;
mod output;

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};

use args::{Cli, Format};
use exit::Exit;
use failure::Failure;
use output::Screen;

/// Reads the command line, carries it out, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse_arguments(&error, &arguments).into(),
    };
    let screen = Screen::detect(cli.global.output);
    let exit = run(cli, screen).unwrap_or_else(|failure| {
        if failure.exit != Exit::Done {
            report(&failure, screen);
        }
        failure.exit
    });
    exit.into()
}

fn run(cli: Cli, screen: Screen) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("can't start: {error}")))?;
    let exit = runtime.block_on(commands::run(cli, screen));
    // Whatever had to end in order has; a read that can't be cancelled must not keep the process.
    runtime.shutdown_background();
    exit
}

fn report(failure: &Failure, screen: Screen) {
    // Where standard error is gone too, the exit code must do.
    let _ = writeln!(io::stderr(), "{}", failure.render(screen.format, screen.error_style));
}

/// Help and version are answers; everything else is wrong usage, told like every other failure.
fn refuse_arguments(error: &clap::Error, arguments: &[OsString]) -> Exit {
    use clap::error::ErrorKind;
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Where nobody listens, there is nobody to tell.
        let _ = error.print();
        return Exit::Done;
    }
    if arguments.len() < 2 || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let help = Cli::command().render_help();
        let _ = writeln!(io::stderr(), "{help}");
        return Exit::Usage;
    }
    let format = if wants_json(arguments) { Format::Json } else { Format::Table };
    report(&usage_failure(error, arguments), Screen::detect(format));
    Exit::Usage
}

/// What the parser says, as one line and a hint.
fn usage_failure(error: &clap::Error, arguments: &[OsString]) -> Failure {
    let text = error.render().to_string();
    let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
    let mut paragraphs = text.split("\n\n").map(str::trim);
    let message = paragraphs.next().unwrap_or_default();
    let message = message.split_whitespace().map(shortened).collect::<Vec<_>>().join(" ");
    let tip = paragraphs.find_map(|paragraph| paragraph.strip_prefix("tip: "));
    // How to pass an unknown flag as a value is hardly ever what was meant.
    let tip = tip.filter(|tip| !tip.starts_with("to pass "));
    let help = format!("`{} --help` shows how", verb(arguments));
    Failure::usage(message).hint(tip.map_or(help, str::to_owned))
}

/// A word as long as one reads: what was typed is repeated in the message, and may be anything.
fn shortened(word: &str) -> String {
    const WORD_MAX: usize = 100;
    output::table::cut(word, WORD_MAX)
}

/// The verb that a command line begins with, as far as there is one.
fn verb(arguments: &[OsString]) -> String {
    let mut command = Cli::command();
    let mut verb = command.get_name().to_owned();
    for word in arguments.iter().skip(1).filter_map(|argument| argument.to_str()) {
        if let Some(below) = command.find_subcommand(word).cloned() {
            verb = format!("{verb} {word}");
            command = below;
        }
    }
    verb
}

/// Whether a command line that can't be parsed asks for JSON.
fn wants_json(arguments: &[OsString]) -> bool {
    let words: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    words.iter().any(|word| matches!(*word, "-ojson" | "-o=json" | "--output=json"))
        || words.windows(2).any(|pair| matches!(pair, ["-o" | "--output", "json"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(line: &str) -> String {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let error = Cli::try_parse_from(&arguments).expect_err("wrong usage");
        usage_failure(&error, &arguments).render(Format::Table, output::style::Style::plain())
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_says_what_would_be_right() {
        let lines = [
            "haltline kil fleet acme",
            "haltline kill acme/finance --reason x",
            "haltline kill flet acme --reason x",
            "haltline resume kill-1",
            "haltline resume fleet --reason x",
            "haltline kills --bogus",
            "haltline agent show acme",
            "haltline operator add bob --role aprover --identity-out bob",
            "haltline operator add --role admin",
            "haltline --timeout 5 status",
            "haltline fleet create acme --tool",
            "haltline status --output jsn",
            "haltline --endpoint nowhere status",
        ];
        let shown: Vec<String> = lines.iter().map(|line| format!("$ {line}\n{}", failure(line))).collect();
        insta::assert_snapshot!(shown.join("\n\n"));
    }

    #[test]
    fn json_is_asked_for_in_every_spelling() {
        for line in ["-o json", "-ojson", "--output json", "--output=json"] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert!(wants_json(&words), "{line}");
        }
        assert!(!wants_json(&["--output".into(), "yaml".into()]));
    }
}
