//! The whole view, for enforcers that can't follow from where they stand.
//!
//! It is fetched from above, cut and compressed once and then shared: enforcers take up from it by the ring, so a snapshot
//! serves as long as the ring holds what follows. Few are sent at once; the others wait in line, and a place is given to
//! the next when its time is over, whether or not the reader was done.

use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use haltline_core::{
    event::ChainPosition,
    ids::{Digest, EventSeq, Incarnation},
    limits::{
        HUB_SNAPSHOT_TIMEOUT, HUB_SNAPSHOTS_AT_ONCE, HUB_SNAPSHOTS_WAITING_MAX, VIEW_BYTES_MAX,
        VIEW_CHUNK_BYTES_MAX,
    },
};
use haltline_wire::{refusal::Refusal, v1};
use http_body::{Body, Frame};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Status};

use crate::{
    counters::count,
    framing,
    hub::Shared,
    refused::StreamRefused,
    stream::trailers,
    upstream::{SignedView, Upstream},
};

/// How long a snapshot that nobody reads is kept for the next who comes.
const KEPT: Duration = Duration::from_secs(30);

/// A snapshot as it is sent.
#[derive(Debug)]
struct Parts {
    incarnation: Incarnation,
    at: ChainPosition,
    messages: Vec<Bytes>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Snapshots {
    /// Locked while one is made, so that it is made once.
    current: tokio::sync::Mutex<Weak<Parts>>,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for Snapshots {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(HUB_SNAPSHOTS_AT_ONCE));
        Self { current: tokio::sync::Mutex::default(), places, waiting: AtomicUsize::new(0) }
    }
}

/// Counts somebody in line until dropped.
struct InLine<'a>(&'a AtomicUsize);

impl<'a> InLine<'a> {
    fn stand(waiting: &'a AtomicUsize) -> Result<Self, StreamRefused> {
        let in_line = Self(waiting);
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        if before >= HUB_SNAPSHOTS_WAITING_MAX { Err(StreamRefused::SnapshotsBusy) } else { Ok(in_line) }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a response with a snapshot, once it is this caller's turn.
pub(crate) async fn fetch<U: Upstream>(hub: &Arc<Shared<U>>) -> Result<SnapshotBody, StreamRefused> {
    let snapshots = &hub.core.snapshots;
    let in_line = InLine::stand(&snapshots.waiting)?;
    let place = snapshots.places.clone().acquire_owned().await.map_err(|_| StreamRefused::Stopping)?;
    drop(in_line);
    let parts = current(hub).await?;
    count(&hub.core.counters.snapshots_sent);
    Ok(SnapshotBody { parts, next: 0, place: Place::take(place), is_done: false })
}

/// The snapshot to send now.
async fn current<U: Upstream>(hub: &Arc<Shared<U>>) -> Result<Arc<Parts>, StreamRefused> {
    let mut current = hub.core.snapshots.current.lock().await;
    if let Some(parts) = current.upgrade() {
        let ring = hub.core.ring.lock();
        if parts.incarnation == ring.incarnation() && ring.will_hold(parts.at) {
            return Ok(parts);
        }
    }
    let none = |reason: String| StreamRefused::NoSnapshot { reason };
    let view = hub.upstream.snapshot().await.map_err(|error| none(error.to_string()))?;
    let cut = tokio::task::spawn_blocking(move || cut(view)).await;
    let parts = Arc::new(cut.map_err(|error| none(error.to_string()))??);
    *current = Arc::downgrade(&parts);
    let (kept, stop) = (parts.clone(), hub.stop.clone());
    hub.tasks.spawn(async move {
        let _ = tokio::time::timeout(KEPT, stop.cancelled()).await;
        drop(kept);
    });
    Ok(parts)
}

/// Cuts and compresses. Takes as long as the view is large.
fn cut(view: SignedView) -> Result<Parts, StreamRefused> {
    let SignedView { header, body } = view;
    let none = |reason: String| StreamRefused::NoSnapshot { reason };
    if body.len() > VIEW_BYTES_MAX {
        return Err(none(format!("the view has {} bytes; at most {VIEW_BYTES_MAX} are sent", body.len())));
    }
    let head = header.chain_head.as_slice().try_into();
    let head = Digest(head.map_err(|_| none("its header has no chain head of 32 bytes".into()))?);
    let at = ChainPosition { seq: EventSeq(header.event_seq), head };
    let incarnation = Incarnation(header.incarnation);
    let pieces = body.chunks(VIEW_CHUNK_BYTES_MAX).map(lz4_flex::block::compress_prepend_size);
    let mut chunks: Vec<v1::ViewChunk> =
        pieces.map(|data| v1::ViewChunk { header: None, data: data.into() }).collect();
    if chunks.is_empty() {
        chunks.push(v1::ViewChunk::default());
    }
    chunks[0].header = Some(header);
    Ok(Parts { incarnation, at, messages: chunks.iter().map(framing::message).collect() })
}

/// One of the few places of those that read a snapshot.
#[derive(Debug)]
struct Place {
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    is_over: AtomicBool,
    _leaving: DropGuard,
}

impl Place {
    /// A reader that isn't polled, because it doesn't read, can't look at a clock: somebody else does.
    fn take(permit: OwnedSemaphorePermit) -> Arc<Self> {
        let left = CancellationToken::new();
        let leaving = left.clone().drop_guard();
        let (permit, is_over) = (Mutex::new(Some(permit)), AtomicBool::new(false));
        let place = Arc::new(Self { permit, is_over, _leaving: leaving });
        let watched = Arc::downgrade(&place);
        tokio::spawn(async move {
            let patience = Duration::from_millis(HUB_SNAPSHOT_TIMEOUT.0);
            if tokio::time::timeout(patience, left.cancelled()).await.is_err()
                && let Some(place) = watched.upgrade()
            {
                place.is_over.store(true, Ordering::Relaxed);
                place.permit.lock().take();
            }
        });
        place
    }
}

/// The body of a response with a snapshot.
#[derive(Debug)]
pub(crate) struct SnapshotBody {
    parts: Arc<Parts>,
    next: usize,
    place: Arc<Place>,
    is_done: bool,
}

impl Body for SnapshotBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        if self.place.is_over.load(Ordering::Relaxed) {
            self.is_done = true;
            let refused = Refusal::from(StreamRefused::SnapshotTimeout).to_status();
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&refused)))));
        }
        if let Some(message) = self.parts.messages.get(self.next).cloned() {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        self.is_done = true;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&Status::new(Code::Ok, ""))))))
    }
}
