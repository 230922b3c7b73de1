//! The sessions of an enforcer that somebody waits for to be halted, found by what touches them, so that those which a kill
//! stops are told without asking all others.
//!
//! The feed only leaves a hint, a tag for each change, and goes on to acknowledge; a task in the background looks the
//! sessions up and lets each find out for itself whether it is stopped. Decisions never wait for that: a session that
//! decides finds out by itself.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
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
    /// All that there are, waited for or not.
    count: AtomicUsize,
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
            count: AtomicUsize::new(0),
            table: Mutex::new(Table { places: Vec::new(), free: Vec::new(), by_tag: BTreeSet::new() }),
            hints: Mutex::default(),
            hinted: Notify::new(),
        }
    }

    /// Counts one session more, unless there are as many as there can be.
    pub(super) fn begin(&self) -> bool {
        let one_more = |count: usize| (count < SESSIONS_MAX).then_some(count + 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).is_ok()
    }

    /// A session is gone.
    pub(super) fn end(&self, watched: Option<SessionKey>, facts: &Facts) {
        self.count.fetch_sub(1, Ordering::AcqRel);
        if let Some(key) = watched {
            let mut table = self.table.lock();
            for tag in &facts.tags {
                table.by_tag.remove(&(*tag, key));
            }
            table.places[key.0 as usize] = Weak::new();
            table.free.push(key);
        }
    }

    /// From now on a session is found by what touches it.
    pub(super) fn watch_over(&self, session: &Arc<SessionState<C>>) -> SessionKey {
        let mut table = self.table.lock();
        let key = table.free.pop().unwrap_or_else(|| {
            table.places.push(Weak::new());
            // There are no more places than sessions, whose bound fits.
            SessionKey((table.places.len() - 1) as u32)
        });
        table.places[key.0 as usize] = Arc::downgrade(session);
        for tag in &session.facts.tags {
            table.by_tag.insert((*tag, key));
        }
        key
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
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
