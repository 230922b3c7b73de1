//! How keys come to be believed, and that a restart believes no more than was proven.

#![allow(clippy::unwrap_used, clippy::panic)]

use haltline_pki::StatementSigner;

use super::*;
use crate::client::fake_hub::{Signer, bundle, bundle_change, node, node_keys};

struct Replaced {
    signer: StatementSigner,
    first: TrustBundleChange,
    second: TrustBundleChange,
}

/// Node 3's key is replaced, then node 2 goes.
fn replaced() -> Replaced {
    let signer = StatementSigner::generate().unwrap();
    let third = (NodeId(3), signer.public_key());
    let first = bundle_change(1, 2, [&node_keys()[..2], &[third]].concat(), &[node(1), node(2)]);
    let by_new = Signer { node: NodeId(3), key: &signer };
    let second = bundle_change(1, 3, vec![node_keys()[0], third], &[node(1), by_new]);
    Replaced { signer, first, second }
}

fn proven(change: &TrustBundleChange) -> ProvenChange {
    ProvenChange { incarnation: Incarnation(1), change: change.clone() }
}

#[test]
fn changes_follow_one_another_and_wait_for_their_event_to_be_covered() {
    let Replaced { signer, first, second } = replaced();
    let mut trust = Trust::enrolled(&bundle());
    assert!(trust.propose(Incarnation(1), EventSeq(5), &first).unwrap());
    assert!(trust.propose(Incarnation(1), EventSeq(8), &second).unwrap());
    assert!(!trust.covered(EventSeq(4)));
    assert_eq!((trust.version(), trust.key(NodeId(3))), (Version(1), Some(node_keys()[2].1)));
    assert!(trust.covered(EventSeq(7)));
    assert_eq!((trust.version(), trust.key(NodeId(3))), (Version(2), Some(signer.public_key())));
    assert!(trust.covered(EventSeq(8)));
    assert_eq!(trust.key(NodeId(2)), None);
    assert_eq!(
        trust.keys_ever(NodeId(3)).collect::<Vec<_>>(),
        [signer.public_key(), signer.public_key(), node_keys()[2].1]
    );
}

#[test]
fn a_restart_verifies_every_change_again() {
    let Replaced { signer, first, second } = replaced();
    let restored = |changes| Trust::restored(&bundle(), changes);
    let trust = restored(vec![proven(&first), proven(&second)]).unwrap();
    assert_eq!((trust.version(), trust.key(NodeId(3))), (Version(3), Some(signer.public_key())));
    assert_eq!(trust.changes().len(), 2);

    assert_eq!(restored(vec![proven(&second)]).unwrap_err().code(), "BUNDLE_VERSION");
    let mut tampered = proven(&first);
    tampered.change.keys.pop();
    assert_eq!(restored(vec![tampered]).unwrap_err().code(), "TOO_FEW_ENDORSEMENTS");
    let mut moved = proven(&first);
    moved.incarnation = Incarnation(2);
    assert_eq!(restored(vec![moved]).unwrap_err().code(), "TOO_FEW_ENDORSEMENTS");
}

#[test]
fn a_snapshot_stands_for_the_changes_it_names_and_drops_the_rest() {
    let Replaced { first, second, .. } = replaced();
    let mut trust = Trust::enrolled(&bundle());
    trust.propose(Incarnation(1), EventSeq(5), &first).unwrap();
    trust.propose(Incarnation(1), EventSeq(8), &second).unwrap();
    assert!(trust.replaced_by_snapshot(Version(2)));
    assert_eq!(trust.version(), Version(2));
    assert!(!trust.covered(EventSeq(100)));
}

#[test]
fn absurd_numbers_are_refused_before_any_signature_is_looked_at() {
    let mut many = replaced().first;
    many.endorsements = vec![many.endorsements[0]; NODES_MAX + 1];
    let mut trust = Trust::enrolled(&bundle());
    let refusal = trust.propose(Incarnation(1), EventSeq(1), &many).unwrap_err();
    assert_eq!(refusal.code(), "BUNDLE_ENDORSEMENTS");
}
