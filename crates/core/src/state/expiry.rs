//! What happens by itself when cluster time passes: drains end, kills expire, revocations end, ids are forgotten.
//!
//! It happens when an entry is applied whose stamp has reached the time, never by anybody's own clock.

use super::{Due, Effects, State, change::ChangeKind};
use crate::{
    command::KillMode,
    event::{EnforcementEvent, KillForce},
    ids::{ApprovalId, KillId},
    limits::KILL_EXPIRY_RETRY,
};

impl State {
    /// Lets everything happen that is due by now, in the order of its times.
    pub(super) fn let_time_pass(&mut self, effects: &mut Effects) {
        let now = self.last.cluster_time;
        while let Some((time, due)) = self.derived.due.get_min().cloned()
            && time <= now
        {
            self.derived.due.remove(&(time, due.clone()));
            match due {
                Due::DrainEnds(kill) => self.end_drain(kill, effects),
                Due::KillExpires(kill) => self.expire(kill, effects),
                Due::RevocationEnds(target) => {
                    self.revocations.remove(&target);
                    effects.changed(ChangeKind::RevocationEnded { target: target.clone() });
                    self.emit(EnforcementEvent::RevocationEnded { target }, effects);
                }
                Due::ApprovalLapses(approval) => self.lapse(approval, effects),
                Due::JoinTokenExpires(token) => self.expire_join_token(token, effects),
                Due::StalenessForgotten(fleet) => self.forget_staleness(&fleet),
                Due::CredentialEnds(credential) => self.end_credential(credential),
                Due::RequestForgotten(id, caller) => self.forget(id, caller),
            }
        }
    }

    fn end_drain(&mut self, id: KillId, effects: &mut Effects) {
        if let Some(kill) = self.kills.get_mut(&id) {
            kill.mode = KillMode::Freeze;
            kill.drain_ends = None;
            kill.denies_from = Some(effects.stamp.index);
            let selector = kill.selector.clone();
            self.emit(EnforcementEvent::KillSet { kill: id, selector, force: KillForce::Denying }, effects);
            effects.changed(ChangeKind::DrainEnded { kill: id });
        }
    }

    /// Lifts a kill at its own time. A terminating one stays for as long as there is no room to keep what it ended.
    fn expire(&mut self, id: KillId, effects: &mut Effects) {
        let retry = effects.stamp.cluster_time.plus(KILL_EXPIRY_RETRY);
        if self.leaves_room_to_lift(id).is_err()
            && let Some(kill) = self.kills.get_mut(&id)
        {
            kill.expires = Some(retry);
            self.derived.due.insert((retry, Due::KillExpires(id)));
            return;
        }
        self.lift(id, None, effects);
    }

    fn lapse(&mut self, approval: ApprovalId, effects: &mut Effects) {
        if self.approvals.remove(&approval).is_some() {
            effects.changed(ChangeKind::ApprovalLapsed { approval });
        }
    }
}
