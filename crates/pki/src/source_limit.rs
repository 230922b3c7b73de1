//! How much of a public port one source may take: a token bucket and a count of open connections for each.
//!
//! A source is an IPv4 address, or an IPv6 network of 64 bits: whoever has one address of such a network has all. The
//! table is bounded. A source that is as good as new is forgotten; when the table is full of others, further sources share
//! one allowance, so that a flood of addresses slows newcomers down and nobody who was there before.
//!
//! The bucket is kept as the moment at which it will be full again (the generic cell rate algorithm): one number, no
//! timer, nothing to refill.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use haltline_core::{
    limits::{PUBLIC_BURST_PER_SOURCE, PUBLIC_OPEN_PER_SOURCE, PUBLIC_REFILL_PER_SOURCE, PUBLIC_SOURCES_MAX},
    time::Millis,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::port::RefusedBecause;

/// What one source may take of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLimits {
    /// Connections that it may open at once.
    pub burst: u32,
    /// After how long it may open one more.
    pub refill: Millis,
    /// Connections that it may hold open.
    pub open_max: u32,
    /// Sources that are told apart.
    pub sources_max: usize,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self {
            burst: PUBLIC_BURST_PER_SOURCE,
            refill: PUBLIC_REFILL_PER_SOURCE,
            open_max: PUBLIC_OPEN_PER_SOURCE,
            sources_max: PUBLIC_SOURCES_MAX,
        }
    }
}

/// Who is counted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4([u8; 4]),
    V6Network([u8; 8]),
    /// All that found no room.
    Others,
}

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6Network([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// What a source has left. Times are milliseconds since the table was made.
#[derive(Debug, Clone, Copy, Default)]
struct Allowance {
    full_at: u64,
    open: u32,
}

impl Allowance {
    const fn is_as_new(&self, now: u64) -> bool {
        self.full_at <= now && self.open == 0
    }

    fn take(&mut self, now: u64, limits: &SourceLimits) -> Result<(), RefusedBecause> {
        if self.open >= limits.open_max {
            return Err(RefusedBecause::SourceConnections { max: limits.open_max });
        }
        let full_at = self.full_at.max(now).saturating_add(limits.refill.0);
        if full_at - now > limits.refill.0.saturating_mul(u64::from(limits.burst)) {
            return Err(RefusedBecause::SourceRate { burst: limits.burst, refill_ms: limits.refill.0 });
        }
        self.full_at = full_at;
        self.open += 1;
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<Source, Allowance>,
    swept_at: u64,
}

/// The sources of one port. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    limits: SourceLimits,
    made: Instant,
    table: Arc<Mutex<Table>>,
}

/// One open connection of a source, until it is dropped.
#[derive(Debug)]
pub(crate) struct SourceSlot {
    table: Arc<Mutex<Table>>,
    source: Source,
}

impl Drop for SourceSlot {
    fn drop(&mut self) {
        if let Some(allowance) = self.table.lock().known.get_mut(&self.source) {
            allowance.open = allowance.open.saturating_sub(1);
        }
    }
}

impl Sources {
    pub(crate) fn new(limits: SourceLimits) -> Self {
        Self { limits, made: Instant::now(), table: Arc::default() }
    }

    /// Lets a connection in, or says why not.
    pub(crate) fn admit(&self, remote: SocketAddr) -> Result<SourceSlot, RefusedBecause> {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.admit_at(remote.ip(), now)
    }

    fn admit_at(&self, address: IpAddr, now: u64) -> Result<SourceSlot, RefusedBecause> {
        let mut table = self.table.lock();
        let mut source = Source::of(address);
        if !table.known.contains_key(&source) && table.known.len() >= self.limits.sources_max {
            // At most once a refill: before that hardly anybody can have become as good as new.
            if now.saturating_sub(table.swept_at) >= self.limits.refill.0 {
                table.known.retain(|_, allowance| !allowance.is_as_new(now));
                table.swept_at = now;
            }
            if table.known.len() >= self.limits.sources_max {
                source = Source::Others;
            }
        }
        table.known.entry(source).or_default().take(now, &self.limits)?;
        Ok(SourceSlot { table: self.table.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const LIMITS: SourceLimits = SourceLimits { burst: 3, refill: Millis(100), open_max: 10, sources_max: 4 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn code(result: Result<SourceSlot, RefusedBecause>) -> &'static str {
        result.map_or_else(|refused| refused.code(), |_| "in")
    }

    #[test]
    fn a_burst_is_let_in_and_then_one_at_each_refill() {
        let sources = Sources::new(LIMITS);
        let at = |now| code(sources.admit_at(ip("192.0.2.1"), now));
        assert_eq!([at(0), at(0), at(0), at(0)], ["in", "in", "in", "tls_source_rate"]);
        assert_eq!([at(99), at(100), at(100)], ["tls_source_rate", "in", "tls_source_rate"]);
        assert_eq!([at(1_000), at(1_000), at(1_000), at(1_000)], ["in", "in", "in", "tls_source_rate"]);
        assert_eq!(code(sources.admit_at(ip("192.0.2.2"), 1_000)), "in", "another source has its own");
        assert_eq!(at(0), "tls_source_rate", "a clock that goes back gives nothing");
    }

    #[test]
    fn an_address_mapped_into_ipv6_is_itself_and_a_network_is_one() {
        let sources = Sources::new(LIMITS);
        for text in ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"] {
            assert_eq!(code(sources.admit_at(ip(text), 0)), "in");
        }
        assert_eq!(code(sources.admit_at(ip("::ffff:192.0.2.1"), 0)), "tls_source_rate");
        for text in ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:1"] {
            assert_eq!(code(sources.admit_at(ip(text), 0)), "in");
        }
        assert_eq!(code(sources.admit_at(ip("2001:db8::9"), 0)), "tls_source_rate");
        assert_eq!(code(sources.admit_at(ip("2001:db8:0:1::9"), 0)), "in");
    }

    #[test]
    fn open_connections_are_counted_until_they_end() {
        let sources = Sources::new(SourceLimits { open_max: 2, ..LIMITS });
        let at = |now| sources.admit_at(ip("192.0.2.1"), now);
        let (first, second) = (at(0).unwrap(), at(0).unwrap());
        assert_eq!(at(1_000).unwrap_err(), RefusedBecause::SourceConnections { max: 2 });
        drop(first);
        let third = at(1_000).unwrap();
        assert_eq!(at(2_000).unwrap_err().code(), "tls_source_connections");
        drop((second, third));
        assert!(at(2_000).is_ok());
    }

    #[test]
    fn a_flood_of_addresses_shares_one_allowance_and_leaves_the_others_alone() {
        let sources = Sources::new(LIMITS);
        let held = sources.admit_at(ip("192.0.2.1"), 0).unwrap();
        for last in 2..=4 {
            assert_eq!(code(sources.admit_at(ip(&format!("192.0.2.{last}")), 0)), "in");
        }
        let flood: Vec<_> =
            (10..20).map(|last| code(sources.admit_at(ip(&format!("192.0.2.{last}")), 0))).collect();
        assert_eq!(flood.iter().filter(|code| **code == "in").count(), 3);
        assert_eq!(code(sources.admit_at(ip("192.0.2.2"), 0)), "in");
        assert!(sources.table.lock().known.len() <= LIMITS.sources_max + 1);
        // Later those who are as good as new make room; who still holds a connection stays.
        assert_eq!(code(sources.admit_at(ip("192.0.2.99"), 10_000)), "in");
        let known = sources.table.lock().known.clone();
        assert!(
            known.contains_key(&Source::V4([192, 0, 2, 1]))
                && known.contains_key(&Source::V4([192, 0, 2, 99]))
        );
        assert_eq!(known.len(), 2);
        drop(held);
    }

    proptest! {
        /// Whatever the times of its attempts, a source gets no more in any span than its burst and the refills in it.
        #[test]
        fn no_span_holds_more_than_a_burst_and_its_refills(steps in proptest::collection::vec(0..300_u64, 1..80)) {
            let sources = Sources::new(SourceLimits { open_max: u32::MAX, ..LIMITS });
            let mut now = 0;
            let mut admitted = Vec::new();
            for step in steps {
                now += step;
                if let Ok(slot) = sources.admit_at(ip("192.0.2.1"), now) {
                    admitted.push((now, slot));
                }
            }
            for (from, (start, _)) in admitted.iter().enumerate() {
                for (to, (end, _)) in admitted.iter().enumerate().skip(from) {
                    let allowed = 3 + (end - start) / 100;
                    prop_assert!((to - from + 1) as u64 <= allowed);
                }
            }
        }

        #[test]
        fn the_table_stays_within_its_bound(attempts in proptest::collection::vec((any::<u8>(), 0..200_u64), 1..200)) {
            let sources = Sources::new(LIMITS);
            let mut now = 0;
            for (last, step) in attempts {
                now += step;
                let _ = sources.admit_at(IpAddr::from([192, 0, 2, last]), now);
                prop_assert!(sources.table.lock().known.len() <= LIMITS.sources_max + 1);
            }
        }
    }
}
