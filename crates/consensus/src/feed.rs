//! Applied entries, for whoever follows the log: the event watch now, the edge hub later.
//!
//! One bounded ring for everybody. A subscriber is a cursor into it and costs nothing while it is slow; if the ring
//! overtakes it, or a snapshot makes the state jump, it is told so by name and starts again from the state.

use std::{collections::VecDeque, sync::Arc};

use haltline_core::{
    LogIndex,
    event::{ChainPosition, EnforcementEvent},
    limits::{FEED_ENTRIES_MAX, FEED_EVENTS_MAX},
    state::change::Change,
    time::Stamp,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::FeedError;

/// What one applied batch did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedEntry {
    /// Its place in the log.
    pub index: LogIndex,
    /// Its times.
    pub stamp: Stamp,
    /// How many commands it held, refused ones included.
    pub commands: usize,
    /// What edges learn from it.
    pub events: Vec<EnforcementEvent>,
    /// What people learn from it.
    pub changes: Vec<Change>,
    /// Where the chain of enforcement events stands after it.
    pub chain: ChainPosition,
}

impl AppliedEntry {
    fn weight(&self) -> usize {
        self.events.len() + self.changes.len()
    }
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Arc<AppliedEntry>>,
    /// Events and changes in all entries held.
    weight: usize,
    /// Everything after this index that has been applied is held.
    floor: LogIndex,
}

impl Ring {
    fn push(&mut self, entry: AppliedEntry) {
        self.weight += entry.weight();
        self.entries.push_back(Arc::new(entry));
        while self.entries.len() > FEED_ENTRIES_MAX
            || (self.weight > FEED_EVENTS_MAX && self.entries.len() > 1)
        {
            if let Some(oldest) = self.entries.pop_front() {
                self.weight -= oldest.weight();
                self.floor = oldest.index;
            }
        }
    }

    /// The first entry after `after`, if it is held.
    fn after(&self, after: LogIndex) -> Result<Option<Arc<AppliedEntry>>, FeedError> {
        if after < self.floor {
            return Err(FeedError::FellBehind { after, oldest: self.floor.next() });
        }
        let position = self.entries.partition_point(|entry| entry.index <= after);
        Ok(self.entries.get(position).cloned())
    }
}

/// The ring and who is woken by it.
#[derive(Debug)]
pub(crate) struct Feed {
    ring: Mutex<Ring>,
    newest: watch::Sender<LogIndex>,
}

impl Feed {
    /// A feed that begins after this index.
    pub(crate) fn new(applied: LogIndex) -> Self {
        let ring = Ring { floor: applied, ..Ring::default() };
        Self { ring: Mutex::new(ring), newest: watch::Sender::new(applied) }
    }

    /// Adds entries in order and wakes the subscribers once.
    pub(crate) fn publish(&self, entries: Vec<AppliedEntry>) {
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        let mut ring = self.ring.lock();
        entries.into_iter().for_each(|entry| ring.push(entry));
        drop(ring);
        self.newest.send_replace(last);
    }

    /// The state jumped to this index: whoever was before it starts again.
    pub(crate) fn jump(&self, index: LogIndex) {
        *self.ring.lock() = Ring { floor: index, ..Ring::default() };
        self.newest.send_replace(index);
    }

    /// A cursor that gives the entries after this index.
    pub(crate) fn subscribe(self: &Arc<Self>, after: LogIndex) -> Entries {
        Entries { feed: Arc::downgrade(self), newest: self.newest.subscribe(), after }
    }
}

/// A cursor into the applied entries.
#[derive(Debug)]
pub struct Entries {
    feed: std::sync::Weak<Feed>,
    newest: watch::Receiver<LogIndex>,
    after: LogIndex,
}

impl Entries {
    /// The next entry, as soon as there is one. Cancel safe.
    ///
    /// # Errors
    /// [`FeedError::FellBehind`] if it is no longer held, [`FeedError::Stopping`].
    pub async fn next(&mut self) -> Result<Arc<AppliedEntry>, FeedError> {
        loop {
            if let Some(entry) = self.try_next()? {
                return Ok(entry);
            }
            self.newest.changed().await.map_err(|_| FeedError::Stopping)?;
        }
    }

    /// The next entry if there is one already.
    ///
    /// # Errors
    /// As [`Entries::next`].
    pub fn try_next(&mut self) -> Result<Option<Arc<AppliedEntry>>, FeedError> {
        self.newest.mark_unchanged();
        let feed = self.feed.upgrade().ok_or(FeedError::Stopping)?;
        let entry = feed.ring.lock().after(self.after)?;
        if let Some(entry) = &entry {
            self.after = entry.index;
        }
        Ok(entry)
    }

    /// The last entry that was given.
    #[must_use]
    pub const fn position(&self) -> LogIndex {
        self.after
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use haltline_core::ids::KillId;

    use super::*;

    fn entry(index: u64, events: usize) -> AppliedEntry {
        AppliedEntry {
            index: LogIndex(index),
            stamp: Stamp::default(),
            commands: 0,
            events: vec![EnforcementEvent::KillLifted { kill: KillId(1) }; events],
            changes: vec![],
            chain: ChainPosition::default(),
        }
    }

    #[tokio::test]
    async fn subscribers_see_every_entry_in_order_and_wake_up() {
        let feed = Arc::new(Feed::new(LogIndex(3)));
        let mut entries = feed.subscribe(LogIndex(3));
        assert_eq!(entries.try_next().unwrap(), None);
        let publisher = feed.clone();
        let task = tokio::spawn(async move {
            publisher.publish(vec![entry(4, 1), entry(6, 0)]);
            publisher.publish(vec![entry(7, 2)]);
            publisher
        });
        for index in [4, 6, 7] {
            assert_eq!(entries.next().await.unwrap().index, LogIndex(index));
        }
        drop((task.await.unwrap(), feed));
        assert_eq!(entries.next().await, Err(FeedError::Stopping));
    }

    #[test]
    fn a_slow_subscriber_is_told_where_it_could_start_again() {
        let feed = Arc::new(Feed::new(LogIndex(0)));
        let mut slow = feed.subscribe(LogIndex(0));
        for index in 1..=(FEED_ENTRIES_MAX as u64 + 2) {
            feed.publish(vec![entry(index, 0)]);
        }
        assert_eq!(slow.try_next(), Err(FeedError::FellBehind { after: LogIndex(0), oldest: LogIndex(3) }));
        assert!(feed.subscribe(LogIndex(2)).try_next().unwrap().is_some());
    }

    #[test]
    fn many_events_push_entries_out_as_well() {
        let feed = Arc::new(Feed::new(LogIndex(0)));
        feed.publish(vec![entry(1, FEED_EVENTS_MAX), entry(2, 1)]);
        assert_eq!(feed.ring.lock().entries.len(), 1);
        assert!(feed.subscribe(LogIndex(0)).try_next().is_err());
        assert_eq!(feed.subscribe(LogIndex(1)).try_next().unwrap().unwrap().index, LogIndex(2));
    }

    #[test]
    fn a_jump_ends_every_earlier_subscription() {
        let feed = Arc::new(Feed::new(LogIndex(0)));
        feed.publish(vec![entry(1, 0)]);
        let mut entries = feed.subscribe(LogIndex(1));
        feed.jump(LogIndex(90));
        assert!(matches!(entries.try_next(), Err(FeedError::FellBehind { .. })));
        assert_eq!(feed.subscribe(LogIndex(90)).try_next(), Ok(None));
    }
}
