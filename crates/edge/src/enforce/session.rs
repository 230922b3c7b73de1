//! A session: one credential's use of this enforcer, and the decision, which everything else here exists to make quick.
//!
//! A warm decision reads one publication, one clock, one word of its session and the names it has met before; it takes no
//! lock, writes nothing that another core reads, allocates nothing and makes no system call. Whatever isn't a plain permit
//! from memory (a view that touched this session, a new name, any denial) is worked out slowly, in microseconds.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use haltline_core::{lease::BootNanos, limits::DECISION_ATTEMPTS_MAX, time::Millis};
use haltline_pki::token::Claims;
use tokio::sync::Notify;

use super::{
    action::Action,
    clock::{BootClock, Clock},
    enforcer_core::Shared,
    facts::{Facts, NANOS_PER_MS},
    judge::Judge,
    memo::{ALL_SHAPES, NameMemo, shapes_with},
    publication::Reading,
    sessions::SessionKey,
    standing::{Looks, Standing, StandingWord, Study},
    verdict::{Denial, DenyReason, Permit, Verdict},
    view::EnforceView,
};

/// One credential's use of this enforcer. Copies are the same session; threads may share one.
pub struct Session<C: Clock = BootClock>(pub(super) Arc<SessionState<C>>);

impl<C: Clock> Clone for Session<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What a session keeps.
pub(super) struct SessionState<C: Clock> {
    pub(super) shared: Arc<Shared<C>>,
    pub(super) facts: Facts,
    /// What was found out last, a [`StandingWord`].
    standing: AtomicU64,
    /// The generation under which the session was touched last: what was found out about names before it is void.
    touched: AtomicU64,
    /// By the place of their list in [`super::policy::LISTS`].
    names: [NameMemo; 4],
    /// What names are judged by, from the last time that one had to be.
    judge: ArcSwapOption<Judge>,
    /// Wakes whoever waits for a halt.
    halt: Notify,
    /// Its place among the sessions that are waited for, once somebody does.
    watched: OnceLock<SessionKey>,
}

impl<C: Clock> Drop for SessionState<C> {
    fn drop(&mut self) {
        self.shared.sessions.end(self.watched.get().copied(), &self.facts);
    }
}

impl<C: Clock> SessionState<C> {
    pub(super) fn new(shared: Arc<Shared<C>>, facts: Facts) -> Self {
        Self {
            shared,
            facts,
            standing: AtomicU64::new(StandingWord::UNKNOWN.0),
            touched: AtomicU64::new(0),
            names: Default::default(),
            judge: ArcSwapOption::empty(),
            halt: Notify::new(),
            watched: OnceLock::new(),
        }
    }

    /// The end of a permit, if all that it takes is known already. `None` says only that somebody has to look.
    #[inline]
    fn permitted_from_memory(&self, reading: &Reading, now: BootNanos, action: &Action<'_>) -> Option<u64> {
        let standing = StandingWord(self.standing.load(Ordering::Acquire));
        if standing.generation() != reading.generation {
            return None;
        }
        // A denied session's lease has no length, so no instant lies in it.
        let lease_end = reading.lease_end(standing.max_staleness_ms() * NANOS_PER_MS, now)?;
        let ends = self.facts.ends_nanos.saturating_sub(reading.cluster_ahead);
        // An end before the machine's start is as good as now.
        let until = lease_end.min(u64::try_from(ends).unwrap_or(0));
        if now.0 >= until {
            return None;
        }
        let looks = standing.looks();
        if looks != Looks::default() && !self.names_are_fine(reading.generation, looks, action) {
            return None;
        }
        Some(until)
    }

    #[inline]
    fn names_are_fine(&self, generation: u64, looks: Looks, action: &Action<'_>) -> bool {
        let touched = self.touched.load(Ordering::Acquire);
        let mut shapes = if looks.at(Looks::RULES) { ALL_SHAPES } else { 0 };
        for (place, name) in action.names().into_iter().enumerate() {
            match name {
                Some(name) if looks.at(Looks::part(place)) => {
                    match self.names[place].get(name, touched, generation) {
                        Some(judgement) => shapes &= judgement.shapes,
                        None => return false,
                    }
                }
                // What isn't there no rule finds, and what nobody looks at no rule looks for.
                _ => shapes &= !shapes_with(place),
            }
        }
        shapes == 0
    }

    /// The verdict, worked out from the view.
    #[cold]
    fn decide_slowly(&self, action: &Action<'_>) -> Verdict {
        let mut last = None;
        for _ in 0..DECISION_ATTEMPTS_MAX {
            let view = self.shared.view.load();
            let now = self.shared.clock.now();
            let verdict = match self.verdict(&view, now, action) {
                Ok(until) => Verdict::Permit(Permit { at: now, until, index: view.index }),
                Err(reason) => Verdict::Deny(Denial { reason, at: now, index: view.index }),
            };
            // As in the quick way: what was decided under a view that is no longer in force isn't said.
            if self.shared.view.load().number == view.number {
                return verdict;
            }
            last = Some((now, view.index));
        }
        let (at, index) = last.unwrap_or_default();
        Verdict::Deny(Denial { reason: DenyReason::Unsettled, at, index })
    }

    /// The end of the permit, or why there is none.
    fn verdict(
        &self,
        view: &EnforceView,
        now: BootNanos,
        action: &Action<'_>,
    ) -> Result<BootNanos, DenyReason> {
        let standing = self.standing_under(view)?;
        let ends = self.facts.ends_nanos.saturating_sub(view.cluster_ahead);
        let ends = BootNanos(u64::try_from(ends).unwrap_or(0));
        let fresh_from = view.fresh_from.ok_or(DenyReason::NoLease)?;
        if now >= ends {
            return Err(DenyReason::CredentialEnded { ended: self.facts.claims.ends });
        }
        let max_staleness = Millis(standing.max_staleness_ms());
        let lease_end = fresh_from.plus(max_staleness.into());
        if now < fresh_from || now >= lease_end {
            let scope = Some(self.facts.fleet().clone());
            return Err(DenyReason::Stale { scope, max_staleness, ended: lease_end });
        }
        let (generation, looks) = (view.changes.generation, standing.looks());
        if looks != Looks::default() && !self.names_are_fine(generation, looks, action) {
            self.judge_action(view, looks, action)?;
        }
        Ok(lease_end.min(ends))
    }

    /// What holds for the session under a view whatever it does, looked up as little as can be.
    fn standing_under(&self, view: &EnforceView) -> Result<StandingWord, DenyReason> {
        let generation = view.changes.generation;
        let known = StandingWord(self.standing.load(Ordering::Acquire));
        let is_older = known.generation() <= generation;
        if known.is_clear() && is_older && !view.changes.touch(&self.facts.tags, known.generation()) {
            let carried = known.carried_to(generation);
            // If somebody else was quicker, that is as good.
            let _ = self.standing.compare_exchange(known.0, carried.0, Ordering::AcqRel, Ordering::Relaxed);
            return Ok(carried);
        }
        self.take_in(generation, known, view.study(&self.facts))
    }

    /// Keeps what was found out under a view of this generation, if it is the newest that is known.
    pub(super) fn take_in(
        &self,
        generation: u64,
        known: StandingWord,
        study: Study,
    ) -> Result<StandingWord, DenyReason> {
        let found = StandingWord::new(generation, &study.standing);
        if known.generation() <= generation && known != found {
            // First what was known about names is void, then the word says that the session is up to date.
            self.touched.fetch_max(generation, Ordering::AcqRel);
            self.judge.store(Some(Arc::new(study.judge)));
            let _ = self.standing.compare_exchange(known.0, found.0, Ordering::AcqRel, Ordering::Relaxed);
        }
        match study.standing {
            Standing::Clear { .. } => Ok(found),
            Standing::Denied(reason) => {
                self.halt.notify_waiters();
                Err(reason)
            }
        }
    }

    /// Looks at the names of an action, and at rules that depend on them.
    fn judge_action(&self, view: &EnforceView, looks: Looks, action: &Action<'_>) -> Result<(), DenyReason> {
        let generation = view.changes.generation;
        let judge = self.judge_under(view);
        let mut shapes = if looks.at(Looks::RULES) { ALL_SHAPES } else { 0 };
        for (place, name) in action.names().into_iter().enumerate() {
            match name {
                Some(name) if looks.at(Looks::part(place)) => {
                    let judgement = judge.judge(&self.facts, place, name)?;
                    self.names[place].put(name, generation, judgement);
                    shapes &= judgement.shapes;
                }
                _ => shapes &= !shapes_with(place),
            }
        }
        if shapes == 0 { Ok(()) } else { judge.stopping_rule(&self.facts, action) }
    }

    /// What names are judged by under a view; kept for the next name.
    fn judge_under(&self, view: &EnforceView) -> Arc<Judge> {
        let touched = self.touched.load(Ordering::Acquire);
        let generation = view.changes.generation;
        match self.judge.load_full() {
            Some(judge) if touched <= judge.generation() && judge.generation() <= generation => judge,
            _ => {
                let judge = Arc::new(view.study(&self.facts).judge);
                self.judge.store(Some(Arc::clone(&judge)));
                judge
            }
        }
    }

    /// Why the session is denied whatever it does, lease or none; `None` while it isn't.
    pub(super) fn standing_denial(&self) -> Option<Denial> {
        let view = self.shared.view.load();
        let at = self.shared.clock.now();
        let reason = match self.standing_under(&view) {
            Err(reason) => reason,
            Ok(_) if self.ends_in(&view, at).is_zero() => {
                DenyReason::CredentialEnded { ended: self.facts.claims.ends }
            }
            Ok(_) => return None,
        };
        Some(Denial { reason, at, index: view.index })
    }

    /// How long the credential lives on, as far as cluster time is known.
    fn ends_in(&self, view: &EnforceView, now: BootNanos) -> Duration {
        if view.fresh_from.is_none() {
            return Duration::MAX;
        }
        let ends = self.facts.ends_nanos.saturating_sub(view.cluster_ahead);
        Duration::from_nanos(u64::try_from(ends).unwrap_or(0).saturating_sub(now.0))
    }

    /// Looks whether something stops the session now, and wakes those who wait for it if so.
    pub(super) fn wake_if_denied(&self) {
        if self.standing_denial().is_some() {
            self.halt.notify_waiters();
        }
    }
}

impl<C: Clock> Session<C> {
    /// Decides about an action, here and now. Never waits, and when warm never allocates.
    #[inline]
    pub fn decide(&self, action: &Action<'_>) -> Verdict {
        let state = &*self.0;
        let reading = state.shared.publication.load();
        let now = state.shared.clock.now();
        let from_memory = state.permitted_from_memory(&reading, now, action);
        let verdict = match from_memory {
            Some(until) if state.shared.publication.is_still(&reading) => {
                Verdict::Permit(Permit { at: now, until: BootNanos(until), index: reading.index })
            }
            _ => state.decide_slowly(action),
        };
        if let Some(log) = &state.shared.log {
            log.record(&state.facts.claims, &verdict);
        }
        verdict
    }

    /// Waits until the session is denied whatever it does: killed, revoked, its agent gone, its credential at its end. What
    /// runs on its behalf should stop then. A lease that ran out is no such thing. A session may be let go on when a kill
    /// is lifted, so this may be asked again.
    pub async fn halted(&self) -> Denial {
        let state = &*self.0;
        state.watched.get_or_init(|| state.shared.sessions.watch_over(&self.0));
        loop {
            let woken = state.halt.notified();
            tokio::pin!(woken);
            // From here on no wake-up is missed: first listen, then look.
            woken.as_mut().enable();
            if let Some(denial) = state.standing_denial() {
                return denial;
            }
            let ends_in = state.ends_in(&state.shared.view.load(), state.shared.clock.now());
            // The end may move while this sleeps, when cluster time stands still; then it is looked at again.
            let _ = tokio::time::timeout(ends_in.max(Duration::from_millis(1)), woken).await;
        }
    }

    /// What its token says.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.0.facts.claims
    }
}

impl<C: Clock> fmt::Debug for Session<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Claims { agent, instance, credential, .. } = self.claims();
        f.debug_struct("Session")
            .field("agent", agent)
            .field("instance", instance)
            .field("credential", credential)
            .finish_non_exhaustive()
    }
}
