//! Options of TCP sockets: no delay, and probes that notice a peer that is gone without a word.

use std::{io, time::Duration};

use haltline_core::{
    limits::{TCP_KEEPALIVE_IDLE, TCP_KEEPALIVE_INTERVAL, TCP_KEEPALIVE_PROBES},
    time::Millis,
};
use rustix::net::sockopt;
use tokio::net::TcpStream;

/// Sets the options of a fresh connection.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, duration(TCP_KEEPALIVE_IDLE))?;
    sockopt::set_tcp_keepintvl(stream, duration(TCP_KEEPALIVE_INTERVAL))?;
    sockopt::set_tcp_keepcnt(stream, TCP_KEEPALIVE_PROBES)?;
    Ok(())
}

/// A limit as the standard library's duration.
pub(crate) const fn duration(millis: Millis) -> Duration {
    Duration::from_millis(millis.0)
}
