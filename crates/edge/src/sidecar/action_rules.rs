//! Which tool, model, resource and class of data an HTTP request stands for: rules that an operator writes, one a line.
//!
//! ```text
//! POST /tools/{tool}           => tool={tool} resource={host}
//! *    /v1/chat/completions    => tool=llm.chat model={header:x-model}
//! GET  /files/{rest*}          => tool=files.read resource={rest}
//! ```
//!
//! The first rule whose methods and path fit counts. A request that no rule fits, or that lacks what its rule names, is no
//! action that anybody could judge, and is denied: a kill of one tool must not be escaped by leaving the tool out. A
//! source that may be missing says so: `model={header:x-model?}`.

use std::{fmt, str::FromStr};

use haltline_core::limits::{SIDECAR_RULE_BYTES_MAX, SIDECAR_RULES_MAX};

use super::{
    request_path::{self, PathRefused},
    rule_template::{Template, TemplateError, is_name},
};
use crate::enforce::Action;

/// Why a text is no list of rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Not `METHODS PATH => KEY=TEMPLATE …`.
    #[error(
        "rule {line}: expected `METHODS PATH => KEY=TEMPLATE …`, as `POST /tools/{{tool}} => tool={{tool}}`"
    )]
    Form {
        /// Which rule, from 1.
        line: usize,
    },
    /// A method that isn't one.
    #[error("rule {line}: `{got}` is no list of methods: expected `*`, or as `GET,POST`")]
    Methods {
        /// Which rule, from 1.
        line: usize,
        /// What came.
        got: String,
    },
    /// A path pattern out of form.
    #[error(
        "rule {line}: `{got}` is no pattern of a path: expected as `/tools/{{tool}}/call` or `/files/{{rest*}}`, each name once, \
         `*` only at the end, and none of method, host, path as a name"
    )]
    Path {
        /// Which rule, from 1.
        line: usize,
        /// What came.
        got: String,
    },
    /// What an action's part is made of is out of form.
    #[error("rule {line}: in `{key}=`: {source}")]
    Template {
        /// Which rule, from 1.
        line: usize,
        /// Of which part.
        key: String,
        /// What is wrong.
        source: TemplateError,
    },
    /// A part that an action doesn't have, or has twice.
    #[error(
        "rule {line}: `{got}`: expected each of `tool=`, `model=`, `resource=` at most once, and at least one"
    )]
    Part {
        /// Which rule, from 1.
        line: usize,
        /// What came.
        got: String,
    },
    /// Too many or too long.
    #[error(
        "at most {SIDECAR_RULES_MAX} rules of {SIDECAR_RULE_BYTES_MAX} bytes each are allowed, and at least one"
    )]
    Bounds,
}

/// Why a request is no action that could be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAction {
    /// The path can't be read in one way.
    #[error(transparent)]
    Path(#[from] PathRefused),
    /// No rule fits.
    #[error("no rule of `sidecar.actions` fits this method and path")]
    NoRule,
    /// The rule that fits names something that the request lacks.
    #[error("the request lacks {source_name}, from which the action's {part} is made")]
    Missing {
        /// The part of the action.
        part: &'static str,
        /// What it is made from.
        source_name: String,
    },
    /// The rule that fits names a header that the request has several times, or not as text.
    #[error("{source_name} must come once, as text without a comma; the action's {part} is made from it")]
    NotOne {
        /// The part of the action.
        part: &'static str,
        /// What it is made from.
        source_name: String,
    },
}

impl NoAction {
    /// A stable code for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Path(_) => "PATH_AMBIGUOUS",
            Self::NoRule => "NO_RULE",
            Self::Missing { .. } => "ACTION_INCOMPLETE",
            Self::NotOne { .. } => "ACTION_AMBIGUOUS",
        }
    }
}

/// What a request has under one header name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderFound<'a> {
    /// Nothing.
    Missing,
    /// One value.
    One(&'a str),
    /// Several, or one that isn't text.
    NotOne,
}

/// Headers of a request, wherever they are kept. Names are lower-case.
pub trait HeaderSource {
    /// What there is under a name.
    fn header(&self, name: &str) -> HeaderFound<'_>;
}

/// A request as rules see it.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The method, as `POST`.
    pub method: &'a str,
    /// The target: path and query, undecoded.
    pub target: &'a str,
    /// Host, and port if it names one.
    pub host: &'a str,
    /// The headers.
    pub headers: &'a dyn HeaderSource,
}

impl fmt::Debug for Call<'_> {
    // Headers carry tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method).field("host", &self.host).finish_non_exhaustive()
    }
}

/// What a request is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActionNames {
    /// The tool.
    pub tool: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The resource.
    pub resource: Option<String>,
    /// The class of data.
    pub data_class: Option<String>,
}

impl ActionNames {
    /// What an enforcer is asked about.
    #[must_use]
    pub fn action(&self) -> Action<'_> {
        Action {
            tool: self.tool.as_deref(),
            model: self.model.as_deref(),
            resource: self.resource.as_deref(),
            data_class: self.data_class.as_deref(),
        }
    }
}

/// The rules, in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionRules(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// As it was written, to show it.
    text: String,
    /// Empty: every method.
    methods: Vec<String>,
    path: Vec<Step>,
    tool: Option<Template>,
    model: Option<Template>,
    resource: Option<Template>,
    data_class: Option<Template>,
}

/// One segment of a path pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Literal(String),
    /// One segment, by this name.
    One(String),
    /// All that is left, none included, by this name.
    Rest(String),
}

/// What the names of a path pattern stood for in one request.
pub(super) type Captures<'a> = Vec<(&'a str, String)>;

/// Takes every request as an action: the method as the tool, host and path as the resource.
pub(crate) const DEFAULT_RULES: &str = "* /{rest*} => tool=http.{method} resource={host}{path}";

impl Default for ActionRules {
    fn default() -> Self {
        DEFAULT_RULES.parse().expect("the default is checked by a test")
    }
}

impl ActionRules {
    /// What a request is about.
    ///
    /// # Errors
    /// Why nobody could judge it.
    pub fn names(&self, call: &Call<'_>) -> Result<ActionNames, NoAction> {
        let segments = request_path::segments(call.target)?;
        let fitting = self.0.iter().find_map(|rule| Some((rule, rule.captures(call.method, &segments)?)));
        let (rule, captures) = fitting.ok_or(NoAction::NoRule)?;
        let make = |part, template: &Option<Template>| match template {
            Some(template) => template.fill(part, call, &segments, &captures),
            None => Ok(None),
        };
        Ok(ActionNames {
            tool: make("tool", &rule.tool)?,
            model: make("model", &rule.model)?,
            resource: make("resource", &rule.resource)?,
            data_class: make("data_class", &rule.data_class)?,
        })
    }
}

impl Rule {
    fn captures<'a>(&'a self, method: &str, segments: &[String]) -> Option<Captures<'a>> {
        if !self.methods.is_empty() && !self.methods.iter().any(|known| known == method) {
            return None;
        }
        let mut captures = Vec::new();
        let mut left = segments.iter();
        for step in &self.path {
            match step {
                Step::Literal(literal) => (left.next()? == literal).then_some(())?,
                Step::One(name) => captures.push((name.as_str(), left.next()?.clone())),
                Step::Rest(name) => {
                    captures.push((name.as_str(), left.as_slice().join("/")));
                    left = [].iter();
                }
            }
        }
        left.next().is_none().then_some(captures)
    }

    fn parse(text: &str, line: usize) -> Result<Self, RuleError> {
        let (head, parts) = text.split_once("=>").ok_or(RuleError::Form { line })?;
        let words: Vec<_> = head.split_whitespace().collect();
        let [methods, path] = words[..] else { return Err(RuleError::Form { line }) };
        let mut rule = Self {
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            methods: parse_methods(methods).ok_or(RuleError::Methods { line, got: methods.into() })?,
            path: parse_path(path).ok_or(RuleError::Path { line, got: path.into() })?,
            tool: None,
            model: None,
            resource: None,
            data_class: None,
        };
        for part in parts.split_whitespace() {
            rule.add_part(part, line)?;
        }
        let parts_made = [&rule.tool, &rule.model, &rule.resource, &rule.data_class];
        if parts_made.iter().any(|part| part.is_some()) {
            Ok(rule)
        } else {
            Err(RuleError::Part { line, got: parts.trim().into() })
        }
    }

    fn add_part(&mut self, part: &str, line: usize) -> Result<(), RuleError> {
        let refused = || RuleError::Part { line, got: part.into() };
        let (key, template) = part.split_once('=').ok_or_else(refused)?;
        let slot = match key {
            "tool" => &mut self.tool,
            "model" => &mut self.model,
            "resource" => &mut self.resource,
            "data_class" => &mut self.data_class,
            _ => return Err(refused()),
        };
        if slot.is_some() {
            return Err(refused());
        }
        let names: Vec<&str> = self.path.iter().filter_map(Step::name).collect();
        let parsed = Template::parse(template, &names);
        *slot = Some(parsed.map_err(|source| RuleError::Template { line, key: key.into(), source })?);
        Ok(())
    }
}

impl Step {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::One(name) | Self::Rest(name) => Some(name),
        }
    }
}

fn parse_methods(text: &str) -> Option<Vec<String>> {
    if text == "*" {
        return Some(Vec::new());
    }
    let method = |method: &str| {
        let fits = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        fits.then(|| method.to_owned())
    };
    text.split(',').map(method).collect()
}

fn parse_path(text: &str) -> Option<Vec<Step>> {
    let inner = text.strip_prefix('/')?;
    if inner.is_empty() {
        return Some(Vec::new());
    }
    let steps: Vec<Step> = inner.split('/').map(parse_step).collect::<Option<_>>()?;
    let rest_is_last = steps.iter().rev().skip(1).all(|step| !matches!(step, Step::Rest(_)));
    let mut names: Vec<_> = steps.iter().filter_map(Step::name).collect();
    names.sort_unstable();
    let each_once = names.windows(2).all(|pair| pair[0] != pair[1]);
    (rest_is_last && each_once).then_some(steps)
}

fn parse_step(text: &str) -> Option<Step> {
    const TAKEN: [&str; 3] = ["method", "host", "path"];
    let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        let literal = !text.is_empty() && !text.contains(['{', '}', '*', '%', '?', '#']);
        return literal.then(|| Step::Literal(text.into()));
    };
    let (name, rest) = name.strip_suffix('*').map_or((name, false), |name| (name, true));
    if !is_name(name) || TAKEN.contains(&name) {
        return None;
    }
    Some(if rest { Step::Rest(name.into()) } else { Step::One(name.into()) })
}

impl FromStr for ActionRules {
    type Err = RuleError;

    /// One rule a line, or several on a line with `;` between them. Lines that begin with `#` are for people.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        let lines = text.split(['\n', ';']).map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let rules: Vec<Rule> = lines
            .enumerate()
            .take(SIDECAR_RULES_MAX + 1)
            .map(|(position, line)| match line.len() {
                0..=SIDECAR_RULE_BYTES_MAX => Rule::parse(line, position + 1),
                _ => Err(RuleError::Bounds),
            })
            .collect::<Result<_, _>>()?;
        if (1..=SIDECAR_RULES_MAX).contains(&rules.len()) { Ok(Self(rules)) } else { Err(RuleError::Bounds) }
    }
}

impl fmt::Display for ActionRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        self.0.iter().try_for_each(|rule| {
            write!(f, "{separator}{}", rule.text)?;
            separator = "\n";
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
