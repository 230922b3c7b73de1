//! Every reason that a caller can meet is documented.

const DOCUMENT: &str = include_str!("../../../../docs/api-errors.md");
const MACHINE: &str = include_str!("../../../core/src/rejection.rs");
const NODE: &str = include_str!("../../src/refused.rs");
const WIRE: &str = include_str!("../../../wire/src/convert.rs");

/// The quoted words of capitals in a source: that is how reasons are written, and nothing else there is.
fn reasons(source: &str) -> impl Iterator<Item = &str> {
    let is_reason =
        |word: &&str| word.len() > 3 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    source.split('"').filter(is_reason)
}

#[test]
fn every_reason_is_documented() {
    let all: Vec<_> = [MACHINE, NODE, WIRE].into_iter().flat_map(reasons).collect();
    assert!(all.len() > 50 && all.contains(&"UNKNOWN_KILL") && all.contains(&"INVALID_FIELD"), "{all:?}");
    for reason in all {
        assert!(DOCUMENT.contains(&format!("`{reason}`")), "{reason} is not in docs/api-errors.md");
    }
}
