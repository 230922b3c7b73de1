//! Rules on single files: what a file opens with, what it may be called, and what may not stand in it.

use super::{
    Finding,
    rust_file::RustFile,
    tokens::{Token, occurrences},
    tree::Tree,
};

/// Files that may hold `unsafe`, one path a line; each says why at its top and has Miri over it.
const UNSAFE_LIST: &str = "crates/xtask/tidy/unsafe-files.txt";

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "misc", "manager"];

/// Marks of unfinished work, split so that this file doesn't hold them.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Checks all files.
pub(super) fn check(tree: &Tree, files: &[RustFile]) -> Vec<Finding> {
    let unsafe_files: Vec<&str> = tree
        .text(UNSAFE_LIST)
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut findings: Vec<Finding> = tree
        .files
        .iter()
        .filter(|file| is_code(&file.path))
        .flat_map(|file| unfinished(&file.path, &file.text))
        .collect();
    for file in files {
        findings.extend(opening(file));
        findings.extend(name(file));
        findings.extend(unwraps(file));
        findings.extend(unsafe_code(file, &unsafe_files));
    }
    for listed in unsafe_files {
        if !files.iter().any(|file| file.path == listed && has_unsafe(file).is_some()) {
            let message = format!("{listed} is listed and holds no `unsafe`: remove the line");
            findings.push(Finding::new("unsafe", UNSAFE_LIST, 0, message));
        }
    }
    findings
}

fn is_code(path: &str) -> bool {
    [".rs", ".proto", ".toml", ".sh", ".service", ".yml", ".yaml"].iter().any(|ending| path.ends_with(ending))
        || path.starts_with(".ci/")
}

fn unfinished(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        for word in words.filter(|word| UNFINISHED.contains(word)) {
            let message = format!("`{word}`: finish it, or file it where work is planned");
            findings.push(Finding::new("unfinished", path, number + 1, message));
        }
    }
    findings
}

fn opening(file: &RustFile) -> Option<Finding> {
    let opens = file.text.starts_with("//! ") || file.text.starts_with("#![doc = ");
    (!opens).then(|| {
        let message = "must open with `//!`: what lives here, why, and what must stay true";
        Finding::new("file-docs", &file.path, 1, message)
    })
}

fn name(file: &RustFile) -> Option<Finding> {
    let parts = file.path.trim_end_matches(".rs").split('/');
    let empty = parts.flat_map(|part| part.split('_')).find(|part| EMPTY_NAMES.contains(part))?;
    let message = format!("`{empty}` in a file's name says nothing: name what is inside");
    Some(Finding::new("file-name", &file.path, 0, message))
}

fn unwraps(file: &RustFile) -> Vec<Finding> {
    let tokens = file.production_tokens();
    let at = |token: &Token| {
        let message = "`.unwrap()`: return the error, or `expect` with the local invariant";
        Finding::new("unwrap", &file.path, token.at.line, message)
    };
    occurrences(&tokens, &[".", "unwrap", "(", ")"]).map(at).collect()
}

fn has_unsafe(file: &RustFile) -> Option<&Token> {
    file.tokens.iter().find(|token| token.text == "unsafe")
}

fn unsafe_code(file: &RustFile, listed: &[&str]) -> Option<Finding> {
    if listed.contains(&file.path.as_str()) {
        return None;
    }
    let token = has_unsafe(file)?;
    let message = format!("`unsafe` outside of the files that {UNSAFE_LIST} lists");
    Some(Finding::new("unsafe", &file.path, token.at.line, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(files: &[(&str, &str)]) -> Vec<&'static str> {
        let tree = Tree::of(files);
        let (parsed, findings) = RustFile::parse_all(&tree);
        assert_eq!(findings, []);
        check(&tree, &parsed).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_file_without_opening_docs_is_caught() {
        assert_eq!(rules(&[("crates/a/src/b.rs", "fn f() {}")]), ["file-docs"]);
        assert_eq!(rules(&[("crates/a/src/b.rs", "//! B.\nfn f() {}")]), [""; 0]);
    }

    #[test]
    fn an_empty_name_is_caught() {
        assert_eq!(rules(&[("crates/a/src/utils.rs", "//! B.\n")]), ["file-name"]);
        assert_eq!(rules(&[("crates/a/src/helpers/b.rs", "//! B.\n")]), ["file-name"]);
        assert_eq!(rules(&[("crates/a/src/kill_manager.rs", "//! B.\n")]), ["file-name"]);
        assert_eq!(rules(&[("crates/a/src/commonwealth.rs", "//! B.\n")]), [""; 0]);
    }

    #[test]
    fn unfinished_work_is_caught() {
        let mark = concat!("//! B.\n// TO", "DO: later\n");
        assert_eq!(rules(&[("crates/a/src/b.rs", mark)]), ["unfinished"]);
        assert_eq!(rules(&[("a.toml", concat!("# FIX", "ME\n"))]), ["unfinished"]);
        assert_eq!(rules(&[("crates/a/src/b.rs", "//! B.\n// TODOS are fine\n")]), [""; 0]);
    }

    #[test]
    fn an_unwrap_is_caught_outside_of_tests_only() {
        assert_eq!(rules(&[("crates/a/src/b.rs", "//! B.\nfn f() { g().unwrap(); }")]), ["unwrap"]);
        assert_eq!(rules(&[("crates/a/src/b.rs", "//! B.\nfn f() { m!(g().unwrap()); }")]), ["unwrap"]);
        assert_eq!(rules(&[("crates/a/src/b.rs", "//! B.\n#[test]\nfn f() { g().unwrap(); }")]), [""; 0]);
        assert_eq!(rules(&[("tests/src/b.rs", "//! B.\nfn f() { g().unwrap(); }")]), [""; 0]);
        assert_eq!(rules(&[("crates/a/src/b.rs", "//! B.\nfn f() { g().unwrap_or(1); }")]), [""; 0]);
    }

    #[test]
    fn unsafe_is_caught_unless_listed() {
        let text = "//! B.\nfn f() { unsafe { g() } }";
        assert_eq!(rules(&[("crates/a/src/b.rs", text)]), ["unsafe"]);
        assert_eq!(rules(&[("crates/a/src/b.rs", text), (UNSAFE_LIST, "crates/a/src/b.rs\n")]), [""; 0]);
        let stale = [("crates/a/src/b.rs", "//! unsafe\n"), (UNSAFE_LIST, "crates/a/src/b.rs\n")];
        assert_eq!(rules(&stale), ["unsafe"]);
    }
}
