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
    memo::{Judgement, shapes_with},
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
    /// Where those rules stand that look at the action alone.
    all_rules: Rules,
    /// The agent's labels under which the rules were found.
    labels: Vec<Labels>,
}

impl Judge {
    /// From the rules that reach the session by name, and the labels under which they were found.
    pub(super) fn new(view: &EnforceView, facts: &Facts, rules: Vec<Arc<Rule>>, labels: Vec<Labels>) -> Self {
        Self {
            generation: view.changes.generation,
            policies: view.policies.on_path(facts),
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
            |rule: &Rule| condition_on(&rule.selector, list).is_some_and(|pattern| pattern.matches(name));
        let here = self.all_rules.of_actions_with(place, name).filter(|rule| self.counts(rule));
        let found = self.rules.iter().chain(here).filter(|rule| fits(rule));
        let shapes = found.fold(0, |shapes, rule| shapes | 1 << rule.shape());
        // Rules that don't look at this part don't mind what it is.
        Ok(Judgement { shapes: shapes | !shapes_with(place) | self.all_rules.shapes_elsewhere(place) })
    }

    fn counts(&self, rule: &Rule) -> bool {
        rule.stops_what_runs() && rule.counts_for(self.issued)
    }

    /// Whether a rule stops this action as a whole.
    pub(super) fn stopping_rule(&self, facts: &Facts, action: &Action<'_>) -> Result<(), DenyReason> {
        let names = action.names().into_iter().take(3).enumerate();
        let by_name = names
            .filter_map(|(place, name)| name.map(|name| Tag::name(place, name)))
            .chain([Tag::SOME_ACTIONS])
            .flat_map(|tag| self.all_rules.under(tag))
            .filter(|rule| self.counts(rule));
        let stops = |rule: &Rule| {
            self.labels.iter().any(|labels| rule.selector.matches(&facts.subject(labels, action)))
        };
        match self.rules.iter().chain(by_name).find(|rule| stops(rule)) {
            Some(rule) => Err(rule.reason(facts)),
            None => Ok(()),
        }
    }
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
