//! Who may ask, who must agree: the reference.

use ed25519_dalek::VerifyingKey;
use haltline_core::{
    command::{Caller, Command, Request, Role, Signature},
    ids::{ApprovalId, PersonId, PublicKey},
    limits::PENDING_APPROVALS_PER_PERSON_MAX,
    rejection::{Outcome, Pending},
    state::records::{PendingApproval, Signer},
};

use super::{Answer, Done, Model, Told, asker, people::APPROVERS};
use crate::property::world::statement_bytes;

/// Roles that may change the registry.
const REGISTRARS: [Role; 2] = [Role::Operator, Role::Admin];
/// Roles that may ask to resume.
const RESUMERS: [Role; 3] = [Role::Operator, Role::Approver, Role::Admin];
/// Roles that may stop everything.
const STOPPERS: [Role; 3] = [Role::Responder, Role::Operator, Role::Admin];

impl Model {
    pub(super) fn judge(&mut self, request: &Request) -> Answer {
        let is_report = matches!(
            request.command,
            Command::EdgeEnrol(_) | Command::ReceiptRecord(_) | Command::BundleEndorse(_)
        );
        match request.caller {
            Caller::Person(_) if !is_report => {}
            Caller::Node(_) if is_report => return self.perform(request),
            _ => return Err("CALLER_NOT_ALLOWED"),
        }
        if matches!(request.command, Command::Approve(_) | Command::Withdraw(_)) {
            return self.perform(request);
        }
        let is_kill = matches!(request.command, Command::Kill(_));
        if !is_kill && !self.may_ask(request) {
            return Err("PERMISSION_DENIED");
        }
        let mut key = None;
        if let Some(signature) = &request.signature {
            key = Some(self.key_behind(asker(request), signature, request).ok_or("BAD_SIGNATURE")?);
        }
        let Some(needed) = self.people_needed(&request.command) else { return self.perform(request) };
        // Nobody is asked to agree to what can't be done.
        self.clone().perform(request)?;
        let key = key.ok_or("SIGNATURE_REQUIRED")?;
        if needed <= 1 {
            return self.perform(request);
        }
        let of_caller =
            self.approvals.values().filter(|waiting| waiting.request.caller == request.caller).count();
        if of_caller >= PENDING_APPROVALS_PER_PERSON_MAX {
            return Err("TABLE_FULL");
        }
        self.approvals_ever += 1;
        let approval = ApprovalId(self.approvals_ever);
        let signers = vec![Signer { person: asker(request).clone(), key, signed: self.now.index }];
        let waiting = PendingApproval { request: request.clone(), needed, signers, created: self.now };
        self.approvals.insert(approval, waiting);
        Ok(Told::Done(Outcome::Pending(Pending { approval, needed, signed: 1, deadline: request.deadline })))
    }

    /// Whether the caller's roles reach what a request is about.
    fn may_ask(&self, request: &Request) -> bool {
        let roles: &[Role] = match &request.command {
            Command::FleetCreate(_)
            | Command::FleetUpdate(_)
            | Command::FleetDelete(_)
            | Command::AgentRegister(_)
            | Command::AgentUpdate(_)
            | Command::AgentDelete(_)
            | Command::JoinTokenCreate(_)
            | Command::JoinTokenDelete(_)
            | Command::EdgeUpdate(_)
            | Command::EdgeRemove(_)
            | Command::CredentialIssue(_) => &REGISTRARS,
            Command::PersonAdd(_)
            | Command::PersonUpdate(_)
            | Command::PersonRemove(_)
            | Command::PolicyUpdate(_)
            | Command::BundlePropose(_) => &[Role::Admin],
            Command::Resume(_) => &RESUMERS,
            Command::Revoke(_) => &STOPPERS,
            Command::Kill(_) | Command::Approve(_) | Command::Withdraw(_) => return true,
            Command::EdgeEnrol(_) | Command::ReceiptRecord(_) | Command::BundleEndorse(_) => return false,
        };
        let here = self.places(request).iter().all(|place| self.may(asker(request), roles, place.as_ref()));
        let out = self.stops_left(&request.command);
        here && out.iter().all(|stop| self.may(asker(request), &RESUMERS, stop.reach.as_ref()))
    }

    fn may_agree(&self, person: &PersonId, request: &Request) -> bool {
        let out = self.stops_left(&request.command);
        self.places(request).iter().all(|place| self.may(person, &APPROVERS, place.as_ref()))
            && out.iter().all(|stop| self.may(person, &APPROVERS, stop.reach.as_ref()))
    }

    /// The key of a person's, if their signature over a request is good.
    fn key_behind(&self, person: &PersonId, signature: &Signature, request: &Request) -> Option<PublicKey> {
        let cluster = self.cluster.as_ref()?;
        let key = self.people.get(person)?.signing_key;
        let statement = statement_bytes(cluster.id, cluster.incarnation, request);
        let verifier = VerifyingKey::from_bytes(&key.0).ok()?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        verifier.verify_strict(&statement, &signature).ok()?;
        Some(key)
    }

    pub(super) fn approve(&mut self, request: &Request, approval: ApprovalId) -> Answer {
        let person = asker(request);
        let Some(waiting) = self.approvals.get(&approval).cloned() else { return Err("UNKNOWN_APPROVAL") };
        let asked = &waiting.request;
        let may = if person == asker(asked) { self.may_ask(asked) } else { self.may_agree(person, asked) };
        if !may {
            return Err("PERMISSION_DENIED");
        }
        if waiting.signers.iter().any(|signer| signer.person == *person && self.counts(signer, asked)) {
            return Err("ALREADY_SIGNED");
        }
        let signature = request.signature.ok_or("SIGNATURE_REQUIRED")?;
        let key = self.key_behind(person, &signature, asked).ok_or("BAD_SIGNATURE")?;
        let needed = waiting.needed.max(self.people_needed(&asked.command).unwrap_or(0));
        let mut signers = waiting.signers.clone();
        signers.retain(|signer| signer.person != *person);
        signers.push(Signer { person: person.clone(), key, signed: self.now.index });
        let signed = signers.iter().filter(|signer| self.counts(signer, asked)).count() as u32;
        if signed < needed {
            let deadline = asked.deadline;
            self.approvals.insert(approval, PendingApproval { needed, signers, ..waiting });
            return Ok(Told::Done(Outcome::Pending(Pending { approval, needed, signed, deadline })));
        }
        self.approvals.remove(&approval);
        // Somebody who has left may ask for nothing any more, whatever they signed before.
        let answer = match self.people.contains_key(asker(asked)) {
            false => Err("UNKNOWN_PERSON"),
            true if !self.may_ask(asked) => Err("PERMISSION_DENIED"),
            true => self.perform(asked),
        };
        Ok(match answer {
            Ok(Told::Done(outcome)) => {
                Told::Done(Outcome::Executed { approval, outcome: Box::new(Ok(outcome)) })
            }
            Ok(nested @ Told::RefusedInTheEnd(..)) => nested,
            Err(code) => Told::RefusedInTheEnd(approval, code),
        })
    }

    /// Whether a signature counts by now: same key, still a role, and no kill behind it that the person couldn't know.
    fn counts(&self, signer: &Signer, asked: &Request) -> bool {
        let Some(person) = self.people.get(&signer.person) else { return false };
        let has_role = if signer.person == *asker(asked) {
            self.may_ask(asked)
        } else {
            self.may_agree(&signer.person, asked)
        };
        let knew = self.stops_left(&asked.command).iter().all(|stop| stop.since < signer.signed);
        person.signing_key == signer.key && has_role && knew
    }

    pub(super) fn withdraw(&mut self, caller: &PersonId, approval: ApprovalId) -> Done {
        let Some(waiting) = self.approvals.get(&approval) else { return Err("UNKNOWN_APPROVAL") };
        let is_own = asker(&waiting.request) == caller;
        let places = self.places(&waiting.request);
        if !is_own && !places.iter().all(|place| self.may(caller, &APPROVERS, place.as_ref())) {
            return Err("PERMISSION_DENIED");
        }
        self.approvals.remove(&approval);
        Ok(Outcome::Withdrawn { approval })
    }
}
