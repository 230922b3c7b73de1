//! What a session has found out about names that it may use: tools, models, resources, data classes. Looked at by every
//! decision, without a lock, and never longer than its bound. Names that it may not use aren't kept.
//!
//! Names come in the order in which they are first used and stay; a judgement is replaced in place when the view changes.
//! An agent that uses ever new names fills its own session's table and nobody else's: those that find no place are judged
//! anew each time, which takes microseconds instead of nanoseconds.
//!
//! What must stay true: a judgement counts only for views from the generation that it was made under on, and only until
//! the session is touched (the caller knows when that was).

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use haltline_core::limits::NAMES_REMEMBERED_MAX;

/// Names in one piece of the table; most sessions need one piece.
const CHUNK: usize = 8;

/// What was found out about a name, whatever action it is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judgement {
    /// The shapes of those rules that don't mind the name, or look for it: see [`shapes_with`].
    pub(super) shapes: u8,
}

/// The shape of a rule says which parts of an action it looks at: bit 0 the tool, bit 1 the model, bit 2 the resource. A set
/// of shapes has a bit for each of them. This is the set of those that look at a part, by its place in
/// [`super::policy::LISTS`].
///
/// A rule stops an action only if its shape is in the set of every part. So a rule that looks at one part is never
/// mistaken; of those that look at several, two together may look like one that isn't there, and then somebody looks
/// closely.
pub(super) const fn shapes_with(place: usize) -> u8 {
    [0b1010_1010, 0b1100_1100, 0b1111_0000, 0][place]
}

/// All shapes but the one that looks at nothing.
pub(super) const ALL_SHAPES: u8 = 0b1111_1110;

impl Judgement {
    const fn bits(self) -> u64 {
        // The ninth bit tells a judgement from none.
        1 << 8 | self.shapes as u64
    }

    const fn of_bits(bits: u64) -> Option<Self> {
        if bits & 1 << 8 == 0 { None } else { Some(Self { shapes: bits as u8 }) }
    }
}

/// Bits of a word below the generation.
const BITS: u32 = 9;

/// A name, in place if it is short, as names of tools are: one place in memory less to fetch.
#[derive(Debug)]
enum Name {
    Short { length: u8, bytes: [u8; Self::SHORT_MAX] },
    Long(Box<str>),
}

impl Name {
    const SHORT_MAX: usize = 22;

    fn new(name: &str) -> Self {
        let mut bytes = [0; Self::SHORT_MAX];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(name.as_bytes());
                Self::Short { length, bytes }
            }
            _ => Self::Long(name.into()),
        }
    }

    #[inline]
    fn is(&self, name: &str) -> bool {
        match self {
            Self::Short { length, bytes } => bytes[..usize::from(*length)] == *name.as_bytes(),
            Self::Long(long) => **long == *name,
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    name: OnceLock<Name>,
    /// The generation that the name was judged under, and the judgement; zero before there is one.
    word: AtomicU64,
}

#[derive(Debug, Default)]
struct Chunk {
    slots: [Slot; CHUNK],
    next: OnceLock<Box<Chunk>>,
}

/// Names of one kind with their judgements.
#[derive(Debug, Default)]
pub(super) struct NameMemo {
    first: OnceLock<Box<Chunk>>,
}

/// Where to begin to look for a name in each chunk: by its length and last byte, which differ where beginnings agree.
fn start(name: &str) -> usize {
    let last = name.as_bytes().last().copied().unwrap_or(0);
    name.len().wrapping_add(usize::from(last))
}

impl NameMemo {
    /// The judgement on a name that counts between these generations, both included.
    #[inline]
    pub(super) fn get(&self, name: &str, from: u64, to: u64) -> Option<Judgement> {
        let start = start(name);
        let mut chunk = self.first.get()?;
        loop {
            for step in 0..CHUNK {
                let slot = &chunk.slots[(start + step) % CHUNK];
                let known = slot.name.get()?;
                if known.is(name) {
                    let word = slot.word.load(Ordering::Acquire);
                    let generation = word >> BITS;
                    let counts = from <= generation && generation <= to;
                    return if counts { Judgement::of_bits(word) } else { None };
                }
            }
            chunk = chunk.next.get()?;
        }
    }

    /// Keeps a judgement that was made under a view of this generation, if there is room.
    pub(super) fn put(&self, name: &str, generation: u64, judgement: Judgement) {
        let word = generation << BITS | judgement.bits();
        let start = start(name);
        let mut chunk = self.first.get_or_init(Box::default);
        for _ in 0..NAMES_REMEMBERED_MAX / CHUNK {
            for step in 0..CHUNK {
                let slot = &chunk.slots[(start + step) % CHUNK];
                if slot.name.get_or_init(|| Name::new(name)).is(name) {
                    // The later view's judgement stays, whoever comes last.
                    slot.word.fetch_max(word, Ordering::AcqRel);
                    return;
                }
            }
            chunk = chunk.next.get_or_init(Box::default);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COVERED: Judgement = Judgement { shapes: 0 };
    const STOPPED: Judgement = Judgement { shapes: 0b10 };

    #[test]
    fn a_judgement_counts_from_its_view_on_until_the_session_is_touched() {
        let memo = NameMemo::default();
        assert_eq!(memo.get("read", 0, 9), None);
        memo.put("read", 5, COVERED);
        assert_eq!(memo.get("read", 5, 5), Some(COVERED));
        assert_eq!(memo.get("read", 3, 8), Some(COVERED));
        assert_eq!(memo.get("read", 6, 8), None);
        assert_eq!(memo.get("read", 3, 4), None);
        assert_eq!(memo.get("reads", 3, 8), None);
    }

    #[test]
    fn a_later_judgement_replaces_an_earlier_one_and_not_the_reverse() {
        let memo = NameMemo::default();
        memo.put("read", 5, COVERED);
        memo.put("read", 6, STOPPED);
        memo.put("read", 5, COVERED);
        assert_eq!(memo.get("read", 6, 6), Some(STOPPED));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_came_first() {
        let memo = NameMemo::default();
        let name = |number: usize| format!("tool-{number}");
        for number in 0..10 * NAMES_REMEMBERED_MAX {
            memo.put(&name(number), 1, COVERED);
        }
        let known = (0..10 * NAMES_REMEMBERED_MAX).filter(|number| memo.get(&name(*number), 1, 1).is_some());
        assert_eq!(known.count(), NAMES_REMEMBERED_MAX);
        assert_eq!(memo.get(&name(0), 1, 1), Some(COVERED));
    }

    #[test]
    fn names_of_any_length_are_told_apart() {
        let memo = NameMemo::default();
        let names: Vec<String> = (0..30).map(|length| "n".repeat(length)).collect();
        names.iter().for_each(|name| memo.put(name, 1, COVERED));
        assert!(names.iter().all(|name| memo.get(name, 1, 1) == Some(COVERED)));
        assert_eq!(memo.get(&"n".repeat(30), 1, 1), None);
        assert_eq!(memo.get("n\0", 1, 1), None);
    }

    #[test]
    fn threads_agree_on_one_place_for_a_name() {
        let memo = NameMemo::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..NAMES_REMEMBERED_MAX {
                        memo.put(&format!("tool-{number}"), 1, COVERED);
                    }
                });
            }
        });
        for number in 0..NAMES_REMEMBERED_MAX {
            assert_eq!(memo.get(&format!("tool-{number}"), 1, 1), Some(COVERED), "tool-{number}");
        }
    }
}
