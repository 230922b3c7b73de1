//! The core is a function of the log: no clock, no chance, no file, no socket, no thread, no float, and no map whose
//! order differs from one process to the next. Names that lead there don't occur in it outside of tests.

use super::{
    Finding,
    rust_file::RustFile,
    tokens::{Kind, Token, occurrences},
};

const RULE: &str = "purity";
const CORE: &str = "crates/core/src/";

/// Words that may not occur, and what to use instead.
const WORDS: &[(&str, &str)] = &[
    ("tokio", "the core waits for nothing; effects are returned to the caller"),
    ("futures", "the core waits for nothing; effects are returned to the caller"),
    ("async", "the core waits for nothing; effects are returned to the caller"),
    ("Instant", "time comes in with the batch (ClusterTime)"),
    ("SystemTime", "time comes in with the batch (WallTime)"),
    ("HashMap", "use imbl::OrdMap or BTreeMap: their order is the same everywhere"),
    ("HashSet", "use imbl::OrdSet or BTreeSet: their order is the same everywhere"),
    ("RandomState", "nothing in the core is random"),
    ("rand", "nothing in the core is random; ids come in with the command"),
    ("getrandom", "nothing in the core is random; ids come in with the command"),
    ("f32", "count in integers; floats round differently per platform"),
    ("f64", "count in integers; floats round differently per platform"),
    ("Mutex", "the state has one owner; share clones of it"),
    ("RwLock", "the state has one owner; share clones of it"),
];

/// Modules of the standard library that reach outside.
const MODULES: &[&str] = &["env", "fs", "net", "os", "process", "thread", "sync"];
/// What may be used of them: sharing without locks changes no result.
const HARMLESS: &[&str] = &["Arc"];

/// Checks every file of the core.
pub(super) fn check(files: &[RustFile]) -> Vec<Finding> {
    files.iter().filter(|file| file.path.starts_with(CORE)).flat_map(check_file).collect()
}

fn check_file(file: &RustFile) -> Vec<Finding> {
    let tokens = file.production_tokens();
    let mut findings = Vec::new();
    for token in &tokens {
        if let Some((word, instead)) = WORDS.iter().find(|(word, _)| is_word(token, word)) {
            findings.push(finding(file, token, &format!("`{word}`: {instead}")));
        }
        if is_float(token) {
            findings.push(finding(file, token, &format!("`{}`: count in integers", token.text)));
        }
    }
    for module in MODULES {
        for token in occurrences(&tokens, &["std", ":", ":", module]) {
            if !is_harmless(&tokens, token) {
                findings.push(finding(file, token, &format!("`std::{module}` reaches outside the log")));
            }
        }
    }
    for token in grouped_std_imports(&tokens) {
        findings.push(finding(file, token, &format!("`std::{}` reaches outside the log", token.text)));
    }
    findings
}

fn finding(file: &RustFile, token: &Token, message: &str) -> Finding {
    Finding::new(RULE, &file.path, token.at.line, message)
}

fn is_word(token: &Token, word: &str) -> bool {
    token.kind == Kind::Word && token.text == word
}

fn is_float(token: &Token) -> bool {
    token.kind == Kind::Literal && matches!(syn::parse_str(&token.text), Ok(syn::Lit::Float(_)))
}

/// `std::sync::Arc` after the `std` at this token.
fn is_harmless(tokens: &[&Token], start: &Token) -> bool {
    let Some(position) = tokens.iter().position(|token| token.at == start.at) else { return false };
    tokens.get(position + 6).is_some_and(|token| HARMLESS.contains(&token.text.as_str()))
}

/// The forbidden modules in `use std::{a, b::c}`, at the first level of the braces.
fn grouped_std_imports<'a>(tokens: &'a [&'a Token]) -> Vec<&'a Token> {
    let mut found = Vec::new();
    for start in occurrences(tokens, &["std", ":", ":", "{"]) {
        let Some(position) = tokens.iter().position(|token| token.at == start.at) else { continue };
        let mut depth = 0;
        let group = tokens.iter().skip(position + 3);
        for (token, rest) in group.clone().zip(group.skip(1).map(Some).chain([None])) {
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                name if depth == 1 && token.kind == Kind::Word && MODULES.contains(&name) => {
                    let path_follows = rest.is_some_and(|next| next.text == ":");
                    if !(path_follows && is_harmless_in_group(tokens, token)) {
                        found.push(*token);
                    }
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// `sync::Arc` inside of `use std::{…}`, where the word `sync` is this token.
fn is_harmless_in_group(tokens: &[&Token], start: &Token) -> bool {
    let Some(position) = tokens.iter().position(|token| token.at == start.at) else { return false };
    tokens.get(position + 3).is_some_and(|token| HARMLESS.contains(&token.text.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::Tree;

    fn lines(text: &str) -> Vec<usize> {
        let (files, findings) = RustFile::parse_all(&Tree::of(&[("crates/core/src/a.rs", text)]));
        assert_eq!(findings, []);
        check(&files).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn names_that_leave_the_log_are_caught() {
        assert_eq!(lines("use std::collections::HashMap;"), [1]);
        assert_eq!(lines("fn f() { let t = std::time::Instant::now(); }"), [1]);
        assert_eq!(lines("use std::fs::File;"), [1]);
        assert_eq!(lines("use std::{\n  fmt,\n  fs,\n};"), [3]);
        assert_eq!(lines("use std::{fmt,\nsync::Mutex};").len(), 2);
        assert_eq!(lines("fn f(x: f64) {}"), [1]);
        assert_eq!(lines("const A: u64 = (2.5 * 2.0) as u64;").len(), 2);
        assert_eq!(lines("fn f() { tokio::spawn(x); }"), [1]);
        assert_eq!(lines("async fn f() {}"), [1]);
    }

    #[test]
    fn what_is_harmless_passes() {
        assert!(lines("//! Instant, HashMap\nuse std::{fmt, sync::Arc};\nuse std::sync::Arc;").is_empty());
        assert!(lines("fn f() { let fs = 2; let s = \"HashMap 2.5\"; }").is_empty());
        assert!(lines("#[cfg(test)]\nmod tests { use std::collections::HashMap; }").is_empty());
    }

    #[test]
    fn only_the_core_is_held_to_it() {
        let (files, _) = RustFile::parse_all(&Tree::of(&[("crates/node/src/a.rs", "use std::fs;")]));
        assert!(check(&files).is_empty());
    }
}
