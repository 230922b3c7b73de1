//! What a stream of records makes of a log. Used to read segments back, and by the writer to know what to put in the
//! header of the next segment.

use bytes::Bytes;
use haltline_core::LogIndex;

use super::{Purged, record::Kind};

/// The log's state at some point of the stream, without the records themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Carried {
    pub(super) purged: Option<Purged>,
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    /// The first and last record held.
    pub(super) held: Option<(LogIndex, LogIndex)>,
}

impl Carried {
    /// The only index that may come next; `None` if the log may begin anywhere.
    pub(super) fn next(&self) -> Option<LogIndex> {
        let end =
            self.held.map(|(_, last)| last).or_else(|| self.purged.as_ref().map(|purged| purged.index))?;
        Some(end.next())
    }

    /// Takes one record of the stream in.
    ///
    /// # Errors
    /// The index that should have come, if an entry isn't the next one.
    pub(super) fn apply(&mut self, kind: Kind, index: LogIndex, payload: &Bytes) -> Result<(), LogIndex> {
        match kind {
            Kind::Entry => {
                if let Some(expected) = self.next()
                    && expected != index
                {
                    return Err(expected);
                }
                self.held = Some((self.held.map_or(index, |(first, _)| first), index));
            }
            Kind::Truncate => {
                self.held = self.held.filter(|(first, _)| *first < index);
                if let Some((_, last)) = &mut self.held {
                    *last = (*last).min(LogIndex(index.0 - 1));
                }
            }
            Kind::Purge => {
                self.held = self.held.filter(|(_, last)| *last > index);
                if let Some((first, _)) = &mut self.held {
                    *first = (*first).max(index.next());
                }
                self.purged = Some(Purged { index, mark: payload.clone() });
            }
            Kind::Vote => self.vote = Some(payload.clone()),
            Kind::Committed => self.committed = Some(payload.clone()),
            Kind::Close | Kind::Continued => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(steps: &[(Kind, u64)]) -> Carried {
        let mut carried = Carried::default();
        for (kind, index) in steps {
            carried.apply(*kind, LogIndex(*index), &Bytes::new()).expect("a legal stream");
        }
        carried
    }

    #[test]
    fn follows_the_log() {
        let filled = [(Kind::Entry, 3), (Kind::Entry, 4), (Kind::Entry, 5)];
        assert_eq!(after(&filled).held, Some((LogIndex(3), LogIndex(5))));
        let with = |step| after(&[&filled[..], &[step]].concat());
        assert_eq!(with((Kind::Truncate, 5)).held, Some((LogIndex(3), LogIndex(4))));
        assert_eq!(with((Kind::Truncate, 9)).held, Some((LogIndex(3), LogIndex(5))));
        assert_eq!(with((Kind::Truncate, 3)).held, None);
        assert_eq!(with((Kind::Truncate, 0)).held, None);
        assert_eq!(with((Kind::Purge, 3)).held, Some((LogIndex(4), LogIndex(5))));
        assert_eq!(with((Kind::Purge, 5)).held, None);
        assert_eq!(with((Kind::Purge, 9)).next(), Some(LogIndex(10)));
        assert_eq!(after(&[]).next(), None);
        let mut carried = with((Kind::Purge, 9));
        assert_eq!(carried.apply(Kind::Entry, LogIndex(6), &Bytes::new()), Err(LogIndex(10)));
    }
}
