//! What a run exercised, counted. A run that never did something proves nothing about it.

use std::{collections::BTreeMap, fmt};

use haltline_core::{
    command::{Batch, KillMode},
    rejection::Outcome,
    state::{Applied, change::ChangeKind},
};

/// Counts by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Coverage {
    counts: BTreeMap<String, usize>,
}

const COMMANDS: [&str; 24] = [
    "fleet_create",
    "fleet_update",
    "fleet_delete",
    "agent_register",
    "agent_update",
    "agent_delete",
    "person_add",
    "person_update",
    "person_remove",
    "kill",
    "resume",
    "approve",
    "withdraw",
    "revoke",
    "policy_update",
    "join_token_create",
    "join_token_delete",
    "edge_enrol",
    "edge_update",
    "edge_remove",
    "credential_issue",
    "receipt_record",
    "bundle_propose",
    "bundle_endorse",
];

/// Codes that a schedule can reach. The others need full tables, and are reached in `bounds`.
const CODES: [&str; 56] = [
    "NOT_FOUNDED",
    "DEADLINE_PASSED",
    "DEADLINE_TOO_FAR",
    "REQUEST_ID_REUSED",
    "COMMAND_TOO_LARGE",
    "UNKNOWN_PERSON",
    "PERMISSION_DENIED",
    "SELECTOR_NEEDS_FLEET",
    "SELECTOR_CONTRADICTION",
    "UNKNOWN_FLEET",
    "UNKNOWN_AGENT",
    "NOTHING_MATCHES",
    "PATH_TAKEN",
    "FLEET_NOT_EMPTY",
    "VERSION_MISMATCH",
    "LIMIT_OUT_OF_RANGE",
    "TOO_MANY_PATTERNS",
    "LIMIT_EXCEEDS_PARENT",
    "PERSON_EXISTS",
    "NO_SUCH_PERSON",
    "KEY_TAKEN",
    "BAD_KEY",
    "BAD_COUNT",
    "SECOND_PERSON_MUST_APPROVE",
    "TOO_FEW_APPROVERS",
    "LAST_ADMIN",
    "UNKNOWN_KILL",
    "KILL_CHANGED",
    "KILL_DURATION",
    "UNKNOWN_APPROVAL",
    "ALREADY_SIGNED",
    "SIGNATURE_REQUIRED",
    "BAD_SIGNATURE",
    "REVOCATION_BY_MACHINE_ONLY",
    "POLICY_OUT_OF_RANGE",
    "CALLER_NOT_ALLOWED",
    "UNKNOWN_NODE",
    "UNKNOWN_EDGE",
    "JOIN_TOKEN_EXISTS",
    "UNKNOWN_JOIN_TOKEN",
    "JOIN_TOKEN_TTL",
    "EDGE_EXISTS",
    "EDGE_PATHS",
    "RELAYS_ONLY",
    "REVOKED",
    "KILLED",
    "CREDENTIAL_ID_TAKEN",
    "CREDENTIAL_TTL",
    "INSTANCE_LIMIT",
    "RECEIPT_EXISTS",
    "BAD_RECEIPT",
    "BUNDLE_VERSION",
    "BAD_BUNDLE",
    "UNKNOWN_BUNDLE",
    "BAD_ENDORSEMENT",
    "REFUSED_IN_THE_END",
];

const HAPPENINGS: [&str; 20] = [
    "answered from memory",
    "approval executed",
    "approval lapsed",
    "approval withdrawn",
    "bootstrap ended",
    "bundle in force",
    "credential ended",
    "drain ended",
    "kill draining",
    "kill expired",
    "kill narrowed",
    "kill resumed",
    "join token expired",
    "kill terminating",
    "old staleness forgotten",
    "resume by two people",
    "revocation by a terminating kill",
    "revocation ended",
    "several commands in a batch",
    "tick",
];

impl Coverage {
    /// Notes what a batch did.
    pub(crate) fn note(&mut self, batch: &Batch, applied: &Applied, repeats: usize) {
        self.count("answered from memory", repeats);
        self.count("tick", usize::from(batch.requests.is_empty()));
        self.count("several commands in a batch", usize::from(batch.requests.len() > 1));
        for (request, result) in batch.requests.iter().zip(&applied.results) {
            let verdict = if result.is_ok() { "accepted" } else { "refused" };
            self.count(&format!("{} {verdict}", request.command.name()), 1);
            match result {
                Ok(outcome) => self.note_outcome(outcome),
                Err(rejection) => self.count(rejection.code(), 1),
            }
        }
        for change in &applied.changes {
            self.note_change(&change.kind);
        }
    }

    fn note_outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Executed { outcome, .. } => match outcome.as_ref() {
                Ok(Outcome::Resumed { .. }) => self.count("resume by two people", 1),
                Ok(_) => {}
                Err(_) => self.count("REFUSED_IN_THE_END", 1),
            },
            Outcome::Killed(killed) if killed.adjusted.is_some() => self.count("kill narrowed", 1),
            _ => {}
        }
    }

    fn note_change(&mut self, change: &ChangeKind) {
        let name = match change {
            ChangeKind::ApprovalExecuted { .. } => "approval executed",
            ChangeKind::ApprovalLapsed { .. } => "approval lapsed",
            ChangeKind::ApprovalWithdrawn { .. } => "approval withdrawn",
            ChangeKind::PersonEnrolled { ended_bootstrap: true, .. } => "bootstrap ended",
            ChangeKind::DrainEnded { .. } => "drain ended",
            ChangeKind::KillLifted { reason: None, .. } => "kill expired",
            ChangeKind::KillLifted { .. } => "kill resumed",
            ChangeKind::KillPlaced { mode: KillMode::Drain(_), .. } => "kill draining",
            ChangeKind::KillPlaced { mode: KillMode::Terminate, .. } => "kill terminating",
            ChangeKind::Revoked {
                target: haltline_core::command::RevocationTarget::Terminated(_), ..
            } => "revocation by a terminating kill",
            ChangeKind::RevocationEnded { .. } => "revocation ended",
            ChangeKind::JoinTokenExpired { .. } => "join token expired",
            ChangeKind::BundleSet { .. } => "bundle in force",
            _ => return,
        };
        self.count(name, 1);
    }

    pub(crate) fn count(&mut self, name: &str, times: usize) {
        if times > 0 {
            *self.counts.entry(name.into()).or_default() += times;
        }
    }

    /// Adds another run's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        other.counts.iter().for_each(|(name, times)| self.count(name, *times));
    }

    /// Fails if something that schedules can do never happened.
    pub(crate) fn assert_nothing_is_missing(&self) {
        let commands =
            COMMANDS.iter().flat_map(|command| [format!("{command} accepted"), format!("{command} refused")]);
        let others = CODES.iter().chain(&HAPPENINGS).map(|name| (*name).to_owned());
        let missing: Vec<_> = commands.chain(others).filter(|name| !self.counts.contains_key(name)).collect();
        assert!(missing.is_empty(), "never exercised: {missing:?}");
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts.iter().try_for_each(|(name, times)| writeln!(f, "{times:>8} {name}"))
    }
}
