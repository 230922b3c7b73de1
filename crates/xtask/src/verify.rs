//! `cargo xtask verify`: everything that must hold before a commit, cheap first. It never writes to the sources.

use std::path::Path;

use crate::{
    error::XtaskError,
    steps::{cargo, output, run as run_command, step},
    supply, tidy,
};

/// Runs all steps in order and stops at the first that fails.
pub(crate) fn run(root: &Path) -> Result<(), XtaskError> {
    step("format", || run_command(&mut cargo(root, &["fmt", "--all", "--", "--check"])))?;
    step("tidy", || tidy::run(root))?;
    step("lock file", || lock_file(root))?;
    step("clippy", || {
        let lint = ["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        run_command(&mut cargo(root, &lint))
    })?;
    step("docs", || {
        let document = ["doc", "--workspace", "--no-deps", "--locked", "--quiet"];
        run_command(cargo(root, &document).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    step("licences, sources, duplicates", || supply::run(root))
}

/// Fails if `Cargo.lock` would have to change.
fn lock_file(root: &Path) -> Result<(), XtaskError> {
    output(&mut cargo(root, &["metadata", "--quiet", "--format-version", "1", "--locked"])).map(drop)
}
