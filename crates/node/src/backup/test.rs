//! Files that come back, files that are damaged at every byte, and clusters made of them.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, net::SocketAddr, path::PathBuf};

use haltline_core::{
    attest::BackupStatement,
    command::{Batch, Signature},
    ids::{Digest, NodeId},
    restore::{KeysAfter, RestoreError},
    snapshot,
    state::State,
    time::{ClusterTime, WallTime},
};
use haltline_pki::{BackupKey, BackupKeyError, NodeIdentity, PkiError};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::{
    NodeConfig, Profile,
    founding::Founding,
    init::{InitNode, InitOptions, InitReport, create_cluster},
};

fn spec(number: u64) -> InitNode {
    let port = |offset: u64| 7_400 + 10 * number + offset;
    let address = |offset| format!("127.0.0.1:{}", port(offset));
    InitNode {
        name: format!("node-{number}"),
        api_address: address(0),
        raft_address: address(1),
        http_address: SocketAddr::from(([127, 0, 0, 1], u16::try_from(port(2)).unwrap())),
        edge_address: address(3),
        public_address: address(4),
        region: String::new(),
    }
}

/// A cluster's directories, its state after the founding entry, and a key.
struct World {
    home: tempfile::TempDir,
    made: InitReport,
    state: State,
    key: BackupKey,
}

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let made = create_cluster(&InitOptions {
            out: home.path().join("cluster"),
            nodes: (1..=3).map(spec).collect(),
            admin: "ada".parse().unwrap(),
            profile: Profile::Lan,
        })
        .unwrap();
        let founding = Founding::load(&made.nodes[0].directory.join("founding.json")).unwrap();
        let mut state = State::new();
        let genesis = Some(Box::new(founding.genesis()));
        let (cluster_time, wall_time) = (ClusterTime(5), WallTime(1_700_000_000_000));
        state.apply(
            haltline_core::LogIndex(1),
            &Batch { cluster_time, wall_time, genesis, ..Batch::default() },
        );
        Self { home, made, state, key: BackupKey::generate().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn identity(&self, node: usize) -> NodeIdentity {
        NodeIdentity::load(&self.made.nodes[node].directory.join("identity")).unwrap()
    }

    fn about(&self) -> BackupAbout {
        let (last, cluster) = (self.state.last_stamp(), self.state.cluster().unwrap());
        BackupAbout {
            cluster: cluster.id,
            incarnation: cluster.incarnation.0,
            index: last.index.0,
            cluster_time_ms: last.cluster_time.0,
            wall_time_ms: last.wall_time.0,
            node: 1,
            version: "0.1.0".into(),
            stopped: None,
        }
    }

    fn content(&self) -> Vec<u8> {
        let mut content = Vec::new();
        snapshot::encode(&self.state, &mut content).unwrap();
        content
    }

    fn signed(&self, by: &NodeIdentity) -> SignedBackup {
        let (last, cluster, chain) =
            (self.state.last_stamp(), self.state.cluster().unwrap(), self.state.chain());
        let content = self.content();
        let statement = BackupStatement {
            cluster_id: cluster.id,
            incarnation: cluster.incarnation,
            index: last.index,
            event_seq: chain.seq,
            chain_head: chain.head,
            body_sha256: Digest(Sha256::digest(&content).into()),
            body_bytes: content.len() as u64,
            cluster_time: last.cluster_time,
            wall_time: last.wall_time,
        };
        let signature = Signature(by.signer().sign(&statement.to_bytes()));
        SignedBackup::new(&statement, by.id(), &signature, by.bundle().to_json())
    }

    fn write(&self, name: &str, signed: &SignedBackup) -> Result<WrittenBackup, BackupError> {
        let mut writer = BackupWriter::create(&self.path(name), self.about(), &[self.key.recipient()])?;
        writer.write(&self.content())?;
        writer.finish(signed)
    }

    fn written(&self) -> PathBuf {
        self.write("a.backup", &self.signed(&self.identity(0))).unwrap().path
    }

    fn options(&self, nodes: Vec<RestoreNode>) -> RestoreOptions {
        RestoreOptions {
            out: self.path("restored"),
            root: Some(self.made.root_directory.clone()),
            nodes,
            endorsers: Vec::new(),
            by: "ada".parse().unwrap(),
            incarnation: None,
            profile: Profile::Lan,
        }
    }

    fn new_nodes(&self, count: u64) -> Vec<RestoreNode> {
        (1..=count).map(|id| RestoreNode { id: NodeId(id), spec: spec(id), identity: None }).collect()
    }

    fn restore(&self, options: &RestoreOptions) -> Result<RestoreReport, BackupError> {
        let path = self.path("a.backup");
        let path = if path.exists() { path } else { self.written() };
        restore_cluster(open_file(&path, &self.key, None, |_| {}).unwrap(), options)
    }
}

#[test]
fn a_backup_comes_back_whole_and_says_whose_word_it_is() {
    let world = World::new();
    let path = world.written();
    let checked = check_file(&path, |_| {}).unwrap();
    assert_eq!(checked.file_bytes, fs::metadata(&path).unwrap().len());
    assert_eq!((checked.header.index, checked.header.node), (1, 1));
    let opened = open_file(&path, &world.key, None, |_| {}).unwrap();
    assert_eq!((opened.state, opened.vouched), (world.state.clone(), Vouched::ByItsOwnBundle));
    let bundle = world.identity(1).bundle().clone();
    let opened = open_file(&path, &world.key, Some(&bundle), |_| {}).unwrap();
    assert_eq!(opened.vouched, Vouched::ByGivenBundle);
    let left: Vec<_> = fs::read_dir(world.home.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "nothing but the cluster and the backup: {left:?}");
    assert!(matches!(
        BackupWriter::create(&path, world.about(), &[world.key.recipient()]),
        Err(BackupError::Exists { .. })
    ));
}

#[test]
fn nothing_of_the_state_is_to_be_seen_in_the_file() {
    let world = World::new();
    let file = fs::read(world.written()).unwrap();
    assert!(!file.windows(3).any(|window| window == b"ada"));
    assert!(!file.windows(8).any(|window| window == b"HLSTATE\0"));
}

#[test]
fn a_file_that_is_cut_anywhere_is_found_out_without_the_key() {
    let world = World::new();
    let file = fs::read(world.written()).unwrap();
    let cut = world.path("cut");
    for length in 0..file.len() {
        fs::write(&cut, &file[..length]).unwrap();
        let error = check_file(&cut, |_| {}).unwrap_err();
        assert!(error.is_broken_backup(), "at {length}: {error}");
        assert!(error.to_string().contains("cut"), "at {length}: {error}");
        assert!(open_file(&cut, &world.key, None, |_| {}).is_err(), "at {length}");
    }
    fs::write(&cut, [file, vec![0]].concat()).unwrap();
    assert!(check_file(&cut, |_| {}).unwrap_err().to_string().contains("something follows the end"));
}

#[test]
fn a_flipped_bit_anywhere_is_found_out_without_the_key() {
    let world = World::new();
    let file = fs::read(world.written()).unwrap();
    let damaged = world.path("damaged");
    for at in 0..file.len() {
        let mut bytes = file.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&damaged, &bytes).unwrap();
        let error = check_file(&damaged, |_| {}).unwrap_err();
        let is_named = error.is_broken_backup() || matches!(error, BackupError::UnknownFormat { .. });
        assert!(is_named, "at {at}: {error}");
    }
    // Where somebody mends the checksum the encryption finds it out.
    let body = file.len() - 33;
    for at in (0..body).step_by(7) {
        let mut bytes = file[..=body].to_vec();
        bytes[at] ^= 1;
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        bytes.extend_from_slice(&sha256);
        fs::write(&damaged, &bytes).unwrap();
        assert!(open_file(&damaged, &world.key, None, |_| {}).is_err(), "at {at}");
    }
}

#[test]
fn another_key_and_another_signature_are_named() {
    let world = World::new();
    let path = world.written();
    let other = BackupKey::generate().unwrap();
    let error = open_file(&path, &other, None, |_| {}).unwrap_err();
    assert!(matches!(error, BackupError::Key(BackupKeyError::OtherKey { .. })), "{error}");

    let strangers = World::new();
    let bundle = strangers.identity(0).bundle().clone();
    let error = open_file(&path, &world.key, Some(&bundle), |_| {}).unwrap_err();
    assert!(error.to_string().contains("the cluster of the trust bundle differs"), "{error}");

    // A thief of the recipient can encrypt, and can't sign.
    let mut forged = world.signed(&world.identity(1));
    forged.node = 1;
    let forged = world.write("forged", &forged).unwrap().path;
    let error = open_file(&forged, &world.key, None, |_| {}).unwrap_err();
    assert!(matches!(error, BackupError::Statement(_)), "{error}");
    assert!(error.is_broken_backup());
}

#[test]
fn what_was_signed_must_be_what_came() {
    let world = World::new();
    let mut signed = world.signed(&world.identity(0));
    signed.content_bytes += 1;
    let error = world.write("b", &signed).unwrap_err();
    assert!(error.to_string().contains("the length of the content differs"), "{error}");
    assert!(!world.path("b").exists());
    assert_eq!(fs::read_dir(world.home.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn new_nodes_are_made_that_fit_together() {
    let world = World::new();
    let report = world.restore(&world.options(world.new_nodes(3))).unwrap();
    assert_eq!(report.incarnation.0, 1);
    assert_eq!(report.keys, KeysAfter::Unproven { kept: 0 });
    assert_eq!(report.approvers, ["ada".parse().unwrap()]);
    for node in &report.nodes {
        let config = NodeConfig::load(Some(&node.config_file)).unwrap();
        let identity = NodeIdentity::load(&config.identity_dir).unwrap();
        let founding = Founding::load(&config.founding_file).unwrap();
        assert_eq!((identity.id(), founding.incarnation), (node.id, 1));
        let founder = founding.nodes.iter().find(|founder| founder.id == node.id.0).unwrap();
        assert_eq!(founder.tls_key, identity.trusted().tls_key);
        assert_eq!(identity.bundle().hash(), report.trust_bundle);
        assert_eq!(identity.bundle().version().0, 2);
        let stopped = back_up_stopped(&config, &world.path(&node.name), &[world.key.recipient()]).unwrap();
        assert_eq!((stopped.source.last_index, stopped.members), (report.index.0, 3));
    }
    let again = open_file(&world.path("node-2"), &world.key, None, |_| {}).unwrap();
    assert_eq!(again.state.restored().unwrap().kill, report.kill);
    assert!(again.header.stopped.is_some());
    let left: Vec<_> =
        fs::read_dir(world.home.path()).unwrap().flatten().map(|file| file.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".partial")), "{left:?}");
}

#[test]
fn saved_identities_keep_their_keys_and_vouch_for_the_others() {
    let world = World::new();
    let saved = |node: usize| Some(world.made.nodes[node].directory.join("identity"));
    let mut nodes = world.new_nodes(3);
    nodes[0].identity = saved(0);
    let mut options = world.options(nodes.clone());
    assert_eq!(world.restore(&options).unwrap().keys, KeysAfter::Unproven { kept: 1 });

    options.out = world.path("endorsed");
    options.endorsers = vec![saved(2).unwrap()];
    assert_eq!(world.restore(&options).unwrap().keys, KeysAfter::Endorsed);

    for (node, number) in nodes.iter_mut().zip(0..) {
        node.identity = saved(number);
    }
    // Without the root: the intermediates of a saved identity do.
    let all = RestoreOptions { out: world.path("all"), root: None, ..world.options(nodes) };
    let report = world.restore(&all).unwrap();
    assert_eq!(report.keys, KeysAfter::Kept);
    let config = NodeConfig::load(Some(&report.nodes[1].config_file)).unwrap();
    let identity = NodeIdentity::load(&config.identity_dir).unwrap();
    assert_eq!(identity.trusted(), world.identity(1).trusted());
}

#[test]
fn what_cant_be_restored_leaves_nothing_behind() {
    let world = World::new();
    let path = world.written();
    let before = fs::read_dir(world.home.path()).unwrap().count();
    let error = |change: &dyn Fn(&mut RestoreOptions)| {
        let mut options = world.options(world.new_nodes(2));
        change(&mut options);
        let backup = open_file(&path, &world.key, None, |_| {}).unwrap();
        restore_cluster(backup, &options).unwrap_err()
    };
    let unknown = error(&|options| options.by = "eve".parse().unwrap());
    assert!(matches!(unknown, BackupError::Restore(RestoreError::UnknownPerson { .. })), "{unknown}");
    let other_root = World::new().made.root_directory;
    let root = error(&|options| options.root = Some(other_root.clone()));
    assert!(root.to_string().contains("root"), "{root}");
    let neither = error(&|options| options.root = None);
    assert!(neither.to_string().contains("the cluster's root, or a node's saved identity"), "{neither}");
    let full = error(&|options| options.out = world.home.path().into());
    assert!(full.to_string().contains("exists already"), "{full}");
    let strangers = World::new();
    let stranger = strangers.made.nodes[0].directory.join("identity");
    let endorser = error(&|options| options.endorsers = vec![stranger.clone()]);
    assert!(matches!(&endorser, BackupError::Node(_) | BackupError::BadRestore(_)), "{endorser}");
    let missing = error(&|options| options.nodes[0].identity = Some("nowhere".into()));
    let is_io = matches!(&missing, BackupError::Node(crate::NodeError::Pki(PkiError::Io { .. })));
    assert!(is_io, "{missing}");
    assert_eq!(fs::read_dir(world.home.path()).unwrap().count(), before);
}
