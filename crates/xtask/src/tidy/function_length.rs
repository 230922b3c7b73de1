//! No function is longer than a screen. Longer ones that exist are in a list that may only shrink: a function that grows
//! beyond its entry fails, and so does an entry that is longer than its function.

use std::{collections::BTreeMap, fmt};

use syn::{
    Block, ImplItemFn, ItemFn, ItemImpl, ItemMod, ItemTrait, Signature, TraitItemFn, Type,
    visit::{self, Visit},
};

use super::{Finding, rust_file::RustFile, tree::Tree};
use crate::error::XtaskError;

const RULE: &str = "function-length";
/// Lines of a function, from `fn` to its closing brace.
const LINES_MAX: usize = 70;
/// The list of longer ones.
pub(super) const LIST: &str = "crates/xtask/tidy/long-functions.txt";

const LIST_HEADING: &str = "\
# Functions of more than 70 lines that exist: file, function, lines. This list may only shrink.
# `cargo xtask fix` removes what is no longer long; nothing adds to it.
";

/// Functions by (file, name), with their lines.
type Lengths = BTreeMap<(String, String), usize>;

/// The list of long functions as it stands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ratchet(Lengths);

impl Ratchet {
    /// Reads the list; a missing file is an empty list.
    pub(super) fn read(tree: &Tree) -> Result<Ratchet, XtaskError> {
        let mut entries = Lengths::new();
        for (number, line) in tree.text(LIST).unwrap_or_default().lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = parse_entry(line).ok_or_else(|| XtaskError::Ratchet {
                path: LIST.to_owned(),
                line: number + 1,
                got: line.to_owned(),
            })?;
            entries.insert((entry.0, entry.1), entry.2);
        }
        Ok(Ratchet(entries))
    }

    /// This list without what is no longer long, and with the lines of what is shorter than listed.
    pub(super) fn shortened(&self, actual: &Lengths) -> Ratchet {
        let kept = self
            .0
            .iter()
            .filter_map(|(key, listed)| actual.get(key).map(|lines| (key.clone(), (*lines).min(*listed))));
        Ratchet(kept.collect())
    }
}

/// `file function lines`; a function's name may hold spaces, as in `<A as B>::f`.
fn parse_entry(line: &str) -> Option<(String, String, usize)> {
    let (file, rest) = line.split_once(' ')?;
    let (function, lines) = rest.rsplit_once(' ')?;
    Some((file.to_owned(), function.to_owned(), lines.parse().ok()?))
}

impl fmt::Display for Ratchet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LIST_HEADING)?;
        self.0.iter().try_for_each(|((file, function), lines)| writeln!(f, "{file} {function} {lines}"))
    }
}

/// Compares the functions with the list.
pub(super) fn check(files: &[RustFile], listed: &Ratchet) -> Vec<Finding> {
    let actual = long_functions(files);
    let mut findings = Vec::new();
    for ((file, function), lines) in &actual {
        match listed.0.get(&(file.clone(), function.clone())) {
            Some(listed) if lines <= listed => {}
            Some(listed) => findings.push(Finding::new(
                RULE,
                file,
                0,
                format!("`{function}` grew from {listed} to {lines} lines; its entry may only shrink"),
            )),
            None => findings.push(Finding::new(
                RULE,
                file,
                0,
                format!("`{function}` has {lines} lines, more than {LINES_MAX}: split it where a name helps"),
            )),
        }
    }
    for ((file, function), lines) in &listed.0 {
        let now = actual.get(&(file.clone(), function.clone())).copied().unwrap_or_default();
        if now < *lines {
            let message = format!(
                "`{function}` of {file} is listed with {lines} lines and is shorter now: run `cargo xtask fix`"
            );
            findings.push(Finding::new(RULE, LIST, 0, message));
        }
    }
    findings
}

/// Every function above the limit.
pub(super) fn long_functions(files: &[RustFile]) -> Lengths {
    let mut lengths = Lengths::new();
    for file in files {
        let mut measure = Measure { within: Vec::new(), found: Vec::new() };
        measure.visit_file(&file.syntax);
        for (function, lines) in measure.found.into_iter().filter(|(_, lines)| *lines > LINES_MAX) {
            let longest = lengths.entry((file.path.clone(), function)).or_default();
            *longest = lines.max(*longest);
        }
    }
    lengths
}

struct Measure {
    /// Names of the modules, types and functions around.
    within: Vec<String>,
    found: Vec<(String, usize)>,
}

impl Measure {
    fn function(&mut self, signature: &Signature, block: &Block) {
        let start = signature.fn_token.span.start().line;
        let end = block.brace_token.span.close().end().line;
        let mut name = self.within.clone();
        name.push(signature.ident.to_string());
        self.found.push((name.join("::"), end - start + 1));
    }

    fn inside(&mut self, name: String, visit: impl FnOnce(&mut Measure)) {
        self.within.push(name);
        visit(self);
        self.within.pop();
    }
}

impl<'ast> Visit<'ast> for Measure {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.inside(module.ident.to_string(), |inner| visit::visit_item_mod(inner, module));
    }

    fn visit_item_impl(&mut self, block: &'ast ItemImpl) {
        let this = type_name(&block.self_ty);
        let name = match block.trait_.as_ref().and_then(|(path, _)| path.segments.last()) {
            Some(of) => format!("<{this} as {}>", of.ident),
            None => this,
        };
        self.inside(name, |inner| visit::visit_item_impl(inner, block));
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.inside(item.ident.to_string(), |inner| visit::visit_item_trait(inner, item));
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.function(&function.sig, &function.block);
        let name = function.sig.ident.to_string();
        self.inside(name, |inner| visit::visit_item_fn(inner, function));
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.function(&function.sig, &function.block);
        let name = function.sig.ident.to_string();
        self.inside(name, |inner| visit::visit_impl_item_fn(inner, function));
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.function(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

fn type_name(this: &Type) -> String {
    match this {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        Type::Reference(reference) => Some(format!("&{}", type_name(&reference.elem))),
        _ => None,
    }
    .unwrap_or_else(|| "_".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "crates/a/src/lib.rs";

    fn source(lines: usize) -> String {
        format!("struct A;\nimpl A {{\n    fn f() {{\n{}    }}\n}}\n", "        g();\n".repeat(lines - 2))
    }

    fn findings(lines: usize, list: &str) -> Vec<Finding> {
        let text = source(lines);
        let tree = Tree::of(&[(FILE, &text), (LIST, list)]);
        let (files, _) = RustFile::parse_all(&tree);
        check(&files, &Ratchet::read(&tree).expect("the list is well formed"))
    }

    #[test]
    fn a_long_function_is_caught_and_a_short_one_is_not() {
        assert!(findings(70, "").is_empty());
        let caught = findings(71, "");
        assert_eq!(caught.len(), 1);
        assert!(caught[0].message.contains("`A::f` has 71 lines"), "{}", caught[0]);
    }

    #[test]
    fn the_list_may_only_shrink() {
        let list = format!("{LIST_HEADING}{FILE} A::f 80\n");
        assert!(findings(80, &list).is_empty());
        assert!(findings(81, &list)[0].message.contains("grew from 80 to 81"));
        assert!(findings(75, &list)[0].message.contains("shorter now"));
        assert!(findings(20, &list)[0].message.contains("shorter now"));
        assert!(findings(20, &format!("{FILE} A::gone 90\n"))[0].message.contains("shorter now"));
    }

    #[test]
    fn fixing_shortens_and_never_lengthens() {
        let listed = |lines: usize| {
            let list = format!("{FILE} A::f {lines}\n");
            Ratchet::read(&Tree::of(&[(LIST, &list)])).expect("the list is well formed")
        };
        let actual = |lines: usize| {
            let (files, _) = RustFile::parse_all(&Tree::of(&[(FILE, &source(lines))]));
            long_functions(&files)
        };
        assert_eq!(listed(90).shortened(&actual(80)), listed(80));
        assert_eq!(listed(90).shortened(&actual(99)), listed(90));
        assert_eq!(listed(90).shortened(&actual(20)), Ratchet::default());
        assert_eq!(Ratchet::default().shortened(&actual(99)), Ratchet::default());
    }

    #[test]
    fn a_malformed_list_is_an_error() {
        let error = Ratchet::read(&Tree::of(&[(LIST, "only-a-file\n")])).expect_err("it has no lines");
        assert!(error.to_string().contains("long-functions.txt:1"), "{error}");
    }
}
