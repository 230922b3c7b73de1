//! Decision records are found by date: every file of `docs/adr` is named `YYYY-MM-DD-title.md`.

use super::{Finding, tree::Tree};

const RULE: &str = "adr-name";
const FOLDER: &str = "docs/adr/";
/// What explains the folder, and what new records start from.
const OTHERS: &[&str] = &["README.md", "template.md"];

/// Checks the names of the records.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files
        .iter()
        .filter_map(|file| file.path.strip_prefix(FOLDER))
        .filter(|name| !OTHERS.contains(name) && !is_record(name))
        .map(|name| {
            let message = "expected YYYY-MM-DD-title.md, the title in lower case with hyphens";
            Finding::new(RULE, &format!("{FOLDER}{name}"), 0, message)
        })
        .collect()
}

fn is_record(name: &str) -> bool {
    let parts: Option<(&str, &str)> =
        name.strip_suffix(".md").and_then(|stem| Some((stem.get(..10)?, stem.get(10..)?)));
    let Some((date, title)) = parts else { return false };
    let title_fits = title.len() > 1
        && title.starts_with('-')
        && title.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    is_date(date) && title_fits
}

fn is_date(date: &str) -> bool {
    let numbers: Vec<&str> = date.split('-').collect();
    let [year, month, day] = numbers.as_slice() else { return false };
    let within = |text: &str, digits: usize, from: u32, to: u32| {
        text.len() == digits && text.parse().is_ok_and(|number: u32| (from..=to).contains(&number))
    };
    within(year, 4, 2020, 2100) && within(month, 2, 1, 12) && within(day, 2, 1, 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(name: &str) -> bool {
        !check(&Tree::of(&[(&format!("{FOLDER}{name}"), "")])).is_empty()
    }

    #[test]
    fn a_record_without_its_date_is_caught() {
        assert!(caught("storage.md"));
        assert!(caught("0001-storage.md"));
        assert!(caught("2026-13-01-storage.md"));
        assert!(caught("2026-11-23-Storage Engine.md"));
        assert!(caught("2026-11-23.md"));
        assert!(!caught("2026-11-23-storage-engine.md"));
        assert!(!caught("README.md"));
    }
}
