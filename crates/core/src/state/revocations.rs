//! Revocations: what is ended for good, kept until nothing that it could hit is still valid; a key's, for ever.

use super::{Due, Effects, State, change::ChangeKind, kills::revocation_lifetime, records::Revocation};
use crate::{
    command::{RevocationTarget, Revoke},
    event::EnforcementEvent,
    ids::PersonId,
    limits::LEASE_MAX,
    rejection::{Outcome, Rejection, Table},
    time::ClusterTime,
};

impl State {
    /// Revokes; again, it keeps the revocation for longer.
    pub(super) fn revoke(
        &mut self,
        caller: &PersonId,
        command: &Revoke,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        if matches!(command.target, RevocationTarget::Terminated(_)) {
            return Err(Rejection::RevocationByMachineOnly);
        }
        let is_new = !self.revocations.contains_key(&command.target);
        if is_new && self.revocations.len() >= self.bounds.revocations {
            let advice =
                "end a whole fleet's credentials with `haltline kill fleet PATH --mode terminate`".into();
            return Err(Rejection::TableFull {
                table: Table::Revocations,
                max: self.bounds.revocations as u64,
                advice,
            });
        }
        let ends = match command.target {
            // What a key could sign doesn't end: whoever holds it can sign anew.
            RevocationTarget::Key(_) => ClusterTime::NEVER,
            RevocationTarget::Credential(_)
            | RevocationTarget::Grant(_)
            | RevocationTarget::Instance(_)
            | RevocationTarget::Terminated(_) => match self.last_end(&command.target) {
                Some(end) => end.plus(LEASE_MAX),
                None => effects.stamp.cluster_time.plus(revocation_lifetime()),
            },
        };
        let revocation = Revocation {
            reason: command.reason.clone(),
            by: caller.clone(),
            placed: effects.stamp,
            ends,
            issued_before: None,
        };
        self.store_revocation(command.target.clone(), revocation, effects);
        Ok(Outcome::Revoked { ends })
    }

    pub(super) fn store_revocation(
        &mut self,
        target: RevocationTarget,
        revocation: Revocation,
        effects: &mut Effects,
    ) {
        let (ends, reason) = (revocation.ends, revocation.reason.clone());
        let issued_before = revocation.issued_before.clone();
        if let Some(earlier) = self.revocations.insert(target.clone(), revocation) {
            self.derived.due.remove(&(earlier.ends, Due::RevocationEnds(target.clone())));
        }
        self.derived.due.insert((ends, Due::RevocationEnds(target.clone())));
        self.emit(EnforcementEvent::Revoked { target: target.clone(), issued_before, ends }, effects);
        effects.changed(ChangeKind::Revoked { target, reason });
    }
}
