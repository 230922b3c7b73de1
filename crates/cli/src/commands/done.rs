//! What came of a command: a sentence for people, the same for programs, and the exit code.

use haltline_core::{
    ids::{ApprovalId, KillId},
    time::{ClusterTime, Millis},
};
use haltline_wire::{
    refusal::Refusal,
    v1::{self, command_reply::Outcome},
};
use serde_json::{Value, json};

use super::resource;
use crate::{
    exit::Exit,
    failure::Failure,
    output::{
        Render,
        page::{Page, counted},
        table::Tone,
        times,
        value::hex,
    },
};

/// A command that was decided and not refused.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    stamp: v1::Stamp,
    outcome: Outcome,
    /// The approval that carried it out, if it waited for one.
    approved_by: Option<ApprovalId>,
}

impl Done {
    /// Reads a reply.
    ///
    /// # Errors
    /// The command was refused after all, or the reply says nothing.
    pub(crate) fn read(reply: v1::CommandReply) -> Result<Self, Failure> {
        let stamp = reply.stamp.unwrap_or_default();
        match reply.outcome {
            None => Err(Failure::protocol("a node's reply has no outcome that this version knows")),
            Some(Outcome::Refusal(refusal)) => Err(Failure::refused(&Refusal::from_message(refusal))),
            Some(Outcome::Executed(executed)) => {
                let approval = ApprovalId(executed.approval);
                let inner = executed.outcome.map_or_else(v1::CommandReply::default, |inner| *inner);
                match Self::read(inner) {
                    Ok(done) => Ok(Self { stamp, approved_by: Some(approval), ..done }),
                    Err(failure) => {
                        let message =
                            format!("{approval} was signed by all, and then refused: {}", failure.message);
                        Err(Failure { message, ..failure })
                    }
                }
            }
            Some(outcome) => Ok(Self { stamp, outcome, approved_by: None }),
        }
    }

    /// How the process ends.
    pub(crate) const fn exit(&self) -> Exit {
        match self.outcome {
            Outcome::Pending(_) => Exit::Pending,
            _ => Exit::Done,
        }
    }

    /// The kill that was placed.
    pub(crate) const fn kill(&self) -> Option<KillId> {
        match &self.outcome {
            Outcome::Killed(killed) => Some(KillId(killed.kill)),
            _ => None,
        }
    }

    /// What the command waits for.
    pub(crate) const fn pending(&self) -> Option<&v1::Pending> {
        match &self.outcome {
            Outcome::Pending(pending) => Some(pending),
            _ => None,
        }
    }

    /// Whether enrolling this person ended bootstrap.
    pub(crate) const fn ended_bootstrap(&self) -> bool {
        matches!(&self.outcome, Outcome::PersonStored(stored) if stored.ended_bootstrap)
    }

    /// Where in the log it was decided.
    pub(crate) const fn index(&self) -> u64 {
        self.stamp.index
    }

    /// What came of it.
    pub(crate) const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// A sentence for people.
    pub(crate) fn sentence(&self) -> String {
        let index = self.stamp.index;
        match &self.outcome {
            Outcome::Stored(stored) => {
                let what = if stored.is_agent { "agent" } else { "fleet" };
                format!("Stored {what} {} at version {} (log index {index}).", stored.path, stored.version)
            }
            Outcome::Deleted(deleted) => {
                let what = deleted_kind(deleted.kind());
                format!("Deleted {what} {} (log index {index}).", deleted.name)
            }
            Outcome::PersonStored(stored) => format!("Stored person {} (log index {index}).", stored.name),
            Outcome::Killed(killed) => {
                let selector = resource::selector_text(killed.selector.as_ref());
                format!("Placed {}: it stops {selector} (log index {}).", KillId(killed.kill), killed.index)
            }
            Outcome::Resumed(resumed) => format!("Lifted {} (log index {index}).", KillId(resumed.kill)),
            Outcome::Pending(pending) => {
                let missing = u64::from(pending.needed.saturating_sub(pending.signed));
                format!("Nothing has changed yet: this waits for {} more.", counted(missing, "person"))
            }
            Outcome::Withdrawn(withdrawn) => {
                format!("Withdrew {} (log index {index}).", ApprovalId(withdrawn.approval))
            }
            Outcome::Revoked(revoked) => {
                let (ends, now) = (ClusterTime(revoked.ends_ms), ClusterTime(self.stamp.cluster_time_ms));
                if ends == ClusterTime::NEVER {
                    format!("Revoked (log index {index}), for good.")
                } else {
                    let kept = times::length(ends.since(now));
                    format!(
                        "Revoked (log index {index}). Kept for {kept}, until nothing it could hit is valid."
                    )
                }
            }
            Outcome::PolicyStored(_) => format!("Stored the policy (log index {index})."),
            Outcome::JoinTokenStored(stored) => {
                let (ends, now) = (ClusterTime(stored.expires_ms), ClusterTime(self.stamp.cluster_time_ms));
                let left = times::length(ends.since(now));
                format!("Made join token {} (log index {index}), good for {left}.", hex(&stored.token))
            }
            Outcome::JoinTokenDeleted(deleted) => {
                format!("Deleted join token {} (log index {index}).", hex(&deleted.token))
            }
            Outcome::EdgeStored(stored) => {
                format!("Stored edge {} at version {} (log index {index}).", stored.name, stored.version)
            }
            Outcome::EdgeRemoved(removed) => format!("Removed edge {} (log index {index}).", removed.name),
            Outcome::CredentialIssued(issued) => {
                format!("Issued credential {} (log index {index}).", hex(&issued.credential))
            }
            Outcome::ReceiptRecorded(recorded) => {
                format!("Recorded the receipt of {} (log index {index}).", KillId(recorded.kill))
            }
            Outcome::TrustBundleProposed(proposed) => format!(
                "Proposed version {} of the trust bundle (log index {index}); it takes {}.",
                proposed.version,
                counted(proposed.needed.into(), "endorsement")
            ),
            Outcome::TrustBundleEndorsed(endorsed) => format!(
                "Endorsed version {} of the trust bundle (log index {index}): {} of {}.",
                endorsed.version, endorsed.endorsed, endorsed.needed
            ),
            // `read` leaves neither.
            Outcome::Executed(_) | Outcome::Refusal(_) => String::new(),
        }
    }

    fn details(&self) -> Value {
        match &self.outcome {
            Outcome::Stored(stored) => json!({
                "outcome": "stored",
                "kind": if stored.is_agent { "agent" } else { "fleet" },
                "path": stored.path,
                "version": stored.version,
            }),
            Outcome::Deleted(deleted) => {
                json!({ "outcome": "deleted", "kind": deleted_kind(deleted.kind()), "name": deleted.name })
            }
            Outcome::PersonStored(stored) => json!({
                "outcome": "person_stored",
                "name": stored.name,
                "ended_bootstrap": stored.ended_bootstrap,
            }),
            Outcome::Killed(killed) => json!({
                "outcome": "killed",
                "kill": KillId(killed.kill).to_string(),
                "selector": resource::selector_text(killed.selector.as_ref()),
                "adjusted": adjusted_name(killed.adjusted()),
            }),
            Outcome::Resumed(resumed) => {
                json!({ "outcome": "resumed", "kill": KillId(resumed.kill).to_string() })
            }
            Outcome::Pending(pending) => json!({
                "outcome": "pending",
                "approval": ApprovalId(pending.approval).to_string(),
                "needed": pending.needed,
                "signed": pending.signed,
                "deadline_cluster_time_ms": pending.deadline_ms,
            }),
            Outcome::Withdrawn(withdrawn) => json!({
                "outcome": "withdrawn",
                "approval": ApprovalId(withdrawn.approval).to_string(),
            }),
            Outcome::Revoked(revoked) => {
                json!({ "outcome": "revoked", "ends_cluster_time_ms": revoked.ends_ms })
            }
            Outcome::PolicyStored(_) => json!({ "outcome": "policy_stored" }),
            _ => self.enforcement_details(),
        }
    }

    /// The same for enforcers, credentials and receipts.
    fn enforcement_details(&self) -> Value {
        match &self.outcome {
            Outcome::JoinTokenStored(stored) => json!({
                "outcome": "join_token_stored",
                "token": hex(&stored.token),
                "expires_cluster_time_ms": stored.expires_ms,
            }),
            Outcome::JoinTokenDeleted(deleted) => {
                json!({ "outcome": "join_token_deleted", "token": hex(&deleted.token) })
            }
            Outcome::EdgeStored(stored) => {
                json!({ "outcome": "edge_stored", "name": stored.name, "version": stored.version })
            }
            Outcome::EdgeRemoved(removed) => json!({ "outcome": "edge_removed", "name": removed.name }),
            Outcome::CredentialIssued(issued) => {
                json!({ "outcome": "credential_issued", "credential": hex(&issued.credential) })
            }
            Outcome::ReceiptRecorded(recorded) => {
                json!({ "outcome": "receipt_recorded", "kill": KillId(recorded.kill).to_string() })
            }
            Outcome::TrustBundleProposed(proposed) => json!({
                "outcome": "trust_bundle_proposed",
                "version": proposed.version,
                "needed": proposed.needed,
            }),
            Outcome::TrustBundleEndorsed(endorsed) => json!({
                "outcome": "trust_bundle_endorsed",
                "version": endorsed.version,
                "endorsed": endorsed.endorsed,
                "needed": endorsed.needed,
                "in_force": endorsed.in_force,
            }),
            // Told by `details`, or left by `read` to nobody.
            _ => json!({}),
        }
    }
}

const fn deleted_kind(kind: v1::deleted::Kind) -> &'static str {
    match kind {
        v1::deleted::Kind::Unspecified => "resource",
        v1::deleted::Kind::Fleet => "fleet",
        v1::deleted::Kind::Agent => "agent",
        v1::deleted::Kind::Person => "person",
    }
}

/// Why a kill stops something else than what was asked for, for people.
pub(super) const fn adjusted_words(adjusted: v1::killed::Adjusted) -> Option<&'static str> {
    match adjusted {
        v1::killed::Adjusted::Unspecified => None,
        v1::killed::Adjusted::NarrowedToCallersPath => {
            Some("It was narrowed to the part of the tree in which you may stop things.")
        }
        v1::killed::Adjusted::WidenedAtTheBound => {
            Some("The table of kills is full, so it was widened to the whole fleet rather than refused.")
        }
        v1::killed::Adjusted::AlreadyInForce => Some("The same kill was in force already."),
    }
}

/// The same for programs.
pub(super) const fn adjusted_name(adjusted: v1::killed::Adjusted) -> Option<&'static str> {
    match adjusted {
        v1::killed::Adjusted::Unspecified => None,
        v1::killed::Adjusted::NarrowedToCallersPath => Some("narrowed_to_callers_path"),
        v1::killed::Adjusted::WidenedAtTheBound => Some("widened_at_the_bound"),
        v1::killed::Adjusted::AlreadyInForce => Some("already_in_force"),
    }
}

impl Render for Done {
    fn page(&self, page: &mut Page) {
        match &self.outcome {
            Outcome::Pending(pending) => {
                let approval = ApprovalId(pending.approval);
                let left = ClusterTime(pending.deadline_ms).since(ClusterTime(self.stamp.cluster_time_ms));
                page.toned(self.sentence(), Tone::Warn);
                page.line(format!("Another person goes on with: haltline approve {approval}"));
                if left > Millis(0) {
                    page.line(format!("It lapses in {}.", times::length(left)));
                }
            }
            Outcome::Killed(killed) => {
                page.toned(self.sentence(), Tone::Good);
                if let Some(words) = adjusted_words(killed.adjusted()) {
                    page.toned(words, Tone::Warn);
                }
            }
            Outcome::PersonStored(stored) if stored.ended_bootstrap => {
                page.toned(self.sentence(), Tone::Good);
                page.line("Bootstrap is over: whatever widens takes two people from now on.");
            }
            _ => page.toned(self.sentence(), Tone::Good),
        }
        if let Some(approval) = self.approved_by {
            page.line(format!("It had waited as {approval}."));
        }
    }

    fn value(&self) -> Value {
        let mut value = self.details();
        value["stamp"] = resource::stamp_value(Some(&self.stamp));
        if let Some(approval) = self.approved_by {
            value["approval"] = Value::from(approval.to_string());
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::Format,
        output::{Screen, style::Style},
    };

    fn screen(format: Format) -> Screen {
        Screen { format, width: 80, style: Style::plain(), error_style: Style::plain() }
    }

    fn reply(outcome: Outcome) -> v1::CommandReply {
        let stamp = v1::Stamp { index: 42, cluster_time_ms: 1_000, wall_time_ms: 1_700_000_000_000 };
        v1::CommandReply { sequence: 0, stamp: Some(stamp), outcome: Some(outcome) }
    }

    fn pending() -> Outcome {
        Outcome::Pending(v1::Pending { approval: 3, needed: 2, signed: 1, deadline_ms: 3_601_000 })
    }

    #[test]
    fn a_waiting_command_says_who_goes_on_and_how() {
        let done = Done::read(reply(pending())).expect("an outcome");
        assert_eq!(done.exit(), Exit::Pending);
        insta::assert_snapshot!(screen(Format::Table).rendered(&done), @r"
        Nothing has changed yet: this waits for 1 person more.
        Another person goes on with: haltline approve approval-3
        It lapses in 1 h.
        ");
        insta::assert_snapshot!(screen(Format::Yaml).rendered(&done), @r#"
        approval: approval-3
        deadline_cluster_time_ms: 3601000
        needed: 2
        outcome: pending
        signed: 1
        stamp:
          cluster_time_ms: 1000
          index: 42
          wall_time: "2023-11-14T22:13:20Z"
        "#);
    }

    #[test]
    fn a_kill_says_what_it_stops_and_how_that_differs() {
        let selector = v1::Selector { fleet: "acme/finance".into(), ..v1::Selector::default() };
        let killed = v1::Killed {
            kill: 7,
            index: 41,
            selector: Some(selector),
            adjusted: v1::killed::Adjusted::NarrowedToCallersPath.into(),
        };
        let done = Done::read(reply(Outcome::Killed(killed))).expect("an outcome");
        assert_eq!((done.exit(), done.kill()), (Exit::Done, Some(KillId(7))));
        insta::assert_snapshot!(screen(Format::Table).rendered(&done), @r"
        Placed kill-7: it stops fleet=acme/finance (log index 41).
        It was narrowed to the part of the tree in which you may stop things.
        ");
    }

    #[test]
    fn an_approval_shows_what_it_carried_out() {
        let inner = reply(Outcome::Resumed(v1::Resumed { kill: 7 }));
        let executed = v1::Executed { approval: 3, outcome: Some(Box::new(inner)) };
        let done = Done::read(reply(Outcome::Executed(Box::new(executed)))).expect("an outcome");
        insta::assert_snapshot!(screen(Format::Table).rendered(&done), @r"
        Lifted kill-7 (log index 42).
        It had waited as approval-3.
        ");
    }

    #[test]
    fn an_approved_command_that_is_refused_after_all_is_a_failure() {
        let refusal = Refusal::new(tonic::Code::NotFound, "UNKNOWN_KILL", "there is no kill-7 in force");
        let inner = reply(Outcome::Refusal(refusal.to_message()));
        let executed = v1::Executed { approval: 3, outcome: Some(Box::new(inner)) };
        let failure = Done::read(reply(Outcome::Executed(Box::new(executed)))).expect_err("refused");
        assert_eq!((failure.exit, failure.reason.as_str()), (Exit::Refused, "UNKNOWN_KILL"));
        insta::assert_snapshot!(failure.message, @r"approval-3 was signed by all, and then refused: there is no kill-7 in force");
        assert!(Done::read(v1::CommandReply::default()).is_err());
    }
}
