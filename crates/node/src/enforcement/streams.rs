//! How the streams of enforcers stand, on all nodes that can be asked.

use haltline_consensus::Published;
use haltline_core::ids::NodeId;
use haltline_wire::v1;
use tokio::task::JoinSet;

use super::Enforcements;

/// What came of asking for streams.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Streams {
    /// Every stream of every node that answered; an enforcer that moved may have several.
    pub(crate) streams: Vec<v1::EdgeStream>,
    /// Nodes that couldn't be asked.
    pub(crate) nodes_not_asked: Vec<u64>,
}

impl Enforcements {
    /// Asks all members at once.
    pub(crate) async fn all_streams(&self, published: &Published) -> Streams {
        let me = self.identity.id();
        let mut asked: JoinSet<(NodeId, Option<v1::ListStreamsResponse>)> = JoinSet::new();
        for (node, member) in published.members().filter(|(node, _)| *node != me) {
            let (peers, address) = (self.peers.clone(), member.api_address.clone());
            asked.spawn(async move { (node, peers.streams(node, &address).await.ok()) });
        }
        let mut found = Streams { streams: self.own_streams().streams, nodes_not_asked: Vec::new() };
        for (node, answer) in asked.join_all().await {
            match answer {
                Some(answer) => found.streams.extend(answer.streams),
                None => found.nodes_not_asked.push(node.0),
            }
        }
        found.nodes_not_asked.sort_unstable();
        found
    }
}
