//! The enforcer's side of the sync protocol, without I/O: fed with what a hub said and with readings of the clock, it
//! drives the decision engine and says what to send (design 02, Freshness lease and What is signed).
//!
//! ```text
//!            ┌────────────── opened: Hello with the position held, first probe ◄──────────────┐
//!            ▼                                                                                │
//!  Welcome ─► frames: hashed, chained, provisional ─► Fresh: verified end to end ─► lease     │
//!                │                                       │ confirms, moves mark and keys      │
//!                └─► quiesced ─► Applied                 ▼                                    │
//!  SnapshotNeeded ─► snapshot: fetched, verified, installed ──────────────────────────────────┘
//! ```
//!
//! # What must hold
//! - Whatever is refused changes nothing that permits, and ends the stream: the shell turns to another hub.
//! - Only a statement signed by a key that is believed, fresh for a nonce of this stream, and fitting the chain that is
//!   held here, moves the mark, the keys or the lease; and only if those who passed it on may ([`super::relays`]).
//! - **The view never goes back under a lease.** Frames act and are acknowledged before anybody vouches for them; if a
//!   snapshot then puts an earlier position in their place, the lease ends with it and probes sent before count for
//!   nothing. Otherwise an acknowledged kill could be forgotten while an old lease still permits.
//! - A later incarnation takes the earlier one's place by a verified snapshot only. It begins under a freeze of everything
//!   (design 02, After a restore), so what the earlier one denied stays denied until two people lift that.

use haltline_core::{
    attest::{AttestError, Attested, Fresh},
    event::{ChainPosition, EnforcementEvent, event_from_bytes},
    ids::{ClusterId, EdgeName, EventSeq, Incarnation, LogIndex, NodeId, Nonce, PublicKey},
    lease::{BootNanos, LeaseBook, Nanos},
    mark::{ChainHistory, HighWaterMark},
    time::Millis,
};
use haltline_pki::KnownHub;
use haltline_wire::v1;

use super::{
    enforcement::Enforcement,
    messages::{Because, Frame, FromHub, SnapshotNeeded, Welcome},
    refusal::SyncRefusal,
    relays::Relays,
    stream::{self, Stream},
    trust::Trust,
};
use crate::{
    enforce::{FeedError, FreshLease, ViewBody},
    persist::{MarkRecord, Remembered, StoredSnapshot},
};

pub(crate) use super::stream::Probe;

/// A place in the log and on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) incarnation: Incarnation,
    pub(crate) index: LogIndex,
    pub(crate) position: ChainPosition,
}

/// What is to be done about something that was taken in. Sending is [`Protocol::applied`]'s and [`Protocol::probe`]'s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Acknowledge up to here once every decision under an older view has returned.
    Acknowledge { index: LogIndex, event_seq: EventSeq },
    /// A lease was published; the probe took this long.
    Renewed { round_trip: Nanos },
    /// The keys that are believed changed: keep [`Protocol::trust`] before the next mark.
    KeysChanged,
    /// The cluster told where its hubs are.
    Hubs(Vec<KnownHub>),
    /// This hub can't go on from here: fetch a snapshot from it, then open a new stream.
    FetchSnapshot,
}

/// The state of the link, over all streams of one process.
#[derive(Debug)]
pub(crate) struct Protocol {
    name: EdgeName,
    trust: Trust,
    relays: Relays,
    mark: HighWaterMark,
    /// The statement that moved the mark last, if a Fresh did.
    proof: Option<MarkRecord>,
    held: Held,
    history: ChainHistory,
    leases: LeaseBook,
    stream: Option<Stream>,
    /// What is held may have been made up: go on from a snapshot only.
    must_start_over: bool,
}

impl Protocol {
    /// Stands where an earlier life left off. A cached snapshot that can't be installed is named and left aside.
    pub(crate) fn new(
        name: EdgeName,
        remembered: Remembered,
        enforcement: &impl Enforcement,
    ) -> (Self, Option<SyncRefusal>) {
        let Remembered { trust, mark, snapshot, .. } = remembered;
        let mark = mark.unwrap_or_default();
        let position = ChainPosition::default();
        let mut protocol = Self {
            relays: Relays::below(name.clone()),
            name,
            trust,
            mark,
            proof: None,
            held: Held { incarnation: mark.incarnation, index: LogIndex(0), position },
            history: ChainHistory::starting_at(position),
            leases: LeaseBook::default(),
            stream: None,
            must_start_over: false,
        };
        let aside = snapshot.and_then(|snapshot| protocol.install_cached(&snapshot, enforcement).err());
        (protocol, aside)
    }

    /// Where the view stands, frames that nobody vouches for included.
    pub(crate) const fn held(&self) -> Held {
        self.held
    }

    /// How far the log was proven to have come.
    pub(crate) const fn mark(&self) -> HighWaterMark {
        self.mark
    }

    /// The proof of the mark, for keeping.
    pub(crate) const fn proof(&self) -> Option<&MarkRecord> {
        self.proof.as_ref()
    }

    /// Whose signatures count.
    pub(crate) const fn trust(&self) -> &Trust {
        &self.trust
    }

    const fn cluster(&self) -> ClusterId {
        self.trust.cluster()
    }

    /// A stream to a hub was opened (to this node, if it isn't a relay): what to say first. Probes of earlier streams are
    /// forgotten; the lease that they gave goes on.
    pub(crate) fn opened(
        &mut self,
        node: Option<NodeId>,
        now: BootNanos,
        version: &str,
        region: &str,
    ) -> v1::Hello {
        self.leases = LeaseBook::default();
        self.stream = Some(Stream::opened(node, now));
        // An index beyond that is a hub's word, and the next one must not take it for this enforcer's.
        self.held.index = self.held.index.min(self.mark.index);
        let Held { incarnation, index, position } = self.held;
        v1::Hello {
            incarnation: incarnation.0,
            index: index.0,
            event_seq: position.seq.0,
            chain_head: position.head.0.to_vec(),
            version: version.to_owned(),
            region: region.to_owned(),
        }
    }

    /// The stream is over. After a refusal that shows a liar or damage, what it brought isn't built upon: the next stream
    /// begins after a snapshot of another hub.
    pub(crate) fn closed(&mut self, refused: Option<&SyncRefusal>) {
        self.stream = None;
        self.leases = LeaseBook::default();
        self.must_start_over |= refused.is_some_and(SyncRefusal::is_suspicious);
    }

    /// Whether events are held that no statement covers.
    pub(crate) const fn holds_unproven(&self) -> bool {
        self.held.position.seq.0 > self.mark.event_seq.0
    }

    /// What is held may never have been in the log: hubs are behind it.
    pub(crate) const fn start_over(&mut self) {
        self.must_start_over = true;
    }

    /// Whether a snapshot must be installed before the next stream is opened.
    pub(crate) const fn must_start_over(&self) -> bool {
        self.must_start_over
    }

    /// The probe that is due at `now`, if one is. The nonce must be random and new; it is noted as sent at `now`, so the
    /// clock is to be read before.
    pub(crate) fn probe(
        &mut self,
        now: BootNanos,
        random: impl FnOnce() -> Probe,
        staleness: Millis,
    ) -> Option<v1::Probe> {
        self.stream.as_mut()?.probe(now, random, staleness, &mut self.leases)
    }

    /// A probe with this nonce, now: somebody below waits for its answer.
    pub(crate) fn probe_for(&mut self, nonce: Nonce, now: BootNanos, staleness: Millis) -> Option<v1::Probe> {
        self.stream.as_mut()?.probe_for(nonce, now, staleness, &mut self.leases)
    }

    /// When to look for a due probe, or at the hub's silence, again.
    pub(crate) fn next_due(&self, patience: Millis) -> Option<BootNanos> {
        self.stream.as_ref().map(|stream| stream.next_probe().min(stream.silent_from(patience)))
    }

    /// Whether this hub leaves probes unanswered for too long.
    pub(crate) fn check_silence(&self, now: BootNanos, patience: Millis) -> Result<(), SyncRefusal> {
        self.stream.as_ref().map_or(Ok(()), |stream| stream.check_silence(now, patience))
    }

    /// Every decision under a view older than this has returned: the acknowledgement to send, unless it says nothing
    /// new on this stream.
    pub(crate) fn applied(&mut self, index: LogIndex, event_seq: EventSeq) -> Option<v1::EdgeApplied> {
        self.stream.as_mut()?.applied(index, event_seq)
    }

    /// Takes one message of the hub in.
    pub(crate) fn received(
        &mut self,
        message: FromHub,
        now: BootNanos,
        enforcement: &impl Enforcement,
    ) -> Result<Vec<Effect>, SyncRefusal> {
        let welcomed = self.stream.as_ref().is_some_and(Stream::is_welcomed);
        match message {
            FromHub::Welcome(welcome) if !welcomed => self.welcome(&welcome),
            FromHub::Welcome(_) => Err(stream::out_of_turn("frame or Fresh", "second Welcome")),
            // A hub that can't go on may say so at once.
            FromHub::SnapshotNeeded(needed) => self.snapshot_needed(needed),
            _ if !welcomed => Err(stream::out_of_turn("Welcome", "message before it")),
            FromHub::Frame(frame) => self.frame(&frame, enforcement),
            FromHub::Fresh(fresh) => self.fresh(&fresh, now, enforcement),
            FromHub::Hubs(hubs) => Ok(vec![Effect::Hubs(hubs)]),
            FromHub::Unknown => Ok(vec![]),
        }
    }

    fn welcome(&mut self, welcome: &Welcome) -> Result<Vec<Effect>, SyncRefusal> {
        let Held { incarnation: held, index, position } = self.held;
        if welcome.cluster != self.cluster() {
            return Err(SyncRefusal::OtherCluster { expected: self.cluster(), got: welcome.cluster });
        }
        if welcome.incarnation < self.mark.incarnation {
            return Err(SyncRefusal::OlderIncarnation {
                held: self.mark.incarnation,
                got: welcome.incarnation,
            });
        }
        if welcome.incarnation != held && position.seq > EventSeq(0) {
            // A chain goes on in its own incarnation only.
            return Ok(vec![Effect::FetchSnapshot]);
        }
        let stream = self.stream.as_mut().ok_or(stream::out_of_turn("nothing", "Welcome"))?;
        stream.welcome(welcome)?;
        self.held.incarnation = welcome.incarnation;
        Ok(vec![Effect::Acknowledge { index, event_seq: position.seq }])
    }

    fn snapshot_needed(&mut self, needed: SnapshotNeeded) -> Result<Vec<Effect>, SyncRefusal> {
        // A hub that lags will catch up, and others may be further: its snapshot would only lose what is held here.
        let lags = needed.because == Because::AheadOfHub || needed.index < self.mark.index;
        if lags && needed.because != Because::OtherIncarnation {
            return Err(SyncRefusal::HubBehind { held: self.held.index, hub: needed.index });
        }
        Ok(vec![Effect::FetchSnapshot])
    }

    fn frame(&mut self, frame: &Frame, enforcement: &impl Enforcement) -> Result<Vec<Effect>, SyncRefusal> {
        let (events, positions) = self.read_frame(frame)?;
        let mut trust = self.trust.clone();
        for (event, position) in events.iter().zip(&positions) {
            if let EnforcementEvent::TrustBundleSet(change) = event
                && !trust.propose(self.held.incarnation, position.seq, change)?
            {
                tracing::warn!(held = %trust.version(), got = %change.version,
                    "versions of the trust bundle were missed; the keys stay, enrol this enforcer anew before they go");
            }
        }
        if let Err(error) = enforcement.apply_provisional(&events, frame.index) {
            // It only happens far behind the log: a snapshot is verified as a whole.
            tracing::info!(%error, "catching up by a snapshot");
            return Ok(vec![Effect::FetchSnapshot]);
        }
        for (event, position) in events.iter().zip(&positions) {
            self.history.push(*position)?;
            self.relays.hear(event, position.seq);
        }
        self.trust = trust;
        self.held.position = self.history.newest();
        self.held.index = frame.index;
        Ok(vec![Effect::Acknowledge { index: frame.index, event_seq: self.held.position.seq }])
    }

    /// A frame's events and the chain's positions after each, if it continues the chain that is held.
    fn read_frame(&self, frame: &Frame) -> Result<(Vec<EnforcementEvent>, Vec<ChainPosition>), SyncRefusal> {
        let mut position = self.held.position;
        match frame.first.cmp(&position.seq) {
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => {
                return Err(SyncRefusal::Gap { expected: position.seq, got: frame.first });
            }
            std::cmp::Ordering::Less => {
                return Err(SyncRefusal::Overlap { expected: position.seq, got: frame.first });
            }
        }
        if frame.index < self.held.index {
            return Err(SyncRefusal::IndexBack { held: self.held.index, got: frame.index });
        }
        let positions: Vec<_> = frame
            .events
            .iter()
            .map(|bytes| {
                position = position.after_bytes(bytes);
                position
            })
            .collect();
        if position.head != frame.head {
            let (seq, computed, claimed) = (position.seq, position.head, frame.head);
            return Err(SyncRefusal::WrongHead { seq, computed, claimed });
        }
        let read = |(bytes, at): (&bytes::Bytes, &ChainPosition)| {
            event_from_bytes(bytes)
                .map_err(|error| SyncRefusal::UnreadableEvent { seq: at.seq, why: error.to_string() })
        };
        let events = frame.events.iter().zip(&positions).map(read).collect::<Result<_, _>>()?;
        Ok((events, positions))
    }

    fn fresh(
        &mut self,
        fresh: &Fresh,
        now: BootNanos,
        enforcement: &impl Enforcement,
    ) -> Result<Vec<Effect>, SyncRefusal> {
        let sent =
            self.leases.sent_at(&fresh.nonce).ok_or(SyncRefusal::UnknownNonce { nonce: fresh.nonce })?;
        let attested = self.attested(fresh)?;
        let at = attested.position();
        self.history.check(at.chain())?;
        self.mark.admits(&at)?;
        self.relays.check(&fresh.layers, at.event_seq)?;

        // Everything is verified. What it covers takes effect first, then the lease.
        let keys_changed = self.trust.covered(at.event_seq);
        self.relays.covered(at.event_seq);
        self.mark = at;
        self.held.index = self.held.index.max(at.index);
        self.proof = Some(MarkRecord::new(self.cluster(), at.incarnation, fresh.clone()));
        let not_taken = |error: FeedError| SyncRefusal::NotTaken { why: error.to_string() };
        enforcement.confirm(at.index, at.event_seq).map_err(not_taken)?;
        self.leases
            .accept(&fresh.nonce, at.index, self.held.index)
            .map_err(|_| SyncRefusal::UnknownNonce { nonce: fresh.nonce })?;
        let cluster_time = attested.cluster_time();
        let lease = FreshLease { fresh_from: sent, index: at.index, cluster_time };
        enforcement.publish_lease(lease).map_err(not_taken)?;
        enforcement.attested(fresh);
        if let Some(stream) = &mut self.stream {
            stream.answered(now);
        }

        let mut effects = vec![Effect::Renewed { round_trip: now.since(sent) }];
        effects.extend(keys_changed.then_some(Effect::KeysChanged));
        effects.push(Effect::Acknowledge { index: self.held.index, event_seq: self.held.position.seq });
        Ok(effects)
    }

    /// Checks a statement by the keys that are believed, or, where it covers a change of them, by the keys after that: a
    /// node signs with its new key from the change on.
    fn attested(&self, fresh: &Fresh) -> Result<Attested, AttestError> {
        let check = |keys: &dyn Fn(NodeId) -> Option<PublicKey>| {
            fresh.verify(&self.name, self.cluster(), self.held.incarnation, keys)
        };
        let believed = check(&|node| self.trust.key(node));
        match (&believed, self.trust.keys_at(fresh.event_seq)) {
            (Err(_), Some(changed)) => {
                check(&|node| changed.iter().find(|(of, _)| *of == node).map(|(_, key)| *key))
            }
            _ => believed,
        }
    }

    /// Installs a snapshot that was fetched, once verified. What it says in place of what is held is then what counts.
    pub(crate) fn install(
        &mut self,
        snapshot: &StoredSnapshot,
        enforcement: &impl Enforcement,
    ) -> Result<Vec<Effect>, SyncRefusal> {
        let (at, view, trust) = self.verify_through_changes(snapshot)?;
        self.mark.admits(&at)?;

        self.leases = LeaseBook::default();
        let keys_changed = trust.version() != self.trust.version();
        self.trust = trust;
        self.mark = at;
        self.must_start_over = false;
        self.held = Held { incarnation: at.incarnation, index: at.index, position: at.chain() };
        self.history = ChainHistory::starting_at(at.chain());
        self.relays.replaced(view.edges());
        enforcement.install(view, at.index);
        Ok(keys_changed.then_some(Effect::KeysChanged).into_iter().collect())
    }

    /// A snapshot of an earlier life stands below the mark as often as not, which it may: events follow before anything
    /// is permitted, and every Fresh must reach the mark.
    fn install_cached(
        &mut self,
        snapshot: &StoredSnapshot,
        enforcement: &impl Enforcement,
    ) -> Result<(), SyncRefusal> {
        let at = self.verify(snapshot)?;
        if at.incarnation < self.mark.incarnation {
            return Err(SyncRefusal::OlderIncarnation { held: self.mark.incarnation, got: at.incarnation });
        }
        let view = self.decode(snapshot, &at)?;
        self.held = Held { incarnation: at.incarnation, index: at.index, position: at.chain() };
        self.history = ChainHistory::starting_at(at.chain());
        self.relays.replaced(view.edges());
        enforcement.install(view, at.index);
        Ok(())
    }

    fn verify(&self, snapshot: &StoredSnapshot) -> Result<HighWaterMark, SyncRefusal> {
        let (expected, got) = (self.cluster(), snapshot.statement.cluster_id);
        if expected != got {
            return Err(SyncRefusal::OtherCluster { expected, got });
        }
        Ok(snapshot.verify(&self.trust)?)
    }

    /// Verifies a snapshot by the keys that are believed, or by those to which the changes lead that it carries itself: each
    /// of these is endorsed by a majority of the keys before it. What its content says is judged after that only.
    fn verify_through_changes(
        &self,
        snapshot: &StoredSnapshot,
    ) -> Result<(HighWaterMark, ViewBody, Trust), SyncRefusal> {
        let (at, view) = match self.verify(snapshot) {
            Ok(at) => (at, self.decode(snapshot, &at)?),
            Err(SyncRefusal::Statement(
                refused @ (AttestError::UnknownKey { .. } | AttestError::BadSignature { .. }),
            )) => {
                return self.verify_by_its_changes(snapshot, refused);
            }
            Err(refused) => return Err(refused),
        };
        let trust = self.trust.through_view(view.bundle_version(), view.trust_history())?;
        if trust.version() < view.bundle_version() {
            let (held, got) = (trust.version(), view.bundle_version());
            tracing::warn!(%held, %got, "{}", SyncRefusal::BundleGap { held, got });
        }
        Ok((at, view, trust))
    }

    fn verify_by_its_changes(
        &self,
        snapshot: &StoredSnapshot,
        refused: AttestError,
    ) -> Result<(HighWaterMark, ViewBody, Trust), SyncRefusal> {
        let Ok(view) = ViewBody::decode(&snapshot.body) else { return Err(refused.into()) };
        let trust = self.trust.through_view(view.bundle_version(), view.trust_history())?;
        let (held, got) = (trust.version(), view.bundle_version());
        if held < got {
            return Err(SyncRefusal::BundleGap { held, got });
        }
        if held == self.trust.version() {
            return Err(refused.into());
        }
        let at = snapshot.verify(&trust)?;
        let view = self.decoded(view, &at)?;
        Ok((at, view, trust))
    }

    fn decode(&self, snapshot: &StoredSnapshot, at: &HighWaterMark) -> Result<ViewBody, SyncRefusal> {
        let content = |why: String| SyncRefusal::SnapshotContent { why };
        let view = ViewBody::decode(&snapshot.body).map_err(|error| content(error.to_string()))?;
        self.decoded(view, at)
    }

    /// A view that stands where its statement says.
    fn decoded(&self, view: ViewBody, at: &HighWaterMark) -> Result<ViewBody, SyncRefusal> {
        let content = |why: String| SyncRefusal::SnapshotContent { why };
        if view.position() != at.chain() {
            return Err(content(format!(
                "it stands after event {}, signed was {}",
                view.position().seq,
                at.event_seq
            )));
        }
        if view.cluster() != Some((self.cluster(), at.incarnation)) {
            return Err(content("it names another cluster or incarnation".into()));
        }
        Ok(view)
    }
}

#[cfg(test)]
#[path = "protocol_test.rs"]
mod tests;
