//! Rust files, parsed, with the knowledge of which parts are tests.
//!
//! Test code is: the packages `tests` and `testkit`; a crate's own `tests` folder; a file that is only reached through
//! `#[cfg(test)] mod name;`; and inside a file every item under `#[cfg(test)]` or `#[test]` (also `#[tokio::test]`).

use proc_macro2::{LineColumn, Span};
use syn::{
    Attribute, File, ImplItemFn, Item, ItemFn, ItemMod, Meta,
    spanned::Spanned as _,
    visit::{self, Visit},
};

use super::{
    Finding,
    tokens::{Token, flatten},
    tree::Tree,
};

/// One parsed file.
pub(super) struct RustFile {
    /// Relative to the workspace root.
    pub(super) path: String,
    pub(super) text: String,
    pub(super) syntax: File,
    /// Every token, in order, tests included.
    pub(super) tokens: Vec<Token>,
    is_test: bool,
    test_ranges: Vec<(LineColumn, LineColumn)>,
}

impl RustFile {
    /// Parses every Rust file of the tree; what doesn't parse is a finding.
    pub(super) fn parse_all(tree: &Tree) -> (Vec<RustFile>, Vec<Finding>) {
        let mut files = Vec::new();
        let mut findings = Vec::new();
        for file in tree.files.iter().filter(|file| file.path.ends_with(".rs")) {
            match RustFile::parse(&file.path, &file.text) {
                Ok(parsed) => files.push(parsed),
                Err(error) => findings.push(Finding::new(
                    "syntax",
                    &file.path,
                    error.span().start().line,
                    format!("does not parse: {error}"),
                )),
            }
        }
        let test_modules: Vec<String> = files.iter().flat_map(RustFile::test_module_files).collect();
        for file in &mut files {
            file.is_test |= test_modules.iter().any(|module| is_of_module(&file.path, module));
        }
        (files, findings)
    }

    fn parse(path: &str, text: &str) -> syn::Result<RustFile> {
        let syntax = syn::parse_file(text)?;
        let stream = text
            .parse()
            .map_err(|error: proc_macro2::LexError| syn::Error::new(error.span(), error.to_string()))?;
        let mut finder = TestFinder::default();
        finder.visit_file(&syntax);
        Ok(RustFile {
            path: path.to_owned(),
            text: text.to_owned(),
            is_test: is_made_for_tests(path) || has_test_attribute(&syntax.attrs),
            syntax,
            tokens: flatten(stream),
            test_ranges: finder.ranges,
        })
    }

    /// The tokens outside of tests.
    pub(super) fn production_tokens(&self) -> Vec<&Token> {
        self.tokens.iter().filter(|token| !self.is_test && !self.is_in_test(token.at)).collect()
    }

    /// Whether the token at this place belongs to a test.
    pub(super) fn is_in_test(&self, at: LineColumn) -> bool {
        self.is_test || self.test_ranges.iter().any(|(start, end)| *start <= at && at < *end)
    }

    /// Paths without `.rs` of the modules that this file declares for tests only.
    fn test_module_files(&self) -> Vec<String> {
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let stem = self.path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).unwrap_or_default();
        let base = match stem {
            "lib" | "main" | "mod" => folder.to_owned(),
            _ => format!("{folder}/{stem}"),
        };
        let declared = self.syntax.items.iter().filter_map(|item| match item {
            Item::Mod(module) if module.content.is_none() && has_test_attribute(&module.attrs) => {
                Some(module)
            }
            _ => None,
        });
        declared
            .map(|module| match path_attribute(&module.attrs) {
                Some(path) => format!("{folder}/{}", path.trim_end_matches(".rs")),
                None => format!("{base}/{}", module.ident),
            })
            .collect()
    }
}

fn is_made_for_tests(path: &str) -> bool {
    path.starts_with("tests/") || path.starts_with("crates/testkit/") || path.contains("/tests/")
}

fn is_of_module(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// Whether an attribute says that the item is compiled for tests only.
fn has_test_attribute(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let tokens = flatten(list.tokens.clone());
            tokens.iter().any(|token| token.text == "test") && !tokens.iter().any(|token| token.text == "not")
        }
        meta => meta.path().segments.last().is_some_and(|segment| segment.ident == "test"),
    })
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) => Some(path.value()),
            _ => None,
        },
        _ => None,
    })
}

#[derive(Default)]
struct TestFinder {
    ranges: Vec<(LineColumn, LineColumn)>,
}

impl TestFinder {
    /// Notes the item if its attributes make it a test; says whether they do.
    fn note(&mut self, attributes: &[Attribute], span: Span) -> bool {
        let is_test = has_test_attribute(attributes);
        if is_test {
            self.ranges.push((span.start(), span.end()));
        }
        is_test
    }
}

impl<'ast> Visit<'ast> for TestFinder {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !self.note(&module.attrs, module.span()) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if !self.note(&function.attrs, function.span()) {
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !self.note(&function.attrs, function.span()) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item(&mut self, item: &'ast Item) {
        let noted = match item {
            Item::Use(item) => self.note(&item.attrs, item.span()),
            Item::Impl(item) => self.note(&item.attrs, item.span()),
            Item::Struct(item) => self.note(&item.attrs, item.span()),
            Item::Enum(item) => self.note(&item.attrs, item.span()),
            Item::Const(item) => self.note(&item.attrs, item.span()),
            Item::Static(item) => self.note(&item.attrs, item.span()),
            _ => false,
        };
        if !noted {
            visit::visit_item(self, item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "\
        fn shipped() { one(); }\n\
        #[cfg(test)]\nmod tests { fn hidden() { two(); } }\n\
        #[tokio::test]\nasync fn also_hidden() { three(); }\n\
        #[cfg(not(test))]\nfn shipped_too() { four(); }\n";

    fn production_words(file: &RustFile) -> Vec<&str> {
        file.production_tokens().into_iter().map(|token| token.text.as_str()).collect()
    }

    #[test]
    fn tells_tests_from_what_ships() {
        let tree = Tree::of(&[("crates/a/src/lib.rs", MIXED)]);
        let (files, findings) = RustFile::parse_all(&tree);
        assert_eq!(findings, []);
        let words = production_words(&files[0]);
        assert!(words.contains(&"one") && words.contains(&"four"), "{words:?}");
        assert!(!words.contains(&"two") && !words.contains(&"three"), "{words:?}");
    }

    #[test]
    fn a_file_behind_cfg_test_is_a_test() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "#[cfg(test)]\nmod foo_test;\nmod bar;\n"),
            ("crates/a/src/foo_test.rs", "fn x() {}"),
            ("crates/a/src/bar.rs", "#[cfg(test)]\nmod deep;\nfn y() {}"),
            ("crates/a/src/bar/deep.rs", "fn z() {}"),
        ]);
        let (files, _) = RustFile::parse_all(&tree);
        let shipped: Vec<&str> =
            files.iter().filter(|file| !file.is_test).map(|file| file.path.as_str()).collect();
        assert_eq!(shipped, ["crates/a/src/lib.rs", "crates/a/src/bar.rs"]);
    }

    #[test]
    fn a_file_that_does_not_parse_is_a_finding() {
        let (files, findings) = RustFile::parse_all(&Tree::of(&[("crates/a/src/lib.rs", "fn broken( {}")]));
        assert!(files.is_empty());
        assert_eq!(findings[0].rule, "syntax");
    }
}
