//! Statements believed and not: whatever is changed in one must be noticed, with a code that says what.

#![allow(clippy::unwrap_used)]
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::{event::TrustBundleChange, ids::Version, merkle::MerkleTree};

const CLUSTER: ClusterId = ClusterId([7; 16]);
const FIRST: Incarnation = Incarnation(1);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> PublicKey {
    PublicKey(key(seed).verifying_key().to_bytes())
}

fn sign(seed: u8, bytes: &[u8]) -> Signature {
    Signature(key(seed).sign(bytes).to_bytes())
}

/// Node n signs with key n; there are three.
fn keys(node: NodeId) -> Option<PublicKey> {
    (1..=3).contains(&node.0).then(|| public(node.0 as u8))
}

fn name(text: &str) -> EdgeName {
    text.parse().unwrap()
}

fn layer(asker: &str, nonce: Nonce, others: u32, position: u32) -> (ProofLayer, Digest) {
    let mut leaves: Vec<Digest> = (0..others).map(|other| Digest([other as u8; 32])).collect();
    leaves.insert(position as usize, merkle::leaf(&nonce, asker));
    let tree = MerkleTree::build(leaves).unwrap();
    let path = tree.path(position).unwrap();
    (ProofLayer { name: name(asker), position, leaves: tree.leaves(), path }, tree.root())
}

/// A Fresh for `edge`, through a relay if asked, signed by node 2.
fn fresh(through_relay: bool) -> Fresh {
    let nonce = Nonce([9; 32]);
    let (own, mut root) = layer("edge", nonce, 4, 3);
    let mut layers = vec![own];
    if through_relay {
        let (above, above_root) = layer("relay", Nonce(root.0), 6, 0);
        layers.push(above);
        root = above_root;
    }
    let mut fresh = Fresh {
        nonce,
        index: LogIndex(40),
        event_seq: EventSeq(12),
        chain_head: Digest([5; 32]),
        cluster_time: ClusterTime(777),
        node: NodeId(2),
        signature: Signature([0; 64]),
        layers,
    };
    fresh.signature = sign(2, &fresh.statement(CLUSTER, FIRST, root).to_bytes());
    fresh
}

fn verify(fresh: &Fresh) -> Result<Attested, AttestError> {
    fresh.verify(&name("edge"), CLUSTER, FIRST, keys)
}

#[test]
fn an_answer_proves_itself_directly_and_through_a_relay() {
    for through_relay in [false, true] {
        let attested = verify(&fresh(through_relay)).unwrap();
        assert_eq!(attested.position().index, LogIndex(40));
        assert_eq!(attested.position().incarnation, FIRST);
        assert_eq!(attested.cluster_time(), ClusterTime(777));
    }
}

#[test]
fn whatever_is_changed_in_an_answer_is_noticed() {
    type Change = fn(&mut Fresh);
    let changes: [(&str, Change); 9] = [
        ("BAD_SIGNATURE", |fresh| fresh.nonce.0[0] ^= 1),
        ("BAD_SIGNATURE", |fresh| fresh.index = LogIndex(41)),
        ("BAD_SIGNATURE", |fresh| fresh.event_seq = EventSeq(13)),
        ("BAD_SIGNATURE", |fresh| fresh.chain_head.0[31] ^= 1),
        ("BAD_SIGNATURE", |fresh| fresh.cluster_time = ClusterTime(778)),
        ("BAD_SIGNATURE", |fresh| fresh.node = NodeId(1)),
        ("UNKNOWN_KEY", |fresh| fresh.node = NodeId(4)),
        ("BAD_PROOF", |fresh| fresh.layers.clear()),
        ("BAD_PROOF", |fresh| fresh.layers[0].path.truncate(1)),
    ];
    for (number, (code, change)) in changes.into_iter().enumerate() {
        let mut changed = fresh(true);
        change(&mut changed);
        assert_eq!(verify(&changed).unwrap_err().code(), code, "change {number}");
    }
    let mut deep = fresh(false);
    deep.layers = vec![deep.layers[0].clone(); PROOF_LAYERS_MAX + 1];
    assert_eq!(verify(&deep).unwrap_err().code(), "TOO_MANY_LAYERS");
}

#[test]
fn an_answer_is_for_one_asker_of_one_cluster_and_incarnation() {
    let fresh = fresh(false);
    let wrong = |asker: &str, cluster, incarnation| {
        fresh.verify(&name(asker), cluster, incarnation, keys).unwrap_err().code()
    };
    assert_eq!(wrong("other", CLUSTER, FIRST), "WRONG_NAME");
    assert_eq!(wrong("edge", ClusterId([8; 16]), FIRST), "BAD_SIGNATURE");
    assert_eq!(wrong("edge", CLUSTER, Incarnation(2)), "BAD_SIGNATURE");
    let mut renamed = fresh.clone();
    renamed.layers[0].name = name("other");
    let as_other = renamed.verify(&name("other"), CLUSTER, FIRST, keys);
    assert_eq!(as_other.unwrap_err().code(), "BAD_SIGNATURE", "the leaf binds the name");
}

fn snapshot(body: &[u8]) -> SnapshotStatement {
    SnapshotStatement {
        cluster_id: CLUSTER,
        incarnation: FIRST,
        index: LogIndex(40),
        event_seq: EventSeq(12),
        chain_head: Digest([5; 32]),
        body_sha256: Digest(Sha256::digest(body).into()),
        cluster_time: ClusterTime(777),
        wall_time: WallTime(1),
    }
}

#[test]
fn a_snapshot_is_its_body() {
    let statement = snapshot(b"view");
    let signature = sign(1, &statement.to_bytes());
    let attested = statement.verify(NodeId(1), &signature, b"view", keys).unwrap();
    assert_eq!(attested.position().event_seq, EventSeq(12));
    let code = |statement: &SnapshotStatement, body| {
        statement.verify(NodeId(1), &signature, body, keys).unwrap_err().code()
    };
    assert_eq!(code(&statement, b"vieW"), "OTHER_BODY");
    let older = SnapshotStatement { wall_time: WallTime(2), ..statement };
    assert_eq!(code(&older, b"view"), "BAD_SIGNATURE");
}

#[test]
fn statements_of_different_kinds_never_share_bytes() {
    let fresh = FreshStatement {
        cluster_id: CLUSTER,
        incarnation: FIRST,
        index: LogIndex(1),
        event_seq: EventSeq(1),
        chain_head: Digest([0; 32]),
        cluster_time: ClusterTime(1),
        root: Digest([0; 32]),
    };
    let bundle = BundleStatement { cluster_id: CLUSTER, incarnation: FIRST, version: Version(1), keys: &[] };
    let domains: Vec<Vec<u8>> = [fresh.to_bytes(), snapshot(b"").to_bytes(), bundle.to_bytes()]
        .iter()
        .map(|bytes| bytes.split(|byte| *byte == 0).next().unwrap().to_vec())
        .collect();
    assert_eq!(domains, [&b"haltline/v1/fresh"[..], b"haltline/v1/snapshot", b"haltline/v1/bundle"]);
    // domain, cluster, incarnation, index, event number, head, cluster time, root
    assert_eq!(fresh.to_bytes().len(), 18 + 16 + 8 + 8 + 8 + 32 + 8 + 32);
}

/// The old bundle: nodes 1 to 3.
fn old() -> Vec<(NodeId, PublicKey)> {
    (1..=3).map(|node| (NodeId(node), public(node as u8))).collect()
}

#[test]
fn a_bundle_changes_by_a_majority_of_the_old_keys_alone() {
    let new = [(NodeId(4), public(4)), (NodeId(5), public(5)), (NodeId(6), public(6))];
    let statement =
        BundleStatement { cluster_id: CLUSTER, incarnation: FIRST, version: Version(8), keys: &new };
    let endorsed_by = |seeds: &[(u64, u8)]| -> Result<(), AttestError> {
        let bytes = statement.to_bytes();
        let endorsements: Vec<_> =
            seeds.iter().map(|(node, seed)| (NodeId(*node), sign(*seed, &bytes))).collect();
        statement.verify(Version(7), &old(), &endorsements)
    };
    assert_eq!(endorsed_by(&[(1, 1), (3, 3)]), Ok(()));
    let too_few = |got| Err(AttestError::TooFewEndorsements { got, needed: 2 });
    assert_eq!(endorsed_by(&[(4, 4), (5, 5), (6, 6)]), too_few(0), "the new keys alone");
    assert_eq!(endorsed_by(&[(1, 4), (2, 5), (3, 6)]), too_few(0), "new keys under old names");
    assert_eq!(endorsed_by(&[(1, 1), (1, 1), (2, 1)]), too_few(1), "one key many times");
    assert_eq!(statement.verify(Version(8), &old(), &[]).unwrap_err().code(), "BUNDLE_VERSION");
}

#[test]
fn one_key_under_two_names_has_one_vote_and_bundles_are_in_order() {
    let twins = [(NodeId(1), public(1)), (NodeId(2), public(1)), (NodeId(3), public(3))];
    let new = [(NodeId(1), public(9))];
    let statement =
        BundleStatement { cluster_id: CLUSTER, incarnation: FIRST, version: Version(2), keys: &new };
    let signature = sign(1, &statement.to_bytes());
    let both = [(NodeId(1), signature), (NodeId(2), signature)];
    let refused = statement.verify(Version(1), &twins, &both);
    assert_eq!(refused, Err(AttestError::TooFewEndorsements { got: 1, needed: 2 }));
    let twice = [(NodeId(1), public(9)), (NodeId(1), public(8))];
    for keys in [&twice[..], &[]] {
        let unordered = BundleStatement { keys, ..statement };
        assert_eq!(unordered.verify(Version(1), &old(), &[]).unwrap_err().code(), "BUNDLE_KEYS");
    }
}

/// A change in which node `node` gets the key of `seed`, endorsed by nodes with these seeds.
fn change(
    version: u64,
    before: &[(NodeId, PublicKey)],
    node: u64,
    seed: u8,
    endorsers: &[(u64, u8)],
) -> TrustBundleChange {
    let mut keys = before.to_vec();
    keys.iter_mut().filter(|(of, _)| of.0 == node).for_each(|(_, key)| *key = public(seed));
    let (incarnation, version) = (FIRST, Version(version));
    let bytes = BundleStatement { cluster_id: CLUSTER, incarnation, version, keys: &keys }.to_bytes();
    let endorsements = endorsers.iter().map(|(node, seed)| (NodeId(*node), sign(*seed, &bytes))).collect();
    TrustBundleChange { version, keys, endorsements, incarnation, old_keys_until: ClusterTime(0) }
}

#[test]
fn a_history_is_followed_change_by_change_each_by_the_keys_before_it() {
    let second = change(2, &old(), 1, 11, &[(1, 1), (2, 2)]);
    let third = change(3, &second.keys, 2, 12, &[(1, 11), (3, 3)]);
    let follow = |from: (Version, Vec<_>), changes: &[&TrustBundleChange]| {
        follow_changes(CLUSTER, from, changes.iter().copied())
    };
    let proven = follow((Version(1), old()), &[&second, &third]).unwrap();
    let all = [(Version(1), old()), (Version(2), second.keys.clone()), (Version(3), third.keys.clone())];
    assert_eq!(proven, all);
    let later = follow((Version(2), second.keys.clone()), &[&second, &third]).unwrap();
    assert_eq!(later, all[1..], "what is contained already is passed over");
    let gap = follow((Version(1), old()), &[&third]).unwrap_err();
    assert_eq!(gap.code(), "BUNDLE_VERSION");
    let by_the_new = change(3, &second.keys, 2, 12, &[(1, 1), (2, 12), (3, 13)]);
    let refused = follow((Version(1), old()), &[&second, &by_the_new]).unwrap_err();
    assert_eq!(refused, AttestError::TooFewEndorsements { got: 0, needed: 2 }, "replaced and new keys alone");
}

proptest! {
    /// Whatever the shape of the trees on the way, a nonce leads to the top root, and another nonce doesn't.
    #[test]
    fn layers_compose(
        nonce in any::<[u8; 32]>(),
        shape in proptest::collection::vec((0_u32..40, any::<proptest::sample::Index>()), 1..=PROOF_LAYERS_MAX),
    ) {
        let mut asked = Nonce(nonce);
        let mut layers = Vec::new();
        for (number, (others, position)) in shape.iter().enumerate() {
            let position = position.index(*others as usize + 1) as u32;
            let (layer, root) = layer(&format!("hop-{number}"), asked, *others, position);
            layers.push(layer);
            asked = Nonce(root.0);
        }
        prop_assert_eq!(root_of(&Nonce(nonce), &layers), Ok(Digest(asked.0)));
        let mut other = nonce;
        other[0] ^= 1;
        prop_assert!(root_of(&Nonce(other), &layers) != Ok(Digest(asked.0)));
    }
}
