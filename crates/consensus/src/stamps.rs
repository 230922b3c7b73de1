//! Cluster time on this node: issued while it leads, estimated while it follows.

use std::sync::Arc;

use haltline_core::{
    limits::TICK_INTERVAL,
    time::{ClusterTime, Millis, TermClock, WallTime},
};
use parking_lot::Mutex;

use crate::{clock::Clock, published::Board, tail::TailStamp};

/// How far an estimate may run ahead of the newest stamp: a leader ticks each interval, so after two of them nobody
/// leads and time stands still.
const ESTIMATE_AHEAD: Millis = Millis(2 * TICK_INTERVAL.0);

/// See the module.
pub(crate) struct Stamps {
    clock: Arc<dyn Clock>,
    tail: Arc<TailStamp>,
    board: Board,
    /// Anchored once per leadership; absent while this node doesn't lead.
    term: Mutex<Option<TermClock>>,
}

impl Stamps {
    pub(crate) fn new(clock: Arc<dyn Clock>, tail: Arc<TailStamp>, board: Board) -> Self {
        Self { clock, tail, board, term: Mutex::default() }
    }

    /// Anchors anew: this node begins to lead.
    pub(crate) fn take_office(&self) {
        let applied = self.board.progress().stamp;
        *self.term.lock() = Some(self.tail.newest().anchor(applied, self.clock.boot()));
    }

    /// This node doesn't lead any more.
    pub(crate) fn leave_office(&self) {
        *self.term.lock() = None;
    }

    /// The stamps for a batch that closes now; `None` while this node doesn't lead.
    pub(crate) fn issue(&self) -> Option<(ClusterTime, WallTime)> {
        let cluster_time = self.term.lock().as_mut()?.stamp(self.clock.boot());
        Some((cluster_time, self.clock.wall()))
    }

    /// About what time it is in the cluster. Never ahead of a leader by more than clocks drift.
    pub(crate) fn estimate(&self) -> ClusterTime {
        let now = self.clock.boot();
        if let Some(term) = self.term.lock().as_ref() {
            return term.peek(now);
        }
        let applied = self.board.progress().stamp;
        let newest = self.tail.newest();
        if applied.cluster_time > newest.stamp {
            return applied.cluster_time;
        }
        let elapsed = Millis(now.0.saturating_sub(newest.at.0)).min(ESTIMATE_AHEAD);
        newest.stamp.plus(elapsed)
    }
}
