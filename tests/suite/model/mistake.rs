//! The seeded mistakes *Lease* and *Tracker* of the verification design, and three more that building it showed.
//!
//! Each breaks a guarantee in some schedule, and the search must find one. A mistake is put into the model, around the real
//! code that it drives, never into that code: so there is nothing to switch off in what ships.

use super::scenario::{self, Scenario};

/// A mistake that somebody could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mistake {
    /// A lease counts from when the answer came, not from when the probe was sent.
    CountedFromReceipt,
    /// Fences are `L`.
    NoDriftMargin,
    /// Fences are `L(1+2ρ)`.
    DoubleDrift,
    /// A barrier is confirmed by heartbeats that were answered before it was asked for.
    BarrierFromOldAcks,
    /// A leader confirms barriers by its clock, for as long as nobody else should have been elected.
    LeaseReads,
    /// The fence is counted from the entry's stamp, not from when it was seen applied.
    FenceFromStamp,
    /// A lease survives its process.
    PersistedLease,
    /// An answer is matched by the probe's number in its process, not by its nonce.
    MatchedBySequence,
    /// The view's `L` alone counts, also where it was smaller when the lease was given.
    LoosenedLengthens,
    /// An answer is taken before the events that it speaks of.
    LeaseBeforeView,
    /// A node that starts reports clear at once.
    NoBootWait,
    /// A stream that closes is forgotten.
    ClosedForgotten,
    /// A stream's end is that of its last grant.
    ShorterGrantOverwrites,
    /// A grant is noted after it was sent.
    EndAfterSending,
    /// An acknowledgement counts for all streams of that name.
    AckOfAnother,
    /// An edge acknowledges while a decision under the older view is still on its way.
    AckBeforeDecisions,
    /// The leader serves barriers to a node that was removed.
    BarrierForRemoved,
    /// An answer that waited to be sent goes out although a later kill was reported clear.
    UnsentAfterClear,
    /// A relay forgets downstream streams that close.
    RelayForgets,
    /// A relay acknowledges as soon as it is up again.
    RelayAcksAfterRestart,
    /// A path that is added serves under a lease from before.
    PathAddedToLease,
    /// A member that was removed lately isn't waited for.
    FormerMemberForgotten,
    /// A relay answers an edge with what it had asked for before.
    RelayAnswersFromBefore,
}

/// Every mistake, with a world small enough to find it in at once.
pub(super) const ALL: &[(Mistake, Scenario)] = &[
    (Mistake::CountedFromReceipt, scenario::LEASES),
    (Mistake::NoDriftMargin, scenario::LEASES),
    (Mistake::DoubleDrift, scenario::LEASES),
    (Mistake::BarrierFromOldAcks, scenario::LEADERS),
    (Mistake::LeaseReads, scenario::LEADERS),
    (Mistake::FenceFromStamp, scenario::LEASES),
    (Mistake::PersistedLease, scenario::LEASES),
    (Mistake::MatchedBySequence, scenario::LEASES),
    (Mistake::LoosenedLengthens, scenario::STALENESS),
    (Mistake::LeaseBeforeView, scenario::LEASES),
    (Mistake::NoBootWait, scenario::RESTARTS),
    (Mistake::ClosedForgotten, scenario::STREAMS),
    (Mistake::ShorterGrantOverwrites, scenario::STALENESS),
    (Mistake::EndAfterSending, scenario::STREAMS),
    (Mistake::AckOfAnother, scenario::STREAMS),
    (Mistake::AckBeforeDecisions, scenario::DECISIONS),
    (Mistake::BarrierForRemoved, scenario::MEMBERS),
    (Mistake::UnsentAfterClear, scenario::STREAMS),
    (Mistake::RelayForgets, scenario::RELAY),
    (Mistake::RelayAcksAfterRestart, scenario::RELAY),
    (Mistake::PathAddedToLease, scenario::PATHS),
    (Mistake::FormerMemberForgotten, scenario::MEMBERS),
    (Mistake::RelayAnswersFromBefore, scenario::RELAY),
];
