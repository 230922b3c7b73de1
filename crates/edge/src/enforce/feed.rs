//! How the view comes about: events as they are heard, statements that verify them, snapshots, leases.
//!
//! ```text
//!  frames ──► hear ──► denials act: rules, revocations, narrower policy, own record
//!                │         (laid over the verified view)
//!                ▼
//!           unverified ──► verify, once a statement covers them: permissions act, what was laid over goes
//! ```
//!
//! So an action is permitted only if the verified view permits it and no event heard since denies it, whatever later events
//! say: what was heard can be forged, and what is forged must not permit (design 02, What is signed).
//!
//! What must stay true: a revocation is in the set before the view that knows it is published; every change pushes a tag
//! that whoever it touches has; one caller at a time (a lock around the feed).

mod hear;
mod restore;
mod verify;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use haltline_core::{
    event::{EdgePolicy, EnforcementEvent},
    ids::{EdgeName, EventSeq, KillId, LogIndex, NodeId, PublicKey},
    lease::{BootNanos, Lease},
    limits::EVENTS_UNVERIFIED_MAX,
    selector::Selector,
    time::{ClusterTime, Millis},
    trust_history::TrustHistory,
};
use haltline_pki::token::VerifyingKeys;

use self::restore::Orphans;

use super::{
    facts::NANOS_PER_MS,
    revocations::RevokedKey,
    rules::{Rule, RuleKind},
    tag::Tag,
    view::EnforceView,
};

/// Why the feed takes something not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// Too much was heard since the last verified statement.
    #[error(
        "{waiting} events wait for a verified statement, and {more} more would pass the bound of {EVENTS_UNVERIFIED_MAX}; \
         probe, and read on when the answer is there"
    )]
    TooManyUnverified {
        /// How many wait.
        waiting: usize,
        /// How many came.
        more: usize,
    },
    /// A statement about events that haven't come.
    #[error("the statement covers {statement} events, and {applied} were heard so far")]
    NotHeard {
        /// The statement's.
        statement: EventSeq,
        /// What was heard.
        applied: EventSeq,
    },
    /// A lease for another index than the one that is verified.
    #[error(
        "the lease is for index {lease}, and the view is verified at {confirmed}; confirm the lease's index first"
    )]
    NotConfirmed {
        /// The lease's.
        lease: LogIndex,
        /// The view's.
        confirmed: LogIndex,
    },
}

/// How far the feed has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Positions {
    /// Denials up to here act: index, and number of events.
    pub applied: (LogIndex, EventSeq),
    /// Permissions up to here act: index, and number of events.
    pub confirmed: (LogIndex, EventSeq),
    /// Events that wait for a verified statement.
    pub unverified: usize,
}

/// A verified proof of freshness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreshLease {
    /// When the probe was sent that it answers.
    pub fresh_from: BootNanos,
    /// The index that it speaks of.
    pub index: LogIndex,
    /// The cluster time that it names.
    pub cluster_time: ClusterTime,
}

/// What the feed knows beside the view itself.
pub(super) struct Feed {
    name: EdgeName,
    /// The view as it will be published next.
    pub(super) view: EnforceView,
    positions: Positions,
    unverified: VecDeque<(EventSeq, EnforcementEvent)>,
    /// Kills' rules: more than one while a change of a kill isn't verified.
    kills: BTreeMap<KillId, Vec<Arc<Rule>>>,
    terminated: BTreeMap<KillId, Vec<Arc<Rule>>>,
    /// Revocations that aren't verified, with the last event that made them.
    heard_revocations: HashMap<RevokedKey, EventSeq>,
    orphans: Option<Orphans>,
    /// This enforcer's own record: first as verified, then after each event that was heard since.
    own: Vec<(EventSeq, Option<EdgePolicy>)>,
    /// The same as of the index of the lease: like `L`, paths that were added since don't widen a lease already given. The
    /// hub that gave it holds it to serve no others, and doesn't wait for it when something else is killed.
    leased_own: Option<Option<EdgePolicy>>,
    node_keys: BTreeMap<NodeId, PublicKey>,
    /// Which keys they replaced, for tokens.
    trust: TrustHistory,
    /// The lease's index and the cluster time that came with it.
    lease: Option<(LogIndex, ClusterTime)>,
    /// Fleets whose policy changed since the lease was given.
    changed_since_lease: HashSet<Tag>,
    /// Whether the smallest staleness has to be worked out anew.
    smallest_staleness: Option<Millis>,
    /// What was touched since the last publication.
    touched: Vec<Tag>,
}

impl Feed {
    pub(super) fn new(name: EdgeName) -> Self {
        Self {
            name,
            view: EnforceView::empty(),
            positions: Positions::default(),
            unverified: VecDeque::new(),
            kills: BTreeMap::new(),
            terminated: BTreeMap::new(),
            heard_revocations: HashMap::new(),
            orphans: None,
            own: vec![(EventSeq(0), None)],
            leased_own: None,
            node_keys: BTreeMap::new(),
            trust: TrustHistory::default(),
            lease: None,
            changed_since_lease: HashSet::new(),
            smallest_staleness: None,
            touched: Vec::new(),
        }
    }

    pub(super) fn positions(&self) -> Positions {
        Positions { unverified: self.unverified.len(), ..self.positions }
    }

    pub(super) fn node_keys(&self) -> Vec<(NodeId, PublicKey)> {
        self.node_keys.iter().map(|(node, key)| (*node, *key)).collect()
    }

    pub(super) fn own_record(&self) -> Option<&EdgePolicy> {
        self.own.first().and_then(|(_, record)| record.as_ref())
    }

    pub(super) fn lease(&self) -> Option<Lease> {
        let (index, _) = self.lease?;
        self.view.fresh_from.map(|fresh_from| Lease { fresh_from, index })
    }

    /// The smallest `max_staleness` of all that this enforcer serves.
    pub(super) fn smallest_staleness(&mut self) -> Millis {
        if let Some(known) = self.smallest_staleness {
            return known;
        }
        let records = self.own.iter().filter_map(|(_, record)| record.as_ref());
        let paths: Vec<_> = records.flat_map(|record| record.paths.iter().cloned()).collect();
        let smallest = self.view.policies.smallest_staleness(&paths);
        self.smallest_staleness = Some(smallest);
        smallest
    }

    /// What was touched since this was asked last.
    pub(super) fn take_touched(&mut self) -> Vec<Tag> {
        std::mem::take(&mut self.touched)
    }

    /// Takes in events that follow those heard so far, all of entries up to `index`.
    pub(super) fn apply(&mut self, events: &[EnforcementEvent], index: LogIndex) -> Result<(), FeedError> {
        let waiting = self.unverified.len();
        if waiting + events.len() > EVENTS_UNVERIFIED_MAX {
            return Err(FeedError::TooManyUnverified { waiting, more: events.len() });
        }
        let (applied, mut seq) = self.positions.applied;
        let index = applied.max(index);
        for event in events {
            seq = seq.next();
            self.hear(event, seq, index);
            self.unverified.push_back((seq, event.clone()));
        }
        self.positions.applied = (index, seq);
        self.view.index = index;
        Ok(())
    }

    /// A verified statement covers all up to here.
    pub(super) fn confirm(&mut self, index: LogIndex, seq: EventSeq) -> Result<(), FeedError> {
        let (applied_index, applied) = self.positions.applied;
        if seq > applied {
            return Err(FeedError::NotHeard { statement: seq, applied });
        }
        while let Some((next, _)) = self.unverified.front()
            && *next <= seq
            && let Some((next, event)) = self.unverified.pop_front()
        {
            self.verify(event, next);
        }
        let (confirmed_index, confirmed) = self.positions.confirmed;
        self.positions.confirmed = (confirmed_index.max(index), confirmed.max(seq));
        // Entries without events don't show in frames; the statement says that there was nothing else.
        if seq == applied {
            self.positions.applied.0 = applied_index.max(index);
            self.view.index = self.positions.applied.0;
        }
        Ok(())
    }

    /// Gives a lease that rests on the view as it is verified now.
    pub(super) fn give_lease(&mut self, given: &FreshLease) -> Result<(), FeedError> {
        let (confirmed, _) = self.positions.confirmed;
        if given.index != confirmed {
            return Err(FeedError::NotConfirmed { lease: given.index, confirmed });
        }
        // A Fresh that was overtaken by one whose probe was sent later adds nothing.
        if self.view.fresh_from.is_some_and(|held| held >= given.fresh_from) {
            return Ok(());
        }
        self.view.fresh_from = Some(given.fresh_from);
        self.lease = Some((given.index, given.cluster_time));
        // Cluster time was read after the probe was sent: counted from there, it is never late.
        let cluster = i64::try_from(given.cluster_time.0.saturating_mul(NANOS_PER_MS)).unwrap_or(i64::MAX);
        let sent = i64::try_from(given.fresh_from.0).unwrap_or(i64::MAX);
        self.view.cluster_ahead = cluster.saturating_sub(sent);
        self.view.policies.lease_given();
        let own = self.own.first().map(|(_, record)| record.clone());
        if self.leased_own != own {
            self.leased_own = own;
            self.own_changed();
        }
        // What was looked up so far took the older policy into account.
        for tag in std::mem::take(&mut self.changed_since_lease) {
            self.view.changes.push(tag);
        }
        self.smallest_staleness = None;
        if self.orphans.as_ref().is_some_and(|orphans| orphans.since <= given.fresh_from) {
            self.drop_orphans();
        }
        Ok(())
    }

    /// Permits nothing until the next lease.
    pub(super) fn end_lease(&mut self) {
        self.view.fresh_from = None;
        self.lease = None;
        self.leased_own = None;
    }

    fn touch(&mut self, tag: Tag) {
        self.view.changes.push(tag);
        self.touched.push(tag);
    }

    fn add_rule(
        &mut self,
        kill: KillId,
        kind: RuleKind,
        selector: Selector,
        (since, seq): (LogIndex, EventSeq),
    ) {
        let rule = Arc::new(Rule { kill, kind, selector, since, seq });
        self.view.rules.insert(&rule);
        self.touch(rule.touches());
        let table = match kind {
            RuleKind::Kill(_) => &mut self.kills,
            RuleKind::Terminated { .. } => &mut self.terminated,
        };
        table.entry(kill).or_default().push(rule);
    }

    /// Takes out a kill's rules of one kind from before this event.
    fn drop_rules(&mut self, kill: KillId, terminated: bool, before: EventSeq) {
        let table = if terminated { &mut self.terminated } else { &mut self.kills };
        let Some(rules) = table.get_mut(&kill) else { return };
        let old: Vec<_> = rules.extract_if(.., |rule| rule.seq < before).collect();
        if rules.is_empty() {
            table.remove(&kill);
        }
        for rule in old {
            self.view.rules.remove(&rule);
            self.touch(rule.touches());
        }
    }

    fn policy_changed(&mut self, tag: Tag) {
        self.touch(tag);
        self.smallest_staleness = None;
    }

    fn own_changed(&mut self) {
        self.view.own = self.own.iter().map(|(_, record)| record).chain(&self.leased_own).cloned().collect();
        self.policy_changed(Tag::EVERYTHING);
    }

    fn keys_changed(&mut self) {
        let retired = self.trust.retired().iter().map(|(key, old)| (old.node, *key, Some(old.until)));
        let current = self.node_keys.iter().map(|(node, key)| (*node, *key, None));
        let keys = retired.chain(current);
        let keys = VerifyingKeys::with_retired(keys.clone()).unwrap_or_else(|error| {
            // One key that is none must not take the others along; what it signed isn't believed.
            tracing::error!(%error, "a node's key can't be used");
            let is_sound =
                |(node, key, _): &(NodeId, PublicKey, _)| VerifyingKeys::new([(*node, *key)]).is_ok();
            VerifyingKeys::with_retired(keys.filter(is_sound)).unwrap_or_default()
        });
        self.view.keys = Arc::new(keys);
        self.touch(Tag::EVERYTHING);
    }
}
