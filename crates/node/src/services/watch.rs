//! The event watch: changes as they are applied, for people and automation.
//!
//! A watch pulls from the node's ring of applied entries and queues nothing of its own. One that is slower than the ring
//! is long ends with a named error that says from where it can begin again.

use std::{collections::VecDeque, sync::Arc};

use futures::{Stream, stream};
use haltline_consensus::{AppliedEntry, Entries};
use haltline_core::LogIndex;
use haltline_wire::{convert, v1};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};
use tonic::Status;

use crate::{context::Context, refused::Refused};

/// One open watch.
struct Watch {
    entries: Entries,
    ready: VecDeque<v1::Event>,
    stopping: CancellationToken,
    is_over: bool,
    _permit: OwnedSemaphorePermit,
    _tracked: TaskTrackerToken,
}

impl Context {
    /// Opens a watch that begins with the entry at `from` (0: with the next one).
    pub(super) fn watch(
        &self,
        from: LogIndex,
    ) -> Result<impl Stream<Item = Result<v1::Event, Status>> + Send + 'static, Refused> {
        let permit = Arc::clone(&self.watchers).try_acquire_owned();
        let permit = permit.map_err(|_| Refused::TooManyWatchers { max: self.watchers_max })?;
        let after = match from {
            LogIndex(0) => self.consensus.state().applied,
            LogIndex(from) => LogIndex(from - 1),
        };
        let watch = Watch {
            entries: self.consensus.entries_after(after),
            ready: VecDeque::new(),
            stopping: self.stopping.clone(),
            is_over: false,
            _permit: permit,
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
                Ok(entry) => self.ready.extend(events(&entry)),
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
