//! Files that an enforcer keeps: written whole or not at all, sealed with a checksum, and read with a bound.
//!
//! ```text
//! "haltline-edge/1\n"  kind (1 byte)  payload length (8 bytes, big-endian)  payload  SHA-256 of all before (32 bytes)
//! ```
//! The checksum finds damage, not malice: whatever gives a file its meaning is signed, and verified again when loaded.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::PersistError;

const MAGIC: &[u8; 16] = b"haltline-edge/1\n";
const HEADER_BYTES: usize = MAGIC.len() + 1 + 8;
const SEAL_BYTES: usize = 32;

/// What a file holds, so that one can't be taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Mark = 1,
    Snapshot = 2,
    Trust = 3,
}

/// Writes a file durably, replacing the old one in one step. The payload comes in parts, so that a large one isn't copied.
pub(crate) fn write(path: &Path, kind: Kind, payload: &[&[u8]]) -> Result<(), PersistError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| PersistError::Io { action, path, source }
    };
    // One name is enough: the directory's lock keeps others away, and a leftover of a crash is overwritten.
    let fresh = PathBuf::from(format!("{}.new", path.display()));
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.push(kind as u8);
    let length: usize = payload.iter().map(|part| part.len()).sum();
    header.extend_from_slice(&(length as u64).to_be_bytes());
    let sealing = Sha256::new().chain_update(&header);
    let seal = payload.iter().fold(sealing, |sealing, part| sealing.chain_update(part)).finalize();

    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(failed("create", &fresh))?;
    file.write_all(&header)
        .and_then(|()| payload.iter().try_for_each(|part| file.write_all(part)))
        .and_then(|()| file.write_all(&seal))
        .and_then(|()| file.sync_all())
        .map_err(failed("write", &fresh))?;
    fs::rename(&fresh, path).map_err(failed("rename to", path))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync", directory))
}

/// Reads a file; `None` if there is none.
pub(crate) fn read(path: &Path, kind: Kind, max_bytes: u64) -> Result<Option<Vec<u8>>, PersistError> {
    let failed = |source| PersistError::Io { action: "read", path: path.into(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let max = max_bytes.saturating_add((HEADER_BYTES + SEAL_BYTES) as u64);
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    let damaged = |why: String| PersistError::Damaged { path: path.into(), why };
    if bytes.len() as u64 > max {
        return Err(damaged(format!("it is longer than the {max} bytes that are read")));
    }
    unsealed(bytes, kind).map(Some).map_err(damaged)
}

fn unsealed(mut bytes: Vec<u8>, kind: Kind) -> Result<Vec<u8>, String> {
    if bytes.len() < HEADER_BYTES + SEAL_BYTES {
        return Err(format!("it ends after {} bytes", bytes.len()));
    }
    let (sealed, seal) = bytes.split_at(bytes.len() - SEAL_BYTES);
    if Sha256::digest(sealed).as_slice() != seal {
        return Err("its checksum doesn't hold".into());
    }
    let (header, payload) = sealed.split_at(HEADER_BYTES);
    let length = (payload.len() as u64).to_be_bytes();
    if !header.starts_with(MAGIC) || header[MAGIC.len()] != kind as u8 || header[MAGIC.len() + 1..] != length
    {
        return Err(format!("it is no file of this format that holds a {kind:?}"));
    }
    bytes.truncate(bytes.len() - SEAL_BYTES);
    bytes.drain(..HEADER_BYTES);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_round_trip_and_a_leftover_of_a_crash_does_no_harm() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mark");
        assert!(read(&path, Kind::Mark, 100).unwrap().is_none());
        fs::write(home.path().join("mark.new"), b"half").unwrap();
        for payload in [&b"first"[..], b"", b"second"] {
            write(&path, Kind::Mark, &[payload]).unwrap();
            assert_eq!(read(&path, Kind::Mark, 100).unwrap().as_deref(), Some(payload));
        }
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found_and_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mark");
        write(&path, Kind::Mark, &[b"pay", b"", b"load"]).unwrap();
        let good = fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let error = read(&path, Kind::Mark, 100).unwrap_err();
            assert!(matches!(&error, PersistError::Damaged { path: named, .. } if named == &path), "{error}");
        };
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            refused(&bytes);
        }
        (0..good.len()).for_each(|length| refused(&good[..length]));
        refused(&[&good[..], b"x"].concat());
    }

    #[test]
    fn another_kind_and_an_oversize_file_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        write(&path, Kind::Snapshot, &[b"payload"]).unwrap();
        assert!(matches!(read(&path, Kind::Mark, 100), Err(PersistError::Damaged { .. })));
        assert!(matches!(read(&path, Kind::Snapshot, 6), Err(PersistError::Damaged { .. })));
        assert!(read(&path, Kind::Snapshot, 7).unwrap().is_some());
    }
}
