//! What can go wrong in a check or a fix, besides the findings themselves.

use std::path::PathBuf;

/// Why a command of `cargo xtask` did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum XtaskError {
    /// The command line named no command, or an unknown one.
    #[error("expected one command, got `{given}`")]
    Usage {
        /// What stood there.
        given: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("could not start `{program}`: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program ran and failed.
    #[error("`{command}` failed: {status}")]
    Failed {
        /// The whole command line.
        command: String,
        /// How it ended.
        status: String,
    },
    /// `cargo metadata` printed something else than was expected.
    #[error("`cargo metadata` printed what can't be read: {0}")]
    Metadata(#[from] serde_json::Error),
    /// A tool that the check needs is not installed.
    #[error("{tool} is not installed; install it with `{install}`")]
    Missing {
        /// The tool.
        tool: &'static str,
        /// How to get it.
        install: String,
    },
    /// A ratchet list holds a line of another form.
    #[error("{path}:{line}: expected `<file> <function> <lines>`, got `{got}`")]
    Ratchet {
        /// The list.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        got: String,
    },
    /// A check ran and found something.
    #[error("{check}: {count} finding(s)")]
    Findings {
        /// Which check.
        check: &'static str,
        /// How many.
        count: usize,
    },
}
