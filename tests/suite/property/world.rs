//! The small world of the property tests: a few people with real keys, a few paths, so that collisions happen.
//!
//! Signing is done here by hand, from the documented layout of a statement, so that the layout itself is under test.

use ed25519_dalek::{Signer, SigningKey};
use haltline_core::{
    command::{Batch, Command, Genesis, NodeRecord, PersonAdd, Request, Role, RoleBinding, Signature},
    ids::{ClusterId, Digest, Incarnation, KeyHash, LogIndex, NodeId, PersonId, PublicKey, RequestId},
    path::{AgentPath, FleetPath},
    time::{ClusterTime, WallTime},
};
use sha2::{Digest as _, Sha256};

/// Paths of fleets; `a-b` sorts between `a` and `a/x` and must lie outside of both.
pub(crate) const FLEETS: [&str; 8] = ["a", "a-b", "a/x", "a/x/p", "a/x/p/q", "a/y", "b", "b/z"];
/// Paths of agents; `a/y` and `a/x/p` are also names of fleets.
pub(crate) const AGENTS: [&str; 10] =
    ["a/r", "a/x/r", "a/x/s", "a/x/p/r", "a/x/p/q/r", "a/y/r", "a-b/r", "b/r", "b/z/r", "a/x/p"];
/// People; the first one founds the cluster, the last one is never enrolled.
pub(crate) const PEOPLE: [&str; 7] = ["ada", "bob", "cyd", "dan", "eve", "fay", "ghost"];
/// How many signing and TLS keys there are to choose from.
pub(crate) const KEYS: u8 = 12;

/// The cluster under test.
pub(crate) const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
/// Its incarnation.
pub(crate) const INCARNATION: Incarnation = Incarnation(0);

/// Parses a path that the test itself wrote.
pub(crate) fn fleet(text: &str) -> FleetPath {
    text.parse().unwrap()
}

/// Parses a path that the test itself wrote.
pub(crate) fn agent(text: &str) -> AgentPath {
    text.parse().unwrap()
}

/// Parses a name that the test itself wrote.
pub(crate) fn person(text: &str) -> PersonId {
    text.parse().unwrap()
}

/// The signing key with a number.
pub(crate) fn secret(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number + 1; 32])
}

/// Its public half.
pub(crate) fn public(number: u8) -> PublicKey {
    PublicKey(secret(number).verifying_key().to_bytes())
}

/// The secret behind a public key of this world.
pub(crate) fn secret_of(key: &PublicKey) -> Option<SigningKey> {
    (0..KEYS).map(secret).find(|secret| secret.verifying_key().to_bytes() == key.0)
}

/// The TLS key with a number.
pub(crate) fn tls_key(number: u8) -> KeyHash {
    KeyHash([0x40 + number; 32])
}

/// A role at a path, or (`""`) at the root.
pub(crate) fn role(role: Role, path: &str) -> RoleBinding {
    RoleBinding { role, path: (!path.is_empty()).then(|| fleet(path)) }
}

/// How many nodes there are, so that two of them are a majority.
pub(crate) const NODES: u8 = 3;
/// How many signing keys there are for nodes to choose from; the first ones are theirs at the founding.
pub(crate) const NODE_KEYS: u8 = 9;
/// Names of enforcers.
pub(crate) const EDGES: [&str; 4] = ["rack-1", "rack-2", "rack-3", "rack-4"];

/// The signing key of nodes with a number, from 1.
pub(crate) fn node_secret(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[0xa0 + number; 32])
}

/// Its public half.
pub(crate) fn node_public(number: u8) -> PublicKey {
    PublicKey(node_secret(number).verifying_key().to_bytes())
}

/// The secret behind a node's public key.
pub(crate) fn node_secret_of(key: &PublicKey) -> Option<SigningKey> {
    (1..=NODE_KEYS).map(node_secret).find(|secret| secret.verifying_key().to_bytes() == key.0)
}

/// The point of order one: it would verify signatures that nobody made.
pub(crate) fn weak_key() -> PublicKey {
    let mut identity = [0; 32];
    identity[0] = 1;
    PublicKey(identity)
}

/// Whether a key of this world is one; all but the weak one are.
pub(crate) fn is_key(key: &PublicKey) -> bool {
    *key != weak_key()
}

/// Whether a signature over some bytes is a key's.
pub(crate) fn is_signed(key: &PublicKey, bytes: &[u8], signature: &Signature) -> bool {
    let verifier = ed25519_dalek::VerifyingKey::from_bytes(&key.0).unwrap();
    verifier.verify_strict(bytes, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
}

/// The secret of the join token with a number.
pub(crate) fn join_secret(number: u8) -> [u8; 32] {
    [0x60_u8.wrapping_add(number); 32]
}

/// The founding of the cluster: three nodes, and ada with key 0.
pub(crate) fn genesis() -> Genesis {
    let node = |number: u8| NodeRecord {
        id: NodeId(u64::from(number)),
        name: format!("node-{number}").parse().unwrap(),
        key_hash: KeyHash([0xa0 + number; 32]),
        signing_key: node_public(number),
    };
    Genesis {
        cluster_id: CLUSTER,
        incarnation: INCARNATION,
        trust_bundle: Digest([0x7b; 32]),
        nodes: (1..=NODES).map(node).collect(),
        first_admin: PersonAdd {
            person: person(PEOPLE[0]),
            tls_keys: vec![tls_key(0)],
            signing_key: public(0),
            roles: vec![role(Role::Admin, "")],
        },
    }
}

/// The batch that founds the cluster.
pub(crate) fn founding() -> Batch {
    Batch { wall_time: WallTime(1), genesis: Some(Box::new(genesis())), ..Batch::default() }
}

/// A batch of commands at a cluster time.
pub(crate) fn batch(now: u64, requests: Vec<Request>) -> Batch {
    Batch { cluster_time: ClusterTime(now), wall_time: WallTime(now + 1), requests, ..Batch::default() }
}

/// The same, by a leader that had applied the log up to an entry.
pub(crate) fn batch_after(now: u64, applied: usize, requests: Vec<Request>) -> Batch {
    Batch { applied: index(applied), ..batch(now, requests) }
}

/// The n-th request's id.
pub(crate) fn request_id(number: u64) -> RequestId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    RequestId(bytes)
}

/// An unsigned request.
pub(crate) fn unsigned(number: u64, caller: &str, deadline: u64, command: Command) -> Request {
    Request {
        id: request_id(number),
        caller: person(caller).into(),
        deadline: ClusterTime(deadline),
        signature: None,
        command,
    }
}

/// A node's request.
pub(crate) fn by_node(number: u64, node: u64, deadline: u64, command: Command) -> Request {
    let request = unsigned(number, PEOPLE[0], deadline, command);
    Request { caller: NodeId(node).into(), ..request }
}

/// A request signed with the key of a number.
pub(crate) fn signed(number: u64, caller: &str, key: u8, deadline: u64, command: Command) -> Request {
    let mut request = unsigned(number, caller, deadline, command);
    request.signature = Some(sign(&secret(key), CLUSTER, INCARNATION, &request));
    request
}

/// Signs a request's statement.
pub(crate) fn sign(
    key: &SigningKey,
    cluster: ClusterId,
    incarnation: Incarnation,
    request: &Request,
) -> Signature {
    Signature(key.sign(&statement_bytes(cluster, incarnation, request)).to_bytes())
}

/// A statement's bytes, as the doc comment of `Statement::to_bytes` describes them.
pub(crate) fn statement_bytes(cluster: ClusterId, incarnation: Incarnation, request: &Request) -> Vec<u8> {
    let name = request.caller.person().unwrap().as_str();
    let command = postcard::to_stdvec(&request.command).unwrap();
    [
        b"haltline/v1/command\0".as_slice(),
        &cluster.0,
        &incarnation.0.to_be_bytes(),
        &request.id.0,
        &request.deadline.0.to_be_bytes(),
        &(name.len() as u64).to_be_bytes(),
        name.as_bytes(),
        &Sha256::digest(&command),
    ]
    .concat()
}

/// The n-th index of the log.
pub(crate) fn index(number: usize) -> LogIndex {
    LogIndex(number as u64)
}
