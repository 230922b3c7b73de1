//! Backups: the whole state at one moment, encrypted and signed, as a file; and a new cluster out of one.
//!
//! ```text
//!  node ── serve ──► parts over the API ─┐
//!  stopped node ── stopped ──────────────┴─► writer ──► file ──► reader ──► restore ──► directories of new nodes
//! ```
//!
//! What must stay true:
//! - What is in a backup reaches a disk encrypted only.
//! - A file that is cut or damaged is found out without a key, and nothing of it is used.
//! - Whoever restores knows whose word it is: a node's signature, checked by keys that came another way.

mod error;
mod format;
mod reader;
mod restore;
pub(crate) mod serve;
mod statement;
mod stopped;
mod writer;

pub use error::BackupError;
pub use format::{BackupHeader, StoppedSource};
pub use reader::{Backup, CheckedFile, check_file, open_file};
pub use restore::{RestoreNode, RestoreOptions, RestoreReport, RestoredNodeReport, restore_cluster};
pub use statement::{SignedBackup, Vouched};
pub use stopped::{StoppedBackup, back_up_stopped};
pub use writer::{BackupAbout, BackupWriter, WrittenBackup};

#[cfg(test)]
mod test;
