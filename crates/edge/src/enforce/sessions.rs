//! All sessions of an enforcer, found by what touches them, so that those which a kill stops are told without asking all
//! others.
//!
//! The feed only leaves a hint, a tag for each change, and goes on to acknowledge; a task in the background looks the
//! sessions up and lets each find out for itself whether it is stopped. Decisions never wait for that: a session that
//! decides finds out by itself.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
};

use haltline_core::limits::{HALT_CHUNK, HALT_HINTS_MAX, SESSIONS_MAX};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{clock::Clock, facts::Facts, session::SessionState, tag::Tag};

/// A session's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionKey(u32);

pub(super) struct Sessions<C: Clock> {
    table: Mutex<Table<C>>,
    hints: Mutex<Hints>,
    hinted: Notify,
}

struct Table<C: Clock> {
    places: Vec<Weak<SessionState<C>>>,
    free: Vec<SessionKey>,
    by_tag: BTreeSet<(Tag, SessionKey)>,
}

/// What changed and hasn't been looked after.
#[derive(Default)]
struct Hints {
    tags: BTreeSet<Tag>,
}

impl Hints {
    /// Past the bound everything counts as changed, which is also what a single change of everything says.
    fn add(&mut self, tag: Tag) {
        if self.tags.contains(&Tag::EVERYTHING) {
            return;
        }
        if tag == Tag::EVERYTHING || self.tags.len() >= HALT_HINTS_MAX {
            self.tags.clear();
            self.tags.insert(Tag::EVERYTHING);
        } else {
            self.tags.insert(tag);
        }
    }
}

impl<C: Clock> Sessions<C> {
    pub(super) fn new() -> Self {
        Self {
            table: Mutex::new(Table { places: Vec::new(), free: Vec::new(), by_tag: BTreeSet::new() }),
            hints: Mutex::default(),
            hinted: Notify::new(),
        }
    }

    /// A place for one session more, unless all are taken.
    pub(super) fn reserve(&self) -> Option<SessionKey> {
        let mut table = self.table.lock();
        if let Some(key) = table.free.pop() {
            return Some(key);
        }
        if table.places.len() >= SESSIONS_MAX {
            return None;
        }
        let key = SessionKey(u32::try_from(table.places.len()).ok()?);
        table.places.push(Weak::new());
        Some(key)
    }

    /// Puts a session into its place.
    pub(super) fn insert(&self, key: SessionKey, session: &Arc<SessionState<C>>) {
        let mut table = self.table.lock();
        table.places[key.0 as usize] = Arc::downgrade(session);
        for tag in &session.facts.tags {
            table.by_tag.insert((*tag, key));
        }
    }

    pub(super) fn remove(&self, key: SessionKey, facts: &Facts) {
        let mut table = self.table.lock();
        for tag in &facts.tags {
            table.by_tag.remove(&(*tag, key));
        }
        table.places[key.0 as usize] = Weak::new();
        table.free.push(key);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let table = self.table.lock();
        table.places.len() - table.free.len()
    }

    /// Something changed that may stop sessions with this tag.
    pub(super) fn hint(&self, tags: impl IntoIterator<Item = Tag>) {
        let mut hints = self.hints.lock();
        tags.into_iter().for_each(|tag| hints.add(tag));
        if !hints.tags.is_empty() {
            drop(hints);
            self.hinted.notify_one();
        }
    }

    /// Wakes the sessions that changes stopped, until it is cancelled. In the background: a change that touches all
    /// sessions takes a fraction of a second for a hundred thousand of them.
    pub(super) async fn watch(&self, cancelled: CancellationToken) {
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = self.hinted.notified() => {}
            }
            let tags = std::mem::take(&mut self.hints.lock().tags);
            for tag in tags {
                let mut next = Some(SessionKey(0));
                while let Some(from) = next {
                    let (chunk, following) = self.chunk(tag, from);
                    chunk.iter().for_each(|session| session.wake_if_denied());
                    // The last handle of a session may be dropped here, which takes the lock: not while it is held.
                    drop(chunk);
                    next = following;
                    if cancelled.is_cancelled() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Some sessions that a tag touches, from one place on, and where to go on.
    fn chunk(&self, tag: Tag, from: SessionKey) -> (Vec<Arc<SessionState<C>>>, Option<SessionKey>) {
        let table = self.table.lock();
        let keys: Vec<SessionKey> = if tag == Tag::EVERYTHING {
            let end = u32::try_from(table.places.len()).unwrap_or(u32::MAX);
            (from.0..end).take(HALT_CHUNK).map(SessionKey).collect()
        } else {
            let range = (tag, from)..=(tag, SessionKey(u32::MAX));
            table.by_tag.range(range).take(HALT_CHUNK).map(|(_, key)| *key).collect()
        };
        let following = match keys.last() {
            Some(last) if keys.len() == HALT_CHUNK => Some(SessionKey(last.0.saturating_add(1))),
            _ => None,
        };
        let sessions = keys.iter().filter_map(|key| table.places[key.0 as usize].upgrade()).collect();
        (sessions, following)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_hints_become_one_about_everything() {
        let mut hints = Hints::default();
        for number in 0..HALT_HINTS_MAX {
            hints.add(Tag::path(&format!("fleet-{number}")));
        }
        assert_eq!(hints.tags.len(), HALT_HINTS_MAX);
        hints.add(Tag::path("one-more"));
        assert_eq!(hints.tags.iter().copied().collect::<Vec<_>>(), [Tag::EVERYTHING]);
        hints.add(Tag::path("and-another"));
        assert_eq!(hints.tags.len(), 1);
    }
}
