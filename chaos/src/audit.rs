//! Every node is asked for everything that was acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use haltline_core::path::FleetPath;
use haltline_testkit::cluster::{CallError, Person};
use haltline_wire::v1::{
    GetAgentRequest, Kill, ListAgentsRequest, ListKillsRequest, fleet_service_client::FleetServiceClient,
    kill_service_client::KillServiceClient,
};

use crate::ledger::{Counter, Ledger};

/// The largest page that lists allow.
const PAGE: u32 = 1_000;

/// What one node says there is.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Agents of the round's fleet.
    agents: BTreeSet<String>,
    /// Kills in force: number and agent.
    kills: BTreeMap<u64, String>,
    /// Versions of the counters, in their order.
    versions: Vec<u64>,
}

/// Asks one node for everything.
///
/// # Errors
/// If it doesn't answer.
pub(crate) async fn look(
    person: &Person,
    node: usize,
    fleet: &FleetPath,
    counters: &[String],
) -> Result<Seen, CallError> {
    let mut seen = Seen { agents: agents(person, node, fleet).await?, ..Seen::default() };
    for kill in kills(person, node).await? {
        seen.kills.insert(kill.id, kill.selector.unwrap_or_default().agent);
    }
    let mut fleets = FleetServiceClient::new(person.channel(node));
    for path in counters {
        let agent = fleets
            .get_agent(GetAgentRequest { path: path.clone() })
            .await
            .map_err(|status| refused(&status))?;
        seen.versions.push(agent.into_inner().version);
    }
    Ok(seen)
}

async fn agents(person: &Person, node: usize, fleet: &FleetPath) -> Result<BTreeSet<String>, CallError> {
    let mut client = FleetServiceClient::new(person.channel(node));
    let mut agents = BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let ask = ListAgentsRequest {
            under: fleet.to_string(),
            page_size: PAGE,
            page_token,
            ..ListAgentsRequest::default()
        };
        let page = client.list_agents(ask).await.map_err(|status| refused(&status))?.into_inner();
        agents.extend(page.agents.into_iter().map(|agent| agent.path));
        if page.next_page_token.is_empty() {
            return Ok(agents);
        }
        page_token = page.next_page_token;
    }
}

async fn kills(person: &Person, node: usize) -> Result<Vec<Kill>, CallError> {
    let mut client = KillServiceClient::new(person.channel(node));
    let mut kills = Vec::new();
    let mut page_token = String::new();
    loop {
        let ask = ListKillsRequest { include_lifted: false, page_size: PAGE, page_token };
        let page = client.list_kills(ask).await.map_err(|status| refused(&status))?.into_inner();
        kills.extend(page.kills);
        if page.next_page_token.is_empty() {
            return Ok(kills);
        }
        page_token = page.next_page_token;
    }
}

fn refused(status: &tonic::Status) -> CallError {
    CallError::Refused(haltline_wire::refusal::Refusal::from_status(status))
}

/// What of the ledger isn't as one node says.
pub(crate) fn compare(ledger: &Ledger, seen: &Seen, node: &str) -> Vec<String> {
    let mut violations = Vec::new();
    for path in ledger.agents.difference(&seen.agents) {
        violations.push(format!("node {node}: agent {path} was acknowledged and isn't there"));
    }
    for (kill, agent) in &ledger.kills {
        match seen.kills.get(kill) {
            Some(stopped) if stopped == agent => {}
            got => violations
                .push(format!("node {node}: kill-{kill} of {agent} was acknowledged; there is {got:?}")),
        }
    }
    for (counter, version) in ledger.counters.iter().zip(&seen.versions) {
        violations
            .extend(judge(counter, *version).map(|why| format!("node {node}: {}: {why}", counter.path)));
    }
    violations
}

/// What is wrong with a counter that has come to this version.
fn judge(counter: &Counter, version: u64) -> Option<String> {
    let acknowledged = counter.versions.len() as u64;
    let distinct: BTreeSet<&u64> = counter.versions.iter().collect();
    let executed = version.saturating_sub(counter.first_version);
    if (distinct.len() as u64) < acknowledged {
        return Some(format!("{acknowledged} updates were acknowledged with {} versions", distinct.len()));
    }
    if let Some(highest) = distinct.last().filter(|highest| ***highest > version) {
        return Some(format!("version {highest} was acknowledged, and it is at {version}"));
    }
    let possible = acknowledged..=acknowledged + counter.abandoned;
    (!possible.contains(&executed)).then(|| {
        format!(
            "{acknowledged} updates were acknowledged and {} given up on, but {executed} were carried out",
            counter.abandoned
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn counter(versions: &[u64], abandoned: u64) -> Counter {
        Counter { path: "a/b".parse().unwrap(), first_version: 1, versions: versions.to_vec(), abandoned }
    }

    #[test]
    fn a_lost_a_repeated_and_a_shared_update_all_show() {
        assert_eq!(judge(&counter(&[2, 3, 4], 0), 4), None);
        assert!(
            judge(&counter(&[2, 3, 4], 0), 3).is_some_and(|why| why.contains("version 4 was acknowledged"))
        );
        assert!(judge(&counter(&[2, 3, 4], 0), 5).is_some_and(|why| why.contains("4 were carried out")));
        assert!(judge(&counter(&[2, 3, 3], 0), 4).is_some_and(|why| why.contains("2 versions")));
    }

    #[test]
    fn what_was_given_up_on_may_have_happened_or_not() {
        for version in [3, 4, 5] {
            assert_eq!(judge(&counter(&[2, 3], 2), version), None);
        }
        assert!(judge(&counter(&[2, 3], 2), 6).is_some());
    }

    #[test]
    fn a_missing_agent_and_a_missing_kill_show() {
        let mut ledger = Ledger::default();
        ledger.agents.insert("a/b".into());
        ledger.kills.push((7, "a/b".into()));
        assert_eq!(compare(&ledger, &Seen::default(), "c").len(), 2);
        let seen = Seen {
            agents: ["a/b".to_owned()].into(),
            kills: [(7, "a/b".to_owned())].into(),
            versions: Vec::new(),
        };
        assert_eq!(compare(&ledger, &seen, "c"), [""; 0]);
    }
}
