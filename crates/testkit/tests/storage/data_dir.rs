//! A node opens its own directory only, and alone.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use haltline_core::{
    ids::{ClusterId, NodeId},
    time::WallTime,
};
use haltline_storage::{DataDir, Identity, RealDisk, StorageError};
use haltline_testkit::disk::{Fault, FaultDisk};

const NOW: WallTime = WallTime(1_795_000_000_000);

fn identity(cluster: u8, node: u64) -> Identity {
    Identity { cluster: ClusterId([cluster; 16]), node: NodeId(node) }
}

fn open_once(dir: &Path, identity: Identity) -> Result<DataDir, StorageError> {
    DataDir::open(Arc::new(RealDisk), dir, identity, NOW)
}

/// Opens a directory that this test has closed. A child that another test is just starting shares the descriptors of this
/// process until it runs its program, and so may hold the lock for a moment longer.
fn open(dir: &Path, identity: Identity) -> Result<DataDir, StorageError> {
    const TRIES: u32 = 1_000_000;
    for _ in 0..TRIES {
        match open_once(dir, identity) {
            Err(StorageError::DirectoryLocked { .. }) => std::thread::yield_now(),
            opened => return opened,
        }
    }
    open_once(dir, identity)
}

/// The error's text, with the scratch directory's name taken out.
fn shown(dir: &Path, error: &StorageError) -> String {
    error.to_string().replace(dir.to_str().unwrap(), "<dir>")
}

#[test]
fn is_made_private_and_opens_again() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("deep/node-1");
    assert_eq!(DataDir::inspect(&RealDisk, &dir), Ok(None));
    let opened = open(&dir, identity(1, 1)).unwrap();
    for path in [opened.path().to_owned(), opened.log_dir(), opened.snapshot_dir()] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700, "{}", path.display());
    }
    let identity_file = dir.join("IDENTITY");
    assert_eq!(fs::metadata(&identity_file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::read_to_string(identity_file).unwrap(),
        "{\n  \"format\": 1,\n  \"cluster\": \"01010101010101010101010101010101\",\n  \"node\": 1,\n  \
         \"created_unix_ms\": 1795000000000\n}\n"
    );
    drop(opened);
    assert_eq!(open(&dir, identity(1, 1)).unwrap().identity(), identity(1, 1));
    assert_eq!(DataDir::inspect(&RealDisk, &dir), Ok(Some(identity(1, 1))));
}

#[test]
fn refuses_a_second_process() {
    let scratch = tempfile::tempdir().unwrap();
    let held = open(scratch.path(), identity(1, 1)).unwrap();
    let error = open_once(scratch.path(), identity(1, 1)).unwrap_err();
    let pid = std::process::id();
    assert_eq!(
        shown(scratch.path(), &error),
        format!("<dir> is in use by another process (process {pid}); one directory serves one node")
    );
    drop(held);
    open(scratch.path(), identity(1, 1)).unwrap();
}

#[test]
fn refuses_other_owners() {
    let scratch = tempfile::tempdir().unwrap();
    drop(open(scratch.path(), identity(1, 1)).unwrap());
    let foreign = open(scratch.path(), identity(2, 1)).unwrap_err();
    assert_eq!(
        shown(scratch.path(), &foreign),
        "<dir> belongs to cluster 01010101010101010101010101010101, this node to cluster \
         02020202020202020202020202020202; give the node a directory of its own"
    );
    let other = open(scratch.path(), identity(1, 2)).unwrap_err();
    assert_eq!(
        shown(scratch.path(), &other),
        "<dir> belongs to node 1, this is node 2; two nodes with one history could both vote"
    );
    assert_eq!((foreign.code(), other.code()), ("storage-foreign-cluster", "storage-foreign-node"));
    open(scratch.path(), identity(1, 1)).unwrap();
}

#[test]
fn refuses_what_it_cannot_understand() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("IDENTITY");
    let refusal = |text: &str| {
        fs::write(&file, text).unwrap();
        let error = open(scratch.path(), identity(1, 1)).unwrap_err();
        shown(scratch.path(), &error)
    };
    assert_eq!(
        refusal("{\"format\": 7, \"something\": \"new\"}"),
        "<dir>/IDENTITY has format 7, this version of haltline reads up to 1; start the version that wrote it"
    );
    assert!(refusal("garbage").starts_with("<dir>/IDENTITY can't be understood: expected value at line 1"));
    assert!(refusal("").starts_with("<dir>/IDENTITY can't be understood"));
    assert!(
        refusal("{\"format\": 1, \"cluster\": \"xyz\", \"node\": 1, \"created_unix_ms\": 0}").contains("xyz")
    );
    fs::remove_file(&file).unwrap();
    fs::create_dir(scratch.path().join("log")).unwrap();
    assert_eq!(
        shown(scratch.path(), &open(scratch.path(), identity(1, 1)).unwrap_err()),
        "<dir> holds data but no IDENTITY file: restore that file, or start with an empty directory"
    );
}

#[test]
fn a_power_cut_while_it_is_made_leaves_one_that_opens() {
    let dir = Path::new("/var/lib/node");
    let mut cuts = 0;
    for seed in 0..200 {
        let disk = FaultDisk::new(seed);
        disk.arm(seed % 10, Fault::PowerCut);
        let opened = DataDir::open(Arc::new(disk.clone()), dir, identity(1, 1), NOW);
        assert_eq!(opened.is_err(), disk.is_off(), "seed {seed}");
        cuts += u64::from(disk.is_off());
        // Once it was opened, it is durable.
        let is_made = opened.is_ok();
        disk.cut_power();
        drop(opened);
        disk.restore_power();
        let found = DataDir::inspect(&disk, dir).unwrap();
        assert!(found == Some(identity(1, 1)) || (!is_made && found.is_none()), "seed {seed}: {found:?}");
        DataDir::open(Arc::new(disk), dir, identity(1, 1), NOW)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    assert!((50..200).contains(&cuts), "{cuts} cuts");
}
