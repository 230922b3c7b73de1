//! What readers see: the state after the last applied entry, replaced as a whole so that no reader ever waits.

use std::sync::Arc;

use haltline_core::{LogIndex, ids::NodeId, state::State};
use tokio::sync::watch;

use crate::{
    feed::Feed,
    options::Member,
    types::{LogId, StoredMembership},
};

/// The state as of one index of the log.
#[derive(Debug, Clone)]
pub struct Published {
    /// How far the log is applied, entries without commands included.
    pub applied: LogIndex,
    /// The state there.
    pub state: State,
    pub(crate) applied_id: Option<LogId>,
    pub(crate) membership: Arc<StoredMembership>,
}

impl Published {
    /// The members as of this index, voters and learners.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.membership.membership().nodes().map(|(id, member)| (NodeId(*id), member))
    }
}

/// The place where the machine puts it, and the feed beside it.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    state: watch::Sender<Arc<Published>>,
    feed: Arc<Feed>,
}

impl Board {
    pub(crate) fn new(first: Published) -> Self {
        let feed = Arc::new(Feed::new(first.applied));
        Self { state: watch::Sender::new(Arc::new(first)), feed }
    }

    pub(crate) fn put(&self, next: Published) {
        self.state.send_replace(Arc::new(next));
    }

    pub(crate) fn now(&self) -> Arc<Published> {
        self.state.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Published>> {
        self.state.subscribe()
    }

    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }
}
