//! How a backup lies on disk.
//!
//! ```text
//! magic `HLBACKUP` | format u16 | header length u32 | header, JSON in clear
//! part*  kind u8 (1 = content, 2 = statement, the last one) | length u32 | ciphertext
//! end    kind u8 = 3 | SHA-256 of everything before it
//! ```
//!
//! Integers are big-endian. Each part is authenticated together with the hash of all that stands before the parts, and with
//! its kind; its place is numbered by the encryption. So the header can't be exchanged, no part left out, repeated or moved,
//! and no end made up; the checksum finds damage without the key.

use haltline_core::{
    ids::{ClusterId, Incarnation, LogIndex},
    time::WallTime,
};
use haltline_pki::BackupEnvelope;
use serde::{Deserialize, Serialize};

/// The format that this version writes and reads.
pub(super) const FORMAT: u16 = 1;
pub(super) const MAGIC: [u8; 8] = *b"HLBACKUP";
/// Magic, format, and the header's length.
pub(super) const FIXED_BYTES: usize = 14;
pub(super) const CONTENT: u8 = 1;
pub(super) const STATEMENT: u8 = 2;
pub(super) const END: u8 = 3;
/// What encryption adds to a part: AES-GCM's tag.
pub(super) const TAG_BYTES: usize = 16;

/// What stands in clear at the beginning of a backup: enough to find the right file and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupHeader {
    /// The cluster.
    #[serde(with = "crate::founding::as_text")]
    pub cluster: ClusterId,
    /// Its incarnation.
    pub incarnation: u64,
    /// Up to where the log is in it.
    pub index: u64,
    /// Cluster time there.
    pub cluster_time_ms: u64,
    /// The leader's wall clock there, in milliseconds since 1970.
    pub wall_time_ms: u64,
    /// The node that made it.
    pub node: u64,
    /// The version of the software that made it.
    pub version: String,
    /// What is known of a node that was stopped, if it was read from its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<StoppedSource>,
    /// What its recipients open it with.
    pub encryption: BackupEnvelope,
}

impl BackupHeader {
    /// The incarnation.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation)
    }

    /// The index.
    #[must_use]
    pub const fn index(&self) -> LogIndex {
        LogIndex(self.index)
    }

    /// The wall time.
    #[must_use]
    pub const fn wall_time(&self) -> WallTime {
        WallTime(self.wall_time_ms)
    }
}

/// A node that was stopped, by its own disk: what it can't know to be complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoppedSource {
    /// The last entry of its log.
    pub last_index: u64,
    /// The term of that entry.
    pub term: u64,
    /// The last entry that it knew to be committed.
    pub committed_index: u64,
    /// The wall time of the last batch up to there.
    pub committed_wall_time_ms: u64,
}
