//! `cargo xtask`: the checks and fixes of this workspace.
//!
//! `verify` never writes; `fix` does. Both are plain sequences of steps, so what fails here fails the same way by hand.

mod error;
mod fix;
mod metadata;
mod steps;
mod supply;
mod tidy;
mod verify;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use error::XtaskError;

const USAGE: &str = "\
usage: cargo xtask <command>

  verify   format, tidy, lock file, clippy, docs, licences; writes nothing outside the target directory
  tidy     the house rules only
  supply   licences, sources, banned and duplicate crates only
  fix      format, clippy's own fixes, shorten the ratchet lists";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ XtaskError::Usage { .. }) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), XtaskError> {
    let root = workspace_root();
    match arguments {
        [command] if command == "verify" => verify::run(&root),
        [command] if command == "tidy" => tidy::run(&root),
        [command] if command == "supply" => supply::run(&root),
        [command] if command == "fix" => fix::run(&root),
        [command] if command == "help" || command == "--help" || command == "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(XtaskError::Usage { given: other.join(" ") }),
    }
}

/// The workspace this binary was built from: two levels above its own manifest.
fn workspace_root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.ancestors().nth(2).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}
