//! What every [`SnapshotStore`] must do. [`run`] works as in [`log_conformance`](crate::log_conformance).

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use haltline_core::{
    LogIndex,
    limits::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_META_BYTES_MAX, SNAPSHOT_WRITERS_MAX},
};
use haltline_storage::{SnapshotInfo, SnapshotMeta, SnapshotStore, StorageError};

use crate::rng::Rng;

/// Opens the store of one place. The one opened before was dropped.
pub type Place = Box<dyn Fn() -> Box<dyn SnapshotStore>>;

/// A case and its name.
type Case = (&'static str, fn(&Place));

/// Runs every case, each on a new place, and returns how many there were.
pub fn run(factory: impl Fn() -> Place) -> usize {
    let cases: [Case; 8] = [
        ("begins empty", begins_empty),
        ("gives back what it got", gives_back),
        ("an empty one is one", keeps_an_empty_one),
        ("keeps the newest", keeps_the_newest),
        ("an unfinished one is none", forgets_unfinished),
        ("refuses an older one", refuses_an_older_one),
        ("bounds what it takes", bounds_what_it_takes),
        ("reads while a newer one comes", reads_while_a_newer_one_comes),
    ];
    for (name, case) in cases {
        println!("snapshot conformance: {name}");
        case(&factory());
    }
    cases.len()
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta { index: LogIndex(index), meta: Bytes::from(format!("meta {index}")) }
}

fn save(store: &dyn SnapshotStore, index: u64, pieces: &[&[u8]]) -> Result<SnapshotInfo, StorageError> {
    let mut writer = store.begin(meta(index))?;
    for piece in pieces {
        writer.write(piece)?;
    }
    writer.finish()
}

fn load(store: &dyn SnapshotStore) -> Option<(SnapshotInfo, Vec<u8>)> {
    let mut reader = store.open_newest().unwrap()?;
    let mut content = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        assert!(!chunk.is_empty() && chunk.len() <= SNAPSHOT_CHUNK_BYTES_MAX);
        content.extend_from_slice(&chunk);
    }
    assert_eq!(reader.next_chunk().unwrap(), None, "the end stays the end");
    assert_eq!(reader.info().content_bytes, content.len() as u64);
    Some((reader.info().clone(), content))
}

fn begins_empty(place: &Place) {
    for _ in 0..2 {
        let store = place();
        assert_eq!(store.newest(), None);
        assert!(store.open_newest().unwrap().is_none());
    }
}

fn gives_back(place: &Place) {
    let mut rng = Rng::new(11);
    let content: Vec<u8> = (0..700_000).map(|_| rng.bits() as u8).collect();
    let (first, rest) = content.split_at(10);
    let (second, third) = rest.split_at(400_000);
    let store = place();
    let info = save(&*store, 9, &[first, b"", second, third]).unwrap();
    assert_eq!(info.meta, meta(9));
    assert_eq!(store.newest(), Some(info.clone()));
    let check = |store: &dyn SnapshotStore| {
        assert_eq!(store.newest(), Some(info.clone()));
        assert_eq!(load(store), Some((info.clone(), content.clone())));
    };
    check(&*store);
    drop(store);
    check(&*place());
    // The digest is of the content: another node with other pieces has the same.
    let other = save(&*place(), 9, &[&content]).unwrap();
    assert_eq!(other.digest, info.digest);
}

fn keeps_an_empty_one(place: &Place) {
    let info = save(&*place(), 3, &[]).unwrap();
    assert_eq!(load(&*place()), Some((info, Vec::new())));
}

fn keeps_the_newest(place: &Place) {
    let store = place();
    for index in 1..6 {
        save(&*store, index, &[&[index as u8; 100]]).unwrap();
    }
    // The same index again replaces it.
    let info = save(&*store, 5, &[b"again"]).unwrap();
    drop(store);
    assert_eq!(load(&*place()), Some((info, b"again".to_vec())));
}

fn forgets_unfinished(place: &Place) {
    let store = place();
    let info = save(&*store, 1, &[b"whole"]).unwrap();
    let mut writer = store.begin(meta(2)).unwrap();
    writer.write(&[7; 300_000]).unwrap();
    assert_eq!(store.newest(), Some(info.clone()));
    drop(writer);
    assert_eq!(load(&*store), Some((info.clone(), b"whole".to_vec())));
    drop(store);
    assert_eq!(load(&*place()), Some((info, b"whole".to_vec())));
}

fn refuses_an_older_one(place: &Place) {
    let store = place();
    let mut slow = store.begin(meta(10)).unwrap();
    let mut slower = store.begin(meta(30)).unwrap();
    slow.write(b"slow").unwrap();
    slower.write(b"slower").unwrap();
    save(&*store, 20, &[b"quick"]).unwrap();
    let outdated = StorageError::SnapshotOutdated { newest: LogIndex(20), got: LogIndex(10) };
    assert_eq!(slow.finish(), Err(outdated));
    assert_eq!(load(&*store).unwrap().1, b"quick");
    // Begun earlier, but further: it is the newest now.
    slower.finish().unwrap();
    drop(store);
    assert_eq!(load(&*place()).unwrap().1, b"slower");
}

fn bounds_what_it_takes(place: &Place) {
    let store = place();
    let large = SnapshotMeta { index: LogIndex(1), meta: Bytes::from(vec![0; SNAPSHOT_META_BYTES_MAX + 1]) };
    assert!(matches!(store.begin(large).err(), Some(StorageError::TooLarge { .. })));
    let writers: Vec<_> = (0..SNAPSHOT_WRITERS_MAX).map(|_| store.begin(meta(1)).unwrap()).collect();
    let busy = StorageError::SnapshotsBusy { writers_max: SNAPSHOT_WRITERS_MAX };
    assert_eq!(store.begin(meta(1)).err(), Some(busy));
    drop(writers);
    save(&*store, 1, &[b"room again"]).unwrap();
}

fn reads_while_a_newer_one_comes(place: &Place) {
    let store = place();
    save(&*store, 1, &[&[1; 600_000]]).unwrap();
    let mut reader = store.open_newest().unwrap().unwrap();
    let mut content = reader.next_chunk().unwrap().unwrap().to_vec();
    save(&*store, 2, &[&[2; 600_000]]).unwrap();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        content.extend_from_slice(&chunk);
    }
    assert_eq!(content, [1; 600_000]);
    assert_eq!(load(&*store).unwrap().1, [2; 600_000]);
}
