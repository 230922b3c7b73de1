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

use clap::Parser;

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
        report(&failure, screen);
        failure.exit
    });
    exit.into()
}

fn run(cli: Cli, screen: Screen) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("can't start: {error}")))?;
    runtime.block_on(commands::run(cli, screen))
}

fn report(failure: &Failure, screen: Screen) {
    // Where standard error is gone too, the exit code must do.
    let _ = writeln!(io::stderr(), "{}", failure.render(screen.format, screen.error_style));
}

/// Help and version are answers; everything else is wrong usage, as JSON where JSON was asked for.
fn refuse_arguments(error: &clap::Error, arguments: &[OsString]) -> Exit {
    use clap::error::ErrorKind;
    let is_answer = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if !is_answer && wants_json(arguments) {
        let text = error.render().to_string();
        let message = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
        let summary = message.split("\n\n").next().unwrap_or(message);
        report(&Failure::usage(summary), Screen::detect(Format::Json));
    } else {
        // As above.
        let _ = error.print();
    }
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
        _ => Exit::Usage,
    }
}

/// Whether a command line that can't be parsed asks for JSON.
fn wants_json(arguments: &[OsString]) -> bool {
    let words: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    words.iter().any(|word| matches!(*word, "-ojson" | "-o=json" | "--output=json"))
        || words.windows(2).any(|pair| matches!(pair, ["-o" | "--output", "json"]))
}
