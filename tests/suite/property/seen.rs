//! All that can be seen of the machine, beside the same of its reference.

use std::{collections::BTreeMap, fmt::Debug};

use haltline_core::{
    ids::PersonId,
    path::{AgentPath, FleetPath},
    policy::{EffectiveLimits, Limits},
    selector::Selector,
    state::State,
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
