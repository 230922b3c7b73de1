//! What selectors stop: kills in force, and terminated credentials, found by what they name.
//!
//! A rule stands under its home, the most telling condition of its selector, so that a session looks at the few rules that
//! name its own path, ids or labels, however many thousand there are. What is found is matched in full by the core's
//! matcher.
//!
//! The set is persistent: a changed copy shares what didn't change, so that thousands of rules can change a thousand times
//! a second.

use std::sync::Arc;

use haltline_core::{
    event::KillForce,
    ids::{EventSeq, KillId, LogIndex},
    path::FleetPath,
    selector::Selector,
};
use imbl::OrdMap;

use super::{facts::Facts, tag::Tag, verdict::DenyReason};

/// What a rule does to whom its selector names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RuleKind {
    /// A kill is in force.
    Kill(KillForce),
    /// Credentials issued before this entry are void.
    Terminated {
        /// The entry.
        before: LogIndex,
    },
}

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) kill: KillId,
    pub(super) kind: RuleKind,
    pub(super) selector: Selector,
    /// The log entry, as far as is known, that it came with.
    pub(super) since: LogIndex,
    /// The event that it came with.
    pub(super) seq: EventSeq,
}

impl Rule {
    /// Where it stands.
    pub(super) fn home(&self) -> Tag {
        let selector = &self.selector;
        let by_id = selector.instance.as_ref().map(Tag::instance);
        by_id
            .or_else(|| selector.lineage.as_ref().map(Tag::grant))
            .or_else(|| selector.agent.as_ref().map(|agent| Tag::path(agent.as_str())))
            .or_else(|| selector.fleet.as_ref().map(|fleet| Tag::path(fleet.as_str())))
            .or_else(|| selector.labels.iter().next().map(|(key, value)| Tag::label(key, value)))
            .or_else(|| self.plain_name().map(|(place, name)| Tag::name(place, name)))
            .unwrap_or(if self.is_conditional() { Tag::SOME_ACTIONS } else { Tag::EVERYTHING })
    }

    /// The first name that it looks for as it stands, not by a pattern, and its place in [`super::policy::LISTS`].
    fn plain_name(&self) -> Option<(usize, &str)> {
        let Selector { tool, model, resource, .. } = &self.selector;
        let names = [tool, model, resource].into_iter().enumerate();
        names
            .filter_map(|(place, pattern)| Some((place, pattern.as_ref()?.as_str())))
            .find(|(_, pattern)| !pattern.contains('*'))
    }

    /// Whether it names nobody, only what is done.
    fn is_of_actions(&self) -> bool {
        let only_actions = Selector { tool: None, model: None, resource: None, ..self.selector.clone() };
        self.is_conditional() && only_actions.is_everything()
    }

    /// Which parts of an action it looks at: see [`super::memo::shapes_with`].
    pub(super) fn shape(&self) -> usize {
        let [tool, model, resource] = self.looks_at().map(usize::from);
        tool | model << 1 | resource << 2
    }

    /// What a change of it touches. Who carries a label may change, so a rule that stands under one touches everything.
    pub(super) fn touches(&self) -> Tag {
        let Selector { fleet, agent, instance, lineage, .. } = &self.selector;
        let names_nobody = fleet.is_none() && agent.is_none() && instance.is_none() && lineage.is_none();
        if names_nobody { Tag::EVERYTHING } else { self.home() }
    }

    /// Whether it depends on what is done, not only on who does it.
    pub(super) fn is_conditional(&self) -> bool {
        self.looks_at().contains(&true)
    }

    /// Whether it looks at the tool, the model, the resource.
    pub(super) fn looks_at(&self) -> [bool; 3] {
        let Selector { tool, model, resource, .. } = &self.selector;
        [tool.is_some(), model.is_some(), resource.is_some()]
    }

    /// Whether it could count for a credential of this age.
    pub(super) fn counts_for(&self, issued: LogIndex) -> bool {
        match self.kind {
            RuleKind::Kill(_) => true,
            RuleKind::Terminated { before } => issued < before,
        }
    }

    /// Whether it stops what runs, not only what would begin.
    pub(super) fn stops_what_runs(&self) -> bool {
        self.kind != RuleKind::Kill(KillForce::Draining)
    }

    /// Why it denies.
    pub(super) fn reason(&self, facts: &Facts) -> DenyReason {
        let scope: Option<FleetPath> = match &self.selector.fleet {
            Some(fleet) => Some(fleet.clone()),
            None => self.selector.agent.as_ref().map(|_| facts.fleet().clone()),
        };
        match self.kind {
            RuleKind::Kill(_) => DenyReason::Killed { kill: self.kill, scope, since: self.since },
            RuleKind::Terminated { before } => {
                DenyReason::Terminated { kill: self.kill, scope, issued: facts.claims.index, before }
            }
        }
    }
}

/// Where a rule stands among all: by home, and there apart from every other.
type Place = (Tag, KillId, EventSeq, bool);

fn place(rule: &Rule) -> Place {
    (rule.home(), rule.kill, rule.seq, matches!(rule.kind, RuleKind::Terminated { .. }))
}

/// Tags under which rules may stand, as a set of bits: no says no, yes says look. With ten thousand rules one look in
/// twenty-seven that could be spared isn't.
#[derive(Debug, Clone)]
struct Homes {
    bits: Arc<[u64; Self::WORDS]>,
    /// Rules that have left since the set was made; their bits stay until it is made anew.
    left: u32,
}

impl Homes {
    const WORDS: usize = 4_096;

    fn bit(tag: Tag) -> (usize, u64) {
        let bit = tag.spread() % (64 * Self::WORDS);
        (bit / 64, 1 << (bit % 64))
    }

    fn insert(&mut self, tag: Tag) {
        let (word, bit) = Self::bit(tag);
        if self.bits[word] & bit == 0 {
            Arc::make_mut(&mut self.bits)[word] |= bit;
        }
    }

    fn may_hold(&self, tag: Tag) -> bool {
        let (word, bit) = Self::bit(tag);
        self.bits[word] & bit != 0
    }
}

impl Default for Homes {
    fn default() -> Self {
        Self { bits: Arc::new([0; Self::WORDS]), left: 0 }
    }
}

/// All rules, by home.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    by_place: OrdMap<Place, Arc<Rule>>,
    /// Most tags that are asked for have none under them, which shows here first.
    homes: Homes,
    /// How many have a condition on labels; while there are none, labels needn't be worked out.
    labelled: u32,
    /// How many name nobody, by their shape and by the place of the name under which they stand (the last: by none). There
    /// may be thousands, and sessions that do nothing of the kind needn't look at each.
    of_actions: [[u32; 4]; 8],
}

impl Rules {
    /// Puts a rule in, in the place of its equal if there is one.
    pub(super) fn insert(&mut self, rule: &Arc<Rule>) {
        self.count(rule, |count| *count += 1);
        match self.by_place.insert(place(rule), Arc::clone(rule)) {
            Some(equal) => self.count(&equal, |count| *count -= 1),
            None => self.homes.insert(rule.home()),
        }
    }

    /// Takes out this very rule, not one that came in its place.
    pub(super) fn remove(&mut self, rule: &Arc<Rule>) {
        let place = place(rule);
        if self.by_place.get(&place).is_some_and(|stands| Arc::ptr_eq(stands, rule)) {
            self.by_place.remove(&place);
            self.count(rule, |count| *count -= 1);
            self.homes.left += 1;
            if self.homes.left as usize > self.by_place.len() {
                self.homes = self.by_place.keys().fold(Homes::default(), |mut homes, (home, ..)| {
                    homes.insert(*home);
                    homes
                });
            }
        }
    }

    fn count(&mut self, rule: &Rule, change: impl Fn(&mut u32)) {
        if !rule.selector.labels.is_empty() {
            change(&mut self.labelled);
        }
        if rule.is_of_actions() {
            let place = rule.plain_name().map_or(3, |(place, _)| place);
            change(&mut self.of_actions[rule.shape()][place]);
        }
    }

    /// Whether rules that name nobody look at the tool, the model, the resource.
    pub(super) fn of_actions_look_at(&self) -> [bool; 3] {
        let is_there = |shape: usize| self.of_actions[shape].iter().any(|count| *count > 0);
        [0, 1, 2].map(|place| (0..8).any(|shape| shape & 1 << place != 0 && is_there(shape)))
    }

    /// Rules that name nobody and that a name in this place could meet.
    pub(super) fn of_actions_with(&self, place: usize, name: &str) -> impl Iterator<Item = &Arc<Rule>> {
        self.under(Tag::SOME_ACTIONS).chain(self.under(Tag::name(place, name)))
    }

    /// The shapes of rules that look at this place and stand under the name in another: whether they fit isn't looked up
    /// here.
    pub(super) fn shapes_elsewhere(&self, place: usize) -> u8 {
        let is_elsewhere = |shape: usize| {
            let counts = self.of_actions[shape].iter().take(3).enumerate();
            shape & 1 << place != 0 && counts.filter(|(home, _)| *home != place).any(|(_, count)| *count > 0)
        };
        (0..8).filter(|shape| is_elsewhere(*shape)).fold(0, |shapes, shape| shapes | 1 << shape)
    }

    /// Whether any rule looks at labels.
    pub(super) const fn look_at_labels(&self) -> bool {
        self.labelled > 0
    }

    /// Rules that stand under a tag.
    pub(super) fn under(&self, tag: Tag) -> impl Iterator<Item = &Arc<Rule>> {
        let from = (tag, KillId(0), EventSeq(0), false);
        let to = (tag, KillId(u64::MAX), EventSeq(u64::MAX), true);
        let rules = self.homes.may_hold(tag).then(|| self.by_place.range(from..=to));
        rules.into_iter().flatten().map(|(_, rule)| rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(selector: &str) -> Arc<Rule> {
        let selector =
            if selector.is_empty() { Selector::default() } else { selector.parse().expect(selector) };
        let kind = RuleKind::Kill(KillForce::Denying);
        Arc::new(Rule { kill: KillId(1), kind, selector, since: LogIndex(1), seq: EventSeq(1) })
    }

    #[test]
    fn a_rule_stands_under_its_most_telling_condition() {
        let agent = Tag::path("acme/x");
        assert_eq!(rule("fleet=acme agent=acme/x label=a=b tool=t").home(), agent);
        assert_eq!(rule("fleet=acme label=a=b").home(), Tag::path("acme"));
        assert_eq!(rule("label=a=b label=c=d tool=t").home(), Tag::label("a", "b"));
        assert_eq!(rule("label=a=b").touches(), Tag::EVERYTHING);
        assert_eq!(rule("tool=t*").home(), Tag::SOME_ACTIONS);
        assert_eq!(rule("tool=t* model=m").home(), Tag::name(1, "m"));
        assert_eq!(rule("tool=t").touches(), Tag::EVERYTHING);
        assert_eq!(rule("").home(), Tag::EVERYTHING);
    }

    #[test]
    fn the_very_rule_is_taken_out_and_no_other() {
        let acme = Tag::path("acme");
        let (one, equal) = (rule("fleet=acme label=a=b"), rule("fleet=acme label=a=b"));
        let mut rules = Rules::default();
        rules.insert(&one);
        rules.insert(&equal);
        rules.remove(&one);
        assert!(rules.under(acme).all(|stands| Arc::ptr_eq(stands, &equal)));
        assert_eq!(rules.under(acme).count(), 1);
        assert!(rules.look_at_labels());
        rules.remove(&equal);
        assert_eq!(rules.under(acme).count(), 0);
        assert!(!rules.look_at_labels());
        assert!(!rules.homes.may_hold(acme), "a set of bits that says yes to everything helps nobody");
    }

    #[test]
    fn only_what_stands_under_a_tag_is_found_there() {
        let mut rules = Rules::default();
        let texts = ["fleet=acme", "agent=acme/x", "tool=t*", "", "lineage=00112233445566778899aabbccddeeff"];
        texts.iter().for_each(|text| rules.insert(&rule(text)));
        for tag in [Tag::path("acme"), Tag::path("acme/x"), Tag::EVERYTHING, Tag::SOME_ACTIONS] {
            assert_eq!(rules.under(tag).count(), 1, "{tag:?}");
        }
        assert_eq!(rules.of_actions_look_at(), [true, false, false]);
        rules.insert(&rule("tool=t model=m"));
        assert_eq!(rules.of_actions_look_at(), [true, true, false]);
        assert_eq!(rules.of_actions_with(0, "t").count(), 2);
        assert_eq!(rules.of_actions_with(1, "m").count(), 1);
        assert_eq!([0, 1, 2].map(|place| rules.shapes_elsewhere(place)), [0, 0b1000, 0]);
        assert_eq!(rules.under(Tag::path("acme/y")).count(), 0);
    }
}
