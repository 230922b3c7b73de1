//! What a restart finds, and what it makes of damage.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;

use haltline_core::ids::{Incarnation, LogIndex, NodeId, Nonce};
use haltline_pki::StatementSigner;
use haltline_wire::v1;

use super::*;
use crate::client::{
    fake_hub::{EDGE, FakeHub, Signer, bundle, bundle_change, kill_set, node, node_keys},
    messages::FromHub,
    trust::Trust,
};

fn probe() -> v1::Probe {
    v1::Probe { sequence: 1, nonce: Nonce([1; 32]).0.to_vec() }
}

fn mark_record(hub: &FakeHub, signer: Signer<'_>) -> MarkRecord {
    let fresh = hub.fresh_by(signer, &probe(), EDGE);
    let message = v1::hub_message::Message::Fresh(fresh);
    match FromHub::read(v1::HubMessage { message: Some(message) }).unwrap() {
        FromHub::Fresh(fresh) => MarkRecord::new(hub.cluster, hub.incarnation, fresh),
        other => panic!("{other:?}"),
    }
}

fn further(hub: &FakeHub) -> FakeHub {
    let mut further = hub.clone();
    further.commit(&[kill_set(1)]);
    further
}

struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> EdgeDir {
        EdgeDir::open(&self.directory.path().join("data")).unwrap()
    }

    fn damage(&self, file: &str) {
        let path = self.directory.path().join("data").join(file);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn an_empty_directory_remembers_nothing_and_is_for_one_enforcer() {
    let home = Home::new();
    let dir = home.open();
    let remembered = dir.load(&bundle()).unwrap();
    assert_eq!((remembered.mark, remembered.snapshot), (None, None));
    assert!(remembered.ignored.is_empty());
    let error = EdgeDir::open(&home.directory.path().join("data")).unwrap_err();
    assert_eq!(error.code(), "DATA_IN_USE");
    drop(dir);
    home.open();
}

#[test]
fn mark_and_snapshot_come_back_and_the_later_is_the_mark() {
    let (home, hub) = (Home::new(), FakeHub::founded(1));
    let dir = home.open();
    let later = further(&hub);
    dir.save_mark(&mark_record(&later, node(1))).unwrap();
    dir.save_snapshot(&hub.snapshot()).unwrap();
    let remembered = dir.load(&bundle()).unwrap();
    assert_eq!(remembered.mark.unwrap().index, LogIndex(2));
    assert_eq!(remembered.snapshot.unwrap(), hub.snapshot());
    dir.save_snapshot(&further(&later).snapshot()).unwrap();
    assert_eq!(dir.load(&bundle()).unwrap().mark.unwrap().index, LogIndex(3));
}

#[test]
fn a_damaged_snapshot_is_left_aside_and_named() {
    let (home, hub) = (Home::new(), FakeHub::founded(1));
    let dir = home.open();
    dir.save_mark(&mark_record(&hub, node(1))).unwrap();
    dir.save_snapshot(&hub.snapshot()).unwrap();
    home.damage("snapshot");
    let remembered = dir.load(&bundle()).unwrap();
    assert_eq!(remembered.snapshot, None);
    assert_eq!(remembered.mark.unwrap().index, LogIndex(1), "the mark stays");
    assert!(remembered.ignored[0].to_string().contains("snapshot is damaged"), "{}", remembered.ignored[0]);
}

#[test]
fn a_damaged_mark_gives_way_to_the_snapshot_and_without_one_stops() {
    let (home, hub) = (Home::new(), FakeHub::founded(1));
    let dir = home.open();
    dir.save_mark(&mark_record(&further(&hub), node(1))).unwrap();
    home.damage("mark");
    let error = dir.load(&bundle()).unwrap_err();
    assert_eq!(error.code(), "MARK_LOST");
    assert!(error.to_string().contains("data/mark is damaged"), "{error}");
    dir.save_snapshot(&hub.snapshot()).unwrap();
    let remembered = dir.load(&bundle()).unwrap();
    assert_eq!(remembered.mark.unwrap().index, LogIndex(1));
    assert_eq!(remembered.ignored[0].code(), "DATA_DAMAGED");
}

#[test]
fn what_no_believed_key_signed_is_not_believed() {
    let (home, hub) = (Home::new(), FakeHub::founded(1));
    let dir = home.open();
    let forger = StatementSigner::generate().unwrap();
    let forged = Signer { node: NodeId(1), key: &forger };
    dir.save_snapshot(&hub.snapshot_by(forged)).unwrap();
    let remembered = dir.load(&bundle()).unwrap();
    assert_eq!((remembered.mark, remembered.snapshot), (None, None));
    assert_eq!(remembered.ignored[0].code(), "DATA_NOT_BELIEVED");
    dir.save_mark(&mark_record(&hub, forged)).unwrap();
    let error = dir.load(&bundle()).unwrap_err();
    assert!(
        matches!(&error, PersistError::MarkLost { why, .. } if why.code() == "DATA_NOT_BELIEVED"),
        "{error}"
    );
}

#[test]
fn another_clusters_directory_is_refused() {
    let (home, mut hub) = (Home::new(), FakeHub::founded(1));
    let dir = home.open();
    hub.cluster = ClusterId([9; 16]);
    dir.save_mark(&mark_record(&hub, node(1))).unwrap();
    assert_eq!(dir.load(&bundle()).unwrap_err().code(), "DATA_OF_OTHER_CLUSTER");
}

#[test]
fn keys_that_were_believed_come_back_and_the_statement_that_covered_them_still_counts() {
    let (home, hub) = (Home::new(), FakeHub::founded(1));
    let dir = home.open();
    let signer = StatementSigner::generate().unwrap();
    let keys = vec![node_keys()[0], node_keys()[1], (NodeId(3), signer.public_key())];
    let change = bundle_change(1, 2, keys, &[node(1), node(2)]);
    let mut trust = Trust::enrolled(&bundle());
    trust.propose(Incarnation(1), hub.position().seq, &change).unwrap();
    assert!(trust.covered(hub.position().seq));
    dir.save_trust(&trust).unwrap();
    // Signed by the key that the change removed.
    dir.save_mark(&mark_record(&hub, node(3))).unwrap();
    let remembered = dir.load(&bundle()).unwrap();
    assert_eq!(remembered.trust.key(NodeId(3)), Some(signer.public_key()));
    assert_eq!(remembered.mark.unwrap().index, hub.index);
    // A snapshot by that key isn't believed any more.
    dir.save_snapshot(&hub.snapshot_by(node(3))).unwrap();
    let remembered = dir.load(&bundle()).unwrap();
    assert_eq!(remembered.snapshot, None);

    home.damage("trust");
    assert_eq!(dir.load(&bundle()).unwrap_err().code(), "TRUST_LOST");
}
