//! What nodes report: enrolments, receipts and endorsements, mostly as an honest node would.

use ed25519_dalek::Signer as _;
use haltline_core::{
    attest::BundleStatement,
    command::{BundleEndorse, BundlePropose, Caller, Command, EdgeEnrol, JoinProof, Signature},
    ids::{JoinTokenId, KillId, LogIndex, NodeId, PublicKey, Version},
    lease::{Drift, bound},
    receipt::{EnforcedRule, MemberClear, Receipt, SignedReceipt},
    state::records::Kill,
    time::{Millis, WallTime},
};

use super::{
    author::existing,
    furnish::edge_key,
    model::Model,
    schedule::Dice,
    world::{
        CLUSTER, EDGES, INCARNATION, NODE_KEYS, join_secret, node_public, node_secret, node_secret_of,
        person, public, tls_key, weak_key,
    },
};

/// Who reports: the node that a report names, mostly.
pub(crate) fn reporter(model: &Model, command: &Command, dice: &mut Dice) -> Caller {
    if dice.below(12) == 0 {
        return stranger(dice);
    }
    match command {
        Command::ReceiptRecord(signed) if !dice.in_ten(1) => signed.receipt.signer.into(),
        Command::BundleEndorse(endorse) => endorser(model, &endorse.signature).into(),
        _ => NodeId(1 + dice.below(3) as u64).into(),
    }
}

/// The node whose signature it is, or else the first.
fn endorser(model: &Model, signature: &Signature) -> NodeId {
    let Some(proposed) = &model.proposed else { return NodeId(1) };
    let is_theirs = |key: &PublicKey| {
        super::world::is_signed(key, &statement(proposed.version, &proposed.keys), signature)
    };
    model.nodes.iter().find(|node| is_theirs(&node.signing_key)).map_or(NodeId(1), |node| node.id)
}

/// Somebody who has no business with it, or isn't there.
pub(crate) fn stranger(dice: &mut Dice) -> Caller {
    match dice.below(4) {
        0 => NodeId(9).into(),
        1 => NodeId(2).into(),
        2 => person("ada").into(),
        _ => Caller::Edge(dice.pick(&EDGES).parse().unwrap()),
    }
}

pub(crate) fn edge_enrol(model: &Model, dice: &mut Dice) -> Command {
    let there: Vec<JoinTokenId> = model.tokens.keys().copied().collect();
    let token = existing(&there, &[JoinTokenId([1; 16]), JoinTokenId([99; 16])], dice);
    let secret = if dice.in_ten(1) { join_secret(200) } else { join_secret(token.0[0]) };
    let key = match dice.below(12) {
        0 => tls_key(0),
        _ => edge_key(dice.below(12) as u8),
    };
    Command::EdgeEnrol(EdgeEnrol { token, proof: JoinProof::of_secret(&secret), key })
}

/// An honest receipt of a kill by a node, with the key that the node has at the founding.
pub(crate) fn receipt_of(
    id: KillId,
    kill: &Kill,
    signer: NodeId,
    index: LogIndex,
    staleness: Millis,
) -> SignedReceipt {
    let receipt = Receipt {
        cluster_id: CLUSTER,
        incarnation: INCARNATION,
        kill: id,
        selector: kill.selector.clone(),
        mode: kill.mode,
        reason: kill.reason.clone(),
        by: kill.by.clone(),
        index,
        placed: kill.placed,
        committed_wall: kill.placed.wall_time,
        enforced_wall: WallTime(kill.placed.wall_time.0 + 30),
        took: Millis(30),
        rule: EnforcedRule::Acked,
        bound: bound(staleness, Drift::default()),
        max_staleness: staleness,
        drift_ppm: Drift::default().ppm(),
        enforcers_acked: 2,
        fenced: Vec::new(),
        fenced_more: 0,
        unbounded: Vec::new(),
        unbounded_more: 0,
        members: (1..=3).map(|node| (NodeId(node), MemberClear::Clear)).collect(),
        signer,
    };
    signed(receipt, &node_public(signer.0 as u8))
}

/// A receipt signed with the secret behind a node's key.
fn signed(receipt: Receipt, key: &PublicKey) -> SignedReceipt {
    let secret = node_secret_of(key).unwrap_or_else(|| node_secret(1));
    let signature = Signature(secret.sign(&receipt.to_bytes()).to_bytes());
    SignedReceipt { receipt, signature }
}

/// A receipt of a kill that is or was in force, sometimes with something wrong in it.
pub(crate) fn receipt_record(model: &Model, dice: &mut Dice) -> Command {
    let lifted = model.lifted.iter().map(|(id, lifted)| (*id, lifted.kill.clone()));
    let mut kills: Vec<(KillId, Kill)> = model.kills.iter().map(|(id, kill)| (*id, kill.clone())).collect();
    kills.extend(lifted);
    // Without a kill there is no receipt; an empty endorsement is as good a report.
    if kills.is_empty() {
        return bundle_endorse(model, dice);
    }
    let (id, kill) = dice.pick(&kills);
    let signer = NodeId(1 + dice.below(3) as u64);
    let key = |node: NodeId| model.nodes.iter().find(|known| known.id == node).map(|node| node.signing_key);
    let mut receipt = receipt_of(id, &kill, signer, model.now.index, Millis(2_000)).receipt;
    let mut by = key(signer).unwrap_or_else(|| node_public(1));
    match dice.below(12) {
        0 => receipt.kill = KillId(1_000_000),
        1 => receipt.by = person("ghost"),
        2 => receipt.index = LogIndex(u64::MAX),
        3 => receipt.rule = EnforcedRule::Fenced,
        4 => by = node_public(NODE_KEYS),
        _ => {}
    }
    Command::ReceiptRecord(Box::new(signed(receipt, &by)))
}

/// New keys for some of the nodes, mostly good ones.
pub(crate) fn bundle_propose(model: &Model, dice: &mut Dice) -> Command {
    let current: Vec<(NodeId, PublicKey)> =
        model.nodes.iter().map(|node| (node.id, node.signing_key)).collect();
    let used: Vec<PublicKey> = current.iter().map(|(_, key)| *key).collect();
    let free: Vec<PublicKey> = (1..=NODE_KEYS).map(node_public).filter(|key| !used.contains(key)).collect();
    let mut keys = current;
    let start = dice.below(free.len());
    for (at, (_, key)) in keys.iter_mut().enumerate() {
        if dice.in_ten(6) {
            *key = free[(start + at) % free.len()];
        }
    }
    match (dice.below(12), keys.first_mut()) {
        (0, Some(first)) => first.1 = weak_key(),
        (1, Some(first)) => first.1 = public(dice.below(4) as u8),
        (2, Some(first)) => first.0 = NodeId(9),
        (3, Some(_)) => {
            keys.pop();
        }
        _ => {}
    }
    let version = model.bundle_version + if dice.below(12) == 0 { 2 } else { 1 };
    Command::BundlePropose(BundlePropose { version: Version(version), keys })
}

/// The endorsement of what waits, by a node that hasn't endorsed it yet if there is one.
pub(crate) fn bundle_endorse(model: &Model, dice: &mut Dice) -> Command {
    let Some(proposed) = &model.proposed else {
        return Command::BundleEndorse(BundleEndorse {
            version: Version(model.bundle_version + 1),
            signature: Signature([0; 64]),
        });
    };
    let has_not = |node: &&haltline_core::command::NodeRecord| {
        !proposed.endorsed.iter().any(|(endorser, _)| *endorser == node.id)
    };
    let missing: Vec<PublicKey> = model.nodes.iter().filter(has_not).map(|node| node.signing_key).collect();
    let key = existing(&missing, &[node_public(1), node_public(NODE_KEYS)], dice);
    let secret = node_secret_of(&key).unwrap_or_else(|| node_secret(1));
    let version = if dice.in_ten(1) { Version(77) } else { proposed.version };
    let bytes = statement(version, &proposed.keys);
    Command::BundleEndorse(BundleEndorse { version, signature: Signature(secret.sign(&bytes).to_bytes()) })
}

fn statement(version: Version, keys: &[(NodeId, PublicKey)]) -> Vec<u8> {
    BundleStatement { cluster_id: CLUSTER, incarnation: INCARNATION, version, keys }.to_bytes()
}
