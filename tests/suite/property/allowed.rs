//! What is allowed in a state, over a bounded universe: who may act how, under which limits, and who may change that.
//!
//! It judges by the view (as an edge would), the registry and the people, never by the machine's own notion of widening.

use std::collections::{BTreeMap, BTreeSet};

use haltline_core::{
    command::{RevocationTarget, Role, RoleBinding},
    ids::{GrantId, InstanceId, LogIndex},
    path::{AgentPath, FleetPath},
    selector::{Pattern, Subject},
    state::State,
    view::View,
};

use super::{
    seen::numbers,
    world::{AGENTS, FLEETS, agent, fleet},
};

const TOOLS: [Option<&str>; 3] = [None, Some("pay.out"), Some("mail.read")];
const INSTANCES: [Option<InstanceId>; 2] = [None, Some(InstanceId([1; 16]))];

/// Everything that is allowed. More of anything is a widening.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowed {
    /// Actions that would be permitted, by agent, in words.
    actions: BTreeMap<AgentPath, BTreeSet<String>>,
    /// Effective limits.
    limits: BTreeMap<FleetPath, Vec<u64>>,
    /// Who holds which role where, and whose every key is.
    powers: BTreeSet<String>,
    /// Who has which credential.
    credentials: BTreeSet<String>,
    /// How many people it takes to resume and to widen.
    people: [u32; 2],
}

impl Allowed {
    /// What a state allows. `issued` are the entries in which credentials may have been issued.
    pub(crate) fn in_state(state: &State, issued: &[LogIndex]) -> Self {
        let view = state.view();
        let registered = AGENTS.map(agent).into_iter().filter(|agent| view.agents.contains_key(agent));
        let actions = registered.map(|agent| (agent.clone(), permitted(&view, &agent, issued))).collect();
        let limits =
            FLEETS.map(fleet).into_iter().map(|path| (path.clone(), numbers(&view.effective_limits(&path))));
        let policy = state.policy();
        Self {
            actions,
            limits: limits.collect(),
            powers: powers(state),
            credentials: state
                .credentials()
                .iter()
                .map(|(id, credential)| format!("{id}: {credential:?}"))
                .collect(),
            people: [policy.approvals_to_resume, policy.approvals_to_widen],
        }
    }

    /// Credentials that there are here and weren't `before`.
    pub(crate) fn credentials_beyond(&self, before: &Self) -> Vec<String> {
        self.credentials.difference(&before.credentials).cloned().collect()
    }

    /// What is allowed here that wasn't `before`. An agent that is new since then is left out: registering isn't widening.
    pub(crate) fn beyond(&self, before: &Self) -> Vec<String> {
        let mut more = Vec::new();
        for (agent, then) in &before.actions {
            let now = self.actions.get(agent).into_iter().flatten();
            more.extend(
                now.filter(|action| !then.contains(*action)).map(|action| format!("{agent}: {action}")),
            );
        }
        for (path, now) in &self.limits {
            let then = &before.limits[path];
            if now.iter().zip(then).any(|(now, then)| now > then) {
                more.push(format!("limits of {path}: {then:?} -> {now:?}"));
            }
        }
        more.extend(self.powers.difference(&before.powers).cloned());
        if self.people.iter().zip(before.people).any(|(now, then)| *now < then) {
            more.push(format!("people: {:?} -> {:?}", before.people, self.people));
        }
        more
    }
}

/// The actions of an agent that an edge with this view would permit.
fn permitted(view: &View, agent: &AgentPath, issued: &[LogIndex]) -> BTreeSet<String> {
    let labels = view.effective_labels(agent);
    let grant = GrantId([2; 16]);
    let mut actions = BTreeSet::new();
    for tool in TOOLS {
        for model in [None, Some("large")] {
            for instance in INSTANCES {
                for lineage in [&[][..], &[grant]] {
                    let resource = None;
                    let subject =
                        Subject { agent, instance, lineage, labels: &labels, tool, model, resource };
                    if view.denied_by(&subject).is_some() || !is_intended(view, agent, tool, model) {
                        continue;
                    }
                    let valid = issued.iter().filter(|issued| !is_revoked(view, &subject, **issued));
                    actions.extend(valid.map(|issued| {
                        format!(
                            "{tool:?} {model:?} {instance:?} {lineage:?} with a credential of entry {issued}"
                        )
                    }));
                }
            }
        }
    }
    actions
}

/// A name must fit every list on the path; a list that isn't there restricts nothing.
fn is_intended(view: &View, agent: &AgentPath, tool: Option<&str>, model: Option<&str>) -> bool {
    let fits = |list: &Option<Vec<Pattern>>, name: Option<&str>| match (list, name) {
        (Some(list), Some(name)) => list.iter().any(|pattern| pattern.matches(name)),
        _ => true,
    };
    let home = agent.fleet();
    home.self_and_ancestors()
        .filter_map(|path| view.fleets.get(&path))
        .all(|fleet| fits(&fleet.intent.tools, tool) && fits(&fleet.intent.models, model))
}

fn is_revoked(view: &View, subject: &Subject<'_>, issued: LogIndex) -> bool {
    view.revocations.iter().any(|(target, revocation)| match target {
        RevocationTarget::Grant(grant) => subject.lineage.contains(grant),
        RevocationTarget::Instance(instance) => subject.instance == Some(*instance),
        RevocationTarget::Terminated(_) => revocation
            .issued_before
            .as_ref()
            .is_some_and(|(selector, before)| issued < *before && selector.matches(subject)),
        RevocationTarget::Credential(_) | RevocationTarget::Key(_) => false,
    })
}

fn powers(state: &State) -> BTreeSet<String> {
    let all = [Role::Viewer, Role::Responder, Role::Operator, Role::Approver, Role::Auditor, Role::Admin];
    let scopes: Vec<Option<FleetPath>> = std::iter::once(None).chain(FLEETS.map(fleet).map(Some)).collect();
    let mut powers = BTreeSet::new();
    for (id, person) in state.people() {
        for role in all {
            let held = scopes.iter().filter(|scope| {
                person.roles.iter().any(|binding| binding.role == role && binding.reaches(scope.as_ref()))
            });
            powers.extend(held.map(|scope| format!("{id} is {role} of {scope:?}")));
        }
        powers.extend(person.tls_keys.iter().map(|key| format!("{key} speaks for {id}")));
        powers.insert(format!("{} signs for {id}", person.signing_key));
    }
    for (edge, record) in state.edges() {
        powers.insert(format!("{} is the key of {edge}", record.key));
        let within = scopes.iter().filter(|scope| {
            record
                .paths
                .iter()
                .any(|path| RoleBinding { role: Role::Viewer, path: path.clone() }.reaches(scope.as_ref()))
        });
        powers.extend(within.map(|scope| format!("{edge} enforces in {scope:?}")));
        powers.extend(record.trusted_for_acks.then(|| format!("{edge} speaks for others")));
        powers.extend(record.fails_open.then(|| format!("{edge} fails open")));
    }
    let proposed = state.proposed_bundle();
    powers.extend(proposed.map(|bundle| format!("nodes may put {:?} in force", bundle.keys)));
    let tokens = state.join_tokens().iter();
    powers.extend(tokens.map(|(id, token)| {
        format!("{id} lets {} in to {:?}, trusted: {}", token.edge, token.paths, token.trusted_for_acks)
    }));
    powers.extend(
        state.nodes().values().map(|node| format!("{} signs for node {}", node.signing_key, node.id)),
    );
    powers
}
