//! Tokens that were verified, by their hash: one that comes again is the same session, and no signature is checked.
//!
//! What must stay true: only what the token itself proves is kept. That its bearer showed a bound key is checked for each
//! use, by whoever receives it, and is never remembered here (design 04, DPoP with many nodes). Whether the session is still
//! good is asked of the view each time.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use haltline_core::limits::TOKENS_REMEMBERED_MAX;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::{clock::Clock, session::SessionState};

/// Locks that share the tokens, so that threads seldom wait for one another.
const SHARDS: usize = 16;
/// Tokens that are looked at for one that isn't in use, before one that is has to be forgotten.
const TRIES: usize = 16;

/// SHA-256 of a token's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

struct Shard<C: Clock> {
    sessions: HashMap<TokenDigest, Arc<SessionState<C>>>,
    /// In the order in which they came, or were last found in use.
    order: VecDeque<TokenDigest>,
}

pub(super) struct Tokens<C: Clock> {
    shards: Vec<Mutex<Shard<C>>>,
}

impl<C: Clock> Tokens<C> {
    pub(super) fn new() -> Self {
        let shard = || Mutex::new(Shard { sessions: HashMap::new(), order: VecDeque::new() });
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect() }
    }

    fn shard(&self, digest: &TokenDigest) -> &Mutex<Shard<C>> {
        &self.shards[usize::from(digest.0[0]) % SHARDS]
    }

    pub(super) fn get(&self, digest: &TokenDigest) -> Option<Arc<SessionState<C>>> {
        self.shard(digest).lock().sessions.get(digest).cloned()
    }

    /// Keeps a session under its token, and returns it, or the one that somebody else was quicker with.
    pub(super) fn keep(&self, digest: TokenDigest, session: Arc<SessionState<C>>) -> Arc<SessionState<C>> {
        // Whatever is forgotten is dropped after the lock.
        let mut forgotten = None;
        let kept = {
            let mut shard = self.shard(&digest).lock();
            if let Some(earlier) = shard.sessions.get(&digest) {
                let earlier = Arc::clone(earlier);
                forgotten = Some(session);
                earlier
            } else {
                if shard.sessions.len() >= TOKENS_REMEMBERED_MAX / SHARDS {
                    forgotten = shard.forget_one();
                }
                shard.order.push_back(digest);
                shard.sessions.insert(digest, Arc::clone(&session));
                session
            }
        };
        drop(forgotten);
        kept
    }

    /// Forgets all tokens of sessions that nobody uses. Their places become free.
    pub(super) fn forget_unused(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let is_unused = |session: &Arc<SessionState<C>>| Arc::strong_count(session) == 1;
            let unused: Vec<_> = shard
                .sessions
                .iter()
                .filter(|(_, session)| is_unused(session))
                .map(|(digest, _)| *digest)
                .collect();
            let forgotten: Vec<_> =
                unused.iter().filter_map(|digest| shard.sessions.remove(digest)).collect();
            let Shard { sessions, order } = &mut *shard;
            order.retain(|digest| sessions.contains_key(digest));
            drop(shard);
            drop(forgotten);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().sessions.len()).sum()
    }
}

impl<C: Clock> Shard<C> {
    /// Takes out the token that came first of those that nobody uses, or of all where all are in use. Its session lives on
    /// as long as it is used.
    fn forget_one(&mut self) -> Option<Arc<SessionState<C>>> {
        for _ in 0..TRIES {
            let digest = self.order.pop_front()?;
            match self.sessions.get(&digest) {
                Some(session) if Arc::strong_count(session) > 1 => self.order.push_back(digest),
                _ => return self.sessions.remove(&digest),
            }
        }
        let digest = self.order.pop_front()?;
        self.sessions.remove(&digest)
    }
}
