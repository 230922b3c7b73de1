//! `haltline status`: every node asked at once, each in its own words, and whether they agree.

use std::{collections::BTreeSet, time::Duration};

use haltline_core::time::Millis;
use haltline_pki::Endpoint;
use haltline_wire::v1::{self, cluster_service_client::ClusterServiceClient};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Session, resource};
use crate::{
    client::Client,
    exit::Exit,
    failure::Failure,
    output::{
        Render,
        page::{Page, counted, grouped},
        table::{Cell, Table, Tone},
        times,
        value::hex,
    },
};

/// How long each node may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Characters of a chain head that people compare at a glance.
const HEAD_SHOWN: usize = 12;

/// Shows the cluster.
pub(super) async fn run(session: &Session) -> Result<Exit, Failure> {
    let cluster = session.client.cluster().await?;
    session.client.facts_of(&cluster)?;
    let nodes = ask_all(&session.client, session.client.all_endpoints(&cluster), PATIENCE).await;
    let overview = Overview { cluster, nodes };
    session.screen.print(&overview)?;
    Ok(if overview.has_quorum() { Exit::Done } else { Exit::Unreachable })
}

/// What one node says, or why it says nothing.
pub(crate) type Said = (Endpoint, Result<v1::Status, Failure>);

/// Asks every node for its own view, all at once.
pub(crate) async fn ask_all(client: &Client, endpoints: Vec<Endpoint>, patience: Duration) -> Vec<Said> {
    let mut asked = JoinSet::new();
    for (position, endpoint) in endpoints.into_iter().enumerate() {
        let client = client.only(endpoint.clone(), patience);
        asked.spawn(async move {
            let said = match client {
                Ok(client) => ask(&client).await,
                Err(failure) => Err(failure),
            };
            (position, (endpoint, said))
        });
    }
    // A task that panicked would be a defect of ours; its node then counts as silent.
    let mut said = asked.join_all().await;
    said.sort_by_key(|(position, _)| *position);
    said.into_iter().map(|(_, said)| said).collect()
}

async fn ask(client: &Client) -> Result<v1::Status, Failure> {
    client
        .call("asking for the node's status", |channel| async move {
            ClusterServiceClient::new(channel).get_status(v1::GetStatusRequest {}).await
        })
        .await
}

struct Overview {
    cluster: v1::Cluster,
    nodes: Vec<Said>,
}

impl Overview {
    fn answering(&self) -> impl Iterator<Item = &v1::Status> {
        self.nodes.iter().filter_map(|(_, said)| said.as_ref().ok())
    }

    /// The status that counts: the leader's of the highest term, or the one that has applied most.
    fn best(&self) -> Option<&v1::Status> {
        self.answering().max_by_key(|status| (status.role == "leader", status.term, status.applied_index))
    }

    fn has_quorum(&self) -> bool {
        let Some(best) = self.best() else { return false };
        let voters: Vec<u64> =
            best.members.iter().filter(|member| member.voter).map(|member| member.id).collect();
        let present =
            voters.iter().filter(|id| self.answering().any(|status| status.node_id == **id)).count();
        best.leader_id != 0 && present * 2 > voters.len()
    }

    /// The versions that run; more than one in the middle of an upgrade.
    fn versions(&self) -> String {
        let versions: BTreeSet<&str> = self.answering().map(|status| status.version.as_str()).collect();
        versions.into_iter().collect::<Vec<_>>().join(", ")
    }

    /// Whether nodes at the same place of the chain have the same head; two that don't must never be.
    fn forked(&self) -> bool {
        self.answering().any(|one| {
            self.answering()
                .any(|other| one.event_seq == other.event_seq && one.chain_head != other.chain_head)
        })
    }
}

impl Render for Overview {
    fn page(&self, page: &mut Page) {
        let cluster = &self.cluster;
        let policy = cluster.policy.unwrap_or_default();
        page.facts([
            ("cluster", Some(resource::cluster_name(&cluster.cluster_id, cluster.incarnation))),
            ("cluster time", Some(times::length(Millis(cluster.cluster_time_ms)))),
            ("you are", Some(cluster.you.clone())),
            ("people needed", Some(people_needed(cluster, policy))),
            ("version", Some(self.versions())),
            ("registered", self.best().and_then(|status| status.counts).map(|counts| registered(&counts))),
        ]);
        if cluster.bootstrap {
            page.toned(
                "Bootstrap: one person may do everything until a second one is enrolled (haltline operator add).",
                Tone::Warn,
            );
        }
        page.gap();
        let mut table = Table::default()
            .word("NODE")
            .text("ADDRESS")
            .word("ROLE")
            .number("TERM")
            .number("APPLIED")
            .word("CHAIN HEAD")
            .word("UP");
        for (endpoint, said) in &self.nodes {
            table.row(row(endpoint, said));
        }
        page.table(&table, "No node is known.");
        for (endpoint, said) in &self.nodes {
            if let Err(failure) = said {
                page.toned(format!("{endpoint} is silent: {}", why_silent(failure)), Tone::Warn);
            }
        }
        for (_, said) in &self.nodes {
            if let Some((words, tone)) = said.as_ref().ok().and_then(disk_warning) {
                page.toned(words, tone);
            }
        }
        if self.answering().any(takes_kills_only) {
            page.toned(
                "No commands but kills are taken until the disks of a majority have room (DISK_FULL).",
                Tone::Bad,
            );
        }
        if self.forked() {
            page.toned(
                "Two nodes disagree about the chain. This must never be: keep both, and report it.",
                Tone::Bad,
            );
        }
        if !self.has_quorum() {
            page.toned("There is no quorum: nothing can be changed until more nodes are back.", Tone::Bad);
        }
    }

    fn value(&self) -> Value {
        let cluster = &self.cluster;
        let policy = cluster.policy.unwrap_or_default();
        json!({
            "cluster_id": hex(&cluster.cluster_id),
            "incarnation": cluster.incarnation,
            "cluster_time_ms": cluster.cluster_time_ms,
            "bootstrap": cluster.bootstrap,
            "you": cluster.you,
            "approvals_to_resume": policy.approvals_to_resume,
            "approvals_to_widen": policy.approvals_to_widen,
            "quorum": self.has_quorum(),
            "chains_agree": !self.forked(),
            "nodes": self.nodes.iter().map(node_value).collect::<Vec<_>>(),
        })
    }
}

fn takes_kills_only(status: &v1::Status) -> bool {
    status.disk.as_ref().is_some_and(|disk| disk.takes_kills_only)
}

/// What an operator should know of a node's disk. One that an older version doesn't speak of is taken to be fine.
fn disk_warning(status: &v1::Status) -> Option<(String, Tone)> {
    let (name, disk) = (&status.node_name, status.disk.as_ref()?);
    let free =
        disk.free_bytes.map_or_else(String::new, |free| format!(" ({} MiB free)", grouped(free >> 20)));
    match disk.room.as_str() {
        "low" => Some((format!("The disk of {name} is nearly full{free}: free space there."), Tone::Warn)),
        "nothing" => {
            let waiting = times::length(Millis(disk.waiting_ms));
            let words = format!(
                "The disk of {name} is full{free}: its log has waited for room for {waiting}; free space there."
            );
            Some((words, Tone::Bad))
        }
        _ => None,
    }
}

fn disk_value(disk: &v1::DiskStatus) -> Value {
    json!({
        "room": disk.room,
        "free_bytes": disk.free_bytes,
        "waiting_ms": disk.waiting_ms,
        "reserve_segments": disk.reserve_segments,
        "reserve_segments_wanted": disk.reserve_segments_wanted,
        "sync_recent_us": disk.sync_recent_us,
        "takes_kills_only": disk.takes_kills_only,
    })
}

/// What was seen of the node, without how long and for what it was asked.
fn why_silent(failure: &Failure) -> &str {
    let report = failure.details.get("nodes").and_then(|nodes| nodes.get(0)).and_then(Value::as_str);
    report.and_then(|report| report.split_once(": ")).map_or(failure.message.as_str(), |(_, words)| words)
}

fn people_needed(cluster: &v1::Cluster, policy: v1::ClusterPolicy) -> String {
    if cluster.bootstrap {
        return "1 for anything, while in bootstrap".to_owned();
    }
    format!("{} to resume, {} to widen", policy.approvals_to_resume, policy.approvals_to_widen)
}

fn registered(counts: &v1::Counts) -> String {
    let mut parts = vec![
        counted(counts.fleets, "fleet"),
        counted(counts.agents, "agent"),
        counted(counts.people, "person"),
        format!("{} in force", counted(counts.kills, "kill")),
    ];
    if counts.revocations > 0 {
        parts.push(counted(counts.revocations, "revocation"));
    }
    if counts.approvals > 0 {
        parts.push(format!("{} waiting", counted(counts.approvals, "approval")));
    }
    parts.join(", ")
}

fn row(endpoint: &Endpoint, said: &Result<v1::Status, Failure>) -> [Cell; 7] {
    let Ok(status) = said else {
        let node = endpoint.node().map_or_else(|| "?".to_owned(), |node| format!("node {node}"));
        let silent = Cell::toned("silent", Tone::Bad);
        let [term, applied, head, up] = [(); 4].map(|()| Cell::from("-"));
        return [node.into(), endpoint.to_string().into(), silent, term, applied, head, up];
    };
    let head = hex(&status.chain_head);
    let role = match status.role.as_str() {
        "leader" => Cell::toned("leader", Tone::Good),
        "candidate" => Cell::toned("candidate", Tone::Warn),
        other => other.into(),
    };
    [
        status.node_name.as_str().into(),
        endpoint.to_string().into(),
        role,
        status.term.to_string().into(),
        grouped(status.applied_index).into(),
        head.get(..HEAD_SHOWN).unwrap_or(&head).into(),
        times::length(Millis(status.uptime_ms)).into(),
    ]
}

fn node_value((endpoint, said): &Said) -> Value {
    match said {
        Err(failure) => json!({
            "endpoint": endpoint.to_string(),
            "reachable": false,
            "reason": failure.reason,
            "message": failure.message,
        }),
        Ok(status) => json!({
            "endpoint": endpoint.to_string(),
            "reachable": true,
            "id": status.node_id,
            "name": status.node_name,
            "version": status.version,
            "role": status.role,
            "term": status.term,
            "leader_id": status.leader_id,
            "last_log_index": status.last_log_index,
            "committed_index": status.committed_index,
            "applied_index": status.applied_index,
            "snapshot_index": status.snapshot_index,
            "event_seq": status.event_seq,
            "chain_head": hex(&status.chain_head),
            "uptime_ms": status.uptime_ms,
            "disk": status.disk.as_ref().map(disk_value),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::Format,
        output::{Screen, style::Style},
    };

    fn status(id: u64, role: &str, head: u8) -> v1::Status {
        let member = |id| v1::Member { id, voter: true, ..v1::Member::default() };
        v1::Status {
            node_id: id,
            node_name: format!("node-{id}"),
            version: "0.1.0".into(),
            role: role.into(),
            term: 4,
            leader_id: 1,
            applied_index: 12_345,
            event_seq: 70,
            chain_head: vec![head; 32],
            uptime_ms: 3_661_000,
            members: [1, 2, 3].map(member).into(),
            counts: Some(v1::Counts {
                fleets: 6,
                agents: 3_000,
                people: 2,
                kills: 1,
                ..v1::Counts::default()
            }),
            ..v1::Status::default()
        }
    }

    fn overview(nodes: Vec<Result<v1::Status, Failure>>) -> Overview {
        let cluster = v1::Cluster {
            cluster_id: vec![7; 16],
            cluster_time_ms: 90_000,
            bootstrap: true,
            you: "ada".into(),
            ..v1::Cluster::default()
        };
        let endpoint = |port: usize| format!("127.0.0.1:{}", 7001 + port).parse().expect("an endpoint");
        Overview {
            cluster,
            nodes: nodes.into_iter().enumerate().map(|(n, said)| (endpoint(n), said)).collect(),
        }
    }

    #[test]
    fn the_cluster_fits_on_eighty_columns() {
        let silent = Failure::new(Exit::Unreachable, "UNREACHABLE", "Connection refused");
        let shown = overview(vec![Ok(status(1, "leader", 9)), Ok(status(2, "follower", 9)), Err(silent)]);
        assert!(shown.has_quorum() && !shown.forked());
        let screen =
            Screen { format: Format::Table, width: 80, style: Style::plain(), error_style: Style::plain() };
        insta::assert_snapshot!(screen.rendered(&shown), @r"
        cluster        07070707070707070707070707070707
        cluster time   1 min 30 s
        you are        ada
        people needed  1 for anything, while in bootstrap
        version        0.1.0
        registered     6 fleets, 3,000 agents, 2 people, 1 kill in force
        Bootstrap: one person may do everything until a second one is enrolled (haltline operator add).

        NODE    ADDRESS         ROLE      TERM  APPLIED  CHAIN HEAD    UP
        node-1  127.0.0.1:7001  leader       4   12,345  090909090909  1 h 1 min
        node-2  127.0.0.1:7002  follower     4   12,345  090909090909  1 h 1 min
        ?       127.0.0.1:7003  silent       -        -  -             -
        127.0.0.1:7003 is silent: Connection refused
        ");
    }

    #[test]
    fn disks_without_room_are_told() {
        let with = |room: &str, takes_kills_only| {
            let disk = v1::DiskStatus {
                room: room.into(),
                free_bytes: Some(40 << 20),
                waiting_ms: 61_000,
                takes_kills_only,
                ..v1::DiskStatus::default()
            };
            Ok(v1::Status { disk: Some(disk), ..status(1, "follower", 9) })
        };
        let told = |said: Result<v1::Status, Failure>| {
            disk_warning(&said.expect("a status")).map(|(words, _)| words)
        };
        assert_eq!(told(with("ample", false)), None);
        assert_eq!(
            told(with("low", false)).as_deref(),
            Some("The disk of node-1 is nearly full (40 MiB free): free space there.")
        );
        assert_eq!(
            told(with("nothing", false)).as_deref(),
            Some(
                "The disk of node-1 is full (40 MiB free): its log has waited for room for 1 min 1 s; free space there."
            )
        );
        let screen =
            Screen { format: Format::Table, width: 80, style: Style::plain(), error_style: Style::plain() };
        let shown = screen.rendered(&overview(vec![with("low", true)]));
        assert!(shown.contains("No commands but kills are taken"), "{shown}");
    }

    #[test]
    fn a_minority_and_a_fork_are_told() {
        let silent = || Err(Failure::new(Exit::Unreachable, "UNREACHABLE", "gone"));
        assert!(!overview(vec![Ok(status(1, "leader", 9)), silent(), silent()]).has_quorum());
        assert!(overview(vec![Ok(status(1, "leader", 9)), Ok(status(2, "follower", 8))]).forked());
    }
}
