//! Files of the operating system.
//!
//! Positioned reads and writes, `fdatasync` for contents and `fsync` for directories (on Apple systems the standard
//! library turns both into `F_FULLFSYNC`). The lock is `flock`, which the kernel drops with the process, however it dies.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::FallocateFlags,
    io::{Errno, retry_on_intr},
};

use super::{DirLock, Disk, DiskFile, descriptors::with_reserve};

/// The name of the file that carries a directory's lock and the holder's process id.
const LOCK_FILE: &str = "LOCK";
/// How much is zeroed by one write.
const ZEROS: &[u8] = &[0; 256 * 1_024];

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

#[derive(Debug)]
struct RealLock {
    // Held for its `flock`, which ends when the file is closed.
    _file: File,
}

impl DirLock for RealLock {}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let parent =
            dir.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
        if dir.is_dir() {
            // An earlier process may have died between making it and making it durable. Where the parent can't be
            // read, it was made by somebody else, and long ago.
            return match parent.map(|parent| self.sync_dir(parent)) {
                Some(Err(error)) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
                _ => Ok(()),
            };
        }
        let Some(parent) = parent else { return Err(io::Error::from(io::ErrorKind::NotFound)) };
        self.create_dir(parent)?;
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.sync_dir(parent)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Arc::new(RealFile(with_reserve(|| options.open(path))?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(with_reserve(|| OpenOptions::new().read(true).write(true).open(path))?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in with_reserve(|| fs::read_dir(dir))? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        with_reserve(|| File::open(dir))?.sync_all()
    }

    fn room(&self, dir: &Path) -> io::Result<Option<u64>> {
        let system = rustix::fs::statvfs(dir)?;
        Ok(Some(system.f_bavail.saturating_mul(system.f_frsize)))
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        let path = dir.join(LOCK_FILE);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::from(io::ErrorKind::WouldBlock),
            TryLockError::Error(error) => error,
        })?;
        // Only to tell a second process who is there; the lock itself is the kernel's. A full disk may have no room for it.
        match file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
            Err(error) if !is_full(&error) => return Err(error),
            _ => {}
        }
        Ok(Box::new(RealLock { _file: file }))
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let mut at = self.len()?;
        while at < bytes {
            let step = (bytes - at).min(ZEROS.len() as u64);
            self.0.write_all_at(&ZEROS[..step as usize], at)?;
            at += step;
        }
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let reserved = retry_on_intr(|| rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, bytes));
        match reserved {
            // Not every file system can.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.preallocate(bytes),
            reserved => Ok(reserved?),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
}
