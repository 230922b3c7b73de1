//! What holds for a session whatever it does: whether anything stops it, how old knowledge may be, and which parts of an
//! action have to be looked at.
//!
//! The outcome is kept with the session as one word, with the generation of the view that it was found under, so that a
//! decision needs one load instead of two dozen look-ups.

use std::sync::Arc;

use haltline_core::{command::RevocationTarget, event::EdgePolicy, text::Labels, time::Millis};

use super::{facts::Facts, judge::Judge, rules::Rule, tag::Tag, verdict::DenyReason, view::EnforceView};

/// What holds for a session whatever it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing stops it as such.
    Clear {
        /// How old knowledge may be when it is permitted something.
        max_staleness: Millis,
        /// What of an action has to be looked at.
        looks: Looks,
    },
    /// It may do nothing.
    Denied(DenyReason),
}

/// Which parts of an action have to be looked at, and whether rules may stop some actions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Looks(u8);

impl Looks {
    /// Rules that depend on the action may apply.
    pub(super) const RULES: u8 = 1 << 4;

    /// The flag of a part, by its place in [`super::policy::LISTS`].
    pub(super) const fn part(place: usize) -> u8 {
        1 << place
    }

    pub(super) const fn at(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    const fn with(self, flag: u8, is_set: bool) -> Self {
        if is_set { Self(self.0 | flag) } else { self }
    }

    /// With rules that look at these parts, if at any.
    fn with_rules(self, look_at: [bool; 3]) -> Self {
        let parts = look_at.into_iter().enumerate();
        parts.fold(self, |looks, (place, is_set)| looks.with(Self::part(place) | Self::RULES, is_set))
    }
}

/// A standing in one word: 40 bits of generation, 19 of `max_staleness` in ms (zero: denied), 5 of [`Looks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StandingWord(pub(super) u64);

impl StandingWord {
    const STALENESS_BITS: u32 = 19;
    const LOOKS_BITS: u32 = 5;
    const GENERATION_SHIFT: u32 = Self::STALENESS_BITS + Self::LOOKS_BITS;
    const STALENESS_MASK: u64 = (1 << Self::STALENESS_BITS) - 1;
    const LOOKS_MASK: u64 = (1 << Self::LOOKS_BITS) - 1;
    /// Found under no view at all.
    pub(super) const UNKNOWN: Self = Self(0);

    pub(super) fn new(generation: u64, standing: &Standing) -> Self {
        let low = match standing {
            Standing::Clear { max_staleness, looks } => {
                // Larger than any that is allowed would be cut to what fits: shorter, so on the safe side.
                let staleness = max_staleness.0.clamp(1, Self::STALENESS_MASK);
                staleness << Self::LOOKS_BITS | u64::from(looks.0)
            }
            Standing::Denied(_) => 0,
        };
        Self(generation << Self::GENERATION_SHIFT | low)
    }

    /// The generation of the view that it was found under, as much of it as fits: 40 bits last for decades.
    #[inline]
    pub(super) const fn generation(self) -> u64 {
        self.0 >> Self::GENERATION_SHIFT
    }

    /// The same under a later view that changed nothing about it.
    pub(super) const fn carried_to(self, generation: u64) -> Self {
        let low = self.0 & ((1 << Self::GENERATION_SHIFT) - 1);
        Self(generation << Self::GENERATION_SHIFT | low)
    }

    /// How old knowledge may be, in ms; zero if the session is denied.
    #[inline]
    pub(super) const fn max_staleness_ms(self) -> u64 {
        self.0 >> Self::LOOKS_BITS & Self::STALENESS_MASK
    }

    #[inline]
    pub(super) const fn is_clear(self) -> bool {
        self.max_staleness_ms() != 0
    }

    #[inline]
    pub(super) const fn looks(self) -> Looks {
        Looks((self.0 & Self::LOOKS_MASK) as u8)
    }
}

/// All that one look at a view finds out about a session.
pub(super) struct Study {
    pub(super) standing: Standing,
    /// A rule that lets the session run on if it does, but none begin: a kill that drains.
    pub(super) draining: Option<Arc<Rule>>,
    /// What its actions are judged by.
    pub(super) judge: Judge,
}

impl EnforceView {
    /// Looks everything up about a session.
    pub(super) fn study(&self, facts: &Facts) -> Study {
        let ruling = self.policies.ruling(facts, self.rules.look_at_labels());
        let mut looks = Looks::default().with(Looks::part(0), !facts.claims.scope.is_empty());
        for (place, declared) in ruling.declared.into_iter().enumerate() {
            looks = looks.with(Looks::part(place), declared);
        }
        looks = looks.with_rules(self.rules.of_actions_look_at());
        let (mut denied_by, mut draining, mut conditional) = (None, None, Vec::new());
        self.each_rule(facts, &ruling.labels, |rule| match (rule.is_conditional(), rule.stops_what_runs()) {
            (true, true) => {
                looks = looks.with_rules(rule.looks_at());
                conditional.push(Arc::clone(rule));
            }
            (false, true) => {
                denied_by.get_or_insert_with(|| Arc::clone(rule));
            }
            (false, false) => {
                draining.get_or_insert_with(|| Arc::clone(rule));
            }
            // An action that may not begin soon isn't a session that may not begin.
            (true, false) => {}
        });
        let unknown = || {
            let scope = facts.fleet().clone();
            (!ruling.is_registered).then_some(DenyReason::AgentUnknown { scope })
        };
        let denied = self
            .stranger(facts)
            .or_else(|| self.revoked(facts))
            .or_else(unknown)
            .or_else(|| ruling.is_unsettled.then_some(DenyReason::Unsettled))
            .or_else(|| denied_by.map(|rule| rule.reason(facts)));
        let standing = match denied {
            Some(reason) => Standing::Denied(reason),
            None => Standing::Clear { max_staleness: ruling.max_staleness, looks },
        };
        Study { standing, draining, judge: Judge::new(self, facts, conditional, ruling.labels) }
    }

    /// Whether the session belongs here at all.
    fn stranger(&self, facts: &Facts) -> Option<DenyReason> {
        let claims = &facts.claims;
        let incarnation = self.cluster.map(|(_, incarnation)| incarnation);
        if self.cluster != Some((claims.cluster, claims.incarnation)) {
            return Some(DenyReason::OtherIncarnation { issued: claims.incarnation, now: incarnation });
        }
        if !self.keys.vouches_until(&facts.key, claims.ends) {
            return Some(DenyReason::KeyUnknown { key: facts.key });
        }
        let is_bound_to = |record: &EdgePolicy| {
            let holds = |scope: &haltline_core::state::Scope| {
                scope.as_ref().is_none_or(|fleet| fleet.contains_agent(&claims.agent))
            };
            record.paths.iter().any(holds)
        };
        match self.own.iter().map(Option::as_ref).collect::<Option<Vec<_>>>() {
            None => Some(DenyReason::EnforcerUnknown),
            Some(records) if records.is_empty() => Some(DenyReason::EnforcerUnknown),
            Some(records) if records.iter().all(|record| is_bound_to(record)) => None,
            Some(_) => Some(DenyReason::OutsidePaths { scope: facts.fleet().clone() }),
        }
    }

    fn revoked(&self, facts: &Facts) -> Option<DenyReason> {
        let position = self.revocations.first_of(&facts.revocable)?;
        Some(match facts.target(position) {
            RevocationTarget::Credential(credential) => DenyReason::CredentialRevoked { credential },
            RevocationTarget::Grant(grant) => DenyReason::GrantRevoked { grant },
            RevocationTarget::Instance(instance) => DenyReason::InstanceRevoked { instance },
            RevocationTarget::Key(key) => DenyReason::KeyRevoked { key },
            // Not among what a session is looked up by; its rule says more.
            RevocationTarget::Terminated(kill) => DenyReason::Killed { kill, scope: None, since: self.index },
        })
    }

    /// Shows each rule that reaches the session under some of its labels.
    fn each_rule(&self, facts: &Facts, labels: &[Labels], mut show: impl FnMut(&Arc<Rule>)) {
        let mut tags: Vec<Tag> = facts.tags.to_vec();
        tags.push(Tag::EVERYTHING);
        for (key, value) in labels.iter().flat_map(Labels::iter) {
            let tag = Tag::label(key, value);
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        for rule in tags.into_iter().flat_map(|tag| self.rules.under(tag)) {
            let reaches = labels.iter().any(|labels| facts.is_reached_by(&rule.selector, labels));
            if reaches && rule.counts_for(facts.claims.index) {
                show(rule);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_all_of_a_standing() {
        let looks = Looks::default().with(Looks::RULES, true).with(Looks::part(2), true);
        let standing = Standing::Clear { max_staleness: Millis(300_000), looks };
        let word = StandingWord::new(0xff_1234_5678, &standing);
        assert_eq!(word.generation(), 0xff_1234_5678);
        assert_eq!(word.max_staleness_ms(), 300_000);
        assert_eq!(word.looks(), looks);
        assert!(word.is_clear());
        let carried = word.carried_to(0xff_1234_5679);
        assert_eq!((carried.generation(), carried.looks()), (0xff_1234_5679, looks));
        let denied = StandingWord::new(7, &Standing::Denied(DenyReason::NoLease));
        assert!(!denied.is_clear());
        assert_eq!(denied.generation(), 7);
    }
}
