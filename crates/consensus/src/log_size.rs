//! How many bytes of log lie behind which index, so that compaction can be bounded in bytes and not only in entries.
//!
//! Sampled: one point per [`LOG_SIZE_STEP_BYTES`] of log, so that the table stays small however long the log is.

use std::collections::VecDeque;

use haltline_core::{
    LogIndex,
    limits::{LOG_SIZE_POINTS_MAX, LOG_SIZE_STEP_BYTES},
};
use parking_lot::Mutex;

#[derive(Debug, Clone, Copy)]
struct Point {
    index: LogIndex,
    /// Bytes ever appended up to and including this index.
    total: u64,
}

#[derive(Debug, Default)]
struct Table {
    total: u64,
    points: VecDeque<Point>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LogSize {
    table: Mutex<Table>,
}

impl LogSize {
    /// Bytes appended since this process started, truncated ones included.
    pub(crate) fn total(&self) -> u64 {
        self.table.lock().total
    }

    pub(crate) fn appended(&self, index: LogIndex, bytes: u64) {
        let mut table = self.table.lock();
        table.total = table.total.saturating_add(bytes);
        let total = table.total;
        while table.points.back().is_some_and(|point| point.index >= index) {
            table.points.pop_back();
        }
        if table.points.back().is_none_or(|point| total - point.total >= LOG_SIZE_STEP_BYTES) {
            if table.points.len() == LOG_SIZE_POINTS_MAX {
                table.points.pop_front();
            }
            table.points.push_back(Point { index, total });
        }
    }

    pub(crate) fn purged(&self, index: LogIndex) {
        let mut table = self.table.lock();
        while table.points.front().is_some_and(|point| point.index <= index) {
            table.points.pop_front();
        }
    }

    /// The highest index such that no more than about `bytes` lie behind it; `None` if less is known to be there.
    pub(crate) fn index_before_last(&self, bytes: u64) -> Option<LogIndex> {
        let table = self.table.lock();
        let beyond = table.points.iter().rev().find(|point| table.total - point.total > bytes)?;
        Some(beyond.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_within_one_step() {
        let size = LogSize::default();
        let entry = LOG_SIZE_STEP_BYTES / 4;
        for index in 1..=100 {
            size.appended(LogIndex(index), entry);
        }
        assert_eq!(size.total(), 100 * entry);
        let cut = size.index_before_last(40 * entry).expect("more than that is there");
        assert!((55..60).contains(&cut.0), "{cut}");
        assert_eq!(size.index_before_last(1_000 * entry), None);
        size.purged(LogIndex(98));
        assert_eq!(size.index_before_last(40 * entry), None);
    }

    #[test]
    fn a_rewritten_suffix_replaces_its_points() {
        let size = LogSize::default();
        for index in [1, 2, 3, 4, 2, 3] {
            size.appended(LogIndex(index), LOG_SIZE_STEP_BYTES);
        }
        let points = size.table.lock().points.iter().map(|point| point.index.0).collect::<Vec<_>>();
        assert_eq!(points, [1, 2, 3]);
    }
}
