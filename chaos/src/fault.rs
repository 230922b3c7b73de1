//! What goes wrong in a round. Faults come from a shuffled deck, so that every kind comes up equally often.

use haltline_testkit::rng::Rng;

/// One way to hurt a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// `kill -9` of the leader.
    LeaderKilled,
    /// `kill -9` of a follower.
    FollowerKilled,
    /// `kill -9` of every node at once, as in a power cut that spares the disks.
    AllKilled,
    /// The leader is frozen (SIGSTOP) until another leads, and then goes on believing.
    LeaderFrozen,
}

impl Fault {
    /// Every kind.
    pub(crate) const ALL: [Self; 4] =
        [Self::LeaderKilled, Self::FollowerKilled, Self::AllKilled, Self::LeaderFrozen];

    /// For people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::LeaderKilled => "leader killed",
            Self::FollowerKilled => "follower killed",
            Self::AllKilled => "all nodes killed",
            Self::LeaderFrozen => "leader frozen",
        }
    }
}

/// Faults without end, each kind once in every four.
#[derive(Debug)]
pub(crate) struct Deck {
    rng: Rng,
    cards: Vec<Fault>,
}

impl Deck {
    /// A deck shuffled by this generator.
    pub(crate) fn new(rng: Rng) -> Self {
        Self { rng, cards: Vec::new() }
    }

    /// The next fault.
    pub(crate) fn draw(&mut self) -> Fault {
        if self.cards.is_empty() {
            self.cards.extend(Fault::ALL);
        }
        let position = usize::try_from(self.rng.below(self.cards.len() as u64)).unwrap_or_default();
        self.cards.swap_remove(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_comes_up_once_in_four() {
        let mut deck = Deck::new(Rng::new(7));
        for _ in 0..100 {
            let drawn: BTreeSet<Fault> = (0..4).map(|_| deck.draw()).collect();
            assert_eq!(drawn.len(), 4);
        }
    }

    #[test]
    fn the_seed_decides() {
        let draw = |seed| {
            let mut deck = Deck::new(Rng::new(seed));
            (0..40).map(|_| deck.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
