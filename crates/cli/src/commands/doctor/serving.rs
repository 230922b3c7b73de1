//! Whether the nodes agree with one another: on what happened, and in what they run.

use std::collections::{BTreeMap, BTreeSet};

use haltline_core::limits::{AGENTS_MAX, EDGES_MAX, FLEETS_MAX, KILLS_MAX, REQUESTS_MAX, REVOCATIONS_MAX};
use haltline_node::doctor::Finding;
use haltline_wire::v1;

use super::answers::Answers;
use crate::output::page::grouped;

/// Entries that a node may be behind without anybody noticing.
const LAG_MAX: u64 = 1_000;
/// What is left of a certificate of ninety days when a node has failed to renew it for two weeks.
const CERTIFICATE_LEFT_MIN_S: u64 = 15 * 86_400;
/// Tables from this full on are told, in percent of their bound.
const FULL_PERCENT: u64 = 80;

/// Lays the nodes' answers side by side.
pub(super) fn check(answers: &Answers) -> Vec<Finding> {
    let mut findings = Vec::new();
    if answers.best().is_none() {
        return findings;
    }
    findings.push(versions(answers));
    findings.extend(differing(answers, "data-format", "write different data formats", |status| {
        status.data_format.to_string()
    }));
    findings.extend(differing(answers, "profile", "have different timing profiles", |status| {
        status.timing_profile.clone()
    }));
    findings.extend(chains(answers));
    findings.extend(lag(answers));
    findings.extend(answers.statuses().filter_map(certificate));
    findings.extend(
        answers.best().and_then(|best| best.counts).map(|counts| tables(&counts)).unwrap_or_default(),
    );
    findings
}

fn versions(answers: &Answers) -> Finding {
    let versions: BTreeSet<&str> = answers.statuses().map(|status| status.version.as_str()).collect();
    let shown = versions.iter().copied().collect::<Vec<_>>().join(", ");
    if versions.len() > 1 {
        Finding::warn("version", "the nodes", format!("run different versions: {shown}"))
            .remedy("one version: finish the upgrade, one node after another")
    } else {
        Finding::ok("version", "the nodes", format!("all run {shown}"))
    }
}

/// What should be the same everywhere and isn't. A node that doesn't say is of an earlier version.
fn differing(
    answers: &Answers,
    check: &'static str,
    told: &str,
    of: impl Fn(&v1::Status) -> String,
) -> Option<Finding> {
    let mut by_value: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for status in answers.statuses() {
        let value = of(status);
        if !value.is_empty() && value != "0" {
            by_value.entry(value).or_default().push(&status.node_name);
        }
    }
    if by_value.len() < 2 {
        return None;
    }
    let shown = by_value.iter().map(|(value, nodes)| format!("{value} on {}", nodes.join(", ")));
    let told = format!("{told}: {}", shown.collect::<Vec<_>>().join("; "));
    Some(Finding::warn(check, "the nodes", told).remedy("the same on every node"))
}

fn chains(answers: &Answers) -> Option<Finding> {
    let forked = answers.statuses().any(|one| {
        answers.statuses().any(|other| one.event_seq == other.event_seq && one.chain_head != other.chain_head)
    });
    forked.then(|| {
        Finding::fail("chain", "the nodes", "disagree about what happened")
            .remedy("this must never be: keep the data directories of all nodes, and report it")
    })
}

fn lag(answers: &Answers) -> Vec<Finding> {
    let most = answers.statuses().map(|status| status.applied_index).max().unwrap_or(0);
    let behind = answers.statuses().filter_map(|status| {
        let lag = most.saturating_sub(status.applied_index);
        (lag > LAG_MAX).then(|| {
            Finding::warn("lag", status.node_name.as_str(), format!("{} entries behind", grouped(lag)))
                .remedy("it catches up by itself; if it doesn't, its disk or its network is too slow")
        })
    });
    behind.collect()
}

fn certificate(status: &v1::Status) -> Option<Finding> {
    let end = haltline_pki::UnixSeconds(status.certificate_ends_unix_s);
    if end.0 == 0 {
        return None;
    }
    let left = end.0.saturating_sub(haltline_pki::UnixSeconds::now().0);
    let told = format!("its certificate ends on {end}, in {} days", left / 86_400);
    Some(if left < CERTIFICATE_LEFT_MIN_S {
        Finding::warn("certificate", status.node_name.as_str(), told)
            .remedy("the node should have renewed it: its log says why it couldn't")
    } else {
        Finding::ok("certificate", status.node_name.as_str(), told)
    })
}

fn tables(counts: &v1::Counts) -> Vec<Finding> {
    let tables = [
        ("fleets", counts.fleets, FLEETS_MAX),
        ("agents", counts.agents, AGENTS_MAX),
        ("kills", counts.kills, KILLS_MAX),
        ("revocations", counts.revocations, REVOCATIONS_MAX),
        ("edges", counts.edges, EDGES_MAX),
        ("command ids", counts.requests, REQUESTS_MAX),
    ];
    let full = tables.into_iter().filter(|(_, entries, bound)| entries * 100 >= *bound as u64 * FULL_PERCENT);
    full.map(|(table, entries, bound)| {
        let told = format!("{} of at most {}", grouped(entries), grouped(bound as u64));
        Finding::warn("table", table, told).remedy("at the bound new ones are refused; kills never are")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_told_when_they_fill_up() {
        let counts = v1::Counts { agents: 900_000, fleets: 10, ..v1::Counts::default() };
        let told: Vec<String> = tables(&counts).into_iter().map(|finding| finding.subject).collect();
        assert_eq!(told, ["agents"]);
    }
}
