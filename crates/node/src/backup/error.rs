//! Why a backup couldn't be made, read or restored.

use std::path::{Path, PathBuf};

use haltline_core::{
    attest::AttestError, limits::BACKUP_HEADER_BYTES_MAX, restore::RestoreError, snapshot::SnapshotError,
};
use haltline_pki::BackupKeyError;

use super::format::FORMAT;
use crate::error::NodeError;

/// Why a backup couldn't be made, read or restored. [`BackupError::code`] is stable.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file system refused.
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
    #[error("{} exists already and isn't overwritten; choose another name", .path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// Another kind of file.
    #[error("{} is no Haltline backup: it doesn't begin like one", .path.display())]
    NotABackup {
        /// The file.
        path: PathBuf,
    },
    /// Written by a later version.
    #[error("{} has backup format {got}; this version reads {FORMAT}", .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        got: u16,
    },
    /// Ends too early.
    #[error("{} is cut off at byte {at}: {missing} is missing; copy it anew", .path.display())]
    CutOff {
        /// The file.
        path: PathBuf,
        /// Its length.
        at: u64,
        /// What should follow.
        missing: &'static str,
    },
    /// Not what was written.
    #[error("{} is damaged at byte {at}: {what}; copy it anew, or take another backup", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong there.
        what: String,
    },
    /// A header that can't be written.
    #[error(
        "the backup's header takes {got_bytes} bytes; at most {BACKUP_HEADER_BYTES_MAX} are allowed: name fewer recipients"
    )]
    HeaderTooLarge {
        /// How large it would be.
        got_bytes: usize,
    },
    /// Keys and encryption.
    #[error(transparent)]
    Key(#[from] BackupKeyError),
    /// The content isn't a state.
    #[error("the backup opens, but its content isn't a whole state: {0}")]
    Content(#[from] SnapshotError),
    /// The content isn't what was signed.
    #[error("the content isn't what the statement in it says: {what} differs")]
    OtherContent {
        /// Which part.
        what: &'static str,
    },
    /// The statement isn't signed by whom one believes.
    #[error("the statement about the content doesn't hold: {0}")]
    Statement(#[from] AttestError),
    /// A node sent what no backup is.
    #[error("the node's answer is no backup: {0}")]
    Answer(&'static str),
    /// The backup can't become the cluster that was asked for.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// What was asked for can't be.
    #[error("can't restore: {0}")]
    BadRestore(String),
    /// Keys, directories, storage.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl BackupError {
    /// A stable code, for scripts and help pages.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "backup_io",
            Self::Exists { .. } => "backup_exists",
            Self::NotABackup { .. } => "backup_not_a_backup",
            Self::UnknownFormat { .. } => "backup_unknown_format",
            Self::CutOff { .. } => "backup_cut_off",
            Self::Damaged { .. } => "backup_damaged",
            Self::HeaderTooLarge { .. } => "backup_header_too_large",
            Self::Key(error) => error.code(),
            Self::Content(_) => "backup_content",
            Self::OtherContent { .. } => "backup_other_content",
            Self::Statement(_) => "backup_statement",
            Self::Answer(_) => "backup_answer",
            Self::Restore(_) => "restore_refused",
            Self::BadRestore(_) => "restore_bad_option",
            Self::Node(error) => error.code(),
        }
    }

    /// Whether the backup itself is at fault, and not what was asked or the machine.
    #[must_use]
    pub const fn is_broken_backup(&self) -> bool {
        matches!(
            self,
            Self::NotABackup { .. }
                | Self::CutOff { .. }
                | Self::Damaged { .. }
                | Self::Key(BackupKeyError::Unsealing)
                | Self::Content(_)
                | Self::OtherContent { .. }
                | Self::Statement(_)
        )
    }

    pub(super) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}

impl From<haltline_pki::PkiError> for BackupError {
    fn from(error: haltline_pki::PkiError) -> Self {
        Self::Node(error.into())
    }
}
