//! Completion scripts, made from the same definition that parses.

use clap::CommandFactory;

use crate::{args::Cli, exit::Exit, failure::Failure, output};

/// Prints the script for a shell.
pub(super) fn print(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "haltline", &mut script);
    output::write_out(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
