//! A Raft log that is obviously right because it does nothing but what it says, and random work for it and for the
//! real one.
//!
//! Work is a list of [`Action`]s, each one call; an action is one or more [`Step`]s, each atomic. After a crash the real
//! log must be what some number of steps make of the model, and no fewer than were acknowledged
//! ([`steps_survived`]): that one comparison says that nothing acknowledged is lost, that votes and appends kept their
//! order, and that nothing appears that wasn't written.

use std::collections::BTreeMap;

use bytes::Bytes;
use haltline_core::LogIndex;
use haltline_storage::{Purged, RaftLog, Record, StorageError};

use crate::rng::Rng;

/// One call that changes a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `append`.
    Append(Vec<Record>),
    /// `truncate_after`.
    Truncate(Option<LogIndex>),
    /// `purge_through`.
    Purge(Purged),
    /// `save_vote`.
    Vote(Bytes),
    /// `save_committed`, no step of the stream: any mark given may be found later, or the one found before.
    Committed(LogIndex),
}

/// One atomic change of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// One record more.
    Append(Record),
    /// The records behind this index go.
    Truncate(Option<LogIndex>),
    /// The records through this index go.
    Purge(Purged),
    /// Another vote.
    Vote(Bytes),
}

impl Action {
    /// The atomic steps of this call, in order.
    pub fn steps(&self) -> Vec<Step> {
        match self {
            Self::Append(records) => records.iter().cloned().map(Step::Append).collect(),
            Self::Truncate(index) => vec![Step::Truncate(*index)],
            Self::Purge(purged) => vec![Step::Purge(purged.clone())],
            Self::Vote(vote) => vec![Step::Vote(vote.clone())],
            Self::Committed(_) => Vec::new(),
        }
    }
}

/// The obvious log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogModel {
    /// How far it was purged.
    pub purged: Option<Purged>,
    /// The vote.
    pub vote: Option<Bytes>,
    /// The records held.
    pub records: BTreeMap<LogIndex, Bytes>,
}

impl LogModel {
    /// Takes a step.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Append(entry) => {
                self.records.insert(entry.index, entry.payload.clone());
            }
            Step::Truncate(None) => self.records.clear(),
            Step::Truncate(Some(index)) => self.records.retain(|held, _| held <= index),
            Step::Purge(purged) => {
                if self.purged.as_ref().is_none_or(|before| before.index < purged.index) {
                    self.records.retain(|held, _| *held > purged.index);
                    self.purged = Some(purged.clone());
                }
            }
            Step::Vote(vote) => self.vote = Some(vote.clone()),
        }
    }

    /// Where the log ends.
    pub fn last(&self) -> Option<LogIndex> {
        self.records.keys().last().copied().or_else(|| self.purged.as_ref().map(|purged| purged.index))
    }

    /// Reads a real log in small pieces, and checks that what it says about itself agrees with what it holds.
    ///
    /// # Errors
    /// The log's error.
    ///
    /// # Panics
    /// If the log contradicts itself.
    pub fn read_back(log: &dyn RaftLog) -> Result<Self, StorageError> {
        let bounds = log.bounds();
        let mut records = BTreeMap::new();
        let mut from = LogIndex(0);
        loop {
            let piece = log.read(from..LogIndex(u64::MAX), 4_000)?;
            let Some(last) = piece.last() else { break };
            from = last.index.next();
            for entry in piece {
                let before = records.last_key_value().map(|(index, _): (&LogIndex, _)| index.next());
                assert!(before.is_none_or(|next| next == entry.index), "a hole before {}", entry.index);
                records.insert(entry.index, entry.payload);
            }
        }
        assert_eq!(bounds.last, records.keys().last().copied(), "`bounds` and `read` agree about the end");
        if let (Some(purged), Some(first)) = (&bounds.purged, records.keys().next()) {
            assert_eq!(purged.index.next(), *first, "nothing is missing behind the purge");
        }
        Ok(Self { purged: bounds.purged, vote: log.vote(), records })
    }
}

/// How many of the steps, taken from `before` on, lead to what was found; at least as many as were acknowledged.
pub fn steps_survived(
    before: &LogModel,
    steps: &[Step],
    acknowledged: usize,
    found: &LogModel,
) -> Result<usize, String> {
    let mut model = before.clone();
    let mut lost_at = None;
    for taken in 0..=steps.len() {
        if let Some(step) = taken.checked_sub(1).and_then(|last| steps.get(last)) {
            model.apply(step);
        }
        if model == *found {
            if taken >= acknowledged {
                return Ok(taken);
            }
            lost_at = Some(taken);
        }
    }
    Err(match lost_at {
        Some(taken) => format!("{acknowledged} steps were acknowledged, {taken} are left"),
        None => format!(
            "no number of the {} steps leads to what was found: {}\nbefore: {}\nall steps: {}",
            steps.len(),
            shown(found),
            shown(before),
            shown(&model)
        ),
    })
}

fn shown(model: &LogModel) -> String {
    let range = (model.records.keys().next(), model.records.keys().last());
    let purged = model.purged.as_ref().map(|purged| purged.index);
    format!("purged {purged:?}, held {range:?}, vote {:?}", model.vote)
}

/// Random work. What it makes follows from the seed and from the actions it made since.
#[derive(Debug, Clone)]
pub struct Workload {
    rng: Rng,
    /// The log after all actions made so far.
    model: LogModel,
    /// Nothing at or below this is truncated, as in Raft.
    committed: Option<LogIndex>,
    next_term: u64,
    payload_bytes_max: u64,
}

impl Workload {
    /// Work that goes on from this state.
    pub fn new(rng: Rng, model: LogModel, committed: Option<LogIndex>, payload_bytes_max: u64) -> Self {
        Self { rng, model, committed, next_term: 1, payload_bytes_max }
    }

    /// The log after all actions made so far.
    pub fn model(&self) -> &LogModel {
        &self.model
    }

    /// The next action.
    pub fn next_action(&mut self) -> Action {
        let action = match self.rng.below(20) {
            0..11 => self.append(),
            11..13 => self.truncate(),
            13..15 => self.purge(),
            15..18 => self.vote(),
            _ => self.committed(),
        };
        for step in action.steps() {
            self.model.apply(&step);
        }
        action
    }

    fn append(&mut self) -> Action {
        let mut index = self.model.last().map_or(LogIndex(self.rng.below(2)), LogIndex::next);
        let mut records = Vec::new();
        for _ in 0..self.rng.between(1, 4) {
            records.push(Record { index, payload: self.payload(index) });
            index = index.next();
        }
        Action::Append(records)
    }

    /// Bytes that no other append of the same index has: a phantom of an earlier one would show.
    fn payload(&mut self, index: LogIndex) -> Bytes {
        let length = match self.rng.below(6) {
            0 => self.rng.below(self.payload_bytes_max + 1),
            // With its index and a record's header one sector: a cut can take any of them and leave the others.
            1 | 2 => 512 - 32 - 8,
            _ => self.rng.below(200),
        };
        let tag = self.rng.bits().to_le_bytes();
        let mut bytes = index.0.to_le_bytes().to_vec();
        bytes.extend(tag.iter().cycle().take(length as usize));
        Bytes::from(bytes)
    }

    fn truncate(&mut self) -> Action {
        let Some(last) = self.model.records.keys().last().copied() else { return self.append() };
        let purged = self.model.purged.as_ref().map(|purged| purged.index);
        let Some(floor) = self.committed.max(purged) else {
            // Nothing is committed: everything may go.
            let keep = self.rng.below(last.0 + 2);
            return Action::Truncate(keep.checked_sub(1).map(LogIndex));
        };
        let low = floor.0.max(last.0.saturating_sub(6));
        Action::Truncate(Some(LogIndex(self.rng.between(low, last.0.max(low)))))
    }

    fn purge(&mut self) -> Action {
        let Some(last) = self.model.last() else { return self.append() };
        let first = self.model.records.keys().next().copied().unwrap_or(last);
        let index = match self.rng.below(6) {
            // A snapshot from a leader that is ahead.
            0 => LogIndex(last.0 + self.rng.between(1, 5)),
            1 => last,
            _ => LogIndex(self.rng.between(first.0.min(last.0), last.0)),
        };
        self.committed = self.committed.max(Some(index));
        Action::Purge(Purged { index, mark: Bytes::from(format!("mark {index}")) })
    }

    fn vote(&mut self) -> Action {
        self.next_term += 1;
        let who = self.rng.bits();
        Action::Vote(Bytes::from(format!("term {} for {who:x}", self.next_term)))
    }

    fn committed(&mut self) -> Action {
        let Some(last) = self.model.last() else { return self.append() };
        let first = self.model.records.keys().next().copied().unwrap_or(last);
        let low = self.committed.unwrap_or(first).0.min(last.0);
        let index = LogIndex(self.rng.between(low, last.0));
        self.committed = self.committed.max(Some(index));
        Action::Committed(index)
    }
}

/// A committed mark as bytes.
pub fn encode_committed(index: LogIndex) -> Bytes {
    Bytes::copy_from_slice(&index.0.to_le_bytes())
}

/// A committed mark from bytes.
pub fn decode_committed(mark: &[u8]) -> Option<LogIndex> {
    Some(LogIndex(u64::from_le_bytes(mark.try_into().ok()?)))
}
