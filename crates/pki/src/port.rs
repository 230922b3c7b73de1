//! What a listening port knows while it runs: its current certificate, who is connected, whom it refused and why.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use haltline_core::limits::{TLS_REFUSALS_LOGGED_PER_SECOND, TLS_REFUSALS_REMEMBERED};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    certificate::LeafCertificate, connection::PeerIdentity, failure::TlsFailure, tls_config::ServerTls,
    unix_time::UnixSeconds,
};

/// Why a port closed a connection before a service saw it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedBecause {
    /// All connections that the port allows are open.
    #[error("{max} connections are open, as many as this port allows")]
    ConnectionsFull {
        /// The bound.
        max: usize,
    },
    /// All handshakes that the port allows are in progress.
    #[error("{max} handshakes are in progress, as many as this port allows")]
    HandshakesFull {
        /// The bound.
        max: usize,
    },
    /// One source opens connections faster than a public port lets it.
    #[error(
        "this source opens connections too fast: {burst} at once are allowed, and then one every {refill_ms} ms"
    )]
    SourceRate {
        /// How many it may open at once.
        burst: u32,
        /// After how many milliseconds one more.
        refill_ms: u64,
    },
    /// One source holds as many connections as a public port lets it.
    #[error("this source holds {max} connections open, as many as one may")]
    SourceConnections {
        /// The bound.
        max: u32,
    },
    /// The handshake took too long.
    #[error("the handshake took longer than {timeout_ms} ms")]
    HandshakeTimeout {
        /// The bound, in milliseconds.
        timeout_ms: u64,
    },
    /// The handshake failed.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
}

impl RefusedBecause {
    /// A stable code, for metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ConnectionsFull { .. } => "tls_connections_full",
            Self::HandshakesFull { .. } => "tls_handshakes_full",
            Self::SourceRate { .. } => "tls_source_rate",
            Self::SourceConnections { .. } => "tls_source_connections",
            Self::HandshakeTimeout { .. } => "tls_handshake_timeout",
            Self::Tls(failure) => failure.code(),
        }
    }
}

/// A connection that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedConnection {
    /// Where it came from.
    pub remote_addr: SocketAddr,
    /// When.
    pub at: UnixSeconds,
    /// Why.
    pub because: RefusedBecause,
}

/// Counts since the port opened, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// TCP connections taken.
    pub accepted: u64,
    /// Handshakes that succeeded.
    pub established: u64,
    /// Connections refused because of a bound of the port.
    pub refused_full: u64,
    /// Connections refused because of a bound on one source; on public ports.
    pub refused_source: u64,
    /// Connections refused in the handshake, timeouts included.
    pub refused_tls: u64,
    /// Connections closed later, because the certificate ended, the key was removed, or (on public ports) their time was
    /// up.
    pub closed_by_recheck: u64,
    /// Connections open now.
    pub open: u64,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    established: AtomicU64,
    refused_full: AtomicU64,
    refused_source: AtomicU64,
    refused_tls: AtomicU64,
    closed_by_recheck: AtomicU64,
}

#[derive(Debug)]
struct Open {
    /// What the client showed; nothing on a public port.
    leaf: Option<LeafCertificate>,
    remote_addr: SocketAddr,
    since: Instant,
    closing: CancellationToken,
}

/// At most so many lines a second, whatever strangers do.
#[derive(Debug)]
struct LogThrottle {
    window: Instant,
    logged: u32,
    suppressed: u64,
}

impl LogThrottle {
    /// Whether to log now; if so, how many lines were left out before.
    fn permit(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.window) >= Duration::from_secs(1) {
            (self.window, self.logged) = (now, 0);
        }
        if self.logged < TLS_REFUSALS_LOGGED_PER_SECOND {
            self.logged += 1;
            Some(std::mem::take(&mut self.suppressed))
        } else {
            self.suppressed += 1;
            None
        }
    }
}

/// The shared state of a port.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) local_addr: Option<SocketAddr>,
    /// How long a connection may live, if there is a bound.
    lifetime: Option<Duration>,
    tls: watch::Sender<ServerTls>,
    next_id: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
    refusals: Mutex<VecDeque<RefusedConnection>>,
    throttle: Mutex<LogThrottle>,
    counts: Counts,
}

/// Keeps a connection in the port's table until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenEntry {
    port: Arc<Port>,
    id: u64,
}

impl Drop for OpenEntry {
    fn drop(&mut self) {
        self.port.open.lock().remove(&self.id);
    }
}

impl Port {
    pub(crate) fn new(
        tls: ServerTls,
        local_addr: Option<SocketAddr>,
        lifetime: Option<Duration>,
    ) -> Arc<Self> {
        Arc::new(Self {
            local_addr,
            lifetime,
            tls: watch::Sender::new(tls),
            next_id: AtomicU64::new(0),
            open: Mutex::default(),
            refusals: Mutex::default(),
            throttle: Mutex::new(LogThrottle { window: Instant::now(), logged: 0, suppressed: 0 }),
            counts: Counts::default(),
        })
    }

    pub(crate) fn tls(&self) -> ServerTls {
        self.tls.borrow().clone()
    }

    pub(crate) fn rotate(&self, tls: ServerTls) {
        self.tls.send_replace(tls);
        self.recheck();
    }

    pub(crate) fn count_accepted(&self) {
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Puts a connection into the table, then asks the registry once more: a removal between the handshake and this moment
    /// would have been missed by the recheck that followed it.
    pub(crate) fn register(
        self: &Arc<Self>,
        leaf: Option<&LeafCertificate>,
        remote_addr: SocketAddr,
    ) -> Result<(OpenEntry, CancellationToken), TlsFailure> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let closing = CancellationToken::new();
        let open = Open { leaf: leaf.cloned(), remote_addr, since: Instant::now(), closing: closing.clone() };
        self.open.lock().insert(id, open);
        let entry = OpenEntry { port: self.clone(), id };
        if let Some(leaf) = leaf {
            self.tls().still_admits(leaf, UnixSeconds::now())?;
        }
        self.counts.established.fetch_add(1, Ordering::Relaxed);
        Ok((entry, closing))
    }

    /// Closes every open connection whose certificate has ended, whose key is no longer registered, or whose time is up.
    pub(crate) fn recheck(&self) {
        self.recheck_at(UnixSeconds::now());
        self.expire_at(Instant::now());
    }

    pub(crate) fn recheck_at(&self, now: UnixSeconds) {
        let tls = self.tls();
        for open in self.open.lock().values().filter(|open| !open.closing.is_cancelled()) {
            let Some(leaf) = &open.leaf else { continue };
            if let Err(failure) = tls.still_admits(leaf, now) {
                self.counts.closed_by_recheck.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(remote = %open.remote_addr, code = failure.code(), "closing a connection: {failure}");
                open.closing.cancel();
            }
        }
    }

    pub(crate) fn expire_at(&self, now: Instant) {
        let Some(lifetime) = self.lifetime else { return };
        for open in self.open.lock().values().filter(|open| !open.closing.is_cancelled()) {
            if now.saturating_duration_since(open.since) >= lifetime {
                self.counts.closed_by_recheck.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(remote = %open.remote_addr, "closing a connection: its time is up");
                open.closing.cancel();
            }
        }
    }

    /// Remembers, counts and logs a refusal.
    pub(crate) fn refuse(&self, remote_addr: SocketAddr, because: RefusedBecause) {
        let counter = match because {
            RefusedBecause::ConnectionsFull { .. } | RefusedBecause::HandshakesFull { .. } => {
                &self.counts.refused_full
            }
            RefusedBecause::SourceRate { .. } | RefusedBecause::SourceConnections { .. } => {
                &self.counts.refused_source
            }
            RefusedBecause::HandshakeTimeout { .. } | RefusedBecause::Tls(_) => &self.counts.refused_tls,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.throttle.lock().permit(Instant::now()) {
            let code = because.code();
            // Probes that connect and leave are everyday life on a network; the rest an operator wants to see.
            if matches!(because, RefusedBecause::Tls(TlsFailure::Broken { .. })) {
                tracing::debug!(remote = %remote_addr, code, left_out, "refused a connection: {because}");
            } else {
                tracing::warn!(remote = %remote_addr, code, left_out, "refused a connection: {because}");
            }
        }
        let mut refusals = self.refusals.lock();
        if refusals.len() == TLS_REFUSALS_REMEMBERED {
            refusals.pop_front();
        }
        refusals.push_back(RefusedConnection { remote_addr, at: UnixSeconds::now(), because });
    }

    pub(crate) fn refusals(&self) -> Vec<RefusedConnection> {
        self.refusals.lock().iter().cloned().collect()
    }

    pub(crate) fn peers(&self) -> Vec<PeerIdentity> {
        let open = self.open.lock();
        open.values()
            .filter_map(|open| Some(PeerIdentity::new(open.leaf.as_ref()?, open.remote_addr)))
            .collect()
    }

    pub(crate) fn counters(&self) -> PortCounters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        PortCounters {
            accepted: read(&self.counts.accepted),
            established: read(&self.counts.established),
            refused_full: read(&self.counts.refused_full),
            refused_source: read(&self.counts.refused_source),
            refused_tls: read(&self.counts.refused_tls),
            closed_by_recheck: read(&self.counts.closed_by_recheck),
            open: self.open.lock().len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_throttled_and_says_what_it_left_out() {
        let start = Instant::now();
        let mut throttle = LogThrottle { window: start, logged: 0, suppressed: 0 };
        let permitted = (0..50).filter(|_| throttle.permit(start).is_some()).count();
        assert_eq!(permitted, TLS_REFUSALS_LOGGED_PER_SECOND as usize);
        let left_out = 50 - u64::from(TLS_REFUSALS_LOGGED_PER_SECOND);
        assert_eq!(throttle.permit(start + Duration::from_secs(1)), Some(left_out));
        assert_eq!(throttle.permit(start + Duration::from_secs(1)), Some(0));
    }
}
