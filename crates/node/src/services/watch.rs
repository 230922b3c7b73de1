//! The event watch: changes as they are applied, for people and automation.
//!
//! A watch pulls from the node's ring of applied entries and queues nothing of its own. One that is slower than the ring
//! is long ends with a named error that says from where it can begin again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{Stream, stream};
use haltline_consensus::{AppliedEntry, Entries};
use haltline_core::LogIndex;
use haltline_wire::{convert, v1};
use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};
use tonic::Status;

use crate::{context::Context, refused::Refused};

/// The open watches of a node: how many there may be, and how far each is.
#[derive(Debug, Clone)]
pub(crate) struct Watches {
    positions: Arc<Mutex<Positions>>,
    max: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Positions {
    next: u64,
    by_watch: BTreeMap<u64, LogIndex>,
}

impl Watches {
    pub(crate) fn at_most(max: usize) -> Self {
        Self { positions: Arc::default(), max: Arc::new(AtomicUsize::new(max)) }
    }

    /// From now on so many may be open; those that are stay.
    pub(crate) fn allow(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// How many are open.
    pub(crate) fn open(&self) -> u64 {
        self.positions.lock().by_watch.len() as u64
    }

    /// How many entries the slowest is behind.
    pub(crate) fn lag(&self, applied: LogIndex) -> u64 {
        let slowest = self.positions.lock().by_watch.values().min().copied();
        slowest.map_or(0, |position| applied.0.saturating_sub(position.0))
    }

    fn enter(&self, position: LogIndex) -> Result<Place, Refused> {
        let mut positions = self.positions.lock();
        let max = self.max.load(Ordering::Relaxed);
        if positions.by_watch.len() >= max {
            return Err(Refused::TooManyWatchers { max });
        }
        positions.next += 1;
        let number = positions.next;
        positions.by_watch.insert(number, position);
        Ok(Place { positions: Arc::clone(&self.positions), number })
    }
}

/// One watch's place among them, given up when it ends.
#[derive(Debug)]
struct Place {
    positions: Arc<Mutex<Positions>>,
    number: u64,
}

impl Place {
    fn is_at(&self, position: LogIndex) {
        self.positions.lock().by_watch.insert(self.number, position);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.positions.lock().by_watch.remove(&self.number);
    }
}

/// One open watch.
struct Watch {
    entries: Entries,
    ready: VecDeque<v1::Event>,
    stopping: CancellationToken,
    is_over: bool,
    place: Place,
    _tracked: TaskTrackerToken,
}

impl Context {
    /// Opens a watch that begins with the entry at `from` (0: with the next one).
    pub(super) fn watch(
        &self,
        from: LogIndex,
    ) -> Result<impl Stream<Item = Result<v1::Event, Status>> + Send + 'static, Refused> {
        let after = match from {
            LogIndex(0) => self.consensus.state().applied,
            LogIndex(from) => LogIndex(from - 1),
        };
        let watch = Watch {
            entries: self.consensus.entries_after(after),
            ready: VecDeque::new(),
            stopping: self.stopping.clone(),
            is_over: false,
            place: self.watches.enter(after)?,
            _tracked: self.streams.token(),
        };
        Ok(stream::unfold(watch, |mut watch| async move {
            let event = watch.next().await?;
            Some((event.map_err(Status::from), watch))
        }))
    }
}

impl Watch {
    async fn next(&mut self) -> Option<Result<v1::Event, Refused>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.is_over {
                return None;
            }
            let entry = tokio::select! {
                entry = self.entries.next() => entry.map_err(Refused::from),
                () = self.stopping.cancelled() => Err(Refused::Stopping),
            };
            match entry {
                Ok(entry) => {
                    self.place.is_at(entry.index);
                    self.ready.extend(events(&entry));
                }
                Err(refused) => {
                    self.is_over = true;
                    return Some(Err(refused));
                }
            }
        }
    }
}

fn events(entry: &AppliedEntry) -> impl Iterator<Item = v1::Event> {
    (0..)
        .zip(&entry.changes)
        .map(|(position, change)| convert::event(entry.stamp, position, change, &entry.chain))
}
