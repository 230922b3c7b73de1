//! Deciding, slowly and obviously: walks whole views of the core, remembers nothing.
//!
//! An action is permitted if every view from the verified one to the last one heard permits it, where a kill of any of them
//! counts under the labels of any of them; if the enforcer's own paths held the agent in all of them and in the view that the
//! lease rests on; and if the clock lies in the lease, whose length is the least of all of those.

use std::collections::BTreeSet;

use haltline_core::{
    command::RevocationTarget,
    event::{EnforcementEvent, KillForce},
    ids::KeyHash,
    lease::BootNanos,
    policy::IntentList,
    selector::{Pattern, Selector, Subject},
    text::Labels,
    view::View,
};
use haltline_pki::token::{Claims, key_id};

use super::{super::Action, EDGE, MS};

/// All views that count.
#[derive(Clone)]
pub(super) struct Reference {
    /// The verified view, and the one after each event that was heard since.
    pub(super) views: Vec<View>,
    /// The view that the lease rests on, when its probe was sent, and cluster time less boot time.
    pub(super) lease: Option<(View, BootNanos, i64)>,
}

impl Reference {
    pub(super) fn new() -> Self {
        Self { views: vec![View::default()], lease: None }
    }

    pub(super) fn verified(&self) -> &View {
        self.views.first().unwrap()
    }

    pub(super) fn hear(&mut self, event: &EnforcementEvent) {
        let mut view = self.views.last().unwrap().clone();
        view.apply(event);
        self.views.push(view);
    }

    /// The first `events` of those heard are verified.
    pub(super) fn verify(&mut self, events: usize) {
        self.views.drain(..events);
    }

    /// The end of the permit, or the codes of all that stands against one.
    pub(super) fn decide(
        &self,
        claims: &Claims,
        key: KeyHash,
        action: &Action<'_>,
        now: BootNanos,
    ) -> Result<BootNanos, BTreeSet<&'static str>> {
        let mut against = BTreeSet::new();
        self.identity(claims, key, &mut against);
        for view in &self.views {
            one_view(view, claims, key, action, &mut against);
        }
        if let Some((leased, ..)) = &self.lease {
            own_paths(leased, claims, &mut against);
        }
        self.rules(claims, action, &mut against);
        let until = self.time(claims, now, &mut against);
        if against.is_empty() { Ok(until) } else { Err(against) }
    }

    /// Permits of every view by itself: what must hold whenever something is permitted.
    pub(super) fn every_view_permits(&self, claims: &Claims, action: &Action<'_>) -> bool {
        self.views.iter().all(|view| {
            let labels = view.effective_labels(&claims.agent);
            view.denied_by(&subject(claims, &labels, action)).is_none()
        })
    }

    fn identity(&self, claims: &Claims, key: KeyHash, against: &mut BTreeSet<&'static str>) {
        if self.verified().cluster != Some((claims.cluster, claims.incarnation)) {
            against.insert("OTHER_INCARNATION");
        }
        if !self.verified().node_keys.values().any(|public| key_id(public) == key) {
            against.insert("KEY_UNKNOWN");
        }
    }

    fn rules(&self, claims: &Claims, action: &Action<'_>, against: &mut BTreeSet<&'static str>) {
        let all_labels: Vec<Labels> =
            self.views.iter().map(|view| view.effective_labels(&claims.agent)).collect();
        let stops = |selector: &Selector| {
            all_labels.iter().any(|labels| selector.matches(&subject(claims, labels, action)))
        };
        for view in &self.views {
            if view.kills.values().any(|kill| kill.force == KillForce::Denying && stops(&kill.selector)) {
                against.insert("KILLED");
            }
            let terminates = |before: &Option<(Selector, _)>| {
                before.as_ref().is_some_and(|(selector, before)| claims.index < *before && stops(selector))
            };
            if view.revocations.values().any(|revocation| terminates(&revocation.issued_before)) {
                against.insert("TERMINATED");
            }
        }
    }

    fn time(&self, claims: &Claims, now: BootNanos, against: &mut BTreeSet<&'static str>) -> BootNanos {
        let Some((leased, fresh_from, cluster_ahead)) = &self.lease else {
            against.insert("NO_LEASE");
            return BootNanos(0);
        };
        let fleet = claims.agent.fleet();
        let all = self.views.iter().chain([leased]);
        let staleness = all.map(|view| view.effective_limits(&fleet).max_staleness).min().unwrap();
        let lease_end = fresh_from.plus(staleness.into());
        if now < *fresh_from || now >= lease_end {
            against.insert("STALE");
        }
        let ends = (claims.ends.0 * MS) as i64 - cluster_ahead;
        if now.0 as i64 >= ends {
            against.insert("CREDENTIAL_ENDED");
        }
        lease_end.min(BootNanos(ends.max(0) as u64))
    }
}

fn subject<'a>(claims: &'a Claims, labels: &'a Labels, action: &Action<'a>) -> Subject<'a> {
    Subject {
        agent: &claims.agent,
        instance: Some(claims.instance),
        lineage: &claims.lineage,
        labels,
        tool: action.tool,
        model: action.model,
        resource: action.resource,
    }
}

fn any_matches(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

/// What one view says by itself, kills aside.
fn one_view(
    view: &View,
    claims: &Claims,
    key: KeyHash,
    action: &Action<'_>,
    against: &mut BTreeSet<&'static str>,
) {
    own_paths(view, claims, against);
    if !view.agents.contains_key(&claims.agent) {
        against.insert("AGENT_UNKNOWN");
    }
    let grants = claims.lineage.iter().map(|grant| (RevocationTarget::Grant(*grant), "GRANT_REVOKED"));
    let others = [
        (RevocationTarget::Credential(claims.credential), "CREDENTIAL_REVOKED"),
        (RevocationTarget::Instance(claims.instance), "INSTANCE_REVOKED"),
        (RevocationTarget::Key(key), "KEY_REVOKED"),
    ];
    for (target, code) in grants.chain(others) {
        if view.revocations.contains_key(&target) {
            against.insert(code);
        }
    }
    if let Some(tool) = action.tool
        && !claims.scope.is_empty()
        && !any_matches(&claims.scope, tool)
    {
        against.insert("OUT_OF_SCOPE");
    }
    for fleet in claims.agent.fleet().self_and_ancestors() {
        let Some(policy) = view.fleets.get(&fleet) else { continue };
        for (list, patterns) in policy.intent.lists() {
            let name = match list {
                IntentList::Tools => action.tool,
                IntentList::Models => action.model,
                IntentList::Resources => action.resource,
                IntentList::DataClasses => action.data_class,
            };
            if let (Some(name), Some(patterns)) = (name, patterns)
                && !any_matches(patterns, name)
            {
                against.insert("NOT_DECLARED");
            }
        }
    }
}

/// What the enforcer's own record in one view says.
fn own_paths(view: &View, claims: &Claims, against: &mut BTreeSet<&'static str>) {
    match view.edges.get(&EDGE.parse::<haltline_core::ids::EdgeName>().unwrap()) {
        None => {
            against.insert("ENFORCER_UNKNOWN");
        }
        Some(record) => {
            let holds = |scope: &Option<haltline_core::path::FleetPath>| {
                scope.as_ref().is_none_or(|fleet| fleet.contains_agent(&claims.agent))
            };
            if !record.paths.iter().any(holds) {
                against.insert("OUTSIDE_PATHS");
            }
        }
    }
}
