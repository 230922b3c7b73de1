//! The `haltline` command; everything is in the library.

use std::process::ExitCode;

/// A node makes and drops small values on one thread that another thread made: glibc's allocator took a quarter of the
/// time of a command, this one a few percent (docs/adr/2026-11-23-allocator.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    haltline_cli::main()
}
