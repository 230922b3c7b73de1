//! The segment files of an open log, oldest first, and which of them are still needed.

use std::{collections::VecDeque, path::PathBuf, sync::Arc};

use haltline_core::LogIndex;

use crate::DiskFile;

/// One segment file.
#[derive(Debug, Clone)]
pub(super) struct SegmentFile {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    /// The first and last index of its entries that no later truncation dropped.
    live: Option<(LogIndex, LogIndex)>,
}

impl SegmentFile {
    pub(super) fn new(sequence: u64, path: PathBuf, file: Arc<dyn DiskFile>) -> Self {
        Self { sequence, path, file, live: None }
    }
}

/// All segment files. The last one is written to.
#[derive(Debug, Default)]
pub(super) struct Segments(VecDeque<SegmentFile>);

impl Segments {
    pub(super) fn push(&mut self, segment: SegmentFile) {
        self.0.push_back(segment);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SegmentFile> {
        self.0.iter()
    }

    /// An entry was written to the last segment.
    pub(super) fn note_entry(&mut self, index: LogIndex) {
        if let Some(segment) = self.0.back_mut() {
            segment.live = Some((segment.live.map_or(index, |(first, _)| first), index));
        }
    }

    /// Entries from this index on were dropped.
    pub(super) fn note_truncation(&mut self, from: LogIndex) {
        for segment in &mut self.0 {
            segment.live = segment.live.filter(|(first, _)| *first < from);
            if let Some((_, last)) = &mut segment.live {
                *last = (*last).min(LogIndex(from.0 - 1));
            }
        }
    }

    /// Takes out the segments that nothing needs when everything through this index is purged. Only a beginning of the
    /// list goes, never the last one: the header of the oldest that stays says what the older ones had said.
    pub(super) fn retire(&mut self, purged: LogIndex) -> Vec<SegmentFile> {
        let mut retired = Vec::new();
        while self.0.len() > 1 {
            let is_needed =
                self.0.front().and_then(|segment| segment.live).is_some_and(|(_, last)| last > purged);
            if is_needed {
                break;
            }
            retired.extend(self.0.pop_front());
        }
        retired
    }
}
