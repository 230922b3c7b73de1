//! What the acts share: the stage, the people on it, and how to look at single nodes. And the first act.

use std::{collections::BTreeMap, time::Duration};

use haltline_core::ids::NodeId;
use haltline_pki::{Endpoint, PersonIdentity};
use haltline_wire::v1;
use tokio::time::{Instant, sleep};

use super::{claims::Claims, client, narrator::Narrator, nodes::Nodes};
use crate::{
    client::Client,
    commands::{agent, status},
    failure::Failure,
    output::value::hex,
};

/// How long one node may take to tell how it is, where others are asked too.
const GLANCE: Duration = Duration::from_millis(400);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(15);
/// How long the demo waits for something that should happen at once.
const WAIT_MAX: Duration = Duration::from_secs(12);
/// Characters of a chain head that people compare at a glance.
const HEAD_SHOWN: usize = 16;

/// Where it all happens.
pub(super) struct Stage<'a> {
    pub(super) nodes: &'a mut Nodes,
    pub(super) narrator: &'a mut Narrator,
    pub(super) claims: &'a mut Claims,
    pub(super) agents: u32,
}

/// Who acts.
pub(super) struct People {
    /// The first admin.
    pub(super) ada: Client,
    /// The second admin, whose enrolment ends bootstrap.
    pub(super) grace: Client,
    /// A responder: may stop things, and start nothing.
    pub(super) lin: Client,
}

impl Stage<'_> {
    /// Notes a claim and shows what was seen.
    pub(super) async fn check(&mut self, claim: &str, held: bool, seen: &str) {
        self.narrator.checked(held, seen).await;
        self.claims.check(claim, held, seen);
    }

    /// Looks until there is something to see.
    ///
    /// # Errors
    /// A node died, or time is up.
    pub(super) async fn until<T, R>(&mut self, what: &str, mut look: impl FnMut() -> R) -> Result<T, Failure>
    where
        R: Future<Output = Option<T>>,
    {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            if let Some(found) = look().await {
                return Ok(found);
            }
            if let Some((node, end)) = self.nodes.first_lost() {
                return Err(Failure::local(format!("node-{node} {end}")));
            }
            if Instant::now() >= deadline {
                return Err(Failure::local(format!("{what}: not within {} s", WAIT_MAX.as_secs())));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The node that leads now, among those that run.
    ///
    /// # Errors
    /// None in time.
    pub(super) async fn leader(&mut self, client: &Client) -> Result<v1::Status, Failure> {
        let running = self.nodes.running();
        self.until("waiting for a leader", || async {
            let statuses = statuses(client, &running).await;
            statuses.into_values().filter(|status| status.role == "leader").max_by_key(|status| status.term)
        })
        .await
    }

    /// Waits until every running node has the same history, and says which.
    ///
    /// # Errors
    /// They don't agree in time.
    pub(super) async fn agreement(&mut self, client: &Client) -> Result<History, Failure> {
        let running = self.nodes.running();
        self.until("waiting for the nodes to agree", || async {
            let statuses = statuses(client, &running).await;
            let mut histories = statuses.values().map(|status| (status.event_seq, &status.chain_head));
            let first = histories.next()?;
            let all_agree = statuses.len() == running.len() && histories.all(|other| other == first);
            all_agree.then(|| History { events: first.0, head: hex(first.1), nodes: names(statuses.keys()) })
        })
        .await
    }

    /// What each running node lists under a fleet; each answer is linearizable.
    ///
    /// # Errors
    /// A node doesn't answer.
    pub(super) async fn agents_by_node(
        &self,
        client: &Client,
        under: &str,
    ) -> Result<BTreeMap<NodeId, Vec<v1::Agent>>, Failure> {
        let mut listed = BTreeMap::new();
        for (id, endpoint) in self.nodes.running() {
            let only = client.only(endpoint, super::PATIENCE)?;
            listed.insert(id, agent::all(&only, under, &BTreeMap::new(), 0).await?.items);
        }
        Ok(listed)
    }
}

/// A place on the chain of enforcement events.
pub(super) struct History {
    pub(super) events: u64,
    pub(super) head: String,
    /// Which nodes have it.
    pub(super) nodes: String,
}

impl History {
    /// The head, as much of it as people compare.
    pub(super) fn short_head(&self) -> &str {
        self.head.get(..HEAD_SHOWN).unwrap_or(&self.head)
    }
}

/// How each of these nodes is, by itself; those that don't say are left out.
pub(super) async fn statuses(client: &Client, nodes: &[(NodeId, Endpoint)]) -> BTreeMap<NodeId, v1::Status> {
    let endpoints = nodes.iter().map(|(_, endpoint)| endpoint.clone()).collect();
    let said = status::ask_all(client, endpoints, GLANCE).await;
    said.into_iter()
        .filter_map(|(_, said)| said.ok())
        .map(|status| (NodeId(status.node_id), status))
        .collect()
}

/// `node-1, node-2 and node-3`.
pub(super) fn names<'a>(nodes: impl Iterator<Item = &'a NodeId>) -> String {
    let names: Vec<String> = nodes.map(|node| format!("node-{node}")).collect();
    match names.as_slice() {
        [] => "no node".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// A short time, as people say it.
pub(super) fn took(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "under 1 ms".to_owned(),
        millis @ 1..1_000 => format!("{millis} ms"),
        millis => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
    }
}

/// A root key, three nodes, a leader. Gives the first admin.
///
/// # Errors
/// It didn't come about.
pub(super) async fn found(stage: &mut Stage<'_>) -> Result<Client, Failure> {
    stage.narrator.act("A cluster from nothing").await;
    let began = Instant::now();
    stage.narrator.command("haltline init");
    let (report, identity): (_, PersonIdentity) = stage.nodes.init()?;
    stage
        .narrator
        .say(&format!(
            "Made a root key, keys and certificates for three nodes, and the first admin, ada, in {}.",
            took(began.elapsed())
        ))
        .await;
    let began = Instant::now();
    stage.narrator.command("haltline node --config node-1/node.toml   (and node-2, and node-3)");
    let mut processes = Vec::new();
    for node in &report.nodes {
        processes.push(stage.nodes.start(node.id)?.to_string());
    }
    let ada = client(identity)?;
    let leader = stage.leader(&ada).await?;
    // Founding the cluster is its first entry; a node answers people once it has applied it.
    ada.cluster().await?;
    let elapsed = began.elapsed();
    stage.narrator.say(&format!(
        "Started three nodes as processes {}. They speak TLS 1.3 with one another, and each writes to its own disk.",
        processes.join(", ")
    )).await;
    stage.narrator.say(&format!(
        "{} from their start, the three had elected {}. It decides the order of everything; nothing counts as done before \
         it is on the disks of two of the three.",
        took(elapsed),
        leader.node_name
    )).await;
    Ok(ada)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_times_read_well() {
        let ids = [NodeId(1), NodeId(2), NodeId(3)];
        assert_eq!(names(ids.iter()), "node-1, node-2 and node-3");
        assert_eq!(names(ids[..1].iter()), "node-1");
        assert_eq!(took(Duration::from_micros(300)), "under 1 ms");
        assert_eq!(took(Duration::from_millis(281)), "281 ms");
        assert_eq!(took(Duration::from_millis(1_261)), "1.2 s");
    }
}
