//! Which keys may speak on the node port: those of registered nodes, or of the founders while nothing is registered.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use haltline_core::ids::{KeyHash, NodeId};
use haltline_pki::{Authority, Refusal, Subject};

use crate::published::Board;

/// See the module. The board comes once the state has been loaded.
#[derive(Debug, Default)]
pub(crate) struct NodesOnly {
    founders: BTreeMap<NodeId, KeyHash>,
    board: OnceLock<Board>,
}

impl NodesOnly {
    pub(crate) fn new(founders: BTreeMap<NodeId, KeyHash>) -> Arc<Self> {
        Arc::new(Self { founders, board: OnceLock::new() })
    }

    /// From now on the state decides.
    pub(crate) fn follow(&self, board: Board) {
        // Set once, at start; a second board would be the same.
        let _ = self.board.set(board);
    }
}

impl Authority for NodesOnly {
    fn admit(&self, subject: &Subject, key_hash: &KeyHash) -> Result<(), Refusal> {
        let Subject::Node(node) = subject else { return Err(Refusal::Unregistered) };
        let published = self.board.get().map(Board::now);
        let registered = match published.as_ref().map(|published| &published.state) {
            Some(state) if state.is_founded() => state.nodes().get(node).map(|record| record.key_hash),
            // A node that joins knows neither founders nor state: its peers' certificates are all it can go by, until
            // the first snapshot or the founding entry arrives.
            _ if self.founders.is_empty() => return Ok(()),
            _ => self.founders.get(node).copied(),
        };
        match registered {
            None => Err(Refusal::Unregistered),
            Some(registered) if registered == *key_hash => Ok(()),
            Some(_) => Err(Refusal::OtherKey),
        }
    }
}

#[cfg(test)]
mod tests {
    use haltline_core::ids::PersonId;

    use super::*;
    use crate::published::Position;

    fn founders() -> BTreeMap<NodeId, KeyHash> {
        BTreeMap::from([(NodeId(1), KeyHash([1; 32]))])
    }

    #[test]
    fn before_the_founding_only_founders_with_their_keys_are_admitted() {
        let authority = NodesOnly::new(founders());
        for _ in 0..2 {
            let admit = |node, key| authority.admit(&Subject::Node(NodeId(node)), &KeyHash([key; 32]));
            assert_eq!(admit(1, 1), Ok(()));
            assert_eq!(admit(1, 2), Err(Refusal::OtherKey));
            assert_eq!(admit(2, 1), Err(Refusal::Unregistered));
            // An unfounded state says no more than no state.
            authority.follow(Board::new(Position::first()));
        }
    }

    #[test]
    fn people_have_no_business_on_the_node_port() {
        let authority = NodesOnly::new(BTreeMap::new());
        let ada: PersonId = "ada".parse().expect("a name");
        let refused = authority.admit(&Subject::Person(ada), &KeyHash([1; 32]));
        assert_eq!(refused, Err(Refusal::Unregistered));
        assert_eq!(authority.admit(&Subject::Node(NodeId(4)), &KeyHash([1; 32])), Ok(()), "a joining node");
    }
}
