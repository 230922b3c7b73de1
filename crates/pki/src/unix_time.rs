//! Seconds since 1970 as certificates know them, and spans of validity.
//!
//! Certificates are judged by wall clocks, the only clock that two machines who never met can share. Nothing else in
//! Haltline rests on them: authority hangs on registered keys, and a certificate only has to be current.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A day, as certificate lifetimes are counted.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the cluster's root is valid.
pub const ROOT_LIFETIME: Duration = DAY.saturating_mul(3_652);
/// How long the intermediates are valid.
pub const INTERMEDIATE_LIFETIME: Duration = DAY.saturating_mul(1_826);
/// How long a node's, edge's or person's certificate is valid. They renew themselves long before.
pub const LEAF_LIFETIME: Duration = DAY.saturating_mul(90);
/// How far a fresh certificate's start lies back, for clocks that are slow.
const BACKDATED: Duration = Duration::from_secs(5 * 60);
/// The end of the year 9999: the last second that RFC 5280 can write.
const LAST_SECOND: u64 = 253_402_300_799;

/// Seconds since 1970-01-01 UTC, by the wall clock. Shown as `2026-11-23T19:18:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// What the wall clock says now.
    #[must_use]
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// From the signed seconds of a certificate; what lies before 1970 counts as 1970.
    pub(crate) fn from_timestamp(seconds: i64) -> Self {
        Self(u64::try_from(seconds).unwrap_or(0))
    }

    /// This second and a span later; at most the end of the year 9999.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_secs()).min(LAST_SECOND))
    }

    /// This second and a span earlier; at least 1970.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.as_secs()))
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_secs(self.0.min(LAST_SECOND));
        humantime::format_rfc3339_seconds(time).fmt(f)
    }
}

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: UnixSeconds,
    /// The last second.
    pub not_after: UnixSeconds,
}

impl Validity {
    /// From five minutes ago (clocks differ) until `lifetime` from now.
    #[must_use]
    pub fn for_next(lifetime: Duration) -> Self {
        let now = UnixSeconds::now();
        Self { not_before: now.minus(BACKDATED), not_after: now.plus(lifetime) }
    }

    /// The usual validity of a node's, edge's or person's certificate: [`LEAF_LIFETIME`].
    #[must_use]
    pub fn leaf() -> Self {
        Self::for_next(LEAF_LIFETIME)
    }

    /// Whether a second lies within.
    #[must_use]
    pub fn contains(&self, at: UnixSeconds) -> bool {
        (self.not_before..=self.not_after).contains(&at)
    }

    /// Whether two thirds of the span have passed: the moment to renew, with a third left for repairs.
    #[must_use]
    pub fn is_due(&self, at: UnixSeconds) -> bool {
        let span = self.not_after.0.saturating_sub(self.not_before.0);
        at.0 >= self.not_before.0.saturating_add(span / 3 * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_read_as_dates() {
        assert_eq!(UnixSeconds(1_795_461_480).to_string(), "2026-11-23T19:18:00Z");
        assert_eq!(UnixSeconds(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn a_certificate_is_due_after_two_thirds() {
        let validity = Validity { not_before: UnixSeconds(1_000), not_after: UnixSeconds(1_300) };
        assert!(!validity.is_due(UnixSeconds(1_199)));
        assert!(validity.is_due(UnixSeconds(1_200)));
        assert!(validity.contains(UnixSeconds(1_300)) && !validity.contains(UnixSeconds(1_301)));
    }
}
