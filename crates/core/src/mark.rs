//! What an enforcer never goes back below, and what it compares statements with.
//!
//! The high-water mark moves by verified statements only, and is what an enforcer stores. Its own chain of events is
//! remembered for a while, so that a statement is compared **at its own event number**: later events may have arrived
//! since, and entries of the log without events don't move the chain at all.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{
    attest::{AttestError, Attested},
    event::ChainPosition,
    ids::{Digest, EventSeq, Incarnation, LogIndex},
    limits::CHAIN_HISTORY_MAX,
};

/// The furthest position that a verified statement covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HighWaterMark {
    /// The incarnation.
    pub incarnation: Incarnation,
    /// Index of the log.
    pub index: LogIndex,
    /// Events until there.
    pub event_seq: EventSeq,
    /// The chain's head after them.
    pub head: Digest,
}

impl Default for HighWaterMark {
    /// Nothing verified yet.
    fn default() -> Self {
        let ChainPosition { seq, head } = ChainPosition::default();
        Self { incarnation: Incarnation(0), index: LogIndex(0), event_seq: seq, head }
    }
}

impl HighWaterMark {
    /// Whether another position may follow, or be, this one. An incarnation that follows a restore begins anew.
    ///
    /// # Errors
    /// [`AttestError::WrongIncarnation`] for an earlier one, [`AttestError::BelowMark`] for an earlier index,
    /// [`AttestError::ChainMismatch`] where the two can't lie on one chain.
    pub fn admits(&self, next: &Self) -> Result<(), AttestError> {
        if next.incarnation < self.incarnation {
            return Err(AttestError::WrongIncarnation { expected: self.incarnation, got: next.incarnation });
        }
        if next.incarnation > self.incarnation {
            return Ok(());
        }
        if next.index < self.index {
            return Err(AttestError::BelowMark { mark: self.index, got: next.index });
        }
        let goes_back = next.event_seq < self.event_seq;
        let differs = next.event_seq == self.event_seq && next.head != self.head;
        let jumps = next.index == self.index && next.event_seq != self.event_seq;
        if goes_back || differs || jumps {
            return Err(AttestError::ChainMismatch { event_seq: next.event_seq });
        }
        Ok(())
    }

    /// Moves to a verified position.
    ///
    /// # Errors
    /// As [`Self::admits`]; the mark stays then.
    pub fn advance(&mut self, attested: &Attested) -> Result<(), AttestError> {
        let next = attested.position();
        self.admits(&next)?;
        *self = next;
        Ok(())
    }

    /// The place on the chain.
    #[must_use]
    pub const fn chain(&self) -> ChainPosition {
        ChainPosition { seq: self.event_seq, head: self.head }
    }
}

/// The recent positions of one chain, one for each event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHistory {
    /// Number of the oldest event that is remembered.
    oldest: EventSeq,
    /// Heads from there on, without a gap; never empty.
    heads: VecDeque<Digest>,
}

impl ChainHistory {
    /// Begins at a position: that of a snapshot.
    #[must_use]
    pub fn starting_at(position: ChainPosition) -> Self {
        Self { oldest: position.seq, heads: VecDeque::from([position.head]) }
    }

    /// Appends the position after the next event. Forgets the oldest past [`CHAIN_HISTORY_MAX`].
    ///
    /// # Errors
    /// [`AttestError::ChainMismatch`] if it isn't the next one.
    pub fn push(&mut self, position: ChainPosition) -> Result<(), AttestError> {
        if position.seq != self.newest().seq.next() {
            return Err(AttestError::ChainMismatch { event_seq: position.seq });
        }
        if self.heads.len() >= CHAIN_HISTORY_MAX {
            self.heads.pop_front();
            self.oldest = self.oldest.next();
        }
        self.heads.push_back(position.head);
        Ok(())
    }

    /// The newest position.
    #[must_use]
    pub fn newest(&self) -> ChainPosition {
        let behind = (self.heads.len() - 1) as u64;
        ChainPosition { seq: EventSeq(self.oldest.0 + behind), head: self.heads[self.heads.len() - 1] }
    }

    /// Compares a statement's place on the chain with this one, at the statement's own event number.
    ///
    /// # Errors
    /// [`AttestError::ChainAhead`] until its events are applied, [`AttestError::ChainForgotten`] too far back,
    /// [`AttestError::ChainMismatch`] on another chain.
    pub fn check(&self, position: ChainPosition) -> Result<(), AttestError> {
        let event_seq = position.seq;
        if event_seq > self.newest().seq {
            return Err(AttestError::ChainAhead { event_seq, newest: self.newest().seq });
        }
        let Some(at) = event_seq.0.checked_sub(self.oldest.0) else {
            return Err(AttestError::ChainForgotten { event_seq, oldest: self.oldest });
        };
        let held = usize::try_from(at).ok().and_then(|at| self.heads.get(at));
        if held == Some(&position.head) { Ok(()) } else { Err(AttestError::ChainMismatch { event_seq }) }
    }
}

#[cfg(test)]
#[path = "mark_test.rs"]
mod tests;
