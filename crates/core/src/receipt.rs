//! Kill receipts: a node's signed word that a kill is enforced, by which rule, and for whom it had to wait.
//!
//! A receipt is stored in the log and verified offline, for years. So its encoding is postcard's and only grows at the
//! end; every list in it is bounded, with a count of what didn't fit.

use serde::{Deserialize, Serialize};

use crate::{
    attest::{AttestError, opening, verify_by},
    command::{KillMode, Signature, canonical},
    ids::{ClusterId, EdgeName, Incarnation, KillId, LogIndex, NodeId, PersonId, PublicKey},
    lease::{Drift, bound},
    limits::{FORMER_MEMBERS_MAX, MAX_STALENESS_CEILING, NODES_MAX, RECEIPT_NAMES_MAX},
    selector::Selector,
    text::Reason,
    time::{Millis, Stamp, WallTime},
};

/// What made a kill surely enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EnforcedRule {
    /// Every enforcer that could have permitted said that it has the kill.
    Acked,
    /// For some, the time in which they could have permitted without it passed.
    Fenced,
}

/// Why an enforcer's lease was waited out instead of its word taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FencedWhy {
    /// Connected, but didn't acknowledge in time.
    Silent,
    /// No longer connected.
    Gone,
    /// A relay whose acknowledgements the operator doesn't take.
    Untrusted,
}

/// An enforcer that was waited out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fenced {
    /// Which.
    pub name: EdgeName,
    /// Why.
    pub why: FencedWhy,
}

/// How a node of the cluster came to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MemberClear {
    /// It reported that all its enforcers have the kill or can't permit.
    Clear,
    /// It couldn't be reached; the time in which its enforcers could have permitted passed.
    WaitedOut,
}

/// That a kill is enforced, and how that came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The kill.
    pub kill: KillId,
    /// What it stops.
    pub selector: Selector,
    /// How.
    pub mode: KillMode,
    /// Why it was placed.
    pub reason: Reason,
    /// Who placed it.
    pub by: PersonId,
    /// The log entry whose application was waited for: the kill's, or a later one by which all of it is in force.
    pub index: LogIndex,
    /// When the kill was placed, by the log.
    pub placed: Stamp,
    /// When the signer observed it committed, by its wall clock. For people.
    pub committed_wall: WallTime,
    /// When the signer observed it enforced, by its wall clock. For people.
    pub enforced_wall: WallTime,
    /// From observed committed to enforced, by the signer's monotonic clock, rounded up.
    pub took: Millis,
    /// What ended the wait.
    pub rule: EnforcedRule,
    /// `L(1+ρ)`: from so long after the commit no enforcer permitted without the kill, whatever the rest says.
    pub bound: Millis,
    /// The largest `max_staleness` that a lease touched by the kill could rest on.
    pub max_staleness: Millis,
    /// ρ in parts per million.
    pub drift_ppm: u32,
    /// Enforcers' streams that acknowledged.
    pub enforcers_acked: u64,
    /// Enforcers that were waited out: the first few by name.
    pub fenced: Vec<Fenced>,
    /// How many more were waited out.
    pub fenced_more: u64,
    /// Enforcers configured to fail open, which no bound holds: the first few by name.
    pub unbounded: Vec<EdgeName>,
    /// How many more fail open.
    pub unbounded_more: u64,
    /// The nodes that counted, in order, former members included.
    pub members: Vec<(NodeId, MemberClear)>,
    /// The node that signed.
    pub signer: NodeId,
}

/// Why a receipt isn't believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The signature or key.
    #[error(transparent)]
    Signature(#[from] AttestError),
    /// Fields that contradict one another.
    #[error("the receipt contradicts itself: {what}")]
    Contradiction {
        /// Which part.
        what: &'static str,
    },
    /// A list beyond its bound, or out of order.
    #[error("the receipt's list of {list} is too long, out of order, or names somebody twice")]
    List {
        /// Which list.
        list: &'static str,
    },
}

impl ReceiptError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Signature(error) => error.code(),
            Self::Contradiction { .. } => "RECEIPT_CONTRADICTION",
            Self::List { .. } => "RECEIPT_LIST",
        }
    }
}

impl Receipt {
    /// The bytes to sign: the domain, cluster and incarnation, then the canonical encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = opening(b"haltline/v1/receipt\0", self.cluster_id, self.incarnation);
        bytes.extend_from_slice(&self.canonical());
        bytes
    }

    /// The canonical encoding.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        canonical(self)
    }

    /// Whether the fields fit together and keep their bounds.
    ///
    /// # Errors
    /// The first that doesn't.
    pub fn check(&self) -> Result<(), ReceiptError> {
        let contradiction = |what| Err(ReceiptError::Contradiction { what });
        let Ok(drift) = Drift::from_ppm(self.drift_ppm) else { return contradiction("the clock drift") };
        if self.max_staleness > MAX_STALENESS_CEILING || self.bound != bound(self.max_staleness, drift) {
            return contradiction("the bound isn't the staleness with the drift");
        }
        if self.index < self.placed.index {
            return contradiction("enforced at an index before it was placed");
        }
        let in_order = |names: &[EdgeName]| names.windows(2).all(|pair| pair[0] < pair[1]);
        let fenced: Vec<EdgeName> = self.fenced.iter().map(|fenced| fenced.name.clone()).collect();
        if fenced.len() > RECEIPT_NAMES_MAX || !in_order(&fenced) {
            return Err(ReceiptError::List { list: "fenced enforcers" });
        }
        if self.unbounded.len() > RECEIPT_NAMES_MAX || !in_order(&self.unbounded) {
            return Err(ReceiptError::List { list: "unbounded enforcers" });
        }
        let members_fit = (1..=NODES_MAX + FORMER_MEMBERS_MAX).contains(&self.members.len());
        if !members_fit || self.members.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(ReceiptError::List { list: "members" });
        }
        let waited = !self.fenced.is_empty()
            || self.fenced_more > 0
            || self.members.iter().any(|(_, clear)| *clear == MemberClear::WaitedOut);
        if waited != (self.rule == EnforcedRule::Fenced) {
            return contradiction("the rule doesn't fit who was waited out");
        }
        Ok(())
    }
}

/// A receipt with its signer's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// The receipt.
    pub receipt: Receipt,
    /// The signer's, over [`Receipt::to_bytes`].
    pub signature: Signature,
}

impl SignedReceipt {
    /// Reads the canonical encoding of a signed receipt.
    ///
    /// # Errors
    /// [`ReceiptError::Contradiction`] if the bytes are no receipt, or one with something behind it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReceiptError> {
        match postcard::take_from_bytes::<Self>(bytes) {
            Ok((signed, [])) if signed.to_bytes() == bytes => Ok(signed),
            _ => {
                Err(ReceiptError::Contradiction { what: "the bytes aren't one receipt in its one encoding" })
            }
        }
    }

    /// The canonical encoding, signature included.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical(self)
    }

    /// Checks the signature with the keys of the signer's cluster, and that the receipt is sound.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn verify(&self, keys: impl Fn(NodeId) -> Option<PublicKey>) -> Result<(), ReceiptError> {
        verify_by(self.receipt.signer, &self.receipt.to_bytes(), &self.signature, keys)?;
        self.receipt.check()
    }
}

#[cfg(test)]
#[path = "receipt_test.rs"]
mod tests;
