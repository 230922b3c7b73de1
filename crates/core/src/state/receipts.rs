//! Receipts of kills: a node's signed word that a kill is enforced, kept for whoever asks later.
//!
//! The machine checks that the word is the node's own and about this very kill; that it is true is the node's to know.

use super::{Effects, State, change::ChangeKind, records::Kill};
use crate::{
    ids::{KillId, NodeId},
    receipt::{Receipt, SignedReceipt},
    rejection::{Outcome, ReceiptFault, Rejection},
};

impl State {
    /// Keeps the first receipt of a kill that a node presents.
    pub(super) fn record_receipt(
        &mut self,
        node: NodeId,
        signed: &SignedReceipt,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let receipt = &signed.receipt;
        let kill = receipt.kill;
        let fault = |fault| Err(Rejection::BadReceipt { kill, fault });
        if receipt.signer != node {
            return fault(ReceiptFault::OtherSigner);
        }
        let known = self.kills.get(&kill).or_else(|| self.lifted.get(&kill).map(|lifted| &lifted.kill));
        let known = known.ok_or(Rejection::UnknownKill { kill })?;
        if !self.is_about(receipt, known) {
            return fault(ReceiptFault::OtherKill);
        }
        if signed.verify(|node| self.nodes.get(&node).map(|node| node.signing_key)).is_err() {
            return fault(ReceiptFault::NotSound);
        }
        if self.receipts.contains_key(&kill) {
            return Err(Rejection::ReceiptExists { kill });
        }
        if self.receipts.len() >= self.bounds.receipts {
            // Those of kills in force stay: they would be proven again. So at most the table of kills comes on top.
            let lifted = self.receipts.keys().find(|kill| !self.kills.contains_key(*kill)).copied();
            lifted.map(|kill| self.receipts.remove(&kill));
        }
        self.receipts.insert(kill, signed.clone());
        effects.changed(ChangeKind::ReceiptRecorded { kill, rule: receipt.rule });
        Ok(Outcome::ReceiptRecorded { kill })
    }

    fn is_about(&self, receipt: &Receipt, kill: &Kill) -> bool {
        let is_here = self.cluster.as_ref().is_some_and(|cluster| {
            (cluster.id, cluster.incarnation) == (receipt.cluster_id, receipt.incarnation)
        });
        is_here
            && receipt.mode == kill.mode
            && receipt.selector == kill.selector
            && receipt.reason == kill.reason
            && receipt.by == kill.by
            && receipt.placed == kill.placed
            // What was acknowledged of a drain says nothing of the freeze that it ends in.
            && kill.denies_from.is_some_and(|from| (from..=self.last.index).contains(&receipt.index))
    }

    /// The receipts of the kills in force, and of those that were lifted lately: [`crate::limits::RECEIPTS_MAX`] of them all,
    /// unless more kills are in force.
    #[must_use]
    pub fn receipts(&self) -> &imbl::OrdMap<KillId, SignedReceipt> {
        &self.receipts
    }
}
