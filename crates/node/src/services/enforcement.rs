//! How kills come along, until their receipt, for people who wait.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{Stream, stream};
use haltline_consensus::Entries;
use haltline_core::{
    ids::KillId, limits::PROGRESS_INTERVAL, rejection::Rejection, state::change::ChangeKind,
};
use haltline_wire::v1::{self, enforcement_service_server::EnforcementService};
use tokio::{sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};
use tonic::{Extensions, Request, Response, Status};

use super::Services;
use crate::{
    enforcement::{Enforcements, Progress},
    places_taken::Place,
    refused::Refused,
};

type Updates = std::pin::Pin<Box<dyn Stream<Item = Result<v1::EnforcementProgress, Status>> + Send>>;

#[tonic::async_trait]
impl EnforcementService for Services {
    type WatchEnforcementStream = Updates;
    type WaitEnforcedStream = Updates;

    async fn watch_enforcement(
        &self,
        request: Request<v1::WatchEnforcementRequest>,
    ) -> Result<Response<Updates>, Status> {
        let kill = KillId(request.get_ref().kill);
        if kill != KillId(0) {
            return self.one_kill(request.extensions(), kill).await;
        }
        let context = &self.0;
        let reading = context.read(request.extensions()).await?;
        let mut all = AllKills {
            enforcements: Arc::clone(&context.enforcements),
            entries: context.consensus.entries_after(reading.published.applied),
            following: BTreeMap::new(),
            told: BTreeMap::new(),
            stopping: context.stopping.clone(),
            _place: context.progress_streams.enter()?,
            _tracked: context.streams.token(),
        };
        let state = &reading.published.state;
        let waiting = state.kills().keys().filter(|kill| !state.receipts().contains_key(*kill));
        waiting.for_each(|kill| all.follow(*kill));
        Ok(Response::new(Box::pin(stream::unfold(Some(all), |all| async move {
            let mut all = all?;
            match all.next().await {
                Ok(progress) => Some((Ok(progress), Some(all))),
                Err(refused) => Some((Err(refused.into()), None)),
            }
        }))))
    }

    async fn wait_enforced(
        &self,
        request: Request<v1::WaitEnforcedRequest>,
    ) -> Result<Response<Updates>, Status> {
        let kill = KillId(request.get_ref().kill);
        self.one_kill(request.extensions(), kill).await
    }

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Result<Response<v1::SignedReceipt>, Status> {
        let kill = KillId(request.get_ref().kill);
        let reading = self.0.read(request.extensions()).await?;
        let state = &reading.published.state;
        match state.receipts().get(&kill) {
            Some(receipt) => Ok(Response::new(receipt.into())),
            None if state.kills().contains_key(&kill) => Err(Refused::NoReceiptYet { kill }.into()),
            None => Err(Refused::from(Rejection::UnknownKill { kill }).into()),
        }
    }
}

impl Services {
    /// One kill's progress, to the end.
    async fn one_kill(&self, extensions: &Extensions, kill: KillId) -> Result<Response<Updates>, Status> {
        let context = &self.0;
        context.read(extensions).await?;
        let one = OneKill {
            progress: context.enforcements.follow(kill)?,
            is_first: true,
            is_over: false,
            stopping: context.stopping.clone(),
            _place: context.progress_streams.enter()?,
            _tracked: context.streams.token(),
        };
        Ok(Response::new(Box::pin(stream::unfold(one, |mut one| async move {
            let progress = one.next().await?;
            Some((progress.map_err(Status::from), one))
        }))))
    }
}

/// Somebody's wait for one kill.
struct OneKill {
    progress: watch::Receiver<Progress>,
    is_first: bool,
    is_over: bool,
    stopping: CancellationToken,
    _place: Place,
    _tracked: TaskTrackerToken,
}

impl OneKill {
    async fn next(&mut self) -> Option<Result<v1::EnforcementProgress, Refused>> {
        if self.is_over {
            return None;
        }
        if !std::mem::take(&mut self.is_first) {
            let interval = Duration::from_millis(PROGRESS_INTERVAL.0);
            let changed = async {
                // Not more often than people can read, but the end at once.
                let over = self.progress.wait_for(Progress::is_over);
                let _ = tokio::time::timeout(interval, over).await;
            };
            tokio::select! {
                () = changed => {}
                () = self.stopping.cancelled() => {
                    self.is_over = true;
                    return Some(Err(Refused::Stopping));
                }
            }
            // A run that ended without a word was stopped with its node.
            if self.progress.has_changed().is_err() && !self.progress.borrow().is_over() {
                self.is_over = true;
                return Some(Err(Refused::Stopping));
            }
        }
        let progress = self.progress.borrow_and_update();
        self.is_over = progress.is_over();
        Some(Ok(v1::EnforcementProgress::from(&*progress)))
    }
}

/// Somebody's look at all kills.
struct AllKills {
    enforcements: Arc<Enforcements>,
    entries: Entries,
    following: BTreeMap<KillId, watch::Receiver<Progress>>,
    /// What is to be told before anything new.
    told: BTreeMap<KillId, v1::EnforcementProgress>,
    stopping: CancellationToken,
    _place: Place,
    _tracked: TaskTrackerToken,
}

impl AllKills {
    /// A kill shows once there is something to prove: not while it drains, nor at the bound of kills that one node follows.
    fn follow(&mut self, kill: KillId) {
        if let Ok(progress) = self.enforcements.prove(kill) {
            self.following.insert(kill, progress);
        }
    }

    async fn next(&mut self) -> Result<v1::EnforcementProgress, Refused> {
        loop {
            if let Some((_, progress)) = self.told.pop_first() {
                return Ok(progress);
            }
            let stopping = self.stopping.clone();
            tokio::select! {
                entry = self.entries.next() => {
                    let entry = entry.map_err(Refused::from)?;
                    for change in &entry.changes {
                        if let ChangeKind::KillPlaced { kill, .. } | ChangeKind::DrainEnded { kill } = &change.kind {
                            self.follow(*kill);
                        }
                    }
                    self.collect();
                }
                () = sleep(Duration::from_millis(PROGRESS_INTERVAL.0)) => self.collect(),
                () = stopping.cancelled() => return Err(Refused::Stopping),
            }
        }
    }

    /// Takes up what changed since the last look.
    fn collect(&mut self) {
        let told = &mut self.told;
        self.following.retain(|kill, progress| {
            let is_changed = progress.has_changed().unwrap_or(true);
            let now = progress.borrow_and_update();
            if is_changed || now.is_over() {
                told.insert(*kill, v1::EnforcementProgress::from(&*now));
            }
            let is_over = now.is_over();
            drop(now);
            !is_over && progress.has_changed().is_ok()
        });
    }
}
