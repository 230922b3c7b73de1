//! Licences, sources, banned and duplicate crates, by `deny.toml`.
//!
//! cargo-deny reads it. Its fourth check, advisories, fetches a database from GitHub, so it isn't a part of `verify`,
//! which must run where only the package registry is reachable; CONTRIBUTING.md says when to run it.

use std::path::Path;

use crate::{
    error::XtaskError,
    steps::{cargo, output, run as run_command},
};

/// The version that the file was written for; `.ci/run` installs the same.
pub(crate) const CARGO_DENY: &str = "0.20.2";

/// Runs the checks that need no other network than the registry.
pub(crate) fn run(root: &Path) -> Result<(), XtaskError> {
    if output(&mut cargo(root, &["deny", "--version"])).is_err() {
        return Err(XtaskError::Missing {
            tool: "cargo-deny",
            install: format!("cargo install cargo-deny --locked --version {CARGO_DENY}"),
        });
    }
    let checks =
        ["deny", "--log-level", "warn", "--workspace", "--locked", "check", "licenses", "bans", "sources"];
    run_command(&mut cargo(root, &checks))
}
