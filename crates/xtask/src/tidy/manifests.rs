//! Manifests: every package takes the workspace's lints and versions, so that no crate quietly opts out.

use super::{Finding, tree::Tree};

const RULE: &str = "manifest";

/// Checks the manifest of every member.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"))
        .flat_map(|file| check_manifest(&file.path, &file.text))
        .collect()
}

fn check_manifest(path: &str, text: &str) -> Vec<Finding> {
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::new(RULE, path, 0, format!("does not parse: {error}"))],
    };
    let mut findings = Vec::new();
    let inherits = |table: &toml::Table| table.get("workspace").and_then(toml::Value::as_bool) == Some(true);
    if !manifest.get("lints").and_then(toml::Value::as_table).is_some_and(inherits) {
        findings.push(Finding::new(RULE, path, 0, "needs `[lints] workspace = true`"));
    }
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
        for (name, value) in dependencies {
            if !value.as_table().is_some_and(inherits) {
                let message =
                    format!("{section}: `{name}` must say `workspace = true`; versions live in one place");
                findings.push(Finding::new(RULE, path, 0, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(text: &str) -> usize {
        check(&Tree::of(&[("crates/a/Cargo.toml", text)])).len()
    }

    #[test]
    fn a_crate_without_the_workspace_lints_is_caught() {
        assert_eq!(caught("[package]\nname = \"a\"\n"), 1);
        assert_eq!(caught("[package]\nname = \"a\"\n[lints]\nworkspace = true\n"), 0);
    }

    #[test]
    fn a_version_of_its_own_is_caught() {
        let manifest = |line: &str| format!("[lints]\nworkspace = true\n[dependencies]\n{line}\n");
        assert_eq!(caught(&manifest("serde = \"1\"")), 1);
        assert_eq!(caught(&manifest("serde = { version = \"1\", features = [\"derive\"] }")), 1);
        assert_eq!(caught(&manifest("serde.workspace = true")), 0);
        assert_eq!(caught(&manifest("serde = { workspace = true, features = [\"rc\"] }")), 0);
    }
}
