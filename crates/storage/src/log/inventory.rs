//! Which files a log directory holds, by name.
//!
//! `log-<sequence>.seg` is a segment, `spare-<number>.seg` an emptied or zeroed one that waits for use, `*.tmp` one that
//! is being zeroed. Anything else is left alone.

use std::path::{Path, PathBuf};

use crate::{Disk, StorageError, error::Context as _};

/// The files of a log directory.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// Segments, by sequence.
    pub(super) segments: Vec<(u64, PathBuf)>,
    /// Spare files, by number.
    pub(super) spares: Vec<(u64, PathBuf)>,
    /// Unfinished files.
    pub(super) unfinished: Vec<PathBuf>,
}

/// The path of a segment.
pub(super) fn segment_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("log-{sequence:020}.seg"))
}

/// The path of a spare file.
pub(super) fn spare_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("spare-{number:020}.seg"))
}

/// The path of a file that will become this spare.
pub(super) fn unfinished_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("spare-{number:020}.tmp"))
}

fn number_in(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(".seg")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Reads the directory.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Inventory, StorageError> {
    let mut inventory = Inventory::default();
    for name in disk.list(dir).doing("list", dir)? {
        let path = dir.join(&name);
        if let Some(sequence) = number_in(&name, "log-") {
            inventory.segments.push((sequence, path));
        } else if let Some(number) = number_in(&name, "spare-") {
            inventory.spares.push((number, path));
        } else if name.ends_with(".tmp") {
            inventory.unfinished.push(path);
        }
    }
    inventory.segments.sort();
    inventory.spares.sort();
    Ok(inventory)
}
