//! What the demo claims, and whether it saw it hold.

use serde_json::{Value, json};

/// One claim.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// In a sentence.
    pub(super) text: String,
    /// Whether it held.
    pub(super) held: bool,
    /// What was seen.
    pub(super) seen: String,
}

/// All claims in the order in which they were checked.
#[derive(Debug, Default)]
pub(super) struct Claims {
    list: Vec<Claim>,
    interrupted: Option<String>,
}

impl Claims {
    /// Notes what was seen of a claim.
    pub(super) fn check(&mut self, text: &str, held: bool, seen: impl Into<String>) {
        self.list.push(Claim { text: text.to_owned(), held, seen: seen.into() });
    }

    /// The demo didn't get to the rest.
    pub(super) fn interrupted(&mut self, why: &str) {
        self.interrupted = Some(why.to_owned());
    }

    /// Why the demo didn't get to the rest.
    pub(super) fn why_interrupted(&self) -> Option<&str> {
        self.interrupted.as_deref()
    }

    /// The claims.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Claim> {
        self.list.iter()
    }

    /// Whether every claim was reached and held.
    pub(super) fn all_held(&self) -> bool {
        self.interrupted.is_none() && !self.list.is_empty() && self.list.iter().all(|claim| claim.held)
    }

    /// How many held.
    pub(super) fn held(&self) -> usize {
        self.list.iter().filter(|claim| claim.held).count()
    }

    /// For programs.
    pub(super) fn value(&self) -> Value {
        let claim = |claim: &Claim| json!({ "claim": claim.text, "held": claim.held, "seen": claim.seen });
        self.list.iter().map(claim).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shown_is_nothing_held() {
        let mut claims = Claims::default();
        assert!(!claims.all_held());
        claims.check("it works", true, "it did");
        assert!(claims.all_held());
        claims.interrupted("power cut");
        assert!(!claims.all_held());
    }

    #[test]
    fn one_broken_claim_breaks_the_demo() {
        let mut claims = Claims::default();
        claims.check("one", true, "");
        claims.check("two", false, "seen otherwise");
        assert!(!claims.all_held());
        assert_eq!(claims.held(), 1);
    }
}
