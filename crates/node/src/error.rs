//! Why a node can't start, or must stop.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use haltline_consensus::{FatalError, StartError};
use haltline_pki::PkiError;
use haltline_storage::StorageError;

use crate::config::ConfigError;

/// Why a node can't start or go on. [`NodeError::code`] is stable.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Keys and certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The founding file.
    #[error("{path} is no founding of a cluster: {reason}")]
    Founding {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The identity directory holds what this running node can't take in.
    #[error("the identity in {} can't be taken in: {reason}", .directory.display())]
    Identity {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or directory.
    #[error("can't {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something is there already.
    #[error("{} exists already and isn't overwritten; choose a new directory", .path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// A port can't be opened.
    #[error("can't listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Too few file descriptors.
    #[error(
        "the process may open {limit} files; at least {least} are needed to run, and {wanted} to serve as many connections as \
         are configured: raise LimitNOFILE of its unit, or `ulimit -Hn`"
    )]
    Descriptors {
        /// How many it may open.
        limit: u64,
        /// Without these it doesn't start.
        least: u64,
        /// What its configuration may take.
        wanted: u64,
    },
    /// The data directory.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Consensus could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Consensus failed for good. Going on would not be safe; a restart reads everything from disk again.
    #[error(transparent)]
    Fatal(FatalError),
    /// The API port ended.
    #[error("the API port ended: {0}")]
    ApiEnded(String),
    /// Reflection has no sound descriptors.
    #[error("reflection can't be set up: {0}")]
    Reflection(String),
    /// The runtime stopped while the node started.
    #[error("interrupted while starting")]
    Interrupted,
    /// What was asked of `init` can't be.
    #[error("can't create the cluster: {0}")]
    BadInit(String),
}

impl NodeError {
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }

    /// A stable code, for scripts and help pages.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Config(_) => "node_config",
            Self::Pki(error) => error.code(),
            Self::Founding { .. } => "node_founding",
            Self::Identity { .. } => "node_identity",
            Self::Io { .. } => "node_io",
            Self::Exists { .. } => "node_exists",
            Self::BadInit(_) => "node_bad_init",
            Self::Bind { .. } => "node_bind",
            Self::Descriptors { .. } => "node_descriptors",
            Self::Storage(_) => "node_storage",
            Self::Start(_) => "node_start",
            Self::Fatal(_) => "node_fatal",
            Self::ApiEnded(_) => "node_api_ended",
            Self::Reflection(_) => "node_reflection",
            Self::Interrupted => "node_interrupted",
        }
    }
}
