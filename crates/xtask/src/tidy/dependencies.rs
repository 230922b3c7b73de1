//! Who may know whom. The table is the architecture: `core` knows nobody, only `consensus` knows openraft, and what is
//! made for tests stays out of what ships.

use crate::metadata::{Dependency, Package};

use super::Finding;

const RULE: &str = "dependencies";

/// For each crate that ships: the crates of ours that it may name.
const ALLOWED: &[(&str, &[&str])] = &[
    ("haltline-core", &[]),
    ("haltline-storage", &["haltline-core"]),
    ("haltline-wire", &["haltline-core"]),
    ("haltline-pki", &["haltline-core"]),
    ("haltline-consensus", &["haltline-core", "haltline-wire", "haltline-storage", "haltline-pki"]),
    ("haltline-hub", &["haltline-core", "haltline-wire", "haltline-pki"]),
    ("haltline-edge", &["haltline-core", "haltline-wire", "haltline-pki"]),
    ("haltline-relay", &["haltline-core", "haltline-edge", "haltline-hub", "haltline-pki", "haltline-wire"]),
    (
        "haltline-node",
        &[
            "haltline-consensus",
            "haltline-core",
            "haltline-hub",
            "haltline-pki",
            "haltline-storage",
            "haltline-wire",
        ],
    ),
    (
        "haltline-cli",
        &[
            "haltline-core",
            "haltline-edge",
            "haltline-node",
            "haltline-pki",
            "haltline-relay",
            "haltline-wire",
        ],
    ),
    ("haltline-xtask", &[]),
];

/// Crates made for tests: they may name any of ours.
const FOR_TESTS: &[&str] = &["haltline-testkit", "haltline-tests", "haltline-benches", "haltline-chaos"];

/// Who may depend on the testkit other than for their own tests.
const TESTKIT_USERS: &[&str] = &["haltline-tests", "haltline-benches", "haltline-chaos"];

/// Everything that the pure core needs from others.
const CORE_ALLOWED: &[&str] = &["ed25519-dalek", "imbl", "postcard", "serde", "sha2", "strsim", "thiserror"];

/// Crates of others that one crate wraps, or that nobody may use.
const CONFINED: &[(&str, &[&str], &str)] = &[
    ("openraft", &["haltline-consensus"], "only haltline-consensus names openraft's types"),
    ("sled", &[], "nothing authoritative lives in sled (docs/adr), and nothing rebuildable is kept yet"),
];

/// Checks the declared dependencies of the workspace's packages.
pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    packages.iter().flat_map(|package| package.dependencies.iter().flat_map(|on| edge(package, on))).collect()
}

fn edge(package: &Package, on: &Dependency) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut refuse = |why: &str| {
        let kind = on.kind.as_deref().unwrap_or("normal");
        let message = format!("{} must not have the {kind} dependency {}: {why}", package.name, on.name);
        findings.push(Finding::new(RULE, "Cargo.toml", 0, message));
    };
    if on.name.starts_with("haltline-") {
        if let Some(why) = refusal_of_ours(&package.name, on) {
            refuse(why);
        }
    } else if package.name == "haltline-core"
        && on.kind.is_none()
        && !CORE_ALLOWED.contains(&on.name.as_str())
    {
        refuse("the core is pure; extend the list in crates/xtask/src/tidy/dependencies.rs with a reason");
    }
    for (name, users, why) in CONFINED {
        if on.name == *name && !users.contains(&package.name.as_str()) {
            refuse(why);
        }
    }
    findings
}

/// Why `package` may not depend on this crate of ours, if so.
fn refusal_of_ours(package: &str, on: &Dependency) -> Option<&'static str> {
    let for_own_tests = on.kind.as_deref() == Some("dev");
    if on.name == "haltline-testkit" {
        let may = for_own_tests || TESTKIT_USERS.contains(&package);
        return (!may).then_some("the testkit is for tests, benches and chaos");
    }
    if FOR_TESTS.contains(&package) {
        let leaf = FOR_TESTS.contains(&on.name.as_str());
        return leaf.then_some("tests, benches and chaos are leaves");
    }
    match ALLOWED.iter().find(|(name, _)| *name == package) {
        None => Some("a crate that the table in crates/xtask/src/tidy/dependencies.rs doesn't list"),
        Some((_, allowed)) if allowed.contains(&on.name.as_str()) => None,
        Some(_) => Some("the direction of dependencies (docs/ARCHITECTURE.md) doesn't allow it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) })
            .collect();
        Package { name: name.to_owned(), dependencies }
    }

    fn refused(name: &str, dependencies: &[(&str, Option<&str>)]) -> usize {
        check(&[package(name, dependencies)]).len()
    }

    #[test]
    fn an_edge_against_the_direction_is_refused() {
        assert_eq!(refused("haltline-core", &[("haltline-wire", None)]), 1);
        assert_eq!(refused("haltline-wire", &[("haltline-storage", None)]), 1);
        assert_eq!(refused("haltline-cli", &[("haltline-consensus", None)]), 1);
        assert_eq!(refused("haltline-new", &[("haltline-core", None)]), 1);
        assert_eq!(refused("haltline-node", &[("haltline-core", None), ("haltline-consensus", None)]), 0);
    }

    #[test]
    fn the_testkit_ships_with_nothing() {
        assert_eq!(refused("haltline-node", &[("haltline-testkit", None)]), 1);
        assert_eq!(refused("haltline-node", &[("haltline-testkit", Some("dev"))]), 0);
        assert_eq!(refused("haltline-chaos", &[("haltline-testkit", None)]), 0);
        assert_eq!(refused("haltline-testkit", &[("haltline-tests", None)]), 1);
    }

    #[test]
    fn the_core_and_openraft_are_fenced() {
        assert_eq!(refused("haltline-core", &[("tokio", None)]), 1);
        assert_eq!(refused("haltline-core", &[("proptest", Some("dev")), ("serde", None)]), 0);
        assert_eq!(refused("haltline-node", &[("openraft", None)]), 1);
        assert_eq!(refused("haltline-consensus", &[("openraft", None)]), 0);
        assert_eq!(refused("haltline-storage", &[("sled", None)]), 1);
    }
}
