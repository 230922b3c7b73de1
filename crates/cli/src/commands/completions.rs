//! Completion scripts, made from the same definition that parses.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::{args::Cli, exit::Exit, failure::Failure};

/// Prints the script for a shell.
pub(super) fn print(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "haltline", &mut script);
    io::stdout()
        .write_all(&script)
        .map_err(|error| Failure::local(format!("can't write to standard output: {error}")))?;
    Ok(Exit::Done)
}
