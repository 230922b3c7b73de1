//! Running one step of a check: say what runs, run it, say how long it took.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use crate::error::XtaskError;

/// Runs `body` as a step with a heading and its elapsed time.
pub(crate) fn step(name: &str, body: impl FnOnce() -> Result<(), XtaskError>) -> Result<(), XtaskError> {
    eprintln!("==> {name}");
    let started = Instant::now();
    let outcome = body();
    let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
    eprintln!("    {name}: {verdict} after {} s", started.elapsed().as_secs());
    outcome
}

/// A cargo command in the workspace `root`, by the cargo that started this program.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Set by `cargo run` for this crate; a nested cargo must not take them for its own.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
    command.args(arguments).current_dir(root).stdin(Stdio::null());
    command
}

/// Runs `command` with its output shown; an error unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<(), XtaskError> {
    let status =
        command.status().map_err(|source| XtaskError::Start { program: program(command), source })?;
    if status.success() {
        Ok(())
    } else {
        Err(XtaskError::Failed { command: command_line(command), status: status.to_string() })
    }
}

/// Runs `command` and returns what it printed; an error unless it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>, XtaskError> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| XtaskError::Start { program: program(command), source })?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(XtaskError::Failed { command: command_line(command), status: output.status.to_string() })
    }
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn command_line(command: &Command) -> String {
    let mut words = vec![
        Path::new(command.get_program())
            .file_name()
            .map_or_else(|| program(command), |name| name.to_string_lossy().into_owned()),
    ];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}
