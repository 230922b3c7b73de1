//! What is revoked by id: a concurrent set sized for millions, which the feed adds to while decisions look things up.
//!
//! Why papaya: look-ups take no lock and write nothing that another core reads, additions don't stop them, and an entry
//! costs what its key costs. Only the ids are kept, 16 bytes each (with the kind mixed in), not when they end or why: an
//! end is an event of the log. A million takes about 60 MB; the same in a view's ordered map takes four times as much.
//!
//! What must stay true: an id is added before the view that knows of it is published, so whoever decides under that view
//! finds it.

use std::hash::{BuildHasher, Hasher, RandomState};

use haltline_core::{command::RevocationTarget, ids::KeyHash};

/// An id with its kind, in 16 bytes. Ids are random or hashes, so two kinds don't meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RevokedKey(u128);

impl RevokedKey {
    /// The key of a target; `None` for one that names its victims by a selector.
    pub(super) fn of(target: &RevocationTarget) -> Option<Self> {
        const KINDS: [u128; 4] = [
            0,
            0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834,
            0x1082_276b_f3a2_7251_f86c_6a11_d0c1_8e95,
            0x2767_f0b1_53d2_7b7f_0347_045b_5bf1_827f,
        ];
        let (kind, id) = match target {
            RevocationTarget::Credential(credential) => (0, credential.0),
            RevocationTarget::Grant(grant) => (1, grant.0),
            RevocationTarget::Instance(instance) => (2, instance.0),
            RevocationTarget::Key(key) => (3, first_half(key)),
            RevocationTarget::Terminated(_) => return None,
        };
        Some(Self(u128::from_be_bytes(id) ^ KINDS[kind]))
    }
}

/// Half of a SHA-256 is as hard to hit on purpose as any random id here.
fn first_half(key: &KeyHash) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&key.0[..16]);
    half
}

/// The ids that are revoked.
pub(super) struct Revocations {
    keys: papaya::HashMap<RevokedKey, (), Seeded>,
}

impl Revocations {
    /// None yet, with room for this many.
    pub(super) fn with_room_for(count: usize) -> Self {
        Self { keys: papaya::HashMap::with_capacity_and_hasher(count, Seeded::random()) }
    }

    pub(super) fn insert(&self, key: RevokedKey) {
        self.keys.pin().insert(key, ());
    }

    /// Adds all, under one guard.
    pub(super) fn extend(&self, keys: impl IntoIterator<Item = RevokedKey>) {
        let pinned = self.keys.pin();
        for key in keys {
            pinned.insert(key, ());
        }
    }

    pub(super) fn contains(&self, key: &RevokedKey) -> bool {
        self.keys.pin().contains_key(key)
    }

    pub(super) fn remove(&self, key: &RevokedKey) {
        self.keys.pin().remove(key);
    }

    /// The position of the first of these that is revoked.
    pub(super) fn first_of(&self, keys: &[RevokedKey]) -> Option<usize> {
        let pinned = self.keys.pin();
        keys.iter().position(|key| pinned.contains_key(key))
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// Hashes ids, which are random already, by one multiplication with a secret: nobody can choose ids that meet.
#[derive(Clone)]
struct Seeded {
    low: u64,
    high: u64,
}

impl Seeded {
    fn random() -> Self {
        let random = RandomState::new();
        Self { low: random.hash_one(0_u8), high: random.hash_one(1_u8) }
    }
}

impl BuildHasher for Seeded {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher { seed: self.clone(), hash: 0 }
    }
}

struct IdHasher {
    seed: Seeded,
    hash: u64,
}

impl Hasher for IdHasher {
    fn write_u128(&mut self, id: u128) {
        let low = id as u64 ^ self.seed.low;
        let high = (id >> 64) as u64 ^ self.seed.high;
        let product = u128::from(low) * u128::from(high | 1);
        self.hash = (product >> 64) as u64 ^ product as u64;
    }

    /// Only ids are hashed; whatever else came would be hashed as well as this allows.
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(16) {
            let mut id = [0; 16];
            id[..chunk.len()].copy_from_slice(chunk);
            let before = self.hash;
            self.write_u128(u128::from_le_bytes(id));
            self.hash ^= before.rotate_left(7);
        }
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use haltline_core::ids::{CredentialId, GrantId, InstanceId};

    use super::*;

    #[test]
    fn kinds_with_the_same_id_differ() {
        let id = [9; 16];
        let keys = [
            RevocationTarget::Credential(CredentialId(id)),
            RevocationTarget::Grant(GrantId(id)),
            RevocationTarget::Instance(InstanceId(id)),
            RevocationTarget::Key(KeyHash([9; 32])),
        ]
        .map(|target| RevokedKey::of(&target).expect("named by id"));
        let revocations = Revocations::with_room_for(0);
        revocations.insert(keys[1]);
        assert_eq!(revocations.first_of(&keys), Some(1));
        assert_eq!(revocations.first_of(&[keys[0], keys[2], keys[3]]), None);
        revocations.remove(&keys[1]);
        assert_eq!(revocations.first_of(&keys), None);
    }

    #[test]
    fn many_are_found_and_others_are_not() {
        let key = |number: u64| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            RevokedKey::of(&RevocationTarget::Grant(GrantId(id))).expect("named by id")
        };
        let revocations = Revocations::with_room_for(10);
        revocations.extend((0..10_000).map(key));
        assert_eq!(revocations.len(), 10_000);
        assert!((0..10_000).all(|number| revocations.first_of(&[key(number)]).is_some()));
        assert!((10_000..20_000).all(|number| revocations.first_of(&[key(number)]).is_none()));
    }
}
