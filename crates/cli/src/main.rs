//! The `haltline` command; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    haltline_cli::main()
}
