//! Selectors say what a kill stops: a conjunction over path, agent, instance, lineage, labels, tool, model, resource.
//!
//! A selector with no condition is everything. Node and edge use this one matcher, so they can't drift apart.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{GrantId, InstanceId, excerpt},
    limits::PATTERN_BYTES_MAX,
    path::{AgentPath, FleetPath},
    text::Labels,
    text_encoding::encode_as_text,
};

/// Why a text is no pattern or selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A pattern out of form.
    #[error(
        "`{got}` is no pattern: expected 1 to {PATTERN_BYTES_MAX} printable ASCII characters without spaces; `*` stands for any run of characters"
    )]
    Pattern {
        /// What came, shortened.
        got: String,
    },
    /// An unknown condition.
    #[error(
        "`{got}` is no condition of a selector: expected everything, or fleet=, agent=, instance=, lineage=, label=KEY=VALUE, tool=, model=, resource="
    )]
    Condition {
        /// What came, shortened.
        got: String,
    },
    /// The same condition twice.
    #[error("the condition `{key}` stands there twice; a selector is a conjunction, one value for each")]
    Twice {
        /// Which.
        key: &'static str,
    },
    /// A condition's value out of form.
    #[error("in `{key}=`: {why}")]
    Value {
        /// Which condition.
        key: &'static str,
        /// What was wrong with it.
        why: String,
    },
    /// Conditions that no subject can meet together.
    #[error("agent {agent} does not lie under fleet {fleet}, so the selector could match nothing")]
    Contradiction {
        /// The agent named.
        agent: AgentPath,
        /// The fleet named.
        fleet: FleetPath,
    },
}

/// A pattern over tool, model or resource names, in which `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Box<str>);

encode_as_text!(Pattern);

impl Pattern {
    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a name fits. Time is linear in pattern × name at worst, both bounded.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at_pattern, mut at_name) = (0, 0);
        // Where to go on after a mismatch: behind the last `*`, having let it swallow one character more.
        let mut retry: Option<(usize, usize)> = None;
        while at_name < name.len() {
            match pattern.get(at_pattern) {
                Some(b'*') => {
                    at_pattern += 1;
                    retry = Some((at_pattern, at_name));
                }
                Some(byte) if *byte == name[at_name] => {
                    at_pattern += 1;
                    at_name += 1;
                }
                _ => match retry {
                    Some((behind_star, swallowed)) => {
                        retry = Some((behind_star, swallowed + 1));
                        at_pattern = behind_star;
                        at_name = swallowed + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[at_pattern..].iter().all(|byte| *byte == b'*')
    }

    /// Whether every name that fits `other` surely fits this too. May say no where the answer is yes, never the reverse.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // A `*` in `other` can only be met by a `*` here, which then meets whatever it stands for.
        self.matches(&other.0)
    }
}

impl FromStr for Pattern {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let fits =
            (1..=PATTERN_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.into())) } else { Err(SelectorError::Pattern { got: excerpt(text) }) }
    }
}

impl TryFrom<String> for Pattern {
    type Error = SelectorError;

    fn try_from(text: String) -> Result<Self, SelectorError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.into()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a kill stops: every condition that is set must hold. None set: everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selector {
    /// Fleet subtree.
    pub fleet: Option<FleetPath>,
    /// One agent, all its instances.
    pub agent: Option<AgentPath>,
    /// One running copy.
    pub instance: Option<InstanceId>,
    /// Everything whose authority descends from this grant.
    pub lineage: Option<GrantId>,
    /// Labels that the agent, or a fleet above it, must carry; the nearest value of a key counts.
    pub labels: Labels,
    /// Only actions with such a tool.
    pub tool: Option<Pattern>,
    /// Only actions with such a model.
    pub model: Option<Pattern>,
    /// Only actions on such a resource.
    pub resource: Option<Pattern>,
}

/// What a selector is matched against: one action of one agent, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The agent.
    pub agent: &'a AgentPath,
    /// The running copy, if any.
    pub instance: Option<InstanceId>,
    /// Grants from the root to this one.
    pub lineage: &'a [GrantId],
    /// Effective labels.
    pub labels: &'a Labels,
    /// The action's tool, if it has one.
    pub tool: Option<&'a str>,
    /// The action's model, if it has one.
    pub model: Option<&'a str>,
    /// The action's resource, if it has one.
    pub resource: Option<&'a str>,
}

impl Selector {
    /// Everything under a fleet.
    #[must_use]
    pub fn fleet(path: FleetPath) -> Self {
        Self { fleet: Some(path), ..Self::default() }
    }

    /// Whether no condition is set.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the fleet subtree is the only condition, or there is none.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self { fleet: self.fleet.clone(), ..Self::default() }
    }

    /// The narrowest fleet that holds all that can match, if the selector names one.
    #[must_use]
    pub fn reach(&self) -> Option<FleetPath> {
        self.agent.as_ref().map(AgentPath::fleet).or_else(|| self.fleet.clone())
    }

    /// Whether the subject's action is stopped.
    #[must_use]
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.may_touch(subject.agent, subject.labels)
            && self.instance.is_none_or(|instance| subject.instance == Some(instance))
            && self.lineage.is_none_or(|grant| subject.lineage.contains(&grant))
            && is_met(self.tool.as_ref(), subject.tool)
            && is_met(self.model.as_ref(), subject.model)
            && is_met(self.resource.as_ref(), subject.resource)
    }

    /// Whether some action of this agent could match: path, agent and labels fit.
    #[must_use]
    pub fn may_touch(&self, agent: &AgentPath, labels: &Labels) -> bool {
        self.fleet.as_ref().is_none_or(|fleet| fleet.contains_agent(agent))
            && self.agent.as_ref().is_none_or(|named| named == agent)
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Whether all that matches `other` surely matches this too. May say no where the answer is yes.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let fleet_covers = self.fleet.as_ref().is_none_or(|fleet| {
            other.fleet.as_ref().is_some_and(|inner| fleet.contains(inner))
                || other.agent.as_ref().is_some_and(|agent| fleet.contains_agent(agent))
        });
        fleet_covers
            && (self.agent.is_none() || self.agent == other.agent)
            && (self.instance.is_none() || self.instance == other.instance)
            && (self.lineage.is_none() || self.lineage == other.lineage)
            && self.labels.iter().all(|(key, value)| other.labels.get(key) == Some(value))
            && pattern_covers(self.tool.as_ref(), other.tool.as_ref())
            && pattern_covers(self.model.as_ref(), other.model.as_ref())
            && pattern_covers(self.resource.as_ref(), other.resource.as_ref())
    }

    /// Checks that the conditions don't contradict one another.
    ///
    /// # Errors
    /// An agent outside the fleet that is named beside it.
    pub fn check(&self) -> Result<(), SelectorError> {
        match (&self.agent, &self.fleet) {
            (Some(agent), Some(fleet)) if !fleet.contains_agent(agent) => {
                Err(SelectorError::Contradiction { agent: agent.clone(), fleet: fleet.clone() })
            }
            _ => Ok(()),
        }
    }
}

fn is_met(wanted: Option<&Pattern>, name: Option<&str>) -> bool {
    wanted.is_none_or(|pattern| name.is_some_and(|name| pattern.matches(name)))
}

fn pattern_covers(wide: Option<&Pattern>, narrow: Option<&Pattern>) -> bool {
    wide.is_none_or(|wide| narrow.is_some_and(|narrow| wide.covers(narrow)))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_everything() {
            return f.write_str("everything");
        }
        let mut separator = "";
        let mut condition = |key: &str, value: &dyn fmt::Display| {
            let written = write!(f, "{separator}{key}={value}");
            separator = " ";
            written
        };
        if let Some(fleet) = &self.fleet {
            condition("fleet", fleet)?;
        }
        if let Some(agent) = &self.agent {
            condition("agent", agent)?;
        }
        if let Some(instance) = &self.instance {
            condition("instance", instance)?;
        }
        if let Some(lineage) = &self.lineage {
            condition("lineage", lineage)?;
        }
        for (key, value) in self.labels.iter() {
            condition("label", &format_args!("{key}={value}"))?;
        }
        let patterns = [("tool", &self.tool), ("model", &self.model), ("resource", &self.resource)];
        patterns.into_iter().try_for_each(|(key, pattern)| match pattern {
            Some(pattern) => condition(key, pattern),
            None => Ok(()),
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    /// Parses what [`fmt::Display`] writes: `everything`, or conditions `key=value` separated by white space.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut selector = Self::default();
        if text.trim() == "everything" {
            return Ok(selector);
        }
        let mut labels = Vec::new();
        for word in text.split_whitespace() {
            let unknown = || SelectorError::Condition { got: excerpt(word) };
            let (key, value) = word.split_once('=').ok_or_else(unknown)?;
            match key {
                "fleet" => set("fleet", &mut selector.fleet, value)?,
                "agent" => set("agent", &mut selector.agent, value)?,
                "instance" => set("instance", &mut selector.instance, value)?,
                "lineage" => set("lineage", &mut selector.lineage, value)?,
                "label" => {
                    labels.push(Labels::parse_pair(value).map_err(|error| value_error("label", &error))?);
                }
                "tool" => set("tool", &mut selector.tool, value)?,
                "model" => set("model", &mut selector.model, value)?,
                "resource" => set("resource", &mut selector.resource, value)?,
                _ => return Err(unknown()),
            }
        }
        let mut keys: Vec<_> = labels.iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(SelectorError::Twice { key: "label" });
        }
        selector.labels = Labels::from_pairs(labels).map_err(|error| value_error("label", &error))?;
        if selector.is_everything() {
            return Err(SelectorError::Condition { got: excerpt(text) });
        }
        selector.check()?;
        Ok(selector)
    }
}

fn value_error(key: &'static str, error: &dyn fmt::Display) -> SelectorError {
    SelectorError::Value { key, why: error.to_string() }
}

fn set<T: FromStr<Err: fmt::Display>>(
    key: &'static str,
    slot: &mut Option<T>,
    text: &str,
) -> Result<(), SelectorError> {
    if slot.is_some() {
        return Err(SelectorError::Twice { key });
    }
    *slot = Some(text.parse().map_err(|error| value_error(key, &error))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> Selector {
        text.parse().expect(text)
    }

    #[test]
    fn patterns_match_as_globs() {
        for (pattern, name, fits) in [
            ("*", "", true),
            ("ledger.*", "ledger.post", true),
            ("ledger.*", "ledger", false),
            ("*pay*roll*", "hr/payments/roll-up", true),
            ("a*b*c", "abcbc", true),
            ("a*b", "abx", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(pattern.parse::<Pattern>().expect(pattern).matches(name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn covering_patterns_are_wider() {
        let covers = |wide: &str, narrow: &str| {
            wide.parse::<Pattern>().expect(wide).covers(&narrow.parse().expect(narrow))
        };
        assert!(covers("ledger.*", "ledger.post.*"));
        assert!(covers("*", "*"));
        assert!(!covers("ledger.post", "ledger.*"));
    }

    #[test]
    fn selectors_round_trip() {
        for text in [
            "everything",
            "fleet=acme/finance",
            "fleet=acme agent=acme/x/y label=env=prod label=tier=1 tool=pay.* model=m-* resource=db/*",
            "instance=00112233445566778899aabbccddeeff lineage=00112233445566778899aabbccddeeff",
        ] {
            assert_eq!(selector(text).to_string(), text);
        }
    }

    #[test]
    fn wrong_selectors_say_why() {
        for (text, part) in [
            ("", "is no condition"),
            ("flet=acme", "`flet=acme` is no condition"),
            ("fleet=acme fleet=b", "twice"),
            ("fleet=Acme", "in `fleet=`: segment 1"),
            ("label=a=1 label=a=2", "twice"),
            ("fleet=a agent=b/c", "does not lie under"),
        ] {
            let error = text.parse::<Selector>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_tool_condition_only_stops_actions_with_that_tool() {
        let agent = "acme/x".parse().expect("agent");
        let labels = Labels::none();
        let subject = |tool| Subject {
            agent: &agent,
            instance: None,
            lineage: &[],
            labels: &labels,
            tool,
            model: None,
            resource: None,
        };
        let kill = selector("fleet=acme tool=pay.*");
        assert!(kill.matches(&subject(Some("pay.out"))));
        assert!(!kill.matches(&subject(Some("read"))));
        assert!(!kill.matches(&subject(None)));
        assert!(kill.may_touch(&agent, &labels));
    }
}
