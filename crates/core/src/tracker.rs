//! What one hub knows of the leases that it gave, and so: whether a kill has reached all that could still permit without
//! it (design 02, Enforced, early).
//!
//! Every grant of freshness is noted **before** it is sent, with the index that it rests on and an end that no lease it
//! gives can outlive. An acknowledgement of index `a` on a stream lifts that stream's grants to `a`: what it has
//! published it never unpublishes. So a grant endangers a kill at `K` exactly if it rests on less than `K` and hasn't
//! ended. Streams that close leave their grants behind under the enforcer's name. An acknowledgement counts for its own
//! stream only; one from a relay only if the operator trusts it.
//!
//! A kill that somebody waits for is a watch that keeps the set of streams still to come, so that an
//! acknowledgement costs a look at the watches it may end, not at all streams. Time comes in as readings of one clock.
//!
//! A relay uses the same tracker for what hangs below it: [`Tracker::settle`] says up to where it may acknowledge.

mod grants;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{
    ids::{EdgeName, LogIndex},
    lease::{BootNanos, Drift, fence_nanos},
    limits::{TRACKED_DEPARTED_MAX, TRACKED_KILLS_MAX, TRACKED_STREAMS_MAX},
    path::FleetPath,
    receipt::FencedWhy,
    selector::Selector,
    time::Millis,
};

use grants::{Grant, Grants};
use watch::Watch;

pub use watch::{Clear, Cleared, WatchId, WatchedKill};

/// A stream between this hub and one enforcer: given out by the hub, never twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// What a stream's acknowledgements are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Acks {
    /// They count: an edge's, or a relay's that the operator marked as trusted for it.
    Count,
    /// A relay's, whose leases are waited out.
    DontCount,
}

/// Who is at the other end of a stream: what the log said when it opened, and for as long as it is open.
///
/// When the log says something else, the hub ends the stream before it sends anything that rests on the change. What the
/// enforcer may still do is bounded by what it was: a path that was added serves only under a lease from after that.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Enforcer {
    /// Its registered name.
    pub name: EdgeName,
    /// What it serves: fleet subtrees, or everything (`None`).
    pub paths: Arc<[Option<FleetPath>]>,
    /// Whether its acknowledgements count.
    pub acks: Acks,
}

/// Why the tracker refused something. A hub that is refused must not go on as if it weren't: no stream, no Fresh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrackerError {
    /// Too many streams.
    #[error("{TRACKED_STREAMS_MAX} streams are open; try another node")]
    TooManyStreams,
    /// Too many enforcers whose lease may live on without a stream.
    #[error("{TRACKED_DEPARTED_MAX} enforcers left lately; their leases must end before others may come")]
    TooManyDeparted,
    /// Too many kills at once.
    #[error("the enforcement of {TRACKED_KILLS_MAX} kills is followed already; wait out the bound instead")]
    TooManyKills,
    /// A stream that isn't open.
    #[error("stream {} isn't open", .stream.0)]
    UnknownStream {
        /// Which.
        stream: StreamId,
    },
    /// A stream id given out twice.
    #[error("stream {} is open already", .stream.0)]
    StreamInUse {
        /// Which.
        stream: StreamId,
    },
    /// A Fresh below a kill that was reported clear. Discard it.
    #[error("freshness up to {index} is too old: all up to {floor} is reported to be in force; discard it")]
    Superseded {
        /// What the Fresh rests on.
        index: LogIndex,
        /// What was reported.
        floor: LogIndex,
    },
    /// A kill that isn't applied here yet.
    #[error("index {wanted} isn't applied yet, only {applied}")]
    NotApplied {
        /// The kill's.
        wanted: LogIndex,
        /// Applied here.
        applied: LogIndex,
    },
    /// A watch that was ended.
    #[error("nobody watches for this kill any more")]
    UnknownWatch,
}

/// Whose grants: an open stream's, or those that an enforcer's closed streams left behind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Holder {
    Stream(StreamId),
    Departed(EdgeName),
}

/// An open stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stream {
    enforcer: Enforcer,
    /// What it said last, counted or not.
    said: LogIndex,
    /// What is counted.
    acked: LogIndex,
    grants: Grants,
}

/// What closed streams of one enforcer left behind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Departed {
    paths: Arc<[Option<FleetPath>]>,
    grants: Grants,
    /// When the last of the grants ends: where it stands in [`Tracker::departures`].
    ends: BootNanos,
}

/// An open stream, as `haltline edges` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamStatus<'a> {
    /// Which.
    pub stream: StreamId,
    /// Who.
    pub enforcer: &'a Enforcer,
    /// What it acknowledged last, whether that counts or not.
    pub acked: LogIndex,
    /// When its lease surely has ended, if it was given one.
    pub lease_ends: Option<BootNanos>,
}

/// The leases that one process gave.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tracker {
    started: BootNanos,
    drift: Drift,
    streams: BTreeMap<StreamId, Stream>,
    departed: BTreeMap<EdgeName, Departed>,
    /// When what departed may be forgotten; an entry for each of `departed`.
    departures: BTreeSet<(BootNanos, EdgeName)>,
    /// The lowest index that each holder's grants rest on; no entry for a holder without grants.
    lowest: BTreeSet<(LogIndex, Holder)>,
    watches: BTreeMap<WatchId, Watch>,
    last_watch: WatchId,
    /// Everything up to here was reported to be in force; no Fresh below it leaves.
    floor: LogIndex,
}

impl Tracker {
    /// A tracker that knows of no lease, because this process started at `started` and has given none. What an earlier
    /// process gave is covered by waiting from then (the boot wait).
    #[must_use]
    pub fn new(started: BootNanos, drift: Drift) -> Self {
        Self {
            started,
            drift,
            streams: BTreeMap::new(),
            departed: BTreeMap::new(),
            departures: BTreeSet::new(),
            lowest: BTreeSet::new(),
            watches: BTreeMap::new(),
            last_watch: WatchId::default(),
            floor: LogIndex(0),
        }
    }

    /// A stream opened.
    ///
    /// # Errors
    /// [`TrackerError`] at a bound or for an id in use. Close the stream then.
    pub fn open(&mut self, stream: StreamId, enforcer: Enforcer, now: BootNanos) -> Result<(), TrackerError> {
        self.forget_departed(now);
        if self.streams.contains_key(&stream) {
            return Err(TrackerError::StreamInUse { stream });
        }
        if self.streams.len() >= TRACKED_STREAMS_MAX {
            return Err(TrackerError::TooManyStreams);
        }
        // Every open stream may come to depart, so room for all of them is kept.
        if self.departed.len() + self.streams.len() >= TRACKED_DEPARTED_MAX {
            return Err(TrackerError::TooManyDeparted);
        }
        self.streams.insert(
            stream,
            Stream { enforcer, said: LogIndex(0), acked: LogIndex(0), grants: Grants::default() },
        );
        Ok(())
    }

    /// Freshness up to `index` is about to be sent on a stream. Call it **before** sending, and send only if it agrees.
    ///
    /// `at` is a reading from no earlier than the probe's arrival; `lasts` the largest `L` of all that the enforcer serves
    /// at `index`, with any grace that an operator granted.
    ///
    /// # Errors
    /// [`TrackerError::Superseded`], [`TrackerError::UnknownStream`].
    pub fn granting(
        &mut self,
        stream: StreamId,
        index: LogIndex,
        lasts: Millis,
        at: BootNanos,
    ) -> Result<(), TrackerError> {
        if index < self.floor {
            return Err(TrackerError::Superseded { index, floor: self.floor });
        }
        let lasts = fence_nanos(lasts, self.drift);
        let held = self.streams.get_mut(&stream).ok_or(TrackerError::UnknownStream { stream })?;
        let before = held.grants.lowest();
        held.grants.add(Grant::new(index.max(held.acked), at, lasts), at);
        move_lowest(&mut self.lowest, Holder::Stream(stream), before, held.grants.lowest());
        for watch in self.watches.values_mut().filter(|watch| watch.index() > index) {
            watch.follow(Holder::Stream(stream), &held.enforcer.paths, &held.grants, at);
        }
        Ok(())
    }

    /// An enforcer says that its view up to `index` is published and that every decision under an older one has returned.
    ///
    /// # Errors
    /// [`TrackerError::UnknownStream`].
    pub fn acked(&mut self, stream: StreamId, index: LogIndex) -> Result<(), TrackerError> {
        let held = self.streams.get_mut(&stream).ok_or(TrackerError::UnknownStream { stream })?;
        held.said = held.said.max(index);
        if held.enforcer.acks == Acks::DontCount || index <= held.acked {
            return Ok(());
        }
        let before = std::mem::replace(&mut held.acked, index);
        let lowest = held.grants.lowest();
        held.grants.raise(index);
        move_lowest(&mut self.lowest, Holder::Stream(stream), lowest, held.grants.lowest());
        for watch in self.watches.values_mut() {
            if before < watch.index() && watch.index() <= index {
                watch.acked(&Holder::Stream(stream));
            }
        }
        Ok(())
    }

    /// A stream closed, whoever closed it. Its leases live on.
    pub fn closed(&mut self, stream: StreamId, now: BootNanos) {
        self.forget_departed(now);
        let Some(Stream { enforcer: Enforcer { name, paths, .. }, grants, .. }) =
            self.streams.remove(&stream)
        else {
            return;
        };
        let holder = Holder::Stream(stream);
        move_lowest(&mut self.lowest, holder.clone(), grants.lowest(), None);
        let Some(ends) = grants.latest_end().filter(|ends| *ends > now) else {
            self.watches.values_mut().for_each(|watch| watch.outlived(&holder, &name, FencedWhy::Gone));
            return;
        };
        let left = Holder::Departed(name.clone());
        let departed = self.departed.entry(name.clone()).or_insert_with(|| Departed {
            paths: Arc::from([]),
            grants: Grants::default(),
            ends,
        });
        self.departures.remove(&(departed.ends, name.clone()));
        let lowest = departed.grants.lowest();
        departed.paths = union(&departed.paths, &paths);
        departed.grants.merge(grants, now);
        departed.ends = departed.ends.max(ends);
        move_lowest(&mut self.lowest, left.clone(), lowest, departed.grants.lowest());
        self.departures.insert((departed.ends, name));
        for watch in self.watches.values_mut() {
            watch.moved(&holder, left.clone(), &departed.grants);
        }
    }

    /// Begins to wait until a kill is surely in force at everything that hangs on this hub. `now` is a reading from after
    /// this hub saw the kill applied.
    ///
    /// # Errors
    /// [`TrackerError::NotApplied`], [`TrackerError::TooManyKills`].
    pub fn watch(
        &mut self,
        kill: WatchedKill,
        applied: LogIndex,
        now: BootNanos,
    ) -> Result<WatchId, TrackerError> {
        if applied < kill.index {
            return Err(TrackerError::NotApplied { wanted: kill.index, applied });
        }
        if self.watches.len() >= TRACKED_KILLS_MAX {
            return Err(TrackerError::TooManyKills);
        }
        self.forget_departed(now);
        let window = fence_nanos(kill.max_staleness, self.drift);
        let mut watch = Watch::new(kill, window, self.started, now);
        for (id, stream) in &self.streams {
            if stream.acked >= watch.index() && watch.touches(&stream.enforcer.paths) {
                watch.count_ack();
            } else {
                watch.follow(Holder::Stream(*id), &stream.enforcer.paths, &stream.grants, now);
            }
        }
        for (name, departed) in &self.departed {
            watch.follow(Holder::Departed(name.clone()), &departed.paths, &departed.grants, now);
        }
        self.last_watch = self.last_watch.next();
        self.watches.insert(self.last_watch, watch);
        Ok(self.last_watch)
    }

    /// Whether a watched kill is clear by now. Once it is, it stays so, and no Fresh below it leaves any more.
    ///
    /// Costs no more than the streams whose leases ended since the last look.
    ///
    /// # Errors
    /// [`TrackerError::UnknownWatch`].
    pub fn clear(&mut self, watch: WatchId, now: BootNanos) -> Result<Clear, TrackerError> {
        let watch = self.watches.get_mut(&watch).ok_or(TrackerError::UnknownWatch)?;
        let clear = watch.look(now, |holder| match holder {
            Holder::Departed(name) => Some((name.clone(), FencedWhy::Gone)),
            Holder::Stream(id) => self.streams.get(id).map(|stream| match stream.enforcer.acks {
                Acks::Count => (stream.enforcer.name.clone(), FencedWhy::Silent),
                Acks::DontCount => (stream.enforcer.name.clone(), FencedWhy::Untrusted),
            }),
        });
        if matches!(clear, Clear::Cleared(_)) {
            self.floor = self.floor.max(watch.index());
        }
        Ok(clear)
    }

    /// Which enforcers a watched kill still waits for, and until when at most. In no useful order.
    pub fn lagging(&self, watch: WatchId) -> impl Iterator<Item = (&EdgeName, BootNanos)> {
        let lagging = self.watches.get(&watch).into_iter().flat_map(Watch::lagging);
        lagging.filter_map(|(holder, until)| match holder {
            Holder::Departed(name) => Some((name, until)),
            Holder::Stream(id) => self.streams.get(id).map(|stream| (&stream.enforcer.name, until)),
        })
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, watch: WatchId) {
        self.watches.remove(&watch);
    }

    /// For a relay: the largest index, at most `applied`, up to where everything below it is surely in force, which it may
    /// acknowledge upstream; from then on no Fresh below that index leaves. `lasts` is the largest `L` of all that it
    /// serves. Nothing before the boot wait has passed.
    pub fn settle(&mut self, applied: LogIndex, lasts: Millis, now: BootNanos) -> Option<LogIndex> {
        if now < self.started.plus(fence_nanos(lasts, self.drift)) {
            return None;
        }
        self.forget_departed(now);
        let settled = self.lowest_live(now).map_or(applied, |lowest| lowest.min(applied));
        self.floor = self.floor.max(settled);
        Some(settled)
    }

    /// No Fresh below this index may leave.
    #[must_use]
    pub const fn floor(&self) -> LogIndex {
        self.floor
    }

    /// The open streams.
    pub fn streams(&self) -> impl Iterator<Item = StreamStatus<'_>> {
        self.streams.iter().map(|(id, stream)| StreamStatus {
            stream: *id,
            enforcer: &stream.enforcer,
            acked: stream.said,
            lease_ends: stream.grants.latest_end(),
        })
    }

    /// Enforcers without an open stream whose lease may still live.
    #[must_use]
    pub fn departed(&self) -> usize {
        self.departed.len()
    }

    /// The lowest index that a grant still rests on; drops what has ended on the way.
    fn lowest_live(&mut self, now: BootNanos) -> Option<LogIndex> {
        loop {
            let (lowest, holder) = self.lowest.first()?.clone();
            let grants = match &holder {
                Holder::Stream(id) => self.streams.get_mut(id).map(|stream| &mut stream.grants),
                Holder::Departed(name) => self.departed.get_mut(name).map(|departed| &mut departed.grants),
            };
            let now_lowest = grants.and_then(|grants| {
                grants.prune(now);
                grants.lowest()
            });
            if now_lowest == Some(lowest) {
                return now_lowest;
            }
            move_lowest(&mut self.lowest, holder, Some(lowest), now_lowest);
        }
    }

    /// Forgets what closed streams left behind once none of it can live.
    fn forget_departed(&mut self, now: BootNanos) {
        while let Some((ends, name)) = self.departures.first().cloned() {
            if ends > now {
                return;
            }
            self.departures.pop_first();
            if let Some(departed) = self.departed.remove(&name) {
                let holder = Holder::Departed(name.clone());
                move_lowest(&mut self.lowest, holder.clone(), departed.grants.lowest(), None);
                let gone = FencedWhy::Gone;
                self.watches.values_mut().for_each(|watch| watch.outlived(&holder, &name, gone));
            }
        }
    }
}

fn move_lowest(
    table: &mut BTreeSet<(LogIndex, Holder)>,
    holder: Holder,
    from: Option<LogIndex>,
    to: Option<LogIndex>,
) {
    if from == to {
        return;
    }
    if let Some(index) = from {
        table.remove(&(index, holder.clone()));
    }
    if let Some(index) = to {
        table.insert((index, holder));
    }
}

/// Both lists of paths, each path once.
fn union(some: &Arc<[Option<FleetPath>]>, more: &[Option<FleetPath>]) -> Arc<[Option<FleetPath>]> {
    if more.iter().all(|path| some.contains(path)) {
        return Arc::clone(some);
    }
    let all: BTreeSet<Option<FleetPath>> = some.iter().chain(more).cloned().collect();
    all.into_iter().collect()
}

/// Whether a selector could stop something that is served under these paths. May say yes where the answer is no.
fn reaches(selector: &Selector, paths: &[Option<FleetPath>]) -> bool {
    let Some(named) = selector.reach() else { return true };
    paths.iter().any(|path| path.as_ref().is_none_or(|path| path.contains(&named) || named.contains(path)))
}

#[cfg(test)]
mod tests;
