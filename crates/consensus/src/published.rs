//! What readers see: the state after the last applied entries.
//!
//! The state lives in persistent maps, so handing out a copy is cheap, but from then on every node of a map that changes
//! is copied once more. So the state is copied only where somebody reads: after each group of entries if it was read
//! since the group before, otherwise when the next reader comes. A follower that nobody asks copies nothing.
//!
//! A reader never sees less than what any caller has been told was carried out.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use haltline_core::{
    LogIndex,
    event::ChainPosition,
    ids::NodeId,
    state::{KeyOwners, State},
    time::Stamp,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::{
    feed::Feed,
    former::FormerMembers,
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
    membership: Arc<StoredMembership>,
    former: Arc<FormerMembers>,
}

/// Where the machine stands: the last entry applied, and what it left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppliedPosition {
    /// How far the log is applied, entries without commands included.
    pub index: LogIndex,
    /// The stamp of the last batch at or before it.
    pub stamp: Stamp,
    /// The chain of enforcement events after it.
    pub chain: ChainPosition,
}

impl Published {
    /// Who left the membership since this process started, in order.
    #[must_use]
    pub fn former_members(&self) -> &FormerMembers {
        &self.former
    }

    /// The members as of this index, voters and learners.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.membership.membership().nodes().map(|(id, member)| (NodeId(*id), member))
    }
}

/// The state and where in the log it stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Position {
    pub(crate) state: State,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: Arc<StoredMembership>,
    pub(crate) former: Arc<FormerMembers>,
}

impl Position {
    /// Before the first entry.
    pub(crate) fn first() -> Self {
        Self { state: State::new(), ..Self::default() }
    }

    pub(crate) fn index(&self) -> LogIndex {
        LogIndex(self.applied.map_or(0, |id| id.index))
    }

    fn published(&self) -> Arc<Published> {
        let (membership, former) = (self.membership.clone(), self.former.clone());
        Arc::new(Published { applied: self.index(), state: self.state.for_readers(), membership, former })
    }

    /// Another membership is in force. Whoever isn't in it any more is remembered.
    pub(crate) fn set_membership(&mut self, membership: Arc<StoredMembership>) {
        let was = std::mem::replace(&mut self.membership, membership);
        let members = self.membership.membership();
        let left = was.membership().nodes().map(|(id, _)| *id).filter(|id| members.get_node(id).is_none());
        let left: Vec<NodeId> = left.map(NodeId).collect();
        if !left.is_empty() {
            Arc::make_mut(&mut self.former).left(left);
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            applied: self.index(),
            applied_id: self.applied,
            stamp: self.state.last_stamp(),
            chain: self.state.chain(),
            founded: self.state.is_founded(),
        }
    }
}

/// How far the machine is, without the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) applied: LogIndex,
    pub(crate) applied_id: Option<LogId>,
    pub(crate) stamp: Stamp,
    pub(crate) chain: ChainPosition,
    pub(crate) founded: bool,
}

impl Progress {
    pub(crate) const fn position(&self) -> AppliedPosition {
        AppliedPosition { index: self.applied, stamp: self.stamp, chain: self.chain }
    }
}

/// The machine's state, and the place where readers get it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The state itself. Locked by the machine for one entry at a time.
    live: Mutex<Position>,
    /// A copy, as long as it shows everything that callers were told. Taken after `live`, never before.
    copy: RwLock<Option<Arc<Published>>>,
    /// Whose each TLS key is, as of the last publication. Every call asks for this and most ask for nothing else, so it
    /// is apart from the copy, which would otherwise be made again for each batch of commands.
    owners: RwLock<KeyOwners>,
    /// Whether the copy was read since it was made.
    read: AtomicBool,
    progress: watch::Sender<Progress>,
    feed: Arc<Feed>,
}

impl Board {
    pub(crate) fn new(position: Position) -> Self {
        let feed = Arc::new(Feed::new(position.index()));
        let progress = watch::Sender::new(position.progress());
        let shared = Shared {
            owners: RwLock::new(position.state.key_owners().clone()),
            live: Mutex::new(position),
            copy: RwLock::default(),
            read: AtomicBool::new(false),
            progress,
            feed,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Changes the state, or looks at it where it lives. For the machine only.
    pub(crate) fn live<T>(&self, with: impl FnOnce(&mut Position) -> T) -> T {
        with(&mut self.shared.live.lock())
    }

    /// Lets readers see everything that was applied so far.
    pub(crate) fn publish(&self) {
        let live = self.shared.live.lock();
        let wanted = self.shared.read.swap(false, Ordering::Relaxed);
        *self.shared.copy.write() = wanted.then(|| live.published());
        let owners = live.state.key_owners();
        if !self.shared.owners.read().ptr_eq(owners) {
            *self.shared.owners.write() = owners.clone();
        }
        let progress = live.progress();
        drop(live);
        self.shared.progress.send_replace(progress);
    }

    /// The state. If nobody has asked for a while, waits for the entry that is being applied.
    pub(crate) fn now(&self) -> Arc<Published> {
        self.shared.read.store(true, Ordering::Relaxed);
        if let Some(copy) = self.shared.copy.read().as_ref() {
            return copy.clone();
        }
        let live = self.shared.live.lock();
        let mut copy = self.shared.copy.write();
        // Another reader, or the machine, may have been faster.
        copy.get_or_insert_with(|| live.published()).clone()
    }

    /// Whose each TLS key is, as [`Board::now`] would say.
    pub(crate) fn key_owners(&self) -> KeyOwners {
        self.shared.owners.read().clone()
    }

    pub(crate) fn progress(&self) -> Progress {
        *self.shared.progress.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.shared.feed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::log_id;

    fn apply(board: &Board, index: u64) {
        board.live(|position| position.applied = Some(log_id(1, 1, index)));
    }

    #[test]
    fn readers_see_what_was_published_and_only_then() {
        let board = Board::new(Position::first());
        assert_eq!(board.now().applied, LogIndex(0));
        apply(&board, 1);
        assert_eq!(board.now().applied, LogIndex(0), "not told to anybody yet");
        board.publish();
        assert_eq!(board.now().applied, LogIndex(1));
        assert_eq!(board.progress().applied, LogIndex(1));
    }

    #[test]
    fn the_state_is_copied_for_readers_only() {
        let board = Board::new(Position::first());
        apply(&board, 1);
        board.publish();
        assert!(board.shared.copy.read().is_none(), "nobody reads");
        assert_eq!(board.now().applied, LogIndex(1), "who comes later sees it all the same");
        apply(&board, 2);
        board.publish();
        assert!(board.shared.copy.read().is_some(), "somebody read the one before");
        apply(&board, 3);
        board.publish();
        assert!(board.shared.copy.read().is_none(), "and nobody since");
    }
}
