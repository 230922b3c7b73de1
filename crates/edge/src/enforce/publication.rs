//! What every decision reads first: which view is in force, and until when it may permit. One consistent read, no lock,
//! no reference count, and nothing written that another core reads.
//!
//! Each publication has a number. Its few words stand in one of two slots, chosen by the number's last bit; the number is
//! stored after them, so whoever reads a number finds its words (or notices that they are gone). A decision
//!
//! 1. loads the number, and the words of its slot: **the one load of (view, lease)**;
//! 2. reads the clock: the permit's instant;
//! 3. looks whether the number is still the published one, and starts over if not.
//!
//! # Why nothing has to be waited for before a view is acknowledged
//! Design 02 lets an edge acknowledge a view once every decision that had loaded an older one has returned. Here a decision
//! under an older view that hasn't passed step 3 when the new view is published never returns a permit under the old one,
//! and one that has passed it read its clock before. So *when a publication has returned, no permit under an older view
//! has an instant later than that*, which is what the wait is for: a thread that is put to sleep between step 3 and its
//! caller's next line holds a permit from before, exactly as if it slept one line further on. (The processor may do the
//! load of step 3 some nanoseconds ahead of the clock read before it. An acknowledgement leaves by a system call and counts
//! when a node has received it, which is later by thousands of those.)
//!
//! # Why a torn read is noticed
//! Number p's slot is written again only for p + 2, after p + 1 was published and a release fence. A reader that saw any
//! word of p + 2 in it and then passes the acquire fence of step 3 therefore sees a number of at least p + 1, and starts
//! over.
//!
//! What must stay true: one writer at a time (the feed's lock), and a lease is written together with its view.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use haltline_core::{ids::LogIndex, lease::BootNanos};

/// Stands for "there is no lease": no clock gets there.
const NO_LEASE: u64 = u64::MAX;

/// The words of one publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Published {
    /// The generation of the view: counts what its changes touched.
    pub(super) generation: u64,
    /// From when on the lease counts, if there is one.
    pub(super) fresh_from: Option<BootNanos>,
    /// Cluster time less boot time, in nanoseconds: what makes one of the other.
    pub(super) cluster_ahead: i64,
    /// The view's index.
    pub(super) index: LogIndex,
}

/// What was read, and under which number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    number: u64,
    /// The words.
    pub(super) generation: u64,
    /// [`NO_LEASE`], or from when on the lease counts.
    fresh_from: u64,
    pub(super) cluster_ahead: i64,
    pub(super) index: LogIndex,
}

impl Reading {
    /// When a lease of this length ends, if `now` lies in it.
    #[inline]
    pub(super) fn lease_end(&self, staleness_nanos: u64, now: BootNanos) -> Option<u64> {
        let end = self.fresh_from.saturating_add(staleness_nanos);
        (self.fresh_from <= now.0 && now.0 < end).then_some(end)
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: AtomicU64,
    fresh_from: AtomicU64,
    cluster_ahead: AtomicU64,
    index: AtomicU64,
}

/// The place that everybody reads and the feed writes. On cache lines of its own: it is the only thing that all cores share.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Publication {
    number: AtomicU64,
    slots: [Slot; 2],
}

impl Publication {
    /// With these words published.
    pub(super) fn new(first: &Published) -> Self {
        let publication = Self::default();
        publication.publish(first);
        publication
    }

    /// Publishes. One caller at a time.
    pub(super) fn publish(&self, published: &Published) {
        let number = self.number.load(Ordering::Relaxed).wrapping_add(1);
        let slot = &self.slots[(number & 1) as usize];
        fence(Ordering::Release);
        slot.generation.store(published.generation, Ordering::Relaxed);
        let fresh_from = published.fresh_from.map_or(NO_LEASE, |from| from.0);
        slot.fresh_from.store(fresh_from, Ordering::Relaxed);
        slot.cluster_ahead.store(published.cluster_ahead as u64, Ordering::Relaxed);
        slot.index.store(published.index.0, Ordering::Relaxed);
        self.number.store(number, Ordering::Release);
        // So that every core sees the number by the time this returns, not only some time later.
        fence(Ordering::SeqCst);
    }

    /// What is published. To be believed only if [`Self::is_still`] says so afterwards.
    #[inline]
    pub(super) fn load(&self) -> Reading {
        let number = self.number.load(Ordering::Acquire);
        let slot = &self.slots[(number & 1) as usize];
        Reading {
            number,
            generation: slot.generation.load(Ordering::Relaxed),
            fresh_from: slot.fresh_from.load(Ordering::Relaxed),
            cluster_ahead: slot.cluster_ahead.load(Ordering::Relaxed) as i64,
            index: LogIndex(slot.index.load(Ordering::Relaxed)),
        }
    }

    /// Whether what was read was whole, and is still what is published.
    #[inline]
    pub(super) fn is_still(&self, reading: &Reading) -> bool {
        fence(Ordering::Acquire);
        self.number.load(Ordering::Relaxed) == reading.number
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicBool},
        thread,
    };

    use super::*;
    use crate::enforce::clock::{BootClock, Clock as _};

    fn published(number: u64) -> Published {
        Published {
            generation: number,
            fresh_from: Some(BootNanos(number.wrapping_mul(3))),
            cluster_ahead: -(number as i64),
            index: LogIndex(number.wrapping_mul(7)),
        }
    }

    #[test]
    fn what_is_published_is_read() {
        let publication = Publication::new(&published(4));
        let reading = publication.load();
        assert_eq!((reading.generation, reading.cluster_ahead, reading.index), (4, -4, LogIndex(28)));
        assert!(publication.is_still(&reading));
        publication.publish(&published(5));
        assert!(!publication.is_still(&reading));
    }

    #[test]
    fn without_a_lease_no_instant_lies_in_it() {
        let none = Published { fresh_from: None, ..published(1) };
        let reading = Publication::new(&none).load();
        for now in [0, 1, u64::MAX - 1, u64::MAX] {
            assert_eq!(reading.lease_end(u64::MAX, BootNanos(now)), None);
        }
        let reading = Publication::new(&published(10)).load();
        let lease_end = |now| reading.lease_end(5, BootNanos(now));
        assert_eq!([29, 30, 34, 35].map(lease_end), [None, Some(35), Some(35), None]);
    }

    /// Readers never believe a mixture of two publications, and never one that was replaced before their instant.
    #[test]
    fn readers_agree_with_the_writer_under_stress() {
        const ROUNDS: u64 = 30_000;
        // What a processor may do out of order between two reads, many times over.
        const OUT_OF_ORDER_NANOS: u64 = 1_000;
        let publication = Arc::new(Publication::new(&published(1)));
        // When each publication had returned: an instant under an older one must not be later.
        let returned: Arc<Vec<AtomicU64>> =
            Arc::new((0..ROUNDS + 2).map(|_| AtomicU64::new(u64::MAX)).collect());
        let is_over = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (publication, is_over) = (Arc::clone(&publication), Arc::clone(&is_over));
                thread::spawn(move || {
                    let mut believed: Vec<(u64, u64)> = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        let reading = publication.load();
                        let now = BootClock.now();
                        if publication.is_still(&reading) {
                            let number = reading.generation;
                            assert_eq!(reading.index, LogIndex(number * 7));
                            assert_eq!(reading.cluster_ahead, -(number as i64));
                            assert_eq!(reading.fresh_from, number * 3);
                            if believed.last().is_none_or(|(last, _)| *last != number) {
                                believed.push((number, now.0));
                            } else if let Some(last) = believed.last_mut() {
                                last.1 = now.0;
                            }
                        }
                    }
                    believed
                })
            })
            .collect();
        for number in 2..ROUNDS {
            publication.publish(&published(number));
            returned[number as usize].store(BootClock.now().0, Ordering::SeqCst);
            if number % 64 == 0 {
                thread::yield_now();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let mut seen = 0;
        for reader in readers {
            for (number, instant) in reader.join().expect("no reader panics") {
                let replaced = returned[number as usize + 1].load(Ordering::SeqCst);
                assert!(
                    instant <= replaced.saturating_add(OUT_OF_ORDER_NANOS),
                    "an instant under {number} after {} had been published",
                    number + 1
                );
                seen += 1;
            }
        }
        assert!(seen > 3, "the readers saw {seen} publications: nothing was exercised");
    }
}
