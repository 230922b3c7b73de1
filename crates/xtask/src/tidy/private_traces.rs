//! A commit must mean the same on every machine: no absolute path of the one it was written on, and no package source
//! other than the public registry.

use super::{Finding, tree::Tree};

const RULE: &str = "private-traces";

/// Absolute paths that only exist where someone worked, split so that this file doesn't hold them.
const PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/", "brief")];

/// The one registry.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Tables of cargo's configuration that redirect downloads or hold credentials.
const REDIRECTS: &[&str] = &["source", "registry", "registries", "http", "net", "patch", "credential-alias"];

/// Files that configure another package manager's source.
const SOURCE_FILES: &[&str] = &[".npmrc", "pip.conf", ".pypirc", "credentials.toml"];

/// Checks all files.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        findings.extend(absolute_paths(&file.path, &file.text));
        match file.path.as_str() {
            "Cargo.lock" => findings.extend(lock_sources(&file.text)),
            ".cargo/config.toml" => findings.extend(redirects(&file.path, &file.text)),
            path if SOURCE_FILES.iter().any(|name| path.rsplit('/').next() == Some(name)) => {
                findings.push(Finding::new(RULE, path, 0, "configures a private package source"));
            }
            _ => {}
        }
    }
    findings
}

fn absolute_paths(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for needle in PATHS {
            let found = line.match_indices(needle).any(|(at, _)| starts_a_path(line, at));
            if found {
                let message = format!("`{needle}` exists on one machine only");
                findings.push(Finding::new(RULE, path, number + 1, message));
            }
        }
    }
    findings
}

/// Whether the slash at byte `at` begins an absolute path, rather than continuing a relative one or a URL.
fn starts_a_path(line: &str, at: usize) -> bool {
    let before = line.get(..at).and_then(|before| before.chars().next_back());
    !before.is_some_and(|c| c.is_alphanumeric() || "_-.~/}>)]".contains(c))
}

fn lock_sources(text: &str) -> Vec<Finding> {
    let sources = text.lines().enumerate().filter_map(|(number, line)| {
        let source = line.strip_prefix("source = ")?.trim_matches('"');
        (source != REGISTRY).then_some((number, source))
    });
    sources
        .map(|(number, source)| {
            Finding::new(RULE, "Cargo.lock", number + 1, format!("`{source}` is not the public registry"))
        })
        .collect()
}

fn redirects(path: &str, text: &str) -> Vec<Finding> {
    let config: toml::Table = match text.parse() {
        Ok(config) => config,
        Err(error) => return vec![Finding::new(RULE, path, 0, format!("does not parse: {error}"))],
    };
    REDIRECTS
        .iter()
        .filter(|table| config.contains_key(**table))
        .map(|table| {
            Finding::new(RULE, path, 0, format!("`[{table}]` belongs in a machine's own configuration"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn an_absolute_path_of_one_machine_is_caught() {
        assert_eq!(caught("docs/a.md", concat!("see /wo", "rk/main/x")), 1);
        assert_eq!(caught("a.sh", concat!("cd \"/ro", "ot/x\"")), 1);
        assert_eq!(caught("docs/a.md", concat!("https://example.com/wo", "rk/x and a/wo", "rk/x")), 0);
        assert_eq!(caught("docs/a.md", concat!("<out>/ro", "ot/key")), 0);
    }

    #[test]
    fn a_private_registry_is_caught() {
        let lock = |source: &str| format!("[[package]]\nname = \"a\"\nsource = \"{source}\"\n");
        assert_eq!(caught("Cargo.lock", &lock("registry+https://mirror.example/index")), 1);
        assert_eq!(caught("Cargo.lock", &lock("git+https://example.com/a#0123")), 1);
        assert_eq!(caught("Cargo.lock", &lock(REGISTRY)), 0);
        let config = "[alias]\nx = \"run\"\n[source.crates-io]\nreplace-with = \"mirror\"\n";
        assert_eq!(caught(".cargo/config.toml", config), 1);
        assert_eq!(caught(".cargo/config.toml", "[alias]\nx = \"run\"\n"), 0);
        assert_eq!(caught("console/.npmrc", "registry=https://mirror.example\n"), 1);
    }
}
