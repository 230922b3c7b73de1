//! Whether this node should lead: not on a full disk, and not on one that is much slower than another voter's.
//!
//! Each node tells the others how it fares, in the answers to the calls that keep connections warm. A leader that is short
//! of room hands over to a voter that isn't. If there is none, or if so many voters are short that no majority has room,
//! it stays and takes no commands but kills, for which the logs have a reserve. A leader whose syncs take long for a while
//! hands over to a voter whose syncs don't; if all are slow, nothing is gained and it stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use haltline_core::{
    ids::NodeId,
    limits::{
        CONDITION_LIFETIME, FITNESS_INTERVAL, LEADER_TRANSFER_TIMEOUT, SLOW_DISK_FACTOR, SLOW_DISK_PATIENCE,
        SLOW_DISK_REST,
    },
};
use haltline_storage::{RaftLog, Room, SnapshotStore};
use haltline_wire::raft::v1 as wire;
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{options::Timing, snapshots::blocking, types::Raft};

/// Each so many looks, ten seconds, the snapshots' reserve is looked after, and at once when there is room again.
const RESERVE_LOOKS: u32 = 40;

/// How a node's disk fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) short_of_room: bool,
    /// What nine of ten recent syncs didn't exceed.
    pub(crate) sync: Duration,
}

impl Condition {
    pub(crate) fn of(log: &dyn RaftLog) -> Self {
        let health = log.health();
        Self { short_of_room: health.room != Room::Ample, sync: health.syncs.recent }
    }

    pub(crate) fn out(self) -> wire::Condition {
        let sync_us = u64::try_from(self.sync.as_micros()).unwrap_or(u64::MAX);
        wire::Condition { short_of_room: self.short_of_room, sync_us }
    }

    fn incoming(message: wire::Condition) -> Self {
        Self { short_of_room: message.short_of_room, sync: Duration::from_micros(message.sync_us) }
    }
}

/// What the other nodes said of themselves, and when. Cheap to clone; one entry for each node that was ever a member.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions(Arc<Mutex<BTreeMap<NodeId, (Instant, Condition)>>>);

impl Conditions {
    pub(crate) fn heard(&self, node: NodeId, message: wire::Condition) {
        self.0.lock().insert(node, (Instant::now(), Condition::incoming(message)));
    }

    /// Forgets who is no member any more.
    pub(crate) fn keep(&self, members: &BTreeSet<NodeId>) {
        self.0.lock().retain(|node, _| members.contains(node));
    }

    fn now(&self) -> BTreeMap<NodeId, Condition> {
        let lifetime = Duration::from_millis(CONDITION_LIFETIME.0);
        let conditions = self.0.lock();
        let fresh = conditions.iter().filter(|(_, (at, _))| at.elapsed() <= lifetime);
        fresh.map(|(node, (_, condition))| (*node, *condition)).collect()
    }
}

/// Whether a leader takes commands that aren't kills. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admission(Arc<AtomicBool>);

impl Admission {
    /// Nothing but kills.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set_closed(&self, closed: bool) {
        if self.0.swap(closed, Ordering::Relaxed) != closed {
            if closed {
                tracing::error!("the disks of the cluster are nearly full: no commands but kills are taken");
            } else {
                tracing::info!("commands are taken again");
            }
        }
    }
}

/// A leader's view of itself and the other voters.
#[derive(Debug, Clone)]
struct Standing {
    me: NodeId,
    own: Condition,
    /// One set of voters, or two while the membership changes.
    voters: Vec<BTreeSet<NodeId>>,
    others: BTreeMap<NodeId, Condition>,
    /// How far the others' logs are.
    matched: BTreeMap<NodeId, u64>,
    /// This node has been slow for so long.
    slow_for: Duration,
    /// Above this a sync is slow.
    slow_sync: Duration,
}

/// What a leader should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Lead,
    /// For want of room; and take nothing but kills if that fails.
    HandOver(NodeId),
    /// Because the disk is slow. Not urgent.
    HandOverSlow(NodeId),
    /// Take nothing but kills.
    TakeKillsOnly,
}

impl Standing {
    fn judge(&self) -> Verdict {
        if self.own.short_of_room {
            return self.heir(|other| !other.short_of_room).map_or(Verdict::TakeKillsOnly, Verdict::HandOver);
        }
        if !self.voters.iter().all(|voters| self.majority_has_room(voters)) {
            return Verdict::TakeKillsOnly;
        }
        if self.slow_for < Duration::from_millis(SLOW_DISK_PATIENCE.0) {
            return Verdict::Lead;
        }
        let is_better = |other: &Condition| {
            !other.short_of_room
                && other.sync < self.slow_sync
                && other.sync.saturating_mul(SLOW_DISK_FACTOR) <= self.own.sync
        };
        self.heir(is_better).map_or(Verdict::Lead, Verdict::HandOverSlow)
    }

    /// A voter of which nothing is known counts as having room: whether it is there at all is Raft's business.
    fn majority_has_room(&self, voters: &BTreeSet<NodeId>) -> bool {
        let is_short = |node: &&NodeId| {
            let condition = if **node == self.me { Some(&self.own) } else { self.others.get(*node) };
            condition.is_some_and(|condition| condition.short_of_room)
        };
        2 * voters.iter().filter(is_short).count() < voters.len()
    }

    /// The voter with the longest log of those that would do.
    fn heir(&self, would_do: impl Fn(&Condition) -> bool) -> Option<NodeId> {
        let last = self.voters.last()?;
        let candidates = last.iter().filter(|node| **node != self.me);
        let fit = candidates.filter(|node| self.others.get(node).is_some_and(&would_do));
        fit.max_by_key(|node| self.matched.get(node)).copied()
    }
}

/// What the task works with.
pub(crate) struct Fitness {
    pub(crate) raft: Raft,
    pub(crate) log: Arc<dyn RaftLog>,
    pub(crate) snapshots: Arc<dyn SnapshotStore>,
    pub(crate) conditions: Conditions,
    pub(crate) admission: Admission,
    pub(crate) timing: Timing,
}

/// What it remembers.
#[derive(Default)]
struct Memory {
    looks: u32,
    was_short: bool,
    slow_since: Option<Instant>,
    handing_over_since: Option<Instant>,
    handed_over_slow: Option<Instant>,
}

impl Fitness {
    /// Looks again and again until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(Duration::from_millis(FITNESS_INTERVAL.0));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut memory = Memory::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = interval.tick() => {}
            }
            self.look(&mut memory).await;
        }
    }

    async fn look(&self, memory: &mut Memory) {
        let own = Condition::of(&*self.log);
        let (was_short, look) = (memory.was_short, memory.looks);
        (memory.was_short, memory.looks) = (own.short_of_room, look.wrapping_add(1));
        if !own.short_of_room && (was_short || look % RESERVE_LOOKS == 0) {
            let snapshots = self.snapshots.clone();
            let kept = blocking(move || {
                snapshots.keep_reserve();
                Ok(())
            });
            // It fails only when the runtime ends.
            drop(kept.await);
        }
        let is_slow = own.sync > self.timing.slow_sync();
        memory.slow_since = is_slow.then(|| memory.slow_since.unwrap_or_else(Instant::now));
        let Some(standing) = self.standing(own, memory) else {
            memory.handing_over_since = None;
            return self.admission.set_closed(false);
        };
        match standing.judge() {
            Verdict::Lead => {
                memory.handing_over_since = None;
                self.admission.set_closed(false);
            }
            Verdict::TakeKillsOnly => self.admission.set_closed(true),
            Verdict::HandOver(heir) => {
                let since = *memory.handing_over_since.get_or_insert_with(Instant::now);
                self.admission.set_closed(since.elapsed() > Duration::from_millis(LEADER_TRANSFER_TIMEOUT.0));
                self.hand_over(heir, "its disk is nearly full").await;
            }
            Verdict::HandOverSlow(heir) => {
                let rest = Duration::from_millis(SLOW_DISK_REST.0);
                if memory.handed_over_slow.is_none_or(|at| at.elapsed() > rest) {
                    memory.handed_over_slow = Some(Instant::now());
                    self.hand_over(heir, "its disk is slow").await;
                }
            }
        }
    }

    /// How this node stands if it leads.
    fn standing(&self, own: Condition, memory: &Memory) -> Option<Standing> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        if !metrics.state.is_leader() {
            return None;
        }
        let membership = metrics.membership_config.membership();
        let members = membership.nodes().map(|(id, _)| NodeId(*id)).collect();
        self.conditions.keep(&members);
        let sets = membership.get_joint_config().iter();
        let voters = sets.map(|set| set.iter().copied().map(NodeId).collect()).collect();
        let matched = metrics.replication.iter().flatten();
        let matched = matched.map(|(id, matched)| (NodeId(*id), matched.map_or(0, |matched| matched.index)));
        Some(Standing {
            me: NodeId(metrics.id),
            own,
            voters,
            others: self.conditions.now(),
            matched: matched.collect(),
            slow_for: memory.slow_since.map_or(Duration::ZERO, |since| since.elapsed()),
            slow_sync: self.timing.slow_sync(),
        })
    }

    async fn hand_over(&self, heir: NodeId, why: &str) {
        tracing::warn!(%heir, "this node hands over leadership because {why}");
        if let Err(error) = self.raft.trigger().transfer_leader(heir.0).await {
            tracing::warn!(%error, "leadership was not handed over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Condition = Condition { short_of_room: false, sync: Duration::from_millis(2) };
    const SLOW: Condition = Condition { short_of_room: false, sync: Duration::from_millis(400) };
    const SHORT: Condition = Condition { short_of_room: true, sync: Duration::from_millis(2) };

    fn standing(own: Condition, others: [Condition; 2]) -> Standing {
        Standing {
            me: NodeId(1),
            own,
            voters: vec![(1..=3).map(NodeId).collect()],
            others: (2..).map(NodeId).zip(others).collect(),
            matched: [(NodeId(2), 90), (NodeId(3), 100)].into(),
            slow_for: Duration::ZERO,
            slow_sync: Duration::from_millis(60),
        }
    }

    #[test]
    fn who_has_no_room_hands_over_to_the_best_voter_that_has() {
        assert_eq!(standing(QUICK, [QUICK, QUICK]).judge(), Verdict::Lead);
        assert_eq!(standing(SHORT, [QUICK, QUICK]).judge(), Verdict::HandOver(NodeId(3)));
        assert_eq!(standing(SHORT, [QUICK, SHORT]).judge(), Verdict::HandOver(NodeId(2)));
        assert_eq!(standing(SHORT, [SHORT, SHORT]).judge(), Verdict::TakeKillsOnly);
        let mut unheard = standing(SHORT, [QUICK, QUICK]);
        unheard.others.clear();
        assert_eq!(unheard.judge(), Verdict::TakeKillsOnly, "nobody is known to be better off");
    }

    #[test]
    fn a_leader_with_room_takes_commands_while_a_majority_has_it() {
        assert_eq!(standing(QUICK, [SHORT, QUICK]).judge(), Verdict::Lead);
        assert_eq!(standing(QUICK, [SHORT, SHORT]).judge(), Verdict::TakeKillsOnly);
        let mut joint = standing(QUICK, [SHORT, QUICK]);
        joint.voters.push([NodeId(1), NodeId(2)].into());
        assert_eq!(joint.judge(), Verdict::TakeKillsOnly, "in both sets of voters");
    }

    #[test]
    fn a_slow_leader_hands_over_only_after_a_while_and_only_to_a_quick_voter() {
        let after = |slow_for, others| Standing { slow_for, ..standing(SLOW, others) }.judge();
        let patience = Duration::from_millis(SLOW_DISK_PATIENCE.0);
        assert_eq!(after(patience / 2, [QUICK, QUICK]), Verdict::Lead);
        assert_eq!(after(patience, [QUICK, SLOW]), Verdict::HandOverSlow(NodeId(2)));
        assert_eq!(after(patience, [SLOW, SLOW]), Verdict::Lead, "all are: nothing is gained");
        assert_eq!(after(patience, [SHORT, SLOW]), Verdict::Lead);
        let little_better = Condition { sync: SLOW.sync / (SLOW_DISK_FACTOR - 1), ..SLOW };
        assert_eq!(after(patience, [little_better, SLOW]), Verdict::Lead);
    }
}
