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
