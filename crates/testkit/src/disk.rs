//! A disk that forgets what wasn't synced.
//!
//! Every file has two contents: what reads show, and what would be left after a power cut. A write changes the first; a
//! sync brings it to the second. At a cut, each write since the last sync survives whole, not at all, or in pieces of a
//! sector, by seeded choice; and of the directory's creations, renames and removals since its last sync, any survive.
//! That is more than journalling file systems allow themselves, which keep metadata in order.
//!
//! A failed sync is as bad as on Linux: what it should have written may be lost, reads show it all the same, and the
//! next sync reports success.
//!
//! Directories themselves are durable at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use haltline_storage::{DirLock, Disk, DiskFile};
use parking_lot::Mutex;

use crate::rng::Rng;

/// What happened on a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Power cuts.
    pub cuts: u64,
    /// Files of which a cut left some unsynced pieces and took others.
    pub mixed_files: u64,
    /// Creations, renames and removals that a cut undid.
    pub lost_names: u64,
    /// Writes and syncs that were made to fail.
    pub failures: u64,
    /// Writes refused for lack of room.
    pub full: u64,
}

/// A fault that comes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes, in the middle of the operation. Everything fails until [`FaultDisk::restore_power`].
    PowerCut,
    /// The operation fails with an I/O error, once.
    Failure,
}

/// A disk with faults. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct FaultDisk(Arc<Mutex<State>>);

#[derive(Debug, Clone)]
struct State {
    rng: Rng,
    dirs: BTreeSet<PathBuf>,
    files: BTreeMap<u64, Inode>,
    next_file: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    locked: BTreeSet<PathBuf>,
    /// Counts cuts; what was opened before the last one is dead.
    life: u64,
    is_off: bool,
    armed: Option<(u64, Fault)>,
    capacity: Option<u64>,
    /// How long each sync takes beyond its own time.
    sync_takes: Duration,
    stats: DiskStats,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    shown: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<FileChange>,
}

#[derive(Debug, Clone)]
enum FileChange {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Clone)]
enum NameChange {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// How much of what wasn't synced survives a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survival {
    Nothing,
    Everything,
    /// The first changes, and a part of the one behind them.
    Beginning,
    /// Any pieces of any change.
    Pieces,
}

impl Survival {
    fn choose(rng: &mut Rng) -> Self {
        match rng.below(6) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::Beginning,
            _ => Self::Pieces,
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

impl FileChange {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => put(content, *offset, bytes),
            Self::Length(length) => content.resize(*length, 0),
        }
    }

    /// Applies each piece of a write that the choice keeps; true if some were kept and some weren't.
    fn apply_pieces(&self, content: &mut Vec<u8>, piece: usize, mut keeps: impl FnMut() -> bool) -> bool {
        let Self::Write(offset, bytes) = self else {
            if keeps() {
                self.apply(content);
            }
            return false;
        };
        let (mut at, end) = (*offset, offset + bytes.len());
        let (mut kept, mut lost) = (false, false);
        while at < end {
            let next = ((at / piece + 1) * piece).min(end);
            if keeps() {
                put(content, at, &bytes[at - offset..next - offset]);
                kept = true;
            } else {
                lost = true;
            }
            at = next;
        }
        kept && lost
    }
}

impl Inode {
    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// Loses unsynced changes; true if some pieces survived and some didn't.
    fn lose(&mut self, rng: &mut Rng) -> bool {
        let pending = std::mem::take(&mut self.pending);
        let survival = Survival::choose(rng);
        let piece = [512, 512, 512, 4_096, 64][rng.below(5) as usize];
        let first = rng.below(pending.len() as u64 + 1) as usize;
        let mut is_mixed = false;
        for (position, change) in pending.iter().enumerate() {
            match survival {
                Survival::Nothing => {}
                Survival::Everything => change.apply(&mut self.durable),
                Survival::Beginning if position < first => change.apply(&mut self.durable),
                Survival::Beginning if position > first => {}
                Survival::Beginning => {
                    let mut budget = rng.below(8);
                    let keeps = || {
                        let is_left = budget > 0;
                        budget = budget.saturating_sub(1);
                        is_left
                    };
                    is_mixed |= change.apply_pieces(&mut self.durable, piece, keeps);
                }
                Survival::Pieces => {
                    is_mixed |= change.apply_pieces(&mut self.durable, piece, || rng.chance(1, 2));
                }
            }
        }
        is_mixed
    }
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Create(path, _) | Self::Rename(_, path) | Self::Remove(path) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Create(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl State {
    fn check(&self, life: u64) -> io::Result<()> {
        if self.is_off || life != self.life { Err(power_is_off()) } else { Ok(()) }
    }

    /// Counts an operation that changes something; the fault, if it is time for it.
    fn due(&mut self) -> Option<Fault> {
        let (left, fault) = self.armed?;
        if left > 0 {
            self.armed = Some((left - 1, fault));
            return None;
        }
        self.armed = None;
        Some(fault)
    }

    /// The end of a change that is pending now: the fault may hit it.
    fn strike(&mut self) -> io::Result<()> {
        match self.due() {
            None => Ok(()),
            Some(Fault::PowerCut) => {
                self.cut();
                self.is_off = true;
                Err(power_is_off())
            }
            Some(Fault::Failure) => {
                self.stats.failures += 1;
                Err(io::Error::other("an injected failure"))
            }
        }
    }

    fn cut(&mut self) {
        self.stats.cuts += 1;
        self.life += 1;
        self.armed = None;
        self.locked.clear();
        let pending = std::mem::take(&mut self.pending_names);
        let survival = Survival::choose(&mut self.rng);
        let first = self.rng.below(pending.len() as u64 + 1) as usize;
        for (position, change) in pending.iter().enumerate() {
            let survives = match survival {
                Survival::Nothing => false,
                Survival::Everything => true,
                Survival::Beginning => position < first,
                Survival::Pieces => self.rng.chance(1, 2),
            };
            if survives {
                change.apply(&mut self.durable_names);
            } else {
                self.stats.lost_names += 1;
            }
        }
        self.names = self.durable_names.clone();
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
        for inode in self.files.values_mut() {
            self.stats.mixed_files += u64::from(inode.lose(&mut self.rng));
            inode.shown = inode.durable.clone();
        }
    }

    fn inode(&mut self, file: u64) -> io::Result<&mut Inode> {
        self.files.get_mut(&file).ok_or_else(power_is_off)
    }

    fn used(&self) -> u64 {
        self.files.values().map(|inode| inode.shown.len() as u64).sum()
    }

    fn change_file(&mut self, file: u64, change: FileChange) -> io::Result<()> {
        let inode = self.inode(file)?;
        let before = inode.shown.len();
        let grown = match &change {
            FileChange::Write(offset, bytes) => (offset + bytes.len()).saturating_sub(before),
            FileChange::Length(length) => length.saturating_sub(before),
        };
        if grown > 0
            && let Some(capacity) = self.capacity
            && self.used() + grown as u64 > capacity
        {
            self.stats.full += 1;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let inode = self.inode(file)?;
        change.apply(&mut inode.shown);
        inode.pending.push(change);
        self.strike()
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        change.apply(&mut self.names);
        self.pending_names.push(change);
        self.strike()
    }

    fn sync_file(&mut self, file: u64) -> io::Result<()> {
        if let Err(error) = self.strike() {
            if !self.is_off {
                // The kernel gives up on the pages and calls them clean.
                let mut rng = self.rng.fork();
                self.inode(file)?.lose(&mut rng);
            }
            return Err(error);
        }
        self.inode(file)?.sync();
        Ok(())
    }
}

impl FaultDisk {
    /// An empty disk whose faults follow from the seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: Rng::new(seed),
            dirs: BTreeSet::new(),
            files: BTreeMap::new(),
            next_file: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            locked: BTreeSet::new(),
            life: 0,
            is_off: false,
            armed: None,
            capacity: None,
            sync_takes: Duration::ZERO,
            stats: DiskStats::default(),
        })))
    }

    /// Cuts the power now: what wasn't synced may be gone, and everything fails until
    /// [`restore_power`](Self::restore_power).
    pub fn cut_power(&self) {
        let mut state = self.0.lock();
        if !state.is_off {
            state.cut();
            state.is_off = true;
        }
    }

    /// Lets a fault come in the middle of an operation, after this many others that change something.
    pub fn arm(&self, after: u64, fault: Fault) {
        self.0.lock().armed = Some((after, fault));
    }

    /// Takes back what [`arm`](Self::arm) announced.
    pub fn disarm(&self) {
        self.0.lock().armed = None;
    }

    /// Whether a power cut has come.
    pub fn is_off(&self) -> bool {
        self.0.lock().is_off
    }

    /// Ends a power cut, or lets the next process begin.
    pub fn restore_power(&self) {
        self.0.lock().is_off = false;
    }

    /// Ends every open file and lock without losing a byte, as the death of a process does. Everything fails until
    /// [`restore_power`](Self::restore_power), so that what the dead process drops does nothing.
    pub fn kill_process(&self) {
        let mut state = self.0.lock();
        state.life += 1;
        state.locked.clear();
        state.armed = None;
        state.is_off = true;
    }

    /// Leaves this much room, or any amount.
    pub fn limit_room(&self, bytes: Option<u64>) {
        let mut state = self.0.lock();
        state.capacity = bytes.map(|bytes| state.used() + bytes);
    }

    /// Fills the disk: what is free now is gone, until [`limit_room`](Self::limit_room) is called with `None`.
    pub fn fill(&self) {
        self.limit_room(Some(0));
    }

    /// Lets each sync take so much longer.
    pub fn slow_down(&self, sync_takes: Duration) {
        self.0.lock().sync_takes = sync_takes;
    }

    /// Flips a bit of a file for good.
    ///
    /// # Errors
    /// `NotFound` if there is no such byte.
    pub fn flip_bit(&self, path: &Path, byte: usize, bit: u32) -> io::Result<()> {
        let mut state = self.0.lock();
        let file = state.names.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        let inode = state.inode(file)?;
        for content in [&mut inode.shown, &mut inode.durable] {
            *content.get_mut(byte).ok_or(io::ErrorKind::NotFound)? ^= 1 << bit;
        }
        Ok(())
    }

    /// All files with their lengths.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let state = self.0.lock();
        let length = |file: &u64| state.files.get(file).map_or(0, |inode| inode.shown.len());
        state.names.iter().map(|(path, file)| (path.clone(), length(file))).collect()
    }

    /// A disk of its own with the same content, on which no process runs.
    pub fn fork(&self) -> Self {
        let copy = Self(Arc::new(Mutex::new(self.0.lock().clone())));
        copy.kill_process();
        copy.restore_power();
        copy
    }

    /// What happened so far.
    pub fn stats(&self) -> DiskStats {
        self.0.lock().stats
    }
}

#[derive(Debug)]
struct FaultFile {
    disk: FaultDisk,
    file: u64,
    life: u64,
}

#[derive(Debug)]
struct FaultLock {
    disk: FaultDisk,
    dir: PathBuf,
    life: u64,
}

impl DirLock for FaultLock {}

impl Drop for FaultLock {
    fn drop(&mut self) {
        let mut state = self.disk.0.lock();
        if state.life == self.life {
            state.locked.remove(&self.dir);
        }
    }
}

impl FaultDisk {
    fn handle(&self, state: &State, file: u64) -> Arc<dyn DiskFile> {
        Arc::new(FaultFile { disk: self.clone(), file, life: state.life })
    }
}

impl Disk for FaultDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.check(state.life)?;
        state.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.check(state.life)?;
        if !path.parent().is_some_and(|dir| state.dirs.contains(dir)) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        if state.names.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let file = state.next_file;
        state.next_file += 1;
        state.files.insert(file, Inode::default());
        state.change_name(NameChange::Create(path.to_owned(), file))?;
        Ok(self.handle(&state, file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.0.lock();
        state.check(state.life)?;
        let file = state.names.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(&state, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.check(state.life)?;
        if !state.names.contains_key(from) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.check(state.life)?;
        if !state.names.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        state.change_name(NameChange::Remove(path.to_owned()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        state.check(state.life)?;
        if !state.dirs.contains(dir) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let entries = state.names.keys().chain(&state.dirs).filter(|path| path.parent() == Some(dir));
        let mut names: Vec<_> =
            entries.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.check(state.life)?;
        state.strike()?;
        let pending = std::mem::take(&mut state.pending_names);
        let (here, elsewhere) = pending.into_iter().partition(|change| change.dir() == Some(dir));
        state.pending_names = elsewhere;
        let here: Vec<NameChange> = here;
        for change in here {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn room(&self, _: &Path) -> io::Result<Option<u64>> {
        let state = self.0.lock();
        Ok(state.capacity.map(|capacity| capacity.saturating_sub(state.used())))
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        let mut state = self.0.lock();
        state.check(state.life)?;
        if !state.locked.insert(dir.to_owned()) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        Ok(Box::new(FaultLock { disk: self.clone(), dir: dir.to_owned(), life: state.life }))
    }
}

impl DiskFile for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.0.lock();
        state.check(self.life)?;
        let content = &state.inode(self.file)?.shown;
        let rest = content.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.check(self.life)?;
        state.change_file(self.file, FileChange::Write(offset as usize, bytes.to_vec()))
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.check(self.life)?;
        let before = state.inode(self.file)?.shown.len();
        let missing = (bytes as usize).saturating_sub(before);
        state.change_file(self.file, FileChange::Write(before, vec![0; missing]))
    }

    #[expect(clippy::disallowed_methods, reason = "a slow disk holds up the thread that waits for it")]
    fn sync_data(&self) -> io::Result<()> {
        let pause = self.disk.0.lock().sync_takes;
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        let mut state = self.disk.0.lock();
        state.check(self.life)?;
        state.sync_file(self.file)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.0.lock();
        state.check(self.life)?;
        Ok(state.inode(self.file)?.shown.len() as u64)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.check(self.life)?;
        state.change_file(self.file, FileChange::Length(bytes as usize))
    }
}
