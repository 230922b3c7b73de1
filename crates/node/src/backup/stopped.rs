//! A backup of what a stopped node has on its disk: for when a majority of the nodes is lost and nobody can take one over
//! the API.
//!
//! All of the node's log is in it, also what the node didn't know to be committed: whatever a caller was told of may be among
//! that, and commands of people were theirs in any case. What came after the node's last entry is missing.

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use haltline_consensus::{Clock as _, StoppedNode, SystemClock, read_stopped};
use haltline_core::{attest::BackupStatement, command::Signature, snapshot};
use haltline_pki::{BackupRecipient, NodeIdentity};
use haltline_storage::{DataDir, Identity, LogOptions, RealDisk, SegmentedLog, SnapshotFiles};

use super::{
    error::BackupError,
    format::StoppedSource,
    statement::SignedBackup,
    writer::{BackupAbout, BackupWriter, WrittenBackup},
};
use crate::{config::NodeConfig, error::NodeError};

/// A backup of a stopped node.
#[derive(Debug)]
pub struct StoppedBackup {
    /// The file.
    pub written: WrittenBackup,
    /// What the node knew.
    pub source: StoppedSource,
    /// The nodes that its log names.
    pub members: usize,
}

/// The state on its way into a backup. What fails is kept whole.
struct Content<'a> {
    writer: &'a mut BackupWriter,
    failed: Option<BackupError>,
}

impl Write for Content<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.writer.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                let told = io::Error::other(error.to_string());
                self.failed = Some(error);
                Err(told)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Backs up what a stopped node has on disk. Changes nothing of it but what any start would.
///
/// # Errors
/// [`haltline_storage::StorageError::DirectoryLocked`] if the node runs; whatever reading and writing fail with.
pub fn back_up_stopped(
    config: &NodeConfig,
    out: &Path,
    recipients: &[BackupRecipient],
) -> Result<StoppedBackup, BackupError> {
    let identity = NodeIdentity::load(&config.identity_dir)?;
    let stopped = read(config, &identity)?;
    let StoppedNode { state, last, term, committed, committed_stamp, members } = stopped;
    let cluster = state.cluster().ok_or(haltline_core::restore::RestoreError::NotFounded)?;
    let source = StoppedSource {
        last_index: last.0,
        term,
        committed_index: committed.0,
        committed_wall_time_ms: committed_stamp.wall_time.0,
    };
    let (stamp, chain) = (state.last_stamp(), state.chain());
    let about = BackupAbout {
        cluster: cluster.id,
        incarnation: cluster.incarnation.0,
        index: last.0,
        cluster_time_ms: stamp.cluster_time.0,
        wall_time_ms: stamp.wall_time.0,
        node: identity.id().0,
        version: env!("CARGO_PKG_VERSION").into(),
        stopped: Some(source.clone()),
    };
    let mut writer = BackupWriter::create(out, about, recipients)?;
    let mut content = Content { writer: &mut writer, failed: None };
    if let Err(source) = snapshot::encode(&state, &mut content) {
        return Err(content.failed.unwrap_or_else(|| BackupError::io("encode", out, source)));
    }
    let (body_sha256, body_bytes) = writer.content_so_far();
    let statement = BackupStatement {
        cluster_id: cluster.id,
        incarnation: cluster.incarnation,
        index: last,
        event_seq: chain.seq,
        chain_head: chain.head,
        body_sha256,
        body_bytes,
        cluster_time: stamp.cluster_time,
        wall_time: stamp.wall_time,
    };
    let signature = Signature(identity.signer().sign(&statement.to_bytes()));
    let signed = SignedBackup::new(&statement, identity.id(), &signature, identity.bundle().to_json());
    Ok(StoppedBackup { written: writer.finish(&signed)?, source, members: members.len() })
}

fn read(config: &NodeConfig, identity: &NodeIdentity) -> Result<StoppedNode, BackupError> {
    let path = &config.data_dir;
    let missing = |reason: String| BackupError::BadRestore(reason);
    let whose = Identity { cluster: identity.bundle().cluster(), node: identity.id() };
    match DataDir::inspect(&RealDisk, path).map_err(NodeError::from)? {
        Some(_) => {}
        None => return Err(missing(format!("{} holds no node's data", path.display()))),
    }
    // The lock shows that no node runs on it.
    let data = DataDir::open(Arc::new(RealDisk), path, whose, SystemClock.wall()).map_err(NodeError::from)?;
    let log =
        SegmentedLog::open(data.disk(), &data.log_dir(), LogOptions::default()).map_err(NodeError::from)?;
    let snapshots = SnapshotFiles::open(data.disk(), &data.snapshot_dir()).map_err(NodeError::from)?;
    let stopped = read_stopped(&log, Arc::new(snapshots)).map_err(NodeError::from)?;
    log.close().map_err(NodeError::from)?;
    Ok(stopped)
}
