//! What a relay that lies can get an enforcer below it to believe: nothing, because the node's signature is over the root
//! that the enforcer's own nonce leads to.

#![allow(clippy::unwrap_used)]
use haltline_core::{
    attest::{AttestError, Attested, Fresh, FreshStatement, ProofLayer},
    command::Signature,
    ids::{ClusterId, Digest, EdgeName, EventSeq, Incarnation, LogIndex, NodeId, Nonce},
    merkle::{self, MerkleTree},
    time::ClusterTime,
};
use haltline_pki::StatementSigner;

const CLUSTER: ClusterId = ClusterId([5; 16]);
const NODE: NodeId = NodeId(1);

fn name(text: &str) -> EdgeName {
    text.parse().unwrap()
}

/// One tree over these, and the way from the first.
fn layer(asked: &[(Nonce, &str)]) -> (Nonce, ProofLayer) {
    let tree =
        MerkleTree::build(asked.iter().map(|(nonce, name)| merkle::leaf(nonce, name)).collect()).unwrap();
    let leaves = u32::try_from(asked.len()).unwrap();
    let path = tree.path(0).unwrap();
    (Nonce(tree.root().0), ProofLayer { name: name(asked[0].1), position: 0, leaves, path })
}

/// A node's answer to one nonce of a relay, with the relay's layer.
fn by_node(node: &StatementSigner, nonce: Nonce, relay: &str) -> Fresh {
    let (root, layer) = layer(&[(nonce, relay), (Nonce([9; 32]), "another")]);
    let statement = FreshStatement {
        cluster_id: CLUSTER,
        incarnation: Incarnation(1),
        index: LogIndex(7),
        event_seq: EventSeq(3),
        chain_head: Digest([4; 32]),
        cluster_time: ClusterTime(8),
        root: Digest(root.0),
    };
    Fresh {
        nonce,
        index: statement.index,
        event_seq: statement.event_seq,
        chain_head: statement.chain_head,
        cluster_time: statement.cluster_time,
        node: NODE,
        signature: Signature(node.sign(&statement.to_bytes())),
        layers: vec![layer],
    }
}

fn believed(node: &StatementSigner, fresh: &Fresh, asker: &str) -> Result<Attested, AttestError> {
    let key = node.public_key();
    fresh.verify(&name(asker), CLUSTER, Incarnation(1), |of| (of == NODE).then_some(key))
}

/// What the relay hands to `gate`, whose nonce this is, with an answer that it got for `probed`.
fn handed_on(node: &StatementSigner, nonce: Nonce, probed: Nonce) -> Fresh {
    let (_, own) = layer(&[(nonce, "gate"), (Nonce([8; 32]), "gate-2")]);
    let mut fresh = by_node(node, probed, "relay-1");
    fresh.layers.insert(0, own);
    Fresh { nonce, ..fresh }
}

#[test]
fn an_honest_relays_two_layers_lead_to_the_nodes_signature() {
    let (node, nonce) = (StatementSigner::generate().unwrap(), Nonce([1; 32]));
    let (root, _) = layer(&[(nonce, "gate"), (Nonce([8; 32]), "gate-2")]);
    let fresh = handed_on(&node, nonce, root);
    assert_eq!(fresh.layers.len(), 2);
    assert_eq!(believed(&node, &fresh, "gate").unwrap().position().index, LogIndex(7));
    assert_eq!(believed(&node, &fresh, "gate-2").unwrap_err().code(), "WRONG_NAME");
}

#[test]
fn an_answer_to_a_probe_of_the_relays_own_is_believed_by_nobody_below() {
    let (node, nonce) = (StatementSigner::generate().unwrap(), Nonce([1; 32]));
    let forged = handed_on(&node, nonce, Nonce([2; 32]));
    assert_eq!(believed(&node, &forged, "gate").unwrap_err().code(), "BAD_SIGNATURE");
    // Without the enforcer's own layer it is somebody else's answer.
    let bare = Fresh { nonce, ..by_node(&node, nonce, "relay-1") };
    assert_eq!(believed(&node, &bare, "gate").unwrap_err().code(), "WRONG_NAME");
}

#[test]
fn an_answer_from_before_is_believed_for_no_later_nonce() {
    let node = StatementSigner::generate().unwrap();
    let (before, now) = (Nonce([1; 32]), Nonce([3; 32]));
    let (root, _) = layer(&[(before, "gate"), (Nonce([8; 32]), "gate-2")]);
    let replayed = Fresh { nonce: now, ..handed_on(&node, before, root) };
    assert_eq!(believed(&node, &replayed, "gate").unwrap_err().code(), "BAD_SIGNATURE");
}

#[test]
fn a_relays_own_signature_is_no_nodes() {
    let (node, relay, nonce) =
        (StatementSigner::generate().unwrap(), StatementSigner::generate().unwrap(), Nonce([1; 32]));
    let (root, _) = layer(&[(nonce, "gate"), (Nonce([8; 32]), "gate-2")]);
    let forged = handed_on(&relay, nonce, root);
    assert_eq!(believed(&node, &forged, "gate").unwrap_err().code(), "BAD_SIGNATURE");
}
