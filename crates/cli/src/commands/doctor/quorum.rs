//! Whether the cluster can decide, and what it could still lose.

use std::collections::BTreeMap;

use haltline_node::doctor::Finding;
use haltline_wire::v1;

use super::answers::Answers;
use crate::output::page::counted;

/// Looks at leadership, voters and where they stand.
pub(super) fn check(answers: &Answers) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in &answers.nodes {
        findings.push(match &node.first {
            Ok(seen) => Finding::ok("reachable", node.name(), format!("{}, at {}", seen.status.role, node.endpoint)),
            Err(reason) => Finding::fail("reachable", node.name(), format!("doesn't answer: {reason}")).remedy(
                "it runs (`systemctl status haltline-node` there), and its `listen.api` port is open to you",
            ),
        });
    }
    let Some(best) = answers.best() else {
        findings.push(
            Finding::fail("quorum", "the cluster", "no node answers, so nothing can be changed")
                .remedy("a majority of the nodes running; what is stopped stays stopped meanwhile"),
        );
        return findings;
    };
    let voters: Vec<u64> =
        best.members.iter().filter(|member| member.voter).map(|member| member.id).collect();
    let answering =
        voters.iter().filter(|id| answers.statuses().any(|status| status.node_id == **id)).count();
    findings.push(leader(best));
    findings.push(margin(voters.len(), answering));
    findings.extend(parity(voters.len()));
    findings.extend(learners(best));
    if let Some(cluster) = &answers.cluster {
        findings.extend(regions(&voters, cluster));
    }
    findings
}

fn leader(best: &v1::Status) -> Finding {
    if best.leader_id == 0 {
        return Finding::fail("leader", "the cluster", "no leader is known")
            .remedy("an election takes under three seconds; if there is none by then, too few nodes reach one another");
    }
    Finding::ok("leader", "the cluster", format!("node {} leads in term {}", best.leader_id, best.term))
}

/// How many may fail from here.
fn margin(voters: usize, answering: usize) -> Finding {
    let majority = voters / 2 + 1;
    let subject = format!("{answering} of {} answer", counted(voters as u64, "voter"));
    match answering.checked_sub(majority) {
        None => Finding::fail("quorum", subject, format!("{majority} are needed, so nothing can be changed"))
            .remedy("bring nodes back; what is stopped stays stopped meanwhile"),
        Some(0) if voters == 1 => Finding::warn("quorum", subject, "nothing can be changed while it is down")
            .remedy("three nodes, on three machines"),
        Some(0) => Finding::warn("quorum", subject, "if one more fails, nothing can be changed")
            .remedy("bring the others back before anything else happens"),
        Some(more) => Finding::ok("quorum", subject, format!("{more} more may fail")),
    }
}

/// An even number costs a machine and buys nothing.
fn parity(voters: usize) -> Option<Finding> {
    if voters % 2 == 1 {
        return None;
    }
    let told = format!(
        "an even number: as many may fail as of {}, and a split down the middle stops both halves",
        voters - 1
    );
    Some(Finding::warn("quorum", counted(voters as u64, "voter"), told).remedy("three or five voters"))
}

fn learners(best: &v1::Status) -> Option<Finding> {
    let learners: Vec<&str> =
        best.members.iter().filter(|member| !member.voter).map(|member| member.name.as_str()).collect();
    let subject = learners.join(", ");
    (!learners.is_empty()).then(|| Finding::note("quorum", subject, "follows without a vote"))
}

/// One region with a majority takes the cluster with it.
fn regions(voters: &[u64], cluster: &v1::Cluster) -> Vec<Finding> {
    let mut by_region: BTreeMap<&str, usize> = BTreeMap::new();
    for node in cluster.nodes.iter().filter(|node| voters.contains(&node.id)) {
        *by_region.entry(node.region.as_str()).or_default() += 1;
    }
    let named: Vec<_> = by_region.iter().filter(|(region, _)| !region.is_empty()).collect();
    let Some((region, most)) = named.iter().max_by_key(|(_, number)| **number) else { return Vec::new() };
    let left = voters.len() - **most;
    let majority = voters.len() / 2 + 1;
    if voters.len() == 1 {
        return Vec::new();
    }
    vec![match (named.len(), left < majority) {
        (1, true) => Finding::warn("regions", format!("all voters in {region}"), "if it is lost, nothing can be changed")
            .remedy("voters in three regions, if the cluster must outlive one; none of it matters for what is stopped"),
        (_, true) => Finding::warn(
            "regions",
            format!("{most} of {} voters in {region}", voters.len()),
            "if it is lost, those left are no majority",
        )
        .remedy("no region with half of the voters or more"),
        (regions, false) => {
            Finding::ok("regions", format!("voters in {regions} regions"), "any one of them may be lost")
        }
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use haltline_node::doctor::Level;

    #[test]
    fn the_margin_is_what_may_still_fail() {
        let level = |voters, answering| margin(voters, answering).level;
        assert_eq!(level(3, 3), Level::Ok);
        assert_eq!(level(3, 2), Level::Warn);
        assert_eq!(level(3, 1), Level::Fail);
        assert_eq!(level(5, 4), Level::Ok);
        assert_eq!(level(1, 1), Level::Warn);
        assert!(parity(4).is_some() && parity(5).is_none());
    }

    #[test]
    fn a_region_may_be_lost_or_not() {
        let cluster = |regions: &[&str]| v1::Cluster {
            nodes: (1..)
                .zip(regions)
                .map(|(id, region)| v1::Node { id, region: (*region).into(), ..v1::Node::default() })
                .collect(),
            ..v1::Cluster::default()
        };
        let level = |names: &[&str]| {
            let voters: Vec<u64> = (1..=names.len() as u64).collect();
            regions(&voters, &cluster(names)).first().map(|finding| finding.level)
        };
        assert_eq!(level(&["eu", "us", "ap"]), Some(Level::Ok));
        assert_eq!(level(&["eu", "eu", "us"]), Some(Level::Warn));
        assert_eq!(level(&["eu", "eu", "eu"]), Some(Level::Warn));
        assert_eq!(level(&["", "", ""]), None, "nobody said where they stand");
    }
}
