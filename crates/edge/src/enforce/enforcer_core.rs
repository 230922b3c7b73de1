//! The enforcer without its network: takes in events, statements and leases on one side, and serves sessions on the other.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use haltline_core::{
    event::{EdgePolicy, EnforcementEvent},
    ids::{ClusterId, EdgeName, EventSeq, Incarnation, KillId, LogIndex, NodeId, PublicKey},
    lease::Lease,
    limits::SESSIONS_MAX,
    time::Millis,
};
use haltline_pki::token::{TokenError, VerifiedToken, parse_and_verify};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    body::ViewBody,
    clock::{BootClock, Clock},
    decision_log::{DecisionExtract, DecisionLog},
    facts::Facts,
    feed::{Feed, FeedError, FreshLease, Positions},
    publication::Publication,
    session::{Session, SessionState},
    sessions::Sessions,
    standing::StandingWord,
    tokens::{TokenDigest, Tokens},
    verdict::Denial,
    view::EnforceView,
};

/// How an enforcer is set up.
#[derive(Debug, Clone)]
pub struct CoreOptions {
    /// Its registered name.
    pub name: EdgeName,
    /// Tokens have to be for one of these. An [`Enforcer`](crate::Enforcer) takes none to mean its cluster's enforcers; an
    /// engine by itself then doesn't look at whom a token is for.
    pub audiences: Vec<String>,
    /// Keeps the last so many decisions for whoever checks them. Costs a lock for each decision: for tests.
    pub decision_log: Option<usize>,
}

impl CoreOptions {
    /// Without an audience of its own, and without a log of decisions.
    #[must_use]
    pub const fn named(name: EdgeName) -> Self {
        Self { name, audiences: Vec::new(), decision_log: None }
    }
}

/// What all handles and sessions share.
pub(super) struct Shared<C: Clock> {
    pub(super) publication: Publication,
    pub(super) view: ArcSwap<EnforceView>,
    pub(super) clock: C,
    pub(super) log: Option<DecisionLog>,
    pub(super) sessions: Sessions<C>,
    audiences: Vec<String>,
    feed: Mutex<Writer>,
}

/// The feed, and the view that was replaced last: it is let go with the next publication, by the feed. So no decision is
/// the one that has to free it.
struct Writer {
    feed: Feed,
    replaced: Option<Arc<EnforceView>>,
}

/// The enforcer without its network. Copies are the same enforcer.
///
/// Threads: the feed (`restore`, `apply_provisional`, `confirm`, `publish_lease`) takes a lock of its own and is meant for
/// one task; sessions may decide on any thread and never wait for it.
pub struct EnforcerCore<C: Clock = BootClock> {
    shared: Arc<Shared<C>>,
    tokens: Arc<Tokens<C>>,
}

impl<C: Clock> Clone for EnforcerCore<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), tokens: Arc::clone(&self.tokens) }
    }
}

/// Why there is no session for a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionRefused {
    /// The token doesn't count.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token counts, and its bearer may do nothing.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// A kill lets what runs go on for a while, and nothing begin.
    #[error("{kill} drains it, in {}: no session may begin there", scope.as_deref().unwrap_or("the whole tree"))]
    Draining {
        /// The kill.
        kill: KillId,
        /// The subtree that it names, if it names one.
        scope: Option<Box<str>>,
    },
    /// There are as many sessions as there can be.
    #[error("all {SESSIONS_MAX} sessions of this enforcer are in use; end some, or start another enforcer")]
    TooManySessions,
}

impl SessionRefused {
    /// A stable code for scripts, metrics and help pages.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Token(error) => error.code(),
            Self::Denied(denial) => denial.code(),
            Self::Draining { .. } => "DRAINING",
            Self::TooManySessions => "TOO_MANY_SESSIONS",
        }
    }
}

impl EnforcerCore {
    /// An enforcer that goes by this machine's clock and knows nothing yet.
    #[must_use]
    pub fn new(options: CoreOptions) -> Self {
        Self::with_clock(options, BootClock)
    }
}

impl<C: Clock> EnforcerCore<C> {
    /// An enforcer that goes by another clock.
    #[must_use]
    pub fn with_clock(options: CoreOptions, clock: C) -> Self {
        let CoreOptions { name, audiences, decision_log } = options;
        let feed = Feed::new(name);
        let shared = Shared {
            publication: Publication::new(&feed.view.published()),
            view: ArcSwap::from_pointee(feed.view.clone()),
            clock,
            log: decision_log.map(DecisionLog::new),
            sessions: Sessions::new(),
            audiences,
            feed: Mutex::new(Writer { feed, replaced: None }),
        };
        Self { shared: Arc::new(shared), tokens: Arc::new(Tokens::new()) }
    }

    /// Begins anew from a verified snapshot at this index, or at the start from a cached one. Denials that were heard in
    /// frames beyond it stay until the first lease whose probe is sent after this. Nothing is permitted before the next lease.
    pub fn restore(&self, body: ViewBody, index: LogIndex) {
        let now = self.shared.clock.now();
        let mut writer = self.shared.feed.lock();
        writer.feed.restore(body, index, now);
        self.shared.publish(&mut writer);
    }

    /// Takes in the events that follow those taken in so far, of log entries up to `index`. What they deny is in force when
    /// this returns, and no permit under an older view has an instant after that; what they permit waits for
    /// [`Self::confirm`]. That the chain of events holds is the caller's to check.
    ///
    /// # Errors
    /// [`FeedError::TooManyUnverified`], and then none of them was taken in.
    pub fn apply_provisional(&self, events: &[EnforcementEvent], index: LogIndex) -> Result<(), FeedError> {
        let mut writer = self.shared.feed.lock();
        writer.feed.apply(events, index)?;
        self.shared.publish(&mut writer);
        Ok(())
    }

    /// A verified statement covers all events up to here: what they permit is in force when this returns.
    ///
    /// # Errors
    /// [`FeedError::NotHeard`] if not all of them have been taken in.
    pub fn confirm(&self, index: LogIndex, event_seq: EventSeq) -> Result<(), FeedError> {
        let mut writer = self.shared.feed.lock();
        writer.feed.confirm(index, event_seq)?;
        self.shared.publish(&mut writer);
        Ok(())
    }

    /// Publishes a lease, with the view that it belongs to. One whose probe was sent before that of the lease in force
    /// changes nothing.
    ///
    /// # Errors
    /// [`FeedError::NotConfirmed`] unless exactly its index was confirmed last.
    pub fn publish_lease(&self, lease: FreshLease) -> Result<(), FeedError> {
        let mut writer = self.shared.feed.lock();
        writer.feed.give_lease(&lease)?;
        self.shared.publish(&mut writer);
        Ok(())
    }

    /// Permits nothing until the next lease.
    pub fn revoke_lease(&self) {
        let mut writer = self.shared.feed.lock();
        writer.feed.end_lease();
        self.shared.publish(&mut writer);
    }

    /// Whether no decision can still say something under a view older than the one that was published last. True as soon as
    /// publication has returned, by construction: see the module `publication`.
    #[must_use]
    pub const fn is_quiesced(&self) -> bool {
        true
    }

    /// Waits for [`Self::is_quiesced`], which is never long.
    pub async fn quiesced(&self) {}

    /// How far the feed has come.
    #[must_use]
    pub fn positions(&self) -> Positions {
        self.shared.feed.lock().feed.positions()
    }

    /// The verified keys of nodes.
    #[must_use]
    pub fn node_keys(&self) -> Vec<(NodeId, PublicKey)> {
        self.shared.feed.lock().feed.node_keys()
    }

    /// The verified cluster.
    #[must_use]
    pub fn cluster(&self) -> Option<(ClusterId, Incarnation)> {
        self.shared.view.load().cluster
    }

    /// The enforcer's own record as it is verified; `None` if it isn't registered, as far as it knows.
    #[must_use]
    pub fn own_record(&self) -> Option<EdgePolicy> {
        self.shared.feed.lock().feed.own_record().cloned()
    }

    /// The smallest `max_staleness` of all that this enforcer serves: how often to probe goes by it.
    #[must_use]
    pub fn smallest_staleness(&self) -> Millis {
        self.shared.feed.lock().feed.smallest_staleness()
    }

    /// The lease in force, whether or not it has run out for some.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.shared.feed.lock().feed.lease()
    }

    /// How many revocations by id are in force.
    #[must_use]
    pub fn revocations(&self) -> usize {
        self.shared.view.load().revocations.len()
    }

    /// How many sessions there are, those included that only a remembered token keeps.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.sessions.len()
    }

    /// How many tokens are remembered.
    #[must_use]
    pub fn tokens_remembered(&self) -> usize {
        self.tokens.len()
    }

    /// The clock that leases are measured on.
    #[must_use]
    pub fn clock(&self) -> &C {
        &self.shared.clock
    }

    /// The session of a token. A token that was verified before is the same session, whoever brings it; that the bearer
    /// holds the key to which a token may be bound is the caller's to check, each time.
    ///
    /// # Errors
    /// Why there is none.
    pub fn session(&self, token: &str) -> Result<Session<C>, SessionRefused> {
        let digest = TokenDigest::of(token);
        if let Some(state) = self.tokens.get(&digest) {
            return checked(state);
        }
        let keys = Arc::clone(&self.shared.view.load().keys);
        let verified = parse_and_verify(token, &keys)?;
        if !self.shared.audiences.is_empty() {
            let names: Vec<_> = self.shared.audiences.iter().map(String::as_str).collect();
            verified.claims.check_audience(&names)?;
        }
        let session = self.begin(verified)?;
        // Only a session that may begin is remembered: a token that is refused costs its bearer a check each time.
        Ok(Session(self.tokens.keep(digest, session.0)))
    }

    /// Begins a session with what a verified token says.
    fn begin(&self, verified: VerifiedToken) -> Result<Session<C>, SessionRefused> {
        let facts = Facts::new(verified);
        let view = self.shared.view.load();
        let study = view.study(&facts);
        if let Some(rule) = &study.draining {
            let scope = rule.selector.fleet.as_ref().map(|fleet| fleet.as_str().into());
            return Err(SessionRefused::Draining { kill: rule.kill, scope });
        }
        let state = self.register(facts)?;
        // Why it is denied, if it is, is said below, with the instant and the index.
        let _ = state.take_in(view.changes.generation, StandingWord::UNKNOWN, study);
        checked(state)
    }

    /// Makes a session that has looked at nothing yet.
    pub(super) fn register(&self, facts: Facts) -> Result<Arc<SessionState<C>>, SessionRefused> {
        if !self.shared.sessions.begin() {
            self.tokens.forget_unused();
            if !self.shared.sessions.begin() {
                return Err(SessionRefused::TooManySessions);
            }
        }
        Ok(Arc::new(SessionState::new(Arc::clone(&self.shared), facts)))
    }

    /// Wakes those who wait for a session's halt, until it is cancelled. To be spawned once beside the feed.
    pub fn watch_halts(&self, cancelled: CancellationToken) -> impl Future<Output = ()> + Send + use<C> {
        let shared = Arc::clone(&self.shared);
        async move { shared.sessions.watch(cancelled).await }
    }

    /// Takes what the decision log has; nothing if there is none.
    #[must_use]
    pub fn take_decisions(&self) -> DecisionExtract {
        self.shared.log.as_ref().map(DecisionLog::take).unwrap_or_default()
    }
}

/// A session that may go on.
fn checked<C: Clock>(state: Arc<SessionState<C>>) -> Result<Session<C>, SessionRefused> {
    match state.standing_denial() {
        Some(denial) => Err(denial.into()),
        None => Ok(Session(state)),
    }
}

impl<C: Clock> Shared<C> {
    /// Publishes what the feed has come to: the whole view first, then the words that quick decisions go by.
    fn publish(&self, writer: &mut Writer) {
        let Writer { feed, replaced } = writer;
        feed.view.number += 1;
        *replaced = Some(self.view.swap(Arc::new(feed.view.clone())));
        self.publication.publish(&feed.view.published());
        self.sessions.hint(feed.take_touched());
    }
}

impl<C: Clock> fmt::Debug for EnforcerCore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnforcerCore").field("positions", &self.positions()).finish_non_exhaustive()
    }
}
