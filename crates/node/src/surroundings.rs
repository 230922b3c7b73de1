//! What a node is given by the process that it runs in: its sockets, and who may tell it what, or is told how it is.

use std::net::{SocketAddr, TcpListener as StdListener};

use tokio_util::sync::CancellationToken;

use crate::{config::NodeConfig, error::NodeError, reload::Reloads, sd_notify::ServiceManager};

/// What surrounds a running node in its process.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Cancelled when the node should stop.
    pub shutdown: CancellationToken,
    /// Who is told how it is.
    pub manager: ServiceManager,
    /// Wishes to reload.
    pub reloads: Option<Reloads>,
}

/// The sockets of a node, bound before anything else, so that a port that is taken is the first thing one hears of.
#[derive(Debug)]
pub struct Sockets {
    /// For people and automation.
    pub api: StdListener,
    /// For the other nodes.
    pub raft: StdListener,
    /// For health and metrics.
    pub http: StdListener,
    /// For edges and relays.
    pub edge: StdListener,
    /// For edges that aren't enrolled yet.
    pub public: StdListener,
}

impl Sockets {
    /// Binds the addresses of a configuration.
    ///
    /// # Errors
    /// [`NodeError::Bind`] naming the address.
    pub fn bind(config: &NodeConfig) -> Result<Self, NodeError> {
        Ok(Self {
            api: bind(config.listen_api)?,
            raft: bind(config.listen_raft)?,
            http: bind(config.listen_http)?,
            edge: bind(config.listen_edge)?,
            public: bind(config.listen_public)?,
        })
    }
}

fn bind(address: SocketAddr) -> Result<StdListener, NodeError> {
    let refused = |source| NodeError::Bind { address, source };
    let listener = StdListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(listener)
}
