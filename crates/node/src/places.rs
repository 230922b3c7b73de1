//! Where enforcers reach the nodes: the edge ports, the ports for enrolment and the regions, as the founding file has them.

use std::collections::BTreeMap;

use haltline_core::{ids::NodeId, state::State};
use haltline_wire::v1;

use crate::founding::Founding;

/// One node's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `host:port` for edges and relays.
    pub(crate) edge: String,
    /// `host:port` for edges that aren't enrolled yet.
    pub(crate) public: String,
    /// May be empty.
    pub(crate) region: String,
}

/// Every founding node's place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Places(BTreeMap<NodeId, Place>);

impl Places {
    pub(crate) fn of(founding: &Founding) -> Self {
        let place = |founder: &crate::founding::Founder| Place {
            edge: founder.edge_address.clone(),
            public: founder.public_address.clone(),
            region: founder.region.to_string(),
        };
        Self(founding.nodes.iter().map(|founder| (NodeId(founder.id), place(founder))).collect())
    }

    /// A node's place, if it is known.
    pub(crate) fn get(&self, node: NodeId) -> Option<&Place> {
        self.0.get(&node)
    }

    /// The hubs that an enforcer may turn to: the nodes that the log knows.
    pub(crate) fn hubs(&self, state: &State) -> Vec<v1::HubEndpoint> {
        let registered = self.0.iter().filter(|(node, _)| state.nodes().contains_key(*node));
        let hub = |(node, place): (&NodeId, &Place)| v1::HubEndpoint {
            node: node.0,
            address: place.edge.clone(),
            region: place.region.clone(),
        };
        registered.map(hub).collect()
    }
}
