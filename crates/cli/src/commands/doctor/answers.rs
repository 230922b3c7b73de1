//! What the nodes answer: each its status twice, some time apart, and in between what it finds on its own machine.

use std::time::{Duration, Instant};

use haltline_node::doctor::{Finding, Level};
use haltline_pki::Endpoint;
use haltline_wire::v1::{self, cluster_service_client::ClusterServiceClient};
use tokio::task::JoinSet;

use crate::{client::Client, exit::Exit, failure::Failure};

/// How long a node may take for its status.
const PATIENCE: Duration = Duration::from_secs(2);
/// And for looking at its machine, which takes it two or three seconds.
const DIAGNOSIS_PATIENCE: Duration = Duration::from_secs(20);
/// Between the two looks at a node's clock, at least.
const SPAN_MIN: Duration = Duration::from_secs(2);

/// A node's status, and when it was asked and answered by this machine's clock.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) asked: Instant,
    pub(super) answered: Instant,
    pub(super) status: v1::Status,
}

/// All that one node said.
#[derive(Debug, Clone)]
pub(super) struct NodeAnswer {
    pub(super) endpoint: Endpoint,
    /// Why it said nothing, in a few words.
    pub(super) first: Result<Seen, String>,
    pub(super) second: Option<Seen>,
    pub(super) machine: Vec<Finding>,
}

/// What all said.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    /// The cluster as the first that answered has it; `None` if none did.
    pub(super) cluster: Option<v1::Cluster>,
    pub(super) nodes: Vec<NodeAnswer>,
}

impl Answers {
    /// The nodes that answered.
    pub(super) fn statuses(&self) -> impl Iterator<Item = &v1::Status> {
        self.nodes.iter().filter_map(NodeAnswer::status)
    }

    /// The status that counts: the leader's of the highest term, or the one that has applied most.
    pub(super) fn best(&self) -> Option<&v1::Status> {
        self.statuses().max_by_key(|status| (status.role == "leader", status.term, status.applied_index))
    }
}

impl NodeAnswer {
    pub(super) fn status(&self) -> Option<&v1::Status> {
        self.first.as_ref().ok().map(|seen| &seen.status)
    }

    /// What people call it: by its name, or else where it was called.
    pub(super) fn name(&self) -> String {
        let named = self.status().map(|status| status.node_name.clone()).filter(|name| !name.is_empty());
        named.unwrap_or_else(|| match self.endpoint.node() {
            Some(node) => format!("node {node} at {}", self.endpoint),
            None => self.endpoint.to_string(),
        })
    }

    /// Its own findings, each with its name.
    pub(super) fn into_machine(self) -> Vec<Finding> {
        let name = self.name();
        let named = |finding: Finding| Finding { subject: format!("{name}, {}", finding.subject), ..finding };
        self.machine.into_iter().map(named).collect()
    }
}

/// Asks every node. A cluster in which nobody answers is an answer too; a person who is nobody there is a failure.
pub(super) async fn gather(client: &Client) -> Result<Answers, Failure> {
    let cluster = match client.cluster().await {
        Ok(cluster) => {
            client.facts_of(&cluster)?;
            Some(cluster)
        }
        Err(failure) if failure.exit == Exit::Unreachable => None,
        Err(failure) => return Err(failure),
    };
    let endpoints = match &cluster {
        Some(cluster) => client.all_endpoints(cluster),
        None => client.endpoints().cloned().collect(),
    };
    let mut asked = JoinSet::new();
    for (position, endpoint) in endpoints.into_iter().enumerate() {
        let client = client.clone();
        asked.spawn(async move { (position, ask(&client, endpoint).await) });
    }
    let mut nodes = asked.join_all().await;
    nodes.sort_by_key(|(position, _)| *position);
    let mut nodes: Vec<NodeAnswer> = nodes.into_iter().map(|(_, node)| node).collect();
    forget_second_names(&mut nodes);
    Ok(Answers { cluster, nodes })
}

/// A node that is listed and was named for calling by another address answers twice; once is enough.
fn forget_second_names(nodes: &mut Vec<NodeAnswer>) {
    let mut known = std::collections::BTreeSet::new();
    nodes.retain(|node| node.status().is_none_or(|status| known.insert(status.node_id)));
}

async fn ask(client: &Client, endpoint: Endpoint) -> NodeAnswer {
    let first = match client.only(endpoint.clone(), PATIENCE) {
        Ok(only) => look(&only).await.map_err(|failure| why_silent(&failure)),
        Err(failure) => Err(failure.message),
    };
    let Ok(seen) = &first else { return NodeAnswer { endpoint, first, second: None, machine: Vec::new() } };
    let due = seen.answered + SPAN_MIN;
    let machine = diagnose(client, &endpoint).await;
    tokio::time::sleep_until(due.into()).await;
    let second = match client.only(endpoint.clone(), PATIENCE) {
        Ok(only) => look(&only).await.ok(),
        Err(_) => None,
    };
    NodeAnswer { endpoint, first, second, machine }
}

/// One status. Asked a second time if the first answer took a new connection, which blurs the times.
async fn look(client: &Client) -> Result<Seen, Failure> {
    status(client).await?;
    status(client).await
}

async fn status(client: &Client) -> Result<Seen, Failure> {
    let asked = Instant::now();
    let status = client
        .call("asking for the node's status", |channel| async move {
            ClusterServiceClient::new(channel).get_status(v1::GetStatusRequest {}).await
        })
        .await?;
    Ok(Seen { asked, answered: Instant::now(), status })
}

async fn diagnose(client: &Client, endpoint: &Endpoint) -> Vec<Finding> {
    let Ok(only) = client.only(endpoint.clone(), DIAGNOSIS_PATIENCE) else { return Vec::new() };
    let asked = only.call_once("looking at its machine", DIAGNOSIS_PATIENCE, |channel| async move {
        ClusterServiceClient::new(channel).diagnose_node(v1::DiagnoseNodeRequest {}).await
    });
    match asked.await {
        Ok(diagnosis) => diagnosis.findings.into_iter().map(finding).collect(),
        Err(failure) => vec![Finding::warn(
            "machine",
            "its machine",
            format!("couldn't be looked at: {}", failure.message),
        )],
    }
}

fn finding(said: v1::Finding) -> Finding {
    let finding = Finding::new(Level::named(&said.level), said.check, said.subject, said.told);
    if said.remedy.is_empty() { finding } else { finding.remedy(said.remedy) }
}

/// What was seen of the node, without how long and for what it was asked.
fn why_silent(failure: &Failure) -> String {
    let report = failure.details.get("nodes").and_then(|nodes| nodes.get(0)).and_then(|node| node.as_str());
    let words = report.and_then(|report| report.split_once(": ")).map(|(_, words)| words);
    words.unwrap_or(&failure.message).to_owned()
}
