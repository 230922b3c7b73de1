//! The judge of an action's names: the lists and rules that count for one session, put together once for many names.

use std::sync::Arc;

use haltline_core::{
    event::FleetPolicy,
    ids::LogIndex,
    limits::ACTION_NAME_BYTES_MAX,
    path::FleetPath,
    policy::IntentList,
    selector::{Pattern, Selector},
    text::Labels,
};

use super::{
    action::Action,
    facts::Facts,
    memo::Judgement,
    policy::{LISTS, list_of},
    rules::{Rule, Rules},
    tag::Tag,
    verdict::DenyReason,
    view::EnforceView,
};

/// What an action's names are judged by, under one view and for one session.
#[derive(Debug)]
pub(super) struct Judge {
    generation: u64,
    /// All that count, verified and heard, nearest fleet first.
    policies: Vec<(FleetPath, Arc<FleetPolicy>)>,
    /// Rules that reach this session by name and look at the action.
    rules: Vec<Arc<Rule>>,
    /// The entry that issued the credential.
    issued: LogIndex,
    /// Where the rules stand that look at the action alone.
    all_rules: Rules,
    /// The agent's labels under which the rules were found.
    labels: Vec<Labels>,
}

impl Judge {
    pub(super) fn new(view: &EnforceView, facts: &Facts) -> Self {
        let (rules, labels) = view.conditional_rules(facts);
        let policies = view.policies.on_path(facts);
        Self {
            generation: view.changes.generation,
            policies,
            rules,
            issued: facts.claims.index,
            all_rules: view.rules.clone(),
            labels,
        }
    }

    /// The generation of its view.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// What is to be said of one name by itself, or why no action with it is allowed.
    pub(super) fn judge(&self, facts: &Facts, place: usize, name: &str) -> Result<Judgement, DenyReason> {
        let list = LISTS[place];
        if name.len() > ACTION_NAME_BYTES_MAX {
            return Err(DenyReason::NameTooLong { got_bytes: name.len(), max_bytes: ACTION_NAME_BYTES_MAX });
        }
        let scope = &facts.claims.scope;
        if list == IntentList::Tools && !scope.is_empty() && !any_matches(scope, name) {
            return Err(DenyReason::OutOfScope);
        }
        let refuses =
            |policy: &FleetPolicy| list_of(policy, list).is_some_and(|list| !any_matches(list, name));
        if let Some((scope, _)) = self.policies.iter().find(|(_, policy)| refuses(policy)) {
            return Err(DenyReason::NotDeclared { list, scope: scope.clone() });
        }
        let fits =
            |rule: &Rule| condition_on(&rule.selector, list).is_none_or(|pattern| pattern.matches(name));
        let shapes = self.rules().filter(|rule| fits(rule)).fold(0, |shapes, rule| shapes | 1 << shape(rule));
        Ok(Judgement { shapes })
    }

    fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let counts = |rule: &&Arc<Rule>| rule.stops_what_runs() && rule.counts_for(self.issued);
        let of_actions = self.all_rules.under(Tag::SOME_ACTIONS).filter(counts);
        self.rules.iter().chain(of_actions)
    }

    /// Whether a rule stops this action as a whole.
    pub(super) fn stopping_rule(&self, facts: &Facts, action: &Action<'_>) -> Result<(), DenyReason> {
        let stops = |rule: &Rule| {
            self.labels.iter().any(|labels| rule.selector.matches(&facts.subject(labels, action)))
        };
        match self.rules().find(|rule| stops(rule)) {
            Some(rule) => Err(rule.reason(facts)),
            None => Ok(()),
        }
    }
}

/// Which parts of an action a rule looks at: see [`super::memo::shapes_with`].
fn shape(rule: &Rule) -> u8 {
    let [tool, model, resource] = rule.looks_at().map(u8::from);
    tool | model << 1 | resource << 2
}

fn any_matches(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

fn condition_on(selector: &Selector, list: IntentList) -> Option<&Pattern> {
    match list {
        IntentList::Tools => selector.tool.as_ref(),
        IntentList::Models => selector.model.as_ref(),
        IntentList::Resources => selector.resource.as_ref(),
        IntentList::DataClasses => None,
    }
}
