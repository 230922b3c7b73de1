//! Short names for whatever a change of the view can touch: a path, an id, everything.
//!
//! A tag is a hash of 32 bits. Two things that share one by chance cost a look that wasn't needed, never a wrong verdict:
//! tags only say where to look, and what is found there is compared in full.

use haltline_core::{
    command::RevocationTarget,
    ids::{GrantId, InstanceId},
};

/// What something touches, or is touched by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Tag(u32);

impl Tag {
    /// Touches every session.
    pub(super) const EVERYTHING: Self = Self(0);
    /// Where rules stand that name nobody, only what is done, and that by patterns.
    pub(super) const SOME_ACTIONS: Self = Self(1);

    /// A fleet or an agent; they share one space of names.
    pub(super) fn path(path: &str) -> Self {
        Self::of(b'p', &[path.as_bytes()])
    }

    /// A grant, and whatever descends from it.
    pub(super) fn grant(grant: &GrantId) -> Self {
        Self::of(b'g', &[&grant.0])
    }

    /// A running copy.
    pub(super) fn instance(instance: &InstanceId) -> Self {
        Self::of(b'i', &[&instance.0])
    }

    /// Whoever carries a label.
    pub(super) fn label(key: &str, value: &str) -> Self {
        Self::of(b'l', &[key.as_bytes(), b"=", value.as_bytes()])
    }

    /// Whatever is done with a tool, a model, a resource of this name: `place` is that of its list in
    /// [`super::policy::LISTS`].
    pub(super) fn name(place: usize, name: &str) -> Self {
        Self::of(b'0' + place as u8, &[name.as_bytes()])
    }

    /// What a revocation ends; `None` where a selector says it.
    pub(super) fn revoked(target: &RevocationTarget) -> Option<Self> {
        match target {
            RevocationTarget::Credential(credential) => Some(Self::of(b'c', &[&credential.0])),
            RevocationTarget::Grant(grant) => Some(Self::grant(grant)),
            RevocationTarget::Instance(instance) => Some(Self::instance(instance)),
            RevocationTarget::Key(key) => Some(Self::of(b'k', &[&key.0])),
            RevocationTarget::Terminated(_) => None,
        }
    }

    /// A number that is as good as random, the same for the same tag.
    pub(super) const fn spread(self) -> usize {
        self.0 as usize
    }

    /// FNV-1a over 64 bits, folded to 32, and none of those that mean something else.
    fn of(kind: u8, parts: &[&[u8]]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let seed = step(0xcbf2_9ce4_8422_2325, &kind);
        let hash = parts.iter().flat_map(|part| part.iter()).fold(seed, step);
        let folded = (hash >> 32) as u32 ^ hash as u32;
        Self(folded.max(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_things_have_different_tags() {
        let id = [7; 16];
        let tags = [
            Tag::EVERYTHING,
            Tag::path("acme"),
            Tag::path("acme/x"),
            Tag::grant(&GrantId(id)),
            Tag::instance(&InstanceId(id)),
            Tag::label("a", "b"),
            Tag::name(0, "acme"),
            Tag::name(1, "acme"),
        ];
        for (at, tag) in tags.iter().enumerate() {
            assert!(!tags[at + 1..].contains(tag), "{tag:?}");
        }
        assert_eq!(Tag::revoked(&RevocationTarget::Grant(GrantId(id))), Some(Tag::grant(&GrantId(id))));
    }
}
