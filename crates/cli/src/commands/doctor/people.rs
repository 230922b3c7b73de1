//! What people should see to: kills that aren't proven, edges that lag, approvals that lapse, a door left open.

use std::collections::BTreeSet;

use haltline_core::{
    ids::{ApprovalId, KillId},
    time::{ClusterTime, Millis},
};
use haltline_node::doctor::Finding;
use haltline_pki::UnixSeconds;
use haltline_wire::v1::{
    self, approval_service_client::ApprovalServiceClient, edge_admin_service_client::EdgeAdminServiceClient,
    kill_service_client::KillServiceClient,
};

use super::answers::Answers;
use crate::{
    client::{Client, all_pages},
    failure::Failure,
    output::{page::counted, times},
};

/// What is left when an approval is told to be about to lapse.
const LAPSES_WITHIN: Millis = Millis(10 * 60 * 1_000);
/// A kill that isn't proven after this long is worth a look; the proof takes no longer than the largest staleness.
const PROOF_EXPECTED: Millis = Millis(60_000);
/// What is left of one's own certificate when it is time for a new one.
const OWN_LEFT_MIN_S: u64 = 14 * 86_400;
/// Names in one finding.
const NAMES_SHOWN: usize = 5;

/// The caller's own certificate, without which nothing else works.
pub(super) fn own_certificate(client: &Client) -> Finding {
    let identity = client.identity();
    let end = identity.tls().leaf().validity.not_after;
    let left = end.0.saturating_sub(UnixSeconds::now().0);
    let (subject, told) = (format!("yours, {}", identity.person()), format!("ends on {end}"));
    let remedy = "a new one of an admin: `haltline operator certify --request request.json`";
    match left {
        0 => Finding::fail("certificate", subject, format!("ended on {end}")).remedy(remedy),
        _ if left < OWN_LEFT_MIN_S => Finding::warn("certificate", subject, told).remedy(remedy),
        _ => Finding::ok("certificate", subject, told),
    }
}

/// Asks for what is under way. What can't be asked for is a finding too.
pub(super) async fn check(client: &Client, answers: &Answers) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(cluster) = &answers.cluster else { return findings };
    let now = ClusterTime(cluster.cluster_time_ms);
    if cluster.bootstrap {
        findings.push(
            Finding::warn(
                "bootstrap",
                "the cluster",
                "one person may do everything until a second one is enrolled",
            )
            .remedy("enrol a second admin: `haltline operator add`"),
        );
    }
    findings.extend(told("kills", kills(client).await, |kills| judge_kills(&kills, now)));
    findings.extend(told("approvals", approvals(client).await, |approvals| judge_approvals(&approvals, now)));
    findings.extend(told("edges", edges(client).await, |edges| judge_edges(&edges, answers)));
    findings
}

/// What came of asking, judged.
fn told<T>(
    what: &'static str,
    asked: Result<T, Failure>,
    judge: impl FnOnce(T) -> Vec<Finding>,
) -> Vec<Finding> {
    match asked {
        Ok(answer) => judge(answer),
        Err(failure) => {
            vec![Finding::warn(what, "the cluster", format!("couldn't be asked for: {}", failure.message))]
        }
    }
}

async fn kills(client: &Client) -> Result<Vec<v1::Kill>, Failure> {
    let listed = all_pages(0, |page_size, page_token| async move {
        let request = v1::ListKillsRequest { include_lifted: false, page_size, page_token };
        let call = client.call("listing kills", |channel| {
            let request = request.clone();
            async move { KillServiceClient::new(channel).list_kills(request).await }
        });
        let answer = call.await?;
        Ok((answer.kills, answer.next_page_token))
    });
    Ok(listed.await?.items)
}

fn judge_kills(kills: &[v1::Kill], now: ClusterTime) -> Vec<Finding> {
    let age =
        |kill: &v1::Kill| now.since(ClusterTime(kill.placed.map_or(now.0, |stamp| stamp.cluster_time_ms)));
    let unproven: Vec<&v1::Kill> =
        kills.iter().filter(|kill| !kill.has_receipt && age(kill) > PROOF_EXPECTED).collect();
    if unproven.is_empty() {
        let told = if kills.is_empty() { "none in force" } else { "all in force are proven to be enforced" };
        return vec![Finding::ok("kills", counted(kills.len() as u64, "kill"), told)];
    }
    let names = unproven.iter().map(|kill| KillId(kill.id).to_string());
    vec![
        Finding::warn("kills", some(names), "in force, and not yet proven to be enforced everywhere")
            .remedy("`haltline enforcement watch KILL` says who is waited for"),
    ]
}

async fn approvals(client: &Client) -> Result<Vec<v1::Approval>, Failure> {
    let listed = all_pages(0, |page_size, page_token| async move {
        let request = v1::ListApprovalsRequest { page_size, page_token };
        let call = client.call("listing approvals", |channel| {
            let request = request.clone();
            async move { ApprovalServiceClient::new(channel).list_approvals(request).await }
        });
        let answer = call.await?;
        Ok((answer.approvals, answer.next_page_token))
    });
    Ok(listed.await?.items)
}

fn judge_approvals(approvals: &[v1::Approval], now: ClusterTime) -> Vec<Finding> {
    let lapsing = approvals.iter().filter_map(|approval| {
        let end = ClusterTime(approval.deadline_ms);
        (end.since(now) < LAPSES_WITHIN).then(|| {
            let subject = format!("{} of {}", ApprovalId(approval.id), approval.requester);
            let told = format!("lapses {}", times::until(end, now));
            Finding::warn("approvals", subject, told)
                .remedy("`haltline approve` or `haltline withdraw` it; else it has to be asked for again")
        })
    });
    let mut findings: Vec<Finding> = lapsing.collect();
    if findings.is_empty() {
        let told = if approvals.is_empty() { "nothing waits" } else { "wait for a second person" };
        findings.push(Finding::ok("approvals", counted(approvals.len() as u64, "approval"), told));
    }
    findings
}

async fn edges(client: &Client) -> Result<Vec<v1::Edge>, Failure> {
    let listed = all_pages(0, |page_size, page_token| async move {
        let request = v1::ListEdgesRequest { page_size, page_token, registry_only: false };
        let call = client.call("listing edges", |channel| {
            let request = request.clone();
            async move { EdgeAdminServiceClient::new(channel).list_edges(request).await }
        });
        let answer = call.await?;
        Ok((answer.edges, answer.next_page_token))
    });
    Ok(listed.await?.items)
}

fn judge_edges(edges: &[v1::Edge], answers: &Answers) -> Vec<Finding> {
    let mut findings = Vec::new();
    let versions: BTreeSet<&str> = answers.statuses().map(|status| status.version.as_str()).collect();
    let names = |of: &dyn Fn(&v1::Edge) -> bool| -> Vec<String> {
        edges.iter().filter(|edge| of(edge)).map(|edge| edge.name.clone()).collect()
    };
    let state = |edge: &v1::Edge| edge.live.as_ref().map(v1::EdgeStream::state);
    let away = names(&|edge| matches!(state(edge), None | Some(v1::EdgeStreamState::Closed)));
    let dark = names(&|edge| state(edge) == Some(v1::EdgeStreamState::NoLease));
    let lagging = names(&|edge| state(edge) == Some(v1::EdgeStreamState::Lagging));
    let open = names(&|edge| edge.fails_open);
    let old = names(&|edge| {
        edge.live
            .as_ref()
            .is_some_and(|live| !live.version.is_empty() && !versions.contains(live.version.as_str()))
    });
    let mut tell = |names: Vec<String>, told: &str, remedy: &str| {
        if !names.is_empty() {
            findings.push(Finding::warn("edges", some(names.into_iter()), told).remedy(remedy));
        }
    };
    tell(
        away,
        "connected to no node that was asked; denies once its lease has ended",
        "it runs, and reaches a `listen.edge`",
    );
    tell(
        dark,
        "connected, and permits nothing: it has no lease",
        "its log says why; `haltline edges` shows how it stands",
    );
    tell(
        lagging,
        "hasn't acknowledged all that its node has applied",
        "it catches up by itself; kills are waited out meanwhile",
    );
    tell(
        open,
        "permits when it can't decide, so no receipt bounds what it does",
        "`haltline edge update NAME --fails-open false`",
    );
    tell(old, "runs another version than any node", "the version of the nodes");
    if findings.is_empty() {
        let told = if edges.is_empty() { "none is enrolled" } else { "all are current" };
        findings.push(Finding::ok("edges", counted(edges.len() as u64, "edge"), told));
    }
    findings
}

/// The first of some names.
fn some(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let shown = names.take(NAMES_SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use haltline_node::doctor::Level;

    use super::*;

    const NOW: ClusterTime = ClusterTime(1_000_000);

    fn levels(findings: &[Finding]) -> Vec<Level> {
        findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_kill_without_proof_is_told_once_it_should_be_there() {
        let kill = |id, placed_ms, has_receipt| v1::Kill {
            id,
            has_receipt,
            placed: Some(v1::Stamp { cluster_time_ms: placed_ms, ..v1::Stamp::default() }),
            ..v1::Kill::default()
        };
        assert_eq!(levels(&judge_kills(&[kill(1, 1, true), kill(2, 999_000, false)], NOW)), [Level::Ok]);
        let findings = judge_kills(&[kill(1, 1, true), kill(2, 1, false)], NOW);
        assert_eq!((findings[0].level, findings[0].subject.as_str()), (Level::Warn, "kill-2"));
    }

    #[test]
    fn approvals_are_told_before_they_lapse() {
        let approval =
            |deadline_ms| v1::Approval { id: 3, requester: "ada".into(), deadline_ms, ..Default::default() };
        assert_eq!(levels(&judge_approvals(&[approval(5_000_000)], NOW)), [Level::Ok]);
        let findings = judge_approvals(&[approval(1_120_000)], NOW);
        assert_eq!((findings[0].level, findings[0].told.as_str()), (Level::Warn, "lapses in 2 min"));
    }

    #[test]
    fn edges_are_told_by_what_ails_them() {
        let edge = |name: &str, state| v1::Edge {
            name: name.into(),
            live: Some(v1::EdgeStream { state, ..Default::default() }),
            ..Default::default()
        };
        let current = v1::EdgeStreamState::Current.into();
        let nobody = Answers { cluster: None, nodes: Vec::new() };
        assert_eq!(levels(&judge_edges(&[edge("a", current)], &nobody)), [Level::Ok]);
        let away = v1::Edge { live: None, ..edge("b", current) };
        let dark = edge("c", v1::EdgeStreamState::NoLease.into());
        let findings = judge_edges(&[edge("a", current), away, dark], &nobody);
        let subjects: Vec<&str> = findings.iter().map(|finding| finding.subject.as_str()).collect();
        assert_eq!(subjects, ["b", "c"]);
    }

    #[test]
    fn many_names_are_cut() {
        assert_eq!(some((1..8).map(|n| n.to_string())), "1, 2, 3, 4, 5 and 2 more");
    }
}
