//! Every bound says why it is what it is: a constant of the core's `limits.rs` without a doc comment is a bare number.

use syn::{Expr, ExprLit, Item, Lit, Meta};

use super::{Finding, rust_file::RustFile};

const RULE: &str = "limits";
const FILE: &str = "crates/core/src/limits.rs";

/// Checks the file of limits.
pub(super) fn check(files: &[RustFile]) -> Vec<Finding> {
    let Some(file) = files.iter().find(|file| file.path == FILE) else {
        return vec![Finding::new(RULE, FILE, 0, "the file of limits is missing")];
    };
    let constants = file.syntax.items.iter().filter_map(|item| match item {
        Item::Const(constant) => Some(constant),
        _ => None,
    });
    constants
        .filter(|constant| !constant.attrs.iter().any(|attribute| has_words(&attribute.meta)))
        .map(|constant| {
            let message =
                format!("`{}` has no doc comment: say what it bounds and why there", constant.ident);
            Finding::new(RULE, FILE, constant.ident.span().start().line, message)
        })
        .collect()
}

/// Whether this is a doc comment with something in it.
fn has_words(meta: &Meta) -> bool {
    match meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => !text.value().trim().is_empty(),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::Tree;

    fn caught(text: &str) -> usize {
        check(&RustFile::parse_all(&Tree::of(&[(FILE, text)])).0).len()
    }

    #[test]
    fn a_bare_number_is_caught() {
        assert_eq!(caught("//! L.\npub const A_MAX: u64 = 3;"), 1);
        assert_eq!(caught("//! L.\n///\npub const A_MAX: u64 = 3;"), 1);
        assert_eq!(caught("//! L.\n/// As many as fit a page.\npub const A_MAX: u64 = 3;"), 0);
    }

    #[test]
    fn a_missing_file_is_caught() {
        assert_eq!(check(&[]).len(), 1);
    }
}
