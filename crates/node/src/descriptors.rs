//! File descriptors: as many as the system gives, and whether they are enough for what the node is configured to serve.
//!
//! Every connection takes one, and so does every segment of the log. When there are none left, ports rest and accept later,
//! and the storage has a few of its own; but a node that can't even hold its log and its peers should not start.

use haltline_core::limits::{
    HTTP_CONNECTIONS_MAX, NODES_MAX, PUBLIC_CONNECTIONS_MAX, STORAGE_DESCRIPTORS_RESERVED,
    TLS_CONNECTIONS_MAX,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::NodeError;

/// Segments of the log, snapshots, the lock, sockets that listen, epoll and what the runtime needs.
const OWN: u64 = 256 + STORAGE_DESCRIPTORS_RESERVED as u64;
/// Three connections to each of the other nodes, and three from it.
const PEERS: u64 = 6 * NODES_MAX as u64;
/// Without so many there is no serving anybody: itself, its peers, and a few dozen who may send a kill.
pub(crate) const LEAST: u64 = OWN + PEERS + 64;

/// What a node is configured to serve takes so many.
pub(crate) fn wanted(api_connections_max: usize) -> u64 {
    let ports = [api_connections_max, TLS_CONNECTIONS_MAX, PUBLIC_CONNECTIONS_MAX, HTTP_CONNECTIONS_MAX];
    OWN + PEERS + ports.iter().map(|connections| *connections as u64).sum::<u64>()
}

/// Raises the soft limit to the hard one, and says if that isn't enough.
///
/// # Errors
/// [`NodeError::Descriptors`] if the node could not even talk to its peers.
pub(crate) fn raise(api_connections_max: usize) -> Result<(), NodeError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = match raised {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, ?current, ?maximum, "the limit of file descriptors can't be raised");
            current
        }
    };
    check(limit, wanted(api_connections_max))
}

/// Judges a limit; none is no limit.
fn check(limit: Option<u64>, wanted: u64) -> Result<(), NodeError> {
    match limit {
        Some(limit) if limit < LEAST => Err(NodeError::Descriptors { limit, least: LEAST, wanted }),
        Some(limit) if limit < wanted => {
            tracing::warn!(
                limit,
                wanted,
                "the process may open fewer files than the connections that it is configured for: raise LimitNOFILE (or \
                 `ulimit -Hn`), or set limits.connections lower; past the limit new connections wait"
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_are_refused_with_the_number_that_is_needed() {
        let wanted = wanted(1_000);
        assert!(wanted > LEAST);
        for enough in [None, Some(wanted), Some(LEAST)] {
            assert!(check(enough, wanted).is_ok(), "{enough:?}");
        }
        let error = check(Some(LEAST - 1), wanted).expect_err("too few");
        assert_eq!(error.code(), "node_descriptors");
        let message = error.to_string();
        assert!(message.contains(&LEAST.to_string()) && message.contains(&wanted.to_string()), "{message}");
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise(1).expect("a machine that runs tests has enough");
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
