//! The house rules as checks.
//!
//! Each rule is one file, a function from what it reads to findings, with a test that shows it catching a violation.
//! Rust is read with a parser, never with patterns over text, so a rule can't be fooled by a comment or a string.
//! The whole check is also a test of this crate: `cargo test` tells what `cargo xtask tidy` would.

mod dependencies;
mod function_length;
mod hygiene;
mod limits;
mod manifests;
mod private_traces;
mod purity;
mod records;
mod rust_file;
mod tokens;
mod tree;

use std::{fmt, path::Path};

use crate::{error::XtaskError, metadata::Metadata};
use function_length::Ratchet;
use rust_file::RustFile;
use tree::Tree;

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Relative to the workspace root.
    path: String,
    /// From 1; 0 where the whole file is meant.
    line: usize,
    /// The rule's name.
    rule: &'static str,
    /// What is wrong and what would be right.
    message: String,
}

impl Finding {
    fn new(rule: &'static str, path: &str, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, rule, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": [{}] {}", self.rule, self.message)
    }
}

/// Prints every finding; an error if there is one.
pub(crate) fn run(root: &Path) -> Result<(), XtaskError> {
    let findings = check(root)?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => Err(XtaskError::Findings { check: "tidy", count }),
    }
}

/// Removes from the ratchet lists what is no longer long, and lowers what is shorter than it was.
pub(crate) fn shorten_lists(root: &Path) -> Result<(), XtaskError> {
    let tree = Tree::read(root)?;
    let (files, _) = RustFile::parse_all(&tree);
    let listed = Ratchet::read(&tree)?;
    let shorter = listed.shortened(&function_length::long_functions(&files));
    if shorter != listed {
        let path = root.join(function_length::LIST);
        std::fs::write(&path, shorter.to_string()).map_err(|source| XtaskError::File { path, source })?;
    }
    Ok(())
}

fn check(root: &Path) -> Result<Vec<Finding>, XtaskError> {
    let tree = Tree::read(root)?;
    let metadata = Metadata::of_workspace(root)?;
    let (files, mut findings) = RustFile::parse_all(&tree);
    findings.extend(dependencies::check(&metadata.packages));
    findings.extend(purity::check(&files));
    findings.extend(function_length::check(&files, &Ratchet::read(&tree)?));
    findings.extend(hygiene::check(&tree, &files));
    findings.extend(limits::check(&files));
    findings.extend(manifests::check(&tree));
    findings.extend(records::check(&tree));
    findings.extend(private_traces::check(&tree));
    findings.sort();
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_tidy() {
        let root = crate::workspace_root();
        let findings = check(&root).expect("the tidy check runs");
        let listed: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(listed.is_empty(), "{} finding(s):\n{}", listed.len(), listed.join("\n"));
    }

    #[test]
    fn a_finding_names_file_line_and_rule() {
        let finding = Finding::new("file-docs", "a/b.rs", 3, "text");
        assert_eq!(finding.to_string(), "a/b.rs:3: [file-docs] text");
        assert_eq!(Finding::new("name", "a/b.rs", 0, "text").to_string(), "a/b.rs: [name] text");
    }
}
