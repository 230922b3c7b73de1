//! Where each held record lies: one entry for every index from the first held to the last, without holes.

use std::collections::VecDeque;

use haltline_core::LogIndex;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Ordered but not written yet; the ticket names the append, because an index can be truncated and given again.
    Pending(u64),
    /// In this segment, at this offset, with this much payload.
    Written {
        /// The segment's sequence.
        segment: u64,
        /// The offset of its header in the file.
        offset: u32,
        /// Bytes of payload.
        length: u32,
    },
    /// In a segment that isn't there any more. Legal only while a replay is going on: a later truncation or purge must
    /// cover it.
    Missing,
}

/// The places of all held records.
#[derive(Debug, Default)]
pub(super) struct Positions {
    first: LogIndex,
    places: VecDeque<Place>,
}

impl Positions {
    /// How many records are held.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The first and the last index held.
    pub(super) fn held(&self) -> Option<(LogIndex, LogIndex)> {
        let above = (self.places.len() as u64).checked_sub(1)?;
        Some((self.first, LogIndex(self.first.0 + above)))
    }

    /// Adds the record behind the last; the caller has checked that the index is the next one.
    pub(super) fn push(&mut self, index: LogIndex, place: Place) {
        if self.places.is_empty() {
            self.first = index;
        }
        debug_assert_eq!(index.0, self.first.0 + self.places.len() as u64, "no holes");
        self.places.push_back(place);
    }

    /// The place of a held record.
    pub(super) fn get(&self, index: LogIndex) -> Option<Place> {
        let above = index.0.checked_sub(self.first.0)?;
        self.places.get(usize::try_from(above).ok()?).copied()
    }

    /// Notes where a pending record was written, if this very record is still held.
    pub(super) fn settle(&mut self, ticket: u64, index: LogIndex, place: Place) {
        let Some(above) = index.0.checked_sub(self.first.0) else { return };
        if let Some(held) = usize::try_from(above).ok().and_then(|above| self.places.get_mut(above))
            && *held == Place::Pending(ticket)
        {
            *held = place;
        }
    }

    /// Drops the records from this index on.
    pub(super) fn truncate_from(&mut self, from: LogIndex) {
        let kept = from.0.saturating_sub(self.first.0);
        self.places.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
    }

    /// Drops the records through this index.
    pub(super) fn purge_through(&mut self, index: LogIndex) {
        let Some((first, last)) = self.held() else { return };
        if index >= last {
            self.places.clear();
        } else if index >= first {
            self.places.drain(..=(index.0 - first.0) as usize);
            self.first = index.next();
        }
    }

    /// The first record that is in no segment.
    pub(super) fn missing(&self) -> Option<LogIndex> {
        // They lie in front: whatever a replay adds comes behind.
        let (first, _) = self.held()?;
        (self.places.front() == Some(&Place::Missing)).then_some(first)
    }
}
