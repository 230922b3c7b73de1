//! openraft's own suite over our adapters, in memory and on a real disk.

use std::{path::Path, sync::Arc};

use haltline_storage::{Disk, LogOptions, MemoryDisk, RealDisk, SegmentedLog, SnapshotFiles};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use tempfile::TempDir;

use crate::{
    clock::SystemClock, log_store::LogStore, machine::Machine, snapshots::Snapshots, types::TypeConfig,
};

fn stores(disk: &Arc<dyn Disk>, dir: &Path) -> (LogStore, Machine) {
    let (log_dir, snapshot_dir) = (dir.join("log"), dir.join("snapshots"));
    let log = SegmentedLog::open(disk.clone(), &log_dir, LogOptions::default()).unwrap();
    let log = LogStore::open(Arc::new(log), Arc::new(SystemClock)).unwrap();
    let snapshots = Snapshots::new(Arc::new(SnapshotFiles::open(disk.clone(), &snapshot_dir).unwrap()));
    let (machine, _) = Machine::new(snapshots.load().unwrap(), snapshots);
    (log, machine)
}

struct InMemory;

impl StoreBuilder<TypeConfig, LogStore, Machine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<TypeConfig>> {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let (log, machine) = stores(&disk, Path::new("/node"));
        Ok(((), log, machine))
    }
}

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let (log, machine) = stores(&disk, dir.path());
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_adapters_pass_openrafts_suite_in_memory() {
    Suite::test_all(InMemory).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_adapters_pass_openrafts_suite_on_a_real_disk() {
    Suite::test_all(OnDisk).await.unwrap();
}
