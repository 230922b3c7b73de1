//! Receipts that verify, and those that mustn't.

#![allow(clippy::unwrap_used)]
use ed25519_dalek::{Signer, SigningKey};

use super::*;
use crate::{ids::LogIndex, time::ClusterTime};

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn keys(node: NodeId) -> Option<PublicKey> {
    (node == NodeId(1)).then(|| PublicKey(key().verifying_key().to_bytes()))
}

fn receipt() -> Receipt {
    Receipt {
        cluster_id: ClusterId([7; 16]),
        incarnation: Incarnation(0),
        kill: KillId(3),
        selector: Selector::fleet("finance/invoice".parse().unwrap()),
        mode: KillMode::Freeze,
        reason: "wrong invoices".parse().unwrap(),
        by: "ada".parse().unwrap(),
        index: LogIndex(40),
        placed: Stamp { index: LogIndex(40), cluster_time: ClusterTime(9), wall_time: WallTime(8) },
        committed_wall: WallTime(10),
        enforced_wall: WallTime(60),
        took: Millis(50),
        rule: EnforcedRule::Acked,
        bound: Millis(2_002),
        max_staleness: Millis(2_000),
        drift_ppm: 1_000,
        enforcers_acked: 12,
        fenced: vec![],
        fenced_more: 0,
        unbounded: vec![],
        unbounded_more: 0,
        members: vec![(NodeId(1), MemberClear::Clear), (NodeId(2), MemberClear::Clear)],
        signer: NodeId(1),
    }
}

fn signed(receipt: Receipt) -> SignedReceipt {
    let signature = Signature(key().sign(&receipt.to_bytes()).to_bytes());
    SignedReceipt { receipt, signature }
}

fn fenced(name: &str) -> Fenced {
    Fenced { name: name.parse().unwrap(), why: FencedWhy::Silent }
}

#[test]
fn a_receipt_verifies_offline_from_its_bytes() {
    let bytes = signed(receipt()).to_bytes();
    assert_eq!(SignedReceipt::from_bytes(&bytes).unwrap().verify(keys), Ok(()));
    for cut in [0, 1, bytes.len() - 1] {
        assert!(SignedReceipt::from_bytes(&bytes[..cut]).is_err());
    }
    assert!(SignedReceipt::from_bytes(&[bytes, vec![0]].concat()).is_err(), "something behind it");
}

#[test]
fn every_byte_of_a_receipt_counts() {
    let bytes = signed(receipt()).to_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let believed = SignedReceipt::from_bytes(&changed).is_ok_and(|signed| signed.verify(keys).is_ok());
        assert!(!believed, "byte {at} of {}", bytes.len());
    }
}

#[test]
fn receipts_of_unknown_signers_say_so() {
    let stranger = signed(Receipt { signer: NodeId(9), ..receipt() });
    assert_eq!(stranger.verify(keys).unwrap_err().code(), "UNKNOWN_KEY");
}

#[test]
fn a_signed_contradiction_is_refused() {
    let waited_out = vec![(NodeId(1), MemberClear::Clear), (NodeId(2), MemberClear::WaitedOut)];
    let good = [
        receipt(),
        Receipt { rule: EnforcedRule::Fenced, fenced: vec![fenced("a"), fenced("b")], ..receipt() },
        Receipt { rule: EnforcedRule::Fenced, members: waited_out.clone(), ..receipt() },
    ];
    for receipt in good {
        assert_eq!(signed(receipt).verify(keys), Ok(()));
    }
    let many = (0..=RECEIPT_NAMES_MAX).map(|number| fenced(&format!("edge-{number:03}"))).collect();
    let bad = [
        ("RECEIPT_CONTRADICTION", Receipt { bound: Millis(2_001), ..receipt() }),
        ("RECEIPT_CONTRADICTION", Receipt { drift_ppm: u32::MAX, ..receipt() }),
        ("RECEIPT_CONTRADICTION", Receipt { index: LogIndex(39), ..receipt() }),
        ("RECEIPT_CONTRADICTION", Receipt { fenced: vec![fenced("a")], ..receipt() }),
        ("RECEIPT_CONTRADICTION", Receipt { members: waited_out, ..receipt() }),
        ("RECEIPT_CONTRADICTION", Receipt { rule: EnforcedRule::Fenced, ..receipt() }),
        ("RECEIPT_LIST", Receipt { members: vec![], ..receipt() }),
        ("RECEIPT_LIST", Receipt { rule: EnforcedRule::Fenced, fenced: many, ..receipt() }),
        (
            "RECEIPT_LIST",
            Receipt { rule: EnforcedRule::Fenced, fenced: vec![fenced("b"), fenced("a")], ..receipt() },
        ),
    ];
    for (number, (code, receipt)) in bad.into_iter().enumerate() {
        assert_eq!(signed(receipt).verify(keys).unwrap_err().code(), code, "receipt {number}");
    }
}
