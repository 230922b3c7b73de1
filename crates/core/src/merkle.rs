//! Merkle trees over the nonces of one read barrier, so that one signature answers ten thousand probes.
//!
//! The construction is Roughtime's (RFC 10049): SHA-256 with a leading 0x00 for leaves and 0x01 for inner nodes, leaves
//! counted from the left, and in a path a sibling for every level. Roughtime leaves open what pairs with the last node of
//! an odd level; here it is that node itself, so a path's length follows from the number of leaves, and a verifier takes
//! no other. A leaf binds the nonce to the name of whoever sent it: a proof is of no use to anybody else.

use sha2::{Digest as _, Sha256};

use crate::{
    ids::{Digest, Nonce},
    limits::MERKLE_LEAVES_MAX,
};

/// The leaf of one probe: SHA-256(0x00 ‖ nonce ‖ name). The nonce has a fixed length, so no two pairs share a leaf.
#[must_use]
pub fn leaf(nonce: &Nonce, name: &str) -> Digest {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(nonce.0);
    hash.update(name.as_bytes());
    Digest(hash.finalize().into())
}

fn parent(left: &Digest, right: &Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left.0);
    hash.update(right.0);
    Digest(hash.finalize().into())
}

/// Why no tree could be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// Nothing to prove.
    #[error("a tree needs at least one leaf")]
    Empty,
    /// More leaves than one answer may serve.
    #[error(
        "{got} leaves in one tree; at most {MERKLE_LEAVES_MAX} are allowed, so answer in several batches"
    )]
    TooManyLeaves {
        /// How many came.
        got: usize,
    },
}

/// A tree with all its levels, from which every leaf's path is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerkleTree {
    /// Leaves first, root last; no level is empty, and the last has one node.
    levels: Vec<Vec<Digest>>,
}

impl MerkleTree {
    /// Builds the tree over leaves in this order. About one hash per leaf.
    ///
    /// # Errors
    /// [`MerkleError`] without leaves, or with more than [`MERKLE_LEAVES_MAX`].
    pub fn build(leaves: Vec<Digest>) -> Result<Self, MerkleError> {
        if leaves.is_empty() {
            return Err(MerkleError::Empty);
        }
        if leaves.len() > MERKLE_LEAVES_MAX {
            return Err(MerkleError::TooManyLeaves { got: leaves.len() });
        }
        let mut levels = Vec::new();
        let mut level = leaves;
        while level.len() > 1 {
            let above =
                level.chunks(2).map(|pair| parent(&pair[0], pair.last().unwrap_or(&pair[0]))).collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        levels.push(level);
        Ok(Self { levels })
    }

    /// The root: what is signed, or a relay's nonce.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.levels[self.levels.len() - 1][0]
    }

    /// How many leaves there are.
    #[must_use]
    pub fn leaves(&self) -> u32 {
        u32::try_from(self.levels[0].len()).expect("build refuses more leaves than MERKLE_LEAVES_MAX")
    }

    /// The siblings from a leaf up to below the root; none for a leaf that isn't there.
    #[must_use]
    pub fn path(&self, position: u32) -> Option<Vec<Digest>> {
        let mut at = position as usize;
        if at >= self.levels[0].len() {
            return None;
        }
        let below_root = &self.levels[..self.levels.len() - 1];
        let siblings = below_root.iter().map(|level| {
            let sibling = *level.get(at ^ 1).unwrap_or(&level[at]);
            at >>= 1;
            sibling
        });
        Some(siblings.collect())
    }
}

/// How many siblings the path of a leaf has in a tree of so many leaves.
#[must_use]
pub fn path_length(leaves: u32) -> usize {
    leaves.max(1).next_power_of_two().trailing_zeros() as usize
}

/// The root that a path leads to; none if it doesn't fit a tree of so many leaves.
#[must_use]
pub fn root_from_path(leaf: Digest, position: u32, leaves: u32, path: &[Digest]) -> Option<Digest> {
    let fits = position < leaves && leaves as usize <= MERKLE_LEAVES_MAX && path.len() == path_length(leaves);
    if !fits {
        return None;
    }
    let mut width = leaves;
    let mut at = position;
    let mut node = leaf;
    for sibling in path {
        let is_unpaired = at == width - 1 && at.is_multiple_of(2);
        if is_unpaired && *sibling != node {
            return None;
        }
        node = if at.is_multiple_of(2) { parent(&node, sibling) } else { parent(sibling, &node) };
        at /= 2;
        width = width.div_ceil(2);
    }
    Some(node)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn leaves(count: u32) -> Vec<Digest> {
        (0..count).map(|number| leaf(&Nonce([number as u8; 32]), &format!("edge-{number}"))).collect()
    }

    #[test]
    fn every_leaf_of_every_small_tree_proves_itself_and_nothing_else() {
        for count in 1..=33 {
            let leaves = leaves(count);
            let tree = MerkleTree::build(leaves.clone()).unwrap();
            for position in 0..count {
                let path = tree.path(position).unwrap();
                let root = |leaf, at, of| root_from_path(leaf, at, of, &path);
                assert_eq!(root(leaves[position as usize], position, count), Some(tree.root()));
                for other in (0..count).filter(|other| *other != position) {
                    assert_ne!(root(leaves[other as usize], position, count), Some(tree.root()));
                    assert_ne!(root(leaves[position as usize], other, count), Some(tree.root()));
                }
            }
            assert_eq!(tree.path(count), None);
        }
    }

    #[test]
    fn paths_of_another_length_prove_nothing() {
        let tree = MerkleTree::build(leaves(5)).unwrap();
        let (first, path) = (leaves(5)[0], tree.path(0).unwrap());
        assert_eq!(path.len(), 3);
        assert_eq!(root_from_path(first, 0, 5, &path[..2]), None);
        assert_eq!(root_from_path(first, 0, 5, &[path.clone(), vec![tree.root()]].concat()), None);
        assert_eq!(root_from_path(first, 0, 0, &path), None);
        assert_eq!(root_from_path(first, 0, u32::MAX, &path), None);
    }

    #[test]
    fn the_last_node_of_an_odd_level_pairs_with_itself_only() {
        let tree = MerkleTree::build(leaves(3)).unwrap();
        let mut path = tree.path(2).unwrap();
        assert_eq!(path[0], leaves(3)[2]);
        path[0] = leaves(3)[1];
        assert_eq!(root_from_path(leaves(3)[2], 2, 3, &path), None);
    }

    #[test]
    fn a_leaf_is_no_inner_node_and_a_single_leaf_is_the_root() {
        let two = MerkleTree::build(leaves(2)).unwrap();
        let one = MerkleTree::build(leaves(1)).unwrap();
        assert_eq!(one.root(), leaves(1)[0]);
        assert_eq!(one.path(0), Some(vec![]));
        let inner = [leaves(2)[0].0, leaves(2)[1].0].concat();
        let as_leaf: [u8; 32] = Sha256::digest([&[0_u8][..], &inner].concat()).into();
        assert_ne!(two.root().0, as_leaf);
    }

    #[test]
    fn trees_have_a_bound_and_need_a_leaf() {
        assert_eq!(MerkleTree::build(vec![]), Err(MerkleError::Empty));
        let many = vec![Digest([0; 32]); MERKLE_LEAVES_MAX + 1];
        assert_eq!(MerkleTree::build(many), Err(MerkleError::TooManyLeaves { got: MERKLE_LEAVES_MAX + 1 }));
    }
}
