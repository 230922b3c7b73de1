//! What rules make of requests, and what is said of rules that are none.
#![allow(clippy::unwrap_used)]

use super::*;

struct Pairs(Vec<(&'static str, &'static str)>);

impl HeaderSource for Pairs {
    fn header(&self, name: &str) -> HeaderFound<'_> {
        let mut values = self.0.iter().filter(|(key, _)| *key == name);
        match (values.next(), values.next()) {
            (None, _) => HeaderFound::Missing,
            (Some((_, value)), None) => HeaderFound::One(value),
            _ => HeaderFound::NotOne,
        }
    }
}

fn names(
    rules: &str,
    request: &str,
    headers: &[(&'static str, &'static str)],
) -> Result<ActionNames, NoAction> {
    let (method, target) = request.split_once(' ').unwrap();
    let headers = Pairs(headers.to_vec());
    let call = Call { method, target, host: "Tools.Example:8080", headers: &headers };
    rules.parse::<ActionRules>().unwrap().names(&call)
}

fn shown(rules: &str, request: &str, headers: &[(&'static str, &'static str)]) -> String {
    let names = names(rules, request, headers).unwrap();
    let part = |part: Option<String>| part.unwrap_or("-".into());
    [names.tool, names.model, names.resource].map(part).join(" ")
}

const RULES: &str = "
    # tools by name
    POST,PUT /tools/{tool} => tool={tool} resource={host}
    POST /v1/chat => tool=llm.chat model={header:X-Model}
    GET  /files/{rest*} => tool=files.{method} resource={rest} model={header:x-model?}
";

#[test]
fn the_first_rule_that_fits_names_the_action() {
    assert_eq!(shown(RULES, "POST /tools/p%61y.out?x=1", &[]), "pay.out - tools.example:8080");
    assert_eq!(shown(RULES, "POST /v1/chat", &[("x-model", " m-1 ")]), "llm.chat m-1 -");
    assert_eq!(shown(RULES, "GET /files/a/b%20c", &[]), "files.get - a/b c");
    let first = "* /a => tool=one; * /{x} => tool=two";
    assert_eq!(shown(first, "GET /a", &[]), "one - -");
    assert_eq!(shown(first, "GET /b", &[]), "two - -");
    let class = names("GET /{class}/{x*} => data_class={class}", "GET /pii/1", &[]).unwrap();
    assert_eq!(class.action(), Action::default().with_data("pii"));
}

#[test]
fn the_default_takes_everything() {
    let rules = ActionRules::default().to_string();
    assert_eq!(shown(&rules, "DELETE /a/b?c", &[]), "http.delete - tools.example:8080/a/b");
    assert_eq!(shown(&rules, "GET /", &[]), "http.get - tools.example:8080/");
}

#[test]
fn what_no_rule_can_name_is_no_action() {
    let code = |request, headers| names(RULES, request, headers).unwrap_err().code();
    assert_eq!(code("DELETE /tools/x", &[]), "NO_RULE");
    assert_eq!(code("POST /tools/x/y", &[]), "NO_RULE");
    assert_eq!(code("POST /tools", &[]), "NO_RULE");
    assert_eq!(code("POST /tools/..", &[]), "PATH_AMBIGUOUS");
    assert_eq!(code("POST /v1/chat", &[]), "ACTION_INCOMPLETE");
    assert_eq!(code("POST /v1/chat", &[("x-model", "")]), "ACTION_INCOMPLETE");
    assert_eq!(code("POST /v1/chat", &[("x-model", "a"), ("x-model", "b")]), "ACTION_AMBIGUOUS");
    assert_eq!(code("POST /v1/chat", &[("x-model", "a,b")]), "ACTION_AMBIGUOUS");
    assert_eq!(code("GET /files/", &[]), "ACTION_INCOMPLETE");
}

#[test]
fn rules_are_shown_as_they_read_back() {
    let rules: ActionRules = RULES.parse().unwrap();
    assert_eq!(
        rules.to_string().lines().next(),
        Some("POST,PUT /tools/{tool} => tool={tool} resource={host}")
    );
    assert_eq!(rules.to_string().parse(), Ok(rules));
}

#[test]
fn wrong_rules_say_why() {
    for (rule, part) in [
        ("", "at least one"),
        ("POST /a", "rule 1: expected `METHODS PATH =>"),
        ("* /a => tool=x\npost /a => tool=x", "rule 2: `post` is no list of methods"),
        ("* a => tool=x", "is no pattern of a path"),
        ("* /{path} => tool=x", "is no pattern of a path"),
        ("* /{x*}/a => tool=x", "is no pattern of a path"),
        ("* /{x}/{x} => tool=x", "is no pattern of a path"),
        ("* /a%20b => tool=x", "is no pattern of a path"),
        ("* /a => tul=x", "`tul=x`: expected each of `tool=`"),
        ("* /a => tool=x tool=y", "`tool=y`: expected each of"),
        ("* /a => ", "at least one"),
        ("* /a => tool={x}", "in `tool=`: `{x}` is no source"),
        ("* /a => tool={header:}", "is no source"),
        ("* /a => tool={x", "is no template"),
        ("* /a => tool=", "is no template"),
    ] {
        let error = rule.parse::<ActionRules>().unwrap_err().to_string();
        assert!(error.contains(part), "{rule}: {error}");
    }
    let many = "* /a => tool=x\n".repeat(SIDECAR_RULES_MAX + 1);
    assert_eq!(many.parse::<ActionRules>(), Err(RuleError::Bounds));
}
