//! What the other nodes ask: whether this node is clear of a kill, and which enforcers hang on it.

use std::{sync::Arc, time::Duration};

use futures::{Stream, stream};
use haltline_core::{
    LogIndex,
    limits::{CLEAR_APPLY_PATIENCE, CLEAR_LAGGING_MAX, PROGRESS_INTERVAL},
    selector::Selector,
    time::Millis,
    tracker::{Clear, WatchedKill},
};
use haltline_hub::KillWatch;
use haltline_wire::{
    convert::ConvertError,
    v1::{self, peer_service_server::PeerService},
};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};
use tonic::{Request, Response, Status};

use super::Services;
use crate::{enforcement::Enforcements, refused::Refused};

type Reports = std::pin::Pin<Box<dyn Stream<Item = Result<v1::ClearReport, Status>> + Send>>;

#[tonic::async_trait]
impl PeerService for Services {
    type WatchClearStream = Reports;

    async fn watch_clear(
        &self,
        request: Request<v1::WatchClearRequest>,
    ) -> Result<Response<Reports>, Status> {
        let context = &self.0;
        context.caller(request.extensions())?.node()?;
        let asked = request.into_inner();
        let selector = asked
            .selector
            .ok_or_else(|| Refused::from(ConvertError::missing("selector", "what the kill stops")))?;
        let selector = Selector::try_from(selector).map_err(Refused::from)?;
        let index = LogIndex(asked.index);
        let patience = Duration::from_millis(CLEAR_APPLY_PATIENCE.0);
        let published = context.consensus.wait_applied(index, patience).await.map_err(Refused::from)?;
        // Each end's own knowledge of what leases may rest on counts, whichever is larger.
        let own = published.state.staleness_touched(&selector);
        let kill = WatchedKill { index, selector, max_staleness: own.max(Millis(asked.max_staleness_ms)) };
        let place = context.peer_streams.enter()?;
        let clearing = Clearing {
            enforcements: Arc::clone(&context.enforcements),
            kill,
            watch: None,
            told: None,
            is_over: false,
            stopping: context.stopping.clone(),
            _place: place,
            _tracked: context.streams.token(),
        };
        Ok(Response::new(Box::pin(stream::unfold(clearing, |mut clearing| async move {
            let report = clearing.next().await?;
            Some((report.map_err(Status::from), clearing))
        }))))
    }

    async fn list_streams(
        &self,
        request: Request<v1::ListStreamsRequest>,
    ) -> Result<Response<v1::ListStreamsResponse>, Status> {
        let context = &self.0;
        context.caller(request.extensions())?.node()?;
        Ok(Response::new(context.enforcements.own_streams()))
    }
}

/// One node's question, as it is answered.
struct Clearing {
    enforcements: Arc<Enforcements>,
    kill: WatchedKill,
    watch: Option<KillWatch>,
    /// When the last report was made.
    told: Option<Instant>,
    is_over: bool,
    stopping: CancellationToken,
    _place: crate::places_taken::Place,
    _tracked: TaskTrackerToken,
}

impl Clearing {
    /// The next report: at once if it is the first or the last, otherwise no sooner than the interval allows.
    async fn next(&mut self) -> Option<Result<v1::ClearReport, Refused>> {
        if self.is_over {
            return None;
        }
        let stopping = self.stopping.clone();
        let report = tokio::select! {
            report = self.report() => report,
            () = stopping.cancelled() => Err(Refused::Stopping),
        };
        self.told = Some(Instant::now());
        self.is_over = report.as_ref().map_or(true, |report| report.clear);
        Some(report)
    }

    async fn report(&mut self) -> Result<v1::ClearReport, Refused> {
        let next = self.told.map(|told| told + Duration::from_millis(PROGRESS_INTERVAL.0));
        if self.watch.is_none() {
            self.watch = Some(self.enforcements.watch_own(&self.kill).await?);
        }
        let Some(watch) = &mut self.watch else { return Err(Refused::Stopping) };
        loop {
            let clear = watch.look().map_err(Refused::Tracker)?;
            if matches!(clear, Clear::Cleared(_)) || next.is_none_or(|next| Instant::now() >= next) {
                return Ok(self.enforcements.clear_report(clear, watch.lagging(CLEAR_LAGGING_MAX)));
            }
            watch.moved().await;
        }
    }
}
