//! All that can be seen of the machine, beside the same of its reference.

use std::{collections::BTreeMap, fmt::Debug};

use haltline_core::{
    ids::{KeyHash, PersonId},
    path::{AgentPath, FleetPath},
    policy::{EffectiveLimits, Limits},
    selector::Selector,
    state::State,
    text::Labels,
};

use super::{
    model::{
        Model, is_under,
        kills::can_touch,
        registry::{DEFAULTS, as_numbers},
    },
    world::{AGENTS, FLEETS, KEYS, PEOPLE, agent, fleet, person, tls_key},
};

/// Fails at the first difference.
pub(crate) fn assert_same(state: &State, model: &Model) {
    assert_eq!(state.cluster(), model.cluster.as_ref(), "cluster");
    assert_eq!(state.is_bootstrap(), model.is_bootstrap(), "bootstrap");
    assert_eq!(state.policy(), model.policy, "policy");
    assert_eq!(state.last_stamp(), model.now, "stamp");
    same_table("fleets", state.fleets().iter(), &model.fleets);
    same_table("agents", state.agents().iter(), &model.agents);
    same_table("people", state.people().iter(), &model.people);
    same_table("kills", state.kills().iter(), &model.kills);
    same_table("lifted kills", state.lifted_kills().iter(), &model.lifted);
    same_table("revocations", state.revocations().iter(), &model.revocations);
    same_table("approvals", state.approvals().iter(), &model.approvals);
    assert_eq!(state.requests_len(), model.answered.len(), "answers remembered");
    same_table(
        "nodes",
        state.nodes().iter(),
        &model.nodes.iter().map(|node| (node.id, node.clone())).collect(),
    );
    same_table("join tokens", state.join_tokens().iter(), &model.tokens);
    same_table("edges", state.edges().iter(), &model.edges);
    same_table("credentials", state.credentials().iter(), &model.credentials);
    same_table("receipts", state.receipts().iter(), &model.receipts);
    assert_eq!(state.bundle_version().0, model.bundle_version, "version of the node keys");
    let proposed = state.proposed_bundle().map(|bundle| (bundle.version, &bundle.keys, &bundle.endorsements));
    let expected = model.proposed.as_ref().map(|bundle| (bundle.version, &bundle.keys, &bundle.endorsed));
    assert_eq!(proposed, expected, "node keys that wait");
    assert_same_staleness(state, model);
    assert_same_keys(state, model);
    FLEETS.iter().for_each(|path| assert_same_fleet(state, model, &fleet(path)));
    AGENTS.iter().for_each(|path| assert_same_agent(state, model, &agent(path)));
}

/// What kills by everybody would stop.
pub(crate) fn assert_same_previews(state: &State, model: &Model) {
    for name in PEOPLE {
        assert_same_preview(state, model, &person(name));
    }
}

fn same_table<'a, K: Ord + Clone + Debug + 'a, V: Clone + PartialEq + Debug + 'a>(
    name: &str,
    rows: impl Iterator<Item = (&'a K, &'a V)>,
    expected: &BTreeMap<K, V>,
) {
    let rows: BTreeMap<K, V> = rows.map(|(key, value)| (key.clone(), value.clone())).collect();
    assert_eq!(&rows, expected, "{name}");
}

fn assert_same_keys(state: &State, model: &Model) {
    for key in (0..KEYS).map(tls_key) {
        let owner = model.people.iter().find(|(_, person)| person.tls_keys.contains(&key)).map(|(id, _)| id);
        assert_eq!(state.person_by_key(&key), owner, "owner of {key}");
    }
    for node in &model.nodes {
        assert_eq!(state.node_by_key(&node.key_hash), Some(node.id));
    }
    for key in (0..=u8::MAX).map(|byte| KeyHash([byte; 32])) {
        let owner = model.edges.iter().find(|(_, edge)| edge.key == key).map(|(name, _)| name);
        assert_eq!(state.edge_by_key(&key), owner, "owner of {key}");
    }
}

/// The bound of a kill is never below what a lease can rest on, and exact where nothing old is remembered.
fn assert_same_staleness(state: &State, model: &Model) {
    let everywhere =
        Selector { labels: Labels::from_pairs([("env", "prod")]).unwrap(), ..Selector::default() };
    let readers = state.for_readers();
    let of_fleets = FLEETS.iter().map(|path| Selector::fleet(fleet(path)));
    let of_agents = AGENTS.iter().map(|path| Selector { agent: Some(agent(path)), ..Selector::default() });
    for selector in [everywhere, Selector::default()].into_iter().chain(of_fleets).chain(of_agents) {
        let seen = state.staleness_touched(&selector);
        let (now, ever) = (model.staleness_now(&selector), model.staleness_ever(&selector));
        assert!(seen >= ever, "a kill of {selector} could be passed for {ever}, and the machine says {seen}");
        assert_eq!(readers.staleness_touched(&selector), seen, "as readers see it");
        if !state.remembers_staleness() {
            assert_eq!(seen, now, "max_staleness touched by {selector}");
        }
        if selector.agent.is_none() {
            assert_eq!(
                state.staleness_of_paths(std::slice::from_ref(&selector.fleet)),
                seen,
                "the same by path"
            );
        }
    }
    let all = FLEETS.map(|path| Some(fleet(path)));
    let most = all.iter().map(|path| state.staleness_of_paths(std::slice::from_ref(path))).max();
    assert_eq!(Some(state.staleness_of_paths(&all)), most);
}

fn assert_same_fleet(state: &State, model: &Model, path: &FleetPath) {
    let limits = model.limits_set(Some(path));
    let effective: Vec<u64> =
        limits.iter().zip(DEFAULTS).map(|(set, default)| set.unwrap_or(default)).collect();
    assert_eq!(numbers(&state.effective_limits(path)), effective, "limits of {path}");
    let fleets: Vec<_> =
        model.fleets.keys().filter(|other| is_under(other.as_str(), path.as_str())).collect();
    assert_eq!(state.fleets_under(Some(path)).collect::<Vec<_>>(), fleets, "fleets under {path}");
    let lives_here = |agent: &&AgentPath| is_under(agent.fleet().as_str(), path.as_str());
    let agents: Vec<_> = model.agents.keys().filter(lives_here).collect();
    assert_eq!(state.agents_under(Some(path)).collect::<Vec<_>>(), agents, "agents under {path}");
    let stops_all = |selector: &Selector| {
        let bare = Selector { fleet: None, ..selector.clone() };
        bare.is_everything()
            && selector.fleet.as_ref().is_none_or(|fleet| is_under(path.as_str(), fleet.as_str()))
    };
    let kills: Vec<_> =
        model.kills.iter().filter(|(_, kill)| stops_all(&kill.selector)).map(|(id, _)| *id).collect();
    assert_eq!(state.kills_stopping_fleet(path), kills, "kills of {path}");
    let instances = model.instances_under(path.as_str());
    assert_eq!(state.live_instances(path), instances, "instances under {path}");
    assert_eq!(state.for_readers().live_instances(path), instances, "the same, as readers see it");
}

/// Limits as plain numbers.
pub(crate) fn numbers(limits: &EffectiveLimits) -> Vec<u64> {
    let EffectiveLimits { max_staleness, credential_ttl, delegation_depth, instances } = *limits;
    let limits = Limits {
        max_staleness: Some(max_staleness),
        credential_ttl: Some(credential_ttl),
        delegation_depth: Some(delegation_depth),
        instances: Some(instances),
    };
    as_numbers(&limits).into_iter().flatten().collect()
}

fn assert_same_agent(state: &State, model: &Model, path: &AgentPath) {
    let labels = model.agent_labels(path.as_str());
    let seen = state.effective_labels(path);
    let seen: BTreeMap<String, String> =
        seen.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    assert_eq!(seen, labels, "labels of {path}");
    let stops_all = |selector: &Selector| {
        can_touch(selector, path.as_str(), &labels)
            && (selector.instance, selector.lineage) == (None, None)
            && (&selector.tool, &selector.model, &selector.resource) == (&None, &None, &None)
    };
    let kills: Vec<_> =
        model.kills.iter().filter(|(_, kill)| stops_all(&kill.selector)).map(|(id, _)| *id).collect();
    assert_eq!(state.kills_stopping_agent(path), kills, "kills of {path}");
    assert_eq!(state.live_instances_of(path), model.instances_under(path.as_str()), "instances of {path}");
}

/// What a kill by a person would stop, for a few selectors.
fn assert_same_preview(state: &State, model: &Model, caller: &PersonId) {
    for selector in ["everything", "fleet=a", "fleet=a/x label=env=prod", "label=tier=dev", "agent=a/x/r"] {
        let selector: Selector = selector.parse().unwrap();
        let expected = model.preview(caller, &selector);
        match (state.preview_kill(caller, &selector, 2), expected) {
            (Ok(radius), Ok((selector, fleets, agents))) => {
                assert_eq!(radius.selector, selector);
                assert_eq!((radius.fleets, radius.agents), (fleets, agents.len() as u64), "{selector}");
                let sample: Vec<_> = radius.agent_sample.iter().map(|agent| agent.as_str()).collect();
                assert_eq!(sample, agents.iter().take(2).map(String::as_str).collect::<Vec<_>>());
            }
            (seen, expected) => {
                let code = seen.as_ref().err().map(|rejection| rejection.code());
                assert_eq!(code, expected.err(), "preview of {selector} by {caller}: {seen:?}");
            }
        }
    }
}
