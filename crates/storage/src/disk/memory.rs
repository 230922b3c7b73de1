//! Files in memory: for simulations and tests that need no faults, and gone with the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};

use super::{DirLock, Disk, DiskFile};

/// A disk in memory. Clones share the same files.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Tree>>);

#[derive(Debug, Default)]
struct Tree {
    dirs: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Arc<MemoryFile>>,
    locked: BTreeSet<PathBuf>,
}

#[derive(Debug, Default)]
struct MemoryFile(RwLock<Vec<u8>>);

#[derive(Debug)]
struct MemoryLock {
    disk: MemoryDisk,
    dir: PathBuf,
}

impl DirLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.disk.0.lock().locked.remove(&self.dir);
    }
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk for MemoryDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut tree = self.0.lock();
        tree.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut tree = self.0.lock();
        let Some(true) = path.parent().map(|dir| tree.dirs.contains(dir)) else { return Err(missing()) };
        if tree.files.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let file = Arc::new(MemoryFile::default());
        tree.files.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.lock().files.get(path).cloned().ok_or_else(missing)?;
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.0.lock();
        let file = tree.files.remove(from).ok_or_else(missing)?;
        tree.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().files.remove(path).map(drop).ok_or_else(missing)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let tree = self.0.lock();
        if !tree.dirs.contains(dir) {
            return Err(missing());
        }
        let entries = tree.files.keys().chain(&tree.dirs).filter(|path| path.parent() == Some(dir));
        let mut names: Vec<_> =
            entries.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.list(dir).map(drop)
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        if !self.0.lock().locked.insert(dir.to_owned()) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        Ok(Box::new(MemoryLock { disk: self.clone(), dir: dir.to_owned() }))
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.read();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut file = self.0.write();
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let mut file = self.0.write();
        let length = file.len().max(bytes as usize);
        file.resize(length, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.read().len() as u64)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.write().resize(bytes as usize, 0);
        Ok(())
    }
}
