//! The `haltline` command as the cluster tests start it: built with them, so that they never test an older one.

use std::process::ExitCode;

fn main() -> ExitCode {
    haltline_cli::main()
}
