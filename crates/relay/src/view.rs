//! Where a relay stands between the link above and the hub below: what came, who waits for an answer, and how far what
//! hangs below may be acknowledged.
//!
//! # What must hold
//! - An answer to those below is only ever one to a probe that was sent after they had asked: the hub asks for a root, the
//!   root becomes a nonce that was never sent before, and nothing but the verified answer to that very nonce is handed on.
//! - What isn't proven admits nobody ([`RecordBook`]).
//! - Frames go on at once, because a kill among them acts at once everywhere; each enforcer below proves them for itself.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use haltline_core::{
    attest::{Fresh, ProofLayer},
    command::EnforcerKind,
    event::{ChainPosition, EdgePolicy, EnforcementEvent},
    ids::{EdgeName, EventSeq, Incarnation, KeyHash, LogIndex, NodeId, Nonce},
    lease::Lease,
    limits::{EVENTS_UNVERIFIED_MAX, RELAY_FEED_MAX, RELAY_POSITIONS_MAX},
    path::FleetPath,
    time::Millis,
};
use haltline_edge::{
    client::covers,
    enforce::{FeedError, FreshLease, ViewBody},
};
use haltline_hub::{Admitted, BootClock, Entry, FeedEnd, Start, Statement, UpstreamError, Urgency};
use haltline_pki::{PeerIdentity, Refusal as KeyRefusal, Subject};
use haltline_wire::v1;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::{
    records::{RecordBook, Records},
    refused::RelayRefused,
};

/// See the module.
pub(crate) struct RelayView {
    name: EdgeName,
    clock: Arc<dyn BootClock>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    book: RecordBook,
    /// In which incarnation the chain below stands, once that is proven.
    incarnation: Option<Incarnation>,
    /// Heard, and proven with the next statement.
    founded: Option<Incarnation>,
    index: LogIndex,
    chain: ChainPosition,
    /// After which event each of the last frames ended.
    positions: VecDeque<(LogIndex, EventSeq)>,
    handing: Handing,
    began: EventSeq,
    lease: Option<Lease>,
    /// Which node signed last.
    top: NodeId,
    /// How far acknowledging takes nothing from those who wait for an answer.
    may_settle: LogIndex,
    is_connected: bool,
    waiting: BTreeMap<Nonce, oneshot::Sender<Statement>>,
}

/// What the hub below gets of what came from above: everything after a position of the log.
#[derive(Debug)]
struct Handing {
    index: LogIndex,
    chain: ChainPosition,
    to: HandedTo,
}

#[derive(Debug)]
enum HandedTo {
    /// It follows, and was given everything up to the position.
    Hub(mpsc::Sender<Entry>),
    /// It doesn't yet, and will be given these from the position on. So its ring begins where the snapshot ends that this
    /// relay began with: hubs above go on handing out the same one for a while, and whoever comes with that can follow.
    Later(VecDeque<Entry>),
}

impl Default for Handing {
    fn default() -> Self {
        Self::from(LogIndex::default(), ChainPosition::default())
    }
}

impl Handing {
    const fn from(index: LogIndex, chain: ChainPosition) -> Self {
        Self { index, chain, to: HandedTo::Later(VecDeque::new()) }
    }

    fn move_to(&mut self, entry: &Entry) {
        (self.index, self.chain) = (entry.index, entry.chain);
    }

    fn add(&mut self, entry: Entry) {
        match &mut self.to {
            HandedTo::Hub(hub) => {
                (self.index, self.chain) = (entry.index, entry.chain);
                if hub.try_send(entry).is_err() {
                    // It doesn't keep up, and begins anew from here.
                    self.to = HandedTo::Later(VecDeque::new());
                }
            }
            HandedTo::Later(entries) => {
                entries.push_back(entry);
                if entries.len() > RELAY_FEED_MAX
                    && let Some(oldest) = entries.pop_front()
                {
                    self.move_to(&oldest);
                }
            }
        }
    }

    /// A feed of everything after the position that it begins at.
    fn feed(&mut self) -> (LogIndex, ChainPosition, RelayFeed) {
        let (sender, receiver) = mpsc::channel(RELAY_FEED_MAX);
        let (index, chain) = (self.index, self.chain);
        if let HandedTo::Later(entries) = std::mem::replace(&mut self.to, HandedTo::Hub(sender)) {
            entries.into_iter().for_each(|entry| self.add(entry));
        }
        (index, chain, RelayFeed(receiver))
    }
}

impl std::fmt::Debug for RelayView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayView").field("name", &self.name).finish_non_exhaustive()
    }
}

impl RelayView {
    /// A view that knows nothing. `earlier` is how long leases can last that an earlier life of this relay passed on.
    pub(crate) fn new(name: EdgeName, clock: Arc<dyn BootClock>, earlier: Option<Millis>) -> Self {
        let book = RecordBook::after(earlier, clock.now());
        let inner = Mutex::new(Inner { book, ..Inner::default() });
        Self { name, clock, inner }
    }

    // --- From above ---

    /// Events that no statement covers yet. They are handed on when `before` has returned.
    pub(crate) fn hear(
        &self,
        events: &[EnforcementEvent],
        index: LogIndex,
        before: impl FnOnce(),
    ) -> Result<(), FeedError> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let waiting = inner.book.pending();
        if waiting + events.len() > EVENTS_UNVERIFIED_MAX {
            return Err(FeedError::TooManyUnverified { waiting, more: events.len() });
        }
        for event in events {
            inner.chain = inner.chain.after(event);
            if let EnforcementEvent::Founded { incarnation, .. } = event {
                inner.founded = Some(*incarnation);
            }
            let seq = inner.chain.seq;
            inner.book.hear(event, seq, now);
        }
        inner.index = index.max(inner.index);
        let entry = self.entry(&inner, events);
        if entry.urgency >= Urgency::Revocation {
            inner.may_settle = inner.may_settle.max(entry.index);
        }
        let policy_changed = entry.policy_changed;
        drop(inner);
        if policy_changed {
            before();
        }
        // One task hears, so nothing comes between.
        self.inner.lock().hand_on(entry);
        Ok(())
    }

    fn entry(&self, inner: &Inner, events: &[EnforcementEvent]) -> Entry {
        let mut entry = Entry::new(inner.index, events, inner.chain);
        if entry.edges_changed.contains(&self.name) {
            // Whom this relay may serve follows from its own record.
            entry.edges_changed = inner.book.edges().cloned().collect();
        }
        entry
    }

    /// A verified statement covers the chain up to there.
    pub(crate) fn confirm(&self, index: LogIndex, event_seq: EventSeq) -> Result<(), FeedError> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        if event_seq > inner.chain.seq {
            return Err(FeedError::NotHeard { statement: event_seq, applied: inner.chain.seq });
        }
        inner.book.confirm(event_seq, now);
        if event_seq > EventSeq(0) {
            let founded = inner.founded.take();
            inner.incarnation = founded.or(inner.incarnation);
        }
        inner.index = inner.index.max(index);
        inner.may_settle = inner.may_settle.max(index);
        Ok(())
    }

    /// A verified view takes the place of everything.
    pub(crate) fn install(&self, body: &ViewBody, index: LogIndex) {
        let now = self.clock.now();
        let records = Records::of(body.edges(), body.fleets());
        let mut inner = self.inner.lock();
        inner.book.install(records, now);
        inner.incarnation = body.cluster().map(|(_, incarnation)| incarnation);
        inner.founded = None;
        (inner.index, inner.chain) = (index, body.position());
        inner.positions.clear();
        inner.note_position();
        // What hangs below begins anew from here.
        inner.handing = Handing::from(index, body.position());
    }

    pub(crate) fn lease(&self) -> Option<Lease> {
        self.inner.lock().lease
    }

    pub(crate) fn leased(&self, lease: FreshLease) {
        let mut inner = self.inner.lock();
        let fresh_from =
            inner.lease.map_or(lease.fresh_from, |before| before.fresh_from.max(lease.fresh_from));
        inner.lease = Some(Lease { fresh_from, index: lease.index });
    }

    pub(crate) fn smallest_staleness(&self) -> Millis {
        self.inner.lock().book.smallest()
    }

    pub(crate) fn connected(&self) {
        self.inner.lock().is_connected = true;
    }

    /// Whoever waits for an answer asks again.
    pub(crate) fn disconnected(&self) {
        let mut inner = self.inner.lock();
        inner.is_connected = false;
        inner.waiting.clear();
    }

    /// A verified answer came; if somebody below waits for it, it is theirs.
    pub(crate) fn attested(&self, fresh: &Fresh) {
        let mut inner = self.inner.lock();
        inner.top = fresh.node;
        if let Some(asked) = inner.waiting.remove(&fresh.nonce) {
            // Whoever gave up waiting asks again.
            let _ = asked.send(statement(fresh));
        }
    }

    // --- From below ---

    pub(crate) fn top(&self) -> NodeId {
        self.inner.lock().top
    }

    /// Waits for the answer to a probe with this nonce, which is to be sent after this.
    pub(crate) fn expect(&self, nonce: Nonce) -> Result<oneshot::Receiver<Statement>, UpstreamError> {
        let mut inner = self.inner.lock();
        if !inner.is_connected {
            return Err(UpstreamError::Unavailable { reason: "no hub above serves this relay now".into() });
        }
        let (asked, answer) = oneshot::channel();
        // The hub asks for one at a time; what it gave up needn't be kept.
        inner.waiting.clear();
        inner.waiting.insert(nonce, asked);
        Ok(answer)
    }

    /// Where this relay began, or where the hub below was when it lost step, and everything after that.
    pub(crate) fn follow(&self) -> Result<Start<RelayFeed>, UpstreamError> {
        let mut inner = self.inner.lock();
        let unproven = || UpstreamError::Unavailable { reason: "nothing is proven to this relay yet".into() };
        let incarnation = inner.incarnation.ok_or_else(unproven)?;
        let (index, chain, feed) = inner.handing.feed();
        inner.began = chain.seq;
        Ok(Start { incarnation, index, chain, feed })
    }

    /// Where the hub below began: it can't lead on whoever stands before that.
    pub(crate) fn began(&self) -> EventSeq {
        self.inner.lock().began
    }

    /// The key that counts for an enforcer, as handshakes ask for it.
    pub(crate) fn key(&self, name: &EdgeName) -> Result<KeyHash, KeyRefusal> {
        let inner = self.inner.lock();
        if inner.incarnation.is_none() {
            return Err(KeyRefusal::NotReady);
        }
        inner.book.edge(name).map(|record| record.key).ok_or(KeyRefusal::Unregistered)
    }

    /// Whether an enforcer may hang on this relay.
    pub(crate) fn admit(&self, peer: &PeerIdentity) -> Result<Admitted, RelayRefused> {
        let unregistered = || RelayRefused::Unregistered { subject: peer.subject.clone() };
        let Subject::Edge(name) = &peer.subject else { return Err(unregistered()) };
        let inner = self.inner.lock();
        let own = inner.own(&self.name).ok_or_else(|| RelayRefused::NoRelay { name: self.name.clone() })?;
        let record =
            inner.book.edge(name).filter(|record| record.key == peer.key_hash).ok_or_else(unregistered)?;
        if let Some(path) = record.paths.iter().find(|path| !covers(&own.paths, path)) {
            let (relay, name, path) = (self.name.clone(), name.clone(), path.clone());
            return Err(RelayRefused::BeyondPaths { relay, name, path });
        }
        Ok(Admitted {
            name: name.clone(),
            kind: record.kind,
            trusted_for_acks: record.trusted_for_acks,
            paths: record.paths.clone(),
        })
    }

    pub(crate) fn staleness(&self, paths: &[Option<FleetPath>]) -> Millis {
        let now = self.clock.now();
        self.inner.lock().book.staleness(paths, now)
    }

    /// What this relay serves: by its record, or everything while that isn't known.
    pub(crate) fn own_paths(&self) -> Vec<Option<FleetPath>> {
        self.inner.lock().own(&self.name).map_or_else(|| vec![None], |record| record.paths.clone())
    }

    /// How far acknowledging takes nothing from those who wait for an answer: up to the last answer, past which the next
    /// one lies, and up to what stops somebody, which can't wait for one.
    pub(crate) fn may_settle(&self) -> LogIndex {
        self.inner.lock().may_settle
    }

    /// The events that entries up to there have.
    pub(crate) fn events_at(&self, index: LogIndex) -> EventSeq {
        let inner = self.inner.lock();
        let found = inner.positions.iter().rev().find(|(at, _)| *at <= index);
        found.map_or(EventSeq(0), |(_, seq)| *seq)
    }
}

impl Inner {
    fn own(&self, name: &EdgeName) -> Option<&EdgePolicy> {
        self.book.edge(name).filter(|record| record.kind == EnforcerKind::Relay)
    }

    fn note_position(&mut self) {
        if self.positions.len() == RELAY_POSITIONS_MAX {
            self.positions.pop_front();
        }
        self.positions.push_back((self.index, self.chain.seq));
    }

    /// Passes an entry to the hub below.
    fn hand_on(&mut self, entry: Entry) {
        self.note_position();
        self.handing.add(entry);
    }
}

fn statement(fresh: &Fresh) -> Statement {
    let layer = |layer: &ProofLayer| v1::ProofLayer {
        name: layer.name.to_string(),
        position: layer.position,
        leaves: layer.leaves,
        path: layer.path.iter().flat_map(|digest| digest.0).collect(),
    };
    Statement {
        node: fresh.node,
        index: fresh.index,
        chain: ChainPosition { seq: fresh.event_seq, head: fresh.chain_head },
        cluster_time: fresh.cluster_time,
        signature: fresh.signature.0,
        layers: fresh.layers.iter().map(layer).collect(),
    }
}

/// What came from above, as the hub below takes it.
#[derive(Debug)]
pub(crate) struct RelayFeed(mpsc::Receiver<Entry>);

impl haltline_hub::Feed for RelayFeed {
    async fn next(&mut self) -> Result<Entry, FeedEnd> {
        self.0.recv().await.ok_or(FeedEnd::Jumped)
    }

    fn try_next(&mut self) -> Result<Option<Entry>, FeedEnd> {
        match self.0.try_recv() {
            Ok(entry) => Ok(Some(entry)),
            Err(mpsc::error::TryRecvError::Empty) => Ok(None),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(FeedEnd::Jumped),
        }
    }
}

#[cfg(test)]
#[path = "view_test.rs"]
mod tests;
