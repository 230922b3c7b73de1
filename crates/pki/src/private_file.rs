//! Files of an identity: written whole or not at all, private ones for the owner's eyes alone.
//!
//! A write goes to a temporary file beside the target, is synced, renamed over it, and the directory is synced: after a
//! power cut there is the old file or the new one. A private file that others could read is refused when loaded, because
//! a key that may have leaked is no key.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use haltline_core::limits::PKI_FILE_BYTES_MAX;
use zeroize::Zeroizing;

use crate::error::PkiError;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The owner alone: 0600.
    Private,
    /// Everybody: 0644. Certificates and trust bundles aren't secret.
    Public,
}

impl Access {
    const fn mode(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }
}

/// Makes a directory (and its parents) that only the owner may enter; one that is there keeps its mode.
pub(crate) fn create_directory(path: &Path) -> Result<(), PkiError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| PkiError::io("create directory", path, source))
}

/// Refuses if a file is there already.
pub(crate) fn refuse_existing(path: &Path) -> Result<(), PkiError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(PkiError::Exists { path: path.into() }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(PkiError::io("look at", path, source)),
    }
}

/// Writes a file durably and whole, replacing what was there.
pub(crate) fn write(path: &Path, content: &[u8], access: Access) -> Result<(), PkiError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = temporary_beside(path)?;
    let written = write_new(&temporary, content, access).and_then(|()| {
        fs::rename(&temporary, path).map_err(|source| PkiError::io("rename to", path, source))
    });
    if written.is_err() {
        // Best effort: the error that matters is the first one, and the file may never have come to be.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| PkiError::io("sync directory", directory, source))
}

/// Puts a file durably in the place of another one beside it.
pub(crate) fn replace(from: &Path, to: &Path) -> Result<(), PkiError> {
    fs::rename(from, to).map_err(|source| PkiError::io("rename to", to, source))?;
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| PkiError::io("sync directory", directory, source))
}

fn temporary_beside(path: &Path) -> Result<PathBuf, PkiError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(|error| PkiError::crypto("get random bytes", &error))?;
    name.push(format!(".{:016x}.new", u64::from_be_bytes(salt)));
    Ok(path.with_file_name(name))
}

fn write_new(path: &Path, content: &[u8], access: Access) -> Result<(), PkiError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(access.mode())
        .open(path)
        .map_err(|source| PkiError::io("create", path, source))?;
    // The mode at creation is cut by the umask, which could leave a certificate unreadable for others.
    file.set_permissions(Permissions::from_mode(access.mode()))
        .and_then(|()| file.write_all(content))
        .and_then(|()| file.sync_all())
        .map_err(|source| PkiError::io("write", path, source))
}

/// Reads a text file; a private one must be closed to others. The mode is that of the opened file, not of its name.
pub(crate) fn read(path: &Path, access: Access) -> Result<Zeroizing<String>, PkiError> {
    let failed = |source| PkiError::io("read", path, source);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if access == Access::Private && mode & 0o077 != 0 {
        return Err(PkiError::Exposed { path: path.into(), mode });
    }
    let max_bytes = PKI_FILE_BYTES_MAX as u64;
    if metadata.len() > max_bytes {
        return Err(PkiError::TooLarge { path: path.into(), got_bytes: metadata.len(), max_bytes });
    }
    // Reserved up front: a growing buffer would leave unwiped copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(PKI_FILE_BYTES_MAX + 1));
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > PKI_FILE_BYTES_MAX {
        return Err(PkiError::TooLarge { path: path.into(), got_bytes: bytes.len() as u64, max_bytes });
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| PkiError::malformed(path.display().to_string(), "a text file"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn files_round_trip_with_their_modes() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("a/b");
        create_directory(&directory).unwrap();
        assert_eq!(mode(&directory), 0o700);
        for (name, access, expected) in [("key", Access::Private, 0o600), ("crt", Access::Public, 0o644)] {
            let path = directory.join(name);
            write(&path, b"first", access).unwrap();
            write(&path, b"second", access).unwrap();
            assert_eq!(read(&path, access).unwrap().as_str(), "second");
            assert_eq!(mode(&path), expected);
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn private_files_open_to_others_are_refused_with_the_remedy() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("tls.key");
        write(&path, b"secret", Access::Private).unwrap();
        for open in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
            let error = read(&path, Access::Private).unwrap_err();
            assert!(matches!(error, PkiError::Exposed { mode, .. } if mode == open), "{error}");
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(read(&path, Access::Private).is_ok());
    }

    #[test]
    fn oversize_missing_and_binary_files_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        assert!(matches!(read(&path, Access::Public), Err(PkiError::Io { .. })));
        write(&path, &vec![b'a'; PKI_FILE_BYTES_MAX + 1], Access::Public).unwrap();
        assert!(matches!(read(&path, Access::Public), Err(PkiError::TooLarge { .. })));
        write(&path, &[0xff, 0xfe], Access::Public).unwrap();
        assert!(matches!(read(&path, Access::Public), Err(PkiError::Malformed { .. })));
        assert!(matches!(refuse_existing(&path), Err(PkiError::Exists { .. })));
    }
}
