//! What a fleet declares and is limited to. Children inherit and can only narrow.
//!
//! A limit that is set applies to the fleet and all below it; the smallest value on the path wins. A limit that no
//! fleet on the path sets has its default. Declared intent works the same way: a name must fit every list on the path.

use serde::{Deserialize, Serialize};

use crate::{
    limits::{
        CREDENTIAL_TTL_CEILING, CREDENTIAL_TTL_DEFAULT, DELEGATION_DEPTH_CEILING, DELEGATION_DEPTH_DEFAULT,
        INSTANCES_CEILING, MAX_STALENESS_CEILING, MAX_STALENESS_DEFAULT, MAX_STALENESS_FLOOR, PATTERNS_MAX,
    },
    selector::Pattern,
    text::Text,
    time::Millis,
};

/// Why limits or an intent were refused by themselves, without a look at the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PolicyError {
    /// A limit out of its range.
    #[error("{limit} is {got}; it must be from {min} to {max}")]
    OutOfRange {
        /// Which limit.
        limit: LimitName,
        /// What came, in the limit's unit.
        got: u64,
        /// The smallest value allowed.
        min: u64,
        /// The largest value allowed.
        max: u64,
    },
    /// A list with too many patterns.
    #[error("the list of {list} has {got} patterns; at most {PATTERNS_MAX} are allowed")]
    TooManyPatterns {
        /// Which list.
        list: IntentList,
        /// How many came.
        got: usize,
    },
}

/// The limits of a fleet, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitName {
    /// `max_staleness`, ms.
    MaxStaleness,
    /// `credential_ttl`, ms.
    CredentialTtl,
    /// `delegation_depth`.
    DelegationDepth,
    /// `instances`.
    Instances,
}

impl std::fmt::Display for LimitName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MaxStaleness => "max_staleness_ms",
            Self::CredentialTtl => "credential_ttl_ms",
            Self::DelegationDepth => "delegation_depth",
            Self::Instances => "instances",
        })
    }
}

/// The lists of a declared intent, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntentList {
    /// Tools.
    Tools,
    /// Resources.
    Resources,
    /// Models.
    Models,
    /// Data classes.
    DataClasses,
}

impl std::fmt::Display for IntentList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::Models => "models",
            Self::DataClasses => "data classes",
        })
    }
}

/// Limits that a fleet sets; `None` inherits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How old an edge's knowledge may be when it permits (design 02, `L(s)`).
    pub max_staleness: Option<Millis>,
    /// Longest life of a credential.
    pub credential_ttl: Option<Millis>,
    /// How many hires may follow one another.
    pub delegation_depth: Option<u32>,
    /// How many instances may live at once.
    pub instances: Option<u32>,
}

/// Limits as they apply to a fleet, after inheritance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EffectiveLimits {
    /// How old an edge's knowledge may be when it permits.
    pub max_staleness: Millis,
    /// Longest life of a credential.
    pub credential_ttl: Millis,
    /// How many hires may follow one another.
    pub delegation_depth: u32,
    /// How many instances may live at once.
    pub instances: u32,
}

impl Limits {
    /// Checks each limit against its range.
    ///
    /// # Errors
    /// The first limit out of range.
    pub fn check(&self) -> Result<(), PolicyError> {
        let staleness = (MAX_STALENESS_FLOOR.0, MAX_STALENESS_CEILING.0);
        in_range(LimitName::MaxStaleness, self.max_staleness.map(|limit| limit.0), staleness)?;
        let ttl = (1_000, CREDENTIAL_TTL_CEILING.0);
        in_range(LimitName::CredentialTtl, self.credential_ttl.map(|limit| limit.0), ttl)?;
        let depth = (0, DELEGATION_DEPTH_CEILING.into());
        in_range(LimitName::DelegationDepth, self.delegation_depth.map(Into::into), depth)?;
        in_range(LimitName::Instances, self.instances.map(Into::into), (0, INSTANCES_CEILING.into()))
    }

    /// The smallest of each limit over both.
    #[must_use]
    pub fn narrowed_by(self, other: Self) -> Self {
        Self {
            max_staleness: smallest(self.max_staleness, other.max_staleness),
            credential_ttl: smallest(self.credential_ttl, other.credential_ttl),
            delegation_depth: smallest(self.delegation_depth, other.delegation_depth),
            instances: smallest(self.instances, other.instances),
        }
    }

    /// These limits with defaults where none is set.
    #[must_use]
    pub fn effective(self) -> EffectiveLimits {
        EffectiveLimits {
            max_staleness: self.max_staleness.unwrap_or(MAX_STALENESS_DEFAULT),
            credential_ttl: self.credential_ttl.unwrap_or(CREDENTIAL_TTL_DEFAULT),
            delegation_depth: self.delegation_depth.unwrap_or(DELEGATION_DEPTH_DEFAULT),
            instances: self.instances.unwrap_or(INSTANCES_CEILING),
        }
    }

    /// Whether any limit set in `before` is larger here, or not set at all.
    #[must_use]
    pub fn is_looser_than(&self, before: &Self) -> bool {
        fn looser<T: Ord>(now: Option<T>, before: Option<T>) -> bool {
            before.is_some_and(|before| now.is_none_or(|now| now > before))
        }
        looser(self.max_staleness, before.max_staleness)
            || looser(self.credential_ttl, before.credential_ttl)
            || looser(self.delegation_depth, before.delegation_depth)
            || looser(self.instances, before.instances)
    }

    /// The first limit set here that is larger than one set in `above`, with both values.
    #[must_use]
    pub fn first_wider_than(&self, above: &Self) -> Option<(LimitName, u64, u64)> {
        let wider = |name, own: Option<u64>, above: Option<u64>| match (own, above) {
            (Some(own), Some(above)) if own > above => Some((name, own, above)),
            _ => None,
        };
        let millis = |limit: Option<Millis>| limit.map(|millis| millis.0);
        let count = |limit: Option<u32>| limit.map(u64::from);
        wider(LimitName::MaxStaleness, millis(self.max_staleness), millis(above.max_staleness))
            .or_else(|| {
                wider(LimitName::CredentialTtl, millis(self.credential_ttl), millis(above.credential_ttl))
            })
            .or_else(|| {
                wider(LimitName::DelegationDepth, count(self.delegation_depth), count(above.delegation_depth))
            })
            .or_else(|| wider(LimitName::Instances, count(self.instances), count(above.instances)))
    }
}

impl EffectiveLimits {
    /// Whether any limit here is larger than in `before`.
    #[must_use]
    pub fn is_wider_than(&self, before: &Self) -> bool {
        self.max_staleness > before.max_staleness
            || self.credential_ttl > before.credential_ttl
            || self.delegation_depth > before.delegation_depth
            || self.instances > before.instances
    }
}

fn smallest<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn in_range(limit: LimitName, value: Option<u64>, (min, max): (u64, u64)) -> Result<(), PolicyError> {
    match value {
        Some(got) if !(min..=max).contains(&got) => Err(PolicyError::OutOfRange { limit, got, min, max }),
        _ => Ok(()),
    }
}

/// What a fleet says that it is for. A list that is `None` restricts nothing; an empty one allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// In plain words.
    pub purpose: Text,
    /// Tools that its agents may use.
    pub tools: Option<Vec<Pattern>>,
    /// Resources that its agents may touch.
    pub resources: Option<Vec<Pattern>>,
    /// Models that its agents may call.
    pub models: Option<Vec<Pattern>>,
    /// Classes of data that its agents may handle.
    pub data_classes: Option<Vec<Pattern>>,
}

impl Intent {
    /// The lists, each with its name.
    pub fn lists(&self) -> impl Iterator<Item = (IntentList, Option<&[Pattern]>)> {
        [
            (IntentList::Tools, self.tools.as_deref()),
            (IntentList::Resources, self.resources.as_deref()),
            (IntentList::Models, self.models.as_deref()),
            (IntentList::DataClasses, self.data_classes.as_deref()),
        ]
        .into_iter()
    }

    /// Checks the lists against their bounds.
    ///
    /// # Errors
    /// The first list that is too long.
    pub fn check(&self) -> Result<(), PolicyError> {
        match self.lists().find(|(_, list)| list.is_some_and(|list| list.len() > PATTERNS_MAX)) {
            Some((list, patterns)) => {
                Err(PolicyError::TooManyPatterns { list, got: patterns.map_or(0, <[Pattern]>::len) })
            }
            None => Ok(()),
        }
    }

    /// Whether something may be allowed here that `before` did not allow. May say yes where the answer is no.
    #[must_use]
    pub fn may_allow_more_than(&self, before: &Self) -> bool {
        self.lists().zip(before.lists()).any(|((_, after), (_, before))| match (before, after) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(before), Some(after)) => !after.iter().all(|new| before.iter().any(|old| old.covers(new))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Option<Vec<Pattern>> {
        Some(list.iter().map(|text| text.parse().expect(text)).collect())
    }

    #[test]
    fn the_smallest_limit_on_the_path_wins() {
        let parent = Limits { max_staleness: Some(Millis(5_000)), ..Limits::default() };
        let child = Limits { max_staleness: Some(Millis(1_000)), instances: Some(3), ..Limits::default() };
        let effective = parent.narrowed_by(child).effective();
        assert_eq!((effective.max_staleness, effective.instances), (Millis(1_000), 3));
        assert_eq!(effective.credential_ttl, CREDENTIAL_TTL_DEFAULT);
    }

    #[test]
    fn limits_have_ranges() {
        let limits = Limits { max_staleness: Some(Millis(199)), ..Limits::default() };
        assert_eq!(
            limits.check().expect_err("below the floor").to_string(),
            "max_staleness_ms is 199; it must be from 200 to 300000"
        );
        let limits = Limits { delegation_depth: Some(9), ..Limits::default() };
        assert!(limits.check().is_err());
    }

    #[test]
    fn an_intent_widens_by_a_new_or_wider_pattern_or_by_dropping_its_list() {
        let before = Intent { tools: patterns(&["ledger.*", "mail.read"]), ..Intent::default() };
        let narrower = Intent { tools: patterns(&["ledger.post"]), ..Intent::default() };
        let wider = Intent { tools: patterns(&["ledger.*", "mail.*"]), ..Intent::default() };
        let open = Intent::default();
        assert!(!narrower.may_allow_more_than(&before));
        assert!(wider.may_allow_more_than(&before));
        assert!(open.may_allow_more_than(&before));
        assert!(!before.may_allow_more_than(&open));
        assert!(!before.may_allow_more_than(&before));
    }
}
