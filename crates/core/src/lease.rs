//! The freshness lease: how long an edge may permit on what it knows, and how long others must wait to be sure that it
//! no longer does (design 02, Freshness lease).
//!
//! A lease counts from when the edge **sent** the probe that a Fresh answers, on its own clock. So it ends, in real time,
//! before `T + L(1+ρ)` for every kill committed at T that the Fresh doesn't know of; whoever waits that out on a clock of
//! its own waits `L(1+ρ)²`. Nothing here is stored: a lease dies with its process, and so do the probes that would renew
//! it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{LogIndex, Nonce},
    limits::{MAX_CLOCK_DRIFT_PPM, MAX_CLOCK_DRIFT_PPM_CEILING, PROBES_OUTSTANDING_MAX},
    time::Millis,
};

/// A duration in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nanos(pub u64);

impl From<Millis> for Nanos {
    fn from(millis: Millis) -> Self {
        Self(millis.0.saturating_mul(1_000_000))
    }
}

impl Nanos {
    /// In milliseconds, rounded up: a wait that is reported is never shorter than the wait that was.
    #[must_use]
    pub const fn to_millis_up(self) -> Millis {
        Millis(self.0.div_ceil(1_000_000))
    }
}

/// A reading of this machine's CLOCK_BOOTTIME in nanoseconds: monotonic, counts suspend, meaningless elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootNanos(pub u64);

impl BootNanos {
    /// This reading and a duration later; saturates.
    #[must_use]
    pub const fn plus(self, duration: Nanos) -> Self {
        Self(self.0.saturating_add(duration.0))
    }

    /// How long after `earlier` this is; zero if it isn't.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

/// ρ, by how much the rate of any clock may be off: between 1/(1+ρ) and 1+ρ of real time (design 02, Terms).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Drift(u32);

/// A drift that no clock of a working machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a clock drift of {got} ppm; at most {MAX_CLOCK_DRIFT_PPM_CEILING} ppm are allowed")]
pub struct DriftError {
    /// What came, in parts per million.
    pub got: u32,
}

impl Default for Drift {
    fn default() -> Self {
        Self(MAX_CLOCK_DRIFT_PPM)
    }
}

impl Drift {
    /// The largest that can be configured: for whoever must be right whatever is.
    pub const MAX: Self = Self(MAX_CLOCK_DRIFT_PPM_CEILING);

    /// A drift in parts per million.
    ///
    /// # Errors
    /// [`DriftError`] above [`MAX_CLOCK_DRIFT_PPM_CEILING`].
    pub const fn from_ppm(ppm: u32) -> Result<Self, DriftError> {
        if ppm > MAX_CLOCK_DRIFT_PPM_CEILING { Err(DriftError { got: ppm }) } else { Ok(Self(ppm)) }
    }

    /// In parts per million.
    #[must_use]
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// `duration · (1+ρ)^power`, rounded up at the end and saturating.
    fn stretch(self, duration: u64, power: u32) -> u64 {
        const UNIT: u128 = 1_000_000;
        let rate = (UNIT + u128::from(self.0)).pow(power);
        u64::try_from((u128::from(duration) * rate).div_ceil(UNIT.pow(power))).unwrap_or(u64::MAX)
    }
}

/// `L(1+ρ)` rounded up: real time from a kill's commit after which no edge permits under a view without it.
#[must_use]
pub fn bound(max_staleness: Millis, drift: Drift) -> Millis {
    Millis(drift.stretch(max_staleness.0, 1))
}

/// `L(1+ρ)²` rounded up: what whoever waits that bound out on a clock of its own waits.
#[must_use]
pub fn fence(max_staleness: Millis, drift: Drift) -> Millis {
    Millis(drift.stretch(max_staleness.0, 2))
}

/// `L(1+ρ)²` in nanoseconds, rounded up.
#[must_use]
pub fn fence_nanos(max_staleness: Millis, drift: Drift) -> Nanos {
    Nanos(drift.stretch(Nanos::from(max_staleness).0, 2))
}

/// A lease: permission counted from `fresh_from`, resting on the log up to `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// When the probe was sent whose answer this is.
    pub fresh_from: BootNanos,
    /// Up to where the log is surely contained in the view that the lease was given with.
    pub index: LogIndex,
}

impl Lease {
    /// When this lease ends in a scope, given `L` of the scope at the lease's own index and in the view that decides:
    /// the smaller counts, so that loosening `L` never lengthens a lease already given, and tightening acts at once.
    #[must_use]
    pub fn ends(&self, staleness_at_index: Millis, staleness_now: Millis) -> BootNanos {
        self.fresh_from.plus(staleness_at_index.min(staleness_now).into())
    }

    /// Whether an action may be permitted at a clock reading taken after this lease was read. A reading from before the
    /// probe was sent can't be true, and permits nothing.
    #[must_use]
    pub fn permits(&self, now: BootNanos, staleness_at_index: Millis, staleness_now: Millis) -> bool {
        self.fresh_from <= now && now < self.ends(staleness_at_index, staleness_now)
    }
}

/// Why a probe or its answer wasn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// A nonce that waits for its answer already.
    #[error("the nonce {nonce} is in use already; every probe needs one of its own")]
    NonceInUse {
        /// The nonce.
        nonce: Nonce,
    },
    /// An answer to nothing that this process asked lately, or a second answer.
    #[error(
        "no probe of this process waits for the nonce {nonce}: never sent, answered already, or too long ago"
    )]
    UnknownNonce {
        /// The nonce.
        nonce: Nonce,
    },
    /// An answer that is ahead of the view that was published.
    #[error("the answer speaks of index {index}, but the published view ends at {published}; publish first")]
    NotPublished {
        /// What the answer says.
        index: LogIndex,
        /// What is published.
        published: LogIndex,
    },
}

/// An edge's probes that wait for answers, and the lease that the answers gave.
///
/// Belongs to one process and can't be stored: what an earlier process asked counts for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LeaseBook {
    /// Oldest first.
    outstanding: VecDeque<(Nonce, BootNanos)>,
    lease: Option<Lease>,
}

impl LeaseBook {
    /// Notes a probe, with a clock reading from before it was sent. If too many wait already, the oldest is forgotten
    /// and returned: its answer would give the shortest lease.
    ///
    /// # Errors
    /// [`LeaseError::NonceInUse`]; don't send it then.
    pub fn sent(&mut self, nonce: Nonce, now: BootNanos) -> Result<Option<Nonce>, LeaseError> {
        if self.outstanding.iter().any(|(waiting, _)| *waiting == nonce) {
            return Err(LeaseError::NonceInUse { nonce });
        }
        let is_full = self.outstanding.len() >= PROBES_OUTSTANDING_MAX;
        let forgotten = if is_full { self.outstanding.pop_front() } else { None };
        self.outstanding.push_back((nonce, now));
        Ok(forgotten.map(|(nonce, _)| nonce))
    }

    /// When the probe with this nonce was sent, while it waits. For checking before [`Self::accept`], and for round-trip
    /// times.
    #[must_use]
    pub fn sent_at(&self, nonce: &Nonce) -> Option<BootNanos> {
        self.outstanding.iter().find(|(waiting, _)| waiting == nonce).map(|(_, at)| *at)
    }

    /// Takes a **verified** answer for the log up to `index`, once the view up to `published` is published, and returns
    /// the lease that holds from then on: the latest `fresh_from` of all answers. Uses the nonce up.
    ///
    /// # Errors
    /// [`LeaseError::UnknownNonce`]; [`LeaseError::NotPublished`], which leaves the nonce waiting.
    pub fn accept(
        &mut self,
        nonce: &Nonce,
        index: LogIndex,
        published: LogIndex,
    ) -> Result<Lease, LeaseError> {
        let position = self.outstanding.iter().position(|(waiting, _)| waiting == nonce);
        let position = position.ok_or(LeaseError::UnknownNonce { nonce: *nonce })?;
        if index > published {
            return Err(LeaseError::NotPublished { index, published });
        }
        let (_, fresh_from) =
            self.outstanding.remove(position).ok_or(LeaseError::UnknownNonce { nonce: *nonce })?;
        let given = Lease { fresh_from, index };
        let lease = match self.lease {
            // A later answer to an earlier probe takes nothing away, and its index doesn't speak for the lease.
            Some(held) if held.fresh_from >= fresh_from => held,
            _ => given,
        };
        self.lease = Some(lease);
        Ok(lease)
    }

    /// The lease, if any answer gave one.
    #[must_use]
    pub const fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// Whether an action may be permitted: see [`Lease::permits`]. Without a lease nothing is.
    #[must_use]
    pub fn permits(&self, now: BootNanos, staleness_at_index: Millis, staleness_now: Millis) -> bool {
        self.lease.is_some_and(|lease| lease.permits(now, staleness_at_index, staleness_now))
    }

    /// Probes that wait for an answer.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }
}

#[cfg(test)]
#[path = "lease_test.rs"]
mod tests;
