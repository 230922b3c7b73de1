//! `cargo xtask fix`: the writing half of `verify`.

use std::path::Path;

use crate::{
    error::XtaskError,
    steps::{cargo, run as run_command, step},
    tidy,
};

/// Applies clippy's own fixes, formats, and shortens the ratchet lists. It never lengthens one.
pub(crate) fn run(root: &Path) -> Result<(), XtaskError> {
    step("clippy --fix", || {
        let fix = [
            "clippy",
            "--fix",
            "--allow-dirty",
            "--allow-staged",
            "--workspace",
            "--all-targets",
            "--locked",
        ];
        run_command(&mut cargo(root, &fix))
    })?;
    step("format", || run_command(&mut cargo(root, &["fmt", "--all"])))?;
    step("ratchet lists", || tidy::shorten_lists(root))
}
