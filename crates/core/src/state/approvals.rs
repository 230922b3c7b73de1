//! Commands that widen, and the people they need.
//!
//! A command that widens is rehearsed on a copy of the state, so that nobody is asked to agree to what can't be done, and
//! then waits until enough distinct people have signed the very same statement. When the last signature arrives
//! everything is judged again: who still holds the role and the key, how many are needed by now, and the command itself.

use super::{
    Due, Effects, State,
    change::ChangeKind,
    records::{PendingApproval, Signer},
};
use crate::{
    command::{Approve, Command, Request, Withdraw},
    ids::{ApprovalId, PersonId},
    rejection::{Action, Outcome, Pending, Rejection, Table, Widening},
    widens::{stops_left, widens},
};

impl State {
    /// Judges a request: authority, signature, and whether it takes more people; then carries it out or lets it wait.
    pub(super) fn judge(&mut self, request: &Request, effects: &mut Effects) -> Result<Outcome, Rejection> {
        if !request.caller.may_ask(&request.command) {
            return Err(request.caller_not_allowed());
        }
        if request.command.is_by_node() {
            return self.perform(request, effects);
        }
        let person = request.person()?.clone();
        if matches!(request.command, Command::Approve(_) | Command::Withdraw(_)) {
            return self.perform(request, effects);
        }
        // A kill narrows itself to what the caller may stop, so it judges its own authority.
        if !request.command.is_kill() {
            self.authorize(&person, &request.command)?;
        }
        let key = match &request.signature {
            Some(signature) => Some(self.verify(&person, signature, request)?),
            None => None,
        };
        let Some(widening) = widens(self, &request.command) else {
            return self.perform(request, effects);
        };
        let needed = self.people_needed(widening);
        if needed > 1 || key.is_none() {
            self.rehearse(request)?;
        }
        let key = key.ok_or(Rejection::SignatureRequired { person: person.clone(), widening })?;
        if needed <= 1 {
            return self.perform(request, effects);
        }
        let signed = effects.stamp.index;
        self.let_wait(request, Signer { person, key, signed }, needed, effects)
    }

    /// How many distinct people a widening takes.
    pub(crate) fn people_needed(&self, widening: Widening) -> u32 {
        match widening {
            _ if self.bootstrap => 1,
            Widening::KillLifted | Widening::LeavesKill => self.policy.approvals_to_resume,
            Widening::LimitRaised
            | Widening::IntentExtended
            | Widening::PersonEnrolled
            | Widening::RoleGranted
            | Widening::IdentityChanged
            | Widening::EdgeAdmitted
            | Widening::EdgeExtended
            | Widening::TrustChanged => self.policy.approvals_to_widen,
            // The operator's own signature suffices: what a credential allows was decided with its fleet.
            Widening::CredentialIssued => 1,
            // Or the smaller of the two counts would decide over the larger.
            Widening::FewerApprovals => self.policy.approvals_to_resume.max(self.policy.approvals_to_widen),
        }
    }

    /// Carries the command out on a copy, to learn whether it would be refused.
    fn rehearse(&self, request: &Request) -> Result<(), Rejection> {
        let mut effects = Effects { stamp: self.last, caller: None, events: Vec::new(), changes: Vec::new() };
        self.clone().perform(request, &mut effects).map(drop)
    }

    fn let_wait(
        &mut self,
        request: &Request,
        signer: Signer,
        needed: u32,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let of_caller =
            self.approvals.values().filter(|waiting| waiting.request.caller == request.caller).count();
        let bounds = self.bounds;
        if self.approvals.len() >= bounds.approvals || of_caller >= bounds.approvals_per_person {
            let advice = "withdraw some, approve some, or wait until they lapse".into();
            let is_callers = of_caller >= bounds.approvals_per_person;
            let max = if is_callers { bounds.approvals_per_person } else { bounds.approvals };
            return Err(Rejection::TableFull { table: Table::Approvals, max: max as u64, advice });
        }
        self.next_approval += 1;
        let approval = ApprovalId(self.next_approval);
        let deadline = request.deadline;
        let waiting = PendingApproval {
            request: request.clone(),
            needed,
            signers: vec![signer],
            created: effects.stamp,
        };
        self.approvals.insert(approval, waiting);
        self.derived.due.insert((deadline, Due::ApprovalLapses(approval)));
        effects.caller = Some(request.caller.clone());
        let command = request.command.name().into();
        effects.changed(ChangeKind::ApprovalRequested { approval, command, needed });
        Ok(Outcome::Pending(Pending { approval, needed, signed: 1, deadline }))
    }

    /// Adds a person's signature to a waiting command, and carries it out if that was the last one needed.
    pub(super) fn approve(
        &mut self,
        request: &Request,
        command: &Approve,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let (approval, person) = (command.approval, request.person()?);
        let unknown = Rejection::UnknownApproval { approval };
        let waiting = self.approvals.get(&approval).ok_or(unknown)?.clone();
        self.may_sign(person, &waiting)?;
        // Whose signature doesn't count any more, for another key or a kill placed since, may sign anew.
        if self.signers_that_count(&waiting).any(|signer| signer.person == *person) {
            return Err(Rejection::AlreadySigned { person: person.clone(), approval });
        }
        let widening = widens(self, &waiting.request.command);
        let signature = request.signature.ok_or_else(|| Rejection::SignatureRequired {
            person: person.clone(),
            widening: widening.unwrap_or(Widening::LeavesKill),
        })?;
        let key = self.verify(person, &signature, &waiting.request)?;

        let mut waiting = waiting;
        waiting.signers.retain(|signer| signer.person != *person);
        waiting.signers.push(Signer { person: person.clone(), key, signed: effects.stamp.index });
        waiting.needed = waiting.needed.max(widening.map_or(0, |widening| self.people_needed(widening)));
        let signed = self.valid_signers(&waiting);
        let needed = waiting.needed;
        effects.changed(ChangeKind::ApprovalSigned { approval, signed, needed });
        if signed < needed {
            let deadline = waiting.request.deadline;
            self.approvals.insert(approval, waiting);
            return Ok(Outcome::Pending(Pending { approval, needed, signed, deadline }));
        }
        self.forget_approval(approval);
        let outcome = self.carry_out(approval, &waiting.request, effects);
        effects.caller = Some(request.caller.clone());
        Ok(Outcome::Executed { approval, outcome: Box::new(outcome) })
    }

    fn carry_out(
        &mut self,
        approval: ApprovalId,
        request: &Request,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let outcome = request
            .person()
            .and_then(|person| self.authorize(person, &request.command))
            .and_then(|()| self.perform(request, effects));
        effects.changed(match &outcome {
            Ok(_) => ChangeKind::ApprovalExecuted { approval },
            Err(rejection) => ChangeKind::ApprovalRefused { approval, code: rejection.code().into() },
        });
        outcome
    }

    /// How many of those who signed still count.
    fn valid_signers(&self, waiting: &PendingApproval) -> u32 {
        u32::try_from(self.signers_that_count(waiting).count()).unwrap_or(u32::MAX)
    }

    /// Those who signed and are enrolled, with the same key and a role that reaches the command, and who knew of every kill
    /// that the command leads out of by now.
    fn signers_that_count<'a>(&'a self, waiting: &'a PendingApproval) -> impl Iterator<Item = &'a Signer> {
        let newest_stop = stops_left(self, &waiting.request.command).map(|stop| stop.placed).max();
        waiting.signers.iter().filter(move |signer| {
            let keeps_key =
                self.people.get(&signer.person).is_some_and(|person| person.signing_key == signer.key);
            let knew = newest_stop.is_none_or(|placed| signer.signed > placed);
            keeps_key && knew && self.may_sign(&signer.person, waiting).is_ok()
        })
    }

    /// Whether a person may sign a waiting command: as the one who asks for it, or as one who agrees.
    fn may_sign(&self, person: &PersonId, waiting: &PendingApproval) -> Result<(), Rejection> {
        let command = &waiting.request.command;
        if waiting.request.caller.person() == Some(person) {
            self.authorize(person, command)
        } else {
            self.may_approve(person, command)
        }
    }

    /// Turns a waiting command down: whoever asked for it, or whoever could approve it.
    pub(super) fn withdraw(
        &mut self,
        caller: &PersonId,
        command: &Withdraw,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let approval = command.approval;
        let waiting = self.approvals.get(&approval).ok_or(Rejection::UnknownApproval { approval })?;
        if waiting.request.caller.person() != Some(caller) {
            let (_, scopes) = self.reach(&waiting.request.command);
            scopes.iter().try_for_each(|scope| self.may(caller, Action::Withdraw, scope.as_ref()))?;
        }
        self.forget_approval(approval);
        effects.changed(ChangeKind::ApprovalWithdrawn { approval });
        Ok(Outcome::Withdrawn { approval })
    }

    fn forget_approval(&mut self, approval: ApprovalId) {
        if let Some(waiting) = self.approvals.remove(&approval) {
            self.derived.due.remove(&(waiting.request.deadline, Due::ApprovalLapses(approval)));
        }
    }
}
